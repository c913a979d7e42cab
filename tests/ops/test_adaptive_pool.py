"""Pooling to a given size equals the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, random_arrays
from shapes import ADAPTIVE_POOLS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, ShapeError

LAST = {3: "NLC", 4: "NHWC", 5: "NDHWC"}
each_layout = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
each_problem = pytest.mark.parametrize(("shape", "output_size"), ADAPTIVE_POOLS, ids=str)


def maps(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, last: bool) -> tuple[Array, str | None]:
    """Return random maps and their layout."""
    x = random_arrays(rng, {"x": shape}, dtype)["x"]
    return (np.ascontiguousarray(np.moveaxis(x, 1, -1)), LAST[len(shape)]) if last else (x, None)


@each_layout
@each_problem
def test_average(
    shape: tuple[int, ...], output_size: Any, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    x, layout = maps(rng, shape, dtype, last)
    y, exact = reference.adaptive_avg_pool_vjp(x.astype(float), output_size, layout=layout)
    got, pullback = ops.adaptive_avg_pool_vjp(x, output_size, layout=layout)
    dy = rng.standard_normal(y.shape).astype(dtype)
    assert got.dtype == dtype
    assert_close("pool_forward", got, y)
    assert_close("pool_vjp", pullback(dy), exact(dy.astype(float)))
    assert_same_bits(ops.adaptive_avg_pool_forward(x, output_size, layout=layout), got)


@each_layout
@each_problem
def test_maximum(
    shape: tuple[int, ...], output_size: Any, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    x, layout = maps(rng, shape, dtype, last)
    x = x.round(1)
    x[rng.random(x.shape) < 0.05] = np.nan
    (y, indices), exact = reference.adaptive_max_pool_vjp(x, output_size, layout=layout)
    (got, got_indices), pullback = ops.adaptive_max_pool_vjp(x, output_size, layout=layout)
    dy = rng.standard_normal(y.shape).astype(dtype)
    assert got_indices.dtype == np.int64
    assert_close("exact", (got, got_indices), (y, indices))
    dx = pullback(dy)
    assert_close("pool_vjp", dx, exact(dy.astype(float)))
    assert_close("exact", ops.adaptive_max_pool_forward(x, output_size, layout=layout), (y, indices))
    assert_close("exact", ops.adaptive_max_pool_values(x, output_size, layout=layout), y)
    values, pull = ops.adaptive_max_pool_values_vjp(x, output_size, layout=layout)
    assert_close("exact", values, y)
    assert_same_bits(pull(dy), dx)


def test_empty_batch() -> None:
    x = np.zeros((0, 3, 6, 5), np.float32)
    for size in (1, 4):
        assert ops.adaptive_avg_pool_forward(x, size).shape == (0, 3, size, size)
        (y, indices), pullback = ops.adaptive_max_pool_vjp(x, size)
        assert y.shape == indices.shape == (0, 3, size, size)
        assert pullback(y).shape == x.shape


@pytest.mark.parametrize("operation", ["adaptive_avg_pool", "adaptive_max_pool"])
def test_bad_input(operation: str) -> None:
    x = np.zeros((2, 3, 6, 5), np.float32)
    for call in ("forward", "vjp"):
        function = getattr(ops, f"{operation}_{call}")
        with pytest.raises(ArgumentError, match=f"{operation}_{call}: 'output_size' must be a positive int, got 0"):
            function(x, 0)
        with pytest.raises(ArgumentError, match="'output_size' must be a positive int, got -1"):
            function(x, (None, -1))
        with pytest.raises(ShapeError, match=rf"{operation}_{call}: 'x' must have shape \(N, C, L\)"):
            function(x, (3,))
        with pytest.raises(ShapeError, match="'x' must have spatial sizes of at least 1"):
            function(x[:, :, :0], 1)
        _, pullback = getattr(ops, f"{operation}_vjp")(x, 1)
        with pytest.raises(ShapeError, match="'dy' must have shape"):
            pullback(np.zeros((2, 3, 1), np.float32))
