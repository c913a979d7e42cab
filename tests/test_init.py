"""Initial values: variances, bounds, orthogonality, seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastrnn import init
from fastrnn.errors import ArgumentError

RANDOM: list[Callable[..., Any]] = [
    init.glorot_normal,
    init.glorot_uniform,
    init.he_normal,
    init.he_uniform,
    init.normal,
    init.orthogonal,
    init.uniform,
]


@pytest.mark.parametrize("draw", RANDOM)
def test_seeds_and_dtypes(draw: Callable[..., Any]) -> None:
    single, double = (draw((5, 4), dtype=dtype, rng=3) for dtype in (np.float32, np.float64))
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    assert single.flags.c_contiguous
    assert_array_equal(single, double.astype(np.float32))
    assert_array_equal(double, draw((5, 4), dtype=np.float64, rng=np.random.default_rng(3)))
    assert not np.array_equal(draw((5, 4)), draw((5, 4)))
    generator = np.random.default_rng(3)
    assert not np.array_equal(draw((5, 4), rng=generator), draw((5, 4), rng=generator))


# fan_in 60, fan_out 40 for both shapes. Of 1200 normal values the variance has a relative deviation of 4%.
@pytest.mark.parametrize("shape", [(40, 60), (20, 30, 2, 1)])
@pytest.mark.parametrize(
    ("draw", "variance"),
    [
        (init.glorot_normal, 2 / 100),
        (init.glorot_uniform, 2 / 100),
        (init.he_normal, 2 / 60),
        (init.he_uniform, 2 / 60),
        (init.uniform, 0.05**2 / 3),
        (init.normal, 1.0),
    ],
)
def test_variance(draw: Callable[..., Any], variance: float, shape: tuple[int, ...]) -> None:
    values = draw(shape, dtype=np.float64, rng=1)
    assert values.shape == shape
    assert_allclose(values.var(), variance, rtol=0.15)
    assert abs(values.mean()) < 4 * np.sqrt(variance / values.size)


@pytest.mark.parametrize(
    ("draw", "bound"),
    [(init.glorot_uniform, np.sqrt(6 / 100)), (init.he_uniform, np.sqrt(6 / 60)), (init.uniform, 0.05)],
)
def test_bounds(draw: Callable[..., Any], bound: float) -> None:
    values = draw((40, 60), dtype=np.float64, rng=1)
    assert 0.99 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 3), (3, 7), (4, 2, 3), (16, 16)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    values = init.orthogonal(shape, gain=gain, dtype=np.float64, rng=0)
    assert values.shape == shape
    matrix = values.reshape(shape[0], -1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-13)


def test_orthogonal_is_uniform_over_the_group() -> None:
    """Both signs of the determinant and of the first element appear; QR alone would fix signs."""
    rng = np.random.default_rng(0)
    draws = [init.orthogonal((3, 3), dtype=np.float64, rng=rng) for _ in range(200)]
    assert 60 < sum(np.linalg.det(draw) > 0 for draw in draws) < 140
    assert 60 < sum(draw[0, 0] > 0 for draw in draws) < 140


def test_identity_and_zeros(dtype: Any) -> None:
    assert_array_equal(init.identity((3, 3), dtype=dtype), np.eye(3, dtype=dtype))
    assert_array_equal(init.identity((2, 3), gain=0.5, dtype=dtype), 0.5 * np.eye(2, 3))
    assert init.identity((3, 3), dtype=dtype).dtype == dtype
    assert_array_equal(init.zeros((2, 3), dtype=dtype), np.zeros((2, 3), dtype))


@pytest.mark.parametrize("draw", [init.glorot_normal, init.he_uniform, init.orthogonal, init.identity])
def test_a_weight_has_two_axes(draw: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match=r"init: 'shape' must have at least 2 axes .*, got \(4,\)"):
        draw((4,))


def test_bad_rng() -> None:
    with pytest.raises(ArgumentError, match="orthogonal: 'rng' must be"):
        init.orthogonal((2, 2), rng="seed")  # type: ignore[arg-type]
