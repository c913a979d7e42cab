"""exp, sigmoid and tanh keep the largest errors that their headers state, over all floats by sampling, and special values."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import Array, layouts
from shapes import FLAT_SIZES
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn._kernels import _activation

FUNCTIONS = ("exp", "sigmoid", "tanh")
FUSED = ("avx2", "avx512", "neon")
INF, NAN = np.inf, np.nan


class Bound(NamedTuple):
    """Largest error in ULP: where multiply-adds are fused, and in the portable kernels."""

    fused: float
    scalar: float


HEADERS = {np.float32: "vmath_f32.h", np.float64: "vmath_f64.h"}


@cache
def stated_bounds(dtype: Any) -> dict[str, Bound]:
    """Return the largest errors that the header of a type states in a table of three lines."""
    header = Path(__file__).parents[2] / "src_c" / "kernels" / HEADERS[dtype]
    if not header.exists():
        pytest.skip("the C sources are not beside the tests")
    lines = re.findall(r"^// +(exp|sigmoid|tanh) +([\d.]+) +([\d.]+)$", header.read_text(), re.MULTILINE)
    return {name: Bound(float(fused), float(scalar)) for name, fused, scalar in lines}


@cache
def sample(dtype: Any) -> Array:
    """Return finite values: every 4099th bit pattern of float32, as many of float64, and densely those that matter most."""
    info = np.finfo(dtype)
    if dtype is np.float32:
        patterns = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(dtype)
    else:
        patterns = np.arange(0, 2**64 - 1, 2**64 // 100_003, dtype=np.uint64).view(dtype)
    edge = np.log(info.max)
    dense = [np.linspace(-width, width, 20_001, dtype=dtype) for width in (1e-3, 0.2, 1, 20, 1.3 * edge)]
    edges = [np.linspace(x - 1e-3, x + 1e-3, 2001, dtype=dtype) for x in (-edge, edge, np.log(info.smallest_subnormal))]
    values = np.concatenate([patterns, *dense, *edges])
    return values[np.isfinite(values)]


def correct(function: str, x: Array) -> Array:
    """Return the value in a wider type, with an error far below an ULP of x's type."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        if function == "sigmoid":
            e = np.exp(-np.abs(wide))
            return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))
        return np.asarray(getattr(np, function)(wide))


@cache
def wanted(function: str, dtype: Any) -> Array:
    return correct(function, sample(dtype))


def ulps(y: Array, exact: Array) -> Array:
    """Return the error of y in units of the last place of the exact value; infinity counts as the next power of two."""
    info = np.finfo(y.dtype)
    beyond = np.ldexp(exact.dtype.type(1), info.maxexp)
    with np.errstate(over="ignore"):
        unit = np.spacing(np.minimum(np.abs(exact), info.max).astype(y.dtype))
    got = np.where(np.isinf(y), np.copysign(beyond, y.astype(exact.dtype)), y.astype(exact.dtype))
    return np.asarray(np.abs(got - np.minimum(exact, beyond)) / unit)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_largest_error(function: str, isa: str, dtype: Any) -> None:
    if dtype is np.float64 and np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no type wider than float64 to compare with")
    x = sample(dtype)
    errors = ulps(getattr(ops, function)(x), wanted(function, dtype))
    worst = int(np.argmax(errors))
    bound = stated_bounds(dtype)[function]
    assert errors[worst] <= (bound.fused if isa in FUSED else bound.scalar), f"{function}({x[worst]!r})"
    assert errors[worst] > 0.5, "the sample misses the hard places"


def test_the_headers_state_all_errors(dtype: Any) -> None:
    bounds = stated_bounds(dtype)
    assert set(bounds) == set(FUNCTIONS)
    assert all(0.5 < bound.fused <= bound.scalar < 4 for bound in bounds.values())


def test_sample_is_right_where_mpmath_is() -> None:
    mpmath = pytest.importorskip("mpmath")
    x = np.array([-700, -87.3, -20.5, -1.1, -1e-9, 1e-300, 0.3, 5.5, 36.9, 709.7])
    with mpmath.workdps(60):
        for function in FUNCTIONS:
            of_mpmath = (lambda v: 1 / (1 + mpmath.exp(-v))) if function == "sigmoid" else getattr(mpmath, function)
            for value, got in zip(x, correct(function, x), strict=True):
                high = float(got)
                exact = of_mpmath(mpmath.mpf(float(value)))
                error = abs(mpmath.mpf(high) + mpmath.mpf(float(got - high)) - exact) / np.spacing(abs(high))
                assert error < 0.01, (function, value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_fused_isas_agree_bit_for_bit(function: str, dtype: Any) -> None:
    before = ops.get_isa()
    fused = [name for name in ops.available_isas() if name in FUSED]
    if len(fused) < 2:
        pytest.skip(f"this CPU has only {fused}")
    results = []
    for name in fused:
        ops.set_isa(name)
        results.append(getattr(ops, function)(sample(dtype)))
    ops.set_isa(before)
    for other in results[1:]:
        assert_same_bits(other, results[0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bounds_of_the_values(function: str, isa: str, dtype: Any) -> None:
    x = sample(dtype)
    y = getattr(ops, function)(x)
    assert not np.isnan(y).any()
    assert (np.signbit(y) == (np.signbit(x) if function == "tanh" else False)).all()
    if function != "exp":
        assert np.abs(y).max() == 1
    if function == "tanh":
        assert_same_bits(ops.tanh(-x), -y)


@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        ("exp", [0, -0.0, INF, -INF, NAN, 1e-45, -1e-45, 1e38, -1e38], [1, 1, INF, 0, NAN, 1, 1, INF, 0]),
        ("sigmoid", [0, -0.0, INF, -INF, NAN, 1e-45, -1e-45, 1e38, -1e38], [0.5, 0.5, 1, 0, NAN, 0.5, 0.5, 1, 0]),
        ("tanh", [0, -0.0, INF, -INF, NAN, 1e38, -1e38], [0, -0.0, 1, -1, NAN, 1, -1]),
        ("tanh", [1e-45, -1e-45, 1e-39, -1e-39, 1e-30], [1e-45, -1e-45, 1e-39, -1e-39, 1e-30]),
    ],
)
def test_special_values(function: str, x: list[float], y: list[float], isa: str, dtype: Any) -> None:
    given, expected = np.array(x, dtype), np.array(y, dtype)
    got = getattr(ops, function)(np.tile(given, 5))  # in whole vectors and in the tail
    assert_close("exp", got, np.tile(expected, 5))
    assert (np.signbit(got) == np.signbit(np.tile(expected, 5)))[~np.isnan(got)].all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("size", FLAT_SIZES)
def test_tails_have_the_same_bits(function: str, size: int, isa: str, dtype: Any) -> None:
    x = np.linspace(-5, 5, 1000, dtype=dtype)
    call = getattr(ops, function)
    assert_same_bits(call(x[:size]), call(x)[:size])
    assert_same_bits(call(x[1000 - size :]), call(x)[1000 - size :])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (3, 0, 2), (2, 3, 4, 5)], ids=str)
def test_shapes(function: str, shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    x = np.asarray(rng.standard_normal(shape))
    y = getattr(ops, function)(x)
    assert isinstance(y, np.ndarray)
    assert y.shape == shape
    assert_same_bits(y.reshape(-1), getattr(ops, function)(x.reshape(-1)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_memory_layout(function: str, isa: str, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4, 7)).astype(dtype)
    call = getattr(ops, function)
    for name, array in layouts(x).items():
        before = array.copy()
        assert_same_bits(call(array), call(x), f" with x {name}")
        assert_same_bits(array, before)
    assert_same_bits(call(np.broadcast_to(x[0], (5, 4, 7))), call(np.broadcast_to(x[0], (5, 4, 7)).copy()))


def test_large_arguments_are_not_reduced_wrongly(isa: str) -> None:
    """Past the saturation limits nothing comes back from the reduction."""
    x = np.geomspace(50, 3e38, 5000)
    for dtype in (np.float32, np.float64):
        given = x.astype(dtype)
        assert (ops.tanh(given) == 1).all()
        assert (ops.sigmoid(given) == 1).all()
        assert (ops.exp(-given[given > 750]) == 0).all()
        assert np.isinf(ops.exp(given[given > 710])).all()
        assert math.isclose(float(ops.exp(given[:1])[0]), math.exp(50), rel_tol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_kernel_may_work_in_place(function: str, isa: str, dtype: Any) -> None:
    x = np.linspace(-5, 5, 101, dtype=dtype)
    wanted = getattr(ops, function)(x)
    getattr(_activation, function)(x, x)
    assert_same_bits(x, wanted)
