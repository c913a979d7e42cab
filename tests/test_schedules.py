"""Schedules of learning rates: PyTorch's, step by step, and those it does not have."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.errors import ArgumentError, StateDictError

STEPS = 30
LIKE_TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "step": ("StepLR", {"step_size": 4, "gamma": 0.5}),
    "milestones": ("MultiStepLR", {"milestones": [3, 3, 10], "gamma": 0.3}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "cosine": ("CosineAnnealingLR", {"T_max": 12, "eta_min": 0.01}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    "lambdas": ("LambdaLR", {"lr_lambda": [lambda t: 1 / (1 + t), lambda t: 0.5**t]}),
    "one cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31}),
    "one cycle, linear": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 40, "anneal_strategy": "linear"}),
    "one cycle, three phases": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31, "three_phase": True}),
    "one cycle, no momentum": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31, "cycle_momentum": False}),
}
PLATEAUS: dict[str, dict[str, Any]] = {
    "plain": {"patience": 1},
    "max": {"mode": "max", "patience": 2, "factor": 0.5},
    "absolute": {"threshold_mode": "abs", "threshold": 0.2, "patience": 1},
    "cooldown": {"cooldown": 3, "patience": 0, "min_lr": 1e-3},
}


def two_groups() -> tuple[fr.SGD, list[fr.Parameter]]:
    params = [fr.Parameter(np.ones(3)), fr.Parameter(np.ones(2))]
    return fr.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], lr=0.1, momentum=0.9), params


def torch_pair() -> Any:
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    return torch.optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], lr=0.1, momentum=0.9)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("kind", "options"), LIKE_TORCH.values(), ids=LIKE_TORCH)
def test_steps_like_torch(kind: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    (ours, _), theirs = two_groups(), torch_pair()
    schedule = getattr(fr, kind)(ours, **options)
    twin = getattr(torch.optim.lr_scheduler, kind)(theirs, **options)
    for _ in range(STEPS):
        for group, other in zip(ours.groups, theirs.param_groups, strict=True):
            np.testing.assert_allclose(group.options["lr"], other["lr"], rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(group.options["momentum"], other["momentum"], rtol=1e-12)
        theirs.step()
        schedule.step()
        twin.step()


@pytest.mark.parametrize("options", PLATEAUS.values(), ids=PLATEAUS)
def test_plateaus_like_torch(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    (ours, _), theirs = two_groups(), torch_pair()
    schedule = fr.ReduceLROnPlateau(ours, **options)
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for metric in [*rng.standard_normal(STEPS).cumsum(), math.nan, -9.0]:
        schedule.step(metric)
        twin.step(metric)
        assert schedule.last_lr == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-12)
    assert ours.lr < 0.1


def test_one_cycle_turns_beta1_of_adam() -> None:
    optimizer = fr.Adam([fr.Parameter(np.ones(3))])
    schedule = fr.OneCycleLR(optimizer, 0.1, 10)
    assert optimizer.groups[0].options["beta1"] == 0.95
    for _ in range(2):
        schedule.step()
    assert optimizer.lr == pytest.approx(0.1)
    assert optimizer.groups[0].options["beta1"] == pytest.approx(0.85)
    with pytest.raises(ArgumentError, match="OneCycleLR: 'cycle_momentum' must be False for Adagrad"):
        fr.OneCycleLR(fr.Adagrad([fr.Parameter(np.ones(3))]), 0.1, 10)


def test_warm_up_by_hand() -> None:
    optimizer, _ = two_groups()
    schedule = fr.LinearWarmup(optimizer, 4)
    rates = []
    for _ in range(6):
        rates.append(optimizer.lr)
        schedule.step()
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    optimizer, _ = two_groups()
    schedule = fr.LinearWarmup(optimizer, 2, start_factor=0.5)
    assert optimizer.lr == pytest.approx(0.075)


def test_warm_up_and_cosine_by_hand() -> None:
    optimizer, _ = two_groups()
    schedule = fr.WarmupCosine(optimizer, 2, 6, eta_min=0.02)
    rates = []
    for _ in range(8):
        rates.append(optimizer.lr)
        schedule.step()
    half = 0.08 * math.sqrt(0.5) / 2
    np.testing.assert_allclose(rates, [0.05, 0.1, 0.1, 0.06 + half, 0.06, 0.06 - half, 0.02, 0.02])


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda optimizer: fr.StepLR(optimizer, 2),
    "CosineAnnealingLR": lambda optimizer: fr.CosineAnnealingLR(optimizer, 9),
    "WarmupCosine": lambda optimizer: fr.WarmupCosine(optimizer, 3, 9),
    "ReduceLROnPlateau": lambda optimizer: fr.ReduceLROnPlateau(optimizer, patience=1),
}


@pytest.mark.parametrize("build", SCHEDULES.values(), ids=SCHEDULES)
def test_going_on_from_a_state_dict(build: Callable[[Any], Any]) -> None:
    def go(schedule: Any, count: int) -> list[float]:
        rates = []
        for _ in range(count):
            schedule.step(*([1.0] if isinstance(schedule, fr.ReduceLROnPlateau) else []))
            rates += schedule.last_lr
        return rates

    whole, first, second = (build(two_groups()[0]) for _ in range(3))
    wanted = go(whole, 8)
    rates = go(first, 3)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert second.last_lr == first.last_lr
    assert rates + go(second, 5) == wanted
    assert repr(second) == repr(whole)


def test_bad_states_change_nothing() -> None:
    schedule = fr.StepLR(two_groups()[0], 2)
    before = schedule.state_dict()
    for bad in ({}, {**before, "extra": 1}, {**before, "base_lrs": [0.1]}, None):
        with pytest.raises(StateDictError, match="StepLR: the state dict must have"):
            schedule.load_state_dict(bad)  # type: ignore[arg-type]
    assert schedule.state_dict() == before


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("StepLR", {"step_size": 0}, "StepLR: 'step_size' must be a positive int, got 0"),
        ("StepLR", {"step_size": 1, "gamma": -1}, "StepLR: 'gamma' must be a finite number >= 0, got -1"),
        ("MultiStepLR", {"milestones": 3}, "MultiStepLR: 'milestones' must be a list of int, got 3"),
        ("ExponentialLR", {"gamma": None}, "ExponentialLR: 'gamma' must be a finite number >= 0, got None"),
        ("CosineAnnealingLR", {"T_max": 0}, "CosineAnnealingLR: 'T_max' must be a positive int, got 0"),
        ("LinearWarmup", {"warmup_steps": 0}, "LinearWarmup: 'warmup_steps' must be a positive int, got 0"),
        (
            "WarmupCosine",
            {"warmup_steps": 3, "total_steps": 3},
            "WarmupCosine: 'total_steps' must be more than warmup_steps, got 3",
        ),
        ("ReduceLROnPlateau", {"mode": "up"}, "ReduceLROnPlateau: 'mode' must be one of 'min', 'max', got 'up'"),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 0}, "OneCycleLR: 'total_steps' must be a positive int, got 0"),
    ],
)
def test_bad_options(kind: str, options: dict[str, Any], text: str) -> None:
    optimizer, _ = two_groups()
    with pytest.raises(ArgumentError) as caught:
        getattr(fr, kind)(optimizer, **options)
    assert str(caught.value) == text
    assert optimizer.lr == 0.1


def test_bad_use() -> None:
    with pytest.raises(ArgumentError, match="StepLR: 'optimizer' must be an Optimizer, got list"):
        fr.StepLR([], 1)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="LambdaLR: 'lr_lambda' must be a function, or 2, got"):
        fr.LambdaLR(two_groups()[0], [lambda t: 1.0])
    with pytest.raises(ArgumentError, match="ReduceLROnPlateau: 'metric' must be a number, got None"):
        fr.ReduceLROnPlateau(two_groups()[0]).step()
    schedule = fr.OneCycleLR(two_groups()[0], 1.0, 2)
    schedule.step()
    with pytest.raises(ArgumentError, match="OneCycleLR: 'total_steps' must be more than the steps made, got 2"):
        schedule.step()
