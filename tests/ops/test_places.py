"""Convolution of one tap with a stride: only the places that it reads are moved, and gradients put back among zeros."""

from __future__ import annotations

import numpy as np
import pytest
from conv_problem import ConvProblem
from numeric import Array
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

import fastrnn as fr
from fastrnn import ops
from fastrnn._kernels._places import put_places, take_places
from fastrnn.ops._packed_conv import PackedConv
from fastrnn.ops._spatial import sizes_of, with_axes

STEPS = ((1, 2, 2), (2, 1, 3), (1, 3, 1), (3, 2, 2), (1, 1, 5))
SIZES = (
    ConvSizes(2, 5, 7, (9, 40), (1, 1), {"stride": 2}),
    ConvSizes(3, 20, 33, (7, 6), (1, 1), {"stride": (3, 2)}),
    ConvSizes(1, 6, 4, (31,), (1,), {"stride": 3}),
    ConvSizes(2, 8, 6, (5, 6, 7), (1, 1, 1), {"stride": (2, 1, 2), "groups": 2}),
    ConvSizes(2, 17, 17, (9, 35), (1, 1), {"stride": 2, "groups": 17}),
    ConvSizes(2, 4, 5, (2, 2), (1, 1), {"stride": 2}),
    ConvSizes(5, 37, 40, (12, 70), (1, 1), {"stride": 2}),
    ConvSizes(2, 33, 6, (8, 101), (1, 1), {"stride": 3}),
    ConvSizes(3, 18, 70, (4, 4), (1, 1), {"stride": 2}),
    ConvSizes(2, 6, 50, (6, 9), (1, 1), {"stride": (3, 1), "groups": 2}),
    ConvSizes(2, 5, 20, (30,), (1,), {"stride": 5}),
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

    for sizes in ((4, 5, 1), (4, 5, 15), (4, 5, 33), (4, 5, 70), (1, 4, 7), (1, 5, 6), (1, 1, 9)):
        x = rng.standard_normal((2, 3, *sizes)).astype(dtype)
        d, h, w = step
        wanted = np.ascontiguousarray(x[:, :, ::d, ::h, ::w])
        taken = np.full_like(layout(wanted), np.nan)
        take_places(layout(x), taken, step, last)
        assert_same_bits(taken, layout(wanted))
        back, zeros = np.full_like(layout(x), np.nan), np.zeros_like(x)
        put_places(taken, back, step, last)
        zeros[:, :, ::d, ::h, ::w] = wanted
        assert_same_bits(back, layout(zeros))


def test_maps_past_the_caches(threads: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 5, 1, 400, 410)).astype(np.float32)
    taken, back = np.empty((2, 5, 1, 200, 137), np.float32), np.full_like(x, np.nan)
    take_places(x, taken, (1, 2, 3), False)
    assert_same_bits(taken, x[..., ::2, ::3])
    put_places(taken, back, (1, 2, 3), False)
    zeros = np.zeros_like(x)
    zeros[..., ::2, ::3] = taken
    assert_same_bits(back, zeros)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    for params in (("bias", "gain"), ("bias",)):
        problem = ConvProblem.random(rng, sizes, dtype, last=last, params=params, activation="relu")
        got, wanted = problem.results(ops), problem.exact()
        assert_close("conv_vjp", got, wanted)
        assert_same_bits(problem.forward(ops), got["y"])


@pytest.mark.parametrize("way", ["turned", "planes"])
@pytest.mark.parametrize("sizes", SIZES[:-2], ids=str)
def test_reading_apart_gives_the_bits_of_what_was_taken(
    sizes: ConvSizes, way: str, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = ConvProblem.random(rng, sizes, dtype)
    packed: PackedConv = ops.pack_conv(problem.params["weight"], **sizes.options)
    maps = with_axes(problem.x, len(sizes.sizes), channels_last=False)
    plan = packed.plan("test", sizes_of(maps, False))
    if not plan.apart:
        pytest.skip("one place, or one channel for each map: something else computes it")
    d, h, w = packed.geometry.stride
    taken, kernels = np.ascontiguousarray(maps[:, :, ::d, ::h, ::w]), packed.direct(False, way)
    outputs = [np.full((sizes.N, sizes.K, *plan.counts), np.nan, dtype) for _ in range(2)]
    for x, y in zip((maps[:, :, ::d, ::h, ::w], taken), outputs, strict=True):
        kernels.run(x, y, plan.windows, False, 0, False)
    assert_same_bits(*outputs)


def test_only_what_is_read_is_kept(rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, ConvSizes(2, 16, 24, (56, 56), (1, 1), {"stride": 2}), np.float32)
    packed: PackedConv = ops.pack_conv(problem.params["weight"], stride=2)
    kept = packed.plan("test", (1, 56, 56), keep=True)
    assert (kept.spread, kept.apart, kept.whole) == ((1, 56, 56), False, (1, 28, 28))
    for size in (7, 56):
        plan = packed.plan("test", (1, size, size))
        assert (plan.spread, plan.apart) == (None, True)


def test_prepared_calls_read_apart(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 16, 14, 14)).astype(np.float32)
    layer = fr.Conv2d(16, 24, 1, stride=2)
    first = layer(x)
    assert_same_bits(layer(x), first)
    other = x[::-1].copy()
    assert_same_bits(layer(other), first[::-1])
