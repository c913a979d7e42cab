"""The promises about bits, NaN and infinities, memory and ownership; those about threads are in test_concurrency.py."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Array, RecurrentProblem, layouts
from shapes import LSTM, RNN_RELU, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
plans = pytest.mark.parametrize(
    ("lengths", "reverse"), [(False, False), (False, True), (True, True)], ids=["even", "reverse", "lengths"]
)

# More than 160 000 multiply-adds a step and five panels of the widest vectors: four threads find work.
FOR_TEAMS = RecurrentSizes(T=3, N=7, C=33, H=260)
BATCH = RecurrentSizes(T=4, N=16, C=19, H=37)
# Longer than what one or two sequences multiply ahead of the time loop in one piece.
LONG = RecurrentSizes(T=2100, N=3, C=2, H=64)
WITH_TAILS = RecurrentSizes(T=4, N=5, C=3, H=21)


@each_variant
@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
def test_same_bits_for_any_number_of_threads(
    variant: Variant, lengths: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, FOR_TEAMS, dtype=dtype, lengths=lengths, reverse=lengths)
    before = ops.get_num_threads()
    try:
        ops.set_num_threads(1)
        alone = problem.results(ops)
        for count in (2, 3, 4):
            ops.set_num_threads(count)
            assert_same_bits(problem.results(ops), alone, f" with {count} threads")
    finally:
        ops.set_num_threads(before)


@each_variant
@plans
def test_same_bits_for_a_sequence_in_any_batch(
    variant: Variant, lengths: bool, reverse: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, BATCH, dtype=dtype, lengths=lengths, reverse=reverse)
    whole = problem.results(ops)
    for rows in (slice(0, 1), slice(15, 16), slice(3, 5), slice(5, 8), slice(9, 16)):
        part = problem.part(rows).results(ops)
        for name in ("y", "dx"):
            assert_same_bits(part[name], whole[name][:, rows], f" of {name}, sequences {rows}")
        for name in ("state", "dstate"):
            assert_same_bits(part[name], [value[rows] for value in whole[name]], f" of {name}, sequences {rows}")
        y, state = problem.part(rows).forward(ops)
        assert_same_bits((y, state), (part["y"], part["state"]))


@each_variant
@plans
def test_same_bits_for_long_sequences(
    variant: Variant, lengths: bool, reverse: bool, isa: str, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, LONG, dtype=np.float32, reverse=reverse)
    if lengths:
        problem = problem.with_lengths(np.array([1300, 1, 2100]))
    y, state = problem.forward(ops)
    for rows in (slice(0, 1), slice(2, 3), slice(1, 3)):
        got = problem.part(rows).forward(ops)
        assert_same_bits(got, (y[:, rows], tuple(value[rows] for value in state)))


@each_variant
@pytest.mark.parametrize("argument", ["x", "state", "dy", "dstate", "params"])
def test_same_bits_from_any_memory_layout(
    variant: Variant, argument: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(2, 3, 5, 7), dtype=dtype)
    wanted = problem.results(ops)
    given = getattr(problem, argument)
    many = {"array": given} if isinstance(given, np.ndarray) else given if isinstance(given, dict) else dict(enumerate(given))
    changed = {key: layouts(value) for key, value in many.items()}
    for layout in layouts(problem.x):
        values = {key: value[layout] for key, value in changed.items()}
        before = {key: value.copy() for key, value in values.items()}
        value = values["array"] if isinstance(given, np.ndarray) else type(given)(values if argument == "params" else values.values())
        assert_same_bits(replace(problem, **{argument: value}).results(ops), wanted, f" with {argument} {layout}")
        assert_same_bits(values, before)


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
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(2, 4, outputs, 260), dtype=np.float32, reverse=reverse)
    wanted = problem.forward(ops)
    shared = problem.x.copy()
    assert_same_bits(replace(problem, x=shared).forward(ops, out=shared), wanted)
    for step in (0, 1):
        out = np.zeros_like(wanted[0])
        out[step] = problem.state[0]
        given = replace(problem, state=(out[step], *problem.state[1:]))
        assert_same_bits(given.forward(ops, out=out), wanted)


@each_variant
@plans
def test_a_nan_stays_in_its_sequence(
    variant: Variant, lengths: bool, reverse: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, WITH_TAILS, dtype=dtype, lengths=lengths, reverse=reverse)
    clean = problem.results(ops)
    others = np.arange(WITH_TAILS.N) != 2
    for name in ("x", "dy", "state", "dstate"):
        poisoned = replace(
            problem,
            x=problem.x.copy(),
            dy=problem.dy.copy(),
            state=tuple(part.copy() for part in problem.state),
            dstate=tuple(part.copy() for part in problem.dstate),
        )
        if name in {"x", "dy"}:
            getattr(poisoned, name)[0, 2, -1] = np.nan
        else:
            for part in getattr(poisoned, name):
                part[2, 0] = np.nan
        got = poisoned.results(ops)
        for result in ("y", "dx"):
            assert_same_bits(got[result][:, others], clean[result][:, others], f" of {result} after NaN in {name}")
        for result in ("state", "dstate"):
            pairs = zip(got[result], clean[result], strict=True)
            assert all(np.array_equal(value[others], wanted[others]) for value, wanted in pairs)
        assert_close("rnn_vjp", got, poisoned.results(reference))


@each_variant
@pytest.mark.parametrize("N", [1, 2, 5])
@pytest.mark.parametrize("value", [np.inf, -np.inf], ids=str)
def test_infinities_give_what_the_equations_give(
    variant: Variant, N: int, value: float, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """Also in gradients: no NaN comes from the padding behind units and columns that do not fill a vector."""
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, N, 3, 21), dtype=dtype)
    with_x = replace(problem, x=problem.x.copy())
    with_x.x[1, N - 1, 1] = value
    with_state = replace(problem, state=tuple(part.copy() for part in problem.state))
    for part in with_state.state:
        part[0, 0] = value
    with_weight = replace(problem, params={name: array.copy() for name, array in problem.params.items()})
    with_weight.params["weight_hh"][3, 0] = value
    with_dy = replace(problem, dy=problem.dy.copy())
    with_dy.dy[1, N - 1, 1] = value
    for name, changed in {"x": with_x, "state": with_state, "weight": with_weight, "dy": with_dy}.items():
        got, wanted = changed.results(ops), changed.astype(np.float64).results(reference)
        assert np.isfinite(wanted["y"]).any()
        assert_close("rnn_vjp", got, wanted, where=f" with infinite {name}")


def test_an_infinite_rectified_unit_spoils_only_what_it_reaches(isa: str, dtype: type) -> None:
    """Hand-made: unit 0 becomes infinite and no weight leads from it, so that units 1..20 never notice."""
    H = 21
    weights = {"weight_ih": np.eye(H, 2, dtype=dtype), "weight_hh": np.zeros((H, H), dtype)}
    weights["weight_hh"][1:, 1:] = np.eye(H - 1, dtype=dtype)
    x = np.zeros((3, 4, 2), dtype)
    x[0, 1, 0] = np.inf
    x[:, :, 1] = 1
    (y, h), pullback = ops.rnn_vjp(x, weights, nonlinearity="relu")
    wanted, wanted_pullback = reference.rnn_vjp(x, weights, nonlinearity="relu")
    assert_close("rnn_vjp", (y, h), wanted)
    assert_close("rnn_vjp", pullback(np.ones_like(y)), wanted_pullback(np.ones_like(y)))


@each_variant
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("N", [2, 5])
def test_padding_is_never_read(variant: Variant, reverse: bool, N: int, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, WITH_TAILS._replace(N=N), dtype=np.float32, lengths=True, reverse=reverse)
    padding = np.arange(WITH_TAILS.T)[:, None] >= problem.options["lengths"]
    assert padding.any()
    poisoned = replace(problem, x=problem.x.copy(), dy=problem.dy.copy())
    poisoned.x[padding], poisoned.dy[padding] = np.nan, np.nan
    got = poisoned.results(ops)
    assert_same_bits(got, problem.results(ops))
    assert_same_bits([got["y"][padding], got["dx"][padding]], [np.zeros_like(got[name][padding]) for name in ("y", "dx")])


CONTROL = """
import ctypes, mmap
import numpy as np
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes([0x0F, 0xAE, 0x1F, 0xC3]))  # stmxcsr [rdi]; ret
store = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

def control():
    value = ctypes.c_uint32()
    store(ctypes.addressof(value))
    return value.value & ~0x3F  # without the six flags of past exceptions

def denormals():
    return float(np.full(40, 1e-40, np.float32).sum()) > 0 and float((np.full(40, 1e-310) * 0.5)[7]) > 0

before = control()
assert denormals()
import fastrnn as fr
assert control() == before, "import"
fr.set_num_threads(2)
for isa in fr.available_isas():
    fr.set_isa(isa)
    lstm = fr.LSTM(64, 256, rng=0)
    (y, _), pull = lstm.forward(np.full((4, 8, 64), 1e-39, np.float32))
    pull(np.full_like(y, 1e-40))
    logits = np.zeros((400, 200), np.float32)
    logits[:, 1:] = -90
    _, dlogits = fr.cross_entropy(logits, np.zeros(400, int))
    assert (dlogits[:, 1:] > 0).all(), "a thread of the team flushes denormals"
    assert control() == before, isa
assert denormals()
"""


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="reads a register of x86-64")
def test_rounding_and_denormals_of_the_process_stay(run_python: Callable[..., Any]) -> None:
    done = run_python("-c", CONTROL, FASTRNN_ISA="")
    assert done.returncode == 0, done.stderr


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


def test_relu_keeps_nan_and_zero_as_torch_does(isa: str, dtype: type) -> None:
    assert RNN_RELU.options == {"nonlinearity": "relu"}
    x = np.array([[[np.nan]], [[-0.0]], [[-1.0]], [[2.0]]], dtype)
    one = np.ones((1, 1), dtype)
    y, _ = ops.rnn_forward(x, {"weight_ih": one, "weight_hh": 0 * one}, nonlinearity="relu")
    assert np.isnan(y[:, 0, 0]).all()  # 0 * NaN is NaN again
    y, _ = ops.rnn_forward(x[1:], {"weight_ih": one, "weight_hh": 0 * one}, nonlinearity="relu")
    assert_close("exact", y[:, 0, 0], [0, 0, 2])
