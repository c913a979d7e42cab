"""Bags of embeddings: hand numbers, finite differences, PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

TOKENS = np.array([[1, 1, 4], [0, 3, 0], [2, 4, 4]])
FORMS: dict[str, dict[str, Any]] = {
    "rows": {"tokens": TOKENS},
    "lengths": {"tokens": TOKENS, "lengths": np.array([3, 1, 2])},
    "padding": {"tokens": TOKENS, "padding_idx": -5},
    "offsets": {"tokens": TOKENS.reshape(-1), "offsets": np.array([0, 2, 2, 7])},
    "both": {"tokens": TOKENS.reshape(-1), "offsets": np.array([0, 2, 2, 7]), "padding_idx": 4},
}
KINDS = [("sum", False), ("mean", False), ("max", False), ("sum", True), ("mean", True)]


def test_by_hand() -> None:
    table = np.array([[1.0, -1.0], [3.0, 5.0], [7.0, 0.0]])
    tokens, weights = np.array([[0, 1], [2, 2]]), np.array([[1.0, 3.0], [0.5, 0.5]])
    for mode, wanted in {
        "sum": [[4.0, 4.0], [14.0, 0.0]],
        "mean": [[2.0, 2.0], [7.0, 0.0]],
        "max": [[3.0, 5.0], [7.0, 0.0]],
    }.items():
        assert_close("exact", reference.embedding_bag_forward(tokens, table, mode=mode), np.array(wanted))
    y = reference.embedding_bag_forward(tokens, table, mode="mean", weights=weights)
    assert_close("exact", y, np.array([[2.5, 3.5], [7.0, 0.0]]))
    empty = reference.embedding_bag_forward(np.array([1]), table, np.array([0, 1]), mode="max")
    assert_close("exact", empty, np.array([[3.0, 5.0], [0.0, 0.0]]))
    nothing = reference.embedding_bag_forward(tokens, table, weights=0 * weights)
    assert_close("exact", nothing, np.zeros((2, 2)))


@pytest.mark.parametrize(("mode", "weighted"), KINDS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradients(form: dict[str, Any], mode: str, weighted: bool, rng: np.random.Generator) -> None:
    arrays = {"weight": rng.standard_normal((5, 2))}
    if weighted:
        arrays["weights"] = rng.uniform(0.5, 2, form["tokens"].shape)
    y, pullback = reference.embedding_bag_vjp(**form, **arrays, mode=mode)
    dy = rng.standard_normal(y.shape)
    dweights, grads = pullback(dy)

    def objective() -> float:
        return float((dy * reference.embedding_bag_forward(**form, **arrays, mode=mode)).sum())

    assert_gradients(objective, arrays, grads | ({"weights": dweights} if weighted else {}))


@pytest.mark.parametrize(("mode", "weighted"), KINDS[:4])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_equals_torch(form: dict[str, Any], mode: str, weighted: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if "lengths" in form:
        pytest.skip("PyTorch's bags have no lengths")
    weight = torch.tensor(rng.standard_normal((5, 2)), requires_grad=True)
    weights = torch.tensor(rng.uniform(0.5, 2, form["tokens"].shape), requires_grad=True) if weighted else None
    theirs = torch.nn.functional.embedding_bag(
        torch.tensor(form["tokens"]),
        weight,
        None if "offsets" not in form else torch.tensor(form["offsets"]),
        mode=mode,
        per_sample_weights=weights,
        padding_idx=form.get("padding_idx"),
    )
    dy = rng.standard_normal(theirs.shape)
    theirs.backward(torch.tensor(dy))
    given = None if weights is None else weights.detach().numpy()
    y, pullback = reference.embedding_bag_vjp(**form, weight=weight.detach().numpy(), weights=given, mode=mode)
    dweights, grads = pullback(dy)
    assert_close("embedding_bag", y, theirs.detach().numpy())
    assert_close("embedding_bag", grads["weight"], weight.grad.numpy())
    if weights is not None:
        # PyTorch gives a weight of padding a gradient, though it has no part in the result.
        counted = form["tokens"] != (form.get("padding_idx", 9) + 5) % 5 if "padding_idx" in form else ...
        assert_close("embedding_bag", dweights[counted], weights.grad.numpy()[counted])


def test_padding_has_no_gradient(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    tokens, weight, dy = rng.integers(0, 4, (5, 3)), rng.standard_normal((4, 2)), rng.standard_normal((5, 3, 2))
    theirs = torch.tensor(weight, requires_grad=True)
    torch.nn.functional.embedding(torch.tensor(tokens), theirs, padding_idx=-3).backward(torch.tensor(dy))
    for index in (1, -3):
        grads = reference.embedding_vjp(tokens, weight, padding_idx=index)[1](dy)
        assert_close("embedding_vjp", grads["weight"], theirs.grad.numpy())
        assert not grads["weight"][1].any()
