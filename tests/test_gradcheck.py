"""`gradcheck` finds wrong gradients, names them, and lets right ones pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers.cases import CASES, Case, Tagger

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, GradientError

SOME = (
    "lstm_stacked",
    "embedding",
    "conv2d",
    "max_pool_2d",
    "frames",
    "sequential_lengths",
    "residual_maps",
    "composite",
)


class Spoilt(fr.Layer):
    """A dense layer whose gradients are changed on their way."""

    def __init__(self, spoil: str = "") -> None:
        self.linear = fr.Linear(3, 2, dtype=np.float64, rng=0)
        self.spoil = spoil

    def forward(self, x: Any) -> Any:
        """Return what the dense layer does, and a pullback that may err."""
        y, pull = self.linear.forward(x)

        def backward(dy: Any) -> Any:
            dx = pull(dy)
            if self.spoil == "x":
                dx[1, 2] += 1
            if self.spoil == "weight":
                self.linear.parameters()["weight"].grad[1, 0] *= 1.001
            if self.spoil == "nan":
                dx[0, 0] = np.nan
            return None if self.spoil == "none" else dx

        return y, backward


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SOME], ids=str)
def test_right_gradients_pass(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    before = layer.state_dict()
    report = fr.gradcheck(layer, x, **case.options)
    assert report.ok
    assert str(report).startswith(f"gradcheck of {type(layer).__name__}: right")
    assert [array.name for array in report.arrays] == ["x"] * (not case.tokens) + list(layer.parameters())
    assert all(array.checked == np.prod(array.shape) for array in report.arrays)
    for name, parameter in layer.parameters().items():
        assert not parameter.has_grad
        np.testing.assert_array_equal(parameter.data, before[name])


def test_states_are_checked(rng: np.random.Generator) -> None:
    layer = fr.LSTM(3, 2, dtype=np.float64)
    state = (rng.standard_normal((1, 2, 2)), rng.standard_normal((1, 2, 2)))
    report = fr.gradcheck(layer, rng.standard_normal((4, 2, 3)), state)
    assert [array.name for array in report.arrays[:3]] == ["x", "state[0]", "state[1]"]


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_several_inputs_and_results_are_checked(score: str, rng: np.random.Generator) -> None:
    layer = fr.Attention(4, 4, score, dtype=np.float64, rng=0)
    report = fr.gradcheck(layer, rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 3, 4)), lengths=[3, 5, 1])
    assert [array.name for array in report.arrays] == ["x", "input 1", *layer.parameters()]


@pytest.mark.parametrize("kind", [fr.Dropout, fr.LockedDropout])
def test_masks_of_dropout_layers_stay(kind: Any, rng: np.random.Generator) -> None:
    model = fr.Sequential(fr.Linear(3, 4, dtype=np.float64), kind(0.5, rng=0))
    assert fr.gradcheck(model, rng.standard_normal((3, 2, 3))).ok


def test_values_with_indices_are_checked(rng: np.random.Generator) -> None:
    assert fr.gradcheck(fr.MaxPool2d(2, return_indices=True), rng.standard_normal((1, 2, 4, 4))).ok


@pytest.mark.parametrize(
    ("spoil", "where"), [("x", r"x\[1, 2\]"), ("weight", r"linear\.weight\[1, 0\]"), ("nan", r"x\[0, 0\]")]
)
def test_a_wrong_entry_is_named(spoil: str, where: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3))
    with pytest.raises(GradientError, match=rf"Spoilt: the gradient of {where} is .* by the pullback") as caught:
        fr.gradcheck(Spoilt(spoil), x)
    report: Any = caught.value.report
    assert not report.ok
    assert report.worst.wrong == 1
    assert "WRONG" in str(report)
    assert fr.gradcheck(Spoilt(spoil), x, raises=False).worst.index == report.worst.index
    assert fr.gradcheck(Spoilt(), x).ok


def test_a_missing_gradient_is_named(rng: np.random.Generator) -> None:
    with pytest.raises(GradientError, match="Spoilt: the pullback gives no gradient of x"):
        fr.gradcheck(Spoilt("none"), rng.standard_normal((2, 3)))


def test_dropout_keeps_its_mask(rng: np.random.Generator) -> None:
    layer = fr.GRU(3, 4, 2, dropout=0.5, dtype=np.float64, rng=1)
    assert fr.gradcheck(layer, rng.standard_normal((3, 2, 3))).ok


def test_a_kink_within_a_step_is_passed() -> None:
    body = fr.Linear(1, 1, dtype=np.float64)
    body.weight = np.array([[0.5]])  # the kink lies 3e-6 from either value
    layer = fr.Residual(body, activation="relu")
    assert fr.gradcheck(layer, np.array([[2e-6], [-2e-6]])).ok


def test_samples(rng: np.random.Generator) -> None:
    report = fr.gradcheck(Tagger(np.float64, 0), rng.standard_normal((5, 3, 4)), samples=4)
    assert {array.checked for array in report.arrays} == {2, 4}


def test_bad_arguments(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3))
    with pytest.raises(DTypeError, match="gradcheck: 'weight' must have dtype float64, got float32"):
        fr.gradcheck(fr.Linear(3, 2), x)
    with pytest.raises(DTypeError, match="gradcheck: 'x' must have dtype float64, got float32"):
        fr.gradcheck(fr.Linear(3, 2, dtype=np.float64), x.astype("f4"))
    with pytest.raises(ArgumentError, match="gradcheck: 'layer' must be a Layer, got function"):
        fr.gradcheck(lambda x: x, x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="gradcheck: 'samples' must be a positive int, got 0"):
        fr.gradcheck(fr.Linear(3, 2, dtype=np.float64), x, samples=0)
