"""Layers one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

from fastrnn.layers.containers import Pullback, as_layers, check_lengths_taken
from fastrnn.layers.layer import Layer, layer_from_config, registered
from fastrnn.layers.pullback import Once

__all__ = ["Sequential"]


@registered
class Sequential(Layer):
    """Layers one after another, each fed with the result of the one before.

    Recurrent layers pass on their outputs alone, and start from zero states. ``lengths=`` goes to every layer that
    takes it, as it is there: layers that change the time axis change the lengths too (`Layer.out_lengths`), and none
    are left for the layers after one that ends it, such as `TimePool`.

    Parameters
    ----------
    *layers : Layer
        At least one. The same layer may come several times; its parameters are then shared.
    """

    def __init__(self, *layers: Layer) -> None:
        self._layers = as_layers(self._name, "layers", layers)
        self.takes_lengths = any(layer.takes_lengths for layer in layers)
        self.skips_input_gradient = True

    def __call__(self, x: Any, *, lengths: Any = None) -> Any:
        """Predict: run all layers on x.

        Raises
        ------
        ArgumentError
            `lengths` is given, but no layer takes it.
        """
        check_lengths_taken(self, lengths)
        for layer in self._layers:
            result = layer(x, lengths=lengths) if layer.takes_lengths else layer(x)
            x = result[0] if layer.returns_state else result
            lengths = None if lengths is None else layer.out_lengths(lengths)
        return x

    def forward(self, x: Any, *, lengths: Any = None, input_gradient: bool = True) -> tuple[Any, Pullback]:
        """Train: run the `forward` of all layers on x.

        Parameters
        ----------
        x, lengths : as for a call
        input_gradient : bool
            Whether the gradient of x is wanted. Training needs none of its data; for a first layer that is a
            convolution it is a large part of the work.

        Returns
        -------
        y : result of the last layer
        backward : ``backward(dy) -> dx``
            Runs the pullbacks of all layers, the last first; dx is None if x were tokens, and without
            `input_gradient`. May be called once.

        Raises
        ------
        ArgumentError
            `lengths` is given, but no layer takes it.
        """
        check_lengths_taken(self, lengths)
        pulls: list[tuple[Layer, Pullback]] = []
        for layer in self._layers:
            options: dict[str, Any] = {"lengths": lengths} if layer.takes_lengths else {}
            if not pulls and not input_gradient and layer.skips_input_gradient:
                options["input_gradient"] = False
            result, pull = layer.forward(x, **options)
            x = result[0] if layer.returns_state else result
            lengths = None if lengths is None else layer.out_lengths(lengths)
            pulls.append((layer, pull))
        once = Once(self._name, pulls)

        def backward(dy: Any) -> Any:
            once.require()
            layer, pull = pulls[-1]
            # The last layer checks dy; until it has accepted it, this pullback counts as not called.
            gradient = pull(dy)
            remaining = once.take()
            remaining.pop()
            gradient = gradient[0] if layer.returns_state else gradient
            while remaining:
                layer, pull = remaining.pop()
                gradient = pull(gradient)
                gradient = gradient[0] if layer.returns_state else gradient
            return gradient if input_gradient else None

        return x, backward

    def out_lengths(self, lengths: Any) -> Any:
        """Return the lengths after all layers."""
        for layer in self._layers:
            lengths = None if lengths is None else layer.out_lengths(lengths)
        return lengths

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for index, layer in enumerate(self._layers):
            yield str(index), layer

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer | Sequential:
        """Return a layer, or a `Sequential` of several that shares their parameters."""
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def config(self) -> dict[str, Any]:
        """Return the configs of all layers."""
        return {**super().config(), "layers": [layer.config() for layer in self._layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build all layers from what `config` returned."""
        return cls(*map(layer_from_config, config["layers"]))
