"""Dropout: masks from a generator, the same in both twins; means, ownership, threads, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients, layouts
from shapes import FLAT_SIZES
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("size", FLAT_SIZES)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_equals_reference(size: int, p: float, isa: str, dtype: Any, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, size)).astype(dtype)
    results = []
    for module in (ops, reference):
        y, pullback = module.dropout_vjp(x, p, rng=7)
        results.append((y, pullback(dy)))
        assert y.dtype == dtype
    assert_close("exp", results[0], results[1])


@pytest.mark.parametrize("shared", [(), (0,), (1, 2), (-1, 0), (0, 1, 2)])
def test_shared_axes(shared: tuple[int, ...], rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 5, 6))
    y, pullback = ops.dropout_vjp(x, 0.4, rng=3, shared=shared)
    factor = y / x
    for axis in shared:
        assert (factor == factor.take([0], axis)).all() or np.allclose(factor, factor.take([0], axis))
    assert_close("exp", y, reference.dropout_vjp(x, 0.4, rng=3, shared=shared)[0])
    assert_close("exp", pullback(np.ones_like(x)), factor)


def test_finite_differences(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 30))
    _, pullback = reference.dropout_vjp(x, 0.5, rng=1)
    grads = {"x": pullback(dy)}
    assert_gradients(lambda: float((dy * reference.dropout_vjp(x, 0.5, rng=1)[0]).sum()), {"x": x}, grads)


@pytest.mark.parametrize("p", [0.01, 0.25, 0.5, 0.9])
def test_rate_and_mean(p: float) -> None:
    y, _ = ops.dropout_vjp(np.ones(400_000, np.float32), p, rng=0)
    spread = np.sqrt(p * (1 - p) / y.size)
    assert abs((y == 0).mean() - p) < 5 * spread
    assert abs(y.mean() - 1) < 5 * spread / (1 - p)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - p))}
    # neighbours, which share 64 random bits, are independent
    dropped = y == 0
    assert abs((dropped[::2] & dropped[1::2]).mean() - p * p) < 5 / np.sqrt(y.size / 2)


def test_a_generator_goes_on_and_a_seed_starts_anew() -> None:
    x, generator = np.ones(100), np.random.default_rng(5)
    first, second = (ops.dropout_vjp(x, 0.5, rng=generator)[0] for _ in range(2))
    assert (first != second).any()
    assert_same_bits(first, ops.dropout_vjp(x, 0.5, rng=5)[0])
    assert (ops.dropout_vjp(x, 0.5)[0] != ops.dropout_vjp(x, 0.5)[0]).any()


def test_dropped_infinities_as_in_torch(dtype: Any) -> None:
    y, _ = ops.dropout_vjp(np.full(100, INF, dtype), 0.5, rng=0)
    assert set(map(str, y.tolist())) == {"inf", "nan"}
    assert np.isnan(ops.dropout_vjp(np.full(3, NAN, dtype), 0.5, rng=0)[0]).all()


def test_threads_layouts_and_ownership(threads: int, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 3, 9000, 7))
    y, pullback = ops.dropout_vjp(x, 0.5, rng=2)
    wanted, dx = y.copy(), reference.dropout_vjp(x, 0.5, rng=2)[1](dy)
    y[...] = NAN
    assert_close("exp", pullback(dy), dx)
    for name, array in layouts(x).items():
        assert_same_bits(ops.dropout_vjp(array, 0.5, rng=2)[0], wanted, name)


def test_bad_input() -> None:
    x = np.ones((2, 3))
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("p", {"p": -0.1}),
        ("p", {"p": 1.1}),
        ("p", {"p": NAN}),
        ("p", {"p": "0.5"}),
        ("rng", {"rng": -1}),
        ("rng", {"rng": "seed"}),
        ("shared", {"shared": (2,)}),
        ("shared", {"shared": (0.5,)}),
    ]
    for argument, changes in wrong:
        with pytest.raises(ArgumentError, match=f"^dropout_vjp: '{argument}' must .*, got "):
            ops.dropout_vjp(x, **{"p": 0.5, **changes})
    with pytest.raises(DTypeError, match="^dropout_vjp: 'x' must .*, got "):
        ops.dropout_vjp(x.astype(int), 0.5)
    _, pullback = ops.dropout_vjp(x, 0.5)
    with pytest.raises(ShapeError, match="^dropout_vjp: 'dy' must .*, got "):
        pullback(x.T)
    pullback(x)
    with pytest.raises(RuntimeError, match="once"):
        pullback(x)
