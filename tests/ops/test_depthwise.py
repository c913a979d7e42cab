"""Depthwise convolution equals the float64 reference where maps are turned to the lanes, and where pixels lie at edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops

# Channels that fill vectors and that do not; maps that are convolved where they lie; strides longer and shorter than the kernel;
# bands of one row, and of several; kernels larger than the map; borders of all kinds; a volume; more maps than channels.
SIZES = (
    ConvSizes(2, 32, 32, (14, 14), (3, 3), {"padding": 1, "stride": 2}),
    ConvSizes(2, 19, 19, (7, 7), (5, 5), {"padding": 2}),
    ConvSizes(1, 17, 17, (3, 3), (7, 7), {"padding": 3}),
    ConvSizes(2, 5, 5, (9, 33), (5, 5), {"padding": 2}),
    ConvSizes(2, 3, 3, (20, 56), (3, 3), {"padding": 1, "flip": True}),
    ConvSizes(2, 4, 8, (6, 12), (7, 7), {"padding": 3}),
    ConvSizes(2, 5, 5, (9, 33), (5, 5), {"padding": 2, "stride": 2}),
    ConvSizes(1, 3, 6, (14, 66), (3, 3), {"padding": ((2, 0), (1, 1)), "stride": 2, "flip": True}),
    ConvSizes(2, 2, 2, (7, 50), (7, 7), {"padding": 3, "stride": 2}),
    ConvSizes(1, 2, 2, (30, 71), (3, 3), {"padding": 2, "stride": 2, "dilation": 2}),
    ConvSizes(2, 18, 18, (17, 16), (5, 4), {"padding": 1, "stride": 3, "flip": True}),
    ConvSizes(1, 21, 21, (9, 8), (3, 2), {"stride": (3, 4), "dilation": (2, 1)}),
    ConvSizes(1, 16, 16, (61, 58), (3, 3), {"padding": ((1, 0), (2, 3)), "stride": 2}),
    ConvSizes(1, 9, 9, (5, 900), (3, 5), {"padding": 2, "stride": (1, 2)}),
    ConvSizes(2, 24, 24, (6, 9), (3, 3), {"padding": 1, "padding_mode": "circular"}),
    ConvSizes(1, 16, 16, (21, 20), (3, 3), {"padding": 2, "padding_mode": "reflect", "stride": 2}),
    ConvSizes(2, 18, 18, (4, 5, 6), (3, 2, 3), {"padding": 1, "stride": (1, 2, 1)}),
    ConvSizes(2, 20, 40, (8, 9), (3, 3), {"padding": 1, "stride": 2}),
    ConvSizes(1, 20, 60, (50, 52), (3, 3), {"padding": 1, "stride": 2}),
    ConvSizes(2, 20, 20, (50,), (31,), {"padding": ((30, 0),)}),
    ConvSizes(1, 33, 33, (70,), (9,), {"padding": 4, "stride": 2}),
)
first_or_last = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def problem_of(rng: np.random.Generator, sizes: ConvSizes, dtype: Any, last: bool, **options: Any) -> ConvProblem:
    """Return a problem with a group for each channel."""
    grouped = sizes._replace(options=sizes.options | {"groups": sizes.C})
    return ConvProblem.random(rng, grouped, dtype, last=last, **options)


@first_or_last
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_reference(
    sizes: ConvSizes, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    for params, activation in ((("bias",), None), (("bias", "gain"), "tanh")):
        problem = problem_of(rng, sizes, dtype, last, params=params, activation=activation)
        wanted, got = problem.exact(), problem.results(ops)
        assert_close("conv_forward", problem.forward(ops), wanted["y"])
        assert_close("conv_vjp", got, wanted)
        ops.set_num_threads(1)
        assert_same_bits(got, problem.results(ops))
        ops.set_num_threads(threads)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_bands_of_maps_where_they_lie(
    kernel: int, stride: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    padding = ((kernel - 1, 0), (kernel // 2, kernel // 2))
    sizes = ConvSizes(1, 2, 2, (70, 113), (kernel, kernel), {"padding": padding, "stride": stride})
    problem = problem_of(rng, sizes, dtype, False, params=())
    assert_close("conv_vjp", problem.results(ops), problem.exact())


@first_or_last
@pytest.mark.parametrize("sizes", [s for s in SIZES[:6] if "flip" not in s.options], ids=str)
def test_transposed(sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    problem = problem_of(rng, sizes, dtype, last, kind="conv_transpose")
    assert_close("conv_vjp", problem.results(ops), problem.exact())


@first_or_last
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_map_has_the_same_bits_in_any_batch(
    sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = problem_of(rng, sizes._replace(N=5), dtype, last)
    whole = problem.results(ops)
    for rows in (slice(0, 1), slice(2, 5)):
        part = replace(problem, x=problem.x[rows], dy=problem.dy[rows]).results(ops)
        assert_same_bits([part["y"], part["dx"]], [whole["y"][rows], whole["dx"][rows]])


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("NCHW", {"stride": 2}),
        ("NHWC", {"stride": 2}),
        ("NCHW", {"padding": 1}),
        ("NHWC", {"padding": 1}),
        ("NHWC", {"padding": ((2, 1), (1, 1))}),
    ],
    ids=str,
)
def test_the_pullback_owns_x(
    layout: str, options: dict[str, Any], isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((2, 20, 9, 20)).astype(dtype)
    weight = rng.standard_normal((20, 1, 3, 3)).astype(dtype)
    y, pullback = ops.conv_vjp(x, weight, groups=20, layout=layout, **options)
    _, before = ops.conv_vjp(x.copy(), weight, groups=20, layout=layout, **options)
    x[:] = np.nan
    assert_same_bits(pullback(y)[1]["weight"], before(y)[1]["weight"])
