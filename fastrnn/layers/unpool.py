"""The undoing of maximum pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, plain_int
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import MapLayer, PerAxis, Pullback, Sizes

__all__ = ["MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"]


class _Unpooling(MapLayer):
    """Common part of the three."""

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(layout)
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.padding = self._padding(padding, self.kernel_size)

    def _option_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding")}

    def __call__(self, x: FloatArray, indices: IntArray, output_size: Sequence[int] | None = None) -> FloatArray:
        """Return maps with each x at its index, a flat position in its map, and zeros elsewhere.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError, TokenError
        """
        maps, whole = self._input(x)
        places = self._indices(indices, np.shape(x), maps.shape)
        y: FloatArray = whole(ops.max_unpool_forward(maps, places, self._sizes(maps, output_size), layout=self.layout))
        return y

    def forward(
        self, x: FloatArray, indices: IntArray, output_size: Sequence[int] | None = None
    ) -> tuple[FloatArray, Pullback]:
        """Return what a call returns, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError, TokenError
        """
        maps, whole = self._input(x)
        places = self._indices(indices, np.shape(x), maps.shape)
        y, pull = ops.max_unpool_vjp(maps, places, self._sizes(maps, output_size), layout=self.layout)
        return self._with_pullback(whole(y), y.shape, pull, np.shape(x))

    def _indices(self, indices: IntArray, shape: Sizes, batched: Sizes) -> Any:
        places = np.asarray(indices)
        if places.shape != shape:
            raise ShapeError(f"{self._name}: 'indices' must have shape {shape}, got {places.shape}")
        return places.reshape(batched)

    def _sizes(self, maps: FloatArray, output_size: Sequence[int] | None) -> Sizes:
        """Return the sizes to unpool to; given ones may include N and C, and are near the default as in PyTorch."""
        name, S = self._name, self._axes
        sizes = maps.shape[1:-1] if self.layout.endswith("C") else maps.shape[2:]
        strides = self._tuple(self.stride)
        kernel, padding = self._tuple(self.kernel_size), self._tuple(self.padding)
        usual = tuple(
            (L - 1) * step - 2 * low + k for L, k, step, low in zip(sizes, kernel, strides, padding, strict=True)
        )
        if output_size is None:
            return usual
        given = tuple(plain_int(name, "output_size", size, 0) for size in output_size)
        if len(given) == S + 2:
            given = given[1:-1] if self.layout.endswith("C") else given[2:]
        near = len(given) == S and all(
            abs(size - L) < step for size, L, step in zip(given, usual, strides, strict=True)
        )
        if not near:
            raise ArgumentError(
                f"{name}: 'output_size' must be {S} sizes less than the stride {strides} away from {usual}, "
                f"got {tuple(output_size)}"
            )
        return given


@registered
class MaxUnpool1d(_Unpooling):
    """Partial inverse of `MaxPool1d`; options as of `MaxUnpool2d`."""

    _axes = 1


@registered
class MaxUnpool2d(_Unpooling):
    """Partial inverse of maximum pooling: each value goes to its index, and zeros everywhere else.

    Called as ``unpool(x, indices, output_size=None)``. Without `output_size` the maps have the smallest sizes that
    pooling with these options takes to those of x.

    Parameters
    ----------
    kernel_size, stride, padding : int, or one for each axis, as of the maximum pooling
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    """

    _axes = 2


@registered
class MaxUnpool3d(_Unpooling):
    """Partial inverse of `MaxPool3d`; options as of `MaxUnpool2d`."""

    _axes = 3
