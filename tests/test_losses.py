"""Losses as users call them; what they compute is tested with the operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients
from tolerances import assert_close

import fastrnn as fr
from fastrnn.errors import DTypeError, ShapeError, TokenError


@pytest.mark.parametrize("shape", [(3,), (4, 2, 3)])
def test_cross_entropy(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal(shape), rng.integers(0, 3, shape[:-1])
    loss, dlogits = fr.cross_entropy(logits, targets)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    picked = np.take_along_axis(p, np.asarray(targets)[..., None], axis=-1)
    assert type(loss) is float
    assert_close("cross_entropy", loss, -np.log(picked).mean())
    assert_gradients(lambda: fr.cross_entropy(logits, targets)[0], {"logits": logits}, {"logits": dlogits})


def test_cross_entropy_ignores(rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((4, 3)), np.array([1, -1, 0, -1])
    loss, dlogits = fr.cross_entropy(logits, targets, ignore_index=-1)
    expected, dkept = fr.cross_entropy(logits[::2], targets[::2])
    assert_close("cross_entropy", loss, expected)
    assert_close("cross_entropy", dlogits[::2], dkept)
    assert not dlogits[1::2].any()
    nothing, dlogits = fr.cross_entropy(logits, np.array([-1] * 4), ignore_index=-1)
    assert np.isnan(nothing)
    assert not dlogits.any()


@pytest.mark.parametrize("options", [{}, {"ignore_index": -100}, {"ignore_index": 2}])
def test_cross_entropy_like_torch(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    targets[0] = options.get("ignore_index", 0)
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(x, torch.tensor(targets), **options)
    theirs.backward()
    loss, dlogits = fr.cross_entropy(logits, targets, **options)
    assert_close("cross_entropy", loss, theirs.item())
    assert_close("cross_entropy", dlogits, x.grad.numpy())


def test_mse_loss(rng: np.random.Generator) -> None:
    prediction, target = rng.standard_normal((2, 4, 3))
    loss, gradient = fr.mse_loss(prediction, target)
    assert type(loss) is float
    assert_close("mse_loss", loss, np.mean((prediction - target) ** 2))
    assert_gradients(lambda: fr.mse_loss(prediction, target)[0], {"p": prediction}, {"p": gradient})


def test_dtypes(rng: np.random.Generator, dtype: Any) -> None:
    logits = rng.standard_normal((4, 3)).astype(dtype)
    assert fr.cross_entropy(logits, np.array([0, 1, 2, 0]))[1].dtype == dtype
    assert fr.mse_loss(logits, logits[::-1])[1].dtype == dtype


def test_inputs_are_not_written_to(rng: np.random.Generator) -> None:
    logits, target = rng.standard_normal((2, 4, 3))
    logits.flags.writeable = target.flags.writeable = False
    fr.cross_entropy(logits, np.array([0, 1, 2, 0]))
    fr.mse_loss(logits, target)


def test_bad_input() -> None:
    logits = np.zeros((4, 3))
    with pytest.raises(ShapeError, match=r"cross_entropy: 'targets' must have shape \(4,\), got \(3,\)"):
        fr.cross_entropy(logits, np.array([0, 1, 2]))
    with pytest.raises(ShapeError, match=r"cross_entropy: 'logits' must have shape \(..., V\), got \(\)"):
        fr.cross_entropy(np.float64(1), 0)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match=r"cross_entropy: 'targets' must be in 0..2, got 3"):
        fr.cross_entropy(logits, np.array([0, 1, 2, 3]))
    with pytest.raises(TokenError, match=r"cross_entropy: 'targets' must be in 0..2 or -1, got -2"):
        fr.cross_entropy(logits, np.array([0, -1, 2, -2]), ignore_index=-1)
    with pytest.raises(DTypeError, match="cross_entropy: 'targets' must have an integer dtype, got float64"):
        fr.cross_entropy(logits, np.zeros(4))
    with pytest.raises(DTypeError, match="cross_entropy: 'logits' must have dtype float32 or float64, got int64"):
        fr.cross_entropy(np.zeros((4, 3), int), np.array([0, 1, 2, 0]))
    with pytest.raises(ShapeError, match=r"mse_loss: 'target' must have shape \(4, 3\), got \(3, 4\)"):
        fr.mse_loss(logits, logits.T)
    with pytest.raises(DTypeError, match="mse_loss: 'target' must have dtype float64, got float32"):
        fr.mse_loss(logits, logits.astype(np.float32))
