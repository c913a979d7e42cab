"""What the pooling operations share: where their windows lie, and what is taken from a window and given back to it.

A window lists positions, and so does everything here: an axis as ``(O, taps)``, the positions on it that each of its O
windows meets, and all spatial axes together as ``(*out, taps)``, the flat positions in a map. -1 stands for a place
outside, and as an index it names an extra place behind the last one, whose contents do not count.

Maps lie channels first in here, (N, C, *sizes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ._common import Array, called_once
from ._spatial import PerAxis, Sizes, channels_first, in_layout, per_axis

Pullback = Callable[[Array], Array]


def sliding_axes(
    sizes: Sizes,
    kernel_size: PerAxis,
    stride: PerAxis | None,
    padding: PerAxis = 0,
    *,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> list[Array]:
    """Return the positions of sliding windows on each axis; those in the padding are negative or past the end.

    Tap i of window o is at ``o * stride - padding + i * dilation``. There are as many windows as fit into the padded
    axis, and with `ceil_mode` one more for a rest that is smaller, if that one starts in the axis or its low padding.
    """
    S = len(sizes)
    steps = per_axis(kernel_size if stride is None else stride, S)
    axes = []
    for L, k, step, low, d in zip(
        sizes, per_axis(kernel_size, S), steps, per_axis(padding, S), per_axis(dilation, S), strict=True
    ):
        room = L + 2 * low - (d * (k - 1) + 1)  # where the last window that fits starts, counted from the padding
        count = 1 + (-(-room // step) if ceil_mode else room // step)
        if ceil_mode and (count - 1) * step >= low + L:
            count -= 1
        axes.append(step * np.arange(count)[:, None] - low + d * np.arange(k))
    return axes


def adaptive_axes(sizes: Sizes, output_size: int | Sequence[int | None]) -> list[Array]:
    """Return the positions of the windows that divide each axis evenly; -1 fills up the smaller ones.

    Window o of O reaches from ``floor(o L / O)`` to before ``ceil((o + 1) L / O)``; None stands for O = L.
    """
    outputs = [output_size] * len(sizes) if isinstance(output_size, int) else output_size
    axes = []
    for L, output in zip(sizes, outputs, strict=True):
        count = L if output is None else output
        o = np.arange(count)[:, None]
        starts, ends = o * L // count, -(-(o + 1) * L // count)
        positions = starts + np.arange((ends - starts).max(initial=0))
        axes.append(np.where(positions < ends, positions, -1))
    return axes


def windows_of(axes: Iterable[Array], sizes: Sizes) -> Array:
    """Return the windows (*out, taps) of maps with these sizes, from the positions on each axis, which may be outside."""
    windows: Array = np.zeros(1, np.int64)
    for axis, L in zip(axes, sizes, strict=True):
        before, here = windows[..., None, :, None], axis[:, None, :]
        inside = (before >= 0) & (here >= 0) & (here < L)
        taps = windows.shape[-1] * axis.shape[1]
        windows = np.where(inside, before * L + here, -1).reshape(*windows.shape[:-1], len(axis), taps)
    return windows


def counts(windows: Array) -> Array:
    """Return the number of places of each window, those outside left out."""
    places: Array = np.count_nonzero(windows >= 0, axis=-1)
    return places


def flat(maps: Array) -> Array:
    """Return maps (N, C, *sizes) as (N, C, positions)."""
    return maps.reshape(*maps.shape[:2], math.prod(maps.shape[2:]))


def largest(maps: Array, windows: Array) -> tuple[Array, Array]:
    """Return the largest value of each window (N, C, *out) and its flat position.

    The first of equal values counts, and the last NaN before any number. A window with all its places outside has
    -infinity at position -1.
    """
    x = flat(maps)
    y = np.full((*x.shape[:2], *windows.shape[:-1]), -np.inf, x.dtype)
    indices = np.full(y.shape, -1, np.int64)
    for position in np.moveaxis(windows, -1, 0):
        value = x[..., position]
        better = (position >= 0) & ((indices < 0) | (value > y) | np.isnan(value))
        y, indices = np.where(better, value, y), np.where(better, position, indices)
    return y, indices


def put_back(dy: Array, indices: Array, sizes: Sizes) -> Array:
    """Return maps (N, C, *sizes) to which each dy (N, C, *out) is added at its flat position."""
    N, C = dy.shape[:2]
    maps = np.zeros((N, C, math.prod(sizes) + 1), dy.dtype)
    n, c, _ = np.ogrid[:N, :C, :1]
    np.add.at(maps, (n, c, flat(indices)), flat(dy))
    return maps[..., :-1].reshape(N, C, *sizes)


def totals(maps: Array, windows: Array) -> Array:
    """Return the sum of each window (N, C, *out)."""
    x = flat(maps)
    x = np.concatenate([x, np.zeros((*x.shape[:2], 1), x.dtype)], axis=-1)
    sums: Array = x[..., windows].sum(axis=-1)
    return sums


def spread(dy: Array, windows: Array, sizes: Sizes) -> Array:
    """Return maps (N, C, *sizes) to which each dy (N, C, *out) is added at every place of its window."""
    shape = (*dy.shape, windows.shape[-1])
    return put_back(np.broadcast_to(dy[..., None], shape), np.broadcast_to(windows, shape), sizes)


def selection_pullback(name: str, x: Array, indices: Array, layout: str | None) -> Pullback:
    """Return the pullback of an operation that took from x what is at `indices`: dx[indices] += dy."""
    sizes, saved = channels_first(x, layout).shape[2:], channels_first(np.array(indices), layout)

    def pullback(dy: Array) -> Array:
        return in_layout(put_back(channels_first(dy, layout), saved, sizes), layout)

    return called_once(name, pullback)
