"""`summary`: shapes, parameters, multiply-adds and memory of models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers.cases import CASES, LENGTHS, Case

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, ShapeError


def lenet() -> fr.Layer:
    return fr.Sequential(
        fr.Conv2d(1, 6, 5, padding=2, activation="tanh"),
        fr.AvgPool2d(2),
        fr.Residual(fr.Conv2d(6, 6, 3, padding=1), activation="relu"),
        fr.GlobalAvgPool(),
        fr.Linear(6, 10),
    )


def test_a_model_by_hand() -> None:
    summary = lenet().summary((1, 1, 28, 28))
    assert [(row.name, row.kind, row.depth, row.output) for row in summary.rows] == [
        ("", "Sequential", 0, (1, 10)),
        ("0", "Conv2d", 1, (1, 6, 28, 28)),
        ("1", "AvgPool2d", 1, (1, 6, 14, 14)),
        ("2", "Residual", 1, (1, 6, 14, 14)),
        ("2.body", "Sequential", 2, (1, 6, 14, 14)),
        ("2.body.0", "Conv2d", 3, (1, 6, 14, 14)),
        ("3", "GlobalAvgPool", 1, (1, 6)),
        ("4", "Linear", 1, (1, 10)),
    ]
    assert [row.parameters for row in summary.rows] == [156 + 330 + 70, 156, 0, 330, 330, 330, 0, 70]
    products = [6 * 784 * 25, 6 * 196 * 54, 60]
    assert [row.multiply_adds for row in summary.rows[1:]] == [
        products[0], 0, *[products[1]] * 3, 0, products[2]
    ]  # fmt: skip
    assert summary.multiply_adds == sum(products)
    assert summary.flops == 2 * sum(products)
    assert summary.parameters == 556
    assert summary.parameter_bytes == 4 * 556
    assert summary.activation_bytes == 4 * (6 * 784 + 6 * 196 + 6 * 196 + 6 + 10)


def test_the_table() -> None:
    lines = str(lenet().summary((1, 1, 28, 28))).splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds", "memory"]
    assert lines[2].split() == ["Sequential", "1x10", "556", "181,164", "27.6", "KB"]
    assert lines[7] == "      0: Conv2d       1x6x14x14         330         63,504   4.6 KB"
    assert lines[-1] == ("parameters 556 (2.2 KB), activations 27.6 KB, 181,164 multiply-adds (362,328 FLOPs)")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_layer_has_one(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    summary = layer.summary(x, **case.options)
    y = case.predict(layer, x)
    assert summary.rows[0].output == y.shape
    assert summary.parameters == summary.rows[0].parameters == layer.num_parameters()
    kinds = {row.kind for row in summary.rows}
    assert (summary.multiply_adds > 0) == any(
        kind.startswith(("Conv", "Linear", "RNN", "LSTM", "GRU")) for kind in kinds
    )
    assert str(summary).count("\n") == len(summary.rows) + 3
    np.testing.assert_array_equal(case.predict(layer, x), y)


def test_products_of_recurrent_layers() -> None:
    assert fr.LSTM(3, 4, 2, bidirectional=True).summary((5, 2, 3)).multiply_adds == 10 * 2 * 16 * (3 + 4 + 8 + 4)
    assert fr.GRU(3, 4).summary((5, 3)).multiply_adds == 5 * 12 * 7
    assert fr.LSTM(3, 4, proj_size=2).summary((5, 2, 3)).multiply_adds == 10 * (16 * 5 + 8)


def test_products_of_convolutions() -> None:
    assert fr.Conv2d(4, 6, 3, groups=2).summary((2, 4, 5, 5)).multiply_adds == 2 * 6 * 9 * 2 * 9
    assert fr.ConvTranspose1d(4, 6, 3, 2).summary((2, 4, 5)).multiply_adds == 2 * 4 * 5 * 6 * 3


def test_shared_parameters_count_once() -> None:
    linear = fr.Linear(3, 3)
    summary = fr.Sequential(linear, linear).summary((1, 3))
    assert [row.parameters for row in summary.rows] == [12, 12, 0]
    assert summary.multiply_adds == 18


def test_tokens_from_a_shape() -> None:
    model = fr.Sequential(fr.Embedding(7, 4), fr.LSTM(4, 3), fr.TimePool("max"), fr.Linear(3, 2))
    summary = model.summary((5, 3), lengths=LENGTHS)
    assert [row.output for row in summary.rows] == [(3, 2), (5, 3, 4), (5, 3, 3), (3, 3), (3, 2)]


def test_the_model_is_untouched() -> None:
    model = lenet()
    kinds = [type(layer) for layer in model]  # type: ignore[attr-defined]
    versions = {name: parameter.version for name, parameter in model.parameters().items()}
    model.summary((1, 1, 28, 28))
    assert [type(layer) for layer in model] == kinds  # type: ignore[attr-defined]
    assert {name: parameter.version for name, parameter in model.parameters().items()} == versions


def test_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("copied")

    model = fr.Sequential(fr.Linear(3, 2))
    monkeypatch.setattr(fr.Parameter, "__reduce__", refuse)
    assert model.summary((1, 3)).parameters == 8


def test_bad_input() -> None:
    model = fr.Linear(3, 2)
    with pytest.raises(ShapeError, match=r"Linear: 'x' must have shape \(..., C=3\), got \(1, 4\)"):
        model.summary((1, 4))
    with pytest.raises(ArgumentError, match=r"Linear.summary: 'x' must be an array or a shape, got str"):
        model.summary("abc")
    with pytest.raises(ArgumentError, match=r"Linear.summary: 'x' must be a non-negative int, got 0.5"):
        model.summary((0.5, 3))
    with pytest.raises(DTypeError, match="Linear: 'x' must have dtype float32, got float64"):
        model.summary(np.zeros((1, 3)))


def test_lengths_add_no_rows() -> None:
    model = fr.Sequential(fr.Conv1d(4, 6, 3, padding=1), fr.BatchNorm1d(6), fr.GroupNorm(2, 6), fr.MaxPool1d(2))
    plain, within = model.summary((3, 4, 8)), model.summary((3, 4, 8), lengths=np.array([8, 2, 5]))
    assert within == plain
    assert within.multiply_adds == 3 * 8 * 6 * 4 * 3
