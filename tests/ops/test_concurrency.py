"""Many threads may call at once, and a forked child works whatever its parent was doing."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numeric import RecurrentProblem
from shapes import GRU, GRU_RESET_BEFORE, LSTM, LSTM_PROJECTED, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_same_bits

from fastrnn import ops

FOR_TEAMS = RecurrentSizes(3, 16, 20, 130)
SECONDS = 30  # until a child counts as hung

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks are what is tested here


@pytest.fixture(params=[1, 2], ids=["alone", "in teams"])
def team(request: pytest.FixtureRequest) -> Any:
    before = ops.get_num_threads()
    ops.set_num_threads(request.param)
    yield request.param
    ops.set_num_threads(before)


@pytest.mark.parametrize("variant", [LSTM, LSTM_PROJECTED, GRU, GRU_RESET_BEFORE], ids=str)
def test_sixteen_threads_call_one_packed_cell(variant: Variant, team: int, isa: str, rng: np.random.Generator) -> None:
    """Each with its own data, forward and backward."""
    problems = [RecurrentProblem.random(rng, variant, FOR_TEAMS, dtype=np.float32) for _ in range(2)]
    problems[1] = RecurrentProblem(**(vars(problems[1]) | {"params": problems[0].params}))
    packed = getattr(ops, f"pack_{variant.cell}")(problems[0].params, **variant.options)
    wanted = [problem.results(ops) for problem in problems]
    start = threading.Barrier(16)

    def call(index: int) -> None:
        start.wait()
        for turn in range(3):
            which = (index + turn) % 2
            assert_same_bits(problems[which].results(ops, params=packed), wanted[which])
            assert_same_bits(problems[which].forward(ops), (wanted[which]["y"], wanted[which]["state"]))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))


def test_sixteen_threads_call_everything_else(team: int, isa: str, rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((300, 60)), rng.standard_normal((70, 60))
    dy, targets = rng.standard_normal((300, 70)), rng.integers(0, 60, 300)
    packed = ops.pack_linear(weight)

    def call() -> Any:
        y, pullback = ops.linear_vjp(x, packed)
        looked_up, backward = ops.embedding_vjp(targets, weight[:, :60])
        return [y, *pullback(dy), looked_up, backward(x), *ops.cross_entropy(x, targets), ops.tanh(x), ops.exp(x)]

    wanted, start = call(), threading.Barrier(16)

    def many(_: int) -> None:
        start.wait()
        for _ in range(3):
            assert_same_bits(call(), wanted)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(many, range(16)))


def exit_code_of(child: Callable[[], bool]) -> int:
    """Fork, run `child` there, and return 0 if it gave true. A child that hangs is ended and fails the test."""
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(0 if child() else 1))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        pytest.fail("the forked child hangs")
    return int(process.exitcode or 0)


@needs_fork
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_forked_child_computes_the_same(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, FOR_TEAMS, dtype=np.float32)
    before = ops.get_num_threads()
    ops.set_num_threads(2)
    try:
        wanted = problem.results(ops)  # the parent's team exists from here on

        def child() -> bool:
            assert ops.get_num_threads() == 1
            ops.set_num_threads(4)
            assert ops.get_num_threads() == 1
            assert_same_bits(problem.results(ops), wanted)
            return exit_code_of(lambda: ops.get_num_threads() == 1) == 0  # and so on for its own children

        assert exit_code_of(child) == 0
        assert ops.get_num_threads() == 2
        assert_same_bits(problem.results(ops), wanted)
    finally:
        ops.set_num_threads(before)


@needs_fork
def test_a_fork_in_the_middle_of_other_threads_calls(isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, LSTM, FOR_TEAMS, dtype=np.float32)
    x, dy = rng.standard_normal((300, 40)), rng.standard_normal((300, 30))
    weight = rng.standard_normal((30, 40))
    before, stop = ops.get_num_threads(), threading.Event()
    ops.set_num_threads(2)

    def linear() -> Any:
        _, pullback = ops.linear_vjp(x, weight)
        return pullback(dy)

    def busy() -> None:
        while not stop.is_set():
            problem.results(ops)
            linear()

    wanted = [problem.results(ops), linear()]
    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(busy) for _ in range(3)]
        try:
            for _ in range(4):
                assert exit_code_of(lambda: assert_same_bits([problem.results(ops), linear()], wanted) is None) == 0
        finally:
            stop.set()
            ops.set_num_threads(before)
        for thread in threads:
            thread.result()


CHILD_WITH_A_TEAM = """
import os
import numpy as np
from fastrnn import ops
rng = np.random.default_rng(0)
weights = {"weight_ih": rng.standard_normal((400, 20)), "weight_hh": 0.1 * rng.standard_normal((400, 100))}
x = rng.standard_normal((3, 16, 20))
ops.set_num_threads(1)
y, _ = ops.lstm_forward(x, weights)  # no team: OpenMP is not entered
child = os.fork()
if child == 0:
    ops.set_num_threads(2)
    same = np.array_equal(ops.lstm_forward(x, weights)[0], y)
    team = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 2
    os._exit(0 if same and ops.get_num_threads() == 2 and team == 2 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_fork
def test_a_child_of_a_parent_without_a_team_may_have_one(run_python: Callable[..., Any]) -> None:
    if not ops.build_info()["openmp"]:
        pytest.skip("built without OpenMP")
    done = run_python("-c", CHILD_WITH_A_TEAM, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
