"""Transposed convolution over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastrnn._checks import as_array, as_float_array, check_shape
from fastrnn._kernels._conv_weight import activation_gradient, add_map_sums
from fastrnn._kernels._copies import copied
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._conv_algorithm import check_algorithm
from fastrnn.ops._conv_gradients import add_into, add_weight, cleared
from fastrnn.ops._packed_conv_transpose import PackedConvTranspose, TransposedPlan
from fastrnn.ops._recurrent import check_grads, once, shapes_of
from fastrnn.ops._spatial import (
    Array,
    as_maps,
    check_weight,
    make_geometry,
    maps_shape,
    per_axis,
    sizes_of,
    with_axes,
    without_axes,
)
from fastrnn.ops.conv import activation_number, as_kernel_sees, remember

Grads = dict[str, Array]
Pullback = Callable[..., tuple[Array, Grads]]

__all__ = ["PackedConvTranspose", "conv_transpose_forward", "conv_transpose_vjp", "pack_conv_transpose"]


def pack_conv_transpose(
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str | None = None,
    backward: bool = True,
) -> PackedConvTranspose:
    """Return a snapshot of the parameters and options in the layout of the kernels, in place of `weight`.

    With ``backward=False`` it serves `conv_transpose_forward` only, and costs half.
    """
    options = (stride, padding, output_padding, dilation, groups, layout)
    return _pack("pack_conv_transpose", weight, bias, options, backward)


#: Options of `conv_transpose_forward` that were not given.
DEFAULTS = (1, 0, 0, 1, 1, None)


def _pack(name: str, weight: Any, bias: Array | None, options: tuple[Any, ...], backward: bool) -> PackedConvTranspose:
    stride, padding, output_padding, dilation, groups, layout = options
    if isinstance(weight, PackedConvTranspose):
        if bias is not None or options != DEFAULTS:
            raise ArgumentError(f"{name}: a packed weight holds its bias and options; none can be given beside it")
        if backward and not weight.backward:
            raise ArgumentError(f"{name}: 'weight' must be packed with backward=True, got backward=False")
        return weight
    weight = np.ascontiguousarray(as_float_array(name, "weight", weight))
    check_weight(name, weight)
    if isinstance(padding, str):
        raise ArgumentError(f"{name}: 'padding' must be an int, ints or pairs, got {padding!r}")
    geometry = make_geometry(name, weight.shape[2:], stride, padding, dilation, groups, layout)
    C, groups, S = len(weight), geometry.groups, geometry.S
    if C % groups:
        raise ArgumentError(f"{name}: 'groups' must divide the {C} channels, got {groups}")
    extra = (0,) * (3 - S) + per_axis(name, "output_padding", output_padding, S, 0)
    for a in range(3):
        if extra[a] >= max(geometry.stride[a], geometry.dilation[a]) and extra[a]:
            raise ArgumentError(
                f"{name}: 'output_padding' must be less than stride or dilation, got {extra[a]} with stride "
                f"{geometry.stride[a]} and dilation {geometry.dilation[a]}"
            )
    arrays = {"weight": weight}
    if bias is not None:
        arrays["bias"] = np.array(as_array(name, "bias", bias, weight.dtype), order="C")
        check_shape(name, "bias", arrays["bias"], "(K)", K=weight.shape[1] * groups)
    arrays["weight"] = copied(weight)
    algorithm = check_algorithm(name, "auto", geometry)
    options = geometry, (extra[0], extra[1], extra[2]), backward, algorithm
    return PackedConvTranspose(arrays, *options, shapes_of(arrays), weight.dtype)


def conv_transpose_forward(
    x: Array,
    weight: Array | PackedConvTranspose,
    bias: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str | None = None,
    activation: str | None = None,
) -> Array:
    """Lay K kernels down at each place of maps, and sum where they overlap.

        y_k = act(bias_k + a_k)         a_k[o * stride + t * dilation - low] += weight_ck[t] * x_c[o]

    Parameters
    ----------
    x : ndarray (N, C, *sizes), or as `layout` says; float32 or float64
    weight : ndarray (C, K/groups, *kernel), or what `pack_conv_transpose` made of it
    bias : ndarray (K,), optional
    stride, dilation : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after): places taken away from y
    output_padding : int, or one per spatial axis: places left or added at the far end; less than stride or dilation
    groups : int. Divides C and K.
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC" for channels last, of x and y alike
    activation : None, "relu", "tanh" or "sigmoid"

    Returns
    -------
    y : ndarray (N, K, *sizes), or as `layout` says, where a size becomes
        ``(size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "conv_transpose_forward"
    packed = _pack(name, weight, bias, (stride, padding, output_padding, dilation, groups, layout), False)
    maps = as_maps(name, "x", x, packed.dtype, packed.geometry, packed.channels[0])
    return convolve_transposed(name, maps, packed, activation_number(name, activation))


def convolve_transposed(name: str, maps: Array, packed: PackedConvTranspose, activation: int) -> Array:
    """Return the output maps of checked, contiguous maps with three spatial axes."""
    return without_axes(_run(name, maps, packed, activation)[0], packed.geometry)


def _run(name: str, maps: Array, packed: PackedConvTranspose, activation: int) -> tuple[Array, TransposedPlan]:
    """Return y with three spatial axes, and the plan."""
    geometry, K = packed.geometry, packed.channels[1]
    last = geometry.channels_last
    plan = packed.plan(name, sizes_of(maps, last))
    y = empty(maps_shape(len(maps), K, plan.sizes, last), packed.dtype)
    run, rest = _kernel(packed, plan, activation)
    run(*(as_kernel_sees(array, geometry, plan.winograd) for array in (maps, y)), *rest)
    return y, plan


def _kernel(packed: PackedConvTranspose, plan: TransposedPlan, activation: int) -> tuple[Any, tuple[Any, ...]]:
    """Return what runs a plan, and its arguments after x and y."""
    last = packed.geometry.channels_last
    if plan.winograd:
        return packed.winograd().run_backward, (last, packed.arrays.get("bias"), activation)
    return packed.kernels(plan.way).run, (plan.windows, last, activation, False)


def prepare_transposed(
    name: str, x: Array, maps: Array, y: Array, packed: PackedConvTranspose, activation: str | None
) -> None:
    """Remember in ``packed.calls`` how y was computed from x, which is `maps` with three spatial axes."""
    plan = packed.plan(name, sizes_of(maps, packed.geometry.channels_last))
    call = _kernel(packed, plan, activation_number(name, activation))
    remember(packed, (x, y), maps, plan.sizes, plan.winograd, activation, call)


def conv_transpose_vjp(
    x: Array,
    weight: Array | PackedConvTranspose,
    bias: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str | None = None,
    activation: str | None = None,
) -> tuple[Array, Pullback]:
    """Apply a transposed convolution and return its pullback. Arguments are those of `conv_transpose_forward`.

    With y = act(a), and i = o * stride + t * dilation - low a place of y; da is zero outside of y:

        da = dy * act'(a)                                       dbias_k = sum over N, i of da_k[i]
        dx_c[o] = sum over k, t of weight_ck[t] da_k[i]         dweight_ck[t] = sum over N, o of x_c[o] da_k[i]

    Returns
    -------
    y : ndarray (N, K, *sizes), or as `layout` says
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        dy as y. Gradients of weight and, if given, bias, are added into the arrays of the mapping `grads` where it has them.
        May succeed once; a second call raises RuntimeError.
    """
    name = "conv_transpose_vjp"
    packed = _pack(name, weight, bias, (stride, padding, output_padding, dilation, groups, layout), True)
    number = activation_number(name, activation)
    maps = as_maps(name, "x", x, packed.dtype, packed.geometry, packed.channels[0])
    y, gradients = convolve_transposed_keeping(name, maps, packed, number)
    shape = y.shape

    def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> tuple[Array, Grads]:
        given = as_array(name, "dy", dy, packed.dtype)
        if given.shape != shape:
            raise ShapeError(f"{name}: 'dy' must have shape {shape}, got {given.shape}")
        sums = check_grads(name, packed.shapes, grads, packed.dtype)
        return gradients.add(given, sums, True), sums

    return y, once(name, pullback, overwrites=True)


def convolve_transposed_keeping(
    name: str, maps: Array, packed: PackedConvTranspose, activation: int
) -> tuple[Array, ConvTransposeGradients]:
    """Return the output maps of checked, contiguous maps with three spatial axes, and what computes the gradients, once."""
    y, plan = _run(name, maps, packed, activation)
    kept = ConvTransposeGradients(packed, copied(maps), plan, copied(y) if activation else None, activation)
    return without_axes(y, packed.geometry), kept


class ConvTransposeGradients(NamedTuple):
    """What the forward pass leaves for the gradients: x, the plan, and y if there is an activation.

    They are taken once: dx is then written over x, and the gradient of the sums over y.
    """

    packed: PackedConvTranspose
    x: Array
    plan: TransposedPlan
    y: Array | None
    activation: int

    def add(self, dy: Array, sums: Grads, input_gradient: bool, fresh: Sequence[str] = ()) -> Any:
        """Add the gradients of the parameters into `sums`, for dy of the shape of y; return dx if it is asked for, or None.

        Those of `fresh` names hold nothing yet, whatever stands in them, and are written.
        """
        packed, geometry, x, plan = self.packed, self.packed.geometry, self.x, self.plan
        last, least = geometry.channels_last, plan.least_batch
        by_winograd = least is not None and least <= len(x)
        written = cleared(sums, fresh, by_winograd)
        da = with_axes(np.ascontiguousarray(dy), geometry.S, last)
        if self.y is not None:
            activation_gradient(self.y, da, self.y, self.activation)
            da = self.y
        if "bias" in sums:
            add_into(sums, "bias", lambda grad: add_map_sums(da, grad, last))
        if by_winograd:
            maps, dy4 = without_axes(x, geometry), without_axes(da, geometry)
            add = partial(packed.winograd().add_weight_gradient, dy4, maps, channels_last=last, fresh=written)
            add_into(sums, "weight", lambda grad: add(grad=grad))
        else:
            add_into(sums, "weight", lambda grad: add_weight(x, da, grad, geometry, plan.windows_back, len(grad)))
        if not input_gradient:
            return None
        if plan.winograd_back:
            packed.winograd().run(without_axes(da, geometry), without_axes(x, geometry), None, 0, last)
        else:
            packed.kernels(plan.way_back, backward=True).run(da, x, plan.windows_back, last, 0, False)
        return without_axes(x, geometry)
