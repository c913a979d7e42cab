"""Connectionist temporal classification: every alignment by hand, finite differences, PyTorch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numeric import assert_gradients
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """Return a path without repeats and blanks."""
    return tuple(v for i, v in enumerate(path) if v != 0 and (i == 0 or path[i - 1] != v))


@pytest.mark.parametrize("labels", [(), (1,), (2, 1), (1, 1), (1, 2, 1), (2, 2, 1)], ids=str)
def test_all_alignments(labels: tuple[int, ...], rng: np.random.Generator) -> None:
    logits = rng.standard_normal((4, 3))
    y = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    paths = [path for path in product(range(3), repeat=4) if collapsed(path) == labels]
    likelihood = sum(np.prod(y[np.arange(4), list(path)]) for path in paths)
    loss, _ = reference.ctc_loss(logits, np.array(labels, int), reduction="sum")
    assert_close("ctc_loss", loss, -np.log(likelihood))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients(reduction: str, rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((6, 3, 4)), np.array([[1, 1, 3], [2, 1, 2], [3, 3, 3]])
    lengths = np.array([6, 4, 3]), np.array([3, 2, 0])

    def objective() -> float:
        return float(np.sum(reference.ctc_loss(logits, targets, *lengths, reduction=reduction)[0]))

    _, dlogits = reference.ctc_loss(logits, targets, *lengths, reduction=reduction)
    assert_gradients(objective, {"logits": logits}, {"logits": dlogits})


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equals_torch(
    reduction: str, from_logits: bool, zero_infinity: bool, dtype: Any, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = rng.standard_normal((8, 4, 5)), rng.choice([0, 1, 3, 4], (4, 3))
    targets[1] = 3
    inputs, ends = np.array([8, 3, 5, 1]), np.array([3, 3, 1, 0])
    logits = logits.astype(dtype)
    if not from_logits:
        logits = np.asarray(torch.tensor(logits).log_softmax(-1))
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    theirs = torch.nn.functional.ctc_loss(
        x.log_softmax(-1) if from_logits else x,
        torch.tensor(targets),
        torch.tensor(inputs),
        torch.tensor(ends),
        blank=2,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )
    theirs.sum().backward()
    options: dict[str, Any] = {"blank": 2, "zero_infinity": zero_infinity, "from_logits": from_logits}
    loss, dlogits = reference.ctc_loss(logits, targets, inputs, ends, reduction=reduction, **options)
    assert dlogits.dtype == dtype
    assert_close("ctc_loss", loss, theirs.detach().numpy(), dtype=dtype)
    assert_close("ctc_loss", dlogits, x.grad.numpy())


def test_log_probabilities_are_logits_too(rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((6, 2, 4)), np.array([[1, 1], [2, 3]])
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    wanted = reference.ctc_loss(logits, targets)
    assert_close("ctc_loss", reference.ctc_loss(log_p, targets), wanted)
    assert_close("ctc_loss", reference.ctc_loss(log_p, targets, from_logits=False), wanted)
