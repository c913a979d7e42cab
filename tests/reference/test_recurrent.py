"""What all recurrent references share: lengths, direction, empty sizes, NaN, buffers, pullbacks."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import RecurrentProblem, assert_varies
from shapes import EMPTY_RECURRENT, RNN_TANH, SMALL_RECURRENT, VARIANTS, RecurrentSizes
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def all_results(problem):
    y, state, grads = problem.vjp(reference)
    return {"y": y, "state": state, "dx": grads["x"], "dstate": grads["state"], "params": grads["params"]}


@each_variant
@each_direction
def test_lengths_equal_each_sequence_alone(rng, variant, reverse):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, lengths=True, reverse=reverse)
    results = all_results(problem)
    sums = {name: np.zeros_like(value) for name, value in problem.params.items()}
    for n, length in enumerate(problem.options["lengths"]):
        alone = all_results(problem.sequence(n))
        for name in ("y", "dx"):
            assert_close(f"{variant.cell}_vjp", results[name][:length, n : n + 1], alone[name])
            assert not results[name][length:, n].any()
        for name in ("state", "dstate"):
            assert_close(f"{variant.cell}_vjp", [value[n : n + 1] for value in results[name]], list(alone[name]))
        for name, value in alone["params"].items():
            sums[name] += value
    assert_close(f"{variant.cell}_vjp", results["params"], sums)


@each_variant
def test_full_lengths_equal_no_lengths(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    full = problem.with_lengths([SMALL_RECURRENT.T] * SMALL_RECURRENT.N)
    assert_close("exact", all_results(full), all_results(problem))


@each_variant
def test_reverse_is_forward_on_flipped_time(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    y, state = problem.forward(reference, reverse=True)
    flipped = RecurrentProblem(**{**vars(problem), "x": problem.x[::-1]})
    y_flipped, state_flipped = flipped.forward(reference)
    assert_close("exact", (y, state), (y_flipped[::-1], state_flipped))


@each_variant
@each_direction
@pytest.mark.parametrize("sizes", EMPTY_RECURRENT, ids=str)
def test_empty(rng, variant, reverse, sizes, dtype):
    problem = RecurrentProblem.random(rng, variant, sizes, dtype=dtype, reverse=reverse)
    y, state, grads = problem.vjp(reference)
    assert y.shape == problem.dy.shape
    assert y.dtype == dtype
    assert_close("exact", state, problem.state)
    assert grads["x"].shape == problem.x.shape
    assert_close("exact", grads["state"], problem.dstate)
    assert not any(grad.any() for grad in grads["params"].values())


@each_variant
def test_no_sequences_with_lengths(rng, variant):
    problem = RecurrentProblem.random(rng, variant, RecurrentSizes(3, 0, 3, 4), lengths=True, reverse=True)
    assert problem.vjp(reference)[2]["x"].shape == (3, 0, 3)


@each_variant
def test_no_state_is_zero_state(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    zero = RecurrentProblem(**{**vars(problem), "state": tuple(np.zeros_like(value) for value in problem.state)})
    function = getattr(reference, f"{variant.cell}_forward")
    y, state = function(problem.x, problem.params, **problem.options)
    assert_close("exact", (y, problem.unpack(state)), zero.forward(reference))


@each_variant
def test_forward_equals_vjp_and_writes_out(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, lengths=True)
    expected = problem.forward(reference)
    T, N, P = problem.dy.shape
    for run in (problem.forward, problem.vjp):
        wide = np.full((T, N, P + 2), np.nan)
        y, state = run(reference, out=wide[:, :, 1:-1])[:2]
        assert_close("exact", (y, state), expected)
        assert y.base is wide
        assert np.isnan(wide[:, :, [0, -1]]).all()


@each_variant
@each_direction
def test_float32_agrees_with_float64(rng, variant, reverse):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, dtype=np.float32, lengths=True, reverse=reverse)
    single, double = all_results(problem), all_results(problem.astype(np.float64))
    assert single["y"].dtype == single["dx"].dtype == np.float32
    assert all(value.dtype == np.float32 for value in (*single["state"], *single["dstate"], *single["params"].values()))
    assert_close(f"{variant.cell}_vjp", single, double)


@each_variant
@each_direction
def test_padding_is_never_read(rng, variant, reverse):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, lengths=True, reverse=reverse)
    padding = np.arange(SMALL_RECURRENT.T)[:, None] >= problem.options["lengths"]
    assert padding.any()
    poisoned = RecurrentProblem(**{**vars(problem), "x": problem.x.copy(), "dy": problem.dy.copy()})
    poisoned.x[padding] = np.nan
    poisoned.dy[padding] = np.nan
    assert_close("exact", all_results(poisoned), all_results(problem))


@each_variant
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_sequence_and_after_their_time(rng, variant, value):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    poisoned = RecurrentProblem(**{**vars(problem), "x": problem.x.copy()})
    poisoned.x[1, 2] = value
    actual, clean = all_results(poisoned), all_results(problem)
    if np.isnan(value):
        assert np.isnan(actual["y"][1:, 2]).all()
        assert all(np.isnan(final[2]).all() for final in actual["state"])
    assert_close("exact", actual["y"][0], clean["y"][0])
    for name in ("y", "dx"):
        assert_close("exact", actual[name][:, :2], clean[name][:, :2])
    for name in ("state", "dstate"):
        assert_close("exact", [a[:2] for a in actual[name]], [c[:2] for c in clean[name]])


@each_variant
def test_nan_in_weights_reaches_everything(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    problem.params["weight_ih"][:] = np.nan
    y, state, grads = problem.vjp(reference)
    assert all(np.isnan(value).all() for value in (y, *state, grads["x"]))


@each_variant
def test_grads_are_added_into(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    fresh = problem.vjp(reference)[2]["params"]
    given = {"weight_hh": np.ones_like(problem.params["weight_hh"]), "other": np.ones(2)}
    kept = given["weight_hh"]
    added = problem.vjp(reference, grads=given)[2]["params"]
    assert added["weight_hh"] is kept
    assert set(added) == set(problem.params)
    assert_close("exact", added, {**fresh, "weight_hh": 1 + fresh["weight_hh"]})
    assert_close("exact", given["other"], np.ones(2))


@each_variant
def test_missing_gradients_are_zero(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    function = getattr(reference, f"{variant.cell}_vjp")

    def pull(*gradients):
        _, pullback = function(problem.x, problem.params, problem.pack(problem.state), **problem.options)
        dx, dstate, grads = pullback(*gradients)
        return dx, problem.unpack(dstate), grads

    zero_dy, zero_state = np.zeros_like(problem.dy), tuple(np.zeros_like(value) for value in problem.dstate)
    assert_close("exact", pull(problem.dy), pull(problem.dy, problem.pack(zero_state)))
    assert_close("exact", pull(None, problem.pack(problem.dstate)), pull(zero_dy, problem.pack(problem.dstate)))
    if variant.cell == "lstm":
        dh, dc = problem.dstate
        assert_close("exact", pull(None, (dh, None)), pull(None, (dh, zero_state[1])))
        assert_close("exact", pull(None, (None, dc)), pull(None, (zero_state[0], dc)))


@each_variant
def test_pullback_can_be_called_once(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    _, pullback = getattr(reference, f"{variant.cell}_vjp")(problem.x, problem.params, **problem.options)
    pullback(problem.dy)
    with pytest.raises(RuntimeError, match=f"{variant.cell}_vjp: the pullback was already called"):
        pullback(problem.dy)


@each_variant
def test_pullback_owns_what_it_saved_and_inputs_stay_untouched(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT)
    before = RecurrentProblem(
        **{**vars(problem), "x": problem.x.copy(), "params": {k: v.copy() for k, v in problem.params.items()}}
    )
    function = getattr(reference, f"{variant.cell}_vjp")
    (y, _), pullback = function(problem.x, problem.params, problem.pack(problem.state), **problem.options)
    assert_close("exact", (problem.x, problem.params), (before.x, before.params))
    for array in (y, problem.x, *problem.params.values()):
        array[...] = np.nan
    dx, dstate, grads = pullback(problem.dy, problem.pack(problem.dstate))
    expected = before.vjp(reference)[2]
    assert_close("exact", {"x": dx, "state": problem.unpack(dstate), "params": grads}, expected)


def test_random_data_must_vary(rng):
    array = rng.standard_normal((3, 4))
    assert_varies(array, array + 1, np.zeros((0, 4)), np.zeros(1))
    with pytest.raises(AssertionError, match="repeats one value"):
        assert_varies(np.ones((3, 4)))
    with pytest.raises(AssertionError, match="equals an earlier one"):
        assert_varies(array, array.copy())


def test_unknown_nonlinearity(rng):
    problem = RecurrentProblem.random(rng, RNN_TANH, SMALL_RECURRENT)
    with pytest.raises(ValueError, match="'nonlinearity' must be 'tanh' or 'relu', got 'cos'"):
        problem.forward(reference, nonlinearity="cos")
