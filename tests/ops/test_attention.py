"""Attention: the reference against finite differences, the compiled operations against the reference, and their promises."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import assert_gradients, layouts, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

NAN = np.nan


class Sizes(NamedTuple):
    """Queries (0: one step without its axis), memory steps, batch, widths of query, memory and the additive sum."""

    Tq: int
    T: int
    N: int
    Q: int
    M: int
    A: int


SMALL = Sizes(2, 4, 3, 3, 3, 5)
SIZES = (
    Sizes(0, 1, 1, 1, 1, 1),
    Sizes(0, 5, 3, 7, 9, 15),
    Sizes(1, 7, 2, 16, 17, 31),
    Sizes(3, 33, 4, 33, 16, 8),
    Sizes(5, 19, 2, 64, 65, 64),
    Sizes(2, 40, 3, 65, 130, 100),
    Sizes(0, 3, 0, 4, 5, 6),
    Sizes(0, 90, 8, 128, 128, 128),
)
SCORES = ("dot", "general", "additive")
each_score = pytest.mark.parametrize("score", SCORES)


class Problem:
    """One call with gradients to pull back."""

    def __init__(self, rng: Any, sizes: Sizes, score: str, dtype: Any = np.float64, **options: Any) -> None:
        Tq, T, N, Q, M, A = sizes
        Q = M if score == "dot" else Q
        first = options.get("batch_first", False)
        lead = (N,) if Tq == 0 else (N, Tq) if first else (Tq, N)
        shapes = {
            "query": (*lead, Q),
            "memory": (N, T, M) if first else (T, N, M),
            "dcontext": (*lead, M),
            "dweights": (*lead, T),
        }
        weights: dict[str, dict[str, tuple[int, ...]]] = {
            "dot": {},
            "general": {"weight": (M, Q)},
            "additive": {"weight_query": (A, Q), "weight_memory": (A, M), "weight_score": (A,)},
        }
        arrays = (
            random_arrays(rng, shapes, dtype) if N else {key: np.zeros(shape, dtype) for key, shape in shapes.items()}
        )
        self.query, self.memory, self.dcontext, self.dweights = arrays.values()
        self.params = random_arrays(rng, weights[score], dtype, 1 / np.sqrt(max(M, Q)))
        self.options = {"score": score, **options}

    def run(self, module: Any = ops, dtype: Any = None, **grads: Any) -> dict[str, Any]:
        """Return all results by name."""
        arrays = [self.query, self.memory, self.dcontext, self.dweights]
        query, memory, dcontext, dweights = (a if dtype is None else a.astype(dtype) for a in arrays)
        params = {key: value if dtype is None else value.astype(dtype) for key, value in self.params.items()}
        (context, weights), pullback = module.attention_vjp(query, memory, params, **self.options)
        dquery, dmemory, sums = pullback(dcontext, dweights, **grads)
        return {"context": context, "weights": weights, "dquery": dquery, "dmemory": dmemory, "params": sums}

    def objective(self) -> float:
        context, weights = reference.attention_forward(self.query, self.memory, self.params, **self.options)
        return float((self.dcontext * context).sum() + (self.dweights * weights).sum())


@each_score
@pytest.mark.parametrize(
    "options",
    [{}, {"lengths": [1, 4, 2]}, {"batch_first": True, "scale": True}, {"scale": 0.3, "lengths": [4, 3, 4]}],
    ids=str,
)
@pytest.mark.parametrize("Tq", [0, 2])
def test_reference_gradients(score: str, options: dict[str, Any], Tq: int, rng: np.random.Generator) -> None:
    problem = Problem(rng, SMALL._replace(Tq=Tq), score, **options)
    got = problem.run(reference)
    grads = {"query": got["dquery"], "memory": got["dmemory"], **got["params"]}
    assert_gradients(problem.objective, {"query": problem.query, "memory": problem.memory, **problem.params}, grads)


def test_reference_by_hand() -> None:
    # scores ln 3 and 0 have weights 3/4 and 1/4
    memory = np.array([[[np.log(3), 0.0]], [[0.0, 4.0]]])
    context, weights = reference.attention_forward(np.array([[1.0, 0.0]]), memory)
    assert_close("attention", weights, np.array([[3 / 4, 1 / 4]]))
    assert_close("attention", context, np.array([[3 / 4 * np.log(3), 1.0]]))


def test_scaled_dot_equals_torch(rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    query, memory = rng.standard_normal((2, 5, 8)).astype(dtype), rng.standard_normal((2, 7, 8)).astype(dtype)
    theirs = [torch.tensor(array, requires_grad=True) for array in (query, memory)]
    wanted = torch.nn.functional.scaled_dot_product_attention(theirs[0], theirs[1], theirs[1])
    wanted.sum().backward()
    (context, _), pullback = ops.attention_vjp(query, memory, scale=True, batch_first=True)
    dquery, dmemory, _ = pullback(np.ones_like(context))
    assert_close("attention", context, wanted.detach().numpy())
    assert_close("attention", dquery, theirs[0].grad.numpy())
    assert_close("attention", dmemory, theirs[1].grad.numpy())


@each_score
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_equals_reference(
    score: str, sizes: Sizes, batch_first: bool, ragged: bool, isa: str, dtype: Any, rng: np.random.Generator
) -> None:
    lengths = rng.integers(1, sizes.T + 1, sizes.N) if ragged else None
    problem = Problem(rng, sizes, score, dtype, batch_first=batch_first, lengths=lengths, scale=ragged)
    got = problem.run()
    assert_close("attention", got, problem.run(reference, np.float64))
    arguments = problem.query, problem.memory, problem.params
    assert_same_bits(ops.attention_forward(*arguments, **problem.options), (got["context"], got["weights"]))
    assert all(array.dtype == dtype for array in got["params"].values())


@each_score
@pytest.mark.parametrize("batch_first", [False, True])
def test_past_a_length_nothing_is_read(score: str, batch_first: bool, isa: str, rng: np.random.Generator) -> None:
    problem = Problem(rng, Sizes(2, 9, 3, 5, 6, 7), score, lengths=np.array([9, 2, 5]), batch_first=batch_first)
    clean = problem.run()
    for n, end in enumerate(problem.options["lengths"]):
        past = (n, slice(end, None)) if batch_first else (slice(end, None), n)
        problem.memory[past] = NAN
        problem.dweights[(n, slice(None), past[1]) if batch_first else (slice(None), n, past[0])] = NAN
        weights = clean["weights"] if batch_first else clean["weights"].swapaxes(0, 1)
        assert not weights[n, :, end:].any()
        assert not clean["dmemory"][past].any()
    assert_same_bits(problem.run(), clean)


@each_score
def test_nan_stays_in_its_sample(score: str, isa: str, dtype: Any, rng: np.random.Generator) -> None:
    problem = Problem(rng, Sizes(2, 9, 3, 5, 6, 7), score, dtype)
    clean = problem.run()
    problem.memory[4, 1, 2] = NAN
    got = problem.run()
    assert np.isnan(got["context"][:, 1]).all()
    for name in ("context", "weights", "dquery", "dmemory"):
        assert_same_bits(got[name][:, [0, 2]], clean[name][:, [0, 2]])


@each_score
def test_bits_do_not_depend_on_threads_or_company(
    score: str, threads: int, dtype: Any, rng: np.random.Generator
) -> None:
    lengths = rng.integers(1, 90, 9)
    problem = Problem(rng, Sizes(4, 90, 9, 50, 60, 70), score, dtype, lengths=lengths)
    got = problem.run()
    ops.set_num_threads(1)
    assert_same_bits(problem.run(), got)
    for n in (0, 3, 8):
        end, one = int(lengths[n]), slice(n, n + 1)
        (context, weights), pullback = ops.attention_vjp(
            problem.query[:, one], problem.memory[:end, one], problem.params, score=score
        )
        dquery, dmemory, _ = pullback(problem.dcontext[:, one], problem.dweights[:, one, :end])
        assert_same_bits((context, weights), (got["context"][:, one], got["weights"][:, one, :end]))
        assert_same_bits((dquery, dmemory), (got["dquery"][:, one], got["dmemory"][:end, one]))


@each_score
def test_any_memory_layout(score: str, rng: np.random.Generator) -> None:
    problem = Problem(rng, Sizes(2, 5, 3, 4, 6, 7), score, lengths=[5, 1, 3])
    wanted = problem.run()
    for argument in ("query", "memory", "dcontext", "dweights"):
        given = getattr(problem, argument)
        for name, array in layouts(given).items():
            setattr(problem, argument, array)
            before = array.copy()
            assert_same_bits(problem.run(), wanted, f" with {argument} {name}")
            assert_same_bits(array, before)
        setattr(problem, argument, given)


@each_score
def test_gradients_add_into_grads(score: str, rng: np.random.Generator) -> None:
    problem = Problem(rng, SMALL, score)
    once = problem.run()["params"]
    grads = {key: np.ones_like(value) for key, value in problem.params.items()}
    got = problem.run(grads=grads)["params"]
    for key, value in grads.items():
        assert got[key] is value
        np.testing.assert_allclose(value, 1 + once[key], rtol=1e-13)


@each_score
def test_a_memory_serves_many_steps(score: str, isa: str, rng: np.random.Generator) -> None:
    problem = Problem(rng, Sizes(3, 9, 4, 5, 6, 7), score, lengths=[9, 1, 4, 6])
    wanted = problem.run()
    memory = ops.attention_memory(problem.memory, problem.params, **problem.options)
    steps = [memory.vjp(query) for query in problem.query]
    problem.memory[...] = NAN  # it owns what it needs
    grads = {key: np.zeros_like(value) for key, value in problem.params.items()}
    for t in (1, 0, 2):
        (context, weights), pullback = steps[t]
        assert_same_bits((context, weights), (wanted["context"][t], wanted["weights"][t]))
        weights[...] = NAN
        dquery, _ = pullback(problem.dcontext[t], problem.dweights[t], grads=grads)
        assert_close("attention", dquery, wanted["dquery"][t])
    dmemory, _ = memory.pull_back(grads=grads)
    assert_close("attention", dmemory, wanted["dmemory"])
    assert_close("attention", grads, wanted["params"])
    for refused in (memory.pull_back, lambda: memory.vjp(problem.query[0])[1](problem.dcontext[0])):
        with pytest.raises(RuntimeError, match="once"):
            refused()


def test_bad_input(rng: np.random.Generator) -> None:
    good = Problem(rng, SMALL, "additive", lengths=[1, 2, 3])

    def call(name: str, **changes: Any) -> Any:
        given = {"query": good.query, "memory": good.memory, "params": good.params, **good.options, **changes}
        return getattr(ops, name)(given.pop("query"), given.pop("memory"), given.pop("params"), **given)

    wrong: list[tuple[str, Any, type[Exception]]] = [
        ("score", "best", ArgumentError),
        ("scale", "yes", ArgumentError),
        ("batch_first", 1, ArgumentError),
        ("query", good.query[..., :-1], ShapeError),
        ("query", good.query[:, :-1], ShapeError),
        ("query", good.query[0, 0], ShapeError),
        ("query", good.query.astype(np.float32), DTypeError),
        ("memory", good.memory[0], ShapeError),
        ("memory", good.memory[:0], ShapeError),
        ("memory", good.memory.astype(int), DTypeError),
        ("lengths", [0, 1, 1], LengthsError),
        ("lengths", [1, 1, 5], LengthsError),
        ("lengths", [1, 1], ShapeError),
        ("params", None, ArgumentError),
        ("params", 5, ArgumentError),
        ("params", {**good.params, "bias": np.zeros(3)}, ArgumentError),
    ]
    for name in ("attention_forward", "attention_vjp"):
        for argument, value, error in wrong:
            with pytest.raises(error, match=f"^{name}: '{argument}' must .*, got "):
                call(name, **{argument: value})
        for key, value in good.params.items():
            for bad, error in (
                (value[:-1], ShapeError),
                (value.astype(np.float32), DTypeError),
                (value[None], ShapeError),
            ):
                with pytest.raises(
                    error, match=f"^{name}: '{key if key != 'weight_score' or bad.ndim > 1 else 'weight'}"
                ):
                    call(name, params={**good.params, key: bad})
        with pytest.raises(ShapeError, match=f"^{name}: 'weight' must have shape"):
            call(name, score="general", params={"weight": np.ones((2, 3))})
    _, pullback = call("attention_vjp")
    for argument, values in (("dcontext", (good.dcontext[0], None)), ("dweights", (good.dcontext, good.dweights[0]))):
        with pytest.raises(ShapeError, match=f"^attention_vjp: '{argument}' must "):
            pullback(*values)
    pullback(good.dcontext)
    with pytest.raises(RuntimeError, match="once"):
        pullback(good.dcontext)
