"""Convolution of one tap with a stride: places are taken out of x first, and gradients put back among zeros."""

from __future__ import annotations

import numpy as np
import pytest
from conv_problem import ConvProblem
from numeric import Array
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn._kernels._places import put_places, take_places
from fastrnn.ops._packed_conv import PackedConv

STEPS = ((1, 2, 2), (2, 1, 3), (1, 3, 1), (3, 2, 2), (1, 1, 5))
SIZES = (
    ConvSizes(2, 5, 7, (9, 40), (1, 1), {"stride": 2}),
    ConvSizes(3, 20, 33, (7, 6), (1, 1), {"stride": (3, 2)}),
    ConvSizes(1, 6, 4, (31,), (1,), {"stride": 3}),
    ConvSizes(2, 8, 6, (5, 6, 7), (1, 1, 1), {"stride": (2, 1, 2), "groups": 2}),
    ConvSizes(2, 17, 17, (9, 35), (1, 1), {"stride": 2, "groups": 17}),
    ConvSizes(2, 4, 5, (2, 2), (1, 1), {"stride": 2}),
    ConvSizes(2, 4, 5, (9, 8), (1, 1), {"stride": 2, "padding": 1}),
    ConvSizes(0, 4, 5, (9, 8), (1, 1), {"stride": 2}),
)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_taken_and_put_back(
    step: tuple[int, int, int], last: bool, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    def layout(maps: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(maps, 1, -1) if last else maps)

    for width in (1, 15, 33, 70):
        x = rng.standard_normal((2, 3, 4, 5, width)).astype(dtype)
        d, h, w = step
        wanted = np.ascontiguousarray(x[:, :, ::d, ::h, ::w])
        taken = np.full_like(layout(wanted), np.nan)
        take_places(layout(x), taken, step, last)
        assert_same_bits(taken, layout(wanted))
        back, zeros = np.full_like(layout(x), np.nan), np.zeros_like(x)
        put_places(taken, back, step, last)
        zeros[:, :, ::d, ::h, ::w] = wanted
        assert_same_bits(back, layout(zeros))


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    for params in (("bias", "gain"), ("bias",)):
        problem = ConvProblem.random(rng, sizes, dtype, last=last, params=params, activation="relu")
        got, wanted = problem.results(ops), problem.exact()
        assert_close("conv_vjp", got, wanted)
        assert_same_bits(problem.forward(ops), got["y"])


def test_only_what_is_read_is_kept(rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, ConvSizes(2, 16, 24, (56, 56), (1, 1), {"stride": 2}), np.float32)
    packed: PackedConv = ops.pack_conv(problem.params["weight"], stride=2)
    assert packed.plan("test", (1, 56, 56), keep=True).spread == (1, 56, 56)
    assert packed.plan("test", (1, 56, 56)).spread is None
    assert packed.plan("test", (1, 7, 7)).spread == (1, 7, 7)
    assert packed.plan("test", (1, 56, 56), keep=True).whole == (1, 28, 28)
