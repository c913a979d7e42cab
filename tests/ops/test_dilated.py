"""Winograd convolution with dilation, over phases of the maps, equals the float64 reference at every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import random_arrays
from tolerances import assert_close, assert_same_bits
from winograd_problem import Case, problem, results

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError
from fastrnn.ops._conv_algorithm import prefers_winograd

# x, weight, options. Maps that end within a phase, fewer outputs than phases, borders of more than a window, axes without dilation.
CASES: tuple[Case, ...] = (
    ((2, 3, 21, 37), (5, 3, 3, 3), {"dilation": 2, "padding": 2}),
    ((1, 17, 23, 18), (18, 17, 3, 3), {"dilation": 3}),
    ((2, 2, 12, 31), (4, 2, 5, 2), {"dilation": (1, 4), "padding": ((2, 1), (0, 3))}),
    ((1, 2, 14, 9), (3, 2, 3, 4), {"dilation": (6, 2), "padding": 1}),
    ((2, 3, 5, 7), (4, 3, 3, 3), {"dilation": 2, "padding": 9}),
    ((3, 4, 37), (5, 4, 9), {"dilation": 4, "padding": 16}),
    ((1, 18, 200), (6, 18, 3), {"dilation": 8, "padding": ((16, 0),)}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_reference(case: Any, threads: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays, dy, wanted = problem(case, rng, dtype)
    got = results(arrays, dy, **case[2])
    assert_close("winograd", got, wanted)
    ops.set_num_threads(1)
    assert_same_bits(results(arrays, dy, **case[2]), got)


def test_transposed(isa: str, dtype: type, rng: np.random.Generator) -> None:
    """It takes the algorithm by itself."""
    arrays = random_arrays(rng, {"x": (1, 40, 51, 58), "weight": (40, 40, 3, 3), "bias": (40,)}, dtype)
    arrays["weight"] /= 16
    packed = ops.pack_conv_transpose(**{name: arrays[name] for name in ("weight", "bias")}, dilation=2, padding=1)
    assert packed.plan("test", (1, 51, 58)).winograd
    y, pull = reference.conv_transpose_vjp(
        **{name: array.astype(np.float64) for name, array in arrays.items()}, dilation=2, padding=1
    )
    dy = rng.standard_normal(y.shape).astype(dtype)
    got, pull_fast = ops.conv_transpose_vjp(arrays["x"], packed)
    assert_close("winograd", got, y)
    (dx, grads), (exact_dx, exact_grads) = pull_fast(dy), pull(dy.astype(np.float64))
    assert_close("winograd", {"dx": dx, **grads}, {"dx": exact_dx, **exact_grads})


def test_layers_take_it_where_it_pays(rng: np.random.Generator) -> None:
    """By themselves for many maps and tiles, never with the channels last; a stride beside it is refused."""
    for C, dilation, size, taken in ((64, 2, 64, True), (128, 4, 32, True), (128, 4, 16, False), (16, 2, 32, False)):
        weight = rng.standard_normal((C, C, 3, 3)).astype(np.float32)
        for layout, may in (("NCHW", True), ("NHWC", False)):
            packed = ops.pack_conv(weight, padding=dilation, dilation=dilation, layout=layout)
            assert prefers_winograd(packed.algorithm, packed.geometry, C, C, (1, size, size)) == (taken and may)
    for options in ({"stride": 2}, {"layout": "NHWC"}):
        with pytest.raises(ArgumentError, match="dilation with stride 1 and the channels first"):
            ops.pack_conv(weight, dilation=2, **options, algorithm="winograd")
