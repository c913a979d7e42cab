"""Pullbacks of the recurrent references against central finite differences, over every input, weight and state."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import RecurrentProblem, assert_gradients
from shapes import BIASES, SMALL_RECURRENT, VARIANTS

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def assert_pullback_is_the_gradient(problem):
    _, _, grads = problem.vjp(reference)
    arrays = {"x": problem.x, **problem.params, **dict(zip("hc", problem.state, strict=False))}
    analytic = {"x": grads["x"], **grads["params"], **dict(zip("hc", grads["state"], strict=False))}
    assert_gradients(lambda: problem.objective(reference), arrays, analytic)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["padless", "lengths"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_gradients(rng, variant, lengths, reverse):
    assert_pullback_is_the_gradient(
        RecurrentProblem.random(rng, variant, SMALL_RECURRENT, lengths=lengths, reverse=reverse)
    )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("biases", BIASES[1:], ids=lambda names: "+".join(names) or "no_bias")
def test_gradients_with_missing_biases(rng, variant, biases):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, biases=biases, lengths=True)
    assert set(problem.params) >= set(biases)
    assert_pullback_is_the_gradient(problem)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("present", ["bias_ih", "bias_hh"])
def test_missing_bias_is_zero_bias(rng, variant, present):
    problem = RecurrentProblem.random(rng, variant, SMALL_RECURRENT, biases=(present,))
    absent = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}[present]
    zero = {**problem.params, absent: np.zeros_like(problem.params[present])}
    y, _ = problem.forward(reference)
    np.testing.assert_array_equal(y, RecurrentProblem(**{**vars(problem), "params": zero}).forward(reference)[0])
