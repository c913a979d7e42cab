"""Embedding tables as layers: padding, rows that are kept book of, and models like PyTorch's."""

from __future__ import annotations

import copy
import resource
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

import fastrnn as fr
from fastrnn.errors import ArgumentError, LengthsError, ShapeError, TokenError

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda params: fr.SGD(params, 0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda params: fr.Adam(params, 0.1, amsgrad=True),
    "adamw": lambda params: fr.AdamW(params, 0.1),
    "rmsprop": lambda params: fr.RMSprop(params, 0.1, momentum=0.5, centered=True),
    "adagrad": lambda params: fr.Adagrad(params, 0.1),
    "adadelta": lambda params: fr.Adadelta(params, 0.1),
}


def train(layer: Any, optimizer: Any, tokens: Any, rng: np.random.Generator) -> None:
    """Take one step on random gradients."""
    y, backward = layer.forward(tokens)
    optimizer.zero_grad()
    backward(rng.standard_normal(y.shape).astype(y.dtype))
    optimizer.step()


def test_padding_starts_at_zero_and_stays(rng: np.random.Generator) -> None:
    for layer in (fr.Embedding(5, 3, padding_idx=-1, rng=0), fr.EmbeddingBag(5, 3, padding_idx=-1, rng=0)):
        assert layer.padding_idx == 4
        assert not layer.weight[4].any()
        assert layer.weight[:4].all()
        optimizer = fr.Adam(layer)
        train(layer, optimizer, np.array([[0, 4], [4, 2]]), rng)
        assert not layer.parameters()["weight"].grad[4].any()
        assert not layer.weight[4].any()


def test_padding_given_weights_of_its_own() -> None:
    layer = fr.Embedding(3, 2, padding_idx=1, weight_init=lambda shape, **_: np.ones(shape, np.float32))
    assert_array_equal(layer.weight, [[1, 1], [0, 0], [1, 1]])
    layer.weight = np.full((3, 2), 5, np.float32)
    assert_array_equal(layer([1]), [[5, 5]])


def test_bags_like_torch(rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    tokens, offsets = rng.integers(0, 9, 20), np.array([0, 4, 4, 11])
    weights = rng.uniform(0.5, 2, 20).astype(dtype)
    for mode in ("sum", "mean", "max"):
        layer = fr.EmbeddingBag(9, 4, mode, 2, dtype=dtype)
        twin = torch.nn.EmbeddingBag(9, 4, mode=mode, padding_idx=2, dtype=getattr(torch, np.dtype(dtype).name))
        layer.load_state_dict(twin.state_dict())
        factors = weights if mode == "sum" else None
        y, backward = layer.forward(tokens, offsets, factors)
        theirs = twin(torch.tensor(tokens), torch.tensor(offsets), None if factors is None else torch.tensor(factors))
        assert_close("embedding_bag", y, theirs.detach().numpy())
        assert (backward(y) is None) == (factors is None)
        theirs.backward(theirs.detach())
        assert_close("embedding_bag", layer.parameters()["weight"].grad, twin.weight.grad.numpy())


def test_bags_in_a_model() -> None:
    model = fr.Sequential(fr.EmbeddingBag(9, 4, rng=0), fr.Linear(4, 2, rng=0))
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    y, backward = model.forward(tokens, lengths=[3, 1])
    assert_array_equal(model(tokens, lengths=[3, 1]), y)
    assert backward(y) is None
    assert_array_equal(np.flatnonzero(model.parameters()["0.weight"].grad.any(axis=1)), [1, 2, 3, 4])


def test_bad_options() -> None:
    with pytest.raises(TokenError, match=r"Embedding: 'padding_idx' must be in -5\.\.4, got 5"):
        fr.Embedding(5, 3, padding_idx=5)
    with pytest.raises(ArgumentError, match="EmbeddingBag: 'mode' must be one of 'mean', 'sum', 'max', got 'min'"):
        fr.EmbeddingBag(5, 3, "min")
    with pytest.raises(ArgumentError, match="Embedding: 'sparse' must be True or False, got 1"):
        fr.Embedding(5, 3, sparse=1)  # type: ignore[arg-type]
    layer = fr.EmbeddingBag(5, 3)
    with pytest.raises(ShapeError, match=r"EmbeddingBag: 'tokens' must have shape \(N, L\)"):
        layer([1, 2])
    with pytest.raises(TokenError, match=r"EmbeddingBag: 'tokens' must be in 0\.\.4, got 5"):
        layer.forward([[5]])
    with pytest.raises(LengthsError, match=r"EmbeddingBag: 'lengths' must be in 1\.\.T=1, got 2"):
        layer([[1]], lengths=[2])


# Rows


def test_rows_that_were_touched(rng: np.random.Generator) -> None:
    layer = fr.Embedding(10, 3, padding_idx=0, sparse=True)
    weight = layer.parameters()["weight"]
    assert weight.sparse
    assert weight.rows is not None
    assert not weight.rows.size
    for tokens in ([7, 2, 0], [[2, 5]]):
        y, backward = layer.forward(tokens)
        backward(y)
    assert_array_equal(weight.rows, [2, 5, 7])
    weight.zero_grad()
    assert not weight.rows.size
    assert not weight.grad.any()
    weight.grad += 1
    assert weight.rows is None
    weight.zero_grad()
    assert not weight.grad.any()
    weight.touch(np.array([3, 3]))
    assert_array_equal(weight.rows, [3])
    assert copy.deepcopy(weight).sparse
    assert fr.Embedding(10, 3).parameters()["weight"].rows is None


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_only_touched_rows_change(make: Any, dtype: Any, rng: np.random.Generator) -> None:
    """Each row goes the way it would go alone; rows that are not touched are not even read."""
    layer = fr.Embedding(12, 5, sparse=True, dtype=dtype, rng=0)
    small = fr.Embedding(3, 5, dtype=dtype)
    used = np.array([4, 7, 11])
    small.weight = layer.weight[used]
    optimizer, twin = make(layer), make(small)
    others = np.setdiff1d(np.arange(12), used)
    with layer.parameters()["weight"].edit() as values:
        values[others] = np.nan
    for seed in range(4):
        train(layer, optimizer, used, np.random.default_rng(seed))
        train(small, twin, np.arange(3), np.random.default_rng(seed))
        fr.clip_grad_norm(layer, 1e-3)
    assert_array_equal(layer.weight[used], small.weight)
    assert np.isnan(layer.weight[others]).all()
    state = optimizer.state_dict()
    for name, array in state.items():
        if name.endswith(".weight") and np.ndim(array):
            assert not array[others].any()


def test_adam_like_sparse_adam(dtype: Any, rng: np.random.Generator) -> None:
    """But for eps, which SparseAdam adds before the correction of v."""
    torch = pytest.importorskip("torch")
    layer = fr.Embedding(20, 4, sparse=True, dtype=dtype)
    twin = torch.nn.Embedding(20, 4, sparse=True, dtype=getattr(torch, np.dtype(dtype).name))
    layer.load_state_dict(twin.state_dict())
    ours, theirs = fr.Adam(layer, 0.05, eps=0), torch.optim.SparseAdam(twin.parameters(), 0.05, eps=1e-30)
    for _ in range(6):
        tokens, dy = rng.permutation(20)[:7], rng.standard_normal((7, 4)).astype(dtype)
        ours.zero_grad()
        theirs.zero_grad()
        layer.forward(tokens)[1](dy)
        twin(torch.tensor(tokens)).backward(torch.tensor(dy))
        ours.step()
        theirs.step()
        assert_close("adam_step", layer.weight, twin.weight.detach().numpy())


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("kind", ["SGD", "Adagrad"])
def test_like_sparse_gradients_of_torch(kind: str, dtype: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    layer = fr.Embedding(20, 4, sparse=True, dtype=dtype)
    twin = torch.nn.Embedding(20, 4, sparse=True, dtype=getattr(torch, np.dtype(dtype).name))
    layer.load_state_dict(twin.state_dict())
    ours, theirs = getattr(fr, kind)(layer, 0.05), getattr(torch.optim, kind)(twin.parameters(), 0.05)
    for _ in range(6):
        tokens, dy = rng.permutation(20)[:7], rng.standard_normal((7, 4)).astype(dtype)
        ours.zero_grad()
        theirs.zero_grad()
        layer.forward(tokens)[1](dy)
        twin(torch.tensor(tokens)).backward(torch.tensor(dy))
        ours.step()
        theirs.step()
        assert_close(f"{kind.lower()}_step", layer.weight, twin.weight.detach().numpy())


def test_clipping_of_rows_equals_clipping_of_all(rng: np.random.Generator) -> None:
    layers = [fr.Embedding(50, 8, sparse=sparse, dtype=np.float64, rng=0) for sparse in (True, False)]
    dy = rng.standard_normal((9, 8))
    for layer in layers:
        layer.forward(np.arange(9) % 7)[1](dy)
    norms = [fr.clip_grad_norm(layer, 0.1) for layer in layers]
    assert norms[0] == pytest.approx(norms[1], rel=1e-14)
    for layer in layers:
        fr.clip_grad_value(layer, 0.01)
    grads = [layer.parameters()["weight"].grad for layer in layers]
    np.testing.assert_allclose(grads[0], grads[1], rtol=1e-13)
    assert_array_equal(layers[0].parameters()["weight"].rows, np.arange(7))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_step_on_a_million_rows_touches_the_memory_of_few(make: Any, rng: np.random.Generator) -> None:
    """Gradient and state of a row are mapped when it is first used: pages count what is read or written."""
    layer = fr.Embedding(1_000_000, 64, sparse=True, weight_init="zeros")
    optimizer = make(layer)
    y, _ = layer.forward(np.arange(100))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        train(layer, optimizer, rng.integers(0, 1_000_000, 100), rng)
        fr.clip_grad_norm(layer, 1.0)
        fr.clip_grad_value(layer, 1.0)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    # 300 rows in at most 5 arrays, each on one or two pages, the marks of touched rows, and what Python takes: of 62500 pages
    # that each array has.
    assert faults < 6000
    assert y.shape == (100, 64)
