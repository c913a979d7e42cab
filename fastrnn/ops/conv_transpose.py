"""Transposed convolution over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastrnn._checks import as_array, as_float_array, check_shape
from fastrnn._kernels._conv_weight import activation_gradient, add_map_sums, copied
from fastrnn._kernels._depthwise import DepthwiseKernels
from fastrnn._kernels._memory import empty
from fastrnn._kernels._plane_conv import lanes
from fastrnn._kernels._windows import Windows
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._conv_algorithm import (
    check_algorithm,
    direct_way,
    is_depthwise,
    prefers_winograd,
    prefers_winograd_gradient,
)
from fastrnn.ops._packed_conv import MOST_PLANS, AnyKernels, direct_kernels
from fastrnn.ops._polyphase import PhasedWeights, winograd_weights
from fastrnn.ops._recurrent import check_grads, once, shapes_of
from fastrnn.ops._spatial import (
    Array,
    Geometry,
    Three,
    as_maps,
    check_weight,
    make_geometry,
    maps_shape,
    per_axis,
    sizes_of,
    with_axes,
    without_axes,
)
from fastrnn.ops._winograd import WinogradWeights
from fastrnn.ops.conv import activation_number, add_into, add_weight

Grads = dict[str, Array]
Pullback = Callable[..., tuple[Array, Grads]]

__all__ = ["PackedConvTranspose", "conv_transpose_forward", "conv_transpose_vjp", "pack_conv_transpose"]


class TransposedPlan(NamedTuple):
    """How to run over maps of one size: the sizes of y, the windows from x to y and back, and which kernels."""

    sizes: Three
    windows: Windows
    windows_back: Windows
    winograd: bool  # y and dx by Winograd's algorithm
    winograd_weight: bool  # the gradient of the weight too
    way: str  # else, as `direct_way` says
    way_back: str


@dataclass(frozen=True, eq=False)
class PackedConvTranspose:
    """The weights of a transposed convolution as the kernels read them: a snapshot, accepted in place of `weight`.

    `geometry` is that of the convolution from K to C maps that it is the transpose of. The weights are packed at the first call
    that needs them so.
    """

    arrays: dict[str, Array]
    geometry: Geometry
    output_padding: Three
    backward: bool
    algorithm: str
    _kernels: dict[tuple[bool, str], AnyKernels] = field(default_factory=dict)
    _winograd: list[WinogradWeights | PhasedWeights] = field(default_factory=list)
    _plans: dict[Three, TransposedPlan] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters."""
        return shapes_of(self.arrays)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the element type."""
        return self.arrays["weight"].dtype

    @property
    def channels(self) -> tuple[int, int]:
        """Return C and K."""
        C, per_group, *_ = self.arrays["weight"].shape
        return C, per_group * self.geometry.groups

    def plan(self, name: str, counts: Three) -> TransposedPlan:
        """Return how to run over maps of these sizes; refuse what leaves nothing."""
        plan = self._plans.get(counts)
        if plan is None:
            options = self.geometry, self.output_padding, self.algorithm, self.channels
            plan = _make_plan(name, *options, counts, lanes(self.dtype.itemsize))
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[counts] = plan
        return plan

    def kernels(self, way: str, *, backward: bool = False) -> AnyKernels:
        """Return the kernels of the direct algorithm that run one way, for y or for dx."""
        kernels = self._kernels.get((backward, way))
        if kernels is None:
            weight, geometry = self.arrays["weight"], self.geometry
            five, bias = (
                weight.reshape(*weight.shape[:2], *geometry.kernel),
                None if backward else self.arrays.get("bias"),
            )
            last = geometry.channels_last
            if is_depthwise(five.shape[1], geometry.groups, len(five), last) and len(five) == geometry.groups:
                kernels = DepthwiseKernels(five, bias, None, last)
            else:
                kernels = direct_kernels(five, bias, None, geometry, not backward, way)
            self._kernels[backward, way] = kernels
        return kernels

    def winograd(self) -> WinogradWeights | PhasedWeights:
        """Return the weights for Winograd's algorithm, those of the convolution."""
        if not self._winograd:
            first = 3 - self.geometry.S
            stride, pads = self.geometry.stride[first:], self.geometry.pads[first:]
            self._winograd.append(winograd_weights(self.arrays["weight"], stride, pads, backward=True))
        return self._winograd[0]


@lru_cache(maxsize=256)  # weights change with every step of training, the sizes of maps seldom
def _make_plan(
    name: str,
    geometry: Geometry,
    output_padding: Three,
    algorithm: str,
    channels: tuple[int, int],
    counts: Three,
    width: int,
) -> TransposedPlan:
    C, K = channels
    sizes = _sizes(name, geometry, output_padding, counts)
    whole = geometry.groups == 1 and _has_all_places(geometry, output_padding)
    winograd = whole and prefers_winograd(algorithm, geometry, K, C, counts)
    return TransposedPlan(
        sizes,
        geometry.transposed(sizes, counts),
        geometry.windows(sizes, counts),
        winograd,
        winograd and prefers_winograd_gradient(algorithm, geometry, K, C, counts),
        direct_way(geometry, K, C, sizes, width, backward=True),
        direct_way(geometry, K, C, counts, width),
    )


def _sizes(name: str, geometry: Geometry, output_padding: Three, counts: Three) -> Three:
    """Return the sizes of y, for those of x; refuse what leaves nothing."""
    sizes = tuple(
        (count - 1) * geometry.stride[a] - sum(geometry.pads[a]) + geometry.span(a) + output_padding[a]
        for a, count in enumerate(counts)
    )
    if min(sizes) < 1:
        raise ShapeError(
            f"{name}: 'padding' must leave at least one place of the output, got sizes {sizes[3 - geometry.S :]}"
        )
    return sizes[0], sizes[1], sizes[2]


def _has_all_places(geometry: Geometry, output_padding: Three) -> bool:
    """Return whether each place of y is one of a phase: `output_padding` may add others."""
    axes = zip(geometry.kernel, output_padding, geometry.stride, strict=True)
    return all(taps + extra <= -(-taps // step) * step for taps, extra, step in axes)


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
    return PackedConvTranspose(arrays, geometry, (extra[0], extra[1], extra[2]), backward, algorithm)


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
    if plan.winograd:
        x4, y4 = without_axes(maps, geometry), without_axes(y, geometry)
        packed.winograd().run_backward(x4, y4, last, packed.arrays.get("bias"), activation)
    else:
        packed.kernels(plan.way).run(maps, y, plan.windows, last, activation, False)
    return y, plan


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

    return y, once(name, pullback)


def convolve_transposed_keeping(
    name: str, maps: Array, packed: PackedConvTranspose, activation: int
) -> tuple[Array, ConvTransposeGradients]:
    """Return the output maps of checked, contiguous maps with three spatial axes, and what computes the gradients, once."""
    y, plan = _run(name, maps, packed, activation)
    kept = ConvTransposeGradients(packed, copied(maps), plan, copied(y) if activation else None, activation)
    return without_axes(y, packed.geometry), kept


class ConvTransposeGradients(NamedTuple):
    """What the forward pass leaves for the gradients: x, the plan, and y if there is an activation."""

    packed: PackedConvTranspose
    x: Array
    plan: TransposedPlan
    y: Array | None
    activation: int

    def add(self, dy: Array, sums: Grads, input_gradient: bool) -> Any:
        """Add the gradients of the parameters into `sums`, for dy of the shape of y; return dx if it is asked for, or None."""
        packed, geometry, x, plan = self.packed, self.packed.geometry, self.x, self.plan
        last = geometry.channels_last
        da = with_axes(np.ascontiguousarray(dy), geometry.S, last)
        if self.y is not None:
            target = empty(da.shape, packed.dtype)
            activation_gradient(self.y, da, target, self.activation)
            da = target
        if "bias" in sums:
            add_into(sums, "bias", lambda grad: add_map_sums(da, grad, last))
        if plan.winograd_weight:
            maps, dy4 = without_axes(x, geometry), without_axes(da, geometry)
            add_into(sums, "weight", lambda grad: packed.winograd().add_weight_gradient(dy4, maps, grad, last))
        else:
            add_into(sums, "weight", lambda grad: add_weight(x, da, grad, geometry, plan.windows_back, len(grad)))
        if not input_gradient:
            return None
        dx = empty(x.shape, packed.dtype)
        if plan.winograd:
            packed.winograd().run(without_axes(da, geometry), without_axes(dx, geometry), None, 0, last)
        else:
            packed.kernels(plan.way_back, backward=True).run(da, dx, plan.windows_back, last, 0, False)
        return without_axes(dx, geometry)
