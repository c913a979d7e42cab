"""A stream gives, step by step, the bits of the whole-sequence operations."""

from __future__ import annotations

import gc
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Array, RecurrentProblem, layouts, random_arrays
from shapes import GRU, GRU_RESET_BEFORE, LSTM, LSTM_PROJECTED, RNN_TANH, VARIANTS, RecurrentSizes, Variant
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

T, C, H = 5, 5, 11
Weights = list[dict[str, Array]]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def random_weights(rng: np.random.Generator, variant: Variant, layers: int, dtype: Any, hidden: int = H) -> Weights:
    """Return the parameters of a stack, each layer as wide as the next one reads."""
    inputs = [C] + [variant.outputs(hidden)] * (layers - 1)
    return [random_arrays(rng, variant.param_shapes(width, hidden), dtype, 1 / np.sqrt(hidden)) for width in inputs]


def stream_of(variant: Variant, weights: Any, batch: int) -> Any:
    return getattr(ops, f"{variant.cell}_stream")(weights, batch, **variant.options)


def run_layers(module: Any, variant: Variant, weights: Weights, x: Array, states: Any = None) -> tuple[Array, Any]:
    """Return y of the last layer and the last states of all, from whole-sequence calls; `states` as a stream has them."""
    forward, pair, last = getattr(module, f"{variant.cell}_forward"), variant.cell == "lstm", []
    for index, params in enumerate(weights):
        state = None if states is None else (states[0][index], states[1][index]) if pair else states[index]
        x, state = forward(x, params, state, **variant.options)
        last.append(state)
    return x, tuple(np.stack(part) for part in zip(*last, strict=True)) if pair else np.stack(last)


def steps(stream: Any, x: Array) -> Array:
    return np.stack([stream.step(one).copy() for one in x])


def random_state(rng: np.random.Generator, variant: Variant, layers: int, batch: int, dtype: Any) -> Any:
    parts = [rng.standard_normal((layers, *shape)).astype(dtype) for shape in variant.state_shapes(batch, H)]
    return tuple(parts) if variant.cell == "lstm" else parts[0]


@each_variant
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_equals_the_whole_sequence(
    variant: Variant, layers: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    weights = random_weights(rng, variant, layers, dtype)
    exact = [{name: value.astype(np.float64) for name, value in params.items()} for params in weights]
    for batch in (1, 2, 3):
        x = rng.standard_normal((T, batch, C)).astype(dtype)
        stream = stream_of(variant, weights, batch)
        y, last = run_layers(ops, variant, weights, x)
        assert_same_bits(steps(stream, x), y)
        assert_same_bits(stream.state, last)
        wanted, _ = run_layers(reference, variant, exact, x.astype(np.float64))
        assert_close(f"{variant.cell}_vjp", y, wanted)  # the errors of up to three layers add up
        stream.reset()
        assert_same_bits(steps(stream, x), y)
        states = random_state(rng, variant, layers, batch, dtype)
        stream.reset(states)
        assert_same_bits(stream.state, states)
        assert_same_bits(steps(stream, x), run_layers(ops, variant, weights, x, states)[0])


@each_variant
def test_teams_give_the_same_bits(variant: Variant, isa: str, threads: int, rng: np.random.Generator) -> None:
    weights = random_weights(rng, variant, 2, np.float32, hidden=290)
    x = rng.standard_normal((3, 4, C)).astype(np.float32)
    y = steps(stream_of(variant, weights, 4), x)
    ops.set_num_threads(1)
    assert_same_bits(y, run_layers(ops, variant, weights, x)[0])


@each_variant
def test_a_sequence_goes_on_where_another_stream_stopped(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    weights, x = random_weights(rng, variant, 2, np.float32), rng.standard_normal((T, 2, C)).astype(np.float32)
    whole, first, second = (stream_of(variant, weights, 2) for _ in range(3))
    y = steps(whole, x)
    assert_same_bits(steps(first, x[:2]), y[:2])
    second.reset(first.state)
    assert_same_bits(steps(second, x[2:]), y[2:])


@each_variant
def test_packed_weights(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    """Accepted packed either way, alive as long as the stream, and a snapshot: what happens later does not matter."""
    weights, x = random_weights(rng, variant, 2, np.float32), rng.standard_normal((T, 1, C)).astype(np.float32)
    y = steps(stream_of(variant, weights, 1), x)
    pack = getattr(ops, f"pack_{variant.cell}")
    packed = [pack(weights[0], **variant.options), pack(weights[1], **variant.options, backward=False)]
    streams = [stream_of(variant, packed, 1), stream_of(variant, weights, 1)]
    for params in weights:
        for value in params.values():
            value[...] = np.nan
    del packed
    for stream in streams:
        assert_same_bits(steps(stream, x), y)


def test_a_change_of_the_isa_does_not_disturb_a_stream(isa: str, rng: np.random.Generator) -> None:
    weights, x = random_weights(rng, GRU, 2, np.float32), rng.standard_normal((T, 2, C)).astype(np.float32)
    y = steps(stream_of(GRU, weights, 2), x)
    for other in ops.available_isas():
        ops.set_isa(isa)
        stream = stream_of(GRU, weights, 2)
        first = steps(stream, x[:2])
        ops.set_isa(other)
        assert_same_bits(np.concatenate([first, steps(stream, x[2:])]), y)


@each_variant
def test_the_returned_view(variant: Variant, isa: str, rng: np.random.Generator) -> None:
    stream = stream_of(variant, random_weights(rng, variant, 2, np.float32), 2)
    other = stream_of(variant, random_weights(rng, variant, 1, np.float32), 2)
    x = rng.standard_normal((2, C)).astype(np.float32)
    h = stream.step(x)
    assert h.shape == (2, variant.outputs(H))
    assert not h.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        h[0] = 0
    kept, state = h.copy(), stream.state
    other.step(x)
    (state[0] if variant.cell == "lstm" else state)[...] = np.nan  # a copy
    stream.state  # noqa: B018
    with pytest.raises(ShapeError):
        stream.step(x[:, :-1])
    assert_same_bits(h, kept)
    final = stream.state[0] if variant.cell == "lstm" else stream.state
    assert_same_bits(final[-1], kept)
    del stream
    assert_same_bits(h, kept)


def test_its_own_output_is_good_input(isa: str, rng: np.random.Generator) -> None:
    """Generation feeds h back."""
    weights = [random_arrays(rng, LSTM.param_shapes(H, H), np.float32, 0.5) for _ in range(2)]
    fed_back, copied = stream_of(LSTM, weights, 2), stream_of(LSTM, weights, 2)
    h = g = rng.standard_normal((2, H)).astype(np.float32)
    for _ in range(6):
        h, g = fed_back.step(h), copied.step(g).copy()
        assert_same_bits(h, g)


def test_any_memory_layout(isa: str, dtype: type, rng: np.random.Generator) -> None:
    weights, x = random_weights(rng, GRU, 1, dtype), rng.standard_normal((2, C)).astype(dtype)
    stream = stream_of(GRU, weights, 2)
    h = stream.step(x).copy()
    for name, array in layouts(x).items():
        stream.reset()
        assert_same_bits(stream.step(array), h, f" with x {name}")
    stream.reset()
    assert_same_bits(stream.step(x.tolist()), h)


BAD_STEPS = [
    (np.zeros((2, C + 1)), ShapeError, r"'x' must have shape \(N=2, C=5\), got \(2, 6\)"),
    (np.zeros((3, C)), ShapeError, r"'x' must have shape \(N=2, C=5\), got \(3, 5\)"),
    (np.zeros(C), ShapeError, r"'x' must have shape \(N=2, C=5\), got \(5,\)"),
    (np.zeros((1, 2, C)), ShapeError, r"'x' must have shape \(N=2, C=5\), got \(1, 2, 5\)"),
    (np.zeros((2, C), np.float32), DTypeError, "'x' must have dtype float64, got float32"),
    (np.zeros((2, C), int), DTypeError, "'x' must have dtype float64, got int64"),
    (np.zeros((2, C), complex), DTypeError, "'x' must have dtype float64, got complex128"),
    (np.zeros((2, C), object), DTypeError, "'x' must have dtype float64, got ndarray"),
    ("text", DTypeError, "'x' must have dtype float64, got "),
]


@each_variant
def test_a_bad_step_changes_nothing(variant: Variant, rng: np.random.Generator) -> None:
    stream = stream_of(variant, random_weights(rng, variant, 2, np.float64), 2)
    x = rng.standard_normal((2, C))
    stream.step(x)
    state = stream.state
    for bad, error, message in BAD_STEPS:
        with pytest.raises(error, match=f"^{variant.cell}_stream: {message}"):
            stream.step(bad)
        assert_same_bits(stream.state, state)
    with pytest.raises(TypeError):
        stream.step(None)
    h = stream.step(x).copy()
    stream.reset(state)
    assert_same_bits(stream.step(x), h)


@each_variant
def test_a_bad_reset_changes_nothing(variant: Variant, rng: np.random.Generator) -> None:
    stream = stream_of(variant, random_weights(rng, variant, 2, np.float64), 3)
    stream.step(rng.standard_normal((3, C)))
    state = stream.state
    h = state[0] if variant.cell == "lstm" else state
    wrong = [(h[:1], ShapeError), (h[..., :-1], ShapeError), (h.astype(np.float32), DTypeError), (h[0], ShapeError)]
    for bad, error in wrong:
        with pytest.raises(error, match=f"^{variant.cell}_stream: 'h' must .*, got "):
            stream.reset((bad, state[1]) if variant.cell == "lstm" else bad)
        assert_same_bits(stream.state, state)
    if variant.cell == "lstm":
        for bad in ((state[0], state[1][..., :-1]), (state[0], None)):
            with pytest.raises((ShapeError, DTypeError), match="^lstm_stream: 'c' must .*, got "):
                stream.reset(bad)
        for bad in (5, (state[0],), (*state, state[0])):
            with pytest.raises((ShapeError, DTypeError), match="^lstm_stream: 'state' must .*, got "):
                stream.reset(bad)
        assert_same_bits(stream.state, state)


def test_bad_construction(rng: np.random.Generator) -> None:
    lstm, gru = random_weights(rng, LSTM, 2, np.float64), random_weights(rng, GRU, 2, np.float64)
    for batch in (0, -1, 1.5, True, "2", None):
        with pytest.raises(ArgumentError, match=f"lstm_stream: 'batch_size' must be a positive int, got {batch!r}"):
            ops.lstm_stream(lstm, batch)
    with pytest.raises(ArgumentError, match="gru_stream: 'layers' must have at least one layer, got none"):
        ops.gru_stream([], 1)
    with pytest.raises(ShapeError, match="gru_stream: .* must read .* got "):
        ops.gru_stream([gru[0], gru[0]], 1)
    single = {name: value.astype(np.float32) for name, value in gru[1].items()}
    with pytest.raises((ShapeError, DTypeError), match="gru_stream: .* must .* got "):
        ops.gru_stream([gru[0], single], 1)
    with pytest.raises(ArgumentError, match="lstm_stream: 'params' must be packed for lstm"):
        ops.lstm_stream([ops.pack_gru(gru[0])], 1)
    with pytest.raises(ArgumentError, match="gru_stream: 'params' must be packed for gru"):
        ops.gru_stream([ops.pack_gru(gru[0])], 1, reset_after=False)
    with pytest.raises(ArgumentError, match="rnn_stream: 'nonlinearity' must be one of 'tanh', 'relu', got 'cos'"):
        ops.rnn_stream(gru, 1, "cos")


@pytest.mark.parametrize("variant", [RNN_TANH, LSTM_PROJECTED, GRU_RESET_BEFORE], ids=str)
def test_ten_thousand_steps_need_no_memory(variant: Variant, rng: np.random.Generator) -> None:
    stream = stream_of(variant, random_weights(rng, variant, 2, np.float32), 1)
    x = rng.standard_normal((1, C)).astype(np.float32)
    for _ in range(100):
        stream.step(x)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            stream.step(x)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1000
    assert np.isfinite(stream.step(x)).all()


def test_streams_in_many_threads(isa: str, rng: np.random.Generator) -> None:
    """Streams over the same packed weights share nothing that changes."""
    problem = RecurrentProblem.random(rng, LSTM, RecurrentSizes(20, 1, C, H), dtype=np.float32)
    packed = ops.pack_lstm(problem.params)
    wanted = replace(problem, state=tuple(np.zeros_like(part) for part in problem.state)).forward(ops)[0]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: steps(ops.lstm_stream([packed], 1), problem.x), range(32)))
    for y in results:
        assert_same_bits(y, wanted)
