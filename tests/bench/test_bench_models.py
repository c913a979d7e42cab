"""The suite of whole models: its rows run, its contenders agree. No test looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The bench is not part of the installed package. At the end, so that it hides nothing.
sys.path.append(str(Path(__file__).parents[2]))

from bench import bench_models, roofs, shapes
from bench.__main__ import main
from bench.case import OURS
from bench.gate import wrong_results
from bench.report import Report


def smoke(*arguments: str) -> int:
    return main(["models", "--smoke", "--threads", "1", *arguments])


def test_smoke_runs_every_row_in_every_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    assert smoke("--peers", "", "--json", str(file), "--layers") == 0
    report = Report.from_json(file.read_text())
    assert [result.case for result in report.results] == [case.name for case in bench_models.model_cases(smoke=True)]
    assert all(set(result.timings) == {OURS} for result in report.results)
    printed = capsys.readouterr().out
    assert printed.count("where our time goes") == len(shapes.SMOKE_MODELS)
    assert "| 1.0.0 Conv1d " in printed


def test_torch_agrees(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = tmp_path / "report.json"
    assert smoke("--peers", "torch", "--json", str(file)) == 0
    for result in Report.from_json(file.read_text()).results:
        assert result.best_peer is not None
        assert set(result.errors) == set(result.timings)


def test_rows_have_names_of_their_own() -> None:
    for rows in (shapes.MODELS, shapes.SMOKE_MODELS):
        assert len({row.name for row in rows}) == len(rows)
        assert {row.kind for row in rows} == {row.kind for row in shapes.MODELS}


def test_the_gate_sees_a_wrong_gradient() -> None:
    _, train, *_ = bench_models.model_cases(smoke=True)
    ours = next(train.contenders([], 1))
    results = ours.results()
    assert wrong_results(results, train.truth()) == []
    results["0.weight"] = np.roll(results["0.weight"], 1, axis=-1)
    assert wrong_results(results, train.truth())


def test_a_step_trains() -> None:
    """The step that is timed does what a training does."""
    _, train, *_ = bench_models.model_cases(smoke=True)
    model = train.problem.model()
    before = model.state_dict()
    for _, part in bench_models.our_step(train.problem, model):
        part()
    assert all((array != before[name]).any() for name, array in model.state_dict().items())


def test_products_and_roof() -> None:
    measured = roofs.Roofs(1e-5, 1)
    for infer, train in zip(*[iter(bench_models.model_cases(smoke=True))] * 2, strict=True):
        assert 0 < infer.roof_seconds(measured, 1) < train.roof_seconds(measured, 1)
        assert train.flops == 3 * infer.flops
        assert infer.goal(1) == 1.0
        assert infer.goal(9) is None
