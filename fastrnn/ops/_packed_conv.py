"""The weights of a convolution in the kernels' layouts, one for each algorithm and direction that is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._calls import Calls
from fastrnn._kernels._conv import Kernels
from fastrnn._kernels._conv_stretches import StretchKernels
from fastrnn._kernels._copies import copied
from fastrnn._kernels._depthwise import DepthwiseKernels
from fastrnn._kernels._gemm import DenseWeights
from fastrnn._kernels._plane_conv import PlaneKernels, lanes
from fastrnn._kernels._tap_planes import TapKernels
from fastrnn._kernels._windows import Windows
from fastrnn.ops._conv_algorithm import (
    direct_way,
    is_dense,
    is_depthwise,
    least_batch,
    prefers_winograd,
)
from fastrnn.ops._dilated import DilatedWeights
from fastrnn.ops._polyphase import PhasedWeights
from fastrnn.ops._recurrent import shapes_of
from fastrnn.ops._spatial import Geometry, Three
from fastrnn.ops._winograd import WinogradWeights

Array = NDArray[Any]
AnyWinograd: TypeAlias = WinogradWeights | PhasedWeights | DilatedWeights
AnyKernels: TypeAlias = Kernels | DepthwiseKernels | PlaneKernels | StretchKernels | TapKernels

__all__ = [
    "MOST_PLANS",
    "ONE",
    "AnyKernels",
    "AnyWinograd",
    "PackedConv",
    "backward_windows",
    "direct_kernels",
    "winograd_weights",
]

ONE: Three = (1, 1, 1)
#: Sizes of maps that a packed convolution remembers.
MOST_PLANS = 16


class Plan(NamedTuple):
    """How to run over maps of one size: the number of windows, the windows, and which kernels for y and for dx.

    Where one tap reads places a stride apart, all is said of the maps that these make. They are taken out of x first if x is kept,
    whose sizes are then `spread`; else the kernels read them where they lie, `apart`. `whole` are the sizes of what the gradient of
    x is computed for: x with a border that is no zeros.
    """

    counts: Three
    windows: Windows
    whole: Three
    windows_back: Windows
    algorithm: str  # "dense", "winograd" or "direct"
    algorithm_back: str  # of dx
    least_batch: int | None  # from which the gradient of the weight runs by Winograd's too, if at all
    way: str  # of "direct": that of `direct_way`
    way_back: str
    maps: bool  # of "direct": depthwise with the channels first, map by map
    spread: Three | None
    apart: bool


class PackedConv:
    """The weights of a convolution as the kernels read them: a snapshot, accepted in place of `weight`.

    It holds the options that the packing depends on; a call may not give others. `inner` is the geometry of what runs after places
    were taken out of x, or `geometry`; `channels` are C and K; `bias` and `gain` arrays, or None. The weights are packed at the
    first call that needs them so: the sizes of the maps decide between algorithms.

    Parameters
    ----------
    arrays : weight (K, C/groups, *kernel), copied; bias and gain (K,), those that there are; C-contiguous
    algorithm : of `check_algorithm`
    backward : bool. Whether gradients will be asked for.
    """

    __slots__ = (
        "_arrays",
        "_dense",
        "_direct",
        "_plans",
        "_winograd",
        "algorithm",
        "backward",
        "bias",
        "calls",
        "channels",
        "dtype",
        "gain",
        "geometry",
        "inner",
        "shapes",
    )

    def __init__(self, arrays: dict[str, Array], geometry: Geometry, algorithm: str, backward: bool) -> None:
        self.geometry, self.algorithm, self.backward = geometry, algorithm, backward
        self.inner = _without_stride(geometry)
        self.shapes = shapes_of(arrays)
        K, per_group, *_ = self.shapes["weight"]
        self.channels = per_group * geometry.groups, K
        self.dtype: np.dtype[Any] = arrays["weight"].dtype
        self._plans: dict[tuple[Three, bool], Plan] = {}
        self._hold(arrays | {"weight": copied(arrays["weight"])})

    def _hold(self, arrays: dict[str, Array]) -> None:
        """Take arrays that nobody else has; nothing is packed yet."""
        self._arrays, self.calls = arrays, Calls()
        self.bias, self.gain = arrays.get("bias"), arrays.get("gain")
        self._direct: dict[tuple[bool, str], AnyKernels] = {}
        self._winograd: AnyWinograd | None = None
        self._dense: DenseWeights | None = None

    def renewed(self, arrays: dict[str, Array], backward: bool) -> PackedConv:
        """Return a pack of other values for the same parameters and options, without checks; arrays are copied, or missing."""
        new = PackedConv.__new__(PackedConv)
        new.geometry, new.inner, new.algorithm, new.backward = self.geometry, self.inner, self.algorithm, backward
        new.shapes, new.channels, new.dtype, new._plans = self.shapes, self.channels, self.dtype, self._plans
        new._hold({name: copied(array) for name, array in arrays.items()})
        return new

    def plan(self, name: str, sizes: Three, *, keep: bool = False) -> Plan:
        """Return how to run over maps of these sizes, which are to be kept or not; refuse maps that are too small."""
        plan = self._plans.get((sizes, keep))
        if plan is None:
            width = lanes(self.dtype.itemsize)
            plan = _make_plan(name, self.geometry, self.algorithm, *self.channels, sizes, width)
            if self.inner is not self.geometry:
                way = plan.way
                plan = _make_plan(name, self.inner, self.algorithm, *self.channels, plan.counts, width)
                reads_apart = not keep and plan.algorithm == "direct" and not plan.maps
                plan = plan._replace(way=way, apart=True) if reads_apart else plan._replace(spread=sizes)
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[sizes, keep] = plan
        return plan

    def direct(self, backward: bool, way: str) -> AnyKernels:
        """Return the kernels of the direct algorithm that run one way, for y or for dx."""
        kernels = self._direct.get((backward, way))
        if kernels is None:
            geometry, weight = self.inner, self._arrays["weight"]
            five = weight.reshape(*weight.shape[:2], *geometry.kernel)
            bias, gain = (None, None) if backward else (self.bias, self.gain)
            if is_depthwise(five.shape[1], geometry.groups, len(five)):
                kernels = DepthwiseKernels(five, bias, gain, geometry.channels_last)
            else:
                kernels = direct_kernels(five, bias, gain, geometry, backward, way, later=self.backward)
            self._direct[backward, way] = kernels
        return kernels

    def dense(self) -> DenseWeights:
        """Return the weights as those of a dense layer, for y and for dx."""
        if self._dense is None:
            weight = self._in_order()
            self._dense = DenseWeights(weight.reshape(len(weight), -1), self.bias, self.backward)
        return self._dense

    def _in_order(self) -> Array:
        """Return the weight as it meets the maps: flipped, if it is to be."""
        weight = self._arrays["weight"]
        return np.ascontiguousarray(np.flip(weight, tuple(range(2, weight.ndim)))) if self.geometry.flip else weight

    def winograd(self) -> AnyWinograd:
        """Return the weights for Winograd's algorithm, for y and for dx."""
        if self._winograd is None:
            self._winograd = winograd_weights(self._in_order(), self.geometry, backward=self.backward)
        return self._winograd


def winograd_weights(weight: Array, geometry: Geometry, *, backward: bool) -> AnyWinograd:
    """Return the weights of a convolution, as they meet the maps, for Winograd's algorithm."""
    first = 3 - geometry.S
    stride, dilation, pads = geometry.stride[first:], geometry.dilation[first:], geometry.pads[first:]
    if any(step != 1 for step in stride):
        return PhasedWeights(weight, stride, pads, backward=backward)
    if any(step != 1 for step in dilation):
        return DilatedWeights(weight, dilation, pads, backward=backward)
    return WinogradWeights(weight, pads, backward=backward, groups=geometry.groups)


def _without_stride(geometry: Geometry) -> Geometry:
    """Return the geometry over the places that are taken out of x: those that the windows of one tap see, channels first."""
    one_tap = geometry.kernel == ONE and not any(map(any, geometry.pads)) and not geometry.channels_last
    return replace(geometry, stride=ONE) if one_tap and geometry.stride != ONE else geometry


@lru_cache(maxsize=256)  # weights change with every step of training, the sizes of maps seldom
def _make_plan(name: str, geometry: Geometry, algorithm: str, C: int, K: int, sizes: Three, width: int) -> Plan:
    counts = geometry.counts(name, sizes)
    whole, back = backward_windows(geometry, sizes, counts)
    windows = (counts, geometry.windows(sizes, counts), whole, back)
    if is_dense(algorithm, geometry, sizes):
        return Plan(*windows, "dense", "dense", None, "", "", False, None, False)
    way_back = direct_way(geometry, C, K, whole, width, backward=True)
    if prefers_winograd(algorithm, geometry, C, K, counts):
        both = prefers_winograd(algorithm, geometry, C, K, counts, backward=True, gradient=True)
        least = least_batch(algorithm, geometry, C, K, counts)
        return Plan(*windows, "winograd", "winograd" if both else "direct", least, "", way_back, False, None, False)
    way = direct_way(geometry, C, K, counts, width)
    maps = not geometry.channels_last and is_depthwise(C // geometry.groups, geometry.groups, K)
    return Plan(*windows, "direct", "direct", None, way, way_back, maps, None, False)


def direct_kernels(
    five: Array,
    bias: Array | None,
    gain: Array | None,
    geometry: Geometry,
    backward: bool,
    way: str,
    later: bool = False,
) -> AnyKernels:
    """Return the weights packed for y, or backwards, for the gradient of x or a transposed convolution; or to be packed `later`."""
    if way == "taps":
        return TapKernels(five, bias)
    if way == "stretches":
        low = geometry.low if geometry.border == "zeros" else (0, 0, 0)
        in_order = five[:, :, ::-1, ::-1, ::-1] if geometry.flip else five
        return StretchKernels(np.ascontiguousarray(in_order), bias, geometry.stride, geometry.dilation, low)
    windows = backward_windows(geometry, ONE, ONE)[1] if backward else geometry.windows(geometry.kernel, ONE)
    if way == "planes":
        return PlaneKernels(five, bias, gain, geometry.groups, backward, windows)
    return Kernels(five, bias, gain, geometry.groups, backward, windows, later)


def backward_windows(geometry: Geometry, sizes: Three, counts: Three) -> tuple[Three, Windows]:
    """Return the sizes of what the gradient of x is computed for, x with a border that is no zeros, and the windows."""
    if geometry.border == "zeros":
        return sizes, geometry.transposed(sizes, counts)
    return geometry.over_padded(sizes, counts)
