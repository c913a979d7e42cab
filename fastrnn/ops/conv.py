"""Convolution over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn._checks import as_array, as_float_array, check_shape, flag
from fastrnn._kernels._calls import Prepared
from fastrnn._kernels._conv import ACTIVATIONS
from fastrnn._kernels._copies import copied
from fastrnn._kernels._depthwise import DepthwiseKernels
from fastrnn._kernels._memory import empty
from fastrnn._kernels._places import take_places
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._conv_algorithm import check_algorithm
from fastrnn.ops._conv_gradients import ConvGradients, as_rows, per_map
from fastrnn.ops._packed_conv import PackedConv, Plan
from fastrnn.ops._recurrent import check_grads, once
from fastrnn.ops._spatial import (
    Array,
    Geometry,
    Three,
    as_maps,
    check_weight,
    make_geometry,
    maps_shape,
    sizes_of,
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
    plan = packed.plan(name, sizes_of(maps, last), keep=keep)
    y = empty(maps_shape(len(maps), K, plan.counts, last), packed.dtype)
    if plan.spread:
        x, maps = maps, empty((*maps.shape[:2], *plan.counts), packed.dtype)
        take_places(x, maps, geometry.stride, last)
    elif keep and plan.way == "planes" and not plan.maps:
        # The copy reads x in order; the kernels read all maps at once, which is slower from memory.
        maps, keep = copied(maps), False
    if plan.algorithm == "direct":
        kernels: Any = packed.direct(False, "turned" if plan.maps else plan.way)
        if isinstance(kernels, DepthwiseKernels):
            kept = empty(maps.shape, packed.dtype) if keep and plan.spread is None else None
            kernels.run(maps, y, plan.windows, last, activation, scaled, kept)
            return y, maps if kept is None else kept, plan
        seen = _apart(maps, geometry.stride) if plan.apart else maps
        kernels.run(seen, y, plan.windows, last, activation, scaled)
    elif plan.algorithm == "dense":
        packed.dense().forward(as_rows(maps), as_rows(y))
        if activation:
            as_activation(name, ACTIVATIONS[activation], {}).apply(y, y)
    else:
        run, rest = _kernel(packed, plan, activation, scaled)
        run(without_axes(maps, geometry), without_axes(y, geometry), *rest)
    if scaled and packed.gain is not None and plan.algorithm != "direct":
        y *= per_map(packed.gain, last)
    return y, copied(maps) if keep and plan.spread is None else maps, plan


def _kernel(packed: PackedConv, plan: Plan, activation: int, scaled: bool) -> tuple[Any, tuple[Any, ...]]:
    """Return what runs a plan that is not dense, and its arguments after x and y; the direct algorithm multiplies by the gain."""
    last = packed.geometry.channels_last
    if plan.algorithm == "winograd":
        return packed.winograd().run, (packed.bias, activation, last)
    run, stride = packed.direct(False, plan.way).run, packed.geometry.stride
    rest = plan.windows, last, activation, scaled
    return (lambda x, *rest: run(_apart(x, stride), *rest)) if plan.apart else run, rest


def _apart(maps: Array, stride: Three) -> Array:
    """Return the places of maps a stride apart, channels first: a view."""
    d, h, w = stride
    return maps[:, :, ::d, ::h, ::w]


def as_kernel_sees(maps: Array, geometry: Geometry, by_winograd: bool) -> Array:
    """Return maps with three spatial axes as the kernels of Winograd's algorithm, or all others, take them."""
    return without_axes(maps, geometry) if by_winograd else maps


def prepare(name: str, x: Array, maps: Array, y: Array, packed: PackedConv, activation: str | None) -> None:
    """Remember in ``packed.calls`` how y was computed from x, which is `maps` with three spatial axes: `convolve` did it."""
    plan = packed.plan(name, sizes_of(maps, packed.geometry.channels_last))
    if plan.spread or (packed.gain is not None and plan.algorithm != "direct"):
        return
    if plan.algorithm == "dense":
        seen, out_seen = as_rows(maps).shape, (len(maps), packed.channels[1])
        then = as_activation(name, activation, {}).apply if activation else None
        run = packed.dense().forward
        packed.calls.keep(Prepared(x.shape, y.shape, seen, out_seen, packed.dtype, activation, run, (), then))
        return
    call = _kernel(packed, plan, activation_number(name, activation), True)
    remember(packed, (x, y), maps, plan.counts, plan.algorithm == "winograd", activation, call)


def remember(
    packed: Any,
    arrays: tuple[Array, Array],
    maps: Array,
    sizes: Three,
    by_winograd: bool,
    activation: str | None,
    call: tuple[Any, tuple[Any, ...]],
) -> None:
    """Let ``packed.calls`` make such a y of such an x, as the user has them; maps are x, and `sizes` those of y."""
    geometry, K, (x, y) = packed.geometry, packed.channels[1], arrays
    five = y.reshape(maps_shape(len(maps), K, sizes, geometry.channels_last))
    seen, out_seen = (as_kernel_sees(array, geometry, by_winograd).shape for array in (maps, five))
    packed.calls.keep(Prepared(x.shape, y.shape, seen, out_seen, packed.dtype, activation, *call))


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

    return y, once(name, pullback, overwrites=True)


def convolve_keeping(name: str, maps: Array, packed: PackedConv, activation: int) -> tuple[Array, ConvGradients]:
    """Return the output maps of checked, contiguous maps with three spatial axes, and what computes the gradients, once."""
    geometry = packed.geometry
    h, x, plan = _run(name, maps, packed, activation, scaled=packed.gain is None, keep=True)
    y = h if packed.gain is None else h * per_map(packed.gain, geometry.channels_last)
    return without_axes(y, geometry), ConvGradients(packed, x, plan, _kept(h, activation, packed), activation)


def _kept(h: Array, activation: int, packed: PackedConv) -> Array | None:
    """Return what the pullback needs of h, in memory of its own."""
    if packed.gain is not None:
        return h
    return copied(h) if activation else None
