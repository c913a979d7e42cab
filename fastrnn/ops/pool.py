"""Pooling over windows that slide over one, two or three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._checks import as_fitting, as_float_array, as_tokens, finite_float, flag
from fastrnn._kernels._memory import empty
from fastrnn._kernels._pool import MAX, MIN
from fastrnn._kernels._unpool import gather, scatter
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._pooling import (
    Array,
    Axis,
    Maps,
    PerAxis,
    Plan,
    Pullback,
    Selection,
    Sizes,
    as_gradient,
    as_maps,
    axes_of,
    checked_divisor,
    counting_plan,
    dividing_plan,
    per_axis,
    selecting_plan,
    sliding_axes,
    spread,
    sums,
)
from fastrnn.ops._recurrent import once

__all__ = [
    "avg_pool_forward",
    "avg_pool_vjp",
    "lp_pool_forward",
    "lp_pool_vjp",
    "max_pool_forward",
    "max_pool_values",
    "max_pool_values_vjp",
    "max_pool_vjp",
    "max_unpool_forward",
    "max_unpool_vjp",
    "min_pool_forward",
    "min_pool_values",
    "min_pool_values_vjp",
    "min_pool_vjp",
]


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
    maps = as_maps(name, x, layout, axes_of(kernel_size))
    axes = sliding_axes(name, maps.sizes, kernel_size, stride, padding, dilation, ceil_mode)
    plan = selecting_plan(axes, maps.channels if maps.last else 0, maps.x.dtype)
    return Selection(mode, maps, plan, _out(axes), keep)


def _out(axes: tuple[Axis, ...]) -> Sizes:
    return tuple(axis.out for axis in axes)


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
) -> tuple[Maps, Plan, Sizes]:
    maps = as_maps(name, x, layout, axes_of(kernel_size))
    axes = sliding_axes(name, maps.sizes, kernel_size, stride, padding, 1, ceil_mode)
    with_padding = flag(name, "count_include_pad", count_include_pad)
    divisor = checked_divisor(name, divisor_override)
    channels = maps.channels if maps.last else 0
    if divisor is not None:
        return maps, dividing_plan(axes, channels, maps.x.dtype, divisor), _out(axes)
    return maps, counting_plan(axes, channels, maps.x.dtype, with_padding, (1,) * len(axes)), _out(axes)


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
    maps, plan, out = _averaging(
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
    return sums(maps, plan, out)


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
    maps, plan, out = _averaging(
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
    y = sums(maps, plan, out)
    form, shape = (y.shape, y.dtype), maps.x.shape
    return y, once(name, lambda dy: spread(as_gradient(name, dy, form), plan, shape))


def lp_pool_forward(
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    """Return the p-norm of each window, p = norm_type, as PyTorch takes it.

        mean_o = (sum over i of x[o * stride + i]**p) / count_o     y_o = (k mean_o)**(1 / p)

    with k the size of the kernel over all axes, and count_o the places of window o in the map, fewer only by ceil_mode.
    Without absolute values, an odd p lets negative values cancel positive ones, and a negative mean has no root unless
    p = 1: y is NaN. Infinite p: y is the largest absolute value, and the smallest one for -infinity.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    norm_type : float, not 0
    kernel_size, stride : int, or S of them
    ceil_mode : bool
    layout : str, optional

    Returns
    -------
    y : ndarray (N, C, *out)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return _lp_pool("lp_pool_forward", x, norm_type, kernel_size, stride, ceil_mode, layout, train=False)[0]


def lp_pool_vjp(
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[Array, Pullback]:
    """Pool by the p-norm and return the pullback. Arguments are those of `lp_pool_forward`.

        u_o = k mean_o          du_o = dy_o / p * u_o**(1 / p - 1)      0 where u_o = 0
        dx[j] = p x[j]**(p - 1) * (sum over the windows o that meet j of k du_o / count_o)

    Returns
    -------
    y : ndarray (N, C, *out)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "lp_pool_vjp"
    y, pullback = _lp_pool(name, x, norm_type, kernel_size, stride, ceil_mode, layout, train=True)
    return y, once(name, pullback)


def _lp_pool(
    name: str,
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None,
    ceil_mode: bool,
    layout: str | None,
    *,
    train: bool,
) -> tuple[Array, Pullback]:
    p = norm_type if norm_type in {math.inf, -math.inf} else finite_float(name, "norm_type", norm_type)
    if p == 0:
        raise ArgumentError(f"{name}: 'norm_type' must not be 0, got {norm_type!r}")
    maps = as_maps(name, x, layout, axes_of(kernel_size))
    axes = sliding_axes(name, maps.sizes, kernel_size, stride, 0, 1, ceil_mode)
    channels, dtype = maps.channels if maps.last else 0, maps.x.dtype
    if math.isinf(p):
        chosen = Selection(
            MAX if p > 0 else MIN,
            maps._replace(x=np.abs(maps.x)),
            selecting_plan(axes, channels, dtype),
            _out(axes),
            train,
        )
        select = chosen.pullback(name)
        saved = _sign(maps.x) if train else maps.x
        return chosen.y, lambda dy: np.multiply(saved, select(dy))
    kernel = per_axis(name, "kernel_size", kernel_size, len(axes), 1)
    plan = counting_plan(axes, channels, dtype, False, kernel)
    with np.errstate(all="ignore"):
        u = sums(maps._replace(x=_power(maps.x, p)), plan, _out(axes))
        y = _power(u, 1 / p)
    slope = _lp_slopes(maps.x, u, p) if train else None
    form, shape = (y.shape, dtype), maps.x.shape

    def pullback(dy: Array) -> Array:
        assert slope is not None
        du_dy, dx_du = slope
        gradient = as_gradient(name, dy, form)
        with np.errstate(all="ignore"):
            du = np.where(u == 0, 0, gradient * du_dy).astype(dtype, copy=False)
            dx: Array = spread(du, plan, shape) * dx_du
        return dx

    return y, pullback


def _power(x: Array, p: float) -> Array:
    result: Array = x if p == 1 else np.square(x) if p == 2 else np.sqrt(x) if p == 0.5 else x**p
    return result


def _sign(x: Array) -> Array:
    """Return -1, 0 or 1; 0 for NaN, as in PyTorch."""
    return (x > 0).astype(x.dtype) - (x < 0)


def _lp_slopes(x: Array, u: Array, p: float) -> tuple[Array, Array]:
    """Return dy/du and d(x**p)/dx; the first has the square of PyTorch's sign(u), 0 for NaN, as a factor."""
    with np.errstate(all="ignore"):
        return u ** (1 / p - 1) * _sign(u) ** 2 / p, p * x ** (p - 1)


def _unpooling(
    name: str, x: Array, indices: Array, output_size: Sizes, layout: str | None
) -> tuple[Array, Array, Sizes, int]:
    """Return x, indices, the shape of y with one axis of positions, and the number of channels that lie last, or 1."""
    out = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
    S = len(out)
    if not 1 <= S <= 3:
        raise ArgumentError(f"{name}: 'output_size' must be 1 to 3 sizes, got {output_size!r}")
    out = per_axis(name, "output_size", out, S, 1)
    maps = as_maps(name, x, layout, S)
    places = as_tokens(name, "indices", indices, math.prod(out))
    if places.shape != maps.x.shape:
        raise ShapeError(f"{name}: 'indices' must have shape {maps.x.shape}, got {places.shape}")
    return maps.x, places, maps.shape(out), maps.channels if maps.last else 1


def _as_samples(maps: Array, channels_last: int) -> Array:
    """Return maps with one first axis of all that has positions of its own."""
    shape = maps.shape
    return maps.reshape(shape[0] if channels_last else shape[0] * shape[1], -1 if maps.size else 0)


def max_unpool_forward(x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None) -> Array:
    """Return maps with each x at its index, and zeros elsewhere.

        y[index_o] = x_o

    Where an index occurs several times, the last of its values stays.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    indices : int array (N, C, *sizes)
        Flat positions in the maps of y, as from `max_pool_forward`; none is -1.
    output_size : S ints, the sizes of the maps of y
    layout : str, optional. Of x, indices and y.

    Returns
    -------
    y : ndarray (N, C, *output_size)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError
    """
    return _unpool("max_unpool_forward", x, indices, output_size, layout)[0]


def max_unpool_vjp(
    x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None
) -> tuple[Array, Pullback]:
    """Undo a maximum pooling and return the pullback. Arguments are those of `max_unpool_forward`.

        dx_o = dy[index_o]

    Where an index occurs several times, each of its places has the whole gradient, as in PyTorch.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "max_unpool_vjp"
    y, pullback = _unpool(name, x, indices, output_size, layout)
    return y, once(name, pullback)


def _unpool(
    name: str, x: Array, indices: Array, output_size: Sizes, layout: str | None
) -> tuple[Array, Callable[[Array], Array]]:
    values, places, shape, channels = _unpooling(name, x, indices, output_size, layout)
    last = layout is not None and layout.endswith("C")
    y = empty(shape, values.dtype)
    scatter(values, places, _as_samples(y, last), channels)
    saved, x_shape, form = places.copy(), values.shape, (shape, values.dtype)

    def pullback(dy: Array) -> Array:
        gradient = np.asarray(as_fitting(name, "dy", dy, *form), order="C")
        dx = empty(x_shape, form[1])
        gather(_as_samples(gradient, last), saved, dx, channels)
        return dx

    return y, pullback
