"""Random shapes and options of every cell against the reference: what no list of sizes thought of."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numeric import RecurrentProblem, layouts
from shapes import BIASES, VARIANTS, RecurrentSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference

# The isa fixture sets the same instruction set for all examples, as it should.
quick = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LAYOUTS = (None, *layouts(np.zeros((1, 1))))

sizes = st.builds(RecurrentSizes, st.integers(0, 9), st.integers(0, 9), st.integers(1, 40), st.integers(1, 70))
options = st.fixed_dictionaries({"biases": st.sampled_from(BIASES), "lengths": st.booleans(), "reverse": st.booleans()})
each_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


def problem_of(draw: Any, cell: str, dtype: Any) -> RecurrentProblem:
    """Return a random problem; x and dy lie in memory as they may."""
    shape, chosen = draw(sizes), draw(options)
    chosen["lengths"] &= shape.T > 0
    variant = draw(st.sampled_from([variant for variant in VARIANTS if variant.cell == cell]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    problem = RecurrentProblem.random(rng, variant, shape, dtype=dtype, **chosen)
    changed = {name: draw(st.sampled_from(LAYOUTS)) for name in ("x", "dy")}
    laid_out = {name: layouts(getattr(problem, name))[layout] for name, layout in changed.items() if layout}
    return RecurrentProblem(**(vars(problem) | laid_out))


@each_cell
@quick
@given(data=st.data())
def test_random_problem(cell: str, data: st.DataObject, isa: str, dtype: Any) -> None:
    problem = problem_of(data.draw, cell, dtype)
    exact = problem.astype(np.float64).results(reference)
    count = data.draw(st.integers(1, 3), "threads")
    before = ops.get_num_threads()
    ops.set_num_threads(count)
    try:
        y, state = problem.forward(ops)
        got = problem.results(ops)
    finally:
        ops.set_num_threads(before)
    assert_close(f"{cell}_vjp", got, exact)
    assert_same_bits((y, state), (got["y"], got["state"]))


@each_cell
@quick
@given(data=st.data())
def test_random_stream(cell: str, data: st.DataObject, isa: str) -> None:
    problem = problem_of(data.draw, cell, np.float32)
    T, N, _ = problem.x.shape
    if N:
        plain = {name: value for name, value in problem.options.items() if name not in {"lengths", "reverse"}}
        stream = getattr(ops, f"{cell}_stream")([problem.params], N, **plain)
        stream.reset(tuple(part[None] for part in problem.state) if cell == "lstm" else problem.state[0][None])
        forward = getattr(ops, f"{cell}_forward")
        y, _ = forward(problem.x, problem.params, problem.pack(problem.state), **plain)
        for t in range(T):
            assert_same_bits(stream.step(problem.x[t]), y[t])


@quick
@given(data=st.data())
def test_random_linear(data: st.DataObject, isa: str, dtype: Any) -> None:
    M, K, C = (data.draw(st.integers(0, high)) for high in (40, 140, 140))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shapes = {"x": (M, C), "weight": (K, C), "bias": (K,), "dy": (M, K)}
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    for name in ("x", "weight", "dy"):
        layout = data.draw(st.sampled_from(LAYOUTS), name)
        arrays[name] = layouts(arrays[name])[layout] if layout else arrays[name]
    results = []
    for module, given_arrays in ((ops, arrays), (reference, {n: v.astype(np.float64) for n, v in arrays.items()})):
        y, pullback = module.linear_vjp(given_arrays["x"], given_arrays["weight"], given_arrays["bias"])
        results.append([y, *pullback(given_arrays["dy"])])
    assert_close("linear_vjp", *results)
