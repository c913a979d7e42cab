"""Parameters: the one door for changes, versions, gradients."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastrnn import Parameter
from fastrnn.errors import DTypeError, ShapeError
from fastrnn.layers.parameter import adding_to, summing_into


def parameter(dtype: Any = np.float32) -> Parameter:
    return Parameter(np.arange(6, dtype=dtype).reshape(2, 3))


def test_holds_a_copy(dtype: Any) -> None:
    value = np.ones((2, 3), dtype)
    p = Parameter(value)
    value[...] = 2
    assert_array_equal(p.data, np.ones((2, 3)))
    assert (p.shape, p.dtype, p.size, p.version) == ((2, 3), dtype, 6, 0)
    assert repr(p) == f"Parameter(shape=(2, 3), dtype={np.dtype(dtype)}, version=0)"


@pytest.mark.parametrize("value", [np.ones(3, int), np.ones(3, complex), np.ones(3, np.float16), "a", None])
def test_holds_floats_only(value: Any) -> None:
    with pytest.raises(DTypeError, match="Parameter: 'value' must have dtype float32 or float64, got"):
        Parameter(value)


def test_foreign_byte_order_becomes_native() -> None:
    p = Parameter(np.array([1.0, 2.0], ">f4"))
    assert p.dtype is np.dtype(np.float32)
    assert_array_equal(p.data, [1, 2])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    p = Parameter(np.zeros(shape))
    p.assign(np.ones(shape))
    assert p.data.shape == p.grad.shape == shape
    assert (p.data == 1).all()


def test_data_is_read_only_for_good() -> None:
    data = parameter().data
    with pytest.raises(ValueError, match="read-only"):
        data.fill(1)
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        data.setflags(write=True)


def test_assign_counts_and_is_seen_through_data() -> None:
    p = parameter()
    data = p.data
    p.assign(np.full((2, 3), 7, np.float32))
    assert_array_equal(data, np.full((2, 3), 7))
    assert p.version == 1


def test_a_bad_assign_changes_nothing() -> None:
    p = parameter()
    with pytest.raises(ShapeError, match=r"Parameter: 'value' must have shape \(2, 3\), got \(3, 2\)"):
        p.assign(np.ones((3, 2), np.float32))
    with pytest.raises(ShapeError):
        p.assign(np.ones(3, np.float32))
    with pytest.raises(DTypeError, match="Parameter: 'value' must have dtype float32, got float64"):
        p.assign(np.ones((2, 3)))
    assert p.version == 0
    assert_array_equal(p.data, parameter().data)


def test_edit() -> None:
    p = parameter()
    with p.edit() as values:
        values *= 2
        assert p.version == 0
    assert p.version == 1
    assert_array_equal(p.data, 2 * parameter().data)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_edit_counts_after_an_exception() -> None:
    p = parameter()
    with pytest.raises(ZeroDivisionError), p.edit() as values:  # noqa: PT012
        values[0] = 9
        1 / 0  # noqa: B018
    assert p.version == 1
    assert (p.data[0] == 9).all()
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_edits_may_nest() -> None:
    p = parameter()
    with p.edit() as outer:
        with p.edit() as inner:
            inner[0] = 1
        outer[1] = 2
    assert p.version == 2
    assert_array_equal(p.data, [[1, 1, 1], [2, 2, 2]])


def test_grad_appears_when_asked_for() -> None:
    p = parameter()
    assert not p.has_grad
    p.zero_grad()
    assert not p.has_grad
    grad = p.grad
    assert p.has_grad
    assert grad is p.grad
    assert grad.dtype == p.dtype
    assert grad.flags.writeable
    assert_array_equal(grad, np.zeros((2, 3)))
    p.grad += 3
    assert (grad == 3).all()
    p.zero_grad()
    assert not grad.any()
    assert p.version == 0


def test_a_gradient_that_nobody_read_is_written_after_zero_grad() -> None:
    p, q = parameter(), parameter()
    shown = q.grad
    for count in range(2):
        with summing_into({"p": p, "q": q}) as (sums, fresh):
            assert fresh == (["p"] if count else [])
            assert not sums["q"].any()
            sums["p"][...] = 5
            shown += 1
        p.zero_grad(), q.zero_grad()
    assert not shown.any()
    assert not p.grad.any()
    with summing_into({"p": p}) as (_, fresh):
        assert not fresh


def test_what_a_failed_pullback_wrote_counts_for_nothing() -> None:
    p = parameter()
    with summing_into({"p": p}) as (sums, _):
        sums["p"][...] = 5
    p.zero_grad()
    with pytest.raises(MemoryError), summing_into({"p": p}) as (sums, fresh):  # noqa: PT012
        assert fresh == ["p"]
        sums["p"][...] = 7
        raise MemoryError
    assert not p.grad.any()


def test_gradients_that_find_no_memory_leave_the_others_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = parameter(), parameter()
    with summing_into({"p": p}) as (sums, _):
        sums["p"][...] = 5
    p.zero_grad()

    def exhausted(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("fastrnn.layers.parameter.np.zeros", exhausted)
    with pytest.raises(MemoryError), summing_into({"p": p, "q": q}):
        pass
    monkeypatch.undo()
    assert not p.grad.any()


def test_rows_of_a_gradient_that_counts_as_zero() -> None:
    p = Parameter(np.ones((3, 2)), sparse=True)
    p._sum()[...] = 5
    p.touch(None)
    p.zero_grad()
    p.touch(np.array([1]))
    p._sum()[1] += 2
    assert_array_equal(p._sum(), [[0, 0], [2, 2], [0, 0]])
    p.zero_grad()
    assert not p.grad.any()


def test_grad_takes_values() -> None:
    p = parameter()
    grad = p.grad
    p.grad = np.ones((2, 3), np.float32)
    assert p.grad is grad
    assert (grad == 1).all()
    with pytest.raises(ShapeError, match=r"Parameter: 'grad' must have shape \(2, 3\), got \(3,\)"):
        p.grad = np.ones(3, np.float32)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies(duplicate: Any) -> None:
    p = parameter()
    p.grad += 1
    double = duplicate(p)
    assert not double.has_grad
    with double.edit() as values:
        values += 1
    assert_array_equal(p.data, parameter().data)
    assert_array_equal(double.data, parameter().data + 1)


def test_versions_from_many_threads() -> None:
    p = parameter()
    barrier = threading.Barrier(16)

    def change(index: int) -> None:
        barrier.wait()
        for _ in range(50):
            with p.edit() as values:
                values[0, 0] = index

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(change, range(16)))
    assert p.version == 16 * 50


def test_gradients_are_held_by_one_at_a_time() -> None:
    p, q, r = parameter(), parameter(), parameter()
    inside, most = [0], [0]

    def add(pair: tuple[Parameter, Parameter]) -> None:
        for _ in range(200):
            with adding_to(pair):
                inside[0] += pair[0] is not r
                most[0] = max(most[0], inside[0])
                pair[0].grad[0, 0] += 1
                inside[0] -= pair[0] is not r

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, [(p, q), (q, p), (p, p), (r, r)] * 2))
    assert most[0] == 1
    assert p.grad[0, 0] + q.grad[0, 0] + r.grad[0, 0] == 8 * 200


def test_an_exception_lets_go() -> None:
    p = parameter()
    for _ in range(2):
        with pytest.raises(KeyError), adding_to([p]):
            raise KeyError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_finds_no_lock_taken() -> None:
    """The parent forks while another thread holds the gradient; the child can still use it."""
    p = parameter()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with adding_to([p]):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with adding_to([p]), p.edit() as values:
            values += 1
        os._exit(p.version)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
