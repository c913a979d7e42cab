"""Pooling to a given size, whatever the size of the maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from fastrnn._checks import positive_int
from fastrnn._kernels._pool import MAX
from fastrnn._kernels._pooled import Placed
from fastrnn.errors import ArgumentError
from fastrnn.ops._pooling import (
    KEPT_PLANS,
    MOST_PLACES,
    Array,
    Axis,
    Maps,
    Plan,
    Pullback,
    Selection,
    Sizes,
    as_gradient,
    as_maps,
    axes_of,
    counting_plan,
    form_of_maps,
    outputs_of,
    placed_selection,
    placed_sums,
    selecting_plan,
    spread,
    sums,
)
from fastrnn.ops._recurrent import once
from fastrnn.ops.time_pool import TimePooling, place_over_maps

__all__ = [
    "adaptive_avg_pool_forward",
    "adaptive_avg_pool_vjp",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_values",
    "adaptive_max_pool_values_vjp",
    "adaptive_max_pool_vjp",
]

OutputSize: TypeAlias = int | Sequence[int | None]


def _maps_and_axes(name: str, x: Array, output_size: OutputSize, layout: str | None) -> tuple[Maps, tuple[Axis, ...]]:
    """Return x as maps and the axes of the windows."""
    maps = as_maps(name, x, layout, axes_of(output_size))
    return maps, _axes_of_sizes(name, maps.sizes, output_size)


def _axes_of_sizes(name: str, sizes: Sizes, output_size: OutputSize) -> tuple[Axis, ...]:
    """Return the axes, whose windows slide if they divide every axis into equal parts."""
    S = len(sizes)
    outputs = output_size if isinstance(output_size, (tuple, list)) else [output_size] * S
    if len(outputs) != S:
        raise ArgumentError(f"{name}: 'output_size' must be an int or {S} of them, or None, got {output_size!r}")
    out = [
        size if wanted is None else positive_int(name, "output_size", wanted)
        for size, wanted in zip(sizes, outputs, strict=True)
    ]
    if all(size % count == 0 for size, count in zip(sizes, out, strict=True)):
        axes = tuple(Axis(L, count, L // count, L // count) for L, count in zip(sizes, out, strict=True))
    else:
        axes = tuple(Axis(L, count, _largest_window(L, count), 0) for L, count in zip(sizes, out, strict=True))
    if math.prod(axis.kernel for axis in axes) > MOST_PLACES and math.prod(out) > 1:
        raise ArgumentError(f"{name}: windows must have at most {MOST_PLACES} places, got 'output_size' {tuple(out)}")
    return axes


def place_adaptive(
    name: str, mode: str, shape: Sizes, dtype: np.dtype[Any], layout: str, output_size: OutputSize
) -> Placed:
    """Return the pooling of maps of a shape, "max" or "mean"."""
    sizes, last = form_of_maps(name, shape, layout, axes_of(output_size))
    axes = _axes_of_sizes(name, sizes, output_size)
    out, C = outputs_of(axes), shape[-1 if last else 1]
    y_shape = (shape[0], *out, C) if last else (shape[0], C, *out)
    if math.prod(out) == 1:
        return place_over_maps(mode, shape, y_shape, last, dtype)
    channels = C if last else 0
    if mode == "max":
        return placed_selection(MAX, selecting_plan(axes, channels, dtype), shape, y_shape, dtype)
    return placed_sums(counting_plan(axes, channels, dtype, False, (1,) * len(axes)), shape, y_shape, dtype)


@lru_cache(KEPT_PLANS)
def _largest_window(L: int, count: int) -> int:
    """Return the most places that a window of an evenly divided axis has."""
    return int(Axis(L, count, 0, 0).counts().max())


def _channels(maps: Maps) -> int:
    """Return how many channels lie last."""
    return maps.channels if maps.last else 0


def _over_all(name: str, maps: Maps, mode: str, train: bool) -> TimePooling:
    """Pool each map to one value."""
    positions, C = math.prod(maps.sizes), maps.channels
    shape, layout = ((positions, C), "NTC") if maps.last else ((C, positions), "NCT")
    return TimePooling(name, maps.x.reshape(len(maps.x), *shape), mode, None, 1, layout, train)


def adaptive_avg_pool_forward(x: Array, output_size: OutputSize, *, layout: str | None = None) -> Array:
    """Return the mean of each of `output_size` windows.

        y_o = (sum over window o of x) / count_o

    Window o of O on an axis of size L reaches from ``floor(o L / O)`` to before ``ceil((o + 1) L / O)``.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    output_size : int for all axes, or S of them; None among these keeps the size of an axis
    layout : "NCL", "NLC", "NCHW", "NHWC", "NCDHW" or "NDHWC", of x and y; None for channels first

    Returns
    -------
    y : ndarray (N, C, *output_size)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return _average("adaptive_avg_pool_forward", x, output_size, layout)[0]


def adaptive_avg_pool_vjp(x: Array, output_size: OutputSize, *, layout: str | None = None) -> tuple[Array, Pullback]:
    """Pool by the mean and return the pullback. Arguments are those of `adaptive_avg_pool_forward`.

        dx[j] = sum over the windows o that meet j of dy_o / count_o

    Returns
    -------
    y : ndarray (N, C, *output_size)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "adaptive_avg_pool_vjp"
    y, pullback = _average(name, x, output_size, layout)
    return y, once(name, pullback)


def _average(name: str, x: Array, output_size: OutputSize, layout: str | None) -> tuple[Array, Pullback]:
    maps, axes = _maps_and_axes(name, x, output_size, layout)
    out, shape = outputs_of(axes), maps.x.shape
    if math.prod(out) == 1:
        whole = _over_all(name, maps, "mean", True)
        return whole.y.reshape(maps.shape(out)), _reshaped(name, whole, maps, out)
    plan = counting_plan(axes, _channels(maps), maps.x.dtype, False, (1,) * len(axes))
    y = sums(maps.x, plan, maps.shape(out))
    form = (y.shape, y.dtype)
    return y, lambda dy: spread(as_gradient(name, dy, form), plan, shape)


def _reshaped(name: str, whole: TimePooling, maps: Maps, out: Sizes) -> Pullback:
    """Return the pullback of pooling to one value, in the shapes of the maps."""
    pull_back, shape, flat = whole.pullback(name), maps.x.shape, whole.y.shape
    form = (maps.shape(out), maps.x.dtype)
    return lambda dy: pull_back(as_gradient(name, dy, form).reshape(flat)).reshape(shape)


def adaptive_max_pool_forward(x: Array, output_size: OutputSize, *, layout: str | None = None) -> tuple[Array, Array]:
    """Return the largest value of each of `output_size` windows, and where it is.

        y_o = max over window o of x

    The first of equal values counts, and the last NaN before any number. Arguments are those of
    `adaptive_avg_pool_forward`.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    indices : int64 array (N, C, *output_size). Flat positions in the map.
    """
    y, _, indices = _largest("adaptive_max_pool_forward", x, output_size, layout, keep=True, indices=True)
    return y, indices


def adaptive_max_pool_vjp(
    x: Array, output_size: OutputSize, *, layout: str | None = None
) -> tuple[tuple[Array, Array], Pullback]:
    """Pool by the maximum and return the pullback. Arguments are those of `adaptive_avg_pool_forward`.

        dx[index_o] += dy_o

    Returns
    -------
    (y, indices) : as from `adaptive_max_pool_forward`
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "adaptive_max_pool_vjp"
    y, pullback, indices = _largest(name, x, output_size, layout, keep=True, indices=True)
    return (y, indices), once(name, pullback)


def adaptive_max_pool_values(x: Array, output_size: OutputSize, *, layout: str | None = None) -> Array:
    """Return y of `adaptive_max_pool_forward` alone; indices are not computed."""
    return _largest("adaptive_max_pool_values", x, output_size, layout, keep=False, indices=False)[0]


def adaptive_max_pool_values_vjp(
    x: Array, output_size: OutputSize, *, layout: str | None = None
) -> tuple[Array, Pullback]:
    """Return y and the pullback of `adaptive_max_pool_vjp`; indices are not computed."""
    name = "adaptive_max_pool_values_vjp"
    y, pullback, _ = _largest(name, x, output_size, layout, keep=True, indices=False)
    return y, once(name, pullback)


def _largest(
    name: str, x: Array, output_size: OutputSize, layout: str | None, *, keep: bool, indices: bool
) -> tuple[Array, Pullback, Array]:
    """Return y, the pullback, and the indices if they are wanted, else y again."""
    maps, axes = _maps_and_axes(name, x, output_size, layout)
    out = outputs_of(axes)
    if math.prod(out) == 1:
        whole = _over_all(name, maps, "max", keep)
        y = whole.y.reshape(maps.shape(out))
        times = whole.times
        found = times.astype("int64").reshape(y.shape) if indices and times is not None else y
        return y, _reshaped(name, whole, maps, out), found
    plan: Plan = selecting_plan(axes, _channels(maps), maps.x.dtype)
    chosen = Selection(MAX, maps.x, plan, maps.shape(out), keep)
    return chosen.y, chosen.pullback(name), chosen.indices() if indices else chosen.y
