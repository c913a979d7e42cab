"""The sliding pools of the reference: hand numbers, finite differences, PyTorch, ties and NaN, layouts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = np.nan, np.inf

# Sizes of the maps, then the options that max, min and average pooling share, with what only one of them has.
CASES = [
    ((7,), {"kernel_size": 3}),
    ((8,), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((5,), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    ((5, 6), {"kernel_size": 2}),
    ((6, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ((7, 8), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((3, 3), {"kernel_size": 3}),
    ((4, 3, 5), {"kernel_size": 2, "stride": 1, "padding": 1}),
    ((5, 4, 6), {"kernel_size": (2, 3, 3), "stride": (2, 1, 3), "padding": (1, 1, 0), "ceil_mode": True}),
]
DILATED = [
    ((8,), {"kernel_size": 3, "stride": 1, "dilation": 2, "padding": 1}),
    ((7, 9), {"kernel_size": (2, 3), "stride": 2, "dilation": (3, 2), "padding": (1, 1), "ceil_mode": True}),
    ((5, 4, 5), {"kernel_size": 2, "stride": 2, "dilation": (1, 3, 2)}),
]
LP = [(sizes, {key: options[key] for key in options if key != "padding"}) for sizes, options in CASES]
AVERAGES = [(sizes, options | more) for sizes, options in CASES for more in ({}, {"count_include_pad": False})]
DIVIDED = [
    (sizes, options | {"divisor_override": 3}) for sizes, options in CASES if len(sizes) > 1
]  # as PyTorch has it

LAYOUTS = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


def maps(rng, sizes, dtype=np.float64):
    """Return random maps (2, 3, *sizes) that must not be written to."""
    x = random_arrays(rng, {"x": (2, 3, *sizes)}, dtype)["x"]
    x.flags.writeable = False
    return x


def value_and_pullback(operation, x, *args, **options):
    """Return y alone and its pullback, from a vjp with or without indices."""
    y, pullback = getattr(reference, f"{operation}_vjp")(x, *args, **options)
    return (y[0] if isinstance(y, tuple) else y), pullback


def assert_pullback_is_the_gradient(rng, operation, x, *args, **options):
    """Compare with finite differences, on a part of the maps: they need two calls for each element."""
    x, args = x[:1, 1:].copy(), [arg[:1, 1:] if isinstance(arg, np.ndarray) else arg for arg in args]
    y, pullback = value_and_pullback(operation, x, *args, **options)
    dy = rng.standard_normal(y.shape)
    assert_gradients(
        lambda: float((dy * value_and_pullback(operation, x, *args, **options)[0]).sum()), {"x": x}, {"x": pullback(dy)}
    )


def run_torch(function, x, dy):
    """Return what a PyTorch function gives for x, as arrays, and the gradient of x from the one of the first of them."""
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(x, requires_grad=True)
    results = function(tensor)
    results = results if isinstance(results, tuple) else (results,)
    results[0].backward(torch.tensor(dy, dtype=results[0].dtype))
    return [result.detach().numpy() for result in results], tensor.grad.numpy()


def torch_pool(name, S):
    """Return a function of torch.nn.functional for S axes."""
    torch = pytest.importorskip("torch")
    return getattr(torch.nn.functional, f"{name}{S}d")


def assert_max_pool_equals_torch(rng, x, options):
    pool = torch_pool("max_pool", x.ndim - 2)
    for sign, name in ((1, "max_pool"), (-1, "min_pool")):
        (y, indices), pullback = getattr(reference, f"{name}_vjp")(sign * x, **options)
        dy = rng.standard_normal(y.shape).astype(x.dtype)
        expected, expected_dx = run_torch(lambda t: pool(t, **options, return_indices=True), x, dy)
        dx = pullback(dy)
        assert y.dtype == dx.dtype == x.dtype
        assert_close("exact", sign * y, expected[0])
        assert_same_bits(indices, expected[1])
        assert_close("gemm", dx, expected_dx)


def test_max_and_min_by_hand():
    # Windows (1, 5), (5, 2), (2, 2) of the first map; the first of equal values counts.
    x = np.array([[[1.0, 5.0, 2.0, 2.0], [4.0, 3.0, 3.0, 7.0]]])
    (y, indices), pullback = reference.max_pool_vjp(x, 2, stride=1)
    assert_same_bits(y, np.array([[[5.0, 5.0, 2.0], [4.0, 3.0, 7.0]]]))
    assert_same_bits(indices, np.array([[[1, 1, 2], [0, 1, 3]]]))
    dx = pullback(np.array([[[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]]))
    assert_same_bits(dx, np.array([[[0.0, 11.0, 100.0, 0.0], [2.0, 20.0, 0.0, 200.0]]]))
    y, indices = reference.min_pool_forward(x, 2, stride=1)
    assert_same_bits(y, np.array([[[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]]]))
    assert_same_bits(indices, np.array([[[0, 2, 2], [1, 1, 2]]]))


def test_average_by_hand():
    # Windows (-, 1), (2, 3), (4, 5) and with ceil_mode no fourth, which would start past the map; - is padding.
    x = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    y, pullback = reference.avg_pool_vjp(x, 2, padding=1, ceil_mode=True)
    assert_same_bits(y, np.array([[[0.5, 2.5, 4.5]]]))
    assert_same_bits(pullback(np.array([[[1.0, 2.0, 4.0]]])), np.array([[[0.5, 1.0, 1.0, 2.0, 2.0]]]))
    y = reference.avg_pool_forward(x, 2, padding=1, count_include_pad=False)
    assert_same_bits(y, np.array([[[1.0, 2.5, 4.5]]]))
    # The third window (5, -, past the padding) has two places that count, or one without padding.
    options = {"stride": 2, "padding": 1, "ceil_mode": True}
    y = reference.avg_pool_forward(x[..., :4], 3, **options)
    assert_same_bits(y, np.array([[[1.0, 3.0, 2.0]]]))
    y = reference.avg_pool_forward(x[..., :4], 3, **options, count_include_pad=False)
    assert_same_bits(y, np.array([[[1.5, 3.0, 4.0]]]))
    y = reference.avg_pool_forward(x[..., :4], 3, **options, divisor_override=4)
    assert_same_bits(y, np.array([[[0.75, 2.25, 1.0]]]))


def test_p_norm_by_hand():
    # sqrt(9 + 16) = 5; of the rest (12,) with ceil_mode the mean counts for two places: sqrt(2 * 144).
    x = np.array([[[3.0, -4.0, 0.0, 0.0, 12.0]]])
    y, pullback = reference.lp_pool_vjp(x, 2, 2, ceil_mode=True)
    assert_close("gemm", y, np.array([[[5.0, 0.0, np.sqrt(288)]]]))
    assert_close("gemm", pullback(np.array([[[5.0, 7.0, 1.0]]])), np.array([[[3.0, -4.0, 0.0, 0.0, np.sqrt(2)]]]))
    assert_same_bits(reference.lp_pool_forward(x, 1, 2), np.array([[[-1.0, 0.0]]]))
    assert_same_bits(reference.lp_pool_forward(x, INF, 2), np.array([[[4.0, 0.0]]]))
    assert_same_bits(reference.lp_pool_forward(x, -INF, 2), np.array([[[3.0, 0.0]]]))


def test_unpool_by_hand():
    x, indices = np.array([[[[7.0, 8.0]], [[9.0, 6.0]]]]), np.array([[[[5, 0]], [[2, 3]]]])
    y, pullback = reference.max_unpool_vjp(x, indices, (2, 3))
    assert_same_bits(y, np.array([[[[8.0, 0.0, 0.0], [0.0, 0.0, 7.0]], [[0.0, 0.0, 9.0], [6.0, 0.0, 0.0]]]]))
    dy = np.arange(12.0).reshape(1, 2, 2, 3)
    assert_same_bits(pullback(dy), np.array([[[[5.0, 0.0]], [[8.0, 9.0]]]]))


@pytest.mark.parametrize(("sizes", "options"), [*CASES, *DILATED], ids=str)
@pytest.mark.parametrize("operation", ["max_pool", "min_pool"])
def test_gradients_of_max_and_min(rng, operation, sizes, options):
    assert_pullback_is_the_gradient(rng, operation, maps(rng, sizes), **options)


@pytest.mark.parametrize(("sizes", "options"), [*AVERAGES, *DIVIDED], ids=str)
def test_gradients_of_the_average(rng, sizes, options):
    assert_pullback_is_the_gradient(rng, "avg_pool", maps(rng, sizes), **options)


@pytest.mark.parametrize(("sizes", "options"), LP, ids=str)
@pytest.mark.parametrize("p", [2, INF])
def test_gradients_of_the_p_norm(rng, sizes, options, p):
    assert_pullback_is_the_gradient(rng, "lp_pool", maps(rng, sizes), p, **options)


@pytest.mark.parametrize("p", [1, 3, 0.5, -1, 1.5, -INF])
def test_gradients_of_the_p_norm_of_positive_values(rng, p):
    assert_pullback_is_the_gradient(rng, "lp_pool", 0.5 + abs(maps(rng, (5, 6))), p, kernel_size=2, stride=1)


@pytest.mark.parametrize("S", [1, 2, 3])
def test_gradients_of_unpooling(rng, S):
    x = maps(rng, (4,) * S)
    y, indices = reference.max_pool_forward(x, 2)
    assert_pullback_is_the_gradient(rng, "max_unpool", y, indices, x.shape[2:])


@pytest.mark.parametrize(("sizes", "options"), [*CASES, *DILATED], ids=str)
def test_max_and_min_equal_torch(rng, dtype, sizes, options):
    assert_max_pool_equals_torch(rng, maps(rng, sizes, dtype), options)


@pytest.mark.parametrize(("sizes", "options"), [*AVERAGES, *DIVIDED], ids=str)
def test_average_equals_torch(rng, dtype, sizes, options):
    pool, x = torch_pool("avg_pool", len(sizes)), maps(rng, sizes, dtype)
    y, pullback = reference.avg_pool_vjp(x, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    (expected,), expected_dx = run_torch(lambda t: pool(t, **options), x.astype(np.float64), dy)
    dx = pullback(dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("gemm", (y, dx), (expected, expected_dx))


@pytest.mark.parametrize(("sizes", "options"), LP, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, INF, -INF, 2.5])
def test_p_norm_equals_torch(rng, dtype, sizes, options, p):
    pool, x = torch_pool("lp_pool", len(sizes)), maps(rng, sizes, dtype)
    y, pullback = reference.lp_pool_vjp(x, p, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    (expected,), expected_dx = run_torch(lambda t: pool(t, p, **options), x.astype(np.float64), dy)
    dx = pullback(dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("rnn_vjp", (y, dx), (expected, expected_dx))


def test_every_small_geometry_equals_torch(rng):
    """Sizes, starts and counts of windows: lengths, kernels, strides, paddings and dilations up to a few."""
    max_pool, avg_pool = torch_pool("max_pool", 1), torch_pool("avg_pool", 1)
    tensor = pytest.importorskip("torch").tensor
    ranges = ((1, 2, 3, 6), (1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (1, 2), (False, True))
    for L, k, stride, padding, dilation, ceil_mode in itertools.product(*ranges):
        if padding > k // 2:
            continue
        x, options = rng.standard_normal((1, 1, L)), {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        y, indices = reference.max_pool_forward(x, k, dilation=dilation, **options)
        if y.size == 0:
            continue  # refused by PyTorch
        expected = max_pool(tensor(x), k, dilation=dilation, **options, return_indices=True)
        real = indices >= 0  # PyTorch's index of a window without places is outside the map
        assert_same_bits((y, indices[real]), (expected[0].numpy(), expected[1].numpy()[real]))
        if dilation == 1:
            for include in (False, True):
                y = reference.avg_pool_forward(x, k, **options, count_include_pad=include)
                assert_close("gemm", y, avg_pool(tensor(x), k, **options, count_include_pad=include).numpy())


@pytest.mark.parametrize(("sizes", "options"), [*CASES, *DILATED], ids=str)
def test_ties_nan_and_infinities_as_torch(rng, dtype, sizes, options):
    for values in ([0.0, 1.0], [0.0, 1.0, NAN], [-INF, NAN], [-INF], [-INF, INF, 0.0, -0.0]):
        assert_max_pool_equals_torch(rng, rng.choice(values, (2, 16, *sizes)).astype(dtype), options)


@pytest.mark.parametrize("p", [None, 1, 2, 3, 4, 0.5, -1, INF, -INF])
def test_zeros_nan_and_infinities_in_sums_as_torch(rng, p):
    x = rng.choice([0.0, 1.0, -2.0, NAN, INF, -INF], (3, 4, 8, 8), p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    name, args = ("avg_pool", (2,)) if p is None else ("lp_pool", (p, 2))
    pool = torch_pool(name, 2)
    y, pullback = value_and_pullback(name, x, *args)
    dy = rng.standard_normal(y.shape)
    (expected,), expected_dx = run_torch(lambda t: pool(t, *args), x, dy)
    assert_close("rnn_vjp", (y, pullback(dy)), (expected, expected_dx))


@pytest.mark.parametrize("S", [1, 2, 3])
def test_unpooling_equals_torch(rng, S):
    x, unpool = maps(rng, (7,) * S), torch_pool("max_unpool", S)
    torch = pytest.importorskip("torch")
    y, indices = reference.max_pool_forward(x, 2)
    unpooled, pullback = reference.max_unpool_vjp(y, indices, x.shape[2:])
    dy = rng.standard_normal(x.shape)
    (expected,), expected_dy = run_torch(lambda t: unpool(t, torch.tensor(indices), 2, output_size=x.shape[2:]), y, dy)
    assert_close("exact", (unpooled, pullback(dy)), (expected, expected_dy))


def test_dilated_window_without_places():
    # The only window has its two places at -1 and 2, around a map of size 2.
    x, options = np.array([[[1.0, 2.0]]]), {"padding": 1, "dilation": 3}
    for operation, limit in (("max_pool", -INF), ("min_pool", INF)):
        (y, indices), pullback = getattr(reference, f"{operation}_vjp")(x, 2, **options)
        assert_same_bits((y, indices), (np.array([[[limit]]]), np.array([[[-1]]])))
        assert_same_bits(pullback(np.ones((1, 1, 1))), np.zeros((1, 1, 2)))


# Arguments after x (N, C, 4, ...) for every operation of the module.
EVERY = {
    "max_pool": ((3,), {"stride": 2, "padding": 1}),
    "min_pool": ((3,), {"stride": 2, "padding": 1}),
    "avg_pool": ((3,), {"stride": 2, "padding": 1}),
    "lp_pool": ((2, 3), {"stride": 1}),
    "lp_pool_inf": ((INF, 3), {"stride": 1}),
    "max_unpool": ((), {}),
}


def call(name, x, layout=None):
    """Call the vjp of an operation of the table; unpooling from 4 to 8 puts x at every other place."""
    args, options = EVERY[name]
    if name == "max_unpool":
        S, channels_last = x.ndim - 2, layout in LAYOUTS.values()
        places = 2 * np.arange(4**S).reshape((4,) * S)
        args = (np.broadcast_to(places[..., None] if channels_last else places, x.shape), (8,) * S)
    return value_and_pullback(name.removesuffix("_inf"), x, *args, **options, layout=layout)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("S", [1, 2, 3])
def test_layouts(rng, name, S):
    x = maps(rng, (4,) * S)
    y, pullback = call(name, x)
    dy = rng.standard_normal(y.shape)
    last_y, last_pullback = call(name, np.moveaxis(x, 1, -1), LAYOUTS[S])
    same_y, _ = call(name, x, "NC" + LAYOUTS[S][1:-1])
    assert_same_bits((np.moveaxis(last_y, -1, 1), same_y), (y, y))
    last_dx = last_pullback(np.moveaxis(dy, 1, -1))
    assert last_dx.shape == (2, *(4,) * S, 3)
    assert_same_bits(np.moveaxis(last_dx, -1, 1), pullback(dy))


def test_indices_lie_as_y(rng):
    x = maps(rng, (4, 6))
    _, indices = reference.max_pool_forward(x, 2)
    _, last = reference.max_pool_forward(np.moveaxis(x, 1, -1), 2, layout="NHWC")
    assert_same_bits(last, np.moveaxis(indices, 1, -1))


@pytest.mark.parametrize("name", EVERY)
def test_pullback_owns_and_is_called_once(rng, name):
    x = maps(rng, (4, 4)).copy()
    y, pullback = call(name, x)
    dy = rng.standard_normal(y.shape)
    dy.flags.writeable = False
    expected = pullback(dy)
    _, pullback = call(name, x)
    x[...] = NAN
    assert_same_bits(pullback(dy), expected)
    with pytest.raises(RuntimeError, match=f"{name.removesuffix('_inf')}_vjp: the pullback was already called"):
        pullback(dy)


@pytest.mark.parametrize("operation", ["max_pool", "min_pool"])
def test_pullback_owns_its_indices(rng, operation):
    x = maps(rng, (4, 4))
    vjp = getattr(reference, f"{operation}_vjp")
    (y, indices), pullback = vjp(x, 2)
    indices[...] = 0
    assert_same_bits(pullback(y), vjp(x, 2)[1](y))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)], ids=str)
def test_empty(name, shape, dtype):
    y, pullback = call(name, np.zeros(shape, dtype))
    assert y.shape[:2] == shape[:2]
    dx = pullback(y)
    assert (dx.shape, dx.dtype, y.dtype) == (shape, dtype, dtype)


@pytest.mark.parametrize("operation", ["max_pool", "min_pool", "avg_pool", "lp_pool", "max_unpool"])
def test_forward_equals_vjp(rng, operation):
    x = maps(rng, (4, 4))
    args, options = EVERY[operation]
    if operation == "max_unpool":
        args = (np.argsort(x.reshape(2, 3, 16), axis=-1).reshape(x.shape), (4, 4))
    forward = getattr(reference, f"{operation}_forward")(x, *args, **options)
    assert_same_bits(forward, getattr(reference, f"{operation}_vjp")(x, *args, **options)[0])
