"""A layer at each time step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import ops
from fastrnn._checks import FloatArray, as_fitting, as_lengths, as_numbers, flag
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.layers.containers import Pullback, dtype_of, forward_one, predict_one
from fastrnn.layers.layer import Layer, layer_from_config, registered
from fastrnn.layers.pullback import Once

__all__ = ["TimeDistributed"]


@registered
class TimeDistributed(Layer):
    """A layer applied to each time step of each sequence, as one batch of T N frames.

        y[t, n] = layer(x[t, n])

    With lengths, frames past them are skipped: the layer does not see them, so they take no time and, where it
    computes statistics over its batch, count for nothing. y and dx are zero there.

    Parameters
    ----------
    layer : Layer
        Takes a batch of frames; a result of the form (y, state) loses its state.
    batch_first : bool
        Sequences are (N, T, ...) instead of (T, N, ...). This matters for lengths alone.
    """

    takes_lengths = True

    def __init__(self, layer: Layer, batch_first: bool = False) -> None:
        if not isinstance(layer, Layer):
            raise ArgumentError(f"{self._name}: 'layer' must be a Layer, got {type(layer).__name__}")
        self.layer = layer
        self.batch_first = flag(self._name, "batch_first", batch_first)

    def __call__(self, x: Any, *, lengths: Any = None) -> FloatArray:
        """Predict.

        Parameters
        ----------
        x : ndarray (T, N, ...), with `batch_first` (N, T, ...)
        lengths : int array (N,), optional
            Number of valid steps of each sequence, each in 1..T.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        array, kept = self._input(x, lengths)
        return _unfolded(predict_one(self.layer, _folded(array, kept), None), array.shape, kept)

    def forward(self, x: Any, *, lengths: Any = None) -> tuple[FloatArray, Pullback]:
        """Train.

        Returns
        -------
        y : ndarray (T, N, ...), with `batch_first` (N, T, ...)
        backward : ``backward(dy) -> dx``
            Adds to the gradients of the layer; dx is None if x were tokens. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        name = self._name
        array, kept = self._input(x, lengths)
        frames, pull = forward_one(self.layer, _folded(array, kept), None)
        y = _unfolded(frames, array.shape, kept)
        shape, dtype, x_shape = y.shape, y.dtype, array.shape
        once: Once[Callable[[Any], Any]] = Once(name, pull)

        def backward(dy: FloatArray) -> Any:
            once.require()
            gradient = _folded(as_fitting(name, "dy", dy, shape, dtype), kept)
            dx = once.take()(gradient)
            return None if dx is None else _unfolded(dx, x_shape, kept)

        return y, backward

    def _input(self, x: object, lengths: object) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return x as an array, and which frames count if not all do."""
        name, array = self._name, as_numbers(self._name, "x", x, dtype_of(self.layer))
        if array.ndim < 2:
            wanted = "(N, T, ...)" if self.batch_first else "(T, N, ...)"
            raise ShapeError(f"{name}: 'x' must have shape {wanted}, got {array.shape}")
        if lengths is None:
            return array, None
        N, T = array.shape[:2] if self.batch_first else array.shape[1::-1]
        valid = np.arange(T) < as_lengths(name, lengths, N, T)[:, None]
        return array, valid if self.batch_first else valid.T

    def config(self) -> dict[str, Any]:
        """Return the config of the layer, and the order of the axes."""
        return {**super().config(), "layer": self.layer.config(), "batch_first": self.batch_first}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build the layer from what `config` returned."""
        return cls(layer_from_config(config["layer"]), config["batch_first"])

    def __repr__(self) -> str:
        """Return the layer, and in the last line the order of the axes if it is not the usual one."""
        text = super().__repr__()
        return f"{text[:-1]}  batch_first=True\n)" if self.batch_first else text


def _folded(array: NDArray[Any], kept: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return the frames that count as one batch."""
    T, N, *rest = array.shape
    return array.reshape(T * N, *rest) if kept is None else array[kept]


def _unfolded(frames: FloatArray, shape: tuple[int, ...], kept: NDArray[np.bool_] | None) -> FloatArray:
    """Undo `_folded`, with zeros where frames were skipped."""
    if kept is None:
        return frames.reshape(*shape[:2], *frames.shape[1:])
    whole: FloatArray = ops.empty((*shape[:2], *frames.shape[1:]), frames.dtype)
    whole[~kept] = 0
    whole[kept] = frames
    return whole
