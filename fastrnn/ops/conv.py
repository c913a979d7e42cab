"""Convolution over one, two or three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn._checks import as_array, as_float_array, check_shape, flag
from fastrnn._kernels._conv import ACTIVATIONS
from fastrnn._kernels._conv_weight import activation_gradient, add_map_sums, add_weight_gradient, copied
from fastrnn._kernels._depthwise import DepthwiseKernels, add_depthwise_gradient
from fastrnn._kernels._gemm import add_weight_gradient as add_dense_gradient
from fastrnn._kernels._memory import empty
from fastrnn._kernels._windows import Windows
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._conv_algorithm import check_algorithm, is_depthwise
from fastrnn.ops._packed_conv import PackedConv, Plan
from fastrnn.ops._recurrent import check_grads, once
from fastrnn.ops._spatial import (
    Array,
    Geometry,
    as_maps,
    check_weight,
    fold_border,
    make_geometry,
    maps_shape,
    sizes_of,
    with_axes,
    without_axes,
)
from fastrnn.ops.activation import as_activation

Grads = dict[str, Array]
Pullback = Callable[..., tuple[Array, Grads]]

__all__ = ["PackedConv", "conv_forward", "conv_vjp", "pack_conv"]


def activation_number(name: str, activation: Any) -> int:
    """Return the kernels' number of an activation."""
    if activation is not None and activation not in ACTIVATIONS[1:]:
        shown = ", ".join(map(repr, ACTIVATIONS))
        raise ArgumentError(f"{name}: 'activation' must be one of {shown}, got {activation!r}")
    return ACTIVATIONS.index(activation)


def pack_conv(
    weight: Array,
    bias: Array | None = None,
    *,
    gain: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip: bool = False,
    algorithm: str = "auto",
    backward: bool = True,
) -> PackedConv:
    """Return a snapshot of a convolution's parameters and options in the layout of the kernels, in place of `weight`.

    With ``backward=False`` it serves `conv_forward` only, and costs half. Arguments are those of `conv_forward`.
    """
    options = (stride, padding, dilation, groups, padding_mode, layout, flip, algorithm)
    return _pack("pack_conv", weight, bias, gain, options, backward)


def _pack(
    name: str, weight: Any, bias: Array | None, gain: Array | None, options: tuple[Any, ...], backward: bool
) -> PackedConv:
    stride, padding, dilation, groups, padding_mode, layout, flip, algorithm = options
    if isinstance(weight, PackedConv):
        if bias is not None or gain is not None:
            raise ArgumentError(f"{name}: 'bias' and 'gain' must be None beside a packed weight, which holds its own")
        if options != DEFAULTS:
            raise ArgumentError(f"{name}: a packed weight holds its options; others cannot be given beside it")
        if backward and not weight.backward:
            raise ArgumentError(f"{name}: 'weight' must be packed with backward=True, got backward=False")
        return weight
    weight = np.ascontiguousarray(as_float_array(name, "weight", weight))
    check_weight(name, weight)
    kernel = weight.shape[2:]
    geometry = make_geometry(
        name, kernel, stride, padding, dilation, groups, layout, padding_mode, flag(name, "flip", flip)
    )
    K, groups = len(weight), geometry.groups
    if K % groups:
        raise ArgumentError(f"{name}: 'groups' must divide the {K} output maps, got {groups}")
    arrays = {"weight": weight}
    for arg, vector in (("bias", bias), ("gain", gain)):
        if vector is not None:
            arrays[arg] = np.array(as_array(name, arg, vector, weight.dtype), order="C")
            check_shape(name, arg, arrays[arg], "(K)", K=K)
    return PackedConv(arrays, geometry, check_algorithm(name, algorithm, geometry), backward)


def add_weight(
    da: Array, x: Array, grad: Array, geometry: Geometry, windows: Windows, outputs: int, **beside: Any
) -> None:
    """Add the gradient of a convolution's weight, from that of its sums, to a contiguous array.

    The windows are those of the kernel as it lies, not flipped. Depthwise convolution with the channels first computes what
    is `beside` too, see `add_depthwise_gradient`.
    """
    five = grad.reshape(*grad.shape[:2], *geometry.kernel)
    target = np.zeros_like(five) if geometry.flip else five
    if is_depthwise(five.shape[1], geometry.groups, outputs, geometry.channels_last):
        add_depthwise_gradient(da, x, target, windows, geometry.channels_last, **beside)
    else:
        add_weight_gradient(da, x, target, windows, geometry.groups, geometry.channels_last)
    if geometry.flip:
        five += target[:, :, ::-1, ::-1, ::-1]


#: Options of `conv_forward` that were not given.
DEFAULTS = (1, 0, 1, 1, "zeros", None, False, "auto")


def conv_forward(
    x: Array,
    weight: Array | PackedConv,
    bias: Array | None = None,
    *,
    gain: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    activation: str | None = None,
    flip: bool = False,
    algorithm: str = "auto",
) -> Array:
    """Slide K kernels over maps.

        y_k[o] = gain_k * act(bias_k + sum over c, t of weight_kc[t] * x_c[o * stride + t * dilation - low])

    Parameters
    ----------
    x : ndarray (N, C, *sizes), or as `layout` says; float32 or float64
    weight : ndarray (K, C/groups, *kernel) with one to three axes of the kernel, or what `pack_conv` made of it
    bias : ndarray (K,), optional
    gain : ndarray (K,), optional. Factor of each map after the activation.
    stride, dilation : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after); or "valid", "same" (stride 1), "causal" (one
        axis)
    groups : int. Divides C and K.
    padding_mode : "zeros", "reflect", "replicate" or "circular"
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC" for channels last, of x and y alike
    activation : None, "relu", "tanh" or "sigmoid"
    flip : bool. Reverse the kernels: a convolution in place of a correlation.
    algorithm : "auto", "direct" or "winograd"

    Returns
    -------
    y : ndarray (N, K, *counts), or as `layout` says

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "conv_forward"
    options = (stride, padding, dilation, groups, padding_mode, layout, flip, algorithm)
    packed = _pack(name, weight, bias, gain, options, False)
    maps = as_maps(name, "x", x, packed.dtype, packed.geometry, packed.channels[0])
    return convolve(name, maps, packed, activation_number(name, activation))


def convolve(name: str, maps: Array, packed: PackedConv, activation: int) -> Array:
    """Return the output maps of checked, contiguous maps with three spatial axes."""
    return without_axes(_run(name, maps, packed, activation, scaled=True)[0], packed.geometry)


def _run(
    name: str, maps: Array, packed: PackedConv, activation: int, *, scaled: bool, keep: bool = False
) -> tuple[Array, Array, Plan]:
    """Return the output maps, with the gain only if `scaled`, x with three spatial axes, and the plan.

    To `keep` x is to return a copy of it.
    """
    geometry, K = packed.geometry, packed.channels[1]
    last = geometry.channels_last
    plan = packed.plan(name, sizes_of(maps, last))
    y = empty(maps_shape(len(maps), K, plan.counts, last), packed.dtype)
    kernels: Any = packed.direct(False, "turned" if plan.maps else plan.way) if plan.algorithm == "direct" else None
    if isinstance(kernels, DepthwiseKernels):
        kept = empty(maps.shape, packed.dtype) if keep else None
        kernels.run(maps, y, plan.windows, last, activation, scaled, kept)
        return y, maps if kept is None else kept, plan
    if plan.algorithm == "dense":
        packed.dense().forward(_rows(maps), _rows(y))
        if activation:
            as_activation(name, ACTIVATIONS[activation], {}).apply(y, y)
    elif plan.algorithm == "winograd":
        packed.winograd().run(without_axes(maps, geometry), without_axes(y, geometry), packed.bias, activation, last)
    else:
        kernels.run(maps, y, plan.windows, last, activation, scaled)
        scaled = False  # it is done
    if scaled and packed.gain is not None:
        y *= _per_map(packed.gain, last)
    return y, copied(maps) if keep else maps, plan


def conv_vjp(
    x: Array,
    weight: Array | PackedConv,
    bias: Array | None = None,
    *,
    gain: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    activation: str | None = None,
    flip: bool = False,
    algorithm: str = "auto",
) -> tuple[Array, Pullback]:
    """Slide K kernels over maps and return the pullback. Arguments are those of `conv_forward`.

    With h = act(a), y = gain * h, and i = o * stride + t * dilation a place in the padded x:

        dh = gain * dy                  dgain_k = sum over N, o of dy_k[o] h_k[o]
        da = dh * act'(a)               dbias_k = sum over N, o of da_k[o]
        dx_c[i] += weight_kc[t] da_k[o] over k, t, o; then what came from a border goes back to where it was taken
        dweight_kc[t] = sum over N, o of da_k[o] x_c[i]

    Returns
    -------
    y : ndarray (N, K, *counts), or as `layout` says
    pullback : ``pullback(dy, *, grads=None, input_gradient=True) -> (dx, grads)``
        dy as y. Gradients of weight and, if given, bias and gain, are added into the arrays of the mapping `grads` where it
        has them. Without `input_gradient` dx is not computed, and None. May succeed once; a second call raises RuntimeError.
    """
    name = "conv_vjp"
    options = (stride, padding, dilation, groups, padding_mode, layout, flip, algorithm)
    packed = _pack(name, weight, bias, gain, options, True)
    number = activation_number(name, activation)
    maps = as_maps(name, "x", x, packed.dtype, packed.geometry, packed.channels[0])
    y, gradients = convolve_keeping(name, maps, packed, number)
    shape = y.shape

    def pullback(
        dy: Array, *, grads: Mapping[str, Array] | None = None, input_gradient: bool = True
    ) -> tuple[Any, Grads]:
        given = as_array(name, "dy", dy, packed.dtype)
        if given.shape != shape:
            raise ShapeError(f"{name}: 'dy' must have shape {shape}, got {given.shape}")
        sums = check_grads(name, packed.shapes, grads, packed.dtype)
        return gradients.add(given, sums, input_gradient), sums

    return y, once(name, pullback)


def convolve_keeping(name: str, maps: Array, packed: PackedConv, activation: int) -> tuple[Array, ConvGradients]:
    """Return the output maps of checked, contiguous maps with three spatial axes, and what computes the gradients, once."""
    geometry = packed.geometry
    h, x, plan = _run(name, maps, packed, activation, scaled=packed.gain is None, keep=True)
    y = h if packed.gain is None else h * _per_map(packed.gain, geometry.channels_last)
    return without_axes(y, geometry), ConvGradients(packed, x, plan, _kept(h, activation, packed), activation)


def _kept(h: Array, activation: int, packed: PackedConv) -> Array | None:
    """Return what the pullback needs of h, in memory of its own."""
    if packed.gain is not None:
        return h
    return copied(h) if activation else None


class ConvGradients(NamedTuple):
    """What the forward pass leaves for the gradients; h comes before the gain, if it is needed."""

    packed: PackedConv
    x: Array
    plan: Plan
    h: Array | None
    activation: int

    def add(self, dy: Array, sums: Grads, input_gradient: bool) -> Any:
        """Add the gradients of the parameters into `sums`, for dy of the shape of y; return dx if it is asked for, or None."""
        geometry = self.packed.geometry
        da = _gradient_of_sums(self, with_axes(np.ascontiguousarray(dy), geometry.S, geometry.channels_last), sums)
        dx = _whole_like_x(self, len(da)) if input_gradient else None
        if self.plan.maps:
            _all_gradients(self, da, sums, dx)
        else:
            _add_parameter_gradients(self, da, sums)
            if dx is not None:
                _input_gradient(self, da, dx)
        return None if dx is None else without_axes(_folded(dx, geometry), geometry)


def _rows(array: Array) -> Array:
    """Return a contiguous array as rows, one for each entry of its first axis, of which there may be none."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _per_map(vector: Array, channels_last: bool) -> Array:
    return vector if channels_last else vector[:, None, None, None]


def _gradient_of_sums(saved: ConvGradients, dy: Array, sums: Grads) -> Array:
    """Add the gradient of the gain into `sums`; return da."""
    packed, last = saved.packed, saved.packed.geometry.channels_last
    da = dy
    if packed.gain is not None and saved.h is not None:
        product = np.ascontiguousarray(dy * saved.h)
        add_into(sums, "gain", lambda grad: add_map_sums(product, grad, last))
        da = np.ascontiguousarray(dy * _per_map(packed.gain, last))
    if saved.activation and saved.h is not None:
        target = empty(da.shape, packed.dtype)
        activation_gradient(saved.h, da, target, saved.activation)
        da = target
    return da


def _all_gradients(saved: ConvGradients, da: Array, sums: Grads, dx: Array | None) -> None:
    """Add the gradients of weight and bias of a depthwise convolution, and compute dx if it is given, map by map."""
    packed, plan, geometry = saved.packed, saved.plan, saved.packed.geometry
    bias = np.zeros(len(sums["bias"]), packed.dtype) if "bias" in sums else None
    beside: dict[str, Any] = {"bias_grad": bias}
    if dx is not None:
        beside |= {"back": packed.direct(True, "turned"), "dx": dx, "windows_back": plan.windows_back}
    windows = _unflipped(saved)
    add_into(sums, "weight", lambda grad: add_weight(da, saved.x, grad, geometry, windows, len(grad), **beside))
    if bias is not None:
        sums["bias"] += bias


def _add_parameter_gradients(saved: ConvGradients, da: Array, sums: Grads) -> None:
    """Add the gradients of weight and bias into `sums`."""
    if "bias" in sums:
        add_into(sums, "bias", lambda grad: add_map_sums(da, grad, saved.packed.geometry.channels_last))
    add_into(sums, "weight", lambda grad: _add_weight(saved, da, grad))


def _add_weight(saved: ConvGradients, da: Array, grad: Array) -> None:
    """Add the gradient of the weight, from that of the sums, to a contiguous array."""
    packed, geometry = saved.packed, saved.packed.geometry
    if saved.plan.of_weight == "direct":
        add_weight(da, saved.x, grad, geometry, _unflipped(saved), len(grad))
        return
    target = np.zeros_like(grad) if geometry.flip else grad
    if saved.plan.of_weight == "dense":
        add_dense_gradient(_rows(da), _rows(saved.x), _rows(target), None)
    else:
        x, dy = without_axes(saved.x, geometry), without_axes(da, geometry)
        packed.winograd().add_weight_gradient(x, dy, target, geometry.channels_last)
    if geometry.flip:
        grad += np.flip(target, tuple(range(2, grad.ndim)))


def _unflipped(saved: ConvGradients) -> Windows:
    """Return the windows of the kernel as it lies."""
    geometry, plan = saved.packed.geometry, saved.plan
    if not geometry.flip:
        return plan.windows
    return replace(geometry, flip=False).windows(sizes_of(saved.x, geometry.channels_last), plan.counts)


def _whole_like_x(saved: ConvGradients, N: int) -> Array:
    """Return memory for the gradient of x and of a border that is no zeros."""
    packed = saved.packed
    return empty(maps_shape(N, packed.channels[0], saved.plan.whole, packed.geometry.channels_last), packed.dtype)


def _input_gradient(saved: ConvGradients, da: Array, dx: Array) -> None:
    """Compute dx: the transposed convolution of da."""
    packed, geometry = saved.packed, saved.packed.geometry
    last = geometry.channels_last
    if saved.plan.algorithm == "dense":
        packed.dense().backward(_rows(da), _rows(dx))
    elif saved.plan.algorithm == "winograd":
        packed.winograd().run_backward(without_axes(da, geometry), without_axes(dx, geometry), last)
    else:
        kernels: Any = packed.direct(True, saved.plan.way_back)
        training = {"training": True} if isinstance(kernels, DepthwiseKernels) else {}
        kernels.run(da, dx, saved.plan.windows_back, last, 0, False, **training)


def _folded(dx: Array, geometry: Geometry) -> Array:
    """Return dx without its border, which goes back to where it was taken."""
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
