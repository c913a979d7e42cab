"""Losses of one element at a time: hand numbers, finite differences, PyTorch, special values."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients, assert_varies
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

# Name, options, PyTorch's name and options.
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("mse_loss", {}),
    "l1": ("l1_loss", {}),
    "huber": ("huber_loss", {"delta": 0.7}),
    "smooth": ("smooth_l1_loss", {"beta": 0.7}),
    "smooth, not": ("smooth_l1_loss", {"beta": 0.0}),
    "binary": ("binary_cross_entropy", {}),
    "binary, weighted": ("binary_cross_entropy", {"weight": (3,)}),
    "logits": ("binary_cross_entropy_with_logits", {}),
    "logits, weighted": ("binary_cross_entropy_with_logits", {"weight": (4, 1), "pos_weight": (3,)}),
}
REDUCTIONS = ("mean", "sum", "none")
each = pytest.mark.parametrize(("name", "options"), LOSSES.values(), ids=LOSSES)


def problem(rng: np.random.Generator, name: str, options: dict[str, Any], dtype: Any = np.float64) -> Any:
    """Return prediction, target and options with random weights for shapes."""
    prediction, target = rng.standard_normal((2, 4, 3))
    if name.startswith("binary"):
        target = 1 / (1 + np.exp(-target))
    if name == "binary_cross_entropy":
        prediction = 0.2 + 0.6 / (1 + np.exp(-prediction))  # away from the poles, for finite differences
    assert_varies(prediction, target)
    drawn = {k: rng.uniform(0.5, 2, v).astype(dtype) if isinstance(v, tuple) else v for k, v in options.items()}
    return prediction.astype(dtype), target.astype(dtype), drawn


def test_by_hand() -> None:
    prediction, target = np.array([0.0, 3.0, -1.0]), np.array([1.0, 1.0, -1.0])
    assert_close("exact", reference.l1_loss(prediction, target, reduction="none"), ([1.0, 2.0, 0.0], [-1.0, 1.0, 0.0]))
    huber = reference.huber_loss(prediction, target, reduction="none", delta=2.0)
    assert_close("exact", huber, ([0.5, 2.0, 0.0], [-1.0, 2.0, 0.0]))
    smooth = reference.smooth_l1_loss(prediction, target, reduction="none", beta=2.0)
    assert_close("exact", smooth, ([0.25, 1.0, 0.0], [-0.5, 1.0, 0.0]))
    loss, gradient = reference.binary_cross_entropy(np.array([0.25]), np.array([1.0]))
    assert_close("losses", (loss, gradient), (log(4), [-4.0]))
    loss, gradient = reference.binary_cross_entropy_with_logits(np.array([log(3)]), np.array([0.0]))
    assert_close("losses", (loss, gradient), (log(4), [0.75]))


@each
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients(name: str, options: dict[str, Any], reduction: str, rng: np.random.Generator) -> None:
    prediction, target, drawn = problem(rng, name, options)
    loss = getattr(reference, name)
    _, gradient = loss(prediction, target, reduction=reduction, **drawn)

    def objective() -> float:
        return float(np.sum(loss(prediction, target, reduction=reduction, **drawn)[0]))

    assert_gradients(objective, {"p": prediction}, {"p": gradient})


@each
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_equals_torch(name: str, options: dict[str, Any], reduction: str, dtype: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    prediction, target, drawn = problem(rng, name, options, dtype)
    exact = {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, np.ndarray) else v for k, v in drawn.items()}
    x = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.nn.functional, name)(
        x, torch.tensor(target, dtype=torch.float64), reduction=reduction, **exact
    )
    theirs.sum().backward()
    loss, gradient = getattr(reference, name)(prediction, target, reduction=reduction, **drawn)
    assert gradient.dtype == dtype
    assert_close("losses", loss, theirs.detach().numpy(), dtype=dtype)
    assert_close("losses", gradient, x.grad.numpy())


@each
def test_nothing(name: str, options: dict[str, Any]) -> None:
    nothing = np.zeros((0, 3))
    drawn = {k: 1.0 * np.ones(3) if isinstance(v, tuple) else v for k, v in options.items()}
    loss, gradient = getattr(reference, name)(nothing, nothing, **drawn)
    assert np.isnan(loss)
    assert gradient.shape == (0, 3)
