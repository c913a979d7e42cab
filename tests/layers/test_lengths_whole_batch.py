"""Lengths count where a layer looks at all steps: what lies past them reaches no statistics, no sum and no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array
from numpy.testing import assert_allclose, assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, LengthsError, ShapeError

LENGTHS = np.array([5, 7, 1, 4])
C, L = 4, 7

#: A layer, the shape of x, and the axes of samples and steps.
Kind = tuple[Any, tuple[int, ...], int, int]
NORMS: dict[str, Kind] = {
    "signals": (fr.BatchNorm1d, (4, C, L), 0, 2),
    "signals, last": (lambda n, **o: fr.BatchNorm1d(n, layout="NLC", **o), (4, L, C), 0, 1),
    "images": (fr.BatchNorm2d, (4, C, 3, L), 0, 3),
    "images, last": (lambda n, **o: fr.BatchNorm2d(n, layout="NHWC", **o), (4, 3, L, C), 0, 2),
    "volumes": (fr.BatchNorm3d, (4, C, 2, 3, L), 0, 4),
}
ALONE: dict[str, Kind] = {
    "groups": (lambda **o: fr.GroupNorm(2, C, **o), (4, C, L), 0, 2),
    "groups of images": (lambda **o: fr.GroupNorm(1, C, **o), (4, C, 3, L), 0, 3),
    "groups, last": (lambda **o: fr.GroupNorm(2, C, layout="NHWC", **o), (4, 3, L, C), 0, 2),
    "softmax": (lambda **_: fr.Softmax(0, batch_axis=1), (L, 4, C), 1, 0),
    "softmax, samples first": (lambda **_: fr.Softmax(-1, batch_axis=0), (4, L), 0, 1),
    "log-softmax": (lambda **_: fr.LogSoftmax(1, batch_axis=0), (4, L, C), 0, 1),
}


def valid(array: Array, n: int, batch: int, time: int) -> Array:
    """Return the steps of one sample, a view."""
    index: list[Any] = [slice(None)] * array.ndim
    index[batch], index[time] = slice(n, n + 1), slice(LENGTHS[n])
    return array[tuple(index)]


def poisoned(shape: tuple[int, ...], batch: int, time: int, rng: np.random.Generator, dtype: Any = np.float64) -> Array:
    """Return numbers with NaN past the lengths."""
    x = np.full(shape, np.nan, dtype)
    for n in range(len(LENGTHS)):
        part = valid(x, n, batch, time)
        part[...] = rng.standard_normal(part.shape)
    return x


@pytest.mark.parametrize(("build", "shape", "batch", "time"), NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("tracked", [True, False])
def test_statistics_of_a_batch_are_those_of_valid_steps(
    build: Any, shape: tuple[int, ...], batch: int, time: int, tracked: bool, rng: np.random.Generator
) -> None:
    layer, twin = (build(C, dtype=np.float64, track_running_stats=tracked) for _ in range(2))
    for one in (layer, twin):
        one.weight, one.bias = np.arange(1.0, C + 1), np.arange(C) - 1.0
    x, dy = poisoned(shape, batch, time, rng), poisoned(shape, batch, time, rng)
    y, backward = layer.forward(x, lengths=LENGTHS)
    dx = backward(dy)
    joined, d_joined = (
        np.concatenate([valid(array, n, batch, time) for n in range(len(LENGTHS))], time) for array in (x, dy)
    )
    wanted, pull = twin.forward(joined)
    d_wanted, at = pull(d_joined), 0
    for n, length in enumerate(LENGTHS):
        assert_allclose(valid(y, n, batch, time), np.take(wanted, range(at, at + length), time), rtol=1e-12, atol=1e-13)
        assert_allclose(
            valid(dx, n, batch, time), np.take(d_wanted, range(at, at + length), time), rtol=1e-12, atol=1e-13
        )
        at += length
    assert np.count_nonzero(y) == np.count_nonzero(dx) == joined.size
    for name, parameter in layer.parameters().items():
        assert_allclose(parameter.grad, twin.parameters()[name].grad, rtol=1e-12)
    for name, array in layer.state_dict().items():
        assert_allclose(array, twin.state_dict()[name], rtol=1e-12)
    predicted, expected = layer(x, lengths=LENGTHS), twin(joined)
    assert_allclose(
        valid(predicted, 0, batch, time), np.take(expected, range(LENGTHS[0]), time), rtol=1e-12, atol=1e-13
    )
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(("build", "shape", "batch", "time"), ALONE.values(), ids=ALONE)
def test_a_sample_is_as_alone(
    build: Any, shape: tuple[int, ...], batch: int, time: int, rng: np.random.Generator, dtype: type
) -> None:
    layer, twin = (build(dtype=dtype) for _ in range(2))
    x, dy = (poisoned(shape, batch, time, rng, dtype) for _ in range(2))
    y, backward = layer.forward(x, lengths=LENGTHS)
    assert_array_equal(layer(x, lengths=LENGTHS), y)
    dx, inside = backward(dy), np.zeros(shape, bool)
    for n in range(len(LENGTHS)):
        one, pull = twin.forward(valid(x, n, batch, time))
        assert_array_equal(valid(y, n, batch, time), one)
        assert_array_equal(valid(dx, n, batch, time), pull(valid(dy, n, batch, time)))
        valid(inside, n, batch, time)[...] = True
    assert not y[~inside].any()
    assert not dx[~inside].any()
    for name, parameter in layer.parameters().items():
        assert_array_equal(parameter.grad, twin.parameters()[name].grad)
    with pytest.raises(RuntimeError, match="called before"):
        backward(dy)


def test_padding_reaches_no_parameter_of_a_stack(rng: np.random.Generator) -> None:
    def gradients(padding: float) -> dict[str, Array]:
        model = fr.Sequential(
            fr.Conv1d(3, C, 3, padding=1, dtype=np.float64, rng=0),
            fr.BatchNorm1d(C, dtype=np.float64),
            fr.ReLU(),
            fr.Conv1d(C, C, 3, padding=1, dtype=np.float64, rng=1),
            fr.GroupNorm(2, C, dtype=np.float64),
            fr.Permute(2, 0, 1),
            fr.GRU(C, 5, dtype=np.float64, rng=2),
            fr.Softmax(0, batch_axis=1),
        )
        source = np.random.default_rng(3)
        x, target = source.standard_normal((4, 3, L)), source.standard_normal((L, 4, 5))
        for n, length in enumerate(LENGTHS):
            x[n, :, length:] = padding
        y, backward = model.forward(x, lengths=LENGTHS)
        _, dy = fr.mse_loss(y, target, lengths=LENGTHS)
        backward(dy)
        return {name: parameter.grad.copy() for name, parameter in model.parameters().items()} | model.state_dict()

    clean, dirty = gradients(0.0), gradients(1e6)
    for name, wanted in clean.items():
        assert_array_equal(dirty[name], wanted, name)


def test_bad_lengths(rng: np.random.Generator) -> None:
    norm = fr.BatchNorm1d(C)
    x = rng.standard_normal((4, C, L)).astype(np.float32)
    before = norm.state_dict()
    with pytest.raises(LengthsError, match="BatchNorm1d: 'lengths' must be in 1..T=7, got 8"):
        norm.forward(x, lengths=[8, 1, 1, 1])
    with pytest.raises(ShapeError, match=r"BatchNorm1d: 'lengths' must have shape \(N=4,\), got \(3,\)"):
        norm(x, lengths=[1, 1, 1])
    with pytest.raises(
        LengthsError, match=r"BatchNorm1d: 'lengths' must be None for an x without steps, got x \(4, 4\)"
    ):
        norm.forward(x[:, :, 0], lengths=[1, 1, 1, 1])
    with pytest.raises(ShapeError, match="BatchNorm1d: 'x' must have at least two values"):
        norm.forward(x[:1], lengths=[1])
    for name, array in norm.state_dict().items():
        assert_array_equal(array, before[name])
    with pytest.raises(LengthsError, match=r"GroupNorm: 'lengths' must be None for an x without steps, got x \(4, 4\)"):
        fr.GroupNorm(2, C)(x[:, :, 0], lengths=[1, 1, 1, 1])
    with pytest.raises(LengthsError, match="Softmax: 'lengths' must be None without a 'batch_axis'"):
        fr.Softmax(0)(x, lengths=[1] * 4)
    with pytest.raises(ArgumentError, match="Softmax: 'batch_axis' must be another axis than 'axis', got 0"):
        fr.Softmax(-3, batch_axis=0)(x, lengths=[1] * 4)
    with pytest.raises(ShapeError, match=r"Softmax: 'x' must have an axis 3, got shape \(4, 4, 7\)"):
        fr.Softmax(0, batch_axis=3)(x, lengths=[1] * 4)


def test_an_option_of_softmax_is_kept() -> None:
    layer = fr.Softmax(0, batch_axis=1)
    assert repr(layer) == "Softmax(axis=0, batch_axis=1)"
    assert repr(fr.Softmax()) == "Softmax(axis=-1)"
    assert repr(fr.Softmax.from_config(layer.config())) == repr(layer)
    assert layer.takes_lengths
    assert not fr.Softmax(0).takes_lengths
