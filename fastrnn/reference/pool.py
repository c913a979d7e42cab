"""Pooling over windows that slide over one, two or three spatial axes.

Letters: N batch, C maps, S spatial axes (1 to 3); *sizes stands for L, (H, W) or (D, H, W).

Options are those of PyTorch, one integer for all axes or one for each: `stride` is the kernel's size unless given;
`padding`, on either side of an axis, is at most half of it; `ceil_mode` adds a window for a rest that is smaller than
the kernel, if it starts in the map or its low padding. `layout` says how x and y lie: "NCL", "NLC", "NCHW", "NHWC",
"NCDHW", "NDHWC", or None for channels first.
"""

from __future__ import annotations

import math

import numpy as np

from ._common import Array, called_once, quietly
from ._spatial import PerAxis, Sizes, channels_first, in_layout, per_axis
from ._windows import Pullback, counts, flat, largest, selection_pullback, sliding_axes, spread, totals, windows_of


@quietly
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
    ceil_mode : bool
    layout : str, optional

    Returns
    -------
    y : ndarray (N, C, *out)
    indices : int64 array (N, C, *out). Flat positions in the map, padding not counted.
    """
    maps = channels_first(x, layout)
    sizes = maps.shape[2:]
    axes = sliding_axes(sizes, kernel_size, stride, padding, dilation=dilation, ceil_mode=ceil_mode)
    y, indices = largest(maps, windows_of(axes, sizes))
    return in_layout(y, layout), in_layout(indices, layout)


@quietly
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
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y, indices = max_pool_forward(
        x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout
    )
    return (y, indices), selection_pullback("max_pool_vjp", x, indices, layout)


@quietly
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

        y_o = min over i of x[o * stride - padding + i * dilation] = -max over i of -x[...]

    Equal values, NaN and windows without any place in the map are treated as there, with +infinity for the last.

    Returns
    -------
    y : ndarray (N, C, *out)
    indices : int64 array (N, C, *out). Flat positions in the map, padding not counted.
    """
    y, indices = max_pool_forward(
        -x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout
    )
    return -y, indices


@quietly
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
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y, indices = min_pool_forward(
        x, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode, layout=layout
    )
    return (y, indices), selection_pullback("min_pool_vjp", x, indices, layout)


@quietly
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
    kernel_size, stride, padding : int, or S of them
    ceil_mode : bool
    count_include_pad : bool. Whether the places of a window in the padding count; those past the padding never do.
    divisor_override : int, optional. Stands for every count.
    layout : str, optional

    Returns
    -------
    y : ndarray (N, C, *out)
    """
    y, _ = avg_pool_vjp(
        x,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        layout=layout,
    )
    return y


@quietly
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
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    maps = channels_first(x, layout)
    sizes = maps.shape[2:]
    axes = sliding_axes(sizes, kernel_size, stride, padding, ceil_mode=ceil_mode)
    windows = windows_of(axes, sizes)
    if divisor_override is not None:
        divisor = np.array(divisor_override, x.dtype)
    else:
        # The padding counts when the same windows are looked at in the padded map.
        borders = per_axis(padding, len(sizes)) if count_include_pad else (0,) * len(sizes)
        seen = [axis + low for axis, low in zip(axes, borders, strict=True)]
        divisor = counts(windows_of(seen, tuple(L + 2 * low for L, low in zip(sizes, borders, strict=True))))
        divisor = divisor.astype(x.dtype)

    def pullback(dy: Array) -> Array:
        return in_layout(spread(channels_first(dy, layout) / divisor, windows, sizes), layout)

    return in_layout(totals(maps, windows) / divisor, layout), called_once("avg_pool_vjp", pullback)


def _sign(x: Array) -> Array:
    """Return -1, 0 or 1; 0 for NaN, as in PyTorch."""
    return (x > 0).astype(x.dtype) - (x < 0)


@quietly
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
    """
    y, _ = lp_pool_vjp(x, norm_type, kernel_size, stride=stride, ceil_mode=ceil_mode, layout=layout)
    return y


@quietly
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
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    if math.isinf(norm_type):
        pool_vjp = max_pool_vjp if norm_type > 0 else min_pool_vjp
        (y, _), select = pool_vjp(np.abs(x), kernel_size, stride=stride, ceil_mode=ceil_mode, layout=layout)
        sign = _sign(x)
        return y, called_once("lp_pool_vjp", lambda dy: sign * select(dy))
    maps, p = channels_first(np.array(x), layout), float(norm_type)
    sizes = maps.shape[2:]
    k = math.prod(per_axis(kernel_size, len(sizes)))
    windows = windows_of(sliding_axes(sizes, kernel_size, stride, ceil_mode=ceil_mode), sizes)
    count = counts(windows).astype(x.dtype)
    u = totals(maps**p, windows) / count * k

    def pullback(dy: Array) -> Array:
        # PyTorch takes u as sign(u) * abs(u), with sign(NaN) = 0: the slope sign(u)**2 makes du 0 at NaN if p = 1.
        du = np.where(u == 0, 0, channels_first(dy, layout) / p * u ** (1 / p - 1) * _sign(u) ** 2)
        return in_layout(spread(du * k / count, windows, sizes) * p * maps ** (p - 1), layout)

    return in_layout(u ** (1 / p), layout), called_once("lp_pool_vjp", pullback)


@quietly
def max_unpool_forward(x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None) -> Array:
    """Return maps with each x at its index, and zeros elsewhere.

        y[index_o] = x_o

    Where an index occurs several times, the last of its values stays.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    indices : int64 array (N, C, *sizes). Flat positions in the maps of y, as from `max_pool_forward`; none is -1.
    output_size : S ints, the sizes of the maps of y
    layout : str, optional. Of x, indices and y.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    """
    values = channels_first(x, layout)
    y = np.zeros((*values.shape[:2], math.prod(output_size)), x.dtype)
    np.put_along_axis(y, flat(channels_first(indices, layout)), flat(values), axis=-1)
    return in_layout(y.reshape(*values.shape[:2], *output_size), layout)


@quietly
def max_unpool_vjp(
    x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None
) -> tuple[Array, Pullback]:
    """Undo a maximum pooling and return the pullback. Arguments are those of `max_unpool_forward`.

        dx_o = dy[index_o]

    Where an index occurs several times, each of its places has the whole gradient, as in PyTorch.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    saved = channels_first(np.array(indices), layout)

    def pullback(dy: Array) -> Array:
        dx = np.take_along_axis(flat(channels_first(dy, layout)), flat(saved), axis=-1)
        return in_layout(dx.reshape(saved.shape), layout)

    return max_unpool_forward(x, indices, output_size, layout=layout), called_once("max_unpool_vjp", pullback)
