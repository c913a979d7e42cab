"""Containers: what each computes, and what it says of layers that do not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array
from numpy.testing import assert_allclose, assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

T, N, C = 5, 3, 4
LENGTHS = np.array([3, 5, 1])
MERGES = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
    "concat": lambda a, b: np.concatenate([a, b], -1),
}


def linear(K: int = C, **options: Any) -> fr.Linear:
    return fr.Linear(C, K, dtype=np.float64, **options)


# Sequential


@pytest.mark.parametrize("lengths", [None, [5, 3]], ids=["full", "lengths"])
def test_the_gradient_of_the_data_can_be_left_out(lengths: Any, rng: np.random.Generator) -> None:
    conv = fr.Conv1d(C, 2, 3, padding=1, dtype=np.float64)
    for model in (fr.Sequential(conv), fr.Sequential(fr.Sequential(conv, fr.ReLU())), fr.Sequential(fr.ReLU(), conv)):
        x = rng.standard_normal((2, C, 5))
        model.zero_grad()
        y, backward = model.forward(x, lengths=lengths)
        dy = rng.standard_normal(y.shape)
        assert backward(dy).shape == x.shape
        grads = {name: parameter.grad.copy() for name, parameter in model.parameters().items()}
        model.zero_grad()
        y_alone, backward = model.forward(x, lengths=lengths, input_gradient=False)
        assert backward(dy) is None
        assert_array_equal(y_alone, y)
        for name, parameter in model.parameters().items():
            assert_array_equal(parameter.grad, grads[name])
        with pytest.raises(RuntimeError, match="called"):
            backward(dy)


# Residual


def test_residual_is_a_sum(rng: np.random.Generator) -> None:
    body, around, x = linear(2), linear(2), rng.standard_normal((N, C))
    assert_array_equal(fr.Residual(body, shortcut=around)(x), body(x) + around(x))
    square = fr.Linear(C, C, dtype=np.float64)
    assert_array_equal(fr.Residual(square)(x), square(x) + x)
    assert_array_equal(fr.Residual(square, activation="relu")(x), np.maximum(square(x) + x, 0))
    assert_allclose(fr.Residual(square, activation="tanh")(x), np.tanh(square(x) + x), rtol=1e-14)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("size", [1, 5, 2047, 2049, 300_001])
def test_a_sum_of_any_size_with_its_activation(
    activation: str, size: int, isa: str, threads: int, dtype: Any, rng: np.random.Generator
) -> None:
    """The sum is made by pieces, in each of which the activation follows; a member of a team has its own."""
    x = rng.standard_normal((1, size)).astype(dtype)
    block = fr.Residual(fr.LeakyReLU(), activation=activation)
    summed = fr.LeakyReLU()(x) + x
    y, backward = block.forward(x)
    assert_array_equal(y, fr.ops.activation_forward(summed, activation))
    assert_array_equal(block(x), y)
    dy = rng.standard_normal(y.shape).astype(dtype)
    inner = fr.ops.activation_vjp(summed, activation)[1](dy)
    assert_array_equal(backward(dy), fr.ops.activation_vjp(x, "leaky_relu")[1](inner) + inner)


def test_branches_in_any_layout(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 6, 5))
    turned = x.transpose(0, 2, 1)
    y, backward = fr.Residual(fr.Softsign(), activation="relu").forward(turned)
    assert_array_equal(y, np.maximum(fr.Softsign()(turned) + turned, 0))
    assert backward(np.ones((4, 6, 5)).transpose(0, 2, 1)).shape == turned.shape


def test_residual_names_and_repr() -> None:
    block = fr.Residual(linear(2), shortcut=linear(2, bias=False), activation="relu")
    assert list(block.parameters()) == ["body.0.weight", "body.0.bias", "shortcut.weight"]
    assert repr(block).splitlines()[-2:] == ["  activation='relu'", ")"]


def test_nan_passes_a_residual(rng: np.random.Generator) -> None:
    block, x = fr.Residual(linear(), activation="relu"), rng.standard_normal((N, C))
    clean = block(x)
    x[1] = np.nan
    y, backward = block.forward(x)
    assert np.isnan(y[1]).all()
    assert_array_equal(y[[0, 2]], clean[[0, 2]])
    assert not np.isnan(backward(np.ones_like(y))).any()


def test_bad_residuals(rng: np.random.Generator) -> None:
    x = rng.standard_normal((N, C))
    for call in (fr.Residual(linear(2)), fr.Residual(linear(2)).forward):
        with pytest.raises(ShapeError, match=r"Residual: results must have shapes that fit together, got \(3, 2\) and"):
            call(x)
    with pytest.raises(ArgumentError, match="Residual: 'body' must be at least one layer, got none"):
        fr.Residual()
    with pytest.raises(ArgumentError, match="Residual: 'shortcut' must be a Layer or None, got str"):
        fr.Residual(linear(), shortcut="identity")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="Residual: 'activation' must be one of"):
        fr.Residual(linear(), activation="gelu")
    with pytest.raises(ArgumentError, match="Residual: 'lengths' must be None, as no layer takes it"):
        fr.Residual(linear())(x, lengths=[1])
    with pytest.raises(LengthsError, match="Residual: branches must map 'lengths' alike"):
        fr.Residual(fr.Conv1d(C, C, 3), shortcut=fr.Conv1d(C, C, 1))(np.zeros((1, C, 5), "f4"), lengths=[4])
    with pytest.raises(DTypeError, match="Residual: 'x' must have dtype float64 as the body's result, got int64"):
        fr.Residual(fr.Embedding(5, 2, dtype=np.float64))(np.zeros((2, 2), int))


# Parallel


@pytest.mark.parametrize("merge", MERGES)
def test_parallel_merges(merge: str, rng: np.random.Generator) -> None:
    one, two, x = linear(), linear(), rng.standard_normal((T, N, C))
    assert_array_equal(fr.Parallel(one, two, merge=merge)(x), MERGES[merge](one(x), two(x)))
    assert_array_equal(fr.Parallel(one, merge=merge)(x), one(x))


def test_parallel_stacks_maps(rng: np.random.Generator) -> None:
    one, two = fr.Conv2d(C, 2, 1), fr.Conv2d(C, 3, 3, padding=1)
    x = rng.standard_normal((N, C, 5, 6)).astype(np.float32)
    model = fr.Parallel(one, two, axis=1)
    assert_array_equal(model(x), np.concatenate([one(x), two(x)], 1))
    assert (len(model), model[1], list(model)) == (2, two, [one, two])
    assert repr(model).splitlines()[-2] == "  merge='concat', axis=1"


def test_a_zero_factor_has_a_gradient(rng: np.random.Generator) -> None:
    """The product of the others, not y / 0."""
    gates = [fr.Linear(1, 1, dtype=np.float64) for _ in range(3)]
    for gate, value in zip(gates, (0.0, 2.0, 3.0), strict=True):
        gate.weight = np.full((1, 1), value)
    y, backward = fr.Parallel(*gates, merge="mul").forward(np.ones((1, 1)))
    backward(np.ones((1, 1)))
    assert y == 0
    assert [gate.parameters()["weight"].grad.item() for gate in gates] == [6, 0, 0]


def test_bad_parallels(rng: np.random.Generator) -> None:
    x = rng.standard_normal((N, C))
    for bad in (fr.Parallel(linear(2), linear(3), merge="sum"), fr.Parallel(linear(2), linear(3), axis=0)):
        for call in (bad, bad.forward):
            with pytest.raises(ShapeError, match=r"Parallel: results must have shapes that fit together, got \(3, 2\)"):
                call(x)
    with pytest.raises(ShapeError, match=r"Parallel: 'axis' must be one of the axes of \(3, 2\), got 2"):
        fr.Parallel(linear(2), linear(2), axis=2)(x)
    with pytest.raises(ArgumentError, match=r"Parallel: 'branches\[1\]' must be a Layer, got NoneType"):
        fr.Parallel(linear(), None)  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match="Parallel: 'merge' must be one of 'concat', 'sum', 'mean', 'mul', got 'max'"
    ):
        fr.Parallel(linear(), merge="max")
    with pytest.raises(LengthsError, match=r"Parallel: branches must map 'lengths' alike, got \[2\] and \[3\]"):
        fr.Parallel(fr.Conv1d(C, 2, 3), fr.Conv1d(C, 2, 2))(np.zeros((1, C, 5), "f4"), lengths=[4])


# TimeDistributed


def test_each_frame_is_as_alone(rng: np.random.Generator) -> None:
    conv = fr.Conv2d(2, 3, 3, dtype=np.float64)
    x = rng.standard_normal((T, N, 2, 4, 5))
    y = fr.TimeDistributed(conv)(x)
    assert y.shape == (T, N, 3, 2, 3)
    for t in range(T):
        assert_allclose(y[t], conv(x[t]), rtol=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
def test_padded_frames_are_skipped(batch_first: bool, rng: np.random.Generator) -> None:
    class Counter(fr.Linear):
        """Remembers what it saw."""

        def forward(self, x: Any) -> Any:
            self.seen = x.shape
            return super().forward(x)

    inner = Counter(C, 2, dtype=np.float64)
    layer = fr.TimeDistributed(inner, batch_first)
    x = rng.standard_normal((T, N, C))
    valid = np.arange(T)[:, None] < LENGTHS
    x[~valid] = np.nan
    y, backward = layer.forward(x.swapaxes(0, 1) if batch_first else x, lengths=LENGTHS)
    dx = backward(np.ones_like(y))
    if batch_first:
        y, dx = y.swapaxes(0, 1), dx.swapaxes(0, 1)
    assert inner.seen == (LENGTHS.sum(), C)
    assert_allclose(y[valid], inner(x[valid]), rtol=1e-12)
    assert not y[~valid].any() and not dx[~valid].any() and dx[valid].all()
    assert not np.isnan(inner.parameters()["weight"].grad).any()


def test_time_distributed_takes_lists_of_its_dtype() -> None:
    layer = fr.TimeDistributed(fr.Linear(1, 1))
    assert layer([[[1.0]]]).dtype == np.float32


def test_bad_time_distributed() -> None:
    with pytest.raises(ArgumentError, match="TimeDistributed: 'layer' must be a Layer, got list"):
        fr.TimeDistributed([linear()])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"TimeDistributed: 'x' must have shape \(N, T, ...\), got \(4,\)"):
        fr.TimeDistributed(linear(), batch_first=True)(np.zeros(C))
    assert fr.TimeDistributed(linear())(np.zeros((0, N, C))).shape == (0, N, C)


# Bidirectional


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("kind", [fr.RNN, fr.LSTM, fr.GRU])
def test_bidirectional_equals_the_built_in_one(kind: Any, lengths: Any, rng: np.random.Generator) -> None:
    built_in = kind(C, 2, bidirectional=True, dtype=np.float64)
    forth, back = (kind(C, 2, dtype=np.float64) for _ in range(2))
    for layer, suffix in ((forth, ""), (back, "_reverse")):
        layer.load_state_dict({name: built_in.state_dict()[name + suffix] for name in layer.parameters()})
    model = fr.Bidirectional(forth, back)
    x = rng.standard_normal((T, N, C))
    (y, state), backward = model.forward(x, lengths=lengths)
    (y_built_in, state_built_in), backward_built_in = built_in.forward(x, lengths=lengths)
    assert_array_equal(y, y_built_in)
    dy = rng.standard_normal(y.shape)
    parts = [part if kind is fr.LSTM else (part,) for part in state]
    stacked = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    for one, two in zip(stacked, state_built_in if kind is fr.LSTM else (state_built_in,), strict=True):
        assert_array_equal(one, two)
    d_state: Any = [tuple(rng.standard_normal(part.shape) for part in side) for side in parts]
    d_built_in: Any = tuple(np.concatenate(pair) for pair in zip(*d_state, strict=True))
    if kind is not fr.LSTM:
        d_state, d_built_in = [side[0] for side in d_state], d_built_in[0]
    dx, _ = backward(dy, d_state)
    assert_allclose(dx, backward_built_in(dy, d_built_in)[0], rtol=1e-12, atol=1e-14)
    for layer, suffix in ((forth, ""), (back, "_reverse")):
        for name, parameter in layer.parameters().items():
            assert_allclose(parameter.grad, built_in.parameters()[name + suffix].grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_bidirectional_merges(merge: str, batch_first: bool, rng: np.random.Generator) -> None:
    gru = fr.GRU(C, 2, batch_first=batch_first, dtype=np.float64)
    model = fr.Bidirectional(gru, merge=merge)
    x = rng.standard_normal((N, T, C) if batch_first else (T, N, C))
    axis = int(batch_first)
    expected = MERGES[merge](gru(x)[0], np.flip(model.reverse(np.flip(x, axis))[0], axis))
    assert_allclose(model(x)[0], expected, rtol=1e-13, atol=1e-15)


def test_states_go_in_and_out(rng: np.random.Generator) -> None:
    model = fr.Bidirectional(fr.LSTM(C, 2, dtype=np.float64), fr.GRU(C, 2, dtype=np.float64))
    x = rng.standard_normal((T, N, C))
    state: Any = ((rng.standard_normal((1, N, 2)), rng.standard_normal((1, N, 2))), rng.standard_normal((1, N, 2)))
    (y, final), backward = model.forward(x, state)
    assert_array_equal(model(x, state)[0], y)
    assert_array_equal(final[1], model.reverse(x[::-1], state[1])[1])
    _, (first, second) = backward(None, (None, np.ones((1, N, 2))))
    assert not first[0].any() and second.any()
    for bad in ((np.zeros((1, N, 2)),), np.zeros((2, 1, N, 2)), "ab"):
        with pytest.raises((ArgumentError, DTypeError, ShapeError)):
            model(x, bad)


def test_a_bad_gradient_of_a_state_changes_nothing(rng: np.random.Generator) -> None:
    model = fr.Bidirectional(fr.GRU(C, 2, dtype=np.float64))
    (y, _), backward = model.forward(rng.standard_normal((T, N, C)))
    good = np.ones((1, N, 2))
    for bad in ((good, np.ones((1, N, 3))), (good[0], good), (good, good, good), ((good,), (good,))):
        with pytest.raises((ShapeError, ArgumentError, DTypeError)):
            backward(y, bad)
    assert not any(parameter.has_grad for parameter in model.parameters().values())
    backward(y, (good, good))


def test_the_second_direction_has_weights_of_its_own() -> None:
    model = fr.Bidirectional(fr.LSTM(C, 3, 2, bias_hh=False, rng=0))
    assert repr(model.reverse) == repr(model.layer)
    assert model.reverse.weight_ih_l0.any()
    assert not np.array_equal(model.reverse.weight_ih_l0, model.layer.weight_ih_l0)
    again = fr.Bidirectional(fr.LSTM(C, 3, 2, bias_hh=False, rng=0))
    assert_array_equal(again.reverse.weight_hh_l1, model.reverse.weight_hh_l1)
    shared = fr.Bidirectional(model.layer, model.layer)
    assert list(shared.parameters()) == [f"layer.{name}" for name in model.layer.parameters()]


def test_past_a_length_nothing_matters(rng: np.random.Generator) -> None:
    model = fr.Bidirectional(fr.RNN(C, 2, dtype=np.float64), merge="sum")
    x: Array = rng.standard_normal((T, N, C))
    y, _ = model(x, lengths=LENGTHS)
    x[np.arange(T)[:, None] >= LENGTHS] = np.nan
    assert_array_equal(model(x, lengths=LENGTHS)[0], y)
    for n, length in enumerate(LENGTHS):
        assert_array_equal(y[:length, n], model(x[:length, n])[0])
        assert not y[length:, n].any()


def test_bad_bidirectionals() -> None:
    with pytest.raises(
        ArgumentError, match="Bidirectional: 'layer' must be a recurrent layer of one direction, got Lin"
    ):
        fr.Bidirectional(linear(), linear())
    with pytest.raises(
        ArgumentError, match="Bidirectional: 'layer' must be a recurrent layer of one direction, got GRU"
    ):
        fr.Bidirectional(fr.GRU(C, 2, bidirectional=True))
    with pytest.raises(ArgumentError, match="Bidirectional: 'reverse' must be given unless 'layer' is an RNN, LSTM or"):
        fr.Bidirectional(fr.Sequential(fr.GRU(C, 2)))
    with pytest.raises(ArgumentError, match="Bidirectional: 'reverse' must return a state if 'layer' does"):
        fr.Bidirectional(fr.GRU(C, 2), fr.Sequential(fr.GRU(C, 2)))
    with pytest.raises(ArgumentError, match="Bidirectional: 'reverse' must be a Layer, got str"):
        fr.Bidirectional(fr.GRU(C, 2), "sum")  # type: ignore[arg-type]
    model = fr.Bidirectional(fr.GRU(C, 2))
    with pytest.raises(ShapeError, match=r"Bidirectional: 'x' must have shape \(T, N, C\) or \(T, C\), got \(4,\)"):
        model(np.zeros(C, "f4"))
    with pytest.raises(LengthsError, match="Bidirectional: 'lengths' must be None for an x of shape"):
        model(np.zeros((T, C), "f4"), lengths=[1])
    stack = fr.Bidirectional(fr.Sequential(fr.GRU(C, 2)), fr.Sequential(fr.GRU(C, 2)))
    with pytest.raises(ArgumentError, match="Bidirectional: 'state' must be None, as the layers have none"):
        stack(np.zeros((T, N, C), "f4"), (None, None))


def test_identity_is_a_branch(rng: np.random.Generator) -> None:
    dense = fr.Linear(4, 4, dtype=np.float64, rng=0)
    around = fr.Parallel(dense, fr.Identity(), merge="sum")
    x, dy = rng.standard_normal((2, 3, 4))
    y, backward = around.forward(x)
    assert_allclose(y, dense(x) + x, rtol=1e-15)
    assert_allclose(backward(dy), dy @ dense.weight + dy, rtol=1e-14)
    assert repr(fr.Identity()) == "Identity()"
