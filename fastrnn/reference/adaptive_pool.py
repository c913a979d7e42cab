"""Pooling to a given size, whatever the size of the maps.

Window o of O on an axis of size L reaches from ``floor(o L / O)`` to before ``ceil((o + 1) L / O)``: together the
windows cover the axis, and neighbours overlap where O does not divide L.

Letters: N batch, C maps, S spatial axes (1 to 3); *sizes stands for L, (H, W) or (D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

from ._common import Array, called_once, quietly
from ._spatial import channels_first, in_layout
from ._windows import Pullback, adaptive_axes, counts, largest, selection_pullback, spread, totals, windows_of


@quietly
def adaptive_avg_pool_forward(x: Array, output_size: int | Sequence[int | None], *, layout: str | None = None) -> Array:
    """Return the mean of each of `output_size` windows.

        y_o = (sum over window o of x) / count_o

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    output_size : int for all axes, or S of them; None among these keeps the size of an axis
    layout : "NCL", "NLC", "NCHW", "NHWC", "NCDHW" or "NDHWC", of x and y; None for channels first

    Returns
    -------
    y : ndarray (N, C, *output_size)
    """
    y, _ = adaptive_avg_pool_vjp(x, output_size, layout=layout)
    return y


@quietly
def adaptive_avg_pool_vjp(
    x: Array, output_size: int | Sequence[int | None], *, layout: str | None = None
) -> tuple[Array, Pullback]:
    """Pool by the mean and return the pullback. Arguments are those of `adaptive_avg_pool_forward`.

        dx[j] = sum over the windows o that meet j of dy_o / count_o

    Returns
    -------
    y : ndarray (N, C, *output_size)
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    maps = channels_first(x, layout)
    sizes = maps.shape[2:]
    windows = windows_of(adaptive_axes(sizes, output_size), sizes)
    count = counts(windows).astype(x.dtype)

    def pullback(dy: Array) -> Array:
        return in_layout(spread(channels_first(dy, layout) / count, windows, sizes), layout)

    return in_layout(totals(maps, windows) / count, layout), called_once("adaptive_avg_pool_vjp", pullback)


@quietly
def adaptive_max_pool_forward(
    x: Array, output_size: int | Sequence[int | None], *, layout: str | None = None
) -> tuple[Array, Array]:
    """Return the largest value of each of `output_size` windows, and where it is.

        y_o = max over window o of x

    The first of equal values counts, and the last NaN before any number. Arguments are those of
    `adaptive_avg_pool_forward`.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    indices : int64 array (N, C, *output_size). Flat positions in the map.
    """
    maps = channels_first(x, layout)
    sizes = maps.shape[2:]
    y, indices = largest(maps, windows_of(adaptive_axes(sizes, output_size), sizes))
    return in_layout(y, layout), in_layout(indices, layout)


@quietly
def adaptive_max_pool_vjp(
    x: Array, output_size: int | Sequence[int | None], *, layout: str | None = None
) -> tuple[tuple[Array, Array], Pullback]:
    """Pool by the maximum and return the pullback. Arguments are those of `adaptive_avg_pool_forward`.

        dx[index_o] += dy_o

    Returns
    -------
    (y, indices) : as from `adaptive_max_pool_forward`
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y, indices = adaptive_max_pool_forward(x, output_size, layout=layout)
    return (y, indices), selection_pullback("adaptive_max_pool_vjp", x, indices, layout)
