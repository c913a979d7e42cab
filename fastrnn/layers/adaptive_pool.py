"""Pooling to a given size, whatever the size of the maps, and to one value from each map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, choice, flag
from fastrnn.errors import LengthsError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import LAYOUTS, PoolLayer, Pullback, Remembering, Sizes
from fastrnn.ops.adaptive_pool import place_adaptive
from fastrnn.ops.time_pool import place_over_maps

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

    _mode: ClassVar[str]

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

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        return place_adaptive(self._name, self._mode, shape, dtype, self.layout, self.output_size)


class _AdaptiveAverage(_Adaptive):
    _mode = "mean"


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
    _mode = "max"

    def __init__(self, output_size: OutputSize, return_indices: bool = False, *, layout: str | None = None) -> None:
        super().__init__(output_size, layout=layout)
        self.return_indices = flag(self._name, "return_indices", return_indices)

    def _option_values(self) -> dict[str, Any]:
        return {"output_size": self.output_size, "return_indices": self.return_indices}

    def _predict(self, x: FloatArray) -> Any:
        if not self.return_indices:
            return super()._predict(x)
        maps, whole = self._input(x)
        y, indices = ops.adaptive_max_pool_forward(maps, self.output_size, layout=self.layout)
        return whole(y), whole(indices)

    def _train(self, x: FloatArray) -> tuple[Any, Pullback]:
        if not self.return_indices:
            return super()._train(x)
        maps, whole = self._input(x)
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


class _Global(Remembering):
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
        if lengths is None:
            y: FloatArray = self._predict(x)
            return y
        maps = self._signals(x, lengths)
        return ops.time_pool_forward(maps, self._mode, lengths=lengths, layout=self._lie()).reshape(
            self._out(maps.shape)
        )

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
        if lengths is None:
            return self._train(x)
        maps = self._signals(x, lengths)
        y, pull = ops.time_pool_vjp(maps, self._mode, lengths=lengths, layout=self._lie())
        return self._with_pullback(y.reshape(self._out(maps.shape)), y.shape, pull, maps.shape)

    def out_lengths(self, lengths: Any) -> Any:
        """Return None: the result has no time axis."""

    def _last(self) -> bool:
        return self.layout is not None and self.layout.endswith("C")

    def _lie(self) -> str:
        return "NTC" if self._last() else "NCT"

    def _signals(self, x: object, lengths: object) -> FloatArray:
        """Return x, which must be a batch of signals."""
        maps, _ = self._input(x)
        if np.ndim(x) != 3 or self.layout not in {None, *LAYOUTS[0]}:  # type: ignore[arg-type]
            raise LengthsError(f"{self._name}: 'lengths' must be None unless x is a batch of signals, got {lengths!r}")
        return maps

    def _out(self, shape: Sizes) -> Sizes:
        """Return the shape of y for maps of a shape."""
        C, ones = shape[-1 if self._last() else 1], (1,) * (len(shape) - 2) if self.keepdims else ()
        return (shape[0], *ones, C) if self._last() else (shape[0], C, *ones)

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        return place_over_maps(self._mode, shape, self._out(shape), self._last(), dtype)

    def _input(self, x: object) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        name, array = self._name, as_float_array(self._name, "x", x)
        axes = array.ndim - 2 if self.layout is None else len(self.layout) - 2
        batched = array.ndim == axes + 2
        if not 1 <= axes <= len(LAYOUTS) or not (batched or array.ndim == axes + 1):
            wanted = "N, C, *sizes" if self.layout is None else ", ".join(self.layout)
            raise ShapeError(f"{name}: 'x' must have shape ({wanted}), got {array.shape}")
        maps = array if batched else array[None]
        if 0 in (maps.shape[1:-1] if self._last() else maps.shape[2:]):
            raise ShapeError(f"{name}: 'x' must have spatial sizes of at least 1, got {array.shape}")
        return (maps, lambda y: y) if batched else (maps, lambda y: y[0])


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
