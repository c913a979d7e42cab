"""Lengths on their way through layers: each sequence of a batch gives what it gives alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import Array
from numpy.testing import assert_allclose, assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

C, L = 3, 12
LENGTHS = np.array([9, 12, 4, 7])
Build = Callable[..., fr.Layer]

SLIDING: dict[str, Build] = {
    "conv": lambda **c: fr.Conv1d(C, 2, 3, **c),
    "conv padded": lambda **c: fr.Conv1d(C, 2, 4, padding=((3, 1),), **c),
    "conv strided": lambda **c: fr.Conv1d(C, 2, 3, 2, padding=1, **c),
    "conv dilated": lambda **c: fr.Conv1d(C, 2, 2, 3, padding=2, dilation=3, **c),
    "conv same": lambda **c: fr.Conv1d(C, 2, 4, padding="same", dilation=2, **c),
    "conv causal": lambda **c: fr.Conv1d(C, 2, 3, padding="causal", **c),
    "conv reflected, without border": lambda **c: fr.Conv1d(C, 2, 3, padding_mode="reflect", **c),
    "conv last": lambda **c: fr.Conv1d(C, 2, 3, 2, padding=1, layout="NLC", **c),
    "transposed": lambda **c: fr.ConvTranspose1d(C, 2, 3, 2, padding=1, output_padding=1, **c),
    "transposed dilated": lambda **c: fr.ConvTranspose1d(C, 2, 3, dilation=2, **c),
    "max": lambda **_: fr.MaxPool1d(3, 2, 1),
    "max ceil": lambda **_: fr.MaxPool1d(3, 2, ceil_mode=True),
    "max ceil padded": lambda **_: fr.MaxPool1d(2, 3, 1, ceil_mode=True),
    "max dilated": lambda **_: fr.MaxPool1d(2, 2, 1, dilation=2),
    "min": lambda **_: fr.MinPool1d(3, 1, 1, layout="NLC"),
    "average": lambda **_: fr.AvgPool1d(3, 2, 1),
    "norm": lambda **_: fr.LPPool1d(2, 3),
}


def signals(layer: Any, rng: np.random.Generator, dtype: Any = np.float64) -> Array:
    """Return signals in the layer's layout, with NaN past the lengths."""
    x = rng.standard_normal((4, L, C))
    for n, length in enumerate(LENGTHS):
        x[n, length:] = np.nan
    return (x if layer.layout == "NLC" else x.swapaxes(1, 2)).astype(dtype)


def steps(layer: Any, array: Array) -> Array:
    """Return a batch with its steps on axis 1."""
    return array if layer.layout == "NLC" else array.swapaxes(1, 2)


@pytest.mark.parametrize("kind", SLIDING)
def test_each_sequence_is_as_alone(kind: str, rng: np.random.Generator) -> None:
    layer: Any = SLIDING[kind](dtype=np.float64, rng=0) if "conv" in kind or "trans" in kind else SLIDING[kind]()
    x = signals(layer, rng)
    after = layer.out_lengths(LENGTHS)
    y, backward = layer.forward(x, lengths=LENGTHS)
    assert_array_equal(layer(x, lengths=LENGTHS), y)
    dy = rng.standard_normal(y.shape)
    for n, end in enumerate(after):
        steps(layer, dy)[n, end:] = np.nan
    dx = backward(dy)
    layer.zero_grad()
    for n, (before, end) in enumerate(zip(LENGTHS, after, strict=True)):
        axis = 0 if layer.layout == "NLC" else 1
        one, d_one = np.take(x[n], range(before), axis), np.take(dy[n], range(end), axis)
        y_one, back = layer.forward(one[None])
        assert steps(layer, y_one).shape[1] == end
        assert_allclose(steps(layer, y)[n, :end], steps(layer, y_one)[0], rtol=1e-12, atol=1e-13)
        assert not steps(layer, y)[n, end:].any()
        assert_allclose(steps(layer, dx)[n, :before], steps(layer, back(d_one[None]))[0], rtol=1e-12, atol=1e-13)
        assert not steps(layer, dx)[n, before:].any()


@pytest.mark.parametrize("kind", [fr.GlobalMaxPool, fr.GlobalAvgPool])
def test_global_pools_see_valid_steps_alone(kind: Any, rng: np.random.Generator) -> None:
    layer = kind(keepdims=True)
    x = rng.standard_normal((4, C, L))
    y = layer(x, lengths=LENGTHS)
    for n, length in enumerate(LENGTHS):
        assert_allclose(y[n], layer(x[n : n + 1, :, :length])[0], rtol=1e-12)
    assert layer.out_lengths(LENGTHS) is None
    for bad in (np.zeros((4, C, 2, L)), np.zeros((C, L))):
        with pytest.raises((LengthsError, ShapeError)):
            layer(bad, lengths=LENGTHS)


def test_parameter_gradients_see_valid_steps_alone(rng: np.random.Generator) -> None:
    layer = fr.Conv1d(C, 2, 3, padding=2, dtype=np.float64)
    x = signals(layer, rng)
    y, backward = layer.forward(x, lengths=LENGTHS)
    dy = rng.standard_normal(y.shape)
    backward(dy)
    together = {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}
    layer.zero_grad()
    for n, length in enumerate(LENGTHS):
        layer.forward(x[n : n + 1, :, :length])[1](dy[n : n + 1, :, : length + 2])
    for name, parameter in layer.parameters().items():
        assert_allclose(together[name], parameter.grad, rtol=1e-12)


def test_input_is_copied_only_if_it_must(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = fr.MaxPool1d(2), []
    monkeypatch.setattr(layer, "_predict", lambda x: seen.append(x) or fr.MaxPool1d(2)(x))
    x = np.ascontiguousarray(signals(layer, rng))
    before = x.copy()
    layer(x, lengths=LENGTHS)
    kept = np.nan_to_num(x, nan=-np.inf)
    layer(kept, lengths=LENGTHS)
    assert seen[0] is not x
    assert seen[1] is kept
    assert_array_equal(seen[0], kept)
    assert_array_equal(x, before)


def test_images_are_read_along_their_width(rng: np.random.Generator) -> None:
    conv = fr.Conv2d(C, 2, 3, (1, 2), padding=1, dtype=np.float64)
    x = rng.standard_normal((2, C, 4, 9))
    y = conv(x, lengths=[9, 4])
    assert_array_equal(conv.out_lengths([9, 4]), [5, 2])
    assert_allclose(y[1, :, :, :2], conv(x[1:, :, :, :4])[0], rtol=1e-12)
    assert not y[1, :, :, 2:].any()


def test_lengths_change_on_the_way(rng: np.random.Generator) -> None:
    layers = (
        fr.Conv1d(C, 4, 3, 2, padding=1, layout="NLC", dtype=np.float64),
        fr.Sequential(fr.MaxPool1d(2, layout="NLC"), fr.Linear(4, 4, dtype=np.float64)),
        fr.GRU(4, 2, bidirectional=True, batch_first=True, dtype=np.float64),
        fr.TimePool("kmax", 3, layout="NTC"),
        fr.TimePool("mean", layout="NTC"),
        fr.Linear(4, 2, dtype=np.float64),
    )
    model = fr.Sequential(*layers)
    x = rng.standard_normal((4, L, C))
    assert [list(map(int, fr.Sequential(*layers[:k]).out_lengths(LENGTHS))) for k in range(1, 5)] == [
        [5, 6, 2, 4],
        [2, 3, 1, 2],
        [2, 3, 1, 2],
        [2, 3, 1, 2],
    ]
    assert model.out_lengths(LENGTHS) is None
    y = model(x, lengths=LENGTHS)
    for n, length in enumerate(LENGTHS):
        assert_allclose(y[n], model(x[n : n + 1, :length], lengths=[length])[0], rtol=1e-12)


def test_a_sequence_must_have_a_window() -> None:
    layer = fr.Conv1d(C, 2, 5, dtype=np.float64)
    message = r"Conv1d: 'lengths' must be long enough for one window each, got 4"
    with pytest.raises(LengthsError, match=message):
        layer.out_lengths(LENGTHS)
    with pytest.raises(LengthsError, match=message):
        layer.forward(np.zeros((4, C, L)), lengths=LENGTHS)
    assert layer.out_lengths(None) is None


@pytest.mark.parametrize("layer", [fr.Conv1d(C, 2, 3), fr.MaxPool1d(2)], ids=["conv", "pool"])
def test_bad_lengths(layer: Any) -> None:
    x = np.zeros((4, C, L), np.float32)
    for call in (layer, layer.forward):
        with pytest.raises(LengthsError, match="'lengths' must be in 1..T=12, got 13"):
            call(x, lengths=[3, 13, 3, 3])
        with pytest.raises(ShapeError, match=r"'lengths' must have shape \(N=4,\), got \(2,\)"):
            call(x, lengths=[3, 3])
        with pytest.raises(DTypeError, match="'lengths' must have an integer dtype"):
            call(x, lengths=[3.0, 3, 3, 3])
        with pytest.raises(LengthsError, match="'lengths' must be None for an x without a batch axis"):
            call(x[0], lengths=[3])
        with pytest.raises(ShapeError, match="'x' must have shape"):
            call(x[0, 0], lengths=[3])
    with pytest.raises(DTypeError, match="'lengths' must have an integer dtype"):
        layer.out_lengths([2.5])


def test_what_cannot_follow_lengths_says_so() -> None:
    with pytest.raises(LengthsError, match="Conv1d: 'lengths' must be None with padding_mode='circular'"):
        fr.Conv1d(C, 2, 3, padding=1, padding_mode="circular").out_lengths(LENGTHS)
    with pytest.raises(LengthsError, match="AdaptiveAvgPool1d: 'lengths' must be None: windows would reach past them"):
        fr.Sequential(fr.Conv1d(C, 2, 3), fr.AdaptiveAvgPool1d(2))(np.zeros((4, C, L), "f4"), lengths=LENGTHS)
    with pytest.raises(ArgumentError, match="Sequential: 'lengths' must be None, as no layer takes it"):
        fr.Sequential(fr.Linear(C, 2))(np.zeros((4, C), "f4"), lengths=LENGTHS)
