"""What is particular to recurrent layers: states, lengths, dropout, initial weights, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

FAMILIES = [fr.RNN, fr.LSTM, fr.GRU]
family = pytest.mark.parametrize("family", FAMILIES)


def parts(state: Any) -> tuple[Any, ...]:
    """Return a state as a tuple."""
    return state if isinstance(state, tuple) else (state,)


# States


@family
def test_carrying_the_state_equals_the_whole_sequence(family: Any, rng: np.random.Generator) -> None:
    layer = family(3, 4, 2, dtype=np.float64, rng=0)
    x = rng.standard_normal((9, 2, 3))
    whole, last = layer(x)
    pieces, state = [], None
    for start in range(0, 9, 4):
        y, state = layer(x[start : start + 4], state)
        pieces.append(y)
    assert_allclose(np.concatenate(pieces), whole, rtol=1e-13)
    assert_allclose(parts(state), parts(last), rtol=1e-13)


@family
def test_backpropagation_through_pieces_equals_the_whole(family: Any, rng: np.random.Generator) -> None:
    """Handing dstate back from piece to piece leaves nothing truncated; dropping it truncates."""
    layer = family(3, 4, 2, dtype=np.float64, rng=0)
    x, dy = rng.standard_normal((9, 2, 3)), rng.standard_normal((9, 2, 4))
    _, backward = layer.forward(x)
    dx, _ = backward(dy)
    grads = {name: p.grad.copy() for name, p in layer.parameters().items()}

    def in_pieces(truncated: bool) -> list[Any]:
        layer.zero_grad()
        state, backwards = None, []
        for start in range(0, 9, 3):
            (_, state), back = layer.forward(x[start : start + 3], state)
            backwards.append(back)
        dstate: Any = None
        dxs: list[Any] = []
        for index in (2, 1, 0):
            dx, dstate = backwards[index](dy[3 * index : 3 * index + 3], None if truncated else dstate)
            dxs.insert(0, dx)
        return dxs

    assert_allclose(np.concatenate(in_pieces(truncated=False)), dx, rtol=1e-11, atol=1e-13)
    for name, parameter in layer.parameters().items():
        assert_allclose(parameter.grad, grads[name], rtol=1e-11, atol=1e-13)
    assert not np.allclose(np.concatenate(in_pieces(truncated=True))[:6], dx[:6])


@family
def test_missing_gradients_are_zeros(family: Any, rng: np.random.Generator) -> None:
    layer = family(3, 4, 2, bidirectional=True, dtype=np.float64, rng=0)
    x = rng.standard_normal((5, 2, 3))
    (y, state), backward = layer.forward(x)
    zeros = [np.zeros_like(part) for part in parts(state)]
    dx, dstate = backward(y, tuple(zeros) if family is fr.LSTM else zeros[0])
    dx_short, dstate_short = layer.forward(x)[1](y)
    assert_array_equal(dx_short, dx)
    assert_array_equal(parts(dstate_short), parts(dstate))
    layer.zero_grad()
    dx, dstate = layer.forward(x)[1]()
    assert not dx.any()
    assert not any(part.any() for part in parts(dstate))
    assert not any(p.grad.any() for p in layer.parameters().values())


def test_half_of_an_lstm_gradient_may_be_missing(rng: np.random.Generator) -> None:
    layer = fr.LSTM(3, 4, dtype=np.float64, rng=0)
    x, dc = rng.standard_normal((5, 2, 3)), rng.standard_normal((1, 2, 4))
    dx, _ = layer.forward(x)[1](None, (None, dc))
    assert_array_equal(layer.forward(x)[1](None, (np.zeros_like(dc), dc))[0], dx)
    assert dx.any()


@family
def test_results_are_new_arrays(family: Any, rng: np.random.Generator) -> None:
    layer = family(3, 4, rng=0)
    x = rng.standard_normal((1, 2, 3)).astype(np.float32)
    y, state = layer(x)
    kept, kept_state = y.copy(), [part.copy() for part in parts(state)]
    y2, state2 = layer(x, state)
    assert_array_equal(y, kept)
    y2[...] = 5
    for part, before in zip(parts(state), kept_state, strict=True):
        assert_array_equal(part, before)
    assert not any(np.shares_memory(y2, part) for part in parts(state2))


# Lengths


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    family=st.sampled_from(FAMILIES),
    batch_first=st.booleans(),
)
def test_a_padded_batch_equals_its_sequences(lengths: list[int], family: Any, batch_first: bool) -> None:
    rng = np.random.default_rng(len(lengths))
    layer = family(3, 4, 2, bidirectional=True, batch_first=batch_first, dtype=np.float64, rng=0)
    T, N = max(lengths) + 1, len(lengths)
    x = rng.standard_normal((N, T, 3) if batch_first else (T, N, 3))
    y, state = layer(x, lengths=np.array(lengths, np.int32))
    for n, length in enumerate(lengths):
        mine, out = (x[n], y[n]) if batch_first else (x[:, n], y[:, n])
        y_alone, state_alone = layer(mine[:length])
        assert_allclose(out[:length], y_alone, rtol=1e-12, atol=1e-15)
        assert not out[length:].any()
        assert_allclose([part[:, n] for part in parts(state)], parts(state_alone), rtol=1e-12, atol=1e-15)


@family
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (3, False), (2, True)])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (1, 3), (1, 1)])
def test_the_short_way_of_small_calls_gives_the_same_bits(
    family: Any, layers: int, bidirectional: bool, batch_first: bool, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    """A call that is given a state goes the long way, cell by cell."""
    layer = family(3, 4, layers, bidirectional=bidirectional, batch_first=batch_first, rng=0)
    T, N = shape
    x = rng.standard_normal((N, T, 3) if batch_first else (T, N, 3)).astype(np.float32)
    zeros = np.zeros((layers * (1 + bidirectional), N, 4), np.float32)
    state = (zeros, zeros) if family is fr.LSTM else zeros
    drawn = rng.integers(1, T + 1, N)
    for lengths in (None, drawn, drawn.astype(np.int16), np.full(N, T), np.full(N, (T + 1) // 2)):
        y, last = layer(x, lengths=lengths)
        y_long, last_long = layer(x, state, lengths=lengths)
        assert y.flags.c_contiguous and y.shape == y_long.shape
        assert_array_equal(y, y_long)
        assert_array_equal(parts(last), parts(last_long))


@family
def test_full_lengths_change_nothing(family: Any, rng: np.random.Generator) -> None:
    layer = family(3, 4, bidirectional=True, dtype=np.float64, rng=0)
    x = rng.standard_normal((5, 3, 3))
    y, state = layer(x)
    for lengths in ([5, 5, 5], np.full(3, 5, np.uint8)):
        y_full, state_full = layer(x, lengths=lengths)
        assert_array_equal(y_full, y)
        assert_array_equal(parts(state_full), parts(state))


@family
def test_padding_is_never_read(family: Any, rng: np.random.Generator) -> None:
    layer = family(3, 4, 2, bidirectional=True, dtype=np.float64, rng=0)
    x, lengths = rng.standard_normal((5, 3, 3)), np.array([2, 5, 3])
    padding = np.arange(5)[:, None] >= lengths
    dy = rng.standard_normal((5, 3, 8))
    (y, _), backward = layer.forward(x, lengths=lengths)
    dx, _ = backward(dy)
    x[padding], dy[padding] = np.nan, np.nan
    (y_nan, _), backward = layer.forward(x, lengths=lengths)
    dx_nan, _ = backward(dy)
    assert_array_equal(y_nan, y)
    assert_array_equal(dx_nan, dx)
    assert not dx[padding].any()


# Dropout


@family
def test_dropout_is_between_layers_and_in_training_only(family: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3, 3))
    plain, dropped = (family(3, 8, 2, dropout=p, dtype=np.float64, rng=0) for p in (0.0, 0.5))
    assert_array_equal(dropped(x)[0], plain(x)[0])
    first, second = (dropped.forward(x)[0][0] for _ in range(2))
    assert not np.array_equal(first, plain(x)[0])
    assert not np.array_equal(first, second)
    single = family(3, 8, dropout=0.5, dtype=np.float64, rng=0)
    assert_array_equal(single.forward(x)[0][0], single(x)[0])


@family
def test_dropout_follows_the_seed(family: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 3, 3)).astype(np.float32)
    left, right = (family(3, 8, 3, dropout=0.5, rng=np.random.default_rng(3)) for _ in range(2))
    for _ in range(2):
        assert_array_equal(left.forward(x)[0][0], right.forward(x)[0][0])


def test_the_pullback_drops_what_forward_dropped(rng: np.random.Generator) -> None:
    """With an identity second layer (ReLU, zero recurrent weights) y shows the mask itself."""
    H = 50
    layer = fr.RNN(1, H, 2, nonlinearity="relu", dropout=0.4, dtype=np.float64, rng=0, recurrent_init="zeros")
    layer.weight_ih_l0 = np.ones((H, 1))
    layer.weight_ih_l1 = np.eye(H)
    x = np.ones((20, 3, 1))
    (y, _), backward = layer.forward(x)
    mask = y / 1.0
    kept = mask != 0
    assert abs(kept.mean() - 0.6) < 0.03  # 3000 draws: standard deviation 0.009
    assert_allclose(mask[kept], 1 / 0.6)
    dx, _ = backward(np.ones_like(y))
    assert_allclose(dx[..., 0], mask.sum(axis=-1))


def test_dropout_of_everything(rng: np.random.Generator) -> None:
    layer = fr.GRU(3, 4, 2, dropout=1, rng=0)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    (y, _), backward = layer.forward(x)
    dx, _ = backward(y)
    assert not dx.any()
    assert np.isfinite(y).all()


# Initial weights and counts


@family
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (5, 7), (20, 3)])
def test_parameters_are_counted_as_in_lectures(family: Any, inputs: int, hidden: int) -> None:
    gates = family.GATES
    layer = family(inputs, hidden, bias_hh=False)
    assert layer.num_parameters() == gates * (inputs * hidden + hidden * hidden + hidden)
    assert family(inputs, hidden).num_parameters() == layer.num_parameters() + gates * hidden
    assert family(inputs, hidden, bias=False).num_parameters() == layer.num_parameters() - gates * hidden


@pytest.mark.parametrize("proj_size", [0, 2])
@family
def test_default_initial_weights(family: Any, proj_size: int) -> None:
    options = {"proj_size": proj_size} if family is fr.LSTM else {}
    layer = family(40, 30, 2, bidirectional=True, dtype=np.float64, rng=0, **options)
    width = layer.proj_size or 30
    for name, parameter in layer.parameters().items():
        blocks = parameter.data.reshape(-1, 30, *parameter.shape[1:]) if "weight_hr" not in name else None
        if "weight_hh" in name:
            assert blocks is not None
            for block in blocks:
                assert_allclose(block.T @ block, np.eye(width), atol=1e-12)
        elif "weight_ih" in name:
            limit = np.sqrt(6 / (30 + parameter.shape[1]))
            assert np.abs(parameter.data).max() < limit
            assert np.abs(parameter.data).max() > 0.98 * limit
        elif "bias_ih" in name and family is fr.LSTM:
            assert_array_equal(parameter.data.reshape(4, 30), np.outer([0, 1, 0, 0], np.ones(30)))
        elif "bias" in name:
            assert not parameter.data.any()


def test_relu_layers_start_as_identity() -> None:
    layer = fr.RNN(3, 4, 2, nonlinearity="relu")
    assert_array_equal(layer.weight_hh_l0, np.eye(4))
    assert_array_equal(layer.weight_hh_l1, np.eye(4))


def test_initial_weights_by_option() -> None:
    lstm = fr.LSTM(3, 4, weight_init="zeros", recurrent_init="identity", forget_bias=2.5, bias_init="zeros")
    assert not lstm.weight_ih_l0.any()
    assert_array_equal(lstm.weight_hh_l0, np.tile(np.eye(4), (4, 1)))
    assert_array_equal(lstm.bias_ih_l0.reshape(4, 4)[1], np.full(4, 2.5))
    assert not lstm.bias_hh_l0.any()
    gru = fr.GRU(3, 4, recurrent_init=lambda shape, *, dtype, rng: np.full(shape, 3, dtype))
    assert (gru.weight_hh_l0 == 3).all()
    for name in ("glorot", "glorot_normal", "he_uniform", "he_normal", "uniform", "orthogonal"):
        assert fr.RNN(3, 4, weight_init=name).weight_ih_l0.any()


@family
def test_torch_initial_weights(family: Any) -> None:
    layer = family(40, 16, weight_init="torch", rng=0)
    for parameter in layer.parameters().values():
        assert 0.2 < np.abs(parameter.data).max() <= 0.25
        assert abs(parameter.data.mean()) < 0.1


@family
def test_seeds(family: Any) -> None:
    same = [family(3, 4, rng=rng).state_dict() for rng in (7, 7, np.random.default_rng(7))]
    for name, array in same[0].items():
        assert_array_equal(array, same[1][name])
        assert_array_equal(array, same[2][name])
    other = family(3, 4, rng=8).state_dict()
    assert not np.array_equal(other["weight_ih_l0"], same[0]["weight_ih_l0"])
    double = family(3, 4, rng=7, dtype=np.float64).state_dict()
    assert_array_equal(double["weight_ih_l0"].astype(np.float32), same[0]["weight_ih_l0"])
    assert not np.array_equal(family(3, 4).weight_ih_l0, family(3, 4).weight_ih_l0)


# Bad input


@family
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4), {}, "'input_size' must be a positive int, got 0"),
        ((3, -1), {}, "'hidden_size' must be a positive int, got -1"),
        ((3, 4.0), {}, "'hidden_size' must be a positive int, got 4.0"),
        ((True, 4), {}, "'input_size' must be a positive int, got True"),
        (("3", 4), {}, "'input_size' must be a positive int, got '3'"),
        ((3, 4, 0), {}, "'num_layers' must be a positive int, got 0"),
        ((3, 4), {"bias": 1}, "'bias' must be True or False, got 1"),
        ((3, 4), {"batch_first": "yes"}, "'batch_first' must be True or False, got 'yes'"),
        ((3, 4), {"dropout": 1.5}, r"'dropout' must be a finite number in \[0, 1\], got 1.5"),
        ((3, 4), {"dropout": -0.1}, r"'dropout' must be a finite number in \[0, 1\], got -0.1"),
        ((3, 4), {"dropout": True}, r"'dropout' must be a finite number in \[0, 1\], got True"),
        ((3, 4), {"dropout": float("nan")}, r"'dropout' must be a finite number in \[0, 1\], got nan"),
        ((3, 4), {"rng": "seed"}, "'rng' must be None, a non-negative int or a numpy.random.Generator, got 'seed'"),
        ((3, 4), {"rng": -1}, "'rng' must be None"),
        ((3, 4), {"weight_init": "glorrot"}, "'weight_init' must be one of 'glorot', .*'torch', got 'glorrot'"),
        ((3, 4), {"recurrent_init": 3}, "'recurrent_init' must be one of"),
    ],
)
def test_bad_options(family: Any, arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{family.__name__}: {message}"):
        family(*arguments, **options)


def test_bad_options_of_one_family() -> None:
    with pytest.raises(ArgumentError, match="RNN: 'nonlinearity' must be one of 'tanh', 'relu', got 'sigmoid'"):
        fr.RNN(3, 4, nonlinearity="sigmoid")
    with pytest.raises(ArgumentError, match="LSTM: 'proj_size' must be below hidden_size=4, got 4"):
        fr.LSTM(3, 4, proj_size=4)
    with pytest.raises(ArgumentError, match="LSTM: 'proj_size' must be a non-negative int, got -1"):
        fr.LSTM(3, 4, proj_size=-1)
    with pytest.raises(ArgumentError, match="LSTM: 'forget_bias' must be a finite number, got inf"):
        fr.LSTM(3, 4, forget_bias=float("inf"))
    with pytest.raises(ArgumentError, match="GRU: 'reset_after' must be True or False, got 0"):
        fr.GRU(3, 4, reset_after=0)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"GRU: 'initial weight_ih' must have shape \(4, 3\), got \(2,\)"):
        fr.GRU(3, 4, weight_init=lambda shape, *, dtype, rng: np.zeros(2, dtype))


@family
@pytest.mark.parametrize("dtype", [np.float16, np.int32, complex, "float", "nonsense", None, ">f8"])
def test_bad_dtype(family: Any, dtype: Any) -> None:
    if dtype == "float":  # NumPy's name for float64
        assert family(3, 4, dtype=dtype).dtype == np.float64
        return
    with pytest.raises(DTypeError, match=f"{family.__name__}: 'dtype' must be float32 or float64, got"):
        family(3, 4, dtype=dtype)


@family
def test_bad_calls(family: Any) -> None:
    name, layer = family.__name__, family(64, 4, 2, bidirectional=True)

    def refuses(error: type[Exception], message: str, *arguments: Any, **options: Any) -> None:
        for call in (layer, layer.forward):
            with pytest.raises(error) as caught:
                call(*arguments, **options)
            assert str(caught.value) == f"{name}: {message}"

    x = np.zeros((10, 3, 64), np.float32)
    refuses(ShapeError, "'x' must have shape (T, N, C=64), got (10, 32, 63)", np.zeros((10, 32, 63), "f4"))
    refuses(ShapeError, "'x' must have shape (T, C=64), got (10, 63)", np.zeros((10, 63), "f4"))
    either = "'x' must have shape (T, N, C=64) or (T, C=64), got"
    refuses(ShapeError, f"{either} (64,)", np.zeros(64, "f4"))
    refuses(ShapeError, f"{either} ()", np.zeros((), "f4"))
    refuses(ShapeError, f"{either} (1, 10, 3, 64)", x[None])
    refuses(DTypeError, "'x' must have dtype float32, got float64", x.astype("f8"))
    refuses(DTypeError, "'x' must have dtype float32, got int64", x.astype(int))
    refuses(DTypeError, "'x' must have dtype float32, got NoneType", None)
    refuses(LengthsError, "'lengths' must be in 1..T=10, got 0", x, lengths=[1, 0, 3])
    refuses(LengthsError, "'lengths' must be in 1..T=10, got 11", x, lengths=np.array([1, 11, 3]))
    refuses(LengthsError, "'lengths' must be in 1..T=10, got -1", x, lengths=[1, -1, 3])
    refuses(ShapeError, "'lengths' must have shape (N=3,), got (2,)", x, lengths=[1, 2])
    refuses(ShapeError, "'lengths' must have shape (N=3,), got ()", x, lengths=4)
    refuses(DTypeError, "'lengths' must have an integer dtype, got float64", x, lengths=[1.5, 2.0, 3.0])
    refuses(DTypeError, "'lengths' must have an integer dtype, got bool", x, lengths=[True, True, True])
    refuses(LengthsError, "'lengths' must be None for an x of shape (T, C), got [3]", x[:, 0], lengths=[3])


@family
def test_bad_states(family: Any) -> None:
    name, layer = family.__name__, family(3, 4, 2, dtype=np.float64)
    pair = family is fr.LSTM
    x = np.zeros((5, 2, 3))
    part = "state[0]" if pair else "state"

    def refuses(error: type[Exception], message: str, first: Any, x: Any = x) -> None:
        h = np.zeros((2, 2, 4))
        with pytest.raises(error) as caught:
            layer(x, (first, h) if pair else first)
        assert str(caught.value) == f"{name}: '{part}' must have {message}"
        (y, _), backward = layer.forward(x)
        with pytest.raises(error) as caught:
            backward(y, (first, None) if pair else first)
        assert str(caught.value) == f"{name}: 'd{part}' must have {message}"

    shape = "shape (D*num_layers=2, N=2, H=4), got"
    refuses(ShapeError, f"{shape} (2, 2, 3)", np.zeros((2, 2, 3)))
    refuses(ShapeError, f"{shape} (1, 2, 4)", np.zeros((1, 2, 4)))
    refuses(ShapeError, f"{shape} (2, 4)", np.zeros((2, 4)))
    refuses(ShapeError, "shape (D*num_layers=2, H=4), got (2, 2, 4)", np.zeros((2, 2, 4)), x[:, 0])
    refuses(DTypeError, "dtype float64, got float32", np.zeros((2, 2, 4), np.float32))


def test_an_lstm_state_is_a_pair() -> None:
    layer, x, h = fr.LSTM(3, 4, proj_size=2), np.zeros((5, 2, 3), "f4"), np.zeros((1, 2, 2), "f4")
    with pytest.raises(ArgumentError, match=r"LSTM: 'state' must be a pair \(h, c\), got ndarray"):
        layer(x, h)
    with pytest.raises(ArgumentError, match=r"LSTM: 'state' must be a pair \(h, c\), got 3 parts"):
        layer(x, (h, h, h))
    with pytest.raises(
        ShapeError, match=r"'state\[1\]' must have shape \(D\*num_layers=1, N=2, H=4\), got \(1, 2, 2\)"
    ):
        layer(x, (h, h))
    with pytest.raises(
        ShapeError, match=r"'state\[0\]' must have shape \(D\*num_layers=1, N=2, P=2\), got \(1, 2, 4\)"
    ):
        layer(x, (np.zeros((1, 2, 4), "f4"),) * 2)
    with pytest.raises(DTypeError, match=r"'state\[1\]' must have dtype float32, got NoneType"):
        layer(x, (h, None))


def test_batch_first_names_its_axes() -> None:
    with pytest.raises(ShapeError, match=r"GRU: 'x' must have shape \(N, T, C=3\), got \(2, 5, 4\)"):
        fr.GRU(3, 4, batch_first=True)(np.zeros((2, 5, 4), "f4"))


def test_subclasses_go_by_their_own_name() -> None:
    class Encoder(fr.GRU):
        """A GRU."""

    with pytest.raises(ArgumentError, match=r"^Encoder: 'input_size'"):
        Encoder(0, 1)


@family
def test_repr(family: Any) -> None:
    assert repr(family(3, 4)) == f"{family.__name__}(3, 4)"
    layer = family(3, 4, 2, bidirectional=True, dropout=0.5, dtype=np.float64)
    assert repr(layer) == f"{family.__name__}(3, 4, num_layers=2, dropout=0.5, bidirectional=True, dtype='float64')"
