"""Winograd convolution with groups: by itself where groups have enough maps, equal to the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn.errors import ArgumentError
from fastrnn.ops._packed_conv import PackedConv

SIZES = (
    ConvSizes(2, 34, 50, (36, 41), (3, 3), {"groups": 2, "padding": 1}),
    ConvSizes(1, 48, 48, (50, 41), (3, 3), {"groups": 3, "padding": ((2, 0), (0, 1)), "flip": True}),
    ConvSizes(1, 32, 36, (34, 33), (5, 4), {"groups": 2}),
    ConvSizes(3, 80, 85, (7, 6), (3, 3), {"groups": 5, "padding": 1}),
    ConvSizes(2, 152, 140, (9, 8), (3, 3), {"groups": 2, "padding": 1}),
)


@pytest.mark.parametrize("params", [("bias", "gain"), ()], ids=["bias", "plain"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(
    sizes: ConvSizes, params: tuple[str, ...], isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = ConvProblem.random(rng, sizes, dtype, params=params, activation="tanh")
    options = {name: value for name, value in problem.options.items() if name != "activation"}
    packed: PackedConv = ops.pack_conv(**problem.params, **options)
    plan = packed.plan("test", (1, *sizes.sizes), keep=True)
    assert plan.algorithm == "winograd"
    assert plan.least_batch is not None
    assert plan.least_batch <= sizes.N
    assert_close("winograd", problem.results(ops), problem.exact())


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_same_bits_for_any_team_and_batch(sizes: ConvSizes, isa: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, sizes._replace(N=2), np.float32)
    before = ops.get_num_threads()
    try:
        ops.set_num_threads(1)
        alone = problem.results(ops)
        one: Any = ops.conv_forward(problem.x[1:], **problem.params, **problem.options)
        assert_same_bits(one[0], alone["y"][1])
        for count in (2, 3):
            ops.set_num_threads(count)
            assert_same_bits(problem.results(ops), alone, f" with {count} threads")
    finally:
        ops.set_num_threads(before)


def test_others_run_directly(rng: np.random.Generator) -> None:
    """Small groups, small maps, channels last, a stride, and where it is wished; it cannot be asked for."""
    weight = rng.standard_normal((64, 32, 3, 3)).astype(np.float32)
    for options, size, algorithm in (
        ({}, 28, "winograd"),
        ({}, 20, "winograd"),
        ({}, 14, "winograd"),
        ({}, 7, "winograd"),
        ({}, 5, "direct"),
        ({"layout": "NHWC"}, 28, "direct"),
        ({"stride": 2}, 28, "direct"),
        ({"algorithm": "direct"}, 28, "direct"),
        ({"padding_mode": "reflect"}, 28, "direct"),
    ):
        packed: PackedConv = ops.pack_conv(weight, padding=1, groups=2, **options)
        assert packed.plan("test", (1, size, size)).algorithm == algorithm
    small: PackedConv = ops.pack_conv(weight[:, :4], padding=1, groups=16)
    assert small.plan("test", (1, 112, 112)).algorithm == "direct"
    with pytest.raises(ArgumentError, match="groups 1"):
        ops.pack_conv(weight, padding=1, groups=2, algorithm="winograd")
