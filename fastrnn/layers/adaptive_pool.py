"""Pooling to a given size, whatever the size of the maps, and to one value from each map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, choice, flag
from fastrnn.errors import LengthsError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import LAYOUTS, Optioned, PoolLayer, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "GlobalAvgPool",
    "GlobalMaxPool",
]

OutputSize: TypeAlias = int | Sequence[int | None] | None


class _Adaptive(PoolLayer):
    """Common part of the layers that pool to a given size."""

    def __init__(self, output_size: OutputSize, *, layout: str | None = None) -> None:
        super().__init__(layout)
        given = output_size if isinstance(output_size, (tuple, list)) else [output_size] * self._axes
        sizes = tuple(None if size is None else self._per_axis("output_size", size, 1) for size in given)
        self._per_axis("output_size", [size or 1 for size in sizes], 1)  # one for each axis
        self.output_size: Any = output_size if isinstance(output_size, int) else sizes

    def out_lengths(self, lengths: Any) -> Any:
        """Return None for None: windows over a padded batch would mix the steps of a sequence with what comes after.

        Raises
        ------
        LengthsError
            There are lengths.
        """
        if lengths is not None:
            raise LengthsError(f"{self._name}: 'lengths' must be None: windows would reach past them, got {lengths!r}")

    def _option_values(self) -> dict[str, Any]:
        return {"output_size": self.output_size}


class _AdaptiveAverage(_Adaptive):
    def _run(self, maps: FloatArray) -> FloatArray:
        return ops.adaptive_avg_pool_forward(maps, self.output_size, layout=self.layout)

    def _run_vjp(self, maps: FloatArray) -> tuple[FloatArray, Pullback]:
        return ops.adaptive_avg_pool_vjp(maps, self.output_size, layout=self.layout)


@registered
class AdaptiveAvgPool1d(_AdaptiveAverage):
    """Mean of each of `output_size` windows of maps (N, C, L); options as of `AdaptiveAvgPool2d`."""

    _axes = 1


@registered
class AdaptiveAvgPool2d(_AdaptiveAverage):
    """Mean of each of `output_size` windows, whatever the size of the maps.

    Window o of O on an axis of size L reaches from ``floor(o L / O)`` to before ``ceil((o + 1) L / O)``.

    Parameters
    ----------
    output_size : int, None, or one for each axis
        None keeps the size of an axis.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    """

    _axes = 2


@registered
class AdaptiveAvgPool3d(_AdaptiveAverage):
    """Mean of each of `output_size` windows of maps (N, C, D, H, W); options as of `AdaptiveAvgPool2d`."""

    _axes = 3


class _AdaptiveMaximum(_Adaptive):
    def __init__(self, output_size: OutputSize, return_indices: bool = False, *, layout: str | None = None) -> None:
        super().__init__(output_size, layout=layout)
        self.return_indices = flag(self._name, "return_indices", return_indices)

    def _option_values(self) -> dict[str, Any]:
        return {"output_size": self.output_size, "return_indices": self.return_indices}

    def _predict(self, x: FloatArray) -> Any:
        maps, whole = self._input(x)
        if not self.return_indices:
            return whole(ops.adaptive_max_pool_values(maps, self.output_size, layout=self.layout))
        y, indices = ops.adaptive_max_pool_forward(maps, self.output_size, layout=self.layout)
        return whole(y), whole(indices)

    def _train(self, x: FloatArray) -> tuple[Any, Pullback]:
        maps, whole = self._input(x)
        if not self.return_indices:
            y, pull = ops.adaptive_max_pool_values_vjp(maps, self.output_size, layout=self.layout)
            return self._with_pullback(whole(y), y.shape, pull, np.shape(x))
        (y, indices), pull = ops.adaptive_max_pool_vjp(maps, self.output_size, layout=self.layout)
        result, backward = self._with_pullback(whole(y), y.shape, pull, np.shape(x))
        return (result, whole(indices)), backward


@registered
class AdaptiveMaxPool1d(_AdaptiveMaximum):
    """Largest value of each of `output_size` windows of maps (N, C, L); options as of `AdaptiveMaxPool2d`."""

    _axes = 1


@registered
class AdaptiveMaxPool2d(_AdaptiveMaximum):
    """Largest value of each of `output_size` windows, whatever the size of the maps.

    Window o of O on an axis of size L reaches from ``floor(o L / O)`` to before ``ceil((o + 1) L / O)``.

    Parameters
    ----------
    output_size : int, None, or one for each axis
        None keeps the size of an axis.
    return_indices : bool
        Whether the result is ``(y, indices)``, with the flat position of each value in its map.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    """

    _axes = 2


@registered
class AdaptiveMaxPool3d(_AdaptiveMaximum):
    """Largest value of each of `output_size` windows of maps (N, C, D, H, W); options as of `AdaptiveMaxPool2d`."""

    _axes = 3


class _Global(Optioned):
    """Common part of the layers that pool each map to one value."""

    takes_lengths = True
    _mode: ClassVar[str]

    def __init__(self, keepdims: bool = False, *, layout: str | None = None) -> None:
        self.keepdims = flag(self._name, "keepdims", keepdims)
        every = tuple(layout for pair in LAYOUTS for layout in pair)
        self.layout = None if layout is None else choice(self._name, "layout", layout, every)

    def _option_values(self) -> dict[str, Any]:
        return {"keepdims": self.keepdims, "layout": self.layout}

    def __call__(self, x: FloatArray, *, lengths: Any = None) -> FloatArray:
        """Return one value from each map: (N, C), or with `keepdims` x's shape with spatial sizes of 1.

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid steps of each signal; places past them do not count. Needs a batch, and one spatial axis.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        rows, lie, shape = self._input(x)
        self._check_lengths(x, lengths)
        return ops.time_pool_forward(rows, self._mode, lengths=lengths, layout=lie).reshape(shape)

    def forward(self, x: FloatArray, *, lengths: Any = None) -> tuple[FloatArray, Pullback]:
        """Return what a call returns, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        rows, lie, shape = self._input(x)
        self._check_lengths(x, lengths)
        y, pull = ops.time_pool_vjp(rows, self._mode, lengths=lengths, layout=lie)
        flat, x_shape = y.shape, np.shape(x)
        y = y.reshape(shape)
        return y, simple_pullback(self._name, (), y, lambda dy: pull(dy.reshape(flat)).reshape(x_shape))

    def out_lengths(self, lengths: Any) -> Any:
        """Return None: the result has no time axis."""

    def _check_lengths(self, x: Any, lengths: object) -> None:
        signals = np.ndim(x) == 3 and self.layout in (None, *LAYOUTS[0])
        if lengths is not None and not signals:
            raise LengthsError(f"{self._name}: 'lengths' must be None unless x is a batch of signals, got {lengths!r}")

    def _input(self, x: object) -> tuple[FloatArray, str, tuple[int, ...]]:
        """Return x with one axis of positions, how that lies, and the shape of y."""
        name, array = self._name, as_float_array(self._name, "x", x)
        last = self.layout is not None and self.layout.endswith("C")
        axes = array.ndim - 2 if self.layout is None else len(self.layout) - 2
        batched = array.ndim == axes + 2
        if not 1 <= axes <= len(LAYOUTS) or not (batched or array.ndim == axes + 1):
            wanted = "N, C, *sizes" if self.layout is None else ", ".join(self.layout)
            raise ShapeError(f"{name}: 'x' must have shape ({wanted}), got {array.shape}")
        lead, rest = (array.shape[:1], array.shape[1:]) if batched else ((), array.shape)
        sizes, C = (rest[:-1], rest[-1]) if last else (rest[1:], rest[0])
        positions, N = math.prod(sizes), array.shape[0] if batched else 1
        if positions == 0:
            raise ShapeError(f"{name}: 'x' must have spatial sizes of at least 1, got {array.shape}")
        ones = (1,) * axes if self.keepdims else ()
        shape = (*lead, *ones, C) if last else (*lead, C, *ones)
        if last:
            return array.reshape(N, positions, C), "NTC", shape
        return array.reshape(N, C, positions), "NCT", shape


@registered
class GlobalMaxPool(_Global):
    """Largest value of each map, (N, C, *sizes) to (N, C).

    Parameters
    ----------
    keepdims : bool
        Whether the spatial axes stay, with size 1.
    layout : str, optional
        How the maps lie: "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC". Without it, channels first with any
        number of spatial axes, and always with a batch axis.
    """

    _mode = "max"


@registered
class GlobalAvgPool(_Global):
    """Mean of each map, (N, C, *sizes) to (N, C); options as of `GlobalMaxPool`."""

    _mode = "mean"
