"""Pooling over time equals the float64 reference, and reads nothing past a length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts, random_arrays, random_lengths
from shapes import TIME_POOLS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

LAYOUTS = ("TNC", "NTC", "NCT")
MODES = ("max", "min", "mean", "sum", "kmax")
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
each_mode = pytest.mark.parametrize("mode", MODES)


def sequences(rng: np.random.Generator, sizes: tuple[int, int, int], layout: str, dtype: Any) -> Array:
    """Return random sequences with equal values among them."""
    T, N, C = sizes
    x = random_arrays(rng, {"x": (T, N, C)}, dtype)["x"].round(1)
    return np.ascontiguousarray(x.transpose(["TNC".index(letter) for letter in layout]))


@each_layout
@each_mode
@pytest.mark.parametrize("sizes", TIME_POOLS, ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["full", "lengths"])
def test_equals_reference(
    given: bool, sizes: tuple[int, int, int], mode: str, layout: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    T, N, _ = sizes
    x = sequences(rng, sizes, layout, dtype)
    options: dict[str, Any] = {"lengths": random_lengths(rng, N, T) if given else None, "k": 3, "layout": layout}
    y, exact = reference.time_pool_vjp(x.astype(float), mode, **options)
    got, pullback = ops.time_pool_vjp(x, mode, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    operation = "pool_forward" if mode in {"mean", "sum"} else "exact"
    assert got.dtype == dtype
    assert_close(operation, got, y.astype(dtype) if operation == "exact" else y)
    assert_close("pool_vjp", pullback(dy), exact(dy.astype(float)))
    assert_same_bits(ops.time_pool_forward(x, mode, **options), got)


@each_layout
@pytest.mark.parametrize("mode", ["max", "min", "kmax"])
def test_nan_and_infinities(mode: str, layout: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    for value in (np.nan, np.inf, -np.inf):
        for part in (0.02, 0.5, 1.0):
            x = sequences(rng, (37, 2, 19), layout, dtype)
            x[rng.random(x.shape) < part] = value
            options: dict[str, Any] = {"k": 4, "layout": layout, "lengths": [37, 20]}
            y, exact = reference.time_pool_vjp(x, mode, **options)
            got, pullback = ops.time_pool_vjp(x, mode, **options)
            assert_close("exact", got, y)
            assert_close("exact", ops.time_pool_forward(x, mode, **options), y)
            dy = rng.standard_normal(y.shape).astype(dtype)
            assert_close("exact", pullback(dy), exact(dy))


@each_layout
@each_mode
def test_steps_past_a_length_do_not_count(
    mode: str, layout: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    T, N, C = 21, 3, 18
    x = sequences(rng, (T, N, C), layout, dtype)
    lengths = np.array([4, 21, 17])
    options: dict[str, Any] = {"lengths": lengths, "layout": layout, "k": 2}
    y, pullback = ops.time_pool_vjp(x, mode, **options)
    padded = x.copy()
    past = np.arange(T)[:, None, None] >= lengths[:, None]
    hidden = np.broadcast_to(past, (T, N, C)).transpose(["TNC".index(letter) for letter in layout])
    padded[hidden] = np.nan
    got, pull = ops.time_pool_vjp(padded, mode, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = pull(dy)
    assert_same_bits([got, dx], [y, pullback(dy)])
    assert not dx[hidden].any()


@each_layout
@each_mode
def test_threads_and_batch_give_the_same_bits(
    mode: str, layout: str, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    T, N, C = 130, 3, 50
    x, lengths = sequences(rng, (T, N, C), layout, dtype), np.array([130, 47, 90])
    batch = layout.index("N")
    options: dict[str, Any] = {"layout": layout, "k": 3}
    got, pullback = ops.time_pool_vjp(x, mode, lengths=lengths, **options)
    dx = pullback(got)
    ops.set_num_threads(1)
    y, pullback = ops.time_pool_vjp(x, mode, lengths=lengths, **options)
    assert_same_bits([got, dx], [y, pullback(y)])
    y_batch = batch if mode == "kmax" else 0
    for n in range(N):
        alone = ops.time_pool_forward(x.take([n], batch), mode, lengths=lengths[n : n + 1], **options)
        assert_same_bits(alone, np.ascontiguousarray(y.take([n], y_batch)))


def test_any_memory_layout(isa: str, dtype: type, rng: np.random.Generator) -> None:
    x = sequences(rng, (9, 2, 19), "TNC", dtype)
    wanted = ops.time_pool_forward(x, "max")
    for name, array in layouts(x).items():
        assert_same_bits(ops.time_pool_forward(array, "max"), wanted, f" with x {name}")


def test_pullback_owns_its_lengths_and_runs_once(rng: np.random.Generator) -> None:
    x, lengths = sequences(rng, (6, 2, 3), "TNC", np.float64), np.array([6, 2])
    y, pullback = ops.time_pool_vjp(x, "mean", lengths=lengths)
    lengths[...] = 1
    _, exact = reference.time_pool_vjp(x, "mean", lengths=[6, 2])
    assert_close("pool_vjp", pullback(y), exact(y))
    with pytest.raises(RuntimeError, match="time_pool_vjp: a pullback can be called only once"):
        pullback(y)


@each_mode
def test_empty_batch(mode: str) -> None:
    x = np.zeros((5, 0, 3), np.float32)
    y, pullback = ops.time_pool_vjp(x, mode, lengths=[], k=2)
    assert y.shape == ((2, 0, 3) if mode == "kmax" else (0, 3))
    assert pullback(y).shape == x.shape


@pytest.mark.parametrize("call", ["forward", "vjp"])
def test_bad_input(call: str) -> None:
    name, x = f"time_pool_{call}", np.zeros((5, 2, 3), np.float32)
    function = getattr(ops, name)
    with pytest.raises(ArgumentError, match=f"{name}: 'mode' must be one of 'max', 'min', 'mean', 'sum', 'kmax', got"):
        function(x, "median")
    with pytest.raises(ArgumentError, match=f"{name}: 'layout' must be one of 'TNC', 'NTC', 'NCT', got 'CTN'"):
        function(x, "max", layout="CTN")
    with pytest.raises(ArgumentError, match=f"{name}: 'k' must be a positive int, got 0"):
        function(x, "kmax", k=0)
    with pytest.raises(ShapeError, match=rf"{name}: 'x' must have shape \(N, C, T\), got \(5, 2\)"):
        function(x[..., 0], "max", layout="NCT")
    with pytest.raises(ShapeError, match=f"{name}: 'x' must have from 1 to"):
        function(x[:0], "max")
    with pytest.raises(DTypeError, match=f"{name}: 'x' must have dtype"):
        function(x.astype(np.float16), "max")
    with pytest.raises(LengthsError, match=rf"{name}: 'lengths' must be in 1..T=5, got 6"):
        function(x, "max", lengths=[6, 1])
    with pytest.raises(ShapeError, match=rf"{name}: 'lengths' must have shape \(N=2,\)"):
        function(x, "max", lengths=[1, 1, 1])
    with pytest.raises(DTypeError, match=f"{name}: 'lengths' must have an integer dtype"):
        function(x, "max", lengths=[1.0, 1.0])
