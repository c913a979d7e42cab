"""Parameters side by side: nothing but speed changes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError
from fastrnn.layers.arenas import runs

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda params: fr.SGD(params, 0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda params: fr.Adam(params, 0.1, amsgrad=True),
    "adamw": lambda params: fr.AdamW(params, 0.1, eps=0),
    "rmsprop": lambda params: fr.RMSprop(params, 0.1, momentum=0.5, centered=True),
    "adagrad": lambda params: fr.Adagrad(params, 0.1, initial_accumulator_value=0.5),
    "adadelta": lambda params: fr.Adadelta(params, 0.1),
}


def model(dtype: Any = np.float32) -> fr.Sequential:
    layers = [
        fr.Linear(5, 7, dtype=dtype, rng=0),
        fr.LSTM(7, 3, dtype=dtype, rng=1),
        fr.Linear(3, 2, dtype=dtype, rng=2),
    ]
    return fr.Sequential(*layers)


def train(layer: Any, optimizer: Any, seed: int, clip: float = 0.5) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 2, 5)).astype(layer[0].dtype)
    y, backward = layer.forward(x)
    optimizer.zero_grad()
    backward(rng.standard_normal(y.shape).astype(y.dtype))
    fr.clip_grad_value(layer, clip)
    optimizer.step()


def test_one_array_for_all(dtype: Any) -> None:
    layer = model(dtype)
    before, versions = layer.state_dict(), [p.version for p in layer.parameters().values()]
    weight = layer.parameters()["1.weight_hh_l0"]
    weight.grad += 3
    (arena,) = fr.arena(layer)
    assert fr.arena(layer) == (arena,)
    assert arena.dtype == dtype
    assert arena.size >= layer.num_parameters()
    assert [p.version for p in layer.parameters().values()] == versions
    for name, array in layer.state_dict().items():
        assert_array_equal(array, before[name])
    assert [p.has_grad for p in layer.parameters().values()].count(True) == 1
    assert (weight.grad == 3).all()
    assert arena.data.sum(dtype=float) == pytest.approx(sum(a.sum(dtype=float) for a in before.values()), abs=1e-4)
    for parameter in layer.parameters().values():
        assert np.shares_memory(parameter.data, arena.data)
        assert np.shares_memory(parameter.grad, arena.grad)
        assert parameter.data.ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        arena.data[...] = 0
    arena.grad[...] = 7
    assert (weight.grad == 7).all()


def test_gradients_that_count_as_zero() -> None:
    layer = fr.Conv2d(4, 4, 3)
    (arena,) = fr.arena(layer)
    for parameter in layer.parameters().values():
        with parameter.edit() as values:
            values[...] = 1
        parameter._sum()[...] = 3
        parameter.zero_grad()
    assert fr.clip_grad_norm(layer, 1.0) == 0
    optimizer = fr.SGD(layer, lr=1.0)
    optimizer.step()
    assert (layer.weight == 1).all()
    assert not arena.grad.any()


def test_all_doors_still_work(rng: np.random.Generator) -> None:
    layer = model()
    (arena,) = fr.arena(layer)
    x = rng.standard_normal((4, 2, 5)).astype(np.float32)
    layer(x)
    bias = layer.parameters()["2.bias"]
    bias.assign(np.array([5, 6], np.float32))
    with bias.edit() as values:
        values += 1
    layer[2].weight = np.zeros((2, 3), np.float32)
    assert bias.version == 2
    assert_array_equal(layer(x), np.broadcast_to(np.array([6, 7], np.float32), (4, 2, 2)))
    assert_array_equal(arena.view(arena.data, bias), [6, 7])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("when", [0, 2])
def test_steps_are_the_same(make: Any, when: int, dtype: Any) -> None:
    """Also where the arena is made between two steps."""
    apart, together = model(dtype), model(dtype)
    ours, wanted = make(together), make(apart)
    for seed in range(5):
        if seed == when:
            fr.arena(together)
        train(together, ours, seed)
        train(apart, wanted, seed)
    assert len(list(runs(together.parameters().values()))) == 1
    for name, parameter in together.parameters().items():
        assert_array_equal(parameter.data, apart.parameters()[name].data)
        assert parameter.version == apart.parameters()[name].version
    for key, value in ours.state_dict().items():
        assert_array_equal(value, wanted.state_dict()[key])


def test_parameters_that_have_no_gradient_or_are_late() -> None:
    apart, together = model(), model()
    fr.arena(together)
    optimizers = fr.Adam(apart), fr.Adam(together)
    for layer, optimizer in zip((apart, together), optimizers, strict=True):
        for names in (("1.weight_ih_l0",), ("0.weight", "0.bias", "1.weight_ih_l0", "2.bias")):
            for name in names:
                parameter = layer.parameters()[name]
                parameter.grad = np.linspace(-1, 1, parameter.size, dtype=np.float32).reshape(parameter.shape)
            optimizer.step()
    for name, array in together.state_dict().items():
        assert_array_equal(array, apart.state_dict()[name])
    assert together.parameters()["0.weight"].version == 1
    assert together.parameters()["2.weight"].version == 0


def test_groups_split_the_pass() -> None:
    apart, together = model(), model()
    fr.arena(together)
    groups = [[{"params": m[0]}, {"params": m[1:], "lr": 0.5, "weight_decay": 0.1}] for m in (apart, together)]
    optimizers = [fr.SGD(each, 0.1) for each in groups]
    for seed in range(3):
        train(apart, optimizers[0], seed)
        train(together, optimizers[1], seed)
    for name, array in together.state_dict().items():
        assert_array_equal(array, apart.state_dict()[name])


def test_state_goes_on(dtype: Any) -> None:
    layer = model(dtype)
    fr.arena(layer)
    optimizer = fr.Adam(layer)
    train(layer, optimizer, 0)
    other = copy.deepcopy(layer)
    fr.arena(other)
    resumed = fr.Adam(other)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    for seed in (1, 2):
        train(layer, optimizer, seed)
        train(other, resumed, seed)
    for name, array in other.state_dict().items():
        assert_array_equal(array, layer.state_dict()[name])


def test_norms(dtype: Any, rng: np.random.Generator) -> None:
    layer = model(dtype)
    for parameter in layer.parameters().values():
        parameter.grad = rng.standard_normal(parameter.shape).astype(dtype)
    norms = [fr.clip_grad_norm(layer, 1e9)]
    fr.arena(layer)
    norms.append(fr.clip_grad_norm(layer, 1e9))
    assert norms[1] == pytest.approx(norms[0], rel=1e-6 if dtype is np.float32 else 1e-14)
    fr.clip_grad_norm(layer, 1.0)
    assert fr.clip_grad_norm(layer, 1.0) == pytest.approx(1.0, rel=1e-4)


def test_types_apart_and_sparse_ones_left_out() -> None:
    double = fr.Linear(2, 2, dtype=np.float64)
    mixed = fr.Sequential(fr.Embedding(9, 5, sparse=True), fr.Linear(5, 2), fr.Linear(2, 2))
    params = [*mixed.parameters().values(), *double.parameters().values()]
    arenas = fr.arena(params)
    assert [(len(arena.parameters), arena.dtype) for arena in arenas] == [(4, np.float32), (2, np.float64)]
    assert mixed.parameters()["0.weight"]._home is None
    assert repr(arenas[1]) == "Arena(2 parameters, size=16, dtype=float64)"


def test_moving_to_another_arena() -> None:
    layer = model()
    (first,) = fr.arena(layer)
    (second,) = fr.arena(layer[1:])
    assert second is not first
    before = layer.state_dict()
    optimizer = fr.SGD(layer, 0.1)
    train(layer, optimizer, 0)
    assert [len(run) for run in runs(layer.parameters().values())] == [2, 6]
    assert not np.array_equal(layer.state_dict()["2.weight"], before["2.weight"])


def test_copies_have_no_arena() -> None:
    layer = model()
    fr.arena(layer)
    double = copy.deepcopy(layer)
    with double.parameters()["0.bias"].edit() as values:
        values += 1
    assert double.parameters()["0.bias"]._home is None
    assert not layer[0].bias.any()


@pytest.mark.parametrize("params", [None, [np.ones(3)], fr.Parameter(np.ones(3))])
def test_bad_params(params: Any) -> None:
    with pytest.raises(ArgumentError, match="arena: 'params' must"):
        fr.arena(params)
    assert fr.arena([]) == ()
