"""The kit suite: its rows run, PyTorch agrees. No test looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The bench is not part of the installed package. At the end, so that it hides nothing.
sys.path.append(str(Path(__file__).parents[2]))

import fastrnn as fr
from bench import bench_kit, roofs, shapes
from bench.__main__ import main
from bench.case import OURS
from bench.gate import wrong_results
from bench.report import Report


def smoke(*arguments: str) -> int:
    return main(["kit", "--smoke", "--threads", "1", *arguments])


def test_smoke_runs_every_row_in_every_mode(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert smoke("--peers", "", "--json", str(file)) == 0
    report = Report.from_json(file.read_text())
    assert [result.case for result in report.results] == [case.name for case in bench_kit.kit_cases(smoke=True)]
    assert all(set(result.timings) == {OURS} for result in report.results)


def test_torch_agrees(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = tmp_path / "report.json"
    assert smoke("--peers", "torch", "--json", str(file)) == 0
    for result in Report.from_json(file.read_text()).results:
        assert result.best_peer is not None
        assert set(result.errors) == set(result.timings)


def test_softmax_takes_part_as_soon_as_it_is_there() -> None:
    kinds = {case.problem.row.kind for case in bench_kit.kit_cases(smoke=True)}
    assert kinds == {row.kind for row in shapes.SMOKE_KIT if row.kind != "softmax" or hasattr(fr, "Softmax")}


def test_rows_have_names_of_their_own() -> None:
    for rows in (shapes.KIT, shapes.SMOKE_KIT):
        assert len({row.name for row in rows}) == len(rows)


def test_quick_rows_are_some_of_all() -> None:
    quick = [case.problem.row for case in bench_kit.kit_cases(smoke=True, quick=True)]
    assert quick == [row for row in shapes.SMOKE_KIT if row.quick for _ in row.goals]


def test_the_gate_sees_a_wrong_result() -> None:
    for case in bench_kit.kit_cases(smoke=True):
        results = next(case.contenders([], 1)).results()
        assert wrong_results(results, case.truth()) == []
        for name, array in results.items():
            assert wrong_results({name: np.asarray(array) + 1}, case.truth())


def test_roof_and_goal() -> None:
    measured = roofs.Roofs(1e-5, 1)
    for case in bench_kit.kit_cases(smoke=True):
        assert case.roof_seconds(measured, 1) > 0
        assert case.flops > 0
        assert (case.goal(1), case.goal(2), case.goal(9)) == (1.2, 1.2, None)
