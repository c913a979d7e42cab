"""What the reference operations share: steps over sequences, affine maps, gradient sums and one-shot pullbacks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
Params: TypeAlias = Mapping[str, Array]
Grads: TypeAlias = dict[str, Array]

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def quietly(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Run `function` without floating point warnings: NaN and infinities are ordinary values here."""

    @functools.wraps(function)
    def run(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return run


class Step(NamedTuple):
    """One step of the time loop: the sequences that are still running and the time each of them is at.

    ``x[step.times, step.rows]`` is the (n, C) input of the step. Padding is never among the indices.
    """

    rows: Array
    times: Array


def steps(T: int, N: int, lengths: ArrayLike | None, reverse: bool) -> Iterator[Step]:
    """Yield the steps in processing order.

    Sequence n takes part in steps s = 0 .. len_n - 1. Step s is at time s, or at len_n - 1 - s if `reverse`.
    """
    ends = np.full(N, T) if lengths is None else np.asarray(lengths)
    for s in range(T):
        rows = np.flatnonzero(s < ends)
        yield Step(rows, ends[rows] - 1 - s if reverse else np.full(len(rows), s))


def zeros_or_out(shape: tuple[int, ...], dtype: np.dtype[Any], out: Array | None) -> Array:
    """Return `out` filled with zeros, or a new array of zeros."""
    if out is None:
        return np.zeros(shape, dtype)
    out[...] = 0
    return out


def copy_or_zeros(value: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a copy of `value`, or zeros if it is None."""
    return np.zeros(shape, dtype) if value is None else np.array(value)


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``x weight^T + bias`` for x (..., C), weight (K, C), bias (K,) or None."""
    product = x @ weight.T
    return product if bias is None else product + bias


def add_affine_grads(sums: Grads, suffix: str, dy: Array, x: Array) -> None:
    """Add the gradients of ``y = x weight^T + bias`` to sums["weight<suffix>"] and, if it is there, to the bias."""
    sums[f"weight{suffix}"] += dy.T @ x
    if f"bias{suffix}" in sums:
        sums[f"bias{suffix}"] += dy.sum(axis=0)


def zeros_like_params(params: Params) -> Grads:
    """Return a zero array for each parameter."""
    return {name: np.zeros(value.shape, value.dtype) for name, value in params.items()}


def add_into(grads: Mapping[str, Array] | None, sums: Grads) -> Grads:
    """Add `sums` into the arrays given in `grads`; names that are missing there keep their own array."""
    result = dict(sums)
    for name, grad in (grads or {}).items():
        if name in sums:
            grad += sums[name]
            result[name] = grad
    return result


def called_once(name: str, pullback: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Return a pullback that drops what it saved after its first successful call and refuses a second one."""
    pending = [pullback]

    @quietly
    def once(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        if not pending:
            raise RuntimeError(f"{name}: the pullback was already called; it may be called once")
        result = pending[0](*args, **kwargs)
        pending.clear()
        return result

    return once
