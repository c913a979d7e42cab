"""Pooling over windows that slide over one, two or three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._checks import flag
from fastrnn._kernels._pool import MAX, MIN
from fastrnn._kernels._pooled import Placed
from fastrnn.ops._pooling import (
    Array,
    PerAxis,
    Plan,
    Pullback,
    Selection,
    Sizes,
    Windowed,
    as_gradient,
    checked_divisor,
    contiguous,
    counting_plan,
    dividing_plan,
    place,
    placed_selection,
    placed_sums,
    selecting_plan,
    spread,
    sums,
)
from fastrnn.ops._recurrent import once

__all__ = [
    "avg_pool_forward",
    "avg_pool_vjp",
    "max_pool_forward",
    "max_pool_values",
    "max_pool_values_vjp",
    "max_pool_vjp",
    "min_pool_forward",
    "min_pool_values",
    "min_pool_values_vjp",
    "min_pool_vjp",
]

MODES = {"max": MAX, "min": MIN}


def _select(
    name: str,
    mode: int,
    x: Array,
    kernel_size: PerAxis,
    keep: bool,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Selection:
    array = contiguous(name, x)
    placed = place(name, array.shape, layout, kernel_size, stride, padding, dilation, ceil_mode)
    plan = selecting_plan(placed.axes, placed.channels, array.dtype)
    return Selection(mode, array, plan, placed.shape, keep)


def place_selection(
    name: str, mode: int, shape: Sizes, dtype: np.dtype[Any], layout: str | None, *options: Any
) -> Placed:
    """Return a maximum or minimum on maps of a shape; options are those of `place`."""
    placed = place(name, shape, layout, *options)
    return placed_selection(mode, selecting_plan(placed.axes, placed.channels, dtype), shape, placed.shape, dtype)


def max_pool_forward(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[Array, Array]:
    """Return the largest value of each window, and where it is.

        y_o = max over i of x[o * stride - padding + i * dilation]

    The first of equal values counts, and the last NaN before any number. A window without any place in the map, which
    only dilation can give, has -infinity at index -1 and no gradient.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    kernel_size, stride, padding, dilation : int, or S of them
        `stride` is the kernel's size unless given; `padding`, on either side, is at most half of that.
    ceil_mode : bool
        Adds a window for a rest that is smaller than the kernel, if it starts in the map or its low padding.
    layout : "NCL", "NLC", "NCHW", "NHWC", "NCDHW" or "NDHWC", of x and y; None for channels first

    Returns
    -------
    y : ndarray (N, C, *out)
    indices : int64 array (N, C, *out). Flat positions in the map, padding not counted.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    chosen = _select("max_pool_forward", MAX, x, kernel_size, True, layout=layout, **options)
    return chosen.y, chosen.indices()


def max_pool_vjp(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[tuple[Array, Array], Pullback]:
    """Pool by the maximum and return the pullback. Arguments are those of `max_pool_forward`.

        dx[index_o] += dy_o

    Returns
    -------
    (y, indices) : as from `max_pool_forward`
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "max_pool_vjp"
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    chosen = _select(name, MAX, x, kernel_size, True, layout=layout, **options)
    return (chosen.y, chosen.indices()), once(name, chosen.pullback(name))


def min_pool_forward(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[Array, Array]:
    """Return the smallest value of each window, and where it is. Arguments are those of `max_pool_forward`.

    Equal values, NaN and windows without any place in the map are treated as there, with +infinity for the last.

    Returns
    -------
    y : ndarray (N, C, *out)
    indices : int64 array (N, C, *out). Flat positions in the map, padding not counted.
    """
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    chosen = _select("min_pool_forward", MIN, x, kernel_size, True, layout=layout, **options)
    return chosen.y, chosen.indices()


def min_pool_vjp(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[tuple[Array, Array], Pullback]:
    """Pool by the minimum and return the pullback. Arguments are those of `max_pool_forward`.

        dx[index_o] += dy_o

    Returns
    -------
    (y, indices) : as from `min_pool_forward`
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "min_pool_vjp"
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    chosen = _select(name, MIN, x, kernel_size, True, layout=layout, **options)
    return (chosen.y, chosen.indices()), once(name, chosen.pullback(name))


# Without indices, which are then not even computed: what layers need.


def max_pool_values(x: Array, kernel_size: PerAxis, **options: Any) -> Array:
    """Return y of `max_pool_forward` alone; options are those."""
    return _select("max_pool_values", MAX, x, kernel_size, False, **options).y


def max_pool_values_vjp(x: Array, kernel_size: PerAxis, **options: Any) -> tuple[Array, Pullback]:
    """Return y and the pullback of `max_pool_vjp`; options are those."""
    name = "max_pool_values_vjp"
    chosen = _select(name, MAX, x, kernel_size, True, **options)
    return chosen.y, once(name, chosen.pullback(name))


def min_pool_values(x: Array, kernel_size: PerAxis, **options: Any) -> Array:
    """Return y of `min_pool_forward` alone; options are those."""
    return _select("min_pool_values", MIN, x, kernel_size, False, **options).y


def min_pool_values_vjp(x: Array, kernel_size: PerAxis, **options: Any) -> tuple[Array, Pullback]:
    """Return y and the pullback of `min_pool_vjp`; options are those."""
    name = "min_pool_values_vjp"
    chosen = _select(name, MIN, x, kernel_size, True, **options)
    return chosen.y, once(name, chosen.pullback(name))


def _averaging(
    name: str,
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None,
    padding: PerAxis,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str | None,
) -> tuple[Array, Plan, Sizes]:
    array = contiguous(name, x)
    placed = place(name, array.shape, layout, kernel_size, stride, padding, 1, ceil_mode)
    return array, _averaging_plan(name, placed, array.dtype, count_include_pad, divisor_override), placed.shape


def _averaging_plan(
    name: str, placed: Windowed, dtype: np.dtype[Any], count_include_pad: bool, divisor_override: int | None
) -> Plan:
    axes, channels, _ = placed
    with_padding = flag(name, "count_include_pad", count_include_pad)
    divisor = checked_divisor(name, divisor_override)
    if divisor is not None:
        return dividing_plan(axes, channels, dtype, divisor)
    return counting_plan(axes, channels, dtype, with_padding, (1,) * len(axes))


def place_average(
    name: str,
    shape: Sizes,
    dtype: np.dtype[Any],
    layout: str | None,
    *,
    kernel_size: PerAxis,
    stride: PerAxis,
    padding: PerAxis,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Placed:
    """Return the average on maps of a shape."""
    placed = place(name, shape, layout, kernel_size, stride, padding, 1, ceil_mode)
    plan = _averaging_plan(name, placed, dtype, count_include_pad, divisor_override)
    return placed_sums(plan, shape, placed.shape, dtype)


def avg_pool_forward(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str | None = None,
) -> Array:
    """Return the mean of each window.

        y_o = (sum over i of x[o * stride - padding + i]) / count_o

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    kernel_size, stride, padding : int, or S of them; as for `max_pool_forward`
    ceil_mode : bool
    count_include_pad : bool
        Whether the places of a window in the padding count; those past the padding never do.
    divisor_override : int, optional
        Stands for every count.
    layout : str, optional

    Returns
    -------
    y : ndarray (N, C, *out)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    array, plan, out = _averaging(
        "avg_pool_forward",
        x,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        layout=layout,
    )
    return sums(array, plan, out)


def avg_pool_vjp(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str | None = None,
) -> tuple[Array, Pullback]:
    """Pool by the mean and return the pullback. Arguments are those of `avg_pool_forward`.

        dx[o * stride - padding + i] += dy_o / count_o

    Returns
    -------
    y : ndarray (N, C, *out)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "avg_pool_vjp"
    array, plan, out = _averaging(
        name,
        x,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        layout=layout,
    )
    y = sums(array, plan, out)
    form, shape = (y.shape, y.dtype), array.shape
    return y, once(name, lambda dy: spread(as_gradient(name, dy, form), plan, shape))
