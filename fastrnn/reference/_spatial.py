"""What the convolutions share: layouts, padding and its transpose, and sums over the taps of a kernel.

Letters: N batch, C input channels, K output maps, S spatial axes (1 to 3). In here maps lie channels first, (N, C,
*sizes), and a kernel is a stack of matrices, one per tap: ``taps (*kernel, groups, K/groups, C/groups)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ._common import Array

Sizes: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]
PerAxis: TypeAlias = int | Sequence[int]
Padding: TypeAlias = PerAxis | Sequence[tuple[int, int]] | str

# NumPy's names of the padding modes.
_PAD_MODES: dict[str, Literal["constant", "reflect", "edge", "wrap"]] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def channels_first(maps: Array, layout: str | None) -> Array:
    """Return maps that lie in `layout` as a view (N, C, *sizes). "NLC", "NHWC" and "NDHWC" have the channels last."""
    return np.moveaxis(maps, -1, 1) if layout is not None and layout.endswith("C") else maps


def in_layout(maps: Array, layout: str | None) -> Array:
    """Return maps (N, C, *sizes) as a view that lies in `layout`."""
    return np.moveaxis(maps, 1, -1) if layout is not None and layout.endswith("C") else maps


def per_map(vector: Array, maps: Array) -> Array:
    """Return a vector (K,) in the shape that meets maps (N, K, *sizes) map by map."""
    return vector.reshape(-1, *(1,) * (maps.ndim - 2))


def per_axis(value: PerAxis, S: int) -> Sizes:
    """Return S integers, from one for all axes or from one for each."""
    return tuple(np.broadcast_to(value, S).tolist())


def padding_pairs(padding: Padding, windows: Windows) -> Pairs:
    """Return how much to add (before, after) each spatial axis.

    ``padding`` is an integer for all axes, for each axis an integer or a pair, or a word:

        "valid"     nothing
        "same"      what keeps the size at stride 1, dilation * (kernel - 1) in all; the smaller half comes before
        "causal"    the same amount, all of it before, so that y at a time sees x up to that time
    """
    extra = [span - 1 for span in windows.span()]
    if padding == "valid":
        return tuple((0, 0) for _ in extra)
    if padding == "same":
        return tuple((total // 2, total - total // 2) for total in extra)
    if padding == "causal":
        return tuple((total, 0) for total in extra)
    entries = padding if isinstance(padding, Sequence) else [padding] * len(extra)
    return tuple((low, high) for low, high in (np.broadcast_to(entry, 2).tolist() for entry in entries))


def pad(maps: Array, pairs: Pairs, mode: str = "zeros") -> Array:
    """Return maps (N, C, *sizes) with borders added, in a new array."""
    return np.pad(maps, ((0, 0), (0, 0), *pairs), _PAD_MODES[mode])


def crop(maps: Array, pairs: Pairs) -> Array:
    """Return maps (N, C, *sizes) without their borders, as a view."""
    inside: list[Any] = [slice(low, size - high) for (low, high), size in zip(pairs, maps.shape[2:], strict=True)]
    return maps[(..., *inside)]


def pad_transpose(maps: Array, pairs: Pairs, mode: str) -> Array:
    """Return the transpose of `pad`: what lies on a border is added to the place that the border was copied from.

    Padding the indices of an axis in the same way tells these places. Borders of zeros come from nowhere.
    """
    if mode == "zeros":
        return crop(maps, pairs)
    for axis, (low, high) in enumerate(pairs, start=2):
        rows = np.moveaxis(maps, axis, 0)
        size = len(rows) - low - high
        places = np.pad(np.arange(size), (low, high), _PAD_MODES[mode])
        sums = np.zeros((size, *rows.shape[1:]), rows.dtype)
        np.add.at(sums, places, rows)
        maps = np.moveaxis(sums, 0, axis)
    return maps


class Windows(NamedTuple):
    """A kernel that slides over maps: tap t of window o meets cell ``o * stride + t * dilation``, on each axis."""

    kernel: Sizes
    stride: Sizes
    dilation: Sizes

    def span(self) -> Sizes:
        """Return the size of a window from its first to its last tap."""
        return tuple(step * (taps - 1) + 1 for step, taps in zip(self.dilation, self.kernel, strict=True))

    def counts(self, sizes: Sizes) -> Sizes:
        """Return the number of windows that fit into maps of these sizes."""
        return tuple((size - w) // step + 1 for size, w, step in zip(sizes, self.span(), self.stride, strict=True))

    def reach(self, counts: Sizes) -> Sizes:
        """Return the smallest sizes of maps into which that many windows fit."""
        return tuple((n - 1) * step + w for n, w, step in zip(counts, self.span(), self.stride, strict=True))

    def taps(self, counts: Sizes) -> Iterator[tuple[Sizes, Any]]:
        """Yield each tap with the index of the cells (..., *counts) that it meets in maps (..., *sizes)."""
        for tap in np.ndindex(self.kernel):
            starts = (step * t for step, t in zip(self.dilation, tap, strict=True))
            cells = (slice(a, a + n * step, step) for a, n, step in zip(starts, counts, self.stride, strict=True))
            yield tap, (..., *cells)


def taps_of(weight: Array, groups: int) -> Array:
    """Return a copy of a weight (K, C/groups, *kernel) as taps (*kernel, groups, K/groups, C/groups)."""
    K, *rest = weight.shape
    return np.moveaxis(weight.reshape(groups, K // groups, *rest), (0, 1, 2), (-3, -2, -1)).copy()


def weight_of(taps: Array) -> Array:
    """Return taps (*kernel, groups, K/groups, C/groups) as a weight (K, C/groups, *kernel)."""
    *kernel, groups, K, C = taps.shape
    return np.moveaxis(taps, (-3, -2, -1), (0, 1, 2)).reshape(groups * K, C, *kernel)


def _matrices(maps: Array, groups: int) -> Array:
    """Return maps (N, C, *sizes) as matrices (N, groups, C/groups, positions)."""
    N, C, *sizes = maps.shape
    return maps.reshape(N, groups, C // groups, math.prod(sizes))


def correlate(maps: Array, taps: Array, windows: Windows, counts: Sizes) -> Array:
    """Return the sums over the taps of the first `counts` windows, from maps (N, C, *sizes) to y (N, K, *counts).

    y[o] = sum over t of taps[t] maps[o * stride + t * dilation]
    """
    groups, K, _ = taps.shape[-3:]
    y = np.zeros((len(maps), groups, K, math.prod(counts)), maps.dtype)
    for tap, cells in windows.taps(counts):
        y += taps[tap] @ _matrices(maps[cells], groups)
    return y.reshape(len(maps), groups * K, *counts)


def correlate_transpose(y: Array, taps: Array, windows: Windows, sizes: Sizes) -> Array:
    """Return the transpose of `correlate`, from y (N, K, *counts) to maps (N, C, *sizes).

    maps[o * stride + t * dilation] += taps[t]^T y[o], over all t and o
    """
    groups, _, C = taps.shape[-3:]
    counts = y.shape[2:]
    maps = np.zeros((len(y), groups * C, *sizes), y.dtype)
    for tap, cells in windows.taps(counts):
        part = np.swapaxes(taps[tap], -2, -1) @ _matrices(y, groups)
        maps[cells] += part.reshape(len(y), groups * C, *counts)
    return maps


def correlate_taps(y: Array, maps: Array, windows: Windows, groups: int) -> Array:
    """Return the gradient of the taps in ``sum(y * correlate(maps, taps, ...))``.

    taps[t] = sum over N and o of y[o] maps[o * stride + t * dilation]^T
    """
    rows = _matrices(y, groups)
    taps = np.zeros((*windows.kernel, groups, rows.shape[2], maps.shape[1] // groups), maps.dtype)
    for tap, cells in windows.taps(y.shape[2:]):
        taps[tap] = (rows @ np.swapaxes(_matrices(maps[cells], groups), -2, -1)).sum(axis=0)
    return taps
