"""The pooling suite: its rows run, its contenders agree. No test looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The bench is not part of the installed package. At the end, so that it hides nothing.
sys.path.append(str(Path(__file__).parents[2]))

from bench import bench_pool, roofs, shapes
from bench.__main__ import main
from bench.case import OURS
from bench.gate import wrong_results
from bench.report import Report


def smoke(*arguments: str) -> int:
    return main(["pool", "--smoke", "--threads", "1", *arguments])


def test_smoke_runs_every_row_in_every_mode(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert smoke("--peers", "", "--json", str(file)) == 0
    report = Report.from_json(file.read_text())
    assert [result.case for result in report.results] == [case.name for case in bench_pool.pool_cases(smoke=True)]
    assert all(set(result.timings) == {OURS} for result in report.results)


@pytest.mark.parametrize("library", ["torch", "onnxruntime", "openvino"])
def test_peer_agrees(library: str, tmp_path: Path) -> None:
    for module in {library, "torch" if library == "torch" else "onnx"}:
        pytest.importorskip(module, exc_type=ImportError)
    file = tmp_path / "report.json"
    assert smoke("--peers", library, "--json", str(file)) == 0
    for result in Report.from_json(file.read_text()).results:
        if library == "torch" or result.case.endswith("infer"):
            assert result.best_peer is not None
            assert result.best_peer.startswith(library)
            assert set(result.errors) == set(result.timings)


def test_rows_have_names_of_their_own() -> None:
    for rows in (shapes.POOLING, shapes.SMOKE_POOLING):
        assert len({row.name for row in rows}) == len(rows)


def test_quick_rows_are_some_of_all() -> None:
    quick = [case.problem.row for case in bench_pool.pool_cases(smoke=True, quick=True)]
    assert quick == [row for row in shapes.SMOKE_POOLING if row.quick for _ in row.goals]


def test_the_gate_sees_a_wrong_result() -> None:
    (case, *_) = bench_pool.pool_cases(smoke=True)
    ours = next(case.contenders([], 1))
    results = ours.results()
    assert wrong_results(results, case.truth()) == []
    results["y"] = np.roll(results["y"], 1, axis=-1)
    assert wrong_results(results, case.truth())


def test_roof_and_goal() -> None:
    measured = roofs.Roofs(1e-5, 1)
    assert measured.copy(5000) == measured.copy(4096) > 0
    infer, train, *_ = bench_pool.pool_cases(smoke=True)
    assert 0 < infer.roof_seconds(measured, 1) < train.roof_seconds(measured, 1)
    assert infer.flops < train.flops
    assert infer.goal(1) == 1.0
    assert infer.goal(9) is None
