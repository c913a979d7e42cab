"""Pooling over windows that slide over one, two or three spatial axes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, flag, plain_int
from fastrnn.errors import ArgumentError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import PerAxis, Pullback, Sizes, SlidingPool
from fastrnn.ops.pool import MODES, place_average, place_selection

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MinPool1d",
    "MinPool2d",
    "MinPool3d",
]


class _Selecting(SlidingPool):
    """Common part of maximum and minimum pooling."""

    _kind: ClassVar[str]

    @property
    def _past_lengths(self) -> float:  # type: ignore[override]
        """What is never selected."""
        return -math.inf if self._kind == "max" else math.inf

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(layout)
        name = self._name
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.padding = self._padding(padding, self.kernel_size)
        self.dilation = self._per_axis("dilation", dilation, 1)
        self.return_indices = flag(name, "return_indices", return_indices)
        self.ceil_mode = flag(name, "ceil_mode", ceil_mode)

    def _arguments(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "ceil_mode")}
        return {"kernel_size": self.kernel_size, **options, "layout": self.layout}

    def _predict(self, x: FloatArray) -> Any:
        if not self.return_indices:
            return super()._predict(x)
        maps, whole = self._input(x)
        y, indices = getattr(ops, f"{self._kind}_pool_forward")(maps, **self._arguments())
        return whole(y), whole(indices)

    def _train(self, x: FloatArray) -> tuple[Any, Pullback]:
        if not self.return_indices:
            return super()._train(x)
        maps, whole = self._input(x)
        (y, indices), pull = getattr(ops, f"{self._kind}_pool_vjp")(maps, **self._arguments())
        y_whole, backward = self._with_pullback(whole(y), y.shape, pull, np.shape(x))
        return (y_whole, whole(indices)), backward

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        options = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return place_selection(self._name, MODES[self._kind], shape, dtype, self.layout, *options)

    def _option_values(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
        return {name: getattr(self, name) for name in names}


@registered
class MaxPool1d(_Selecting):
    """Largest value of each window of maps (N, C, L); options as of `MaxPool2d`, with one value for each axis."""

    _axes = 1
    _kind = "max"


@registered
class MaxPool2d(_Selecting):
    """Largest value of each window; the first of equal ones counts, the last NaN before any number.

        y_o = max over i of x[o * stride - padding + i * dilation]

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int, or one for each axis
        `stride` is the kernel's size unless given; `padding`, on either side, is at most half of that.
    return_indices : bool
        Whether the result is ``(y, indices)``, with the flat position of each value in its map.
    ceil_mode : bool
        Whether a rest that is smaller than the kernel has a window too.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".

    Maps without N are taken as one sample. A window without any place in the map, which only dilation can give, has
    index -1 and no gradient.
    """

    _axes = 2
    _kind = "max"


@registered
class MaxPool3d(_Selecting):
    """Largest value of each window of maps (N, C, D, H, W); options as of `MaxPool2d`, with one value for each axis."""

    _axes = 3
    _kind = "max"


@registered
class MinPool1d(_Selecting):
    """Smallest value of each window of maps (N, C, L); options as of `MinPool2d`, with one value for each axis."""

    _axes = 1
    _kind = "min"


@registered
class MinPool2d(_Selecting):
    """Smallest value of each window; the first of equal ones counts, the last NaN before any number.

        y_o = min over i of x[o * stride - padding + i * dilation]

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int, or one for each axis
        `stride` is the kernel's size unless given; `padding`, on either side, is at most half of that.
    return_indices : bool
        Whether the result is ``(y, indices)``, with the flat position of each value in its map.
    ceil_mode : bool
        Whether a rest that is smaller than the kernel has a window too.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".

    Maps without N are taken as one sample. A window without any place in the map, which only dilation can give, has
    index -1 and no gradient.
    """

    _axes = 2
    _kind = "min"


@registered
class MinPool3d(_Selecting):
    """Smallest value of each window of maps (N, C, D, H, W); options as of `MinPool2d`, with one value for each axis."""

    _axes = 3
    _kind = "min"


class _Average(SlidingPool):
    """Common part of the averages."""

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(layout)
        name = self._name
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.padding = self._padding(padding, self.kernel_size)
        self.ceil_mode = flag(name, "ceil_mode", ceil_mode)
        self.count_include_pad = flag(name, "count_include_pad", count_include_pad)
        override = divisor_override
        self.divisor_override = None if override is None else plain_int(name, "divisor_override", override, 1)

    def _option_values(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        return {name: getattr(self, name) for name in names}

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        return place_average(self._name, shape, dtype, self.layout, **self._option_values())


@registered
class AvgPool1d(_Average):
    """Mean of each window of maps (N, C, L); options as of `AvgPool2d`, without `divisor_override`."""

    _axes = 1

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, layout=layout)

    def config(self) -> dict[str, Any]:
        """Return the options of the layer."""
        return {name: value for name, value in super().config().items() if name != "divisor_override"}


@registered
class AvgPool2d(_Average):
    """Mean of each window.

        y_o = (sum over i of x[o * stride - padding + i]) / count_o

    Parameters
    ----------
    kernel_size, stride, padding : int, or one for each axis
        `stride` is the kernel's size unless given; `padding`, on either side, is at most half of that.
    ceil_mode : bool
        Whether a rest that is smaller than the kernel has a window too.
    count_include_pad : bool
        Whether the places of a window in the padding count; those past the padding never do.
    divisor_override : int, optional
        Stands for every count.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    """

    _axes = 2


@registered
class AvgPool3d(_Average):
    """Mean of each window of maps (N, C, D, H, W); options as of `AvgPool2d`."""

    _axes = 3


class _Norm(SlidingPool):
    """Common part of the norms."""

    def __init__(
        self,
        norm_type: float,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(layout)
        name = self._name
        try:
            self.norm_type = float(norm_type)
        except (TypeError, ValueError):
            self.norm_type = 0.0
        if isinstance(norm_type, (bool, str)) or self.norm_type == 0 or self.norm_type != self.norm_type:
            raise ArgumentError(f"{name}: 'norm_type' must be a number other than 0, got {norm_type!r}")
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.ceil_mode = flag(name, "ceil_mode", ceil_mode)

    def _option_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("norm_type", "kernel_size", "stride", "ceil_mode")}

    def _predict(self, x: FloatArray) -> Any:
        maps, whole = self._input(x)
        return whole(ops.lp_pool_forward(maps, **self._option_values(), layout=self.layout))

    def _train(self, x: FloatArray) -> tuple[Any, Pullback]:
        maps, whole = self._input(x)
        y, pull = ops.lp_pool_vjp(maps, **self._option_values(), layout=self.layout)
        return self._with_pullback(whole(y), y.shape, pull, np.shape(x))


@registered
class LPPool1d(_Norm):
    """p-norm of each window of maps (N, C, L); options as of `LPPool2d`."""

    _axes = 1


@registered
class LPPool2d(_Norm):
    """p-norm of each window, p = norm_type, without absolute values, as in PyTorch.

        y_o = (k (sum over i of x[o * stride + i]**p) / count_o)**(1 / p)       k the places of the kernel

    Infinite p takes the largest absolute value.

    Parameters
    ----------
    norm_type : float, not 0
    kernel_size, stride : int, or one for each axis
        `stride` is the kernel's size unless given.
    ceil_mode : bool
        Whether a rest that is smaller than the kernel has a window too.
    layout : str
        How the maps lie, (N, C, *sizes) or (N, *sizes, C): "NCL" or "NLC", "NCHW" or "NHWC", "NCDHW" or "NDHWC".
    """

    _axes = 2


@registered
class LPPool3d(_Norm):
    """p-norm of each window of maps (N, C, D, H, W); options as of `LPPool2d`."""

    _axes = 3
