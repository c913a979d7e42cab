"""What convolutions share: options of S spatial axes, checked and brought to three axes; arrays in the layout of the kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, choice, plain_int, positive_int
from fastrnn._kernels._windows import BORDERS, Windows
from fastrnn.errors import ArgumentError, ShapeError

Array = NDArray[Any]
Three = tuple[int, int, int]
Pairs = tuple[tuple[int, int], ...]

#: Names of the spatial axes, last first.
AXIS_LETTERS = ("L", "HW", "DHW")


@dataclass(frozen=True)
class Geometry:
    """How a kernel slides, on three axes; missing ones stand in front with a kernel of 1.

    For a transposed convolution everything is said of the convolution that it is the transpose of.
    """

    S: int
    kernel: Three
    stride: Three
    dilation: Three
    pads: Pairs
    groups: int
    border: str = "zeros"
    flip: bool = False
    channels_last: bool = False

    @property
    def low(self) -> Three:
        """Return the padding before each axis."""
        (a, _), (b, _), (c, _) = self.pads
        return a, b, c

    def span(self, axis: int) -> int:
        """Return the places from a window's first tap to its last."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def counts(self, name: str, sizes: Sequence[int]) -> Three:
        """Return the number of windows over maps of these sizes; refuse maps that are too small."""
        counts = []
        for axis, (size, (low, high)) in enumerate(zip(sizes, self.pads, strict=True)):
            if self.border != "zeros":
                self._check_border(name, size, low, high)
            room = size + low + high - self.span(axis)
            if room < 0:
                raise ShapeError(
                    f"{name}: 'x' must be at least as large as the kernel, which spans {self._shown(self.span)}, "
                    f"got {self._shown(lambda a: sizes[a] + sum(self.pads[a]))} with padding"
                )
            counts.append(room // self.stride[axis] + 1)
        return counts[0], counts[1], counts[2]

    def _check_border(self, name: str, size: int, low: int, high: int) -> None:
        limit = {"zeros": math.inf, "reflect": size - 1, "replicate": math.inf, "circular": size}[self.border]
        if max(low, high) > limit or (self.border == "replicate" and not size and low + high):
            raise ShapeError(
                f"{name}: 'padding' of mode {self.border!r} must be at most {max(limit, 0)} for an axis of {size}, "
                f"got {max(low, high)}"
            )

    def _shown(self, value: Any) -> str:
        return " x ".join(str(value(axis)) for axis in range(3 - self.S, 3))

    def windows(self, sizes: Three, counts: Three) -> Windows:
        """Return the windows of the convolution, from maps of these sizes to so many outputs."""
        return _windows(self, sizes, counts, self.low, self.border, False)

    def transposed(self, sizes: Three, counts: Three) -> Windows:
        """Return the windows of its transpose, from outputs to maps; a border of zeros is left out."""
        return _windows(self, counts, sizes, self.low, "zeros", True)

    def over_padded(self, sizes: Three, counts: Three) -> tuple[Three, Windows]:
        """Return the sizes with the border, and the windows of the transpose from outputs to such maps."""
        whole = tuple(size + low + high for size, (low, high) in zip(sizes, self.pads, strict=True))
        padded = (whole[0], whole[1], whole[2])
        return padded, _windows(self, counts, padded, (0, 0, 0), "zeros", True)


@lru_cache(maxsize=256)
def _windows(geometry: Geometry, sizes: Three, counts: Three, low: Three, border: str, transposed: bool) -> Windows:
    return Windows(
        sizes, counts, geometry.kernel, geometry.stride, geometry.dilation, low, border, geometry.flip, transposed
    )


def make_geometry(
    name: str,
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    padding_mode: Any = "zeros",
    flip: bool = False,
) -> Geometry:
    """Return the checked options of a convolution with S = ``len(kernel)`` spatial axes."""
    options = (kernel, stride, padding, dilation, groups, layout, padding_mode, flip)
    make = _known_geometry if all(map(_is_plain, options)) else _checked_geometry  # True equals 1 as a key
    return make(name, *options)


def _is_plain(option: Any) -> bool:
    return option.__class__ in (int, str, bool, type(None)) or (
        option.__class__ is tuple and all(entry.__class__ is int for entry in option)
    )


def _checked_geometry(name: str, kernel: tuple[int, ...], *options: Any) -> Geometry:
    stride, padding, dilation, groups, layout, padding_mode, flip = options
    S = len(kernel)
    strides, dilations = per_axis(name, "stride", stride, S, 1), per_axis(name, "dilation", dilation, S, 1)
    border = choice(name, "padding_mode", padding_mode, BORDERS)
    pairs = padding_pairs(name, padding, kernel, strides, dilations)
    front = 3 - S
    return Geometry(
        S,
        _three(kernel, 1),
        _three(strides, 1),
        _three(dilations, 1),
        ((0, 0),) * front + pairs,
        positive_int(name, "groups", groups),
        border if any(map(any, pairs)) else "zeros",
        flip,
        is_channels_last(name, layout, S),
    )


_known_geometry = lru_cache(maxsize=256, typed=True)(_checked_geometry)


def _three(values: Sequence[int], missing: int) -> Three:
    a, b, c = (missing,) * (3 - len(values)) + tuple(values)
    return a, b, c


def per_axis(name: str, arg: str, value: Any, S: int, low: int) -> tuple[int, ...]:
    """Return S integers >= `low`, from one for all axes or from one for each."""
    if isinstance(value, (tuple, list)):
        if len(value) != S:
            raise ArgumentError(f"{name}: '{arg}' must be an int or {S} of them, got {value!r}")
        return tuple(plain_int(name, arg, one, low) for one in value)
    return (plain_int(name, arg, value, low),) * S


def padding_pairs(
    name: str, padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Pairs:
    """Return how much to add (before, after) each axis."""
    S = len(kernel)
    totals = [step * (taps - 1) for step, taps in zip(dilation, kernel, strict=True)]
    if isinstance(padding, str):
        word = choice(name, "padding", padding, ("valid", "same", "causal"))
        if word == "same" and any(step != 1 for step in stride):
            raise ArgumentError(f"{name}: 'padding' can be 'same' only with stride 1, got stride {stride}")
        if word == "causal" and S != 1:
            raise ArgumentError(f"{name}: 'padding' can be 'causal' only with one spatial axis, got {S}")
        if word == "causal":
            return ((totals[0], 0),)
        return tuple((t // 2, t - t // 2) if word == "same" else (0, 0) for t in totals)
    entries = padding if isinstance(padding, (tuple, list)) else (padding,) * S
    if len(entries) != S:
        raise ArgumentError(f"{name}: 'padding' must be an int, {S} ints or {S} pairs, got {padding!r}")
    return tuple(_pair(name, entry) for entry in entries)


def _pair(name: str, entry: Any) -> tuple[int, int]:
    pair = entry if isinstance(entry, (tuple, list)) else (entry, entry)
    if len(pair) != 2:
        raise ArgumentError(f"{name}: 'padding' must have pairs (before, after), got {entry!r}")
    return plain_int(name, "padding", pair[0], 0), plain_int(name, "padding", pair[1], 0)


def is_channels_last(name: str, layout: Any, S: int) -> bool:
    """Return whether a layout has the channels last; None is channels first."""
    letters = AXIS_LETTERS[S - 1]
    return layout is not None and choice(name, "layout", layout, (f"NC{letters}", f"N{letters}C")).endswith("C")


def maps_spec(S: int, channels_last: bool, letter: str = "C") -> str:
    """Return "(N, C, H, W)" or the like, for messages."""
    letters = list(AXIS_LETTERS[S - 1])
    return f"({', '.join(['N', *letters, letter] if channels_last else ['N', letter, *letters])})"


def as_maps(name: str, arg: str, value: Any, dtype: Any, geometry: Geometry, channels: int, letter: str = "C") -> Array:
    """Return maps as a C-contiguous array with three spatial axes."""
    array = as_array(name, arg, value, dtype)
    S, last = geometry.S, geometry.channels_last
    if array.ndim != S + 2 or array.shape[-1 if last else 1] != channels:
        spec = maps_spec(S, last, f"{letter}={channels}")
        raise ShapeError(f"{name}: '{arg}' must have shape {spec}, got {array.shape}")
    return with_axes(np.ascontiguousarray(array), S, last)


def with_axes(array: Array, S: int, channels_last: bool) -> Array:
    """Return contiguous maps with axes of 1 in place of the missing ones, as a view."""
    if S == 3:
        return array
    at, shape = 1 if channels_last else 2, array.shape
    return array.reshape(shape[:at] + (1,) * (3 - S) + shape[at:])


def without_axes(maps: Array, geometry: Geometry) -> Array:
    """Return maps without the axes that `with_axes` adds, as a view."""
    if geometry.S == 3:
        return maps
    at, missing = 1 if geometry.channels_last else 2, 3 - geometry.S
    shape = maps.shape
    return maps.reshape(shape[:at] + shape[at + missing :])


def sizes_of(maps: Array, channels_last: bool) -> Three:
    """Return the three sizes of maps."""
    a, b, c = maps.shape[1:4] if channels_last else maps.shape[2:5]
    return a, b, c


def maps_shape(N: int, channels: int, sizes: Three, channels_last: bool) -> tuple[int, ...]:
    """Return the shape of maps with three spatial axes."""
    return (N, *sizes, channels) if channels_last else (N, channels, *sizes)


def check_weight(name: str, weight: Array, S: int | None = None) -> None:
    """Refuse a weight that has not 1 to 3 spatial axes, or an empty one."""
    if not 3 <= weight.ndim <= 5 or 0 in weight.shape:
        raise ShapeError(
            f"{name}: 'weight' must have two axes of channels and 1 to 3 of the kernel, none empty, got {weight.shape}"
        )
    if S is not None and weight.ndim != S + 2:
        raise ShapeError(f"{name}: 'weight' must have {S} axes of the kernel, got {weight.shape}")


def fold_border(padded: Array, pairs: Pairs, border: str, channels_last: bool) -> Array:
    """Return the gradient of maps from that of their padded copy: borders are added to where they were copied from."""
    modes: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    for axis, (low, high) in enumerate(pairs, start=1 if channels_last else 2):
        if not low and not high:
            continue
        rows = np.moveaxis(padded, axis, 0)
        size = len(rows) - low - high
        inside = rows[low : low + size].copy()
        places = np.pad(np.arange(size), (low, high), modes[border])
        for row in (*range(low), *range(low + size, len(rows))):
            inside[places[row]] += rows[row]
        padded = np.moveaxis(inside, 0, axis)
    return np.ascontiguousarray(padded)
