"""RNN, LSTM and GRU layers give PyTorch's results and gradients, for all options, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import Array, random_lengths
from tolerances import assert_close

import fastrnn as fr

torch = pytest.importorskip("torch")

C, H = 3, 4
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "rnn": (fr.RNN, torch.nn.RNN, {}),
    "rnn_relu": (fr.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (fr.LSTM, torch.nn.LSTM, {}),
    "lstm_projected": (fr.LSTM, torch.nn.LSTM, {"proj_size": 2}),
    "gru": (fr.GRU, torch.nn.GRU, {}),
}
family = pytest.mark.parametrize("family", FAMILIES)


def twins(family: str, **options: Any) -> tuple[Any, Any]:
    """Return our layer and PyTorch's with its weights."""
    ours, theirs, own = FAMILIES[family]
    torch.manual_seed(len(options))
    twin = theirs(C, H, **own, **options, dtype=torch.float64)
    layer = ours(C, H, **own, **options, dtype=np.float64)
    layer.load_state_dict(twin.state_dict())
    return layer, twin


def parts(state: Any) -> tuple[Any, ...]:
    """Return a state as a tuple."""
    return state if isinstance(state, tuple) else (state,)


def joined(state: Any) -> Any:
    """Return a tuple of parts as the layer takes it."""
    return state if len(state) == 2 else state[0]


def tensors(arrays: tuple[Array, ...]) -> Any:
    return tuple(torch.tensor(array, requires_grad=True) for array in arrays)


def arrays(values: Any) -> tuple[Array, ...]:
    return tuple(value.detach().numpy() for value in values)


def check(layer: Any, twin: Any, x: Array, rng: np.random.Generator, lengths: Array | None = None) -> None:
    """Compare output, final states, and the gradients of input, initial states and weights."""
    batched, first = x.ndim == 3, layer.batch_first
    T, N = (x.shape[:2][::-1] if first else x.shape[:2]) if batched else (len(x), 1)
    count, width = layer.num_layers * (1 + layer.bidirectional), layer.proj_size or H
    widths = (width, H) if isinstance(layer, fr.LSTM) else (width,)
    initial = tuple(rng.standard_normal((count, N, w) if batched else (count, w)) for w in widths)
    dstate = tuple(rng.standard_normal(part.shape) for part in initial)
    x_t, initial_t = torch.tensor(x, requires_grad=True), tensors(initial)
    if lengths is None:
        y_t, state_t = twin(x_t, joined(initial_t))
    else:
        packing = torch.nn.utils.rnn
        packed = packing.pack_padded_sequence(x_t, torch.tensor(lengths), first, enforce_sorted=False)
        y_t, state_t = twin(packed, joined(initial_t))
        y_t, _ = packing.pad_packed_sequence(y_t, first, total_length=T)
    dy = rng.standard_normal(tuple(y_t.shape))
    loss = (y_t * torch.tensor(dy)).sum()
    for part, gradient in zip(parts(state_t), dstate, strict=True):
        loss = loss + (part * torch.tensor(gradient)).sum()
    twin.zero_grad()
    loss.backward()

    operation = f"{type(layer).__name__.lower()}_vjp"
    layer.zero_grad()
    (y, state), backward = layer.forward(x, joined(initial), lengths=lengths)
    dx, dinitial = backward(dy, joined(dstate))
    assert_close(operation, (y, *parts(state)), arrays((y_t, *parts(state_t))))
    assert_close(operation, dx, x_t.grad.numpy())
    assert_close(operation, parts(dinitial), tuple(part.grad.numpy() for part in initial_t))
    theirs = {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}
    assert_close(operation, {name: p.grad for name, p in layer.parameters().items()}, theirs)
    y_called, state_called = layer(x, joined(initial), lengths=lengths)
    assert_close("exact", (y_called, *parts(state_called)), (y, *parts(state)))


@family
@pytest.mark.parametrize(
    ("layers", "bidirectional", "batch_first"), [*itertools.product((1, 2, 3), *[(False, True)] * 2)]
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_layers_and_directions(
    family: str, layers: int, bidirectional: bool, batch_first: bool, rng: np.random.Generator
) -> None:
    layer, twin = twins(family, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first)
    check(layer, twin, rng.standard_normal((5, 3, C)), rng)


@family
@pytest.mark.parametrize(("bidirectional", "batch_first"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_unbatched(family: str, bidirectional: bool, batch_first: bool, rng: np.random.Generator) -> None:
    layer, twin = twins(family, num_layers=2, bidirectional=bidirectional, batch_first=batch_first)
    check(layer, twin, rng.standard_normal((4, C)), rng)


@family
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_without_bias(family: str, rng: np.random.Generator) -> None:
    layer, twin = twins(family, num_layers=2, bias=False)
    check(layer, twin, rng.standard_normal((4, 2, C)), rng)


@family
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_lengths(family: str, batch_first: bool, rng: np.random.Generator) -> None:
    layer, twin = twins(family, num_layers=2, bidirectional=True, batch_first=batch_first)
    T, N = 6, 5
    x = rng.standard_normal((N, T, C) if batch_first else (T, N, C))
    check(layer, twin, x, rng, random_lengths(rng, N, T))


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    family=st.sampled_from(["rnn", "lstm", "gru"]),
    bidirectional=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_lengths(lengths: list[int], family: str, bidirectional: bool, seed: int) -> None:
    layer, twin = twins(family, bidirectional=bidirectional)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((max(lengths), len(lengths), C))
    check(layer, twin, x, rng, np.array(lengths))


@family
def test_parameter_names_and_shapes(family: str) -> None:
    layer, twin = twins(family, num_layers=2, bidirectional=True)
    ours = {name: parameter.shape for name, parameter in layer.parameters().items()}
    assert list(ours.items()) == [(name, tuple(value.shape)) for name, value in twin.named_parameters()]


@family
def test_defaults(family: str) -> None:
    ours, theirs, own = FAMILIES[family]
    layer, twin = ours(C, H, **own), theirs(C, H, **own)
    for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"):
        assert getattr(layer, name) == getattr(twin, name)
    twin.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})


@pytest.mark.parametrize("family", ["rnn", "gru"])
def test_positional_arguments(family: str) -> None:
    ours, theirs, _ = FAMILIES[family]
    arguments = (C, H, 2, *(("relu",) if family == "rnn" else ()), False, True, 0.25, True)
    layer, twin = ours(*arguments), theirs(*arguments)
    for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        assert getattr(layer, name) == getattr(twin, name)


@pytest.mark.parametrize("shape", [(3, 0, C), (0, 2, C), (0, C)])
@pytest.mark.parametrize("family", ["rnn", "lstm", "gru"])
def test_empty(family: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """PyTorch refuses T = 0: here the final state is the initial one."""
    layer, _ = twins(family, num_layers=2, bidirectional=True)
    state_shape = (4, shape[1], H) if len(shape) == 3 else (4, H)
    state = tuple(rng.standard_normal(state_shape) for _ in range(2 if family == "lstm" else 1))
    (y, final), backward = layer.forward(np.zeros(shape), joined(state))
    assert y.shape == (*shape[:-1], 2 * H)
    assert_close("exact", parts(final), state)
    dx, dstate = backward(y, final)
    assert dx.shape == shape
    assert_close("exact", parts(dstate), state)


def test_linear(rng: np.random.Generator) -> None:
    twin = torch.nn.Linear(C, H, dtype=torch.float64)
    layer = fr.Linear(C, H, dtype=np.float64)
    layer.load_state_dict(twin.state_dict())
    x = rng.standard_normal((2, 5, C))
    y, backward = layer.forward(x)
    x_t = torch.tensor(x, requires_grad=True)
    y_t = twin(x_t)
    y_t.backward(y_t.detach())
    assert_close("linear_vjp", y, y_t.detach().numpy())
    assert_close("linear_vjp", backward(y), x_t.grad.numpy())
    grads = {name: p.grad for name, p in layer.parameters().items()}
    assert_close("linear_vjp", grads, {name: p.grad.numpy() for name, p in twin.named_parameters()})


def test_whole_model_trains_like_torch(rng: np.random.Generator) -> None:
    """Embedding, LSTM and Linear, clipped Adam: the same losses over 10 steps."""
    V = 6
    twin_layers = torch.nn.Embedding(V, C), torch.nn.LSTM(C, H, 2), torch.nn.Linear(H, V)
    twin = torch.nn.ModuleList(twin_layers).double()
    model = fr.Sequential(fr.Embedding(V, C, dtype="f8"), fr.LSTM(C, H, 2, dtype="f8"), fr.Linear(H, V, dtype="f8"))
    model.load_state_dict(twin.state_dict())
    theirs, ours = torch.optim.Adam(twin.parameters(), lr=0.05), fr.Adam(model, lr=0.05)
    losses = []
    for _ in range(10):
        tokens, targets = rng.integers(0, V, (2, 7, 3))
        logits, backward = model.forward(tokens)
        loss, dlogits = fr.cross_entropy(logits, targets)
        ours.zero_grad()
        backward(dlogits)
        norm = fr.clip_grad_norm(model, 0.2)
        ours.step()

        embedding, lstm, linear = twin
        logits_t = linear(lstm(embedding(torch.tensor(tokens)))[0])
        loss_t = torch.nn.functional.cross_entropy(logits_t.flatten(0, 1), torch.tensor(targets).flatten())
        theirs.zero_grad()
        loss_t.backward()
        norm_t = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.2)
        theirs.step()
        np.testing.assert_allclose((loss, norm), (loss_t.item(), norm_t.item()), rtol=1e-8)
        losses.append(loss)
    assert len(set(losses)) == 10
