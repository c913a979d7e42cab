"""Optimizer references: hand numbers, and several steps against torch.optim."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import assert_varies
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

STEPS = 6


def test_sgd_by_hand():
    # lr 1/2, momentum 1/2, gradients 4 and 2, from 10:
    #   buf = 4                param = 10 - 2 = 8
    #   buf = 2 + 2 = 4        param = 8 - 2 = 6
    param, buf = np.array([10.0]), np.zeros(1)
    reference.sgd_step(param, np.array([4.0]), buf, lr=0.5, momentum=0.5, first=True)
    assert param == 8
    reference.sgd_step(param, np.array([2.0]), buf, lr=0.5, momentum=0.5)
    assert param == 6
    assert buf == 4
    # Nesterov: g = 2 + 1/2 (1/2 * 4 + 2) = 4, param = 6 - 2 = 4.  Without a buffer: param = 4 - 1/2 * 2 = 3.
    reference.sgd_step(param, np.array([2.0]), buf, lr=0.5, momentum=0.5, nesterov=True)
    assert param == 4
    reference.sgd_step(param, np.array([2.0]), None, lr=0.5)
    assert param == 3


def test_adam_by_hand():
    # The first step has m / (1 - beta1) = g and sqrt(v / (1 - beta2)) = |g|: a step of lr g / (|g| + eps).
    param, m, v = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    reference.adam_step(param, np.array([3.0, -1.0]), m, v, step=1, lr=0.5, beta1=0.5, beta2=0.75, eps=1.0)
    assert_close("adam_step", param, [1 - 0.5 * 3 / 4, 1 + 0.5 / 2])
    assert_close("adam_step", m, [1.5, -0.5])
    assert_close("adam_step", v, [9 / 4, 1 / 4])
    # Decoupled decay by 1 - 1/2 * 1/5 = 9/10 before a step with gradient 0 from fresh moments.
    param, m, v = np.array([2.0]), np.zeros(1), np.zeros(1)
    options = {"lr": 0.5, "beta1": 0.5, "beta2": 0.75, "eps": 1.0, "weight_decay": 0.2, "decoupled": True}
    reference.adam_step(param, np.zeros(1), m, v, step=1, **options)
    assert_close("adam_step", param, [1.8])


def run_steps(rng, dtype, update, make_torch_optimizer, torch):
    """Return our parameter and PyTorch's (in float64) after the same gradients."""
    param = rng.standard_normal((3, 5)).astype(dtype)
    torch_param = torch.tensor(param, dtype=torch.float64, requires_grad=True)
    optimizer = make_torch_optimizer([torch_param])
    for step in range(1, STEPS + 1):
        grad = rng.standard_normal((3, 5)).astype(dtype)
        assert_varies(param, grad)
        kept = grad.copy()
        update(param, grad, step)
        assert_close("exact", grad, kept)
        torch_param.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    assert param.dtype == dtype
    return param, torch_param.detach().numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_sgd_equals_torch(rng, dtype, options):
    torch = pytest.importorskip("torch")
    buf = np.full((3, 5), np.nan, dtype) if "momentum" in options else None

    def update(param, grad, step):
        reference.sgd_step(param, grad, buf, lr=0.1, first=step == 1, **options)

    param, expected = run_steps(rng, dtype, update, lambda p: torch.optim.SGD(p, lr=0.1, **options), torch)
    assert_close("sgd_step", param, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam_equals_torch(rng, dtype, name, weight_decay):
    torch = pytest.importorskip("torch")
    m, v = np.zeros((2, 3, 5), dtype)
    decoupled = name == "AdamW"

    def update(param, grad, step):
        options = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": weight_decay}
        reference.adam_step(param, grad, m, v, step=step, decoupled=decoupled, **options)

    def make(params):
        return getattr(torch.optim, name)(params, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=weight_decay)

    param, expected = run_steps(rng, dtype, update, make, torch)
    assert_close("adam_step", param, expected)


def test_steps_work_in_place_on_views():
    arena = np.ones(6)
    reference.sgd_step(arena[2:4], np.ones(2), None, lr=1.0)
    assert_close("exact", arena, np.array([1.0, 1, 0, 0, 1, 1]))


def test_nan_stays_in_its_element():
    param, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    reference.adam_step(param, np.array([1, np.nan, 1]), m, v, step=1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    assert np.isnan(param).tolist() == [False, True, False]
