"""The bench: its statistics, its gate, its reports. No test looks at a time."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# The bench is not part of the installed package. At the end, so that it hides nothing.
sys.path.append(str(Path(__file__).parents[2]))

import fastrnn as fr
from bench import bench_conv, bench_rnn, gate, measure, peers, plot, roofs, shapes
from bench.__main__ import main
from bench.case import OURS, Arrays, Contender
from bench.report import Report, Result, format_table
from bench.rnn_onnx import reordered
from bench.rnn_problem import Problem, make_problem
from bench.runner import Settings, run_cases

SMALL = shapes.SMOKE_RECURRENT[0]


class FakeTime:
    """A clock that only sleeping and working move on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.log.append(f"sleep {seconds}")
        self.now += seconds

    def work(self, name: str, seconds: float) -> None:
        self.log.append(name)
        self.now += seconds


# Statistics and interleaving


def test_summary_has_median_quartiles_and_minimum() -> None:
    timing = measure.summarize([5.0, 1.0, 4.0, 2.0, 3.0], repeats=7)
    assert timing == measure.Timing(median=3.0, low=2.0, high=4.0, best=1.0, samples=5, repeats=7)
    assert timing.spread == pytest.approx(1 / 3)


def test_summary_of_one_sample() -> None:
    assert measure.summarize([2.0], repeats=1).spread == 0


def test_order_rotates() -> None:
    orders = [measure.rotated(["a", "b", "c"], turn) for turn in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize("cost", [0.0001, 0.003, 0.019, 0.02, 5.0])
def test_a_sample_is_long_enough_and_not_much_longer(cost: float) -> None:
    fake = FakeTime()
    repeats = measure.repeats_for(lambda: fake.work("a", cost), 0.02, fake.clock)
    assert repeats * cost >= 0.02
    assert repeats == 1 or repeats * cost < 0.05


def test_a_clock_that_stands_still_at_first_ends_too() -> None:
    fake = FakeTime()
    coarse = 0.5  # only every half second
    repeats = measure.repeats_for(lambda: fake.work("a", 1e-4), 0.02, lambda: fake.now // coarse * coarse)
    assert repeats * 1e-4 >= 0.02


def test_rounds_interleave_with_gaps_and_a_call_that_does_not_count() -> None:
    fake = FakeTime()
    calls = {"a": lambda: fake.work("a", 1.0), "b": lambda: fake.work("b", 3.0)}
    timings = measure.measure(calls, 2, least=0.5, gap=0.25, clock=fake.clock, sleep=fake.sleep)
    gap = "sleep 0.25"
    warm_up = [gap, "a", "a", gap, "b", "b"]
    first = [gap, "a", "a", gap, "b", "b"]
    second = [gap, "b", "b", gap, "a", "a"]
    assert fake.log == warm_up + first + second
    assert (timings["a"].median, timings["b"].median) == (1.0, 3.0)
    assert timings["a"].samples == 2


# The gate


def test_relative_error() -> None:
    truth = np.array([1.0, -4.0])
    assert gate.relative_error(np.array([1.0, -4.0]), truth) == 0
    assert gate.relative_error(np.array([1.4, -4.0]), truth) == pytest.approx(0.1)
    assert gate.relative_error(np.array([1.0]), truth) == np.inf
    assert gate.relative_error(np.array([np.nan, -4.0]), truth) == np.inf
    assert gate.relative_error(np.zeros((2, 0)), np.zeros((2, 0))) == 0


def test_wrong_results_are_named() -> None:
    truth = {"y": np.ones(3), "dx": np.ones(3)}
    almost = {"y": np.ones(3) + 1e-6, "dx": np.ones(3) - 1e-4}
    assert gate.wrong_results(almost, truth) == []
    (problem,) = gate.wrong_results({"y": np.ones(3) + 1e-3, "dx": np.ones(3)}, truth)
    assert problem.startswith("y is wrong by 1.0e-03")


@pytest.fixture
def fake_peer(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Install a peer that returns the truth, times a factor for each result that the test may set."""
    factors: dict[str, float] = {}

    def contenders(problem: Problem, mode: str, threads: int) -> Iterator[Contender]:
        assert mode in ("infer", "train", "stream")
        assert threads >= 1

        def results() -> Arrays:
            return {name: array * factors.get(name, 1.0) for name, array in problem.truth.items()}

        yield Contender("fake", results, results)

    monkeypatch.setitem(peers.PEERS, "fake", lambda: peers.Peer("fake", "1.0", peers._set_by_session))
    monkeypatch.setitem(bench_rnn.CONTENDERS, "fake", contenders)
    return factors


def smoke(*options: str) -> int:
    return main(["rnn", "--smoke", "--threads", "1", *options])


def test_a_right_peer_passes(fake_peer: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    assert fake_peer == {}
    assert smoke("--peers", "fake") == 0
    output = capsys.readouterr().out
    assert "fake ms" in output
    assert "ERROR" not in output
    for row in shapes.SMOKE_RECURRENT:
        assert row.name in output


@pytest.mark.parametrize("name", ["y", "h_n", "c_n", "dx", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_a_wrong_peer_fails(fake_peer: dict[str, float], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake_peer[name] = 1.01
    assert smoke("--rows", f"{SMALL.name} train", "--peers", "fake") == 1
    output = capsys.readouterr().out
    assert f"ERROR {SMALL.name} train, 1 thread: fake: {name} is wrong by 1.0e-02" in output
    assert f"| {SMALL.name}" not in output


def test_our_own_wrong_result_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = bench_rnn._our_layer

    def spoiled(problem: Problem) -> fr.Layer:
        layer: fr.Layer = right(problem)
        with layer.parameters()["bias_ih_l0"].edit() as bias:
            bias += 0.1
        return layer

    monkeypatch.setattr(bench_rnn, "_our_layer", spoiled)
    assert smoke("--rows", f"{SMALL.name} infer", "--peers", "") == 1
    assert f"1 thread: {OURS}: y is wrong" in capsys.readouterr().out


def test_a_peer_that_raises_makes_an_error_of_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def contenders(problem: Problem, mode: str, threads: int) -> Iterator[Contender]:
        del threads
        if mode == "train":
            raise RuntimeError("cannot train")
        yield Contender("fake", lambda: None, lambda: problem.truth)

    monkeypatch.setitem(bench_rnn.CONTENDERS, "fake", contenders)
    peer = peers.Peer("fake", "1.0", peers._set_by_session)
    problem = make_problem(SMALL)
    cases = [bench_rnn.RecurrentCase(problem, mode) for mode in ("infer", "train")]
    settings = Settings((1,), 1, 1e-5, 0.0)
    good, bad = run_cases(cases, [peer], settings, roofs.Roofs(1e-5, 1))
    assert not good.problem
    assert set(good.timings) == {OURS, "fake"}
    assert bad.problem == "RuntimeError: cannot train"


def test_thread_counts_are_restored(fake_peer: dict[str, float]) -> None:
    assert fake_peer == {}
    before = fr.get_num_threads()
    assert main(["rnn", "--smoke", "--threads", "2,1", "--rows", "gru n1", "--peers", "fake"]) == 0
    assert fr.get_num_threads() == before


# The recurrent problem


@pytest.mark.parametrize("row", shapes.SMOKE_RECURRENT, ids=lambda row: row.name)
def test_problem_varies_and_respects_lengths(row: shapes.RecurrentRow) -> None:
    problem = make_problem(row)
    for array in (problem.x, problem.dy, *problem.weights.values()):
        assert array.dtype == np.float32
        assert np.unique(array).size > 1
    if row.lengths:
        assert problem.lengths is not None
        assert problem.steps == problem.lengths.sum() < row.T * row.N
        assert problem.valid.sum(axis=0).tolist() == problem.lengths.tolist()
        assert not problem.dy[~problem.valid].any()
        assert not problem.truth["y"][~problem.valid].any()
    assert problem.truth["y"].shape == problem.dy.shape
    np.testing.assert_array_equal(problem.x, make_problem(row).x)


def test_flops_count_two_operations_per_weight_and_step() -> None:
    problem = make_problem(shapes.RecurrentRow("gru", 2, 3, 5, 7))
    forward = 2 * 3 * 7 * (5 + 7) * 2 * 3
    assert bench_rnn.RecurrentCase(problem, "infer").flops == forward
    assert bench_rnn.RecurrentCase(problem, "train").flops == 3 * forward


def test_goals_go_by_thread_count() -> None:
    problem = make_problem(replace(SMALL, infer=(1.5, 2.5)))
    case = bench_rnn.RecurrentCase(problem, "infer")
    assert [case.goal(threads) for threads in (1, 2, 3)] == [1.5, 2.5, None]


def test_rows_have_distinct_names() -> None:
    names = [f"{row.name} {mode}" for row in shapes.RECURRENT for mode in row.goals]
    assert len(set(names)) == len(names)


def test_gates_in_the_order_of_onnx() -> None:
    rows = np.repeat(np.arange(4), 2)
    assert reordered("lstm", rows).tolist() == [0, 0, 3, 3, 1, 1, 2, 2]
    assert reordered("gru", rows[:6]).tolist() == [1, 1, 0, 0, 2, 2]


@pytest.mark.parametrize("library", ["torch", "onnxruntime", "openvino"])
def test_peer_agrees(library: str, tmp_path: Path) -> None:
    for module in {library, "torch" if library == "torch" else "onnx"}:
        pytest.importorskip(module, exc_type=ImportError)
    file = tmp_path / "report.json"
    assert smoke("--peers", library, "--json", str(file)) == 0
    report = Report.from_json(file.read_text())
    modes = ("infer", "train", "stream") if library == "torch" else ("infer", "stream")
    measured = [result for result in report.results if result.case.endswith(modes)]
    assert measured
    for result in measured:
        assert result.best_peer is not None
        assert result.best_peer.startswith(library)
        assert set(result.errors) == set(result.timings)
    assert library in report.machine


def test_a_missing_peer_is_a_visible_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(peers.PEERS, "gone", lambda: importlib.import_module("no_such_library"))
    assert smoke("--rows", "gru n1", "--peers", "gone") == 0
    assert "gone: left out" in capsys.readouterr().err


# Roofs


def test_roofs_are_positive_and_measured_once() -> None:
    measured = roofs.Roofs(1e-5, 1)
    assert measured.flops > 0
    assert measured.flops == measured.flops
    assert measured.read(5000) == measured.read(4096) > 0
    assert set(roofs.cache_sizes()) == {"L1", "L2", "L3"}


def test_roof_of_a_case_grows_with_the_work() -> None:
    measured = roofs.Roofs(1e-5, 1)
    problem = make_problem(SMALL)
    infer, train = (bench_rnn.RecurrentCase(problem, mode).roof_seconds(measured, 1) for mode in ("infer", "train"))
    assert 0 < infer < train


# Reports


def report_of_two() -> Report:
    ours, peer = (measure.summarize([t, 2 * t, 3 * t], 4) for t in (0.001, 0.002))
    good = Result("A infer", 1, 2e6, 1e-3, 1.5, {OURS: ours, "torch packed": peer}, {OURS: 1e-7, "torch packed": 2e-7})
    bad = Result("B infer", 2, 1e6, problem="torch: y is wrong")
    machine = {"cpu": "a CPU", "isa": "scalar"}
    return Report("rnn", machine, {"rounds": 3, "peers": ["torch", "openvino"]}, {"L1": 2e11}, [good, bad])


def test_report_survives_json(tmp_path: Path) -> None:
    report = report_of_two()
    file = tmp_path / "report.json"
    report.save(file)
    assert Report.from_json(file.read_text()) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 0}'])
def test_other_json_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layout|Expecting value"):
        Report.from_json(text)
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(SystemExit) as exit_info:
        main(["show", str(file)])
    assert exit_info.value.code == 2


def test_show_prints_a_kept_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    report_of_two().save(file)
    assert main(["show", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("| A infer")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "A infer", "2.000", "25", "1.0", "50", "4.000", "2.00", "1.5 met",
    ]  # fmt: skip
    assert "roof, L1: 200.0 GB/s per core" in lines
    assert "ERROR B infer, 2 threads: torch: y is wrong" in lines


def test_schema_is_written(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    report_of_two().save(file)
    values = json.loads(file.read_text())
    assert set(values) == {"schema", "suite", "machine", "settings", "roofs", "results"}
    assert set(values["results"][0]["timings"]["torch packed"]) == {
        "median", "low", "high", "best", "samples", "repeats",
    }  # fmt: skip


def test_table_is_aligned_markdown() -> None:
    table = format_table(["row", "ms"], [["a", "1.5"], ["longer", "12.25"]])
    assert table.splitlines() == [
        "| row    |    ms |",
        "|--------|------:|",
        "| a      |   1.5 |",
        "| longer | 12.25 |",
    ]


def test_best_variant_of_a_library_counts() -> None:
    timings = {OURS: 1.0, "torch packed": 3.0, "torch padded": 2.0, "onnxruntime": 4.0}
    result = Result("A", 1, 1.0, timings={name: measure.summarize([t], 1) for name, t in timings.items()})
    assert result.seconds("torch") == 2.0
    assert result.best_peer == "torch padded"
    assert result.ratio == 2.0


def test_plot_writes_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "plot.png"
    plot.plot_report(report_of_two(), file)
    assert file.read_bytes().startswith(b"\x89PNG")


# The command line


@pytest.mark.parametrize(
    "arguments",
    [[], ["rnn", "--rows", "no such row"], ["rnn", "--peers", "nobody"], ["rnn", "--threads", "0"], ["cooking"]],
)
def test_bad_arguments_exit_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2


# Convolutions


@pytest.mark.parametrize("library", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("row", shapes.SMOKE_CONV, ids=lambda row: row.name)
def test_convolutions_are_right(row: shapes.ConvRow, library: str) -> None:
    peer = {"onnxruntime": "onnx"}.get(library, library)
    for name in {library, peer}:
        pytest.importorskip(name)
    cases = bench_conv._cases_of(row)
    for case in cases:
        assert case.truth()["y"].shape == (row.N, row.K, *row.counts)
        for contender in case.contenders([library], threads=1):
            assert gate.wrong_results(contender.results(), case.truth()) == []


def test_work_of_a_convolution() -> None:
    infer, train = bench_conv._cases_of(shapes.ConvRow(2, 3, (9,), 4, 3, padding=1))
    assert infer.flops == 2 * 2 * 4 * 9 * 3 * 3
    assert train.flops == 3 * infer.flops
    (transposed, _) = bench_conv._cases_of(shapes.ConvRow(1, 2, (3,), 5, 4, stride=2, transposed=True))
    assert transposed.flops == 2 * 2 * 3 * 5 * 4
    assert infer.goal(1) == 1.0
    assert infer.goal(3) is None
