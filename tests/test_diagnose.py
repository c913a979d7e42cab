"""`diagnose`: norms of dL/dh_t against the reference, and against what a model does otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers.cases import CASES, LENGTHS, Case
from numpy.testing import assert_allclose, assert_array_equal

import fastrnn as fr
from fastrnn import reference
from fastrnn.errors import ArgumentError

T, N, C, H = 5, 3, 4, 3
KINDS = {"rnn": fr.RNN, "lstm": fr.LSTM, "gru": fr.GRU}


def expected(cell: str, layer: Any, x: Any, dy: Any, suffix: str = "") -> Any:
    """Return |dL/dh_t| (T, N) by the reference: dy_t, and the gradient of the state that the steps after t start from."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    params = {name: np.array(getattr(layer, f"{name}_l0{suffix}")) for name in names}
    forward, vjp = getattr(reference, f"{cell}_forward"), getattr(reference, f"{cell}_vjp")
    norms = np.empty(dy.shape[:2])
    for t in range(len(x)):
        total = dy[t]
        if t + 1 < len(x):
            _, state = forward(x[: t + 1], params)
            _, pull = vjp(x[t + 1 :], params, state)
            _, dstate, _ = pull(dy[t + 1 :])
            total = total + (dstate[0] if cell == "lstm" else dstate)
        norms[t] = np.linalg.norm(total, axis=1)
    return norms


@pytest.mark.parametrize("cell", KINDS)
def test_norms_equal_the_reference(cell: str, rng: np.random.Generator) -> None:
    layer = KINDS[cell](C, H, dtype=np.float64)
    x, dy = rng.standard_normal((T, N, C)), rng.standard_normal((T, N, H))
    found = fr.diagnose(layer, x, dy)
    (hidden,) = found.cells
    assert (hidden.name, hidden.reverse) == ("l0", False)
    assert_allclose(hidden.by_sequence, expected(cell, layer, x, dy), rtol=1e-12)
    assert_allclose(hidden.norms, np.linalg.norm(hidden.by_sequence, axis=1), rtol=1e-14)
    assert_allclose(hidden.factor, (hidden.norms[0] / hidden.norms[-1]) ** (1 / (T - 1)), rtol=1e-12)


def test_both_directions_and_lengths(rng: np.random.Generator) -> None:
    layer = fr.GRU(C, H, bidirectional=True, dtype=np.float64)
    x, dy = rng.standard_normal((T, N, C)), rng.standard_normal((T, N, 2 * H))
    forth, back = fr.diagnose(layer, x, dy, lengths=LENGTHS).cells
    assert (forth.name, forth.reverse, back.name, back.reverse) == ("l0", False, "l0_reverse", True)
    for n, length in enumerate(LENGTHS):
        one, d_one = x[:length, n : n + 1], dy[:length, n : n + 1]
        assert_allclose(forth.by_sequence[:length, n], expected("gru", layer, one, d_one[..., :H])[:, 0], rtol=1e-12)
        reverse = expected("gru", layer, one[::-1], d_one[::-1, :, H:], "_reverse")
        assert_allclose(back.by_sequence[:length, n], reverse[::-1, 0], rtol=1e-12)
        assert not forth.by_sequence[length:, n].any()
        assert not back.by_sequence[length:, n].any()


KINDS_OF_CASES = ("rnn", "lstm", "gru", "sequential", "composite", "sentence", "frames", "bidirectional")
RECURRENT = [case for case in CASES if case.name.split("_")[0] in KINDS_OF_CASES and "unbatched" not in case.name]


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_single_steps_change_no_result(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    y, _ = case.forward(layer, x)
    dy, seen = rng.standard_normal(y.shape), []

    def loss(result: Any) -> Any:
        seen.append(result)
        return 2.5, dy

    found = fr.diagnose(layer, x, loss, **case.options)
    assert_allclose(seen[0], y, rtol=1e-12, atol=1e-14)
    assert found.loss == 2.5
    assert all(cell.norms.any() for cell in found.cells)
    assert len({cell.name for cell in found.cells}) == len(found.cells)
    assert not any(parameter.has_grad for parameter in layer.parameters().values())


def test_names_of_cells_and_calls(rng: np.random.Generator) -> None:
    gru = fr.GRU(C, C)
    model = fr.Sequential(gru, fr.Sequential(fr.LSTM(C, C, 2, dropout=0.5)), gru)
    cells = fr.diagnose(model, rng.standard_normal((T, N, C)).astype("f4")).cells
    assert [cell.name for cell in cells] == ["0.l0", "1.0.l0", "1.0.l1", "0.l0#1"]


def test_vanishing_and_exploding_are_seen(rng: np.random.Generator) -> None:
    """A linear recurrence h_t = a h_{t-1} multiplies gradients by a."""
    for a in (0.5, 2.0):
        layer = fr.RNN(1, 2, nonlinearity="relu", bias=False, dtype=np.float64)
        layer.weight_ih_l0, layer.weight_hh_l0 = np.ones((2, 1)), a * np.eye(2)
        dy = np.zeros((8, N, 2))
        dy[-1] = 1
        found = fr.diagnose(layer, np.ones((8, N, 1)), dy)
        assert_allclose(found.cells[0].factor, a, rtol=1e-12)
        assert f"x {a:g}" in str(found)


def test_the_default_loss_is_half_the_squares(rng: np.random.Generator) -> None:
    layer, x = fr.GRU(C, H, dtype=np.float64), rng.standard_normal((T, N, C))
    y, _ = layer(x)
    found = fr.diagnose(layer, x)
    assert_allclose(found.loss, np.square(y).sum() / 2)
    assert_array_equal(found.cells[0].norms, fr.diagnose(layer, x, y).cells[0].norms)


def test_a_plot(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "norms.png"
    fr.diagnose(fr.GRU(C, H, bidirectional=True), rng.standard_normal((T, N, C)).astype("f4")).plot(path)
    assert path.stat().st_size > 1000


def test_without_matplotlib_it_says_so(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = fr.diagnose(fr.GRU(C, H), rng.standard_normal((T, N, C)).astype("f4"))
    with pytest.raises(ImportError, match="plot needs the package matplotlib"):
        found.plot("norms.png")


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="diagnose: 'model' must have a recurrent layer, got Linear"):
        fr.diagnose(fr.Linear(1, 1), np.zeros((1, 1), "f4"))
    with pytest.raises(ArgumentError, match="diagnose: 'model' must be a Layer, got str"):
        fr.diagnose("lstm", np.zeros((1, 1), "f4"))  # type: ignore[arg-type]
