"""The promises about bits, special values and the state of the processor; see also test_ownership.py and test_concurrency.py."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import RecurrentProblem, layouts
from shapes import RNN_RELU, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
plans = pytest.mark.parametrize(
    ("lengths", "reverse"), [(False, False), (False, True), (True, True)], ids=["even", "reverse", "lengths"]
)

# Enough work in a step and enough units for three or four threads. The first has 1120 rows, so that weight gradients are summed
# in three blocks; the last, weights that are fetched ahead and sums that are cut.
FOR_TEAMS = (
    RecurrentSizes(T=20, N=56, C=20, H=130),
    RecurrentSizes(T=3, N=1, C=33, H=260),
    RecurrentSizes(T=2, N=20, C=70, H=600),
)
BATCH = RecurrentSizes(T=4, N=16, C=19, H=37)
# Longer than what one or two sequences multiply ahead of the time loop in one piece.
LONG = RecurrentSizes(T=2100, N=3, C=2, H=64)
WITH_TAILS = RecurrentSizes(T=4, N=5, C=3, H=21)


@each_variant
@pytest.mark.parametrize("sizes", FOR_TEAMS, ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
def test_same_bits_for_any_number_of_threads(
    variant: Variant, sizes: RecurrentSizes, lengths: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, sizes, dtype=dtype, lengths=lengths, reverse=lengths)
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


LAYOUTS = tuple(layouts(np.zeros((1, 1))))


def laid_out(value: Any, layout: str) -> Any:
    """Return an array, or the arrays of a dict or a tuple, in a memory layout."""
    if isinstance(value, dict):
        return {name: laid_out(array, layout) for name, array in value.items()}
    return tuple(laid_out(array, layout) for array in value) if isinstance(value, tuple) else layouts(value)[layout]


@each_variant
@pytest.mark.parametrize("argument", ["x", "state", "dy", "dstate", "params"])
def test_same_bits_from_any_memory_layout(
    variant: Variant, argument: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(2, 3, 5, 7), dtype=dtype)
    wanted = problem.results(ops)
    for layout in LAYOUTS:
        given = laid_out(getattr(problem, argument), layout)
        assert_same_bits(replace(problem, **{argument: given}).results(ops), wanted, f" with {argument} {layout}")
        assert_same_bits(given, laid_out(getattr(problem, argument), layout))


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
    with_state.state[-1][0, 0] = value
    with_weight = replace(problem, params={name: array.copy() for name, array in problem.params.items()})
    with_weight.params["weight_hh"][3, 0] = value
    with_dy = replace(problem, dy=problem.dy.copy())
    with_dy.dy[1, N - 1, 1] = value
    for name, changed in {"x": with_x, "state": with_state, "weight": with_weight, "dy": with_dy}.items():
        got, wanted = changed.results(ops), changed.astype(np.float64).results(reference)
        assert N == 1 or np.isfinite(wanted["y"]).any()
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
    problem = RecurrentProblem.random(
        rng, variant, WITH_TAILS._replace(N=N), dtype=np.float32, lengths=True, reverse=reverse
    )
    padding = np.arange(WITH_TAILS.T)[:, None] >= problem.options["lengths"]
    assert padding.any()
    poisoned = replace(problem, x=problem.x.copy(), dy=problem.dy.copy())
    poisoned.x[padding], poisoned.dy[padding] = np.nan, np.nan
    got = poisoned.results(ops)
    assert_same_bits(got, problem.results(ops))
    assert_same_bits(
        [got["y"][padding], got["dx"][padding]], [np.zeros_like(got[name][padding]) for name in ("y", "dx")]
    )


def test_relu_keeps_nan_and_zero_as_torch_does(isa: str, dtype: type) -> None:
    assert RNN_RELU.options == {"nonlinearity": "relu"}
    x = np.array([[[np.nan]], [[-0.0]], [[-1.0]], [[2.0]]], dtype)
    one = np.ones((1, 1), dtype)
    y, _ = ops.rnn_forward(x, {"weight_ih": one, "weight_hh": 0 * one}, nonlinearity="relu")
    assert np.isnan(y[:, 0, 0]).all()  # 0 * NaN is NaN again
    y, _ = ops.rnn_forward(x[1:], {"weight_ih": one, "weight_hh": 0 * one}, nonlinearity="relu")
    assert_close("exact", y[:, 0, 0], [0, 0, 2])


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
    lstm = fr.LSTM(20, 130, rng=0)
    (y, _), pull = lstm.forward(np.full((3, 8, 20), 1e-39, np.float32))
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
