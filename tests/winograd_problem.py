"""Convolutions to run by Winograd's algorithm over phases, and their results in float64."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numeric import Array, random_arrays

from fastrnn import ops, reference

#: Shapes of x and weight, and options.
Case: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]


def last(array: Array) -> Array:
    """Return a copy with the channels last."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def first(array: Array) -> Array:
    """Return a copy with the channels first."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def results(arrays: dict[str, Array], dy: Array, *, channels_last: bool = False, **options: Any) -> dict[str, Array]:
    """Return y and all gradients, channels first."""
    x, weights = arrays["x"], {name: arrays[name] for name in ("weight", "bias")}
    if channels_last:
        options["layout"] = "NLC" if x.ndim == 3 else "NHWC"
        x, dy = last(x), last(dy)
    y, pull = ops.conv_vjp(x, **weights, **options, algorithm="winograd")
    dx, grads = pull(dy)
    return {"y": first(y), "dx": first(dx), **grads} if channels_last else {"y": y, "dx": dx, **grads}


def problem(case: Case, rng: np.random.Generator, dtype: Any) -> tuple[dict[str, Array], Array, dict[str, Array]]:
    """Return arguments, dy, and the results in float64."""
    x, weight, options = case
    arrays = random_arrays(rng, {"x": x, "weight": weight, "bias": weight[:1]}, dtype)
    arrays["weight"] /= np.sqrt(weight[1] * 9)  # sums of order 1
    y, pull = reference.conv_vjp(**{name: array.astype(np.float64) for name, array in arrays.items()}, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx, grads = pull(dy.astype(np.float64))
    return arrays, dy, {"y": y, "dx": dx, **grads}
