"""Transposed convolution by planes of products, one for each map and tap, at every size and option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn.ops._packed_conv import direct_kernels
from fastrnn.ops._spatial import sizes_of, with_axes, without_axes
from fastrnn.ops.conv_transpose import PackedConvTranspose

# Maps of fewer pixels than a vector has; each number of phases with a way of its own to weave them; borders that leave places out
# on either side, phases without taps; maps cut into blocks of rows, and of columns; pixels copied side by side, in several pieces.
SIZES = (
    ConvSizes(1, 1, 1, (1,), (1,), {}),
    ConvSizes(2, 3, 2, (3,), (3,), {}),
    ConvSizes(2, 7, 3, (3, 3), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(2, 5, 3, (9, 11), (3, 3), {"padding": 1}),
    ConvSizes(1, 5, 2, (6, 40), (3, 3), {}),
    ConvSizes(2, 6, 7, (8, 7), (3, 3), {"stride": 3, "output_padding": 1}),
    ConvSizes(1, 4, 3, (7, 9), (5, 4), {"stride": (2, 4), "padding": ((2, 0), (3, 1))}),
    ConvSizes(1, 4, 3, (5, 9), (2, 3), {"stride": (3, 5)}),
    ConvSizes(1, 4, 2, (8, 12), (3, 3), {"padding": ((4, 5), (5, 6)), "stride": 2}),
    ConvSizes(1, 4, 2, (9, 12), (3, 3), {"dilation": (2, 3), "stride": (1, 2), "padding": 1}),
    ConvSizes(2, 3, 1, (300,), (16,), {"stride": 8, "padding": 4}),
    ConvSizes(1, 2, 3, (90,), (10,), {"stride": 5, "padding": 2}),
    ConvSizes(1, 2, 3, (6000,), (8,), {"stride": 4, "padding": 2}),
    ConvSizes(2, 20, 8, (40, 41), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(1, 150, 3, (16, 16), (3, 3), {"padding": 1}),
    ConvSizes(1, 30, 5, (64, 64), (2, 2), {"stride": 2}),
    # Volumes: cut along the depth and along the rows, with borders and phases of the depth too.
    ConvSizes(2, 5, 2, (3, 4, 5), (3, 3, 3), {"padding": 1}),
    ConvSizes(1, 4, 3, (40, 9, 20), (3, 2, 3), {"padding": ((2, 0), (0, 1), (1, 1))}),
    ConvSizes(1, 3, 2, (4, 60, 33), (3, 3, 3), {"padding": 1}),
    ConvSizes(2, 6, 3, (4, 5, 6), (3, 2, 4), {"stride": (2, 3, 2), "output_padding": 1}),
    ConvSizes(1, 4, 2, (5, 6, 7), (2, 3, 3), {"dilation": (2, 1, 3), "stride": (3, 1, 2), "padding": (1, 2, 0)}),
)


def run(packed: PackedConvTranspose, x: Any, activation: int = 1) -> Any:
    """Return y by planes of products."""
    geometry = packed.geometry
    maps = with_axes(x, geometry.S, False)
    plan = packed.plan("test", sizes_of(maps, False))
    weight = packed.arrays["weight"]
    five = weight.reshape(*weight.shape[:2], *geometry.kernel)
    y = np.full((len(x), packed.channels[1], *plan.sizes), np.nan, packed.dtype)
    kernels: Any = direct_kernels(five, packed.arrays.get("bias"), None, geometry, True, "taps")
    kernels.run(maps, y, plan.windows, False, activation, False)
    return without_axes(y, geometry)


@pytest.mark.parametrize("params", [("bias",), ()], ids=["bias", "plain"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(
    sizes: ConvSizes, params: tuple[str, ...], threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = ConvProblem.random(rng, sizes, dtype, kind="conv_transpose", params=params, activation="relu")
    options = {name: value for name, value in problem.options.items() if name != "activation"}
    packed = ops.pack_conv_transpose(**problem.params, **options)
    assert_close("conv_forward", run(packed, problem.x), problem.exact()["y"])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_same_bits_for_any_team_and_batch(sizes: ConvSizes, isa: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, sizes._replace(N=3), np.float32, kind="conv_transpose")
    packed = ops.pack_conv_transpose(**problem.params, **problem.options)
    before = ops.get_num_threads()
    try:
        ops.set_num_threads(1)
        alone = np.concatenate([run(packed, one[None]) for one in problem.x])
        for count in (1, 2, 4):
            ops.set_num_threads(count)
            assert_same_bits(run(packed, problem.x), alone, f" with {count} threads")
    finally:
        ops.set_num_threads(before)


def test_what_is_not_finite_stays_where_it_is_seen(isa: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(
        rng, ConvSizes(1, 4, 2, (9, 20), (3, 3), {"stride": 2, "padding": 1}), np.float32, kind="conv_transpose"
    )
    packed = ops.pack_conv_transpose(**problem.params, **problem.options)
    problem.x[0, 1, 4, 7] = np.nan
    seen = np.zeros((17, 39), bool)
    seen[7:10, 13:16] = True  # places 2 * o + t - 1
    for plane in run(packed, problem.x, 0)[0]:
        assert (np.isnan(plane) == seen).all()


def test_few_maps_take_it(rng: np.random.Generator) -> None:
    """Few maps from many, and pixels enough for vectors. Else, or with the channels last: another way."""
    for sizes, layout, way in (
        (ConvSizes(1, 64, 2, (28, 28), (4, 4), {}), None, "taps"),
        (ConvSizes(1, 64, 1, (4000,), (8,), {}), None, "taps"),
        (ConvSizes(1, 64, 64, (28, 28), (4, 4), {}), None, "turned"),
        (ConvSizes(1, 64, 2, (2, 2), (4, 4), {}), None, "stretches"),
        (ConvSizes(1, 256, 2, (28, 28), (4, 4), {}), "NHWC", "stretches"),
    ):
        problem = ConvProblem.random(rng, sizes, np.float32, kind="conv_transpose")
        packed = ops.pack_conv_transpose(problem.params["weight"], stride=2, layout=layout)
        counts = (1,) * (3 - len(sizes[3])) + tuple(sizes[3])
        assert packed.plan("test", (counts[0], counts[1], counts[2])).way == way
