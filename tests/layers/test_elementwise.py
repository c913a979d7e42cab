"""Activations, dropout and layers of shape: what the common suite does not cover."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close, assert_same_bits

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "ELU": (0.7,),
    "GELU": ("tanh",),
    "Hardsigmoid": (),
    "Hardswish": (),
    "Hardtanh": (-0.5, 0.75),
    "LeakyReLU": (0.3,),
    "LogSoftmax": (-1,),
    "Mish": (),
    "ReLU": (),
    "ReLU6": (),
    "SELU": (),
    "SiLU": (),
    "Sigmoid": (),
    "Softmax": (0,),
    "Softplus": (2.0, 1.5),
    "Softsign": (),
    "Tanh": (),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("options", [False, True])
def test_like_torch(name: str, options: bool, dtype: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    args = ACTIVATIONS[name] if options else ()
    theirs = getattr(torch.nn, name)(*(args or ((-1,) if "oftmax" in name else ())))
    layer = getattr(fr, name)(*args)
    x, dy = (2 * rng.standard_normal((2, 5, 7, 3))).astype(dtype)
    leaf = torch.tensor(x, requires_grad=True)
    wanted = theirs(leaf)
    wanted.backward(torch.tensor(dy))
    y, backward = layer.forward(x)
    assert_close("activation_vjp", y, wanted.detach().numpy())
    assert_close("activation_vjp", backward(dy), leaf.grad.numpy(), dtype=np.float32)
    assert_same_bits(layer(x), y)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: fr.ELU("a"), "alpha"),
        (lambda: fr.LeakyReLU(np.inf), "negative_slope"),
        (lambda: fr.GELU("erf"), "approximate"),
        (lambda: fr.Softplus(0), "beta"),
        (lambda: fr.Softplus(1, None), "threshold"),
        (lambda: fr.Hardtanh(1, 1), "max_val"),
        (lambda: fr.Softmax(1.0), "axis"),
        (lambda: fr.Dropout(2), "p"),
        (lambda: fr.Dropout(rng="x"), "rng"),
        (lambda: fr.Dropout2d(layout="NCL"), "layout"),
        (lambda: fr.LockedDropout(0.5, 1), "batch_first"),
        (lambda: fr.Flatten(1.5), "start_dim"),
        (lambda: fr.Unflatten(1, 3), "unflattened_size"),
        (lambda: fr.Unflatten(1, (-1, -1)), "unflattened_size"),
        (lambda: fr.Reshape(2, -2), "shape"),
        (lambda: fr.Permute(0, 0), "dims"),
        (fr.Permute, "dims"),
        (lambda: fr.Permute(0, 2), "dims"),
        (lambda: fr.Transpose(0, "1"), "dim1"),
    ],
)
def test_bad_options(build: Any, argument: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^\w+: '{argument}' must .*, got "):
        build()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (fr.Softmax(2), (3, 4)),
        (fr.LogSoftmax(), ()),
        (fr.Dropout1d(), (4,)),
        (fr.Dropout2d(), (2, 3)),
        (fr.Dropout3d(), (2, 3, 4)),
        (fr.LockedDropout(), (4,)),
        (fr.Flatten(3), (2, 3)),
        (fr.Flatten(1, 0), (2, 3)),
        (fr.Unflatten(1, (2, 2)), (2, 3)),
        (fr.Unflatten(1, (2, -1)), (2, 3)),
        (fr.Unflatten(3, (2, -1)), (2, 3)),
        (fr.Reshape(4), (2, 3)),
        (fr.Reshape(0, -1), (2, 3)),
        (fr.Reshape(4), ()),
        (fr.Permute(1, 0), (2, 3, 4)),
        (fr.Transpose(0, 2), (2, 3)),
    ],
    ids=str,
)
def test_bad_shapes(layer: fr.Layer, shape: tuple[int, ...]) -> None:
    for call in (layer, layer.forward):
        with pytest.raises(ShapeError, match=rf"^{type(layer).__name__}: 'x' must .*, got "):
            call(np.zeros(shape))


DROPOUTS = (
    (fr.Dropout, {}, (40, 50), ()),
    (fr.Dropout1d, {}, (20, 30, 4), (2,)),
    (fr.Dropout1d, {"layout": "NLC"}, (20, 4, 30), (1,)),
    (fr.Dropout2d, {}, (20, 30, 2, 3), (2, 3)),
    (fr.Dropout2d, {}, (300, 2, 3), (1, 2)),
    (fr.Dropout2d, {"layout": "NHWC"}, (20, 2, 3, 30), (1, 2)),
    (fr.Dropout3d, {}, (20, 30, 2, 3, 2), (2, 3, 4)),
    (fr.LockedDropout, {}, (4, 20, 30), (0,)),
    (fr.LockedDropout, {"batch_first": True}, (20, 4, 30), (1,)),
    (fr.LockedDropout, {"batch_first": True}, (4, 300), (0,)),
)


@pytest.mark.parametrize(("kind", "options", "shape", "alike"), DROPOUTS, ids=str)
def test_dropout(
    kind: Any, options: dict[str, Any], shape: tuple[int, ...], alike: tuple[int, ...], dtype: Any
) -> None:
    x = np.ones(shape, dtype)
    layer, twin = (kind(0.25, **options, rng=np.random.default_rng(3)) for _ in range(2))
    assert_same_bits(layer(x), x)
    y, backward = layer.forward(x)
    assert set(np.unique(y)) == {dtype(0), dtype(1 / 0.75)}
    for axis in alike:
        assert (y == y.take([0], axis)).all()
    assert 0.1 < (y == 0).mean() < 0.4
    y_before = y.copy()
    y[...] = 7
    assert_same_bits(backward(x), y_before)
    assert_same_bits(twin.forward(x)[0], y_before)  # the same seed
    assert (layer.forward(x)[0] != y_before).any()  # a new mask each time
    for p, wanted in ((0, x), (1.0, 0 * x)):
        y, backward = kind(p, **options).forward(x)
        assert_same_bits((y, backward(x)), (wanted, wanted))


def test_dropout_like_torch_on_average(rng: np.random.Generator) -> None:
    """In a model whose layers follow, training and prediction agree on average."""
    x = rng.standard_normal((1, 64)).astype(np.float32)
    model = fr.Sequential(fr.Dropout(0.5, rng=1), fr.Linear(64, 1, rng=2))
    mean = np.mean([model.forward(x)[0] for _ in range(3000)])
    spread = np.sqrt(((x * model[1].weight) ** 2).sum() / 3000)
    assert abs(mean - model(x).item()) < 4 * spread


def test_dropout_pickles_with_its_generator() -> None:
    layer = fr.Dropout(0.5, rng=3)
    layer.forward(np.ones(10))
    double = pickle.loads(pickle.dumps(layer))
    assert_same_bits(double.forward(np.ones(100))[0], layer.forward(np.ones(100))[0])
    assert repr(layer) == "Dropout(p=0.5)"


@pytest.mark.parametrize(
    ("layer", "shape", "wanted"),
    [
        (fr.Flatten(), (2, 3, 4, 5), (2, 60)),
        (fr.Flatten(), (2, 3), (2, 3)),
        (fr.Flatten(), (0, 3, 4), (0, 12)),
        (fr.Flatten(0), (2, 3, 4), (24,)),
        (fr.Flatten(0), (), (1,)),
        (fr.Flatten(-3, -2), (2, 3, 4, 5), (2, 12, 5)),
        (fr.Unflatten(1, (2, 3)), (4, 6), (4, 2, 3)),
        (fr.Unflatten(-1, [-1, 3]), (4, 6), (4, 2, 3)),
        (fr.Reshape(), (2, 1), (2,)),
        (fr.Reshape(-1, 2), (0, 6), (0, 3, 2)),
        (fr.Reshape(3, 2), (4, 6), (4, 3, 2)),
        (fr.Permute(2, 0, 1), (2, 3, 4), (4, 2, 3)),
        (fr.Permute(-1, 0, -2), (2, 3, 4), (4, 2, 3)),
        (fr.Transpose(0, -1), (2, 3, 4), (4, 3, 2)),
        (fr.Transpose(1, 1), (2, 3, 4), (2, 3, 4)),
    ],
    ids=str,
)
def test_shapes(layer: Any, shape: tuple[int, ...], wanted: tuple[int, ...], rng: np.random.Generator) -> None:
    x = np.asarray(rng.standard_normal(shape))
    y, backward = layer.forward(x)
    assert layer(x).shape == y.shape == wanted
    assert_same_bits(backward(y), x)
    with pytest.raises(DTypeError, match=rf"^{type(layer).__name__}: 'x' must "):
        layer(x.astype(int))


def test_permute_joins_convolution_and_recurrence(rng: np.random.Generator) -> None:
    model = fr.Sequential(
        fr.Conv1d(3, 5, 3, padding=1, dtype=np.float64, rng=rng),
        fr.ReLU(),
        fr.Permute(2, 0, 1),
        fr.GRU(5, 4, dtype=np.float64, rng=rng),
        fr.Transpose(0, 1),
        fr.Flatten(),
        fr.Linear(4 * 6, 2, dtype=np.float64, rng=rng),
        fr.LogSoftmax(),
    )
    x = rng.standard_normal((2, 3, 6))
    y, backward = model.forward(x)
    assert y.shape == (2, 2)
    np.testing.assert_allclose(np.exp(y).sum(axis=1), 1)
    assert backward(np.ones_like(y)).shape == x.shape
