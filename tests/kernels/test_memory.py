"""Aligned arrays from a pool: what can be asked for, what comes back, and how much memory is kept."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastrnn import ops
from fastrnn._kernels._memory import kept_memory

LIMIT = 256 << 20
BLOCK = 100_000


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 0, 3), (0,), (1,) * 32, (1000, 300)], ids=str)
@pytest.mark.parametrize(
    "dtype",
    [
        np.float32,
        np.float64,
        np.int64,
        np.uint8,
        bool,
        complex,
        ">f4",
        "S7",
        "U3",
        "M8[s]",
        [("a", "f4"), ("b", "i1", 3)],
    ],
)
def test_shapes_and_types(shape: tuple[int, ...], dtype: Any) -> None:
    array = ops.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.strides == np.empty(shape, dtype).strides or array.size == 0
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    assert not array.flags.owndata
    filled = np.zeros(shape, dtype)
    array[...] = filled
    assert np.array_equal(array, filled)


def test_sizes_are_any_integers() -> None:
    assert ops.empty((np.int64(2), np.uint8(3)), "f4").shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((-1,), np.float32),
        ((0, -1), np.float32),
        ((2**62,), np.float32),
        ((2**63,), np.uint8),
        ((2**100,), np.uint8),
        ((2**31, 2**31), np.float64),
        ((2**62, 0), np.float32),
        ((0, 2**62, 2**62), np.uint8),
        ((1,) * 33, np.uint8),
    ],
    ids=str,
)
def test_impossible_shapes(shape: tuple[int, ...], dtype: Any) -> None:
    before = kept_memory()
    with pytest.raises((ValueError, MemoryError)):
        ops.empty(shape, dtype)
    assert kept_memory() == before


@pytest.mark.parametrize("exponent", [50, 56, 60])
def test_more_memory_than_there_is(exponent: int) -> None:
    with pytest.raises(MemoryError):
        ops.empty((2**exponent,), np.uint8)
    assert ops.empty((5,), np.uint8).shape == (5,)


@pytest.mark.parametrize("shape", [3, None, "ab", (1.5,), ("a",), (None,)], ids=repr)
def test_what_is_no_shape(shape: Any) -> None:
    with pytest.raises(TypeError):
        ops.empty(shape, np.float32)


@pytest.mark.parametrize("dtype", [object, [("a", "f4"), ("b", "O")], "no type"], ids=repr)
def test_refused_types(dtype: Any) -> None:
    with pytest.raises(TypeError):
        ops.empty((3,), dtype)


def test_references_are_counted_right() -> None:
    dtype = np.dtype([("a", "f4"), ("b", "f8")])
    before = sys.getrefcount(dtype)
    for _ in range(100):
        ops.empty((3,), dtype)
        with pytest.raises((ValueError, MemoryError)):
            ops.empty((2**58,), dtype)
    assert sys.getrefcount(dtype) == before


@pytest.mark.parametrize("size", [BLOCK, 5 << 20])
def test_memory_of_the_dead_is_used_again(size: int) -> None:
    gc.collect()  # or garbage of other tests may come back in between
    array = ops.empty((size,), np.uint8)
    address = array.ctypes.data
    del array
    again = ops.empty((size - 3,), np.uint8)
    assert again.ctypes.data == address
    other = ops.empty((size,), np.uint8)
    assert not np.shares_memory(again, other)


def test_a_view_keeps_the_memory() -> None:
    array = ops.empty((BLOCK,), np.uint8)
    array[...] = 1
    view = array[5:9][::-1]
    del array
    others = [ops.empty((BLOCK,), np.uint8) for _ in range(5)]
    for other in others:
        other[...] = 2
    assert (view == 1).all()


@pytest.fixture
def empty_pool() -> Iterator[int]:
    """Take all free blocks of the class of BLOCK out of the pool; return what other classes keep."""
    gc.collect()
    held = []
    while True:
        before = kept_memory()
        held.append(ops.empty((BLOCK,), np.uint8))
        if kept_memory() == before:
            break
    yield before
    del held


def test_kept_memory_counts_what_is_free(empty_pool: int) -> None:
    arrays = [ops.empty((BLOCK,), np.uint8) for _ in range(3)]
    del arrays
    one = (kept_memory() - empty_pool) / 3
    assert BLOCK <= one <= BLOCK * 9 / 8
    taken = [ops.empty((BLOCK,), np.uint8) for _ in range(2)]
    assert kept_memory() - empty_pool == one
    assert not np.shares_memory(*taken)


def test_small_blocks_are_not_kept(empty_pool: int) -> None:
    arrays = [ops.empty((size,), np.uint8) for size in (1, 64, 1000, 32 << 10)]
    del arrays
    assert kept_memory() == empty_pool


def test_a_collection_in_between_loses_no_block(empty_pool: int) -> None:
    """The garbage collector may free one block while another is given back."""
    cycle: list[Any] = [ops.empty((BLOCK,), np.uint8)]
    cycle.append(cycle)
    array = ops.empty((BLOCK,), np.uint8)
    lists = [[] for _ in range(500)]  # so that the next list is a fresh one, which counts as an allocation
    thresholds = gc.get_threshold()
    gc.disable()
    del cycle
    gc.set_threshold(1)
    gc.enable()
    del array
    gc.set_threshold(*thresholds)
    gc.collect()
    taken = [ops.empty((BLOCK,), np.uint8) for _ in range(3)]
    assert kept_memory() == empty_pool
    assert len(lists) + len(taken) == 503


def test_the_pool_is_bounded_whatever_was_used_before() -> None:
    array = ops.empty((BLOCK,), np.uint8)
    del array
    alive = ops.empty((BLOCK,), np.uint8)  # empties its class, the oldest one
    for step in range(400):
        del_me = ops.empty(((1 << 20) + step * 50_000,), np.uint8)
        del del_me
        assert kept_memory() <= LIMIT
    assert kept_memory() > LIMIT // 2
    assert alive.nbytes == BLOCK


def test_blocks_above_the_bound_are_not_kept() -> None:
    before = kept_memory()
    array = ops.empty((LIMIT + 1,), np.uint8)  # never touched, so never really there
    del array
    assert kept_memory() == before


MANY_SHAPES = """
import resource
import numpy as np
from fastrnn import ops

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

ops.set_num_threads(1)
rng = np.random.default_rng(0)
weight = rng.standard_normal((4, 64)).astype(np.float32)
before = resident()
for step in range(300):  # 1.3 GB of outputs, no two of one size
    y = ops.embedding_forward(np.zeros(2000 + 100 * step, np.int8), weight)
    y[:] = step
    del y
assert resident() - before < 256 + 32, resident() - before
weights = {"weight_ih": rng.standard_normal((64, 8)), "weight_hh": rng.standard_normal((64, 16))}
before = resident()
for T in range(1, 60):
    for N in (1, 3, 17, 33):
        (y, _), pullback = ops.lstm_vjp(np.zeros((T, N, 8)), weights, lengths=rng.integers(1, T + 1, N))
        pullback(y)
        ops.lstm_forward(np.zeros((T, N, 8)), weights)
assert resident() - before < 32, resident() - before
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_shapes_do_not_grow_the_process(run_python: Callable[..., Any]) -> None:
    done = run_python("-c", MANY_SHAPES)
    assert done.returncode == 0, done.stderr


SCARCE = """
import resource
import numpy as np
from fastrnn import ops

rng = np.random.default_rng(0)
H = 300
weights = {"weight_ih": rng.standard_normal((4 * H, 8)), "weight_hh": 0.01 * rng.standard_normal((4 * H, H))}
x, dy = rng.standard_normal((20, 60, 8)), rng.standard_normal((20, 60, H))
logits, table = rng.standard_normal((1500, 2000)), rng.standard_normal((50, 900))
ops.set_num_threads(1)

def train():
    (y, _), pullback = ops.lstm_vjp(x, weights)
    grads = {name: np.zeros_like(value) for name, value in weights.items()}
    return y, pullback, grads

def everything():
    ops.lstm_forward(x, weights)
    train()
    ops.gru_stream([{name: value[: 3 * H] for name, value in weights.items()}], 700)
    ops.cross_entropy(logits, np.zeros(1500, int))
    ops.embedding_forward(np.zeros(3000, int), table)
    ops.exp(logits)
    ops.linear_vjp(x, weights["weight_ih"])[1](np.zeros((20, 60, 4 * H)))

def with_room_for(mebibytes, call):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (mebibytes << 20), resource.RLIM_INFINITY))
    try:
        call()
        return True
    except MemoryError:
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

outcomes = [with_room_for(room, everything) for room in (0, 2, 4, 6, 8, 12, 16, 24, 32)]
assert not outcomes[0]
y, pullback, grads = train()
refused = 0
for room in range(0, 60, 2):
    if with_room_for(room, lambda: pullback(dy, grads=grads)):
        break
    refused += 1
    assert not any(grad.any() for grad in grads.values()), "a failed call has added to the gradients"
assert refused, "never short of memory"
assert with_room_for(4096, everything)
_, again, wanted = train()
again(dy, grads=wanted)
assert all(np.array_equal(grads[name], wanted[name]) for name in grads)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space and reads /proc")
def test_scarce_memory_is_an_exception(run_python: Callable[..., Any]) -> None:
    """Allocation fails in many places, in turn: a MemoryError each time, nothing half done, and all is well afterwards."""
    done = run_python("-c", SCARCE, OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"
