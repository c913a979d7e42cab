"""What the pooling operations share: checks of their arguments, where windows lie, and selections with their gradients.

A *plan* tells where the windows lie on maps of one size; plans of recent sizes are kept. Maps have three axes in the kernels,
those that are missing with size 1; one axis with the channels last comes second, as it is rows that threads share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_fitting, as_float_array, choice, flag, plain_int, positive_int
from fastrnn._kernels._memory import empty
from fastrnn._kernels._pool import BYTE_PLACES, SUM, Windows
from fastrnn._kernels._pooled import Placed, Pooling
from fastrnn.errors import ArgumentError, ShapeError

Array: TypeAlias = NDArray[Any]
Pullback: TypeAlias = Callable[[Array], Array]
PerAxis: TypeAlias = int | Sequence[int]
Sizes: TypeAlias = tuple[int, ...]

LAYOUTS = (("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))
ALL_LAYOUTS = tuple(layout for pair in LAYOUTS for layout in pair)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
MOST_PLACES = 1 << 24  # of one window: the kernels count them in float32
KEPT_PLANS = 64


class Axis(NamedTuple):
    """One axis of maps and its windows; stride 0 divides it evenly."""

    size: int
    out: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1

    def starts(self) -> Array:
        """Return where each window starts, which may be in the padding."""
        o = np.arange(self.out)
        return o * self.stride - self.padding if self.stride else o * self.size // self.out

    def first_taps(self) -> Array:
        """Return the first tap of each window that is in the map, or at least the number of taps if there is none."""
        before = np.maximum(-self.starts(), 0)
        first = -(-before // self.dilation)
        empty_ones = self.starts() + first * self.dilation >= self.size
        return np.where(empty_ones, self.kernel * MOST_PLACES, first)

    def counts(self, with_padding: bool = False) -> Array:
        """Return the number of places of each window, for windows without dilation."""
        starts, border = self.starts(), self.padding if with_padding else 0
        ends = starts + self.kernel if self.stride else -(-(np.arange(self.out) + 1) * self.size // self.out)
        return np.minimum(ends, self.size + border) - np.maximum(starts, -border)


class Plan:
    """The windows of one pooling on maps of one size, and the form of its results."""

    __slots__ = ("axes", "taps_dtype", "windows")

    def __init__(self, axes: Sequence[Axis], channels: int, dtype: np.dtype[Any], divisors: Sequence[Array]) -> None:
        whole = [Axis(1, 1, 1, 1)] * (3 - len(axes)) + list(axes)
        ones = [np.ones(1)] * (3 - len(axes)) + list(divisors)
        if channels > 1 and len(axes) == 1:
            whole, ones = [whole[i] for i in (0, 2, 1)], [ones[i] for i in (0, 2, 1)]
        self.axes = tuple(whole)
        tables: Any = [tuple(table.astype(dtype) for table in group) for group in (ones, [1 / one for one in ones])]
        first = self.axes[2].first_taps().astype(dtype)
        # By powers of two a product with 1 / one is the quotient.
        exact = all((np.frexp(one)[0] == 0.5).all() for one in ones)
        self.windows = Windows(np.array(self.axes, np.int64), channels, first, tables[0], tables[1], exact)
        self.taps_dtype = np.dtype(np.uint8 if self.places() <= BYTE_PLACES else np.int32)

    def places(self) -> int:
        """Return the number of places of a window."""
        return math.prod(axis.kernel for axis in self.axes)

    def indices(self, taps: Array) -> Array:
        """Return the flat positions of taps."""
        positions = empty(taps.shape, np.int64)
        self.windows.positions(taps, positions)
        return positions


class Maps(NamedTuple):
    """Checked maps: a contiguous array, its spatial sizes, and the number of channels where they lie last, else 0."""

    x: Array
    sizes: Sizes
    last: bool

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return int(self.x.shape[-1 if self.last else 1])

    def shape(self, out: Sizes) -> Sizes:
        """Return the shape of such maps with other spatial sizes."""
        N, C = len(self.x), self.channels
        return (N, *out, C) if self.last else (N, C, *out)


def is_plain(x: object) -> bool:
    """Return whether x is what kernels take as it is: this is asked on every call, and saves what follows."""
    if type(x) is not np.ndarray or not (x.dtype is FLOAT32 or x.dtype is FLOAT64):
        return False
    flags = x.flags
    return flags.c_contiguous and flags.aligned


def contiguous(name: str, x: Array) -> Array:
    """Return x as kernels take it."""
    return x if is_plain(x) else np.asarray(as_float_array(name, "x", x), order="C")


def as_maps(name: str, x: Array, layout: str | None, axes: int | None = None) -> Maps:
    """Return x as maps; `axes` is the number of spatial axes that the options have."""
    array = contiguous(name, x)
    return Maps(array, *form_of_maps(name, array.shape, layout, axes))


def form_of_maps(name: str, shape: Sizes, layout: str | None, axes: int | None) -> tuple[Sizes, bool]:
    """Return the spatial sizes of maps, and whether their channels lie last."""
    if layout is not None:
        layout = choice(name, "layout", layout, ALL_LAYOUTS if axes is None else LAYOUTS[axes - 1])
        axes = len(layout) - 2
    ndims = (3, 4, 5) if axes is None else (axes + 2,)
    if len(shape) not in ndims:
        shapes = " or ".join(f"({', '.join(layout or LAYOUTS[ndim - 3][0])})" for ndim in ndims)
        raise ShapeError(f"{name}: 'x' must have shape {shapes}, got {shape}")
    last = layout is not None and layout.endswith("C")
    sizes = shape[1:-1] if last else shape[2:]
    if 0 in sizes:
        raise ShapeError(f"{name}: 'x' must have spatial sizes of at least 1, got {shape}")
    return sizes, last


def axes_of(value: object) -> int | None:
    """Return for how many axes an option is given, or None for one value for all of them."""
    return len(value) if isinstance(value, (tuple, list)) and 1 <= len(value) <= len(LAYOUTS) else None


def per_axis(name: str, arg: str, value: object, S: int, low: int) -> Sizes:
    """Return an option as S ints of at least `low`."""
    if isinstance(value, (tuple, list)):
        if len(value) != S:
            raise ArgumentError(f"{name}: '{arg}' must be an int or {S} of them, got {value!r}")
        return tuple(plain_int(name, arg, item, low) for item in value)
    return (plain_int(name, arg, value, low),) * S


def sliding_axes(
    name: str,
    sizes: Sizes,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """Return the axes of sliding windows, all options checked."""
    S = len(sizes)
    kernel = per_axis(name, "kernel_size", kernel_size, S, 1)
    steps = kernel if stride is None else per_axis(name, "stride", stride, S, 1)
    borders, spacing = per_axis(name, "padding", padding, S, 0), per_axis(name, "dilation", dilation, S, 1)
    if any(low > k // 2 for low, k in zip(borders, kernel, strict=True)):
        raise ArgumentError(f"{name}: 'padding' must be at most half of 'kernel_size' {kernel}, got {borders}")
    if math.prod(kernel) > MOST_PLACES:
        raise ArgumentError(f"{name}: 'kernel_size' must have at most {MOST_PLACES} places, got {kernel}")
    rounded_up = flag(name, "ceil_mode", ceil_mode)
    axes = []
    for L, k, step, low, d in zip(sizes, kernel, steps, borders, spacing, strict=True):
        room = L + 2 * low - (d * (k - 1) + 1)  # where the last window that fits starts, counted from the padding
        count = 1 + (-(-room // step) if rounded_up else room // step)
        if rounded_up and (count - 1) * step >= low + L:
            count -= 1
        if count < 1:
            padded = tuple(size + 2 * border for size, border in zip(sizes, borders, strict=True))
            spans = tuple(e * (n - 1) + 1 for e, n in zip(spacing, kernel, strict=True))
            raise ShapeError(
                f"{name}: 'x' must have padded sizes of at least the kernel's {spans}, got {padded} "
                f"(sizes {sizes}, padding {borders})"
            )
        axes.append(Axis(L, count, k, step, low, d))
    return tuple(axes)


class Windowed(NamedTuple):
    """Sliding windows on maps of one shape: their axes, the number of channels that lie last, and the shape of the result."""

    axes: tuple[Axis, ...]
    channels: int
    shape: Sizes


def _place(
    name: str,
    shape: Sizes,
    layout: str | None,
    kernel_size: PerAxis,
    stride: PerAxis | None,
    padding: PerAxis,
    dilation: PerAxis,
    ceil_mode: bool,
) -> Windowed:
    """Return where windows lie, all options checked."""
    sizes, last = form_of_maps(name, shape, layout, axes_of(kernel_size))
    axes = sliding_axes(name, sizes, kernel_size, stride, padding, dilation, ceil_mode)
    out = outputs_of(axes)
    return Windowed(axes, shape[-1] if last else 0, (shape[0], *out, shape[-1]) if last else (*shape[:2], *out))


# Options of these types, and tuples of ints, are told apart by their types and values, which other sequences would not be.
_SCALARS = frozenset((int, bool, type(None), str))
_known_place = lru_cache(KEPT_PLANS, typed=True)(_place)


def _is_told_apart(option: object) -> bool:
    return type(option) in _SCALARS or (type(option) is tuple and all(type(item) is int for item in option))


def place(name: str, shape: Sizes, layout: str | None, *options: Any) -> Windowed:
    """Return where windows lie on maps of a shape; options are kernel_size, stride, padding, dilation and ceil_mode."""
    if all(map(_is_told_apart, options)) and type(layout) in _SCALARS:
        return _known_place(name, shape, layout, *options)
    return _place(name, shape, layout, *options)


def outputs_of(axes: tuple[Axis, ...]) -> Sizes:
    """Return the number of windows of each axis."""
    return tuple(axis.out for axis in axes)


@lru_cache(KEPT_PLANS)
def selecting_plan(axes: tuple[Axis, ...], channels: int, dtype: np.dtype[Any]) -> Plan:
    """Return the plan of a maximum or minimum."""
    return Plan(axes, channels, dtype, [np.ones(axis.out) for axis in axes])


@lru_cache(KEPT_PLANS)
def counting_plan(axes: tuple[Axis, ...], channels: int, dtype: np.dtype[Any], with_padding: bool, unit: Sizes) -> Plan:
    """Return the plan of sums divided by the number of places, in units of `unit` on each axis."""
    divisors = [axis.counts(with_padding) / part for axis, part in zip(axes, unit, strict=True)]
    return Plan(axes, channels, dtype, divisors)


@lru_cache(KEPT_PLANS)
def dividing_plan(axes: tuple[Axis, ...], channels: int, dtype: np.dtype[Any], divisor: int) -> Plan:
    """Return the plan of sums divided by a number."""
    divisors = [np.ones(axis.out) for axis in axes]
    divisors[0] *= divisor
    return Plan(axes, channels, dtype, divisors)


def placed_selection(mode: int, plan: Plan, shape: Sizes, out: Sizes, dtype: np.dtype[Any]) -> Placed:
    """Return a maximum or minimum on arrays of `shape` for the layer that keeps it."""
    return Placed(plan.windows, mode, shape, out, dtype, plan.taps_dtype)


def placed_sums(plan: Plan, shape: Sizes, out: Sizes, dtype: np.dtype[Any]) -> Placed:
    """Return the divided sums of all windows likewise."""
    return Placed(plan.windows, SUM, shape, out, dtype, None)


def new_pooling(name: str) -> Pooling:
    """Return what a layer of that name keeps of its poolings."""
    return Pooling(name, as_gradient)


class Selection:
    """A maximum or minimum pooling that ran: y, and what its indices and its gradient are made of."""

    __slots__ = ("_maps_shape", "_plan", "_taps", "y")

    def __init__(self, mode: int, x: Array, plan: Plan, shape: Sizes, keep: bool) -> None:
        self.y = empty(shape, x.dtype)
        self._plan, self._maps_shape = plan, x.shape
        self._taps = empty(shape, plan.taps_dtype) if keep else None
        plan.windows.forward(mode, x, self.y, self._taps)

    def indices(self) -> Array:
        """Return the flat position in its map of each value taken, -1 for a window outside; it must have been kept."""
        assert self._taps is not None
        return self._plan.indices(self._taps)

    def pullback(self, name: str) -> Pullback:
        """Return the function from dy to dx."""
        plan, taps, shape, y_shape, dtype = self._plan, self._taps, self._maps_shape, self.y.shape, self.y.dtype

        def pull_back(dy: Array) -> Array:
            gradient = as_gradient(name, dy, (y_shape, dtype))
            dx = empty(shape, dtype)
            plan.windows.backward(0, gradient, taps, dx)
            return dx

        return pull_back


def sums(x: Array, plan: Plan, shape: Sizes) -> Array:
    """Return the divided sums of all windows, of that shape."""
    y = empty(shape, x.dtype)
    plan.windows.forward(SUM, x, y, None)
    return y


def spread(gradient: Array, plan: Plan, shape: Sizes) -> Array:
    """Return the gradient of `sums`, from a contiguous one of its result."""
    dx = empty(shape, gradient.dtype)
    plan.windows.backward(SUM, gradient, None, dx)
    return dx


def as_gradient(name: str, dy: Array, y: Array | tuple[Sizes, np.dtype[Any]]) -> Array:
    """Return dy as a contiguous array of the shape and dtype of y."""
    shape, dtype = y if isinstance(y, tuple) else (y.shape, y.dtype)
    if is_plain(dy) and dy.shape == shape and dy.dtype == dtype:
        return dy
    return np.asarray(as_fitting(name, "dy", dy, shape, dtype), order="C")


def checked_divisor(name: str, divisor: object) -> int | None:
    """Return `divisor_override`."""
    return None if divisor is None else positive_int(name, "divisor_override", divisor)
