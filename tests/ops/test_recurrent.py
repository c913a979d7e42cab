"""The compiled recurrent operations equal the float64 reference on every instruction set, thread count and odd size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numeric import RecurrentProblem
from shapes import BIASES, GRU, LSTM, RECURRENT, RNN_RELU, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference

BY_NAME = {variant.name: variant for variant in VARIANTS}
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])

# Enough work for several threads, which share out the panels of units.
FOR_TEAMS = (RecurrentSizes(5, 9, 37, 150), RecurrentSizes(5, 3, 37, 300))
# Weight gradients sum them in three blocks; threads share out the sequences, since the units are few.
MANY_ROWS = RecurrentSizes(65, 17, 13, 21)
# Weights that are fetched ahead, or whose product with x goes ahead of the time loop; sums over more than 1024 values, which are
# cut; and, in the last, more rows than products work on at once.
LARGE_WEIGHTS = (
    *((variant, RecurrentSizes(3, 20, 70, 600)) for variant in VARIANTS),
    *((variant, sizes) for variant in (LSTM, GRU) for sizes in ((3, 4, 70, 800), (2, 100, 70, 600))),
)
CHUNKS = RecurrentSizes(150, 2, 3, 130)  # inference multiplies x with its weights in three pieces


@cache
def solved(name: str, sizes: RecurrentSizes, dtype: Any, **options: Any) -> tuple[RecurrentProblem, dict[str, Any]]:
    """Return a problem with its float64 results from the reference, once for all instruction sets and threads."""
    problem = RecurrentProblem.random(np.random.default_rng(sum(sizes)), BY_NAME[name], sizes, dtype=dtype, **options)
    return problem, problem.astype(np.float64).results(reference)


def check(problem: RecurrentProblem, wanted: dict[str, Any]) -> None:
    """Assert that inference, training and gradients give what is wanted."""
    cell = problem.variant.cell
    y, state = problem.forward(ops)
    assert all(array.dtype == problem.x.dtype for array in (y, *state))
    assert_close(f"{cell}_forward", (y, *state), (wanted["y"], *wanted["state"]))
    got = problem.results(ops)
    assert_same_bits((got["y"], got["state"]), (y, state))
    gradients = ("dx", "dstate", "params")
    assert all(array.dtype == problem.x.dtype for array in (got["dx"], *got["dstate"], *got["params"].values()))
    assert_close(f"{cell}_vjp", {name: got[name] for name in gradients}, {name: wanted[name] for name in gradients})


@pytest.mark.parametrize("sizes", RECURRENT, ids=str)
@each_variant
def test_equals_reference(variant: Variant, sizes: RecurrentSizes, isa: str, dtype: type) -> None:
    check(*solved(variant.name, sizes, dtype))
    if sizes.T and sizes.N:
        check(*solved(variant.name, sizes, dtype, lengths=True, reverse=True))


@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
@each_direction
@pytest.mark.parametrize("sizes", FOR_TEAMS, ids=str)
@each_variant
def test_options_and_threads(
    variant: Variant, sizes: RecurrentSizes, reverse: bool, lengths: bool, isa: str, threads: int
) -> None:
    check(*solved(variant.name, sizes, np.float32, lengths=lengths, reverse=reverse))


@pytest.mark.parametrize("biases", BIASES, ids=lambda names: "-".join(names) or "none")
@each_variant
def test_biases(variant: Variant, biases: tuple[str, ...], isa: str, dtype: type) -> None:
    check(*solved(variant.name, RecurrentSizes(3, 4, 5, 7), dtype, biases=biases))


@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
@each_variant
def test_many_rows(variant: Variant, lengths: bool, isa: str, dtype: type, threads: int) -> None:
    check(*solved(variant.name, MANY_ROWS, dtype, lengths=lengths))


@pytest.mark.parametrize(("variant", "sizes"), LARGE_WEIGHTS, ids=str)
def test_large_weights(variant: Variant, sizes: tuple[int, int, int, int], isa: str) -> None:
    # Of so many rectified units one lies so near zero that float32 and float64 can see it on different sides.
    check(*solved(variant.name, RecurrentSizes(*sizes), np.float64 if variant is RNN_RELU else np.float32))


@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
@each_direction
@each_variant
def test_long_sequences(variant: Variant, reverse: bool, lengths: bool, isa: str) -> None:
    problem, wanted = solved(variant.name, CHUNKS, np.float64, lengths=lengths, reverse=reverse)
    y, state = problem.forward(ops)
    assert_close(f"{variant.cell}_vjp", (y, *state), (wanted["y"], *wanted["state"]))


@each_variant
def test_equal_lengths_are_like_none(variant: Variant, isa: str, dtype: type) -> None:
    problem, wanted = solved(variant.name, RecurrentSizes(3, 4, 5, 7), dtype)
    for lengths in ([3, 3, 3, 3], np.full(4, 3, np.uint8), (3, 3, 3, 3)):
        assert_same_bits(problem.with_lengths(lengths).results(ops), problem.results(ops))
    shorter = problem.with_lengths([2, 2, 2, 2])  # one length, but not T
    check(shorter, shorter.astype(np.float64).results(reference))
    assert wanted["y"].any()


@each_variant
def test_types_of_lengths(variant: Variant, isa: str) -> None:
    problem, _ = solved(variant.name, RecurrentSizes(3, 4, 5, 7), np.float64)
    wanted = problem.with_lengths(np.array([2, 1, 3, 1])).results(ops)
    for kind in ("int8", "uint16", "int32", ">i4", "uint64"):
        assert_same_bits(problem.with_lengths(np.array([2, 1, 3, 1], kind)).results(ops), wanted)
    assert_same_bits(problem.with_lengths(np.array([2, 9, 1, 9, 3, 9, 1])[::2]).results(ops), wanted)


@each_variant
@each_direction
def test_what_is_not_given_is_zero(variant: Variant, reverse: bool, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, 4, 5, 7), lengths=True, reverse=reverse)
    zeros = tuple(np.zeros_like(part) for part in problem.state)
    function, options = getattr(ops, f"{variant.cell}_vjp"), problem.options
    result, pullback = function(problem.x, problem.params, **options)
    without_state = replace(problem, state=zeros)
    assert_same_bits((result[0], problem.unpack(result[1])), without_state.forward(ops))
    wanted = replace(without_state, dstate=zeros).results(ops)
    dx, dstate, grads = pullback(problem.dy)
    assert_same_bits([dx, problem.unpack(dstate), grads], [wanted[name] for name in ("dx", "dstate", "params")])
    _, pullback = function(problem.x, problem.params, problem.pack(problem.state), **options)
    wanted = replace(problem, dy=np.zeros_like(problem.dy)).results(ops)
    dx, dstate, grads = pullback(None, problem.pack(problem.dstate))
    assert_same_bits([dx, problem.unpack(dstate), grads], [wanted[name] for name in ("dx", "dstate", "params")])
    _, pullback = function(problem.x, problem.params, **options)
    dx, dstate, grads = pullback(None)
    assert not any(array.any() for array in (dx, *problem.unpack(dstate), *grads.values()))


@pytest.mark.parametrize("name", ["lstm", "lstm_projected"])
def test_half_a_state_of_an_lstm(name: str, isa: str, rng: np.random.Generator) -> None:
    problem = RecurrentProblem.random(rng, BY_NAME[name], RecurrentSizes(3, 4, 5, 7))
    (h, c), (dh, dc) = problem.state, problem.dstate
    zeros = np.zeros_like(h), np.zeros_like(c)
    for given, full in (((h, None), (h, zeros[1])), ((None, c), (zeros[0], c)), ([None, None], zeros)):
        y, last = ops.lstm_forward(problem.x, problem.params, given)
        assert_same_bits((y, last), replace(problem, state=full).forward(ops))
    for given, full in (((dh, None), (dh, zeros[1])), ((None, dc), (zeros[0], dc)), ([None, None], zeros)):
        _, pullback = ops.lstm_vjp(problem.x, problem.params, problem.state)
        dx, dstate, grads = pullback(problem.dy, given)
        wanted = replace(problem, dstate=full).results(ops)
        assert_same_bits([dx, dstate, grads], [wanted[key] for key in ("dx", "dstate", "params")])


@each_variant
def test_gradients_are_added_into_given_arrays(
    variant: Variant, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem, wanted = solved(variant.name, RecurrentSizes(3, 4, 5, 7), dtype)
    start = {name: rng.standard_normal(value.shape).astype(dtype) for name, value in problem.params.items()}
    apart = {name: np.repeat(value, 2, axis=-1) for name, value in start.items()}
    kinds = {
        "contiguous": {name: value.copy() for name, value in start.items()},
        "column by column": {name: np.array(value, order="F") for name, value in start.items()},
        "every other element": {name: value[..., ::2] for name, value in apart.items()},
        "some": {"weight_hh": start["weight_hh"].copy()},
    }
    for kind, given in kinds.items():
        _, _, gradients = problem.vjp(ops, grads=given | {"other": np.ones(2)})
        grads = gradients["params"]
        assert set(grads) == set(problem.params), kind
        assert all(grads[name] is array for name, array in given.items()), kind
        sums = {name: wanted["params"][name] + (start[name] if name in given else 0) for name in start}
        assert_close(f"{variant.cell}_vjp", grads, sums, where=f" {kind}")
    assert_same_bits({name: value[..., 1::2] for name, value in apart.items()}, start)


@each_variant
def test_packed_parameters_give_the_same_bits(variant: Variant, isa: str, dtype: type) -> None:
    problem, _ = solved(variant.name, RecurrentSizes(3, 4, 5, 7), dtype)
    pack = getattr(ops, f"pack_{variant.cell}")
    packed = pack(problem.params, **variant.options)
    assert_same_bits(problem.results(ops, params=packed), problem.results(ops))
    inference = replace(problem, params=pack(problem.params, **variant.options, backward=False))
    assert_same_bits(inference.forward(ops), problem.forward(ops))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_weights_too_large_for_the_cache(variant: Variant, isa: str, threads: int, rng: np.random.Generator) -> None:
    """x is then multiplied ahead of the time loop, some steps at a time, whatever the number of sequences."""
    sizes = RecurrentSizes(5, 4, 400 if variant.gates > 1 else 900, 290 if variant.gates > 1 else 600)
    problem = RecurrentProblem.random(rng, variant, sizes, lengths=True, reverse=True)
    y, state = problem.forward(ops)
    exact_y, exact_state = problem.forward(reference)
    assert_close(f"{variant.cell}_forward", (y, *state), (exact_y, *exact_state))
    alone = [problem.sequence(n).forward(ops)[0] for n in range(sizes.N)]
    for n, one in enumerate(alone):
        assert_close("exact", y[: len(one), n : n + 1], one)
    assert_close(f"{variant.cell}_vjp", problem.vjp(ops)[2], problem.vjp(reference)[2])
