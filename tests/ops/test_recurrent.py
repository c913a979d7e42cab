"""The compiled recurrent operations equal the float64 reference on every instruction set, thread count and odd size."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import RecurrentProblem
from shapes import BIASES, LARGE_RECURRENT, RECURRENT, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close

from fastrnn import ops, reference


def check(problem: RecurrentProblem) -> None:
    """Assert that forward, vjp and gradients equal the reference in float64."""
    cell, exact = problem.variant.cell, problem.astype(np.float64)
    y, state = problem.forward(ops)
    assert y.dtype == problem.x.dtype
    assert_close(f"{cell}_forward", (y, *state), (lambda y, s: (y, *s))(*exact.forward(reference)))
    y_kept, state_kept, grads = problem.vjp(ops)
    assert_close("exact", (y_kept, *state_kept), (y, *state))
    assert_close(f"{cell}_vjp", grads, exact.vjp(reference)[2])


@pytest.mark.parametrize("sizes", RECURRENT, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equals_reference(
    variant: Variant, sizes: RecurrentSizes, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    check(RecurrentProblem.random(rng, variant, sizes, dtype=dtype))
    if sizes.T and sizes.N:
        check(RecurrentProblem.random(rng, variant, sizes, dtype=dtype, lengths=True, reverse=True))


@pytest.mark.parametrize("lengths", [False, True], ids=["even", "lengths"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_options_and_threads(
    variant: Variant, reverse: bool, lengths: bool, isa: str, threads: int, rng: np.random.Generator
) -> None:
    sizes = RecurrentSizes(5, 9, 37, 150)  # large enough for several threads
    for biases in BIASES:
        check(RecurrentProblem.random(rng, variant, sizes, dtype=np.float32, biases=biases, lengths=lengths, reverse=reverse))
