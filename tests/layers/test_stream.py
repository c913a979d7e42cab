"""Streams: a recurrent layer step by step equals the layer over the whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array
from tolerances import assert_close

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

LAYERS: dict[str, Any] = {
    "rnn": lambda **options: fr.RNN(3, 4, **options),
    "rnn_relu": lambda **options: fr.RNN(3, 4, nonlinearity="relu", **options),
    "lstm": lambda **options: fr.LSTM(3, 4, **options),
    "lstm_projected": lambda **options: fr.LSTM(3, 4, proj_size=2, **options),
    "gru": lambda **options: fr.GRU(3, 4, **options),
    "gru_reset_before": lambda **options: fr.GRU(3, 4, reset_after=False, **options),
    "gru_one_bias": lambda **options: fr.GRU(3, 4, bias_hh=False, **options),
}
kind = pytest.mark.parametrize("kind", LAYERS)


def build(kind: str, **options: Any) -> Any:
    """Return a layer with random biases."""
    return LAYERS[kind](rng=0, bias_init="uniform", **options)


def parts(state: Any) -> tuple[Any, ...]:
    """Return a state as a tuple."""
    return state if isinstance(state, tuple) else (state,)


def operation(layer: Any) -> str:
    return f"{type(layer).__name__.lower()}_forward"


def steps(stream: Any, x: Any) -> Array:
    """Return the outputs of all steps."""
    return np.array([stream.step(x_t).copy() for x_t in x])


@kind
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_the_whole_sequence(
    kind: str, num_layers: int, batch_size: int, rng: np.random.Generator, dtype: Any
) -> None:
    layer = build(kind, num_layers=num_layers, dtype=dtype)
    x = rng.standard_normal((6, batch_size, 3)).astype(dtype)
    y, state = layer(x)
    stream = layer.stream(batch_size)
    assert_close(operation(layer), steps(stream, x), y)
    assert_close(operation(layer), parts(stream.state), parts(state))
    stream.reset()
    assert_close(operation(layer), steps(stream, x), y)


@kind
def test_vectors_for_a_batch_of_one(kind: str, rng: np.random.Generator) -> None:
    layer = build(kind, num_layers=2)
    x = rng.standard_normal((6, 3)).astype(np.float32)
    y, state = layer(x)
    stream = layer.stream()
    assert stream.batch_size == 1
    outputs = steps(stream, x)
    assert outputs.shape == y.shape
    assert_close(operation(layer), outputs, y)
    assert_close(operation(layer), [part[:, 0] for part in parts(stream.state)], list(parts(state)))
    stream.reset()
    assert_close("exact", steps(stream, x.tolist()), outputs)
    stream.reset()
    assert_close("exact", steps(stream, x[:, None])[:, 0], outputs)


@kind
def test_reset_to_a_state(kind: str, rng: np.random.Generator) -> None:
    layer = build(kind, num_layers=2, batch_first=True)
    x = rng.standard_normal((6, 3)).astype(np.float32)
    y, state = layer(x)
    _, middle = layer(x[:4])
    stream = layer.stream()
    stream.reset(middle)
    assert_close(operation(layer), steps(stream, x[4:]), y[4:])
    batched = tuple(part[:, None] for part in parts(middle))
    stream.reset(batched if len(batched) == 2 else batched[0])
    assert_close(operation(layer), steps(stream, x[4:]), y[4:])
    assert_close(operation(layer), [part[:, 0] for part in parts(stream.state)], list(parts(state)))


@kind
def test_the_state_is_a_copy(kind: str, rng: np.random.Generator) -> None:
    layer = build(kind)
    x = rng.standard_normal((2, 2, 3)).astype(np.float32)
    stream = layer.stream(2)
    stream.step(x[0])
    for part in parts(stream.state):
        part[...] = 9
    given = tuple(part.copy() for part in parts(stream.state))
    stream.reset(given if len(given) == 2 else given[0])
    before = [part.copy() for part in given]
    stream.step(x[1])
    assert_close("exact", list(given), before)


@kind
def test_weights_are_those_of_the_start(kind: str, rng: np.random.Generator) -> None:
    layer = build(kind)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    stream = layer.stream()
    expected = steps(stream, x)
    layer.weight_ih_l0 = 2 * layer.weight_ih_l0
    stream.reset()
    assert_close("exact", steps(stream, x), expected)
    assert not np.allclose(steps(layer.stream(), x), expected)


def test_streams_are_independent(rng: np.random.Generator) -> None:
    layer = build("lstm")
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    left, right = layer.stream(), layer.stream()
    outputs = np.array([[left.step(a).copy(), right.step(b).copy()] for a, b in zip(*x, strict=True)])
    assert_close("lstm_forward", outputs, layer(x.swapaxes(0, 1))[0])


def test_bad_streams() -> None:
    with pytest.raises(ArgumentError, match=r"LSTM: stream\(\) must have bidirectional=False"):
        fr.LSTM(3, 4, bidirectional=True).stream()
    for size in (0, -1, 1.5, True):
        with pytest.raises(ArgumentError, match="GRU: 'batch_size' must be a positive int, got"):
            fr.GRU(3, 4).stream(size)  # type: ignore[arg-type]


def test_bad_states_leave_the_stream_alone(rng: np.random.Generator) -> None:
    layer = build("gru")
    x = rng.standard_normal((2, 2, 3)).astype(np.float32)
    stream = layer.stream(2)
    stream.step(x[0])
    before = stream.state
    with pytest.raises(
        ShapeError, match=r"GRU: 'state' must have shape \(D\*num_layers=1, N=2, H=4\), got \(1, 3, 4\)"
    ):
        stream.reset(np.zeros((1, 3, 4), np.float32))
    with pytest.raises(DTypeError, match="GRU: 'state' must have dtype float32, got float64"):
        stream.reset(np.zeros((1, 2, 4)))
    with pytest.raises(ArgumentError, match="LSTM: 'state' must be a pair"):
        build("lstm").stream().reset(np.zeros((1, 4), np.float32))
    assert_close("exact", stream.state, before)
