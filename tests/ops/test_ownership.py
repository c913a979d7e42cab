"""Who owns which memory: `out`, live outputs, what a pullback saved, packed weights."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numeric import Array, RecurrentProblem
from shapes import LSTM, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ShapeError

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
plans = pytest.mark.parametrize(
    ("lengths", "reverse"), [(False, False), (False, True), (True, True)], ids=["even", "reverse", "lengths"]
)

OUT_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda wide: wide[:, :, : wide.shape[2] // 2].copy(),
    "rows apart": lambda wide: wide[:, :, : wide.shape[2] // 2],
    "every other element": lambda wide: wide[:, :, ::2],
    "steps apart": lambda wide: np.repeat(wide[:, :, : wide.shape[2] // 2], 2, axis=0)[::2],
    "batch first": lambda wide: wide[:, :, : wide.shape[2] // 2].transpose(1, 0, 2).copy().transpose(1, 0, 2),
    "time backwards": lambda wide: wide[::-1, :, : wide.shape[2] // 2],
    "elements backwards": lambda wide: wide[:, :, : wide.shape[2] // 2 - 1 : -1],
}


@each_variant
@plans
@pytest.mark.parametrize("layout", OUT_LAYOUTS)
def test_out_receives_y_and_nothing_else_changes(
    variant: Variant, lengths: bool, reverse: bool, layout: str, isa: str, rng: np.random.Generator
) -> None:
    for sizes in (RecurrentSizes(3, 4, 5, 8), RecurrentSizes(3, 1, 5, 8), RecurrentSizes(1, 4, 5, 8)):
        problem = RecurrentProblem.random(rng, variant, sizes, lengths=lengths, reverse=reverse)
        wanted = problem.results(ops)
        wide = np.full((*wanted["y"].shape[:2], 2 * wanted["y"].shape[2]), 7.0)
        out = OUT_LAYOUTS[layout](wide)
        memory = wide if out.base is None else out.base
        got = problem.results(ops, out=out)
        assert got["y"] is out
        assert_same_bits(got, wanted)
        out[...] = 7
        y, _ = problem.forward(ops, out=out)
        assert y is out
        assert_same_bits(y, wanted["y"])
        out[...] = 7
        assert (memory == 7).all()


@each_variant
def test_out_in_records_of_odd_size(variant: Variant, isa: str, dtype: type, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, 4, 5, 8), dtype=dtype)
    wanted, _ = problem.forward(ops)
    records = np.zeros((3, 4), [("byte", np.int8), ("y", dtype, wanted.shape[2:]), ("after", np.int8)])
    problem.forward(ops, out=records["y"])
    assert_same_bits(records["y"], wanted)
    assert not records["byte"].any()
    assert not records["after"].any()


@each_variant
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_out_may_be_the_input_or_the_state(
    variant: Variant, reverse: bool, isa: str, threads: int, rng: np.random.Generator
) -> None:
    """Chunks of a long sequence run in place, and from the last row that the chunk before left in the same buffer."""
    outputs = variant.outputs(260)
    problem = RecurrentProblem.random(
        rng, variant, RecurrentSizes(2, 4, outputs, 260), dtype=np.float32, reverse=reverse
    )
    wanted = problem.forward(ops)
    shared = problem.x.copy()
    assert_same_bits(replace(problem, x=shared).forward(ops, out=shared), wanted)
    for step in (0, 1):
        out = np.zeros_like(wanted[0])
        out[step] = problem.state[0]
        given = replace(problem, state=(out[step], *problem.state[1:]))
        assert_same_bits(given.forward(ops, out=out), wanted)


@each_variant
def test_outputs_are_aligned_and_never_alias_live_ones(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(5, 7, 11, 45), dtype=np.float32)
    wanted = problem.results(ops)
    kept = [problem.results(ops) for _ in range(5)]
    for _ in range(20):
        problem.results(ops)
        problem.forward(ops)
    arrays = [result[name] for result in kept for name in ("y", "dx")]
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    arrays += [part for result in kept for name in ("state", "dstate") for part in result[name]]
    arrays += [value for result in kept for value in result["params"].values()]
    for index, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:index])
    for result in kept:
        assert_same_bits(result, wanted)


def test_other_outputs_are_aligned(isa: str, dtype: type, rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((7, 5)).astype(dtype), rng.standard_normal((3, 5)).astype(dtype)
    y, pullback = ops.linear_vjp(x, weight)
    outputs = [y, pullback(y)[0], ops.exp(x), ops.embedding_forward([4, 2], x), ops.cross_entropy(x, [0] * 7)[1]]
    assert all(output.ctypes.data % 64 == 0 for output in outputs)


@each_variant
@plans
def test_a_pullback_owns_what_it_saved(
    variant: Variant, lengths: bool, reverse: bool, isa: str, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(4, 3, 5, 9), lengths=lengths, reverse=reverse)
    wanted = problem.results(ops)
    function = getattr(ops, f"{variant.cell}_vjp")
    (y, state), pullback = function(problem.x, problem.params, problem.pack(problem.state), **problem.options)
    assert_same_bits((y, problem.unpack(state)), (wanted["y"], wanted["state"]))
    for array in (y, *problem.unpack(state), problem.x, *problem.state, *problem.params.values()):
        array[...] = np.nan
    if lengths:
        problem.options["lengths"][...] = 1
    for _ in range(3):  # takes the memory of whatever was not kept alive
        ops.exp(np.zeros((4, 3, 9)))
    dx, dstate, grads = pullback(problem.dy, problem.pack(problem.dstate))
    assert_same_bits([dx, problem.unpack(dstate), grads], [wanted["dx"], wanted["dstate"], wanted["params"]])
    with pytest.raises(RuntimeError, match=f"{variant.cell}_vjp: a pullback can be called only once"):
        pullback(problem.dy)


def test_several_live_pullbacks_in_any_order(isa: str, rng: np.random.Generator) -> None:
    problems = [RecurrentProblem.random(rng, LSTM, RecurrentSizes(4, N, 5, 9)) for N in (1, 3, 3, 4)]
    wanted = [problem.results(ops) for problem in problems]
    calls = [ops.lstm_vjp(problem.x, problem.params, problem.state) for problem in problems]
    for index in (2, 0, 3):  # and one dies unused
        dx, dstate, grads = calls[index][1](problems[index].dy, problems[index].dstate)
        assert_same_bits([dx, dstate, grads], [wanted[index][name] for name in ("dx", "dstate", "params")])


@each_variant
def test_weights_edited_between_calls(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    """The same dict and the same arrays: nothing is remembered by identity. A packed copy is what it was."""
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, 2, 5, 9))
    packed = getattr(ops, f"pack_{variant.cell}")(problem.params, **variant.options)
    before = problem.results(ops)
    for value in problem.params.values():
        value *= 1.5
    after = problem.results(ops)
    assert_close(f"{variant.cell}_vjp", after, problem.results(reference))
    assert not np.array_equal(after["y"], before["y"])
    assert_same_bits(problem.results(ops, params=packed), before)


@each_variant
def test_packed_weights_outlive_a_change_of_the_isa(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, 4, 5, 9), dtype=np.float32)
    packed = getattr(ops, f"pack_{variant.cell}")(problem.params, **variant.options)
    wanted = problem.results(ops)
    for other in ops.available_isas():
        ops.set_isa(other)
        assert_same_bits(problem.results(ops, params=packed), wanted)


def test_many_shapes_keep_little_memory() -> None:
    """Forty shapes of some 200 000 rows: what Python and NumPy hold afterwards does not grow with their number."""
    weights = {"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1))}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for N in range(50_000, 50_040):
            x = np.zeros((4, N, 1))
            (y, _), pullback = ops.rnn_vjp(x, weights, reverse=N % 2 == 0)
            pullback(y)
        del x, y, pullback
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 16 << 20


def test_a_pullback_that_failed_on_the_way_is_spent(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Convolutions overwrite what they saved; a refused call has not begun."""
    x, weight = rng.standard_normal((1, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3))
    y, pullback = ops.conv_vjp(x, weight, np.zeros(3), activation="tanh")
    with pytest.raises(ShapeError, match="'dy' must have shape"):
        pullback(y[:, :2])

    def exhausted(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fastrnn.ops._conv_gradients.add_map_sums", exhausted)
    with pytest.raises(MemoryError):
        pullback(y)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="conv_vjp: a pullback can be called only once"):
        pullback(y)
