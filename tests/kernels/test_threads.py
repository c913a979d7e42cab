"""How many threads a call may use: the limits that are honoured, and that one thread means no team at all."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastrnn import ops

needs_openmp = pytest.mark.skipif(not ops.build_info()["openmp"], reason="built without OpenMP")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")


@pytest.fixture(autouse=True)
def same_number_afterwards() -> Iterator[None]:
    before = ops.get_num_threads()
    yield
    ops.set_num_threads(before)


@needs_openmp
def test_set_and_get() -> None:
    for count in (1, 2, 3, 64, 1):
        ops.set_num_threads(count)
        assert ops.get_num_threads() == count
        assert ops.build_info()["threads"] == count


@needs_openmp
def test_the_number_holds_in_every_thread() -> None:
    ops.set_num_threads(3)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(ops.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [3]


@needs_openmp
def test_it_holds_in_a_thread_with_another_openmp_limit(run_python: Callable[..., Any]) -> None:
    pytest.importorskip("threadpoolctl")
    code = """
import threading
from threadpoolctl import threadpool_limits
from fastrnn import ops
threadpool_limits(5)
ops.set_num_threads(7)
seen = []
thread = threading.Thread(target=lambda: seen.append(ops.get_num_threads()))
thread.start()
thread.join()
assert seen == [7], seen
"""
    done = run_python("-c", code, OMP_NUM_THREADS="4")
    assert done.returncode == 0, done.stderr


def test_a_huge_number_means_all_there_are() -> None:
    ops.set_num_threads(2**40)
    assert 1 <= ops.get_num_threads() <= 2**40


@needs_openmp
@pytest.mark.parametrize("chosen", [None, 3])
def test_threadpoolctl_is_honoured(chosen: int | None, run_python: Callable[..., Any]) -> None:
    pytest.importorskip("threadpoolctl")
    code = f"""
from threadpoolctl import threadpool_limits
from fastrnn import ops
if {chosen}:
    ops.set_num_threads({chosen})
before = ops.get_num_threads()
assert before == {chosen or 4}
with threadpool_limits(1):
    assert ops.get_num_threads() == 1
    with threadpool_limits(2, user_api="openmp"):
        assert ops.get_num_threads() == 2
assert ops.get_num_threads() == before
with threadpool_limits(1):
    ops.set_num_threads(2)  # the newer wish
    assert ops.get_num_threads() == 2
"""
    done = run_python("-c", code, OMP_NUM_THREADS="4")
    assert done.returncode == 0, done.stderr


@needs_openmp
@pytest.mark.parametrize("count", [1, 3])
def test_environment(count: int, run_python: Callable[..., Any]) -> None:
    done = run_python("-c", "from fastrnn import ops; print(ops.get_num_threads())", OMP_NUM_THREADS=str(count))
    assert done.stdout == f"{count}\n", done.stderr


COUNTING = """
import os
import numpy as np
from fastrnn import ops
rng = np.random.default_rng(0)
H = 300
weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in
           {"weight_ih": (4 * H, 40), "weight_hh": (4 * H, H), "weight_hr": (H, H)}.items()}
x = rng.standard_normal((2, 33, 40)).astype(np.float32)
gru = {name: weights[name][: 3 * H] for name in ("weight_ih", "weight_hh")}
rnn = {name: weights[name][:H] for name in ("weight_ih", "weight_hh")}
wide = rng.standard_normal((300, 400)).astype(np.float32)

def call_everything():
    for pull in (ops.lstm_vjp(x, weights)[1], ops.gru_vjp(x, gru, reset_after=False)[1], ops.gru_vjp(x, gru)[1],
                 ops.rnn_vjp(x, rnn)[1]):
        pull(np.ones((2, 33, H), np.float32))
    ops.linear_vjp(wide, wide)[1](np.ones((300, 300), np.float32))
    ops.cross_entropy(wide, np.zeros(300, int))
    ops.sgd_step(wide.copy(), wide, None, lr=0.1)

def threads():
    return len(os.listdir("/proc/self/task"))

def small_calls():
    tiny = {"weight_ih": np.ones((4, 2)), "weight_hh": np.ones((4, 1))}
    ops.lstm_vjp(np.ones((9, 2, 2)), tiny)[1](np.ones((9, 2, 1)))
    ops.linear_vjp(np.ones((9, 2)), np.ones((3, 2)))[1](np.ones((9, 3)))
    ops.cross_entropy(np.ones((9, 2)), np.zeros(9, int))
    ops.sgd_step(np.ones(99), np.ones(99), None, lr=0.1)

for isa in ops.available_isas():
    ops.set_isa(isa)
    ops.set_num_threads(1)
    call_everything()
assert threads() == 1, "one thread, yet OpenMP was entered"
ops.set_num_threads(3)
small_calls()
assert threads() == 1, "a team for next to no work"
call_everything()
assert threads() == 3, f"{threads()} threads instead of 3"
ops.set_num_threads(2)
call_everything()
assert threads() <= 3
"""


@needs_openmp
@needs_proc
def test_teams_are_as_large_as_they_should(run_python: Callable[..., Any]) -> None:
    done = run_python("-c", COUNTING, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
@needs_openmp
def test_more_threads_than_cores_still_make_progress(run_python: Callable[..., Any]) -> None:
    """A team that waits in its barrier gives the core away."""
    code = """
import numpy as np
from fastrnn import ops
weights = {"weight_ih": np.full((1600, 8), 0.01), "weight_hh": np.full((1600, 400), 0.01)}
ops.set_num_threads(1)
y, _ = ops.lstm_forward(np.ones((20, 8, 8)), weights)
ops.set_num_threads(16)
assert np.array_equal(ops.lstm_forward(np.ones((20, 8, 8)), weights)[0], y)
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
