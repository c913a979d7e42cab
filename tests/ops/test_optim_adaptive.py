"""RMSprop, Adagrad, Adadelta and AMSGrad equal the float64 reference; all optimizers by rows; sums and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, random_arrays
from shapes import FLAT_SIZES
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError, TokenError

NAN, INF = np.nan, np.inf
STEPS = 4
ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
RMSPROP = {"lr": 0.01, "alpha": 0.9, "eps": 1e-8}
ADADELTA = {"lr": 1.0, "rho": 0.9, "eps": 1e-6}
# The operation, the names of what it keeps, and options.
KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "amsgrad": ("adam_step", ("m", "v", "most"), ADAM | {"weight_decay": 0.1}),
    "adamw": ("adam_step", ("m", "v"), ADAM | {"weight_decay": 0.1, "decoupled": True}),
    "rmsprop": ("rmsprop_step", ("square",), RMSPROP),
    "centered": ("rmsprop_step", ("square", "mean"), RMSPROP | {"weight_decay": 0.1}),
    "momentum": ("rmsprop_step", ("square", "mean", "buf"), RMSPROP | {"momentum": 0.9}),
    "adagrad": ("adagrad_step", ("total",), {"lr": 0.1, "eps": 1e-10, "weight_decay": 0.1}),
    "adadelta": ("adadelta_step", ("square", "moved"), ADADELTA | {"weight_decay": 0.1}),
    "sgd": ("sgd_step", ("buf",), {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "plain": ("sgd_step", (), {"lr": 0.1}),
}
each = pytest.mark.parametrize("kind", KINDS)


def run(module: Any, kind: str, param: Array, grads: Any, **more: Any) -> dict[str, Any]:
    """Return the parameter and what is kept after a step with each of the gradients."""
    name, kept, options = KINDS[kind]
    result = {"param": param.copy(), **{slot: np.zeros_like(param) for slot in kept}}
    for index, grad in enumerate(grads):
        count = {"step": index + 1} if name == "adam_step" else {}
        slots = {slot: result[slot] for slot in kept}
        if name == "sgd_step":
            slots.setdefault("buf", None)
        getattr(module, name)(result["param"], grad, *slots.values(), **options, **count, **more)
    return result


def operation(kind: str) -> str:
    return KINDS[kind][0]


@each
def test_equals_reference(kind: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    for size in FLAT_SIZES:
        arrays = random_arrays(rng, {"param": (size,), "grads": (STEPS, size)}, dtype)
        exact = {name: value.astype(np.float64) for name, value in arrays.items()}
        got = run(ops, kind, **arrays)
        assert all(array.dtype == dtype for array in got.values())
        assert_close(operation(kind), got, run(reference, kind, **exact))


@each
def test_threads_give_the_same_bits(kind: str, isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    arrays = random_arrays(rng, {"param": (20_011,), "grads": (2, 20_011)}, dtype)
    got = run(ops, kind, **arrays)
    ops.set_num_threads(1)
    assert_same_bits(run(ops, kind, **arrays), got)


@each
def test_special_values_stay_in_their_elements(kind: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = random_arrays(rng, {"param": (21,), "grads": (STEPS, 21)}, dtype)
    clean = run(ops, kind, **arrays)
    arrays["param"][[2, 17]] = INF, -INF
    arrays["grads"][1, [3, 4, 18]] = NAN, INF, -INF
    got = run(ops, kind, **arrays)
    others = ~np.isin(np.arange(21), (2, 3, 4, 17, 18))
    assert_same_bits({n: v[others] for n, v in got.items()}, {n: v[others] for n, v in clean.items()})
    assert_close(operation(kind), got, run(reference, kind, **arrays))


@each
def test_rows(kind: str, isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    """The rows go the way they would go alone; the others are not touched."""
    arrays = random_arrays(rng, {"param": (200, 7), "grads": (STEPS, 200, 7)}, dtype)
    rows = rng.permutation(200)[:90]
    others = np.setdiff1d(np.arange(200), rows)
    alone = run(ops, kind, arrays["param"][rows], np.ascontiguousarray(arrays["grads"][:, rows]))
    arrays["grads"][:, others] = NAN
    got = run(ops, kind, **arrays, rows=rows)
    assert_same_bits({name: array[rows] for name, array in got.items()}, alone)
    assert_same_bits(got["param"][others], arrays["param"][others])
    assert not any(array[others].any() for name, array in got.items() if name != "param")
    exact = {name: value.astype(np.float64) for name, value in arrays.items()}
    assert_close(operation(kind), got, run(reference, kind, **exact, rows=rows))


def test_row_numbers(isa: str) -> None:
    for rows in ([], np.array([], np.int32), (), [4], np.array([4], np.uint8)):
        param = np.ones((5, 3))
        ops.sgd_step(param, np.ones((5, 3)), None, lr=1.0, rows=rows)
        assert param.sum() == 15 - 3 * len(rows)
    flat = np.ones(5)
    ops.sgd_step(flat, np.ones(5), None, lr=1.0, rows=[3, 1])
    assert_same_bits(flat, np.array([1.0, 0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        ([5], TokenError, r"must be in 0\.\.4, got 5"),
        ([-1], TokenError, r"must be in 0\.\.4, got -1"),
        ([1.0], DTypeError, "must have an integer dtype, got float64"),
        ([1, 3, 1], ArgumentError, "must name each row once, got repeated ones"),
    ],
)
@each
def test_bad_rows_change_nothing(kind: str, rows: Any, error: type[Exception], text: str) -> None:
    param = np.ones((5, 3))
    before = param.copy()
    with pytest.raises(error, match=f"^{operation(kind)}: 'rows' {text}"):
        run(ops, kind, param, np.ones((1, 5, 3)), rows=rows)
    assert_same_bits(param, before)
    with pytest.raises(ShapeError, match=f"^{operation(kind)}: 'rows' must be None for a parameter without axes"):
        run(ops, kind, np.array(1.0), [np.array(1.0)], rows=[0])


@each
def test_errors_change_nothing(kind: str) -> None:
    name, kept, options = KINDS[kind]
    given: dict[str, Any] = {key: np.ones(5) for key in ("param", "grad", *kept)}
    more = options | ({"step": 1} if name == "adam_step" else {}) | ({} if kept else {"buf": None})
    for key in given:
        good = {other: array for other, array in given.items() if other != key}
        cases = [(np.ones(4), ShapeError), (np.ones(5, np.float32), DTypeError), (np.ones(10)[::2], ArgumentError)]
        if key not in ("mean", "most", "param"):
            cases.append((None, DTypeError))
        for value, error in cases:
            if key == "param" and error is not ArgumentError:
                continue
            with pytest.raises(error, match=f"^{name}: '{key}' must "):
                getattr(ops, name)(**good, **{key: value}, **more)
        assert all((array == 1).all() for array in good.values())
    with pytest.raises(ArgumentError, match=f"^{name}: 'lr' must be a finite number, got nan"):
        getattr(ops, name)(**given, **(more | {"lr": NAN}))


# Sums and limits


@pytest.mark.parametrize("size", [*FLAT_SIZES, 1023, 1024, 1025, 40_000])
def test_sum_of_squares(size: int, isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    array = rng.standard_normal(size).astype(dtype)
    got = ops.sum_of_squares(array)
    assert type(got) is float
    exact = np.square(array.astype(np.float64)).sum()
    np.testing.assert_allclose(got, exact, rtol=1e-6 if dtype is np.float32 else 1e-14)
    ops.set_num_threads(1)
    assert ops.sum_of_squares(array) == got


def test_sums_of_what_floats_can_hold(isa: str, dtype: type) -> None:
    assert ops.sum_of_squares(np.full(2000, 1e25, dtype)) == pytest.approx(2e53, rel=1e-5)
    assert ops.sum_of_squares(np.array([1, INF], dtype)) == INF
    assert np.isnan(ops.sum_of_squares(np.array([1, NAN, INF], dtype)))
    assert ops.sum_of_squares(np.ones((3, 4), dtype)[:, ::2]) == 6


@pytest.mark.parametrize("size", [*FLAT_SIZES, 40_000])
def test_scale_and_limit(size: int, isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    array = rng.standard_normal(size).astype(dtype)
    scaled, limited = array.copy(), array.copy()
    ops.scale_values(scaled, 0.3)
    ops.clip_values(limited, 0.5)
    assert_same_bits(scaled, array * dtype(0.3))
    assert_same_bits(limited, np.clip(array, dtype(-0.5), dtype(0.5)))
    special = np.array([NAN, INF, -INF, 0.2, -0.0], dtype)
    ops.clip_values(special, 0.5)
    assert_same_bits(special, np.array([NAN, 0.5, -0.5, 0.2, -0.0], dtype))


def test_what_cannot_be_changed_in_place() -> None:
    fixed = np.ones(3)
    fixed.flags.writeable = False
    for call in (lambda array: ops.scale_values(array, 2), lambda array: ops.clip_values(array, 2)):
        with pytest.raises(ArgumentError, match="_values: 'array' must be C-contiguous, got strides"):
            call(np.ones(6)[::2])
        with pytest.raises(ArgumentError, match="_values: 'array' must be writable"):
            call(fixed)
        with pytest.raises(DTypeError, match="_values: 'array' must"):
            call(np.ones(3, int))
