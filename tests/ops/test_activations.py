"""Compiled activations and softmax: equal to the float64 reference everywhere, special values, threads, memory layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts
from numpy.testing import assert_array_equal
from shapes import AROUND_WIDTHS, FLAT_SIZES
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.ops.activation import add

NAN, INF = np.nan, np.inf
OPTIONS: dict[str, dict[str, Any]] = {
    "elu": {"alpha": 0.7},
    "hardtanh": {"min_val": -0.5, "max_val": 0.75},
    "leaky_relu": {"negative_slope": 0.3},
    "softplus": {"beta": 2.0, "threshold": 3.0},
}
KINDS = (
    *(
        (kind, {})
        for kind in ("hardsigmoid", "hardswish", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softsign")
    ),
    *((kind, {}) for kind in ("tanh", "gelu", *OPTIONS)),
    ("gelu", {"approximate": "tanh"}),
    *OPTIONS.items(),
)
each_kind = pytest.mark.parametrize(("kind", "params"), KINDS, ids=lambda value: str(value).replace(" ", ""))
# Slopes of this size at most multiply dy.
SOFTMAXES = ("softmax", "log_softmax")


def run(x: Array, dy: Array, kind: str, params: dict[str, Any], module: Any = ops) -> tuple[Array, Array]:
    y, pullback = module.activation_vjp(x, kind, **params)
    return y, pullback(dy)


@each_kind
@pytest.mark.parametrize("size", FLAT_SIZES)
def test_equals_reference(
    kind: str, params: dict[str, Any], size: int, isa: str, dtype: Any, rng: np.random.Generator
) -> None:
    x, dy = (4 * rng.standard_normal((2, size))).astype(dtype)
    y, dx = run(x, dy, kind, params)
    assert y.dtype == dx.dtype == dtype
    wanted, dwanted = run(x.astype(np.float64), dy.astype(np.float64), kind, params, reference)
    assert_close("activation", y, wanted)
    assert_close("activation_vjp", dx, dwanted)
    assert_same_bits(ops.activation_forward(x, kind, **params), y)


# Largest error of y in ULP, as src_c/kernels/activation.h states it.
ULPS = {"elu": 1.6, "silu": 3.6, "mish": 3.9, "softplus": 4.0, "gelu": 7.5}


@pytest.mark.parametrize("kind", ULPS)
def test_largest_error(kind: str, isa: str, dtype: Any) -> None:
    """Also far out, where y is tiny: relative to y itself."""
    least = {"elu": 80.0, "silu": 80.0, "mish": 80.0, "softplus": 80.0, "gelu": 12.5}[kind]
    if kind == "gelu" and isa == "scalar":
        least = 1.0  # x^2 is rounded
    x = np.concatenate([-np.geomspace(1e-6, least, 4000), np.geomspace(1e-6, 19, 4000)]).astype(dtype)
    y = ops.activation_forward(x, kind)
    wanted = high_precision(kind, x)
    errors = np.abs(y.astype(np.longdouble) - wanted) / np.spacing(np.abs(wanted).astype(dtype))
    assert errors.max() <= ULPS[kind], (x[errors.argmax()], errors.max())
    assert errors.max() > 0.4


def high_precision(kind: str, x: Array) -> Array:
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        if kind == "elu":
            return np.where(wide > 0, wide, np.expm1(wide))
        if kind == "silu":
            return wide / (1 + np.exp(-wide))
        if kind == "softplus":
            return np.log1p(np.exp(wide))
        if kind == "mish":
            e = np.exp(wide)
            return wide * (e * (e + 2)) / (e * (e + 2) + 2)
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        values = [v * mpmath.erfc(-v / mpmath.sqrt(2)) / 2 for v in map(mpmath.mpf, x.astype(float).tolist())]
        high = [float(value) for value in values]
        return np.array(high, np.longdouble) + [float(value - part) for value, part in zip(values, high, strict=True)]


@each_kind
def test_special_values_as_in_torch(kind: str, params: dict[str, Any], isa: str, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([0, 3, -3, 6, 1, -1, 0.75, -0.5, 100, -100, 1e-40, 1e30, -1e30, NAN], dtype)
    x = np.tile(x, 16)  # torch too has vectors and tails
    function = getattr(torch.nn.functional, kind, None) or getattr(torch, kind)
    theirs = torch.tensor(x, requires_grad=True)
    wanted = function(theirs, **params)
    wanted.backward(torch.ones_like(theirs))
    y, dx = run(x, np.ones_like(x), kind, params)
    finite = np.abs(np.nan_to_num(x)) < 1e20 if params.get("approximate") == "tanh" else np.full(x.shape, True)
    assert_close("activation", y[finite], wanted.detach().numpy()[finite])
    assert_close("activation_vjp", dx[finite], theirs.grad.numpy()[finite], dtype=np.float32)


@pytest.mark.parametrize(
    "kind", ["relu", "leaky_relu", "elu", "selu", "relu6", "hardtanh", "sigmoid", "tanh", "softplus"]
)
def test_infinities(kind: str, isa: str, dtype: Any) -> None:
    x = np.tile(np.array([INF, -INF], dtype), 20)
    wanted, _ = run(x.astype(np.float64), np.ones(40), kind, {}, reference)
    if kind == "leaky_relu":
        wanted = np.where(x > 0, INF, -INF)
    assert_close("activation", ops.activation_forward(x, kind), wanted)


@each_kind
def test_threads_and_places_do_not_change_bits(
    kind: str, params: dict[str, Any], threads: int, dtype: Any, rng: np.random.Generator
) -> None:
    x, dy = rng.standard_normal((2, 70_001)).astype(dtype)
    y, dx = run(x, dy, kind, params)
    ops.set_num_threads(1)
    assert_same_bits(run(x, dy, kind, params), (y, dx))
    assert_same_bits(run(x[5:18], dy[5:18], kind, params), (y[5:18], dx[5:18]))


@each_kind
def test_any_memory_layout(kind: str, params: dict[str, Any], rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 3, 4, 7))
    wanted = run(x, dy, kind, params)
    for (name, x_form), dy_form in zip(layouts(x).items(), layouts(dy).values(), strict=True):
        before = x_form.copy(), dy_form.copy()
        assert_same_bits(run(x_form, dy_form, kind, params), wanted, f" {name}")
        assert_same_bits((x_form, dy_form), before)


@pytest.mark.parametrize("shape", [(), (1,), (2, 0, 3)], ids=str)
def test_shapes(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = np.asarray(rng.standard_normal(shape))
    for kind, params in KINDS:
        y, dx = run(x, np.ones_like(x), kind, params)
        assert y.shape == dx.shape == shape


@pytest.mark.parametrize(
    ("kind", "params", "argument"),
    [
        ("rely", {}, "kind"),
        (None, {}, "kind"),
        ("relu", {"alpha": 1.0}, "alpha"),
        ("elu", {"alpha": "1"}, "alpha"),
        ("elu", {"alpha": NAN}, "alpha"),
        ("gelu", {"approximate": "yes"}, "approximate"),
        ("softplus", {"beta": 0}, "beta"),
        ("softplus", {"threshold": INF}, "threshold"),
        ("hardtanh", {"min_val": 2.0}, "max_val"),
        ("leaky_relu", {"negative_slope": None}, "negative_slope"),
    ],
)
def test_bad_options(kind: Any, params: dict[str, Any], argument: str) -> None:
    for name in ("activation_forward", "activation_vjp"):
        with pytest.raises(ArgumentError, match=f"^{name}: '{argument}' must .*, got "):
            getattr(ops, name)(np.zeros(3), kind, **params)


@pytest.mark.parametrize("size", [0, 2, 17, 70_001])
def test_sums(size: int, isa: str, threads: int, dtype: Any, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, size)).astype(dtype)
    assert_array_equal(add(a, b, np.empty_like(a)), a + b)
    in_place = a.copy()
    assert add(in_place, b, in_place) is in_place
    assert_array_equal(in_place, a + b)
    assert_array_equal(add(a[::2], b[::2], np.empty_like(a[::2])), a[::2] + b[::2])
    with pytest.raises(ValueError, match="shape"):
        add(a, b, np.empty(size + 1, dtype))


def test_bad_arrays(rng: np.random.Generator) -> None:
    for name in ("activation_forward", "activation_vjp"):
        with pytest.raises(DTypeError, match=f"^{name}: 'x' must "):
            getattr(ops, name)(np.zeros(3, int), "relu")
    _, pullback = ops.activation_vjp(np.ones(3), "relu")
    for bad, error in ((np.ones(4), ShapeError), (np.ones(3, np.float32), DTypeError)):
        with pytest.raises(error, match="^activation_vjp: 'dy' must "):
            pullback(bad)
    assert_same_bits(pullback(np.ones(3)), np.ones(3))  # what was refused did not count
    with pytest.raises(RuntimeError, match="once"):
        pullback(np.ones(3))


def both(x: Array, dy: Array, operation: str, axis: int = -1, module: Any = ops) -> tuple[Array, Array]:
    y, pullback = getattr(module, f"{operation}_vjp")(x, axis)
    return y, pullback(dy)


@pytest.mark.parametrize("operation", SOFTMAXES)
@pytest.mark.parametrize("columns", [1, 2, *AROUND_WIDTHS, 31, 63, 64, 65, 101, 1000, 20011])
def test_softmax_equals_reference(operation: str, columns: int, isa: str, dtype: Any, rng: np.random.Generator) -> None:
    x, dy = (3 * rng.standard_normal((2, 5, columns))).astype(dtype)
    y, dx = both(x, dy, operation)
    wanted, dwanted = both(x.astype(np.float64), dy.astype(np.float64), operation, module=reference)
    assert_close("softmax", y, wanted)
    assert_close("softmax", dx, dwanted)
    assert_same_bits(getattr(ops, f"{operation}_forward")(x), y)


@pytest.mark.parametrize("operation", SOFTMAXES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_softmax_along_any_axis(operation: str, axis: int, threads: int, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 13, 40, 31))
    y, dx = both(x, dy, operation, axis)
    wanted, dwanted = both(x, dy, operation, axis, reference)
    assert_close("softmax", y, wanted)
    assert_close("softmax", dx, dwanted)
    ops.set_num_threads(1)
    assert_same_bits(both(x, dy, operation, axis), (y, dx))
    assert_same_bits(getattr(ops, f"{operation}_forward")(x, axis), y)


@pytest.mark.parametrize("columns", [5, 16, 21, 70])
@pytest.mark.parametrize("operation", SOFTMAXES)
@pytest.mark.parametrize(
    "special",
    [{0: 1e30, 1: -1e30}, {0: -INF}, dict.fromkeys(range(70), -INF), {0: INF}, {0: INF, 1: -INF}, {0: NAN}, {-1: NAN}],
    ids=str,
)
def test_special_rows_as_in_torch(
    special: dict[int, float], operation: str, columns: int, isa: str, dtype: Any, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    x, dy = rng.standard_normal((2, 3, columns)).astype(dtype)
    clean = both(x, dy, operation)
    for place, value in special.items():
        if place < columns:
            x[1, place] = value
    theirs = torch.tensor(x, requires_grad=True)
    wanted = getattr(torch, operation)(theirs, -1)
    wanted.backward(torch.tensor(dy))
    y, dx = both(x, dy, operation)
    assert_close("softmax", y, wanted.detach().numpy())
    assert_close("softmax", dx, theirs.grad.numpy())
    assert_same_bits((y[[0, 2]], dx[[0, 2]]), (clean[0][[0, 2]], clean[1][[0, 2]]))


@pytest.mark.parametrize("operation", SOFTMAXES)
def test_softmax_of_any_memory_layout(operation: str, rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((2, 3, 4, 7))
    wanted = both(x, dy, operation, 1)
    for (name, x_form), dy_form in zip(layouts(x).items(), layouts(dy).values(), strict=True):
        assert_same_bits(both(x_form, dy_form, operation, 1), wanted, f" {name}")


@pytest.mark.parametrize("operation", SOFTMAXES)
def test_softmax_shapes_and_bad_input(operation: str) -> None:
    for shape in ((1,), (0,), (3, 0), (0, 3), (2, 0, 4)):
        for axis in range(len(shape)):
            y, dx = both(np.ones(shape), np.ones(shape), operation, axis)
            assert y.shape == dx.shape == shape
    for name in (f"{operation}_forward", f"{operation}_vjp"):
        with pytest.raises(ShapeError, match=f"^{name}: 'x' must .*, got "):
            getattr(ops, name)(np.float64(1))
        for axis in (2, -3, 1.0, None):
            with pytest.raises(ArgumentError, match=f"^{name}: 'axis' must .*, got "):
                getattr(ops, name)(np.ones((2, 3)), axis)
        with pytest.raises(DTypeError, match=f"^{name}: 'x' must .*, got "):
            getattr(ops, name)([True])
    _, pullback = getattr(ops, f"{operation}_vjp")(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=f"^{operation}_vjp: 'dy' must "):
        pullback(np.ones((3, 2)))
    pullback(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="once"):
        pullback(np.ones((2, 3)))
