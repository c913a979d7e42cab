"""Arrays so large that results are stored past the caches give the bits that their parts give, in odd places of memory too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array
from tolerances import assert_same_bits

from fastrnn import ops

pytestmark = pytest.mark.usefixtures("isa")

LIMIT = 8 << 20  # FR_PAST_BYTES
ROWS, MAPS = (2100, 1001), (5, 6, 70001)  # rows that begin anywhere between two aligned vectors


def numbers(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    x = rng.standard_normal(shape, np.float32)
    assert x.nbytes > LIMIT
    return x


def both(result: Any, dy: Array) -> tuple[Array, Array]:
    """Return y and dx from what a `*_vjp` returned."""
    y, pullback = result
    dx = pullback(dy)
    return y, dx[0] if isinstance(dx, tuple) else dx


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm"])
def test_rows(name: str, rng: np.random.Generator) -> None:
    x, dy = numbers(ROWS, rng), numbers(ROWS, rng)
    arguments = (ROWS[1],) if name == "layer_norm" else ()
    forward, vjp = getattr(ops, f"{name}_forward"), getattr(ops, f"{name}_vjp")
    halves = slice(0, 1001), slice(1001, None)
    assert_same_bits(forward(x, *arguments), np.concatenate([forward(x[part], *arguments) for part in halves]))
    parts = [both(vjp(x[part], *arguments), dy[part]) for part in halves]
    assert_same_bits(both(vjp(x, *arguments), dy), tuple(map(np.concatenate, zip(*parts, strict=True))))


def test_maps(rng: np.random.Generator) -> None:
    x, dy = numbers(MAPS, rng), numbers(MAPS, rng)
    mean, var = np.arange(6, dtype=np.float32), np.arange(1, 7, dtype=np.float32)
    parts = [ops.batch_norm_forward(one[None], mean, var) for one in x]
    assert_same_bits(ops.batch_norm_forward(x, mean, var), np.concatenate(parts))
    pairs = [both(ops.group_norm_vjp(one[None], 2), d[None]) for one, d in zip(x, dy, strict=True)]
    assert_same_bits(both(ops.group_norm_vjp(x, 2), dy), tuple(map(np.concatenate, zip(*pairs, strict=True))))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_maps(stride: int, layout: str, rng: np.random.Generator) -> None:
    x, weight = numbers((4, 60, 130, 113), rng), rng.standard_normal((60, 1, 3, 3), np.float32)
    options: Any = {"stride": stride, "padding": 1, "groups": 60, "layout": layout}
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    dy = rng.standard_normal(ops.conv_forward(x, weight, **options).shape, np.float32)
    parts = [both(ops.conv_vjp(one[None], weight, **options), d[None]) for one, d in zip(x, dy, strict=True)]
    assert_same_bits(both(ops.conv_vjp(x, weight, **options), dy), tuple(map(np.concatenate, zip(*parts, strict=True))))


# Along rows, side by side, in the lanes of vectors, and by one window.
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [((6, 5, 310, 230), 3, 2), ((6, 5, 310, 230), 5, 5), ((33, 170, 20, 20), 3, 2), ((33, 170, 20, 20), 20, 20)],
)
@pytest.mark.parametrize("operation", ["max_pool_values", "avg_pool"])
def test_pooled_maps(
    operation: str, shape: tuple[int, ...], kernel: int, stride: int, layout: str, rng: np.random.Generator
) -> None:
    x, options = numbers(shape, rng), {"stride": stride, "layout": layout}
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    forward, vjp = getattr(ops, f"{operation}_forward", ops.max_pool_values), getattr(ops, f"{operation}_vjp")
    dy = rng.standard_normal(forward(x, kernel, **options).shape, np.float32)
    parts = [both(vjp(one[None], kernel, **options), d[None]) for one, d in zip(x, dy, strict=True)]
    assert_same_bits(both(vjp(x, kernel, **options), dy), tuple(map(np.concatenate, zip(*parts, strict=True))))


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_times(mode: str, rng: np.random.Generator) -> None:
    x, dy = numbers((33, 170, 401), rng), rng.standard_normal((33, 170), np.float32)
    lengths = np.arange(33) + 300
    parts = [
        both(ops.time_pool_vjp(x[n : n + 1], mode, lengths=lengths[n : n + 1], layout="NCT"), dy[n : n + 1])
        for n in range(33)
    ]
    whole = both(ops.time_pool_vjp(x, mode, lengths=lengths, layout="NCT"), dy)
    assert_same_bits(whole, tuple(map(np.concatenate, zip(*parts, strict=True))))
