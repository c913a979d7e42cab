"""Layers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn._checks import FloatArray, as_fitting, choice, plain_int
from fastrnn.layers.containers import (
    MERGES,
    Pullback,
    as_layers,
    check_lengths_taken,
    common_lengths,
    forward_one,
    input_gradient,
    merge_gradients,
    merge_parts,
    predict_one,
    without_values,
)
from fastrnn.layers.layer import Layer, layer_from_config, registered
from fastrnn.layers.pullback import Once

__all__ = ["Parallel"]


@registered
class Parallel(Layer):
    """Layers side by side, all fed with the same input, their results merged.

    Parameters
    ----------
    *branches : Layer
        At least one. The same layer may come several times; its parameters are then shared.
    merge : "concat", "sum", "mean" or "mul"
        Side by side along `axis`, or elementwise: the sum, the mean, the product.
    axis : int
        The axis of "concat": the last as it stands, 1 for maps (N, C, ...).
    """

    def __init__(self, *branches: Layer, merge: str = "concat", axis: int = -1) -> None:
        name = self._name
        self._layers = as_layers(name, "branches", branches)
        self.merge = choice(name, "merge", merge, MERGES)
        self.axis = plain_int(name, "axis", axis)
        self.takes_lengths = any(layer.takes_lengths for layer in branches)

    def __call__(self, x: Any, *, lengths: Any = None) -> FloatArray:
        """Predict.

        Parameters
        ----------
        x : what all branches take
        lengths : int array (N,), optional
            Goes to every branch that takes it.

        Raises
        ------
        ShapeError, DTypeError
            The results of the branches do not fit together.
        LengthsError
            The branches map the lengths to different ones.
        ArgumentError
            `lengths` is given, but no layer takes it.
        """
        self._check(lengths)
        parts = [predict_one(layer, x, lengths) for layer in self._layers]
        return merge_parts(self._name, parts, self.merge, self.axis)

    def forward(self, x: Any, *, lengths: Any = None) -> tuple[FloatArray, Pullback]:
        """Train.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``
            Adds to the gradients of all parameters; dx is None if x were tokens. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        name, merge, axis = self._name, self.merge, self.axis
        self._check(lengths)
        runs = [forward_one(layer, x, lengths) for layer in self._layers]
        parts = [part for part, _ in runs]
        y = merge_parts(name, parts, merge, axis)
        shape, dtype = y.shape, y.dtype
        saved = [_owned(part, x) for part in parts] if merge == "mul" else without_values(parts)
        once = Once(name, (saved, [pull for _, pull in runs]))

        def backward(dy: FloatArray) -> Any:
            once.require()
            gradient = as_fitting(name, "dy", dy, shape, dtype)
            kept, pulls = once.take()
            gradients = merge_gradients(gradient, kept, merge, axis)
            return input_gradient([pull(part) for pull, part in zip(pulls, gradients, strict=True)])

        return y, backward

    def out_lengths(self, lengths: Any) -> Any:
        """Return the lengths after the branches, which must all be the same."""
        return common_lengths(self._name, [layer.out_lengths(lengths) for layer in self._layers])

    def _check(self, lengths: object) -> None:
        check_lengths_taken(self, lengths)
        self.out_lengths(lengths)

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for index, layer in enumerate(self._layers):
            yield str(index), layer

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __getitem__(self, index: int) -> Layer:
        """Return a branch."""
        return self._layers[index]

    def config(self) -> dict[str, Any]:
        """Return the configs of all branches, and how their results are merged."""
        branches = [layer.config() for layer in self._layers]
        return {**super().config(), "branches": branches, "merge": self.merge, "axis": self.axis}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build all branches from what `config` returned."""
        return cls(*map(layer_from_config, config["branches"]), merge=config["merge"], axis=config["axis"])

    def __repr__(self) -> str:
        """Return the branches, and in the last line how their results are merged."""
        how = f"merge={self.merge!r}" + (f", axis={self.axis}" if self.merge == "concat" else "")
        return f"{super().__repr__()[:-1]}  {how}\n)"


def _owned(part: FloatArray, x: object) -> FloatArray:
    """Return a result that the user cannot change through x."""
    return part.copy() if isinstance(x, np.ndarray) and np.may_share_memory(part, x) else part
