"""Loss references: hand numbers, finite differences, PyTorch, ignored positions, special values."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from numeric import assert_gradients, assert_varies
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_cross_entropy_by_hand():
    # softmax(0, ln 3) = (1/4, 3/4) and softmax(ln 4, 0) = (4/5, 1/5); targets 1 and 1:
    #   loss = -(ln 3/4 + ln 1/5) / 2        dlogits = ((1/4, -1/4), (4/5, -4/5)) / 2
    logits = np.array([[0, log(3)], [log(4), 0]])
    loss, dlogits = reference.cross_entropy(logits, np.array([1, 1]))
    assert_close("cross_entropy", loss, -(log(3 / 4) + log(1 / 5)) / 2)
    assert_close("cross_entropy", dlogits, [[1 / 8, -1 / 8], [2 / 5, -2 / 5]])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("ignore_index", [None, -100, 0])
def test_cross_entropy_gradients(rng, shape, ignore_index):
    logits = rng.standard_normal((*shape, 4))
    targets = rng.integers(1, 4, shape)
    if ignore_index is not None and shape:
        targets[..., 1] = ignore_index
    _, dlogits = reference.cross_entropy(logits, targets, ignore_index=ignore_index)
    arrays, grads = {"logits": logits}, {"logits": dlogits}
    assert_gradients(lambda: reference.cross_entropy(logits, targets, ignore_index=ignore_index)[0], arrays, grads)


@pytest.mark.parametrize("ignore_index", [None, -100, 2])
def test_cross_entropy_equals_torch(rng, dtype, ignore_index):
    torch = pytest.importorskip("torch")
    logits = (3 * rng.standard_normal((7, 5, 11))).astype(dtype)
    targets = rng.integers(0, 11, (7, 5))
    assert_varies(logits, targets)
    if ignore_index is not None:
        targets[rng.random((7, 5)) < 0.3] = ignore_index
    torch_logits = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    options = {} if ignore_index is None else {"ignore_index": ignore_index}
    expected = torch.nn.functional.cross_entropy(torch_logits.reshape(-1, 11), torch.tensor(targets).ravel(), **options)
    expected.backward()
    loss, dlogits = reference.cross_entropy(logits, targets, ignore_index=ignore_index)
    assert isinstance(loss, float)
    assert dlogits.dtype == dtype
    assert_close("cross_entropy", loss, expected.item(), dtype=dtype)
    assert_close("cross_entropy", dlogits, torch_logits.grad.numpy())


OPTIONS = [
    {"weight": True},
    {"label_smoothing": 0.2},
    {"weight": True, "label_smoothing": 0.2, "ignore_index": 1},
    {"reduction": "sum", "weight": True},
    {"reduction": "none", "label_smoothing": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("kind", ["cross_entropy", "nll_loss"])
def test_options(rng, kind, options):
    torch = pytest.importorskip("torch")
    options = dict(options)
    if kind == "nll_loss":
        options.pop("label_smoothing", None)
    logits, targets = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 1, 0])
    if "weight" in options:
        options["weight"] = rng.uniform(0.5, 2, 4)
    call = getattr(reference, kind)
    loss, dlogits = call(logits, targets, **options)
    assert_gradients(lambda: float(np.sum(call(logits, targets, **options)[0])), {"x": logits}, {"x": dlogits})
    x = torch.tensor(logits, requires_grad=True)
    twins = options | ({"weight": torch.tensor(options["weight"])} if "weight" in options else {})
    expected = getattr(torch.nn.functional, kind)(x, torch.tensor(targets), **twins)
    expected.sum().backward()
    assert_close("cross_entropy", loss, expected.detach().numpy())
    assert_close("cross_entropy", dlogits, x.grad.numpy())


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths(rng, batch_first):
    logits, targets, lengths = rng.standard_normal((4, 2, 3)), rng.integers(0, 3, (4, 2)), np.array([3, 1])
    inside = np.arange(4)[:, None] < lengths
    expected, dkept = reference.cross_entropy(logits[inside], targets[inside])
    logits[~inside] = np.nan
    turn = (lambda array: array.swapaxes(0, 1)) if batch_first else (lambda array: array)
    options = {"lengths": lengths, "batch_first": batch_first}
    loss, dlogits = reference.cross_entropy(turn(logits), turn(targets), **options)
    assert_close("cross_entropy", loss, expected)
    assert_close("exact", turn(dlogits)[inside], dkept)
    assert not turn(dlogits)[~inside].any()


def test_cross_entropy_of_huge_logits(dtype):
    loss, dlogits = reference.cross_entropy(np.array([[1e30, 0, -1e30]], dtype), np.array([0]))
    assert loss == 0
    assert_close("exact", dlogits, np.zeros((1, 3)))


def test_cross_entropy_keeps_nan_in_its_row_and_does_not_read_ignored_rows(rng):
    logits, targets = rng.standard_normal((4, 3)), np.array([0, 1, 2, -1])
    clean_loss, clean = reference.cross_entropy(logits, targets, ignore_index=-1)
    logits[3] = np.nan
    assert_close("exact", reference.cross_entropy(logits, targets, ignore_index=-1), (clean_loss, clean))
    logits[1, 2] = np.nan
    loss, dlogits = reference.cross_entropy(logits, targets, ignore_index=-1)
    assert np.isnan(loss)
    assert np.isnan(dlogits[1]).all()
    assert_close("exact", dlogits[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.parametrize("count", [0, 3])
def test_cross_entropy_over_nothing_is_nan_with_zero_gradient(rng, count):
    loss, dlogits = reference.cross_entropy(rng.standard_normal((count, 4)), np.full(count, -1), ignore_index=-1)
    assert np.isnan(loss)
    assert_close("exact", dlogits, np.zeros((count, 4)))


def test_mse_by_hand():
    # differences 1, -2, 0, 3:  loss = (1 + 4 + 0 + 9) / 4 = 7/2,  gradient = 2/4 of the differences
    prediction, target = np.array([[2.0, 1.0], [5.0, 3.0]]), np.array([[1.0, 3.0], [5.0, 0.0]])
    loss, gradient = reference.mse_loss(prediction, target)
    assert loss == 7 / 2
    assert_close("exact", gradient, np.array([[0.5, -1.0], [0.0, 1.5]]))


def test_mse_gradients_and_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    prediction, target = rng.standard_normal((2, 6, 3)).astype(dtype)
    assert_varies(prediction, target)
    torch_prediction = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.mse_loss(torch_prediction, torch.tensor(target, dtype=torch.float64))
    expected.backward()
    loss, gradient = reference.mse_loss(prediction, target)
    assert isinstance(loss, float)
    assert gradient.dtype == dtype
    assert_close("mse_loss", loss, expected.item(), dtype=dtype)
    assert_close("mse_loss", gradient, torch_prediction.grad.numpy())


def test_mse_special_values():
    loss, gradient = reference.mse_loss(np.zeros((0, 3)), np.zeros((0, 3)))
    assert np.isnan(loss)
    assert gradient.shape == (0, 3)
    loss, gradient = reference.mse_loss(np.array([np.nan, 1.0]), np.array([0.0, 0.0]))
    assert np.isnan(loss)
    assert_close("exact", gradient, np.array([np.nan, 1.0]))
