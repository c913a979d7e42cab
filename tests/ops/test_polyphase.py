"""Winograd convolution over phases of the maps equals the float64 reference, in every layout and at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import random_arrays
from tolerances import assert_close, assert_same_bits
from winograd_problem import Case, last, problem, results

from fastrnn import ops, reference
from fastrnn._kernels._phases import join_phases, split_phases
from fastrnn.errors import ArgumentError
from fastrnn.ops._conv_algorithm import prefers_winograd

# x, weight, options. Phases with fewer taps than others, strides that differ, maps that end within a window or go on past the last
# one, borders of a whole phase and more.
CASES: tuple[Case, ...] = (
    ((2, 3, 21, 37), (5, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 2, 23, 18), (4, 2, 5, 6), {"stride": 2, "padding": ((2, 1), (0, 3))}),
    ((2, 17, 12, 13), (18, 17, 6, 5), {"stride": 2}),
    ((1, 3, 41, 39), (5, 3, 11, 11), {"stride": 4, "padding": 2}),
    ((2, 2, 9, 31), (3, 2, 3, 7), {"stride": (1, 2), "padding": ((1, 1), (5, 4))}),
    ((1, 2, 19, 40), (3, 2, 8, 9), {"stride": (2, 3)}),
    ((2, 3, 5, 7), (4, 3, 5, 7), {"stride": 2}),
    ((2, 18, 23, 14), (20, 18, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 3, 16, 19), (5, 3, 3, 5), {"stride": (2, 3), "padding": 1}),
    ((3, 4, 37), (5, 4, 9), {"stride": 2, "padding": 4}),
    ((1, 1, 200), (6, 1, 20), {"stride": 4, "padding": ((0, 7),)}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(case: Any, threads: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays, dy, wanted = problem(case, rng, dtype)
    got = results(arrays, dy, **case[2])
    assert_close("winograd", got, wanted)
    turned = results(arrays, dy, **case[2], channels_last=True)
    assert_same_bits([turned["y"], turned["dx"], turned["weight"]], [got["y"], got["dx"], got["weight"]])
    ops.set_num_threads(1)
    assert_same_bits(results(arrays, dy, **case[2]), got)


DILATED: Case = ((2, 3, 21, 37), (5, 3, 3, 3), {"dilation": 2, "padding": 2})


@pytest.mark.parametrize("case", [CASES[0], DILATED], ids=["stride", "dilation"])
def test_a_sample_has_the_same_bits_in_any_batch(case: Case, isa: str, rng: np.random.Generator) -> None:
    arrays, dy, _ = problem(case, rng, np.float32)
    whole = results(arrays, dy, **case[2])
    one = results(arrays | {"x": arrays["x"][1:].copy()}, dy[1:].copy(), **case[2])
    assert_same_bits([one["y"], one["dx"]], [whole["y"][1:], whole["dx"][1:]])


@pytest.mark.parametrize(("kernel", "steps"), [((5, 6), {"stride": 2}), ((3, 3), {"dilation": 2})], ids=str)
def test_options_that_the_phases_do_not_see(
    kernel: tuple[int, int], steps: dict[str, int], isa: str, dtype: type, rng: np.random.Generator
) -> None:
    shapes = {"x": (2, 3, 15, 22), "weight": (7, 3, *kernel), "bias": (7,), "gain": (7,)}
    arrays = random_arrays(rng, shapes, dtype)
    arrays["weight"] /= 8
    options: dict[str, Any] = {**steps, "padding": 2, "flip": True, "activation": "tanh"}
    y, pull = reference.conv_vjp(**{name: array.astype(np.float64) for name, array in arrays.items()}, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    got, pull_fast = ops.conv_vjp(**arrays, **options, algorithm="winograd")
    assert_close("winograd", got, y)
    (dx, grads), (exact_dx, exact_grads) = pull_fast(dy), pull(dy.astype(np.float64))
    assert_close("winograd", {"dx": dx, **grads}, {"dx": exact_dx, **exact_grads})


@pytest.mark.parametrize(("kernel", "steps"), [(7, {"stride": 2}), (3, {"dilation": 9})], ids=str)
def test_empty_batch(kernel: int, steps: dict[str, int], isa: str, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((4, 3, kernel, kernel)).astype(np.float32)
    y, pull = ops.conv_vjp(np.zeros((0, 3, 30, 30), np.float32), weight, **steps, algorithm="winograd")
    assert y.shape == (0, 4, 12, 12)
    dx, grads = pull(y)
    assert dx.shape == (0, 3, 30, 30)
    assert not grads["weight"].any()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("step", [(1, 2), (2, 3), (3, 1)], ids=str)
def test_phases(
    step: tuple[int, int], channels_last: bool, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """Phases as NumPy takes them; put together again they are the maps, with zeros where there is no phase."""
    low, sizes, counts = (3, 1), (10, 37), (4, 21)
    maps = rng.standard_normal((2, 3, *sizes)).astype(dtype)
    padded = np.zeros((2, 3, counts[0] * step[0] + 99, counts[1] * step[1] + 99), dtype)
    padded[:, :, low[0] : low[0] + sizes[0], low[1] : low[1] + sizes[1]] = maps
    covered = padded[:, :, : counts[0] * step[0], : counts[1] * step[1]]
    split = covered.reshape(2, 3, counts[0], step[0], counts[1], step[1]).transpose(0, 3, 5, 1, 2, 4)
    wanted = np.ascontiguousarray(split).reshape(2, -1, *counts)
    turn = last if channels_last else np.ascontiguousarray
    phases, joined = np.full_like(turn(wanted), np.nan), np.full_like(turn(maps), np.nan)
    split_phases(turn(maps), phases, step, low, channels_last)
    assert_same_bits(phases, turn(wanted))
    join_phases(phases, joined, step, low, channels_last)
    inside = np.zeros_like(padded)
    inside[:, :, : covered.shape[2], : covered.shape[3]] = covered
    back = inside[:, :, low[0] : low[0] + sizes[0], low[1] : low[1] + sizes[1]]
    assert_same_bits(joined, turn(np.ascontiguousarray(back)))


@pytest.mark.parametrize(
    ("C", "K", "y", "transposed"),
    [(16, 64, True, False), (32, 32, True, True), (64, 16, False, False), (64, 128, False, False)],
)
def test_many_maps_take_it_where_weights_serve_many_calls(
    C: int, K: int, y: bool, transposed: bool, rng: np.random.Generator
) -> None:
    packed = ops.pack_conv(rng.standard_normal((K, C, 4, 4)).astype(np.float32), stride=2, padding=1)
    arguments = "auto", packed.geometry, C, K, (1, 28, 28)
    assert prefers_winograd(*arguments) == y
    assert prefers_winograd(*arguments, backward=True) == transposed
    assert not prefers_winograd(*arguments, gradient=True)
    assert not prefers_winograd(*arguments, backward=True, gradient=True)
    plan = packed.plan("test", (1, 56, 56))
    assert (plan.algorithm, plan.algorithm_back) == ("winograd" if y else "direct", "direct")


def test_first_layers_take_it(rng: np.random.Generator) -> None:
    """By themselves where the saving is large and the maps are; it is refused where a phase has only one tap."""
    for kernel, stride, sizes, taken in (
        (7, 2, (224, 224), True),
        (11, 4, (227, 227), True),
        (7, 2, (64, 64), False),
        (5, 2, (224, 224), False),
        (4, 2, (224, 224), False),
        (11, 2, (224, 224), False),  # its phases are cut into pieces
    ):
        weight = rng.standard_normal((64, 3, kernel, kernel)).astype(np.float32)
        packed = ops.pack_conv(weight, stride=stride)
        counts = packed.geometry.counts("test", (1, *sizes))
        assert prefers_winograd("auto", packed.geometry, 3, 64, counts) == taken
    for C, K, stride, size, taken in (
        (32, 64, 2, 56, True),
        (8, 64, 2, 56, False),
        (32, 64, 2, 20, False),
        (64, 64, 3, 56, False),
    ):
        weight = rng.standard_normal((K, C, 4, 4)).astype(np.float32)
        packed = ops.pack_conv(weight, stride=stride, padding=1)
        counts = packed.geometry.counts("test", (1, size, size))
        assert prefers_winograd("auto", packed.geometry, C, K, counts) == taken
    for kernel, stride in ((2, 2), (3, 3), (23, 2)):
        weight = rng.standard_normal((4, 3, kernel, kernel)).astype(np.float32)
        with pytest.raises(ArgumentError, match="kernels 2 to 11 strides long, rounded up, on two axes"):
            ops.pack_conv(weight, stride=stride, algorithm="winograd")
