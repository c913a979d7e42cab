"""Normalisation by neighbours: hand numbers, PyTorch, finite differences, and the operations as their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients
from tolerances import assert_close

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

SIZES = (1, 2, 3, 4, 7)


@pytest.mark.parametrize("size", SIZES)
def test_response_as_in_torch(size: int, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, dy = rng.standard_normal((2, 2, 5, 3, 4))
    tensor = torch.tensor(x, requires_grad=True)
    wanted = torch.nn.functional.local_response_norm(tensor, size, 0.3, 0.6, 1.5)
    wanted.backward(torch.tensor(dy))
    for module in (ops, reference):
        y, pullback = module.local_response_norm_vjp(x, size, alpha=0.3, beta=0.6, k=1.5)
        assert_close("norm_forward", y, wanted.detach().numpy())
        assert_close("norm_vjp", pullback(dy), tensor.grad.numpy())


@pytest.mark.parametrize("name", ["local_response_norm", "local_contrast_norm"])
def test_equals_reference(name: str, dtype: type, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 2, 3, 6, 5)).astype(dtype)
    y, pullback = getattr(ops, f"{name}_vjp")(x, 3)
    wanted, exact = getattr(reference, f"{name}_vjp")(x.astype(float), 3)
    dx = pullback(dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("norm_vjp", [y, dx], [wanted, exact(dy.astype(float))])
    assert_close("exact", getattr(ops, f"{name}_forward")(x, 3), y)
    with pytest.raises(RuntimeError, match="once"):
        pullback(dy)


@pytest.mark.parametrize(("size", "sigma"), [(1, None), (3, None), (5, 0.7)])
def test_contrast_gradients(size: int, sigma: Any, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 2, 2, 4, 5))

    def value() -> float:
        return float((dy * reference.local_contrast_norm_forward(x, size, sigma=sigma)).sum())

    _, pullback = reference.local_contrast_norm_vjp(x, size, sigma=sigma)
    assert_gradients(value, {"x": x}, {"x": pullback(dy)})


def test_contrast_by_hand() -> None:
    # One channel, a window of one place: every value is its own mean.
    assert not ops.local_contrast_norm_forward(np.ones((1, 1, 3, 3)), 1).any()
    # Two channels of values 1 and 3: mean 2, deviations 1 everywhere.
    x = np.stack([np.ones((4, 4)), 3 * np.ones((4, 4))])[None]
    assert_close("norm_forward", ops.local_contrast_norm_forward(x, 3), np.sign(x - 2))


def test_brightness_and_contrast_do_not_matter(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 2, 9, 8))
    y = ops.local_contrast_norm_forward(x, 5)
    np.testing.assert_allclose(ops.local_contrast_norm_forward(7 * x + 3, 5), y, rtol=1e-9, atol=1e-9)


def test_bad_input() -> None:
    x = np.zeros((1, 2, 3, 4))
    with pytest.raises(ShapeError, match="local_response_norm_vjp: 'x' must have shape"):
        ops.local_response_norm_vjp(x[0, 0], 3)
    with pytest.raises(ArgumentError, match="local_response_norm_vjp: 'size' must be a positive int, got 0"):
        ops.local_response_norm_vjp(x, 0)
    with pytest.raises(ShapeError, match=r"local_contrast_norm_vjp: 'x' must have shape \(N, C, H, W\), got"):
        ops.local_contrast_norm_vjp(x[0], 3)
    with pytest.raises(ArgumentError, match="local_contrast_norm_vjp: 'size' must be odd, got 4"):
        ops.local_contrast_norm_vjp(x, 4)
    with pytest.raises(DTypeError, match="local_contrast_norm_vjp: 'x' must have dtype"):
        ops.local_contrast_norm_vjp(x.astype(int), 3)
