"""The gradients of a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn._kernels._conv_weight import activation_gradient, add_map_sums, add_weight_gradient
from fastrnn._kernels._depthwise import DepthwiseKernels, add_depthwise_gradient
from fastrnn._kernels._gemm import add_weight_gradient as add_dense_gradient
from fastrnn._kernels._memory import empty
from fastrnn._kernels._places import put_places
from fastrnn._kernels._weight_columns import add_weight_by_columns
from fastrnn._kernels._windows import Windows
from fastrnn.ops._conv_algorithm import is_depthwise, pays_by_columns
from fastrnn.ops._packed_conv import PackedConv, Plan
from fastrnn.ops._spatial import Array, Geometry, fold_border, maps_shape, sizes_of, with_axes, without_axes

Grads = dict[str, Array]

__all__ = ["ConvGradients", "add_into", "add_weight", "as_rows", "cleared", "per_map"]


def as_rows(array: Array) -> Array:
    """Return a contiguous array as rows, one for each entry of its first axis, of which there may be none."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def per_map(vector: Array, channels_last: bool) -> Array:
    return vector if channels_last else vector[:, None, None, None]


class ConvGradients(NamedTuple):
    """What the forward pass leaves for the gradients, which are taken once; h comes before the gain, if it is needed.

    The memory of h and x then serves for the gradients of the sums and of x.
    """

    packed: PackedConv
    x: Array
    plan: Plan
    h: Array | None
    activation: int

    def add(self, dy: Array, sums: Grads, input_gradient: bool, fresh: Sequence[str] = ()) -> Any:
        """Add the gradients of the parameters into `sums`, for dy of the shape of y; return dx if it is asked for, or None.

        Those of `fresh` names hold nothing yet, whatever stands in them, and are written.
        """
        geometry = self.packed.geometry
        written = cleared(sums, fresh, _can_write(self, len(dy)))
        da = _gradient_of_sums(self, with_axes(np.ascontiguousarray(dy), geometry.S, geometry.channels_last), sums)
        dx = None
        if self.plan.maps:
            dx = _room_for_dx(self, len(da)) if input_gradient else None
            _all_gradients(self, da, sums, dx)
        else:
            _add_parameter_gradients(self, da, sums, written)
            if input_gradient:
                dx = _room_for_dx(self, len(da))
                _input_gradient(self, da, dx)
        return None if dx is None else without_axes(_whole_of(dx, self), geometry)


def _gradient_of_sums(saved: ConvGradients, dy: Array, sums: Grads) -> Array:
    """Add the gradient of the gain into `sums`; return da."""
    packed, last = saved.packed, saved.packed.geometry.channels_last
    da = dy
    if packed.gain is not None and saved.h is not None:
        product = np.ascontiguousarray(dy * saved.h)
        add_into(sums, "gain", lambda grad: add_map_sums(product, grad, last))
        da = np.ascontiguousarray(dy * per_map(packed.gain, last))
    if saved.activation and saved.h is not None:
        activation_gradient(saved.h, da, saved.h, saved.activation)
        da = saved.h
    return da


def _all_gradients(saved: ConvGradients, da: Array, sums: Grads, dx: Array | None) -> None:
    """Add the gradients of weight and bias of a depthwise convolution, and compute dx if it is given, map by map."""
    packed, plan, geometry = saved.packed, saved.plan, saved.packed.inner
    bias = np.zeros(len(sums["bias"]), packed.dtype) if "bias" in sums else None
    beside: dict[str, Any] = {"bias_grad": bias}
    if dx is not None:
        beside |= {"back": packed.direct(True, "turned"), "dx": dx, "windows_back": plan.windows_back}
    windows = _unflipped(saved)
    add_into(sums, "weight", lambda grad: add_weight(da, saved.x, grad, geometry, windows, len(grad), **beside))
    if bias is not None:
        sums["bias"] += bias


def cleared(sums: Grads, fresh: Sequence[str], can_write: bool) -> bool:
    """Set sums that hold nothing to zero, but for a weight's if that can be written: return whether it is to be."""
    written = can_write and "weight" in fresh and sums["weight"].flags.c_contiguous
    for name in fresh:
        if name != "weight" or not written:
            sums[name].fill(0)
    return written


def _add_parameter_gradients(saved: ConvGradients, da: Array, sums: Grads, written: bool) -> None:
    """Add the gradients of weight and bias into `sums`; that of the weight may be `written`."""
    if "bias" in sums:
        add_into(sums, "bias", lambda grad: add_map_sums(da, grad, saved.packed.geometry.channels_last))
    add_into(sums, "weight", lambda grad: _add_weight(saved, da, grad, written))


def _add_weight(saved: ConvGradients, da: Array, grad: Array, written: bool) -> None:
    """Add the gradient of the weight, from that of the sums, to a contiguous array, or write it."""
    packed, geometry = saved.packed, saved.packed.inner
    dense, by_winograd = saved.plan.algorithm == "dense", _by_winograd(saved, len(da))
    if not dense and not by_winograd:
        add_weight(da, saved.x, grad, geometry, _unflipped(saved), len(grad), fresh=written)
        return
    target = np.zeros_like(grad) if geometry.flip else grad
    if dense:
        add_dense_gradient(as_rows(da), as_rows(saved.x), as_rows(target), None)
    else:
        x, dy = without_axes(saved.x, geometry), without_axes(da, geometry)
        fresh = written and not geometry.flip
        packed.winograd().add_weight_gradient(x, dy, target, geometry.channels_last, fresh=fresh)
    if geometry.flip:
        turned = np.flip(target, tuple(range(2, grad.ndim)))
        grad[...] = turned if written else grad + turned


def _can_write(saved: ConvGradients, N: int) -> bool:
    """Return whether the gradient of the weight can be written; others are added to zeros."""
    packed, plan = saved.packed, saved.plan
    per_group, geometry = packed.shapes["weight"][1], packed.inner
    simple = not geometry.flip and not is_depthwise(per_group, geometry.groups, packed.channels[1])
    return _by_winograd(saved, N) or (plan.algorithm != "dense" and simple)


def _by_winograd(saved: ConvGradients, N: int) -> bool:
    """Return whether the gradient of the weight runs by Winograd's algorithm."""
    least = saved.plan.least_batch
    return least is not None and least <= N


def _unflipped(saved: ConvGradients) -> Windows:
    """Return the windows of the kernel as it lies."""
    geometry, plan = saved.packed.inner, saved.plan
    if not geometry.flip:
        return plan.windows
    return replace(geometry, flip=False).windows(sizes_of(saved.x, geometry.channels_last), plan.counts)


def _room_for_dx(saved: ConvGradients, N: int) -> Array:
    """Return memory for the gradient of x and of a border that is no zeros: that of x, unless there is such a border."""
    packed = saved.packed
    shape = maps_shape(N, packed.channels[0], saved.plan.whole, packed.geometry.channels_last)
    return saved.x if saved.x.shape == shape else empty(shape, packed.dtype)


def _input_gradient(saved: ConvGradients, da: Array, dx: Array) -> None:
    """Compute dx: the transposed convolution of da."""
    packed, geometry = saved.packed, saved.packed.inner
    last = geometry.channels_last
    if saved.plan.algorithm_back == "dense":
        packed.dense().backward(as_rows(da), as_rows(dx))
    elif saved.plan.algorithm_back == "winograd":
        packed.winograd().run_backward(without_axes(da, geometry), without_axes(dx, geometry), last)
    else:
        kernels: Any = packed.direct(True, saved.plan.way_back)
        training = {"training": True} if isinstance(kernels, DepthwiseKernels) else {}
        kernels.run(da, dx, saved.plan.windows_back, last, 0, False, **training)


def _whole_of(dx: Array, saved: ConvGradients) -> Array:
    """Return dx without its border, which goes back to where it was taken; among zeros, if places were taken out of x."""
    geometry = saved.packed.geometry
    if saved.plan.spread:
        taken, dx = dx, empty((*dx.shape[:2], *saved.plan.spread), dx.dtype)
        put_places(taken, dx, geometry.stride, geometry.channels_last)
        return dx
    return dx if geometry.border == "zeros" else fold_border(dx, geometry.pads, geometry.border, geometry.channels_last)


def add_into(sums: Grads, key: str, add: Callable[[Array], None]) -> None:
    """Let `add` add to an array of `sums`, through a contiguous one where it is not."""
    grad = sums[key]
    if grad.flags.c_contiguous:
        add(grad)
        return
    work = np.zeros(grad.shape, grad.dtype)
    add(work)
    grad += work


def add_weight(
    da: Array,
    x: Array,
    grad: Array,
    geometry: Geometry,
    windows: Windows,
    outputs: int,
    *,
    fresh: bool = False,
    **beside: Any,
) -> None:
    """Add the gradient of a convolution's weight, from that of its sums, to a contiguous array; or write it, if that is `fresh`.

    The windows are those of the kernel as it lies, not flipped; such kernels and depthwise ones are never `fresh`. Depthwise
    convolution with the channels first computes what is `beside` too, see `add_depthwise_gradient`.
    """
    five = grad.reshape(*grad.shape[:2], *geometry.kernel)
    target = np.zeros_like(five) if geometry.flip else five
    if is_depthwise(five.shape[1], geometry.groups, outputs):
        add_depthwise_gradient(da, x, target, windows, geometry.channels_last, **beside)
    elif pays_by_columns(geometry, da.shape, five.shape):
        add_weight_by_columns(da, x, target, windows, fresh)
    else:
        add_weight_gradient(da, x, target, windows, geometry.groups, geometry.channels_last, fresh)
    if geometry.flip:
        five += target[:, :, ::-1, ::-1, ::-1]
