"""Calls on shapes that came before take a short way, which gives what the long one gives and refuses what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tolerances import assert_same_bits

import fastrnn as fr
from fastrnn.errors import DTypeError, ShapeError

Array = NDArray[Any]
Make = Callable[..., Any]

# How each layer is made, and one shape that it takes; the convolutions take every algorithm.
LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "linear": (lambda **options: fr.Linear(5, 7, **options), (3, 5)),
    "linear_of_four_axes": (lambda **options: fr.Linear(5, 7, **options), (2, 3, 1, 5)),
    "pixels": (lambda **options: fr.Conv2d(6, 9, 1, **options), (2, 6, 5, 4)),
    "direct": (lambda **options: fr.Conv2d(3, 33, 5, stride=2, padding=2, **options), (2, 3, 11, 9)),
    "strided_last": (lambda **options: fr.Conv2d(4, 5, 3, stride=2, layout="NHWC", **options), (2, 9, 8, 4)),
    "winograd": (lambda **options: fr.Conv2d(16, 16, 3, padding=1, **options), (1, 16, 14, 13)),
    "winograd_of_sequences": (lambda **options: fr.Conv1d(16, 16, 3, **options), (2, 16, 90)),
    "depthwise": (lambda **options: fr.Conv2d(6, 6, 3, groups=6, **options), (2, 6, 8, 7)),
    "dense": (lambda **options: fr.Conv2d(4, 5, (6, 7), **options), (3, 4, 6, 7)),
    "transposed": (lambda **options: fr.ConvTranspose2d(3, 20, 3, stride=2, padding=1, **options), (2, 3, 6, 5)),
    "transposed_to_few": (lambda **options: fr.ConvTranspose1d(40, 2, 8, stride=4, **options), (2, 40, 30)),
    "transposed_winograd": (lambda **options: fr.ConvTranspose2d(20, 17, 3, **options), (1, 20, 15, 14)),
    "strided_pixels": (lambda **options: fr.Conv2d(40, 33, 1, stride=2, **options), (2, 40, 14, 14)),
    "volume": (lambda **options: fr.Conv3d(3, 4, 2, **options), (2, 3, 4, 5, 6)),
}
each_layer = pytest.mark.parametrize("kind", LAYERS)


def _made(kind: str, rng: np.random.Generator, dtype: type = np.float32, **options: Any) -> tuple[Any, Array]:
    make, shape = LAYERS[kind]
    return make(rng=0, dtype=dtype, **options), rng.standard_normal(shape).astype(dtype)


def _first(layer: Any, x: Array) -> Array:
    """Return what a layer without prepared calls gives."""
    fresh = type(layer).from_config(layer.config())
    fresh.load_state_dict(layer.state_dict())
    y: Array = fresh(x)
    return y


@each_layer
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_gives_the_same(
    kind: str, activation: str | None, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    layer, x = _made(kind, rng, dtype, activation=activation)
    first = layer(x)
    other = rng.standard_normal(x.shape).astype(dtype)
    for array in (x, other, x):
        assert_same_bits(layer(array), _first(layer, array))
    assert_same_bits(layer(x), first)


@pytest.mark.parametrize("kind", ["pixels", "winograd", "depthwise", "dense"])
def test_with_a_gain(kind: str, isa: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng, gain=True)
    layer.gain = rng.standard_normal(layer.gain.shape).astype(np.float32)
    layer(x)
    assert_same_bits(layer(x), _first(layer, x))


@each_layer
def test_results_are_new_arrays(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    layer(x)
    y, kept = layer(x), layer(x).copy()
    y[...] = 0
    assert_same_bits(layer(x), kept)
    assert y.flags.c_contiguous
    assert y.flags.writeable


@each_layer
def test_other_arrays_take_the_long_way(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    wanted = layer(x)
    assert_same_bits(layer(np.asfortranarray(x)), wanted)
    assert_same_bits(layer(np.repeat(x, 2, axis=-1)[..., ::2]), wanted)
    readonly = x.copy()
    readonly.flags.writeable = False
    assert_same_bits(layer(readonly), wanted)
    with pytest.raises(DTypeError, match="'x' must have dtype float32, got float64"):
        layer(x.astype(np.float64))
    with pytest.raises(ShapeError, match=r"'x' must have shape .* got \(1, 1, 1, 1, 1, 1\)"):
        layer(np.zeros((1,) * 6, x.dtype))
    assert_same_bits(layer(x), wanted)


@each_layer
def test_the_activation_may_change(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    plain = layer(x)
    for activation in ("relu", None, "tanh", "relu"):
        layer.activation = activation
        assert_same_bits(layer(x), _first(layer, x))
    assert_same_bits(layer(x), np.maximum(plain, 0))


@each_layer
def test_many_shapes_in_turn(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    batches = [rng.standard_normal((n, *x.shape[1:])).astype(x.dtype) for n in range(1, 13)]
    wanted = [_first(layer, batch) for batch in batches]
    for _ in range(2):
        for n in rng.permutation(len(batches)):
            assert_same_bits(layer(batches[n]), wanted[n])


@pytest.mark.parametrize("kind", ["pixels", "winograd"])
def test_with_and_without_a_batch(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    for _ in range(3):
        assert_same_bits(layer(x)[0], layer(x[0]))


@each_layer
def test_shapes_in_many_threads(kind: str, rng: np.random.Generator) -> None:
    layer, x = _made(kind, rng)
    batches = [rng.standard_normal((n % 9 + 1, *x.shape[1:])).astype(x.dtype) for n in range(36)]
    wanted = [_first(layer, batch) for batch in batches]
    wrong: list[int] = []

    def work(start: int) -> None:
        mine = range(start, len(batches), 4)
        wrong.extend(n for n in mine if not np.array_equal(layer(batches[n]), wanted[n]))

    workers = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
