"""Attention as a layer: twins of PyTorch's operations, memories shared over decoder steps, state, files, errors."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numeric import Array, assert_gradients
from tolerances import assert_close, assert_same_bits

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

Q, M, A, T, N, STEPS = 4, 6, 5, 7, 3, 3
LENGTHS = np.array([7, 2, 5])
SCORES = ("dot", "general", "additive")
each_score = pytest.mark.parametrize("score", SCORES)


def make(score: str, seed: int = 0, dtype: Any = np.float64, **options: Any) -> fr.Attention:
    sizes = (M if score == "dot" else Q, M)
    units = {"units": A} if score == "additive" else {}
    return fr.Attention(*sizes, score, **units, dtype=dtype, rng=seed, **options)


def data(rng: np.random.Generator, score: str, dtype: Any = np.float64) -> tuple[Array, Array]:
    """Return queries of all steps, and the memory."""
    queries = rng.standard_normal((STEPS, N, M if score == "dot" else Q)).astype(dtype)
    return queries, rng.standard_normal((T, N, M)).astype(dtype)


@each_score
def test_parameters(score: str) -> None:
    wanted: dict[str, Any] = {
        "dot": {},
        "general": {"weight": (M, Q)},
        "additive": {"weight_query": (A, Q), "weight_memory": (A, M), "weight_score": (A,)},
    }
    layer = make(score)
    assert {name: parameter.shape for name, parameter in layer.parameters().items()} == wanted[score]
    assert all(parameter.data.any() for parameter in layer.parameters().values())


def torch_attention(torch: Any, query: Any, memory: Any, params: dict[str, Any], score: str, scale: float) -> Any:
    if score == "additive":
        keys = memory @ params["weight_memory"].T
        scores = torch.tanh(keys + query @ params["weight_query"].T) @ params["weight_score"]
    else:
        q = query if score == "dot" else query @ params["weight"].T
        scores = (memory * q).sum(-1)
    mask = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
    weights = torch.softmax((scale * scores).masked_fill(~mask, -np.inf), 0)
    return (weights[..., None] * memory).sum(0), weights.T


@each_score
def test_a_decoder_like_torch(score: str, rng: np.random.Generator) -> None:
    """Each query depends on the context before it; the memory's gradient is the sum over all steps."""
    torch = pytest.importorskip("torch")
    layer = make(score, scale=0.7)
    (query, *_), encoded = data(rng, score)
    back_weight = rng.standard_normal((M, query.shape[-1]))
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in layer.state_dict().items()}
    t_query, t_encoded = (torch.tensor(array, requires_grad=True) for array in (query, encoded))
    state, loss = t_query, 0
    for _ in range(STEPS):
        context, weights = torch_attention(torch, state, t_encoded, theirs, score, 0.7)
        loss = loss + (context**2).sum() + (weights**2).sum()
        state = torch.tanh(context @ torch.tensor(back_weight))
    loss.backward()

    memory, steps, state = layer.memory(encoded, lengths=LENGTHS), [], query
    for _ in range(STEPS):
        (context, weights), backward = memory.forward(state)
        new_state = np.tanh(context @ back_weight)
        steps.append((context, weights, new_state, backward))
        state = new_state
    dstate = np.zeros_like(state)
    for context, weights, after, backward in reversed(steps):
        dcontext = 2 * context + (dstate * (1 - after**2)) @ back_weight.T
        dstate = backward(dcontext, 2 * weights)
    assert_close("attention", dstate, t_query.grad.numpy())
    assert_close("attention", memory.backward(), t_encoded.grad.numpy())
    assert_close(
        "attention",
        {name: parameter.grad for name, parameter in layer.parameters().items()},
        {name: tensor.grad.numpy() for name, tensor in theirs.items()},
    )


@each_score
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients(score: str, batch_first: bool, rng: np.random.Generator) -> None:
    layer = make(score, batch_first=batch_first, scale=True)
    queries, encoded = data(rng, score)
    if batch_first:
        queries, encoded = queries.swapaxes(0, 1).copy(), encoded.swapaxes(0, 1).copy()
    values = layer.state_dict()
    (context, weights), backward = layer.forward(queries, encoded, lengths=LENGTHS)
    dcontext, dweights = rng.standard_normal(context.shape), rng.standard_normal(weights.shape)
    dquery, dmemory = backward(dcontext, dweights)
    grads = {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}

    def objective() -> float:
        layer.load_state_dict(values)
        context, weights = layer(queries, encoded, lengths=LENGTHS)
        return float((dcontext * context).sum() + (dweights * weights).sum())

    assert_gradients(objective, {"q": queries, "m": encoded, **values}, {"q": dquery, "m": dmemory, **grads})


@each_score
def test_calls_agree(score: str, dtype: Any, rng: np.random.Generator) -> None:
    layer = make(score, dtype=dtype)
    queries, encoded = data(rng, score, dtype)
    wanted = layer(queries, encoded, lengths=LENGTHS)
    memory = layer.memory(encoded, lengths=LENGTHS)
    assert_same_bits(layer.forward(queries, encoded, lengths=LENGTHS)[0], wanted)
    assert_same_bits(memory(queries), wanted)
    assert_same_bits(memory.forward(queries)[0], wanted)
    for t, query in enumerate(queries):
        assert_same_bits(layer(query, encoded, lengths=LENGTHS), (wanted[0][t], wanted[1][t]))
    assert not any(parameter.has_grad for parameter in layer.parameters().values())
    np.testing.assert_allclose(wanted[1].sum(axis=-1), 1, rtol=1e-5)


@each_score
def test_a_memory_is_a_snapshot(score: str, rng: np.random.Generator) -> None:
    layer = make(score)
    queries, encoded = data(rng, score)
    memory, before = layer.memory(encoded), layer(queries, encoded)
    (context, weights), backward = memory.forward(queries)
    expected = make(score).forward(queries, encoded)[1](context, weights)
    dcontext, dweights = context.copy(), weights.copy()
    encoded[...], context[...], weights[...] = 0, 0, 0
    for parameter in layer.parameters().values():
        with parameter.edit() as values:
            values += 1
    assert_same_bits(memory(queries), before)
    assert_same_bits((backward(dcontext, dweights), memory.backward()), expected)


@each_score
def test_pullbacks_are_called_once(score: str, rng: np.random.Generator) -> None:
    layer = make(score)
    queries, encoded = data(rng, score)
    (context, _), backward = layer.forward(queries, encoded)
    for bad, error in ((context[0], ShapeError), (context.astype(np.float32), DTypeError)):
        with pytest.raises(error, match="^Attention: 'dcontext' must .*, got "):
            backward(bad)
    backward(context)
    memory = layer.memory(encoded)
    late = memory.forward(queries)[1]
    memory.backward()
    grads = {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}
    for refused in (lambda: backward(context), memory.backward, lambda: late(context)):
        with pytest.raises(RuntimeError, match="once"):
            refused()
    assert_same_bits({name: parameter.grad for name, parameter in layer.parameters().items()}, grads)


@each_score
def test_steps_in_many_threads(score: str, rng: np.random.Generator) -> None:
    layer = make(score)
    queries, encoded = data(rng, score)
    dcontext = rng.standard_normal((STEPS, N, M))
    dqueries, dmemory = layer.forward(queries, encoded)[1](dcontext)
    wanted = {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}
    layer.zero_grad()
    memory = layer.memory(encoded)

    def step(t: int) -> Any:
        return memory.forward(queries[t])[1](dcontext[t])

    with ThreadPoolExecutor(STEPS) as pool:
        assert_close("attention", np.array(list(pool.map(step, range(STEPS)))), dqueries)
    assert_close("attention", memory.backward(), dmemory)
    assert_close("attention", {name: parameter.grad for name, parameter in layer.parameters().items()}, wanted)


@each_score
def test_config_pickle_and_file(score: str, rng: np.random.Generator, tmp_path: Any) -> None:
    layer = make(score, scale=True, batch_first=False, dtype=np.float32)
    queries, encoded = data(rng, score, np.float32)
    wanted = layer(queries, encoded)
    assert_same_bits(pickle.loads(pickle.dumps(layer))(queries, encoded), wanted)
    assert repr(layer).startswith("Attention(")
    pytest.importorskip("safetensors")
    fr.save(layer, tmp_path / "a.safetensors")
    loaded: Any = fr.load(tmp_path / "a.safetensors")
    assert repr(loaded) == repr(layer)
    assert_same_bits(loaded(queries, encoded), wanted)


def test_bad_input(rng: np.random.Generator) -> None:
    for changes, argument in (
        ({"query_size": 0}, "query_size"),
        ({"score": "cosine"}, "score"),
        ({"score": "dot"}, "query_size"),
        ({"units": 3, "score": "general"}, "units"),
        ({"units": 0}, "units"),
        ({"scale": "x"}, "scale"),
        ({"batch_first": 1}, "batch_first"),
    ):
        with pytest.raises(ArgumentError, match=f"^Attention: '{argument}' must .*, got "):
            fr.Attention(**{"query_size": Q, "memory_size": M, "score": "additive", **changes})
    layer = make("additive")
    queries, encoded = data(rng, "additive")
    wrong: list[tuple[str, Any, Any, Any, type[Exception]]] = [
        ("query", queries[..., 1:], encoded, None, ShapeError),
        ("query", queries[:, 1:], encoded, None, ShapeError),
        ("query", queries[0, 0], encoded, None, ShapeError),
        ("query", queries.astype(int), encoded, None, DTypeError),
        ("memory", queries, encoded[0], None, ShapeError),
        ("memory", queries, encoded[..., 1:], None, ShapeError),
        ("memory", queries, encoded[:0], None, ShapeError),
        ("memory", queries, encoded.astype(np.float32), None, DTypeError),
        ("lengths", queries, encoded, [1, 2], ShapeError),
        ("lengths", queries, encoded, [1, 2, 8], LengthsError),
    ]
    for argument, query, memory, lengths, error in wrong:
        for call in (layer, layer.forward):
            with pytest.raises(error, match=f"^Attention: '{argument}' must .*, got "):
                call(query, memory, lengths=lengths)
    with pytest.raises(ShapeError, match="^Attention: 'query' must .*, got "):
        layer.memory(encoded)(queries[0, 0])
