"""Two directions of any recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import FloatArray, IntArray, as_fitting, as_lengths, as_numbers, choice, flag
from fastrnn.errors import ArgumentError, LengthsError, ShapeError
from fastrnn.layers.containers import MERGES, Pullback, dtype_of, merge_gradients, merge_parts, without_values
from fastrnn.layers.layer import Layer, layer_from_config, registered
from fastrnn.layers.pullback import Once
from fastrnn.layers.recurrent import Recurrent

__all__ = ["Bidirectional"]


@registered
class Bidirectional(Layer):
    """A recurrent layer over each sequence from its start, and one from its end.

        y = merge(layer(x), reversed(reverse(reversed(x))))

    What is reversed are the valid steps of each sequence: the reverse direction starts at its own end.

    Parameters
    ----------
    layer : Layer
        Takes sequences and lengths: a recurrent layer of one direction, or a container of such.
    reverse : Layer, optional
        The layer of the reverse direction; its results have the same shape, but for the features of "concat". Without
        it, an RNN, LSTM or GRU gets a second one of the same options with weights of its own, drawn by the default
        initialisers from the layer's random numbers. The same layer twice shares its weights.
    merge : "concat", "sum", "mean" or "mul"
        Features side by side, or elementwise: the sum, the mean, the product.
    batch_first : bool, optional
        Sequences are (N, T, C) instead of (T, N, C); by default as `layer` has it.

    Attributes
    ----------
    layer, reverse : Layer

    References
    ----------
    Schuster & Paliwal 1997, Bidirectional recurrent neural networks.
    """

    takes_lengths = True

    layer: Layer
    reverse: Layer

    def __init__(
        self,
        layer: Layer,
        reverse: Layer | None = None,
        merge: str = "concat",
        *,
        batch_first: bool | None = None,
    ) -> None:
        name = self._name
        for arg, value in (("layer", layer), ("reverse", reverse)):
            if not isinstance(value, Layer) and (arg == "layer" or value is not None):
                raise ArgumentError(f"{name}: '{arg}' must be a Layer, got {type(value).__name__}")
        self.layer = layer
        self.reverse = _second(name, layer) if reverse is None else reverse
        for arg, side in (("layer", self.layer), ("reverse", self.reverse)):
            if not side.takes_lengths or getattr(side, "bidirectional", False):
                raise ArgumentError(f"{name}: '{arg}' must be a recurrent layer of one direction, got {side!r}")
        self.merge = choice(name, "merge", merge, MERGES)
        own = getattr(layer, "batch_first", False)
        self.batch_first = bool(own) if batch_first is None else flag(name, "batch_first", batch_first)
        if self.layer.returns_state != self.reverse.returns_state:
            raise ArgumentError(f"{name}: 'reverse' must return a state if 'layer' does, and only then")
        self.returns_state = self.layer.returns_state

    def __call__(self, x: FloatArray, state: Any = None, *, lengths: Any = None) -> Any:
        """Predict.

        Parameters
        ----------
        x : ndarray (T, N, C), with `batch_first` (N, T, C), or without a batch (T, C)
        state : pair of the initial states of both directions, as each takes them. Zeros if None.
        lengths : int array (N,), optional
            Number of valid steps of each sequence, each in 1..T.

        Returns
        -------
        y : ndarray
        state : pair of the final states, if the layers return any; else y comes alone

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        array, order, first, second = self._inputs(x, state, lengths)
        options = {"lengths": lengths}
        forth, back = self.layer(array, *first, **options), self.reverse(order(array), *second, **options)
        if not self.returns_state:
            return self._merged(forth, order(back))
        return self._merged(forth[0], order(back[0])), (forth[1], back[1])

    def forward(self, x: FloatArray, state: Any = None, *, lengths: Any = None) -> tuple[Any, Pullback]:
        """Train. Takes what a call takes.

        Returns
        -------
        (y, state), or y : as from a call
        backward : ``backward(dy=None, dstate=None) -> (dx, dstate)``, or ``backward(dy) -> dx``
            Adds to the gradients of both layers. States are pairs, and each half may be None. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        name, merge = self._name, self.merge
        array, order, first, second = self._inputs(x, state, lengths)
        forth, pull_forth = self.layer.forward(array, *first, lengths=lengths)
        back, pull_back = self.reverse.forward(order(array), *second, lengths=lengths)
        final: Any = None
        if self.returns_state:
            (forth, first), (back, second) = forth, back
            final = first, second
        results = (forth, order(back))
        y = self._merged(*results)
        shape, dtype = y.shape, y.dtype
        parts = results if merge == "mul" else without_values(results)
        once = Once(name, (pull_forth, pull_back))

        forms = _forms(final)

        def halves(dy: FloatArray) -> tuple[FloatArray, FloatArray]:
            left, right = merge_gradients(dy, parts, merge, -1)
            return left, order(right)

        def backward(dy: FloatArray) -> Any:
            once.require()
            left, right = halves(as_fitting(name, "dy", dy, shape, dtype))
            run_forth, run_back = once.take()
            return run_forth(left) + order(run_back(right))

        def backward_states(dy: FloatArray | None = None, dstate: Any = None) -> Any:
            once.require()
            gradient = None if dy is None else as_fitting(name, "dy", dy, shape, dtype)
            left, right = (None, None) if gradient is None else halves(gradient)
            before, after = _pair(name, "dstate", dstate)
            _check_like(name, "dstate", (before, after), forms)
            run_forth, run_back = once.take()
            (dx, initial), (dx_back, initial_back) = run_forth(left, before), run_back(right, after)
            return dx + order(dx_back), (initial, initial_back)

        if not self.returns_state:
            return y, backward
        return (y, final), backward_states

    def _merged(self, forth: FloatArray, back: FloatArray) -> FloatArray:
        return merge_parts(self._name, (forth, back), self.merge, -1)

    def _inputs(self, x: object, state: object, lengths: object) -> tuple[FloatArray, Any, tuple[Any, ...], Any]:
        """Return x, what reverses its sequences, and the initial states as further arguments of both layers."""
        name, array = self._name, as_numbers(self._name, "x", x, dtype_of(self.layer))
        if array.ndim not in (2, 3):
            wanted = "(N, T, C)" if self.batch_first else "(T, N, C)"
            raise ShapeError(f"{name}: 'x' must have shape {wanted} or (T, C), got {array.shape}")
        axis = 1 if self.batch_first and array.ndim == 3 else 0
        valid: IntArray | None = None
        if lengths is not None:
            if array.ndim == 2:
                raise LengthsError(f"{name}: 'lengths' must be None for an x of shape (T, C), got {lengths!r}")
            valid = as_lengths(name, lengths, array.shape[1 - axis], array.shape[axis])
        if state is not None and not self.returns_state:
            raise ArgumentError(f"{name}: 'state' must be None, as the layers have none, got {type(state).__name__}")
        first, second = _pair(name, "state", state)
        none = state is None
        return array, _Reversal(valid, axis, array.shape), () if none else (first,), () if none else (second,)

    def config(self) -> dict[str, Any]:
        """Return the configs of both layers, and the options."""
        sides = {"layer": self.layer.config(), "reverse": self.reverse.config()}
        return {**super().config(), **sides, "merge": self.merge, "batch_first": self.batch_first}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build both layers from what `config` returned."""
        layer, reverse = layer_from_config(config["layer"]), layer_from_config(config["reverse"])
        return cls(layer, reverse, config["merge"], batch_first=config["batch_first"])

    def __repr__(self) -> str:
        """Return both layers, and in the last line how their results are merged."""
        return f"{super().__repr__()[:-1]}  merge={self.merge!r}\n)"


class _Reversal:
    """Puts the valid steps of each sequence in reverse order; those past a length stay where they are."""

    def __init__(self, lengths: IntArray | None, axis: int, shape: tuple[int, ...]) -> None:
        self.axis = axis
        self.places: NDArray[np.int64] | None = None
        if lengths is not None:
            steps, ends = np.arange(shape[axis])[:, None], lengths[None]
            places = np.where(steps < ends, ends - 1 - steps, steps)
            self.places = (places if axis == 0 else places.T)[..., None]

    def __call__(self, array: FloatArray) -> FloatArray:
        """Return `array` reversed; twice is as it was."""
        if self.places is not None:
            return np.take_along_axis(array, self.places, self.axis)
        return np.flip(array, self.axis)


def _pair(name: str, arg: str, state: Any) -> tuple[Any, Any]:
    """Return both directions' halves of a state."""
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        got = f"{len(state)} parts" if isinstance(state, (tuple, list)) else type(state).__name__
        raise ArgumentError(f"{name}: '{arg}' must be a pair, one state for each direction, got {got}")
    return state[0], state[1]


def _forms(state: Any) -> Any:
    """Return the shapes and dtypes of the arrays of a state, in tuples as it has them."""
    if isinstance(state, tuple):
        return [_forms(part) for part in state]
    return None if state is None else (state.shape, state.dtype)


def _check_like(name: str, arg: str, gradient: Any, form: Any) -> None:
    """Refuse the gradient of a state that is not like the state; each part may be None.

    Both halves are checked before either layer adds to its gradients.
    """
    if gradient is None:
        return
    if not isinstance(form, list):
        as_fitting(name, arg, gradient, *form)
    elif not isinstance(gradient, (tuple, list)) or len(gradient) != len(form):
        raise ArgumentError(f"{name}: '{arg}' must have {len(form)} parts, got {type(gradient).__name__}")
    else:
        for index, (part, one) in enumerate(zip(gradient, form, strict=True)):
            _check_like(name, f"{arg}[{index}]", part, one)


def _second(name: str, layer: Layer) -> Layer:
    """Return a layer of the same options with new weights."""
    if not isinstance(layer, Recurrent):
        kind = type(layer).__name__
        raise ArgumentError(f"{name}: 'reverse' must be given unless 'layer' is an RNN, LSTM or GRU, got {kind}")
    options = {key: value for key, value in layer.config().items() if key != "type"}
    build: Any = type(layer)
    second: Layer = build(**options, rng=layer._rng)
    return second
