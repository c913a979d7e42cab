"""Pooling layers keep how they pool arrays of recent shapes; nobody may notice but by the time."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.errors import DTypeError, ShapeError

LAYERS: tuple[tuple[Any, Any], ...] = (
    (lambda: fr.MaxPool2d(3, 2, 1), fr.ops.max_pool_values),
    (lambda: fr.MinPool2d(3, 2, 1), fr.ops.min_pool_values),
    (lambda: fr.AvgPool2d(3, 2, 1), fr.ops.avg_pool_forward),
)


@pytest.mark.parametrize(("make", "operation"), LAYERS)
def test_many_shapes(make: Any, operation: Any, rng: np.random.Generator) -> None:
    layer = make()
    xs = [rng.standard_normal((N, 9, H, 7)).astype(dtype) for N in (1, 2) for H in range(3, 11) for dtype in "fd"]
    for x in (*xs, *reversed(xs), xs[3][:, :, ::2], np.asfortranarray(xs[5]), xs[7].astype(xs[7].dtype.newbyteorder())):
        expected = operation(x, 3, stride=2, padding=1)
        np.testing.assert_array_equal(layer(x), expected)
        y, backward = layer.forward(x)
        np.testing.assert_array_equal(y, expected)
        assert backward(np.ones_like(y)).shape == x.shape
    single = layer(xs[9][0])
    np.testing.assert_array_equal(single, layer(xs[9])[0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_changed_option_counts(duplicate: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 8, 12, 12)).astype(np.float32)
    layer = fr.MaxPool2d(2)
    before = layer(x)
    other = duplicate(layer)
    np.testing.assert_array_equal(other(x), before)
    layer.stride = 1
    assert layer(x).shape == (2, 8, 11, 11)
    assert other(x).shape == (2, 8, 6, 6)


@pytest.mark.parametrize(
    "layer",
    [fr.MaxPool2d(2), fr.AvgPool2d(2), fr.AdaptiveAvgPool2d(3), fr.AdaptiveMaxPool2d(1), fr.GlobalAvgPool()],
    ids=str,
)
def test_pullbacks(layer: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 8, 8, 8)).astype(np.float32)
    layer(x)
    y, backward = layer.forward(x)
    with pytest.raises(ShapeError, match=f"{type(layer).__name__}: 'dy'"):
        backward(y[:1])
    with pytest.raises(DTypeError, match=f"{type(layer).__name__}: 'dy'"):
        backward(y.astype(np.float64))
    wide = np.repeat(y, 2, axis=-1)[..., ::2]
    dx = backward(wide)
    assert dx.shape == x.shape
    with pytest.raises(RuntimeError, match="called before"):
        backward(y)
    again = layer.forward(x)[1]
    np.testing.assert_array_equal(again(y), dx)
    with pytest.raises(ShapeError, match=type(layer).__name__):
        layer(x[0, 0, 0])
    with pytest.raises(DTypeError, match=type(layer).__name__):
        layer(x.astype(np.int64))


def test_few_channels_last(isa: str, threads: int, rng: np.random.Generator) -> None:
    for C in (1, 2, 3, 5, 8, 12, 15, 17, 33, 40):
        x = rng.standard_normal((3, 29, 31, C)).astype(np.float32)
        x[1, 5, 5, 0] = np.nan
        np.testing.assert_allclose(fr.GlobalAvgPool(layout="NHWC")(x), x.mean((1, 2)), rtol=1e-4, atol=1e-5)
        layer = fr.GlobalMaxPool(layout="NHWC")
        np.testing.assert_array_equal(layer(x), x.max((1, 2)))
        np.testing.assert_array_equal(layer(x)[2:], layer(x[2:]))
        y, backward = layer.forward(x)
        np.testing.assert_array_equal(backward(np.ones_like(y)).sum((1, 2)), np.ones_like(y))
