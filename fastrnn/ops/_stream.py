"""Step-by-step use of recurrent layers, one direction."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, check_shape, positive_int
from fastrnn._kernels._stream import Stream
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._recurrent import Packed

Array = NDArray[Any]


class RecurrentStream:
    """A stack of recurrent layers that keeps its state between steps.

    Attributes
    ----------
    step : callable
        ``h = step(x)``: x (N, C) in, the last layer's h (N, H) out, a read-only view that is valid until the next step.
    """

    def __init__(self, name: str, layers: list[Packed], batch_size: int) -> None:
        N = positive_int(name, "batch_size", batch_size)
        if not layers:
            raise ArgumentError(f"{name}: 'layers' must have at least one layer, got none")
        for below, above in pairwise(layers):
            if above.sizes[0] != below.sizes[2] or above.weights.dtype != below.weights.dtype:
                raise ShapeError(
                    f"{name}: a layer must read the {below.sizes[2]} {below.weights.dtype} outputs of the one "
                    f"below, got one that reads {above.sizes[0]} {above.weights.dtype}"
                )
        self._name = name
        self._pair = layers[0].cell == "lstm"
        self._layers = layers
        self._shape = len(layers), N
        self._stream = Stream([layer.weights for layer in layers], N, self._converted)
        self.step = self._stream.step

    def _converted(self, x: object) -> Array:
        weights = self._layers[0].weights
        array = as_array(self._name, "x", x, weights.dtype)
        check_shape(self._name, "x", array, "(N, C)", N=self._shape[1], C=weights.inputs)
        return np.ascontiguousarray(array)

    def reset(self, state: Any = None) -> None:
        """Start again from `state`: (layers, N, H), for LSTM a pair (h, c); zeros if None."""
        if state is None:
            self._stream.reset(None, None)
            return
        parts = state if self._pair else (state,)
        if not isinstance(parts, tuple | list) or len(parts) != 1 + self._pair:
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise ShapeError(f"{self._name}: 'state' must be a pair (h, c), got {got}")
        _, H, R = self._layers[0].sizes
        checked = [self._part(letter, part, width) for letter, part, width in zip("hc", parts, (R, H), strict=False)]
        self._stream.reset(checked[0], checked[1] if self._pair else None)

    def _part(self, arg: str, part: object, width: int) -> Array:
        array = as_array(self._name, arg, part, self._layers[0].weights.dtype)
        check_shape(self._name, arg, array, "(L, N, H)", L=self._shape[0], N=self._shape[1], H=width)
        return array

    @property
    def state(self) -> Any:
        """A copy of the state now, (layers, N, H), for LSTM a pair (h, c)."""
        h, c = self._stream.state()
        return (h, c) if self._pair else np.asarray(h)
