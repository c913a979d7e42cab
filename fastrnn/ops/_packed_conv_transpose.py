"""The weights of a transposed convolution in the kernels' layouts, one for each algorithm and direction that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastrnn._kernels._calls import Calls
from fastrnn._kernels._copies import copied
from fastrnn._kernels._depthwise import DepthwiseKernels
from fastrnn._kernels._plane_conv import lanes
from fastrnn._kernels._windows import Windows
from fastrnn.errors import ShapeError
from fastrnn.ops._conv_algorithm import direct_way, is_depthwise, least_batch, prefers_winograd
from fastrnn.ops._packed_conv import MOST_PLANS, AnyKernels, AnyWinograd, direct_kernels, winograd_weights
from fastrnn.ops._spatial import Array, Geometry, Three

__all__ = ["PackedConvTranspose", "TransposedPlan"]


class TransposedPlan(NamedTuple):
    """How to run over maps of one size: the sizes of y, the windows from x to y and back, and which kernels."""

    sizes: Three
    windows: Windows
    windows_back: Windows
    winograd: bool  # y by Winograd's algorithm
    winograd_back: bool  # dx
    least_batch: int | None  # from which the gradient of the weight is too, if at all
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
    shapes: dict[str, tuple[int, ...]]
    dtype: np.dtype[Any]
    calls: Calls = field(default_factory=Calls)
    _kernels: dict[tuple[bool, str], AnyKernels] = field(default_factory=dict)
    _winograd: list[AnyWinograd] = field(default_factory=list)
    _plans: dict[Three, TransposedPlan] = field(default_factory=dict)

    def renewed(self, arrays: dict[str, Array], backward: bool) -> PackedConvTranspose:
        """Return a pack of other values for the same parameters and options, without checks; arrays are copied."""
        own = {name: copied(array) for name, array in arrays.items()}
        return replace(self, arrays=own, backward=backward, calls=Calls(), _kernels={}, _winograd=[])

    @property
    def channels(self) -> tuple[int, int]:
        """Return C and K."""
        C, per_group, *_ = self.shapes["weight"]
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
            if is_depthwise(five.shape[1], geometry.groups, len(five)) and len(five) == geometry.groups:
                kernels = DepthwiseKernels(five, bias, None, last)
            else:
                kernels = direct_kernels(five, bias, None, geometry, not backward, way, later=self.backward)
            self._kernels[backward, way] = kernels
        return kernels

    def winograd(self) -> AnyWinograd:
        """Return the weights for Winograd's algorithm, those of the convolution."""
        if not self._winograd:
            self._winograd.append(winograd_weights(self.arrays["weight"], self.geometry, backward=True))
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
    winograd = whole and prefers_winograd(algorithm, geometry, K, C, counts, backward=True)
    return TransposedPlan(
        sizes,
        geometry.transposed(sizes, counts),
        geometry.windows(sizes, counts),
        winograd,
        winograd and prefers_winograd(algorithm, geometry, K, C, counts, gradient=True),
        least_batch(algorithm, geometry, K, C, counts) if winograd else None,
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
