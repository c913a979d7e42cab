"""The adaptive pools of the reference: hand numbers, finite differences, PyTorch, ties and NaN, layouts."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = np.nan, np.inf
OPERATIONS = ("adaptive_avg_pool", "adaptive_max_pool")

# Sizes of the maps and of the result: dividing, not dividing, one, as it is, larger.
CASES = [
    ((6,), 3),
    ((7,), (3,)),
    ((3,), 7),
    ((6, 4), (2, 1)),
    ((5, 7), (3, None)),
    ((3, 5), 4),
    ((4, 3, 5), (2, 3, 4)),
    ((2, 5, 3), 1),
]


def maps(rng, sizes, dtype=np.float64):
    """Return random maps (2, 3, *sizes) that must not be written to."""
    x = random_arrays(rng, {"x": (2, 3, *sizes)}, dtype)["x"]
    x.flags.writeable = False
    return x


def value_and_pullback(operation, x, output_size, **options):
    """Return y alone and its pullback, from a vjp with or without indices."""
    y, pullback = getattr(reference, f"{operation}_vjp")(x, output_size, **options)
    return (y[0] if isinstance(y, tuple) else y), pullback


def run_torch(operation, x, output_size, dy):
    """Return the results of PyTorch's operation, as arrays, and the gradient of x."""
    torch = pytest.importorskip("torch")
    S = x.ndim - 2
    tensor = torch.tensor(x, requires_grad=True)
    if operation == "adaptive_max_pool":
        results = getattr(torch.nn.functional, f"{operation}{S}d")(tensor, output_size, return_indices=True)
    else:
        results = (getattr(torch.nn.functional, f"{operation}{S}d")(tensor, output_size),)
    results[0].backward(torch.tensor(dy, dtype=tensor.dtype))
    return [result.detach().numpy() for result in results], tensor.grad.numpy()


def assert_max_pool_equals_torch(rng, x, output_size):
    (y, indices), pullback = reference.adaptive_max_pool_vjp(x, output_size)
    dy = rng.standard_normal(y.shape).astype(x.dtype)
    dx = pullback(dy)
    expected, expected_dx = run_torch("adaptive_max_pool", x, output_size, dy)
    assert y.dtype == dx.dtype == x.dtype
    assert_close("exact", y, expected[0])
    assert_same_bits(indices, expected[1])
    assert_close("gemm", dx, expected_dx)


def test_by_hand():
    # Three windows of five places: 0..1, 1..3 and 3..4.
    x = np.array([[[1.0, 3.0, 8.0, 4.0, 4.0]]])
    dy = np.array([[[2.0, 30.0, 400.0]]])
    y, pullback = reference.adaptive_avg_pool_vjp(x, 3)
    assert_same_bits(y, np.array([[[2.0, 5.0, 4.0]]]))
    assert_same_bits(pullback(dy), np.array([[[1.0, 11.0, 10.0, 210.0, 200.0]]]))
    (y, indices), pullback = reference.adaptive_max_pool_vjp(x, 3)
    assert_same_bits(y, np.array([[[3.0, 8.0, 4.0]]]))
    assert_same_bits(indices, np.array([[[1, 2, 3]]]))
    assert_same_bits(pullback(dy), np.array([[[0.0, 2.0, 30.0, 400.0, 0.0]]]))


@pytest.mark.parametrize(("sizes", "output_size"), CASES, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients(rng, operation, sizes, output_size):
    x = maps(rng, sizes)[:1, 1:].copy()
    y, pullback = value_and_pullback(operation, x, output_size)
    dy = rng.standard_normal(y.shape)
    assert_gradients(
        lambda: float((dy * value_and_pullback(operation, x, output_size)[0]).sum()), {"x": x}, {"x": pullback(dy)}
    )


@pytest.mark.parametrize(("sizes", "output_size"), CASES, ids=str)
def test_max_equals_torch(rng, dtype, sizes, output_size):
    assert_max_pool_equals_torch(rng, maps(rng, sizes, dtype), output_size)


@pytest.mark.parametrize(("sizes", "output_size"), CASES, ids=str)
def test_ties_nan_and_infinities_as_torch(rng, dtype, sizes, output_size):
    for values in ([0.0, 1.0], [0.0, 1.0, NAN], [-INF, NAN], [-INF], [-INF, INF, 0.0, -0.0]):
        assert_max_pool_equals_torch(rng, rng.choice(values, (2, 16, *sizes)).astype(dtype), output_size)


@pytest.mark.parametrize(("sizes", "output_size"), CASES, ids=str)
@pytest.mark.parametrize("special", [False, True], ids=["finite", "special"])
def test_average_equals_torch(rng, dtype, sizes, output_size, special):
    x = maps(rng, sizes, dtype)
    if special:
        x = np.where(rng.random(x.shape) < 0.1, rng.choice([NAN, INF, -INF], x.shape), x).astype(dtype)
    y, pullback = reference.adaptive_avg_pool_vjp(x, output_size)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = pullback(dy)
    (expected,), expected_dx = run_torch("adaptive_avg_pool", x.astype(np.float64), output_size, dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("gemm", (y, dx), (expected, expected_dx))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_same_size_is_the_identity(rng, operation):
    x = maps(rng, (4, 3))
    y, pullback = value_and_pullback(operation, x, (None, 3))
    assert_same_bits(y, x)
    assert_same_bits(pullback(x), x)


@pytest.mark.parametrize(("sizes", "layout"), [((5,), "NLC"), ((5, 4), "NHWC"), ((3, 5, 4), "NDHWC")], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_layouts(rng, operation, sizes, layout):
    x = maps(rng, sizes)
    y, pullback = value_and_pullback(operation, x, 2)
    dy = rng.standard_normal(y.shape)
    last_y, last_pullback = value_and_pullback(operation, np.moveaxis(x, 1, -1), 2, layout=layout)
    same_y, _ = value_and_pullback(operation, x, 2, layout="NC" + layout[1:-1])
    assert_same_bits((np.moveaxis(last_y, -1, 1), same_y), (y, y))
    assert_same_bits(np.moveaxis(last_pullback(np.moveaxis(dy, 1, -1)), -1, 1), pullback(dy))


def test_indices_lie_as_y(rng):
    x = maps(rng, (4, 6))
    _, indices = reference.adaptive_max_pool_forward(x, 2)
    _, last = reference.adaptive_max_pool_forward(np.moveaxis(x, 1, -1), 2, layout="NHWC")
    assert_same_bits(last, np.moveaxis(indices, 1, -1))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_pullback_owns_and_is_called_once(rng, operation):
    x = maps(rng, (5, 4)).copy()
    vjp = getattr(reference, f"{operation}_vjp")
    result, pullback = vjp(x, 2)
    assert_same_bits(getattr(reference, f"{operation}_forward")(x, 2), result)
    dy = rng.standard_normal((2, 3, 2, 2))
    dy.flags.writeable = False
    expected = pullback(dy)
    result, pullback = vjp(x, 2)
    for array in (x, *(result if isinstance(result, tuple) else (result,))):
        array[...] = 0
    assert_same_bits(pullback(dy), expected)
    with pytest.raises(RuntimeError, match=f"{operation}_vjp: the pullback was already called"):
        pullback(dy)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", [(0, 3, 5, 4), (2, 0, 5, 4)], ids=str)
def test_empty(operation, shape, dtype):
    y, pullback = value_and_pullback(operation, np.zeros(shape, dtype), (3, None))
    assert (y.shape, y.dtype) == ((*shape[:2], 3, 4), dtype)
    dx = pullback(y)
    assert (dx.shape, dx.dtype) == (shape, dtype)
