"""Winograd convolution equals the float64 reference, in every layout, at every size, on any team, within its stated error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import Array, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn._kernels._conv import ACTIVATIONS
from fastrnn.ops._conv_algorithm import prefers_winograd
from fastrnn.ops._winograd import WinogradWeights, supported

# Relative rms error for up to 512 channels, random normal, against float64: what docs/performance.md states.
RMS_BOUND = 1.2e-6


class Sizes(NamedTuple):
    """N images of C channels, K outputs, spatial sizes, kernel, padding pairs."""

    N: int
    C: int
    K: int
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]


CASES = (
    Sizes(1, 1, 1, (1, 1), (3, 3), ((1, 1), (1, 1))),
    Sizes(2, 3, 5, (7, 9), (3, 3), ((1, 1), (1, 1))),
    Sizes(2, 17, 70, (14, 13), (3, 3), ((0, 2), (1, 0))),
    Sizes(1, 2, 3, (4, 600), (3, 3), ((3, 3), (4, 4))),  # parts of a row of tiles; more padding than the kernel has
    Sizes(1, 20, 33, (6, 40), (5, 5), ((2, 2), (2, 2))),
    Sizes(2, 5, 4, (9, 8), (4, 4), ((1, 2), (2, 1))),
    Sizes(2, 5, 4, (9, 8), (3, 5), ((1, 1), (2, 2))),
    Sizes(2, 20, 37, (11, 16), (2, 2), ((0, 0), (1, 1))),
    Sizes(2, 3, 20, (15, 13), (2, 2), ((1, 1), (1, 1))),
    Sizes(1, 17, 5, (5, 33), (2, 2), ((0, 0), (0, 0))),
    Sizes(1, 3, 5, (9, 12), (2, 4), ((1, 0), (2, 1))),
    Sizes(2, 5, 4, (8, 9), (5, 2), ((2, 2), (0, 1))),
    Sizes(2, 3, 5, (11,), (3,), ((1, 1),)),
    Sizes(1, 2, 3, (700,), (4,), ((3, 0),)),
    Sizes(2, 18, 5, (37,), (5,), ((2, 2),)),
    Sizes(2, 7, 6, (30,), (7,), ((0, 6),)),  # two pieces of the kernel, the second with taps of no weight
    Sizes(1, 7, 66, (300,), (9,), ((4, 4),)),  # three pieces
    Sizes(3, 3, 5, (87, 86), (3, 3), ((1, 1), (1, 1))),  # a weight gradient of parts
    # Pieces along both axes: with taps of no weight, whole ones with edge tiles, of other sizes on each axis, one row of them.
    Sizes(2, 3, 5, (21, 37), (7, 7), ((3, 3), (3, 3))),
    Sizes(1, 17, 18, (23, 18), (6, 6), ((0, 0), (2, 1))),
    Sizes(1, 5, 4, (13, 18), (9, 8), ((4, 4), (4, 4))),
    Sizes(2, 5, 33, (23, 16), (10, 3), ((0, 9), (1, 1))),
    Sizes(1, 4, 3, (13, 40), (2, 11), ((1, 0), (5, 5))),
)
# Weights that training transforms block by block, and a weight gradient of one sum over all tiles; then several chunks of
# channels, and weights too large for one block; then large weights for more blocks than it pays to transform them again, and
# large weights of two pieces that are one sum.
LARGE = (
    Sizes(2, 160, 144, (7, 6), (3, 3), ((1, 1), (1, 1))),
    Sizes(3, 200, 40, (13, 26), (3, 3), ((1, 1), (1, 1))),
    Sizes(2, 130, 257, (70,), (9,), ((4, 4),)),
    Sizes(5, 150, 150, (30, 50), (3, 3), ((1, 1), (1, 1))),
    Sizes(1, 64, 800, (40,), (9,), ((4, 4),)),
    Sizes(1, 130, 70, (9, 20), (7, 6), ((3, 3), (3, 3))),
)


def data(rng: np.random.Generator, sizes: Sizes, dtype: Any) -> dict[str, Array]:
    """Return x, weight, bias and dy, channels first."""
    out = tuple(
        size + low + high - k + 1 for size, k, (low, high) in zip(sizes.spatial, sizes.kernel, sizes.pad, strict=True)
    )
    shapes = {
        "x": (sizes.N, sizes.C, *sizes.spatial),
        "weight": (sizes.K, sizes.C, *sizes.kernel),
        "bias": (sizes.K,),
        "dy": (sizes.N, sizes.K, *out),
    }
    return random_arrays(rng, shapes, dtype)


def wanted(arrays: dict[str, Array], sizes: Sizes, activation: str | None = None) -> dict[str, Array]:
    """Return y, dx and dweight in float64; the gradients are of the convolution alone."""
    x, weight, bias, dy = (value.astype(np.float64) for value in arrays.values())
    y = reference.conv_forward(x, weight, bias, padding=sizes.pad, activation=activation)
    dx, grads = reference.conv_vjp(x, weight, padding=sizes.pad)[1](dy)
    return {"y": y, "dx": dx, "dweight": grads["weight"]}


def last(array: Array) -> Array:
    """Return a copy with the channels last."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def results(
    arrays: dict[str, Array], sizes: Sizes, activation: str | None = None, channels_last: bool = False
) -> dict[str, Array]:
    """Return y, dx and dweight, channels first."""
    weights = WinogradWeights(arrays["weight"], sizes.pad, backward=True)
    x, dy = arrays["x"], arrays["dy"]
    if channels_last:
        x, dy = last(x), last(dy)
    y, dx, dweight = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.zeros_like(arrays["weight"])
    weights.run(x, y, arrays["bias"], ACTIVATIONS.index(activation), channels_last)
    weights.run_backward(dy, dx, channels_last)
    weights.add_weight_gradient(x, dy, dweight, channels_last)
    if channels_last:
        y, dx = np.moveaxis(y, -1, 1), np.moveaxis(dx, -1, 1)
    return {"y": np.ascontiguousarray(y), "dx": np.ascontiguousarray(dx), "dweight": dweight}


@pytest.mark.parametrize("sizes", CASES, ids=str)
def test_equals_reference(sizes: Sizes, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, sizes, dtype)
    first = results(arrays, sizes)
    assert_close("winograd", first, wanted(arrays, sizes))
    assert_same_bits(results(arrays, sizes, channels_last=True), first)


@pytest.mark.parametrize("sizes", LARGE, ids=str)
def test_large_weights(sizes: Sizes, isa: str, rng: np.random.Generator) -> None:
    arrays = data(rng, sizes, np.float32)
    got = results(arrays, sizes)
    assert_close("winograd", got, wanted(arrays, sizes))
    ahead = WinogradWeights(arrays["weight"], sizes.pad, backward=False)  # inference transforms the weights ahead
    y = np.empty_like(got["y"])
    ahead.run(arrays["x"], y, arrays["bias"], 0, False)
    assert_same_bits(y, got["y"])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
def test_activations(
    activation: str | None, channels_last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    sizes = Sizes(2, 6, 19, (9, 7), (3, 3), ((1, 1), (1, 1)))
    arrays = data(rng, sizes, dtype)
    arrays["weight"] /= 8  # sums of order 1, as an activation is meant for
    y = results(arrays, sizes, activation, channels_last)["y"]
    assert_close("winograd", y, wanted(arrays, sizes, activation)["y"])


@pytest.mark.parametrize("sizes", [CASES[2], CASES[4], *CASES[11:], *LARGE], ids=str)
def test_threads_give_the_same_bits(sizes: Sizes, threads: int, isa: str, rng: np.random.Generator) -> None:
    arrays = data(rng, sizes, np.float32)
    got = results(arrays, sizes)
    ops.set_num_threads(1)
    assert_same_bits(got, results(arrays, sizes))


@pytest.mark.parametrize("sizes", [CASES[2], CASES[5], CASES[7], CASES[14], CASES[18], LARGE[0], LARGE[2]], ids=str)
def test_a_sample_has_the_same_bits_in_any_batch(sizes: Sizes, isa: str, rng: np.random.Generator) -> None:
    sizes = sizes._replace(N=7)
    arrays = data(rng, sizes, np.float32)
    whole = results(arrays, sizes)
    for part in (slice(0, 1), slice(6, 7), slice(2, 5)):
        some = arrays | {"x": arrays["x"][part].copy(), "dy": arrays["dy"][part].copy()}
        got = results(some, sizes)
        assert_same_bits([got["y"], got["dx"]], [whole["y"][part], whole["dx"][part]])


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (3,), (4,), (5,), (9,)], ids=str)
@pytest.mark.parametrize("C", [64, 512])
def test_error_bound(C: int, kernel: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    """Relative rms error of y and dx for up to 512 channels, and of the weight gradient."""
    spatial = (9, 10) if len(kernel) == 2 else (40,)
    sizes = Sizes(1, C, C, spatial, kernel, tuple((k // 2, k // 2) for k in kernel))
    arrays = data(rng, sizes, np.float32)
    arrays["bias"][:] = 0
    exact = wanted(arrays, sizes)
    for name, value in results(arrays, sizes).items():
        error = np.sqrt(((value - exact[name]) ** 2).mean() / (exact[name] ** 2).mean())
        assert error <= RMS_BOUND, name


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_stay_in_their_tiles(value: float, isa: str, dtype: type, rng: np.random.Generator) -> None:
    sizes = Sizes(3, 5, 6, (14, 15), (3, 3), ((1, 1), (1, 1)))
    arrays = data(rng, sizes, dtype)
    plain = results(arrays, sizes)["y"]
    arrays["x"][1, 2, 5, 6] = value
    y = results(arrays, sizes)["y"]
    assert_same_bits(y[[0, 2]], plain[[0, 2]])
    assert not np.isfinite(y[1, :, 4:7, 5:8]).any()  # where the direct sum is not finite either
    outside = np.ones((14, 15), bool)
    outside[4:8, 4:8] = False  # the one tile that reads place (5, 6)
    assert_same_bits(y[1][:, outside], plain[1][:, outside])


def test_empty_batch(isa: str, dtype: type, rng: np.random.Generator) -> None:
    sizes = Sizes(0, 4, 5, (8, 8), (3, 3), ((1, 1), (1, 1)))
    got = results(data(rng, sizes, dtype), sizes)
    assert got["y"].shape == (0, 5, 8, 8)
    assert not got["dweight"].any()


def test_gradient_is_added(isa: str, dtype: type, rng: np.random.Generator) -> None:
    sizes = CASES[1]
    arrays = data(rng, sizes, dtype)
    once = results(arrays, sizes)["dweight"]
    grad = np.ones_like(once)
    weights = WinogradWeights(arrays["weight"], sizes.pad, backward=True)
    weights.add_weight_gradient(arrays["x"], arrays["dy"], grad, False)
    assert_same_bits(grad, 1 + once)
    weights.add_weight_gradient(arrays["x"], arrays["dy"], grad, False, fresh=True)
    assert_same_bits(grad, once)
    weights.add_weight_gradient(arrays["x"][:0], arrays["dy"][:0], grad, False, fresh=True)
    assert not grad.any()


def test_packed_weights_are_a_snapshot(isa: str, rng: np.random.Generator) -> None:
    for sizes in (CASES[1], LARGE[0]):
        arrays = data(rng, sizes, np.float32)
        packed = ops.pack_conv(arrays["weight"], arrays["bias"], padding=sizes.pad, algorithm="winograd")
        before = ops.conv_forward(arrays["x"], packed)
        assert_same_bits(before, results(arrays, sizes)["y"])
        packed = ops.pack_conv(arrays["weight"], arrays["bias"], padding=sizes.pad, algorithm="winograd")
        arrays["weight"][:] = np.nan
        arrays["bias"][:] = np.nan
        assert_same_bits(ops.conv_forward(arrays["x"], packed), before)


OPTIONS: tuple[dict[str, Any], ...] = (
    {"activation": "tanh"},
    {"layout": "NHWC", "activation": "relu", "flip": True},
    {"flip": True, "padding": ((2, 0), (1, 3))},
)


@pytest.mark.parametrize("gain", [False, True], ids=["", "gain"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_convolution_by_winograd(
    options: dict[str, Any], gain: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """The operation with every option that the algorithm does not see, and all gradients."""
    last = options.get("layout") == "NHWC"
    shapes = {"x": (2, 9, 11, 5) if last else (2, 5, 9, 11), "weight": (7, 5, 3, 4), "bias": (7,), "gain": (7,)}
    arrays = random_arrays(rng, shapes, dtype)
    if not gain:
        del arrays["gain"]
    arrays["weight"] /= 8
    exact = {name: array.astype(np.float64) for name, array in arrays.items()}
    y, pull_exactly = reference.conv_vjp(**exact, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    got, pull = ops.conv_vjp(**arrays, **options, algorithm="winograd")
    assert_close("winograd", got, y)
    dx, grads = pull(dy)
    exact_dx, exact_grads = pull_exactly(dy.astype(np.float64))
    assert_close("winograd", {"dx": dx, **grads}, {"dx": exact_dx, **exact_grads})


def test_small_maps_run_directly_by_themselves(isa: str, rng: np.random.Generator) -> None:
    """What "auto" does depends on channels and sizes, not on the batch."""
    arrays = random_arrays(rng, {"weight": (32, 32, 3, 3), "small": (2, 32, 2, 9), "large": (2, 32, 8, 9)}, np.float32)
    packed = ops.pack_conv(arrays["weight"], padding=1)
    for name, algorithm in (("small", "direct"), ("large", "winograd")):
        for x in (arrays[name], arrays[name][:1]):
            wanted = ops.conv_forward(x, arrays["weight"], padding=1, algorithm=algorithm)
            assert_same_bits(ops.conv_forward(x, packed), wanted)


def test_large_kernels_take_it_where_much_is_saved(rng: np.random.Generator) -> None:
    for C, kernel, size, taken in ((64, 7, 28, True), (64, 7, 14, False), (64, 6, 28, True), (8, 7, 56, False)):
        packed = ops.pack_conv(rng.standard_normal((C, C, kernel, kernel)).astype(np.float32), padding=kernel // 2)
        counts = packed.geometry.counts("test", (1, size, size))
        assert prefers_winograd("auto", packed.geometry, C, C, counts) == taken


def test_supported() -> None:
    for kernel in ((3, 3), (4, 5), (7, 11), (9,)):
        assert supported(kernel)
    for kernel in ((1, 1), (12, 3), (2,), (3, 3, 3)):
        assert not supported(kernel)
