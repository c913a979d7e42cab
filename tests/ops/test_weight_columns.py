"""Gradients of weights by columns, and weights that are packed where they are used, at every size and option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn._kernels._conv import Kernels
from fastrnn._kernels._weight_columns import add_weight_by_columns
from fastrnn.ops._packed_conv import PackedConv, backward_windows, direct_kernels
from fastrnn.ops._spatial import Geometry, Three, sizes_of, with_axes

# Kernels longer than a vector, than the map, and that see nothing but the border; strides, dilations, volumes; parts of channels,
# and samples one by one and together.
SIZES = (
    ConvSizes(1, 1, 1, (1,), (1,), {}),
    ConvSizes(3, 5, 7, (20,), (19,), {"padding": 9}),
    ConvSizes(2, 40, 13, (33,), (5,), {"stride": 2}),
    ConvSizes(1, 1, 100, (4, 16), (3, 3), {"stride": 3}),
    ConvSizes(2, 19, 8, (5, 5), (3, 3), {"stride": 2}),
    ConvSizes(2, 3, 6, (2, 3), (7, 7), {"padding": 3}),
    ConvSizes(1, 2, 5, (1, 1), (3, 3), {"padding": (6, 1), "stride": 4}),
    ConvSizes(2, 6, 20, (9, 8), (3, 4), {"dilation": (3, 1), "padding": ((3, 0), (0, 2))}),
    ConvSizes(1, 70, 37, (7, 7), (5, 5), {"padding": 2}),
    ConvSizes(3, 33, 17, (20, 20), (3, 3), {"padding": 1}),
    ConvSizes(2, 4, 9, (4, 5, 6), (2, 3, 3), {"padding": 1, "stride": (2, 1, 2)}),
)
each_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


def prepared(problem: ConvProblem) -> tuple[PackedConv, Any, Any, Any, Three]:
    """Return the packed weights, x and dy with three spatial axes, the weight with them, and the counts of dy."""
    packed = ops.pack_conv(**problem.params, **problem.options)
    geometry = packed.geometry
    x, dy = (with_axes(np.ascontiguousarray(maps), geometry.S, False) for maps in (problem.x, problem.dy))
    weight = problem.params["weight"]
    return packed, x, dy, weight.reshape(*weight.shape[:2], *geometry.kernel), sizes_of(dy, False)


@each_size
def test_gradient_equals_the_reference(
    sizes: ConvSizes, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = ConvProblem.random(rng, sizes, dtype, kind="conv")
    packed, x, dy, five, counts = prepared(problem)
    start = rng.standard_normal(five.shape).astype(dtype)
    grad = start.copy()
    add_weight_by_columns(dy, x, grad, packed.geometry.windows(sizes_of(x, False), counts))
    exact = problem.exact()["grads"]["weight"].reshape(five.shape) + start
    assert_close("conv_vjp", grad, exact)


@each_size
def test_gradient_has_the_same_bits_for_any_team(sizes: ConvSizes, isa: str, rng: np.random.Generator) -> None:
    packed, x, dy, five, counts = prepared(ConvProblem.random(rng, sizes, np.float32, kind="conv"))
    windows = packed.geometry.windows(sizes_of(x, False), counts)
    before, grads = ops.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            ops.set_num_threads(count)
            grads.append(np.zeros_like(five))
            add_weight_by_columns(dy, x, grads[-1], windows)
    finally:
        ops.set_num_threads(before)
    assert_same_bits(grads[1], grads[0])
    assert_same_bits(grads[2], grads[0])


def both_ways(geometry: Geometry, x: Any, dy: Any) -> Any:
    """Yield for y and for dx: whether it is dx, what is read, the shape of what is written, and the windows."""
    counts = sizes_of(dy, False)
    whole, back = backward_windows(geometry, sizes_of(x, False), counts)
    yield False, x, dy.shape, geometry.windows(sizes_of(x, False), counts)
    yield True, dy, (*x.shape[:2], *whole), back


@each_size
def test_weights_packed_where_they_are_used_give_the_same_bits(
    sizes: ConvSizes, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """The first call packs panel by panel, the second all panels."""
    packed, x, dy, five, _ = prepared(ConvProblem.random(rng, sizes, dtype, kind="conv", params=("bias",)))
    for backward, given, shape, windows in both_ways(packed.geometry, x, dy):
        bias = None if backward else packed.bias
        results = []
        for later, calls in ((False, 1), (True, 3)):
            kernels: Any = direct_kernels(five, bias, None, packed.geometry, backward, "turned", later)
            assert isinstance(kernels, Kernels)
            for _ in range(calls):
                results.append(np.full(shape, np.nan, dtype))
                kernels.run(given, results[-1], windows, False, 1, False)
        assert np.isfinite(results[0]).all()
        for other in results[1:]:
            assert_same_bits(other, results[0])
