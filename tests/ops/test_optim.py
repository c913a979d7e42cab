"""The fused optimizer passes equal the float64 reference over several steps, and errors change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, random_arrays
from shapes import FLAT_SIZES
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

STEPS = 5
ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
SGD_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"weight_decay": 0.1},
    "all": {"momentum": 0.5, "dampening": 0.1, "weight_decay": 0.1},
}
ADAM_OPTIONS: dict[str, dict[str, Any]] = {
    "adam": {},
    "decay": {"weight_decay": 0.1},
    "adamw": {"weight_decay": 0.1, "decoupled": True},
    "no memory": {"beta1": 0.0, "beta2": 0.0},
    "large eps": {"eps": 0.1, "lr": 1.0},
}


def run_sgd(module: Any, param: Array, grads: Array, buf: Array | None, **options: Any) -> dict[str, Any]:
    """Return parameter and buffer after a step with each of the gradients."""
    param, buf = param.copy(), None if buf is None else buf.copy()
    for index, grad in enumerate(grads):
        module.sgd_step(param, grad, buf, lr=0.1, first=index == 0, **options)
    return {"param": param} | ({} if buf is None else {"buf": buf})


def run_adam(module: Any, param: Array, grads: Array, **options: Any) -> dict[str, Any]:
    param = param.copy()
    m, v = np.zeros_like(param), np.zeros_like(param)
    for index, grad in enumerate(grads):
        module.adam_step(param, grad, m, v, step=index + 1, **(ADAM | options))
    return {"param": param, "m": m, "v": v}


def run_both(module: Any, param: Array, grads: Array) -> dict[str, Any]:
    """Return the results of Adam and of gradient descent with momentum, with the operation in front of the names."""
    adam = run_adam(module, param, grads)
    sgd = run_sgd(module, param, grads, np.zeros_like(param), momentum=0.9)
    return {f"adam {name}": value for name, value in adam.items()} | {f"sgd {name}": v for name, v in sgd.items()}


@pytest.mark.parametrize("options", SGD_OPTIONS.values(), ids=SGD_OPTIONS)
def test_sgd_equals_reference(options: dict[str, Any], isa: str, dtype: type, rng: np.random.Generator) -> None:
    for size in FLAT_SIZES:
        arrays = random_arrays(rng, {"param": (size,), "grads": (STEPS, size)}, dtype)
        buf = np.full(size, np.nan, dtype) if "momentum" in options else None  # the first step does not read it
        got = run_sgd(ops, **arrays, buf=buf, **options)
        exact = {name: value.astype(np.float64) for name, value in arrays.items()}
        assert_close("sgd_step", got, run_sgd(reference, **exact, buf=buf, **options))


@pytest.mark.parametrize("options", ADAM_OPTIONS.values(), ids=ADAM_OPTIONS)
def test_adam_equals_reference(options: dict[str, Any], isa: str, dtype: type, rng: np.random.Generator) -> None:
    for size in FLAT_SIZES:
        arrays = random_arrays(rng, {"param": (size,), "grads": (STEPS, size)}, dtype)
        exact = {name: value.astype(np.float64) for name, value in arrays.items()}
        assert_close("adam_step", run_adam(ops, **arrays, **options), run_adam(reference, **exact, **options))


def test_adam_after_many_steps(isa: str, dtype: type, rng: np.random.Generator) -> None:
    """The corrections 1 - beta^step lose nothing late in training."""
    arrays = {name: abs(value) for name, value in random_arrays(rng, dict.fromkeys("pgmv", (33,)), dtype).items()}
    exact = {name: value.astype(np.float64) for name, value in arrays.items()}
    for module, given in ((ops, arrays), (reference, exact)):
        module.adam_step(*given.values(), step=100_000, **ADAM)
    assert_close("adam_step", arrays, exact)


@pytest.mark.parametrize("shape", [(), (3, 5), (2, 3, 4), (0, 3)], ids=str)
def test_shapes(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    param, grads = rng.standard_normal(shape), rng.standard_normal((STEPS, *shape))
    param, grads = np.asarray(param), [np.asarray(grad) for grad in grads]
    flat, flat_grads = param.reshape(-1), [grad.reshape(-1) for grad in grads]
    wanted = run_both(ops, flat, flat_grads)
    assert_same_bits(run_both(ops, param, grads), {name: value.reshape(shape) for name, value in wanted.items()})


def test_an_element_has_the_same_bits_anywhere(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = random_arrays(rng, {"param": (37,), "grads": (STEPS, 37)}, dtype)
    whole = run_both(ops, **arrays)
    for first, last in ((0, 1), (5, 12), (20, 37)):
        part = {name: value[..., first:last].copy() for name, value in arrays.items()}
        assert_same_bits(run_both(ops, **part), {name: value[first:last] for name, value in whole.items()})


def test_threads_give_the_same_bits(isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    size = 20_011  # worth a team, and no multiple of anything
    arrays = random_arrays(rng, {"param": (size,), "grads": (2, size)}, dtype)
    got = run_both(ops, **arrays)
    ops.set_num_threads(1)
    assert_same_bits(got, run_both(ops, **arrays))
    exact = {name: value.astype(np.float64) for name, value in arrays.items()}
    assert_close("adam_step", got, run_both(reference, **exact))


def test_special_values_stay_in_their_elements(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = random_arrays(rng, {"param": (21,), "grads": (STEPS, 21)}, dtype)
    clean = run_both(ops, **arrays)
    arrays["param"][[2, 17]] = np.inf, -np.inf
    arrays["grads"][1, [3, 4, 18]] = np.nan, np.inf, -np.inf
    got = run_both(ops, **arrays)
    others = ~np.isin(np.arange(21), (2, 3, 4, 17, 18))
    assert_same_bits({name: value[others] for name, value in got.items()}, {n: v[others] for n, v in clean.items()})
    assert_close("adam_step", got, run_both(reference, **arrays))


def test_gradients_are_only_read(isa: str, rng: np.random.Generator) -> None:
    param, grad, buf = (rng.standard_normal(9) for _ in range(3))
    grad.flags.writeable = False
    ops.sgd_step(param, grad, buf, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    ops.adam_step(param, grad, np.zeros(9), np.zeros(9), step=1, weight_decay=0.1, **ADAM)


def test_without_momentum_the_buffer_stays(isa: str, rng: np.random.Generator) -> None:
    buf = rng.standard_normal(9)
    before = buf.copy()
    ops.sgd_step(np.zeros(9), np.ones(9), buf, lr=0.1)
    assert_same_bits(buf, before)


def test_lr_zero_changes_no_parameter(isa: str, dtype: type, rng: np.random.Generator) -> None:
    param = rng.standard_normal(19).astype(dtype)
    before, grad = param.copy(), np.ones(19, dtype)
    ops.sgd_step(param, grad, None, lr=0.0)
    ops.adam_step(param, grad, np.zeros(19, dtype), np.zeros(19, dtype), step=1, **(ADAM | {"lr": 0.0}))
    assert_same_bits(param, before)


def fixed(size: int) -> Array:
    array = np.zeros(size)
    array.flags.writeable = False
    return array


BAD = [
    ("grad", np.zeros(4), ShapeError, r"must have shape \(5,\), got \(4,\)"),
    ("grad", np.zeros((5, 1)), ShapeError, r"must have shape \(5,\), got \(5, 1\)"),
    ("grad", np.zeros(5, np.float32), DTypeError, "must .*, got .*float32"),
    ("grad", [0.0] * 5, DTypeError, "must .*, got list"),
    ("grad", None, DTypeError, "must .*, got NoneType"),
    ("grad", np.zeros(10)[::2], ArgumentError, "must be C-contiguous"),
    ("param", np.zeros(10)[::2], ArgumentError, "must be C-contiguous"),
    ("param", fixed(5), ArgumentError, "must be writable"),
    ("param", np.zeros(5, np.float16), DTypeError, "must .*, got .*float16"),
    ("param", np.zeros(5, int), DTypeError, "must .*, got .*int64"),
    ("param", np.zeros(5, complex), DTypeError, "must .*, got .*complex128"),
    ("param", [0.0] * 5, DTypeError, "must .*, got list"),
    ("state", np.zeros(4), ShapeError, r"must have shape \(5,\), got \(4,\)"),
    ("state", np.zeros(5, np.float32), DTypeError, "must .*, got .*float32"),
    ("state", fixed(5), ArgumentError, "must be writable"),
]


@pytest.mark.parametrize(("argument", "value", "error", "message"), BAD)
@pytest.mark.parametrize("operation", ["sgd_step", "adam_step"])
def test_errors_change_nothing(operation: str, argument: str, value: Any, error: type[Exception], message: str) -> None:
    states = ["buf"] if operation == "sgd_step" else ["m", "v"]
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9} if operation == "sgd_step" else {"step": 1, **ADAM}
    given: dict[str, Any] = {name: np.ones(5) for name in ("param", "grad", *states)}
    name = states[-1] if argument == "state" else argument
    good = {other: array for other, array in given.items() if other != name}
    with pytest.raises(error, match=f"^{operation}: '{name}' {message}"):
        getattr(ops, operation)(**(given | {name: value}), **options)
    assert all((array == 1).all() for array in good.values())


@pytest.mark.parametrize("step", [0, -1, 1.5, True, "1", None])
def test_adam_refuses_a_bad_step(step: Any) -> None:
    arrays = [np.ones(3) for _ in range(4)]
    with pytest.raises(ArgumentError, match=f"adam_step: 'step' must be a positive int, got {step!r}"):
        ops.adam_step(*arrays, step=step, **ADAM)
    assert all((array == 1).all() for array in arrays)
