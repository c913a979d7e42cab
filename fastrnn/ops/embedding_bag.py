"""What bags of rows of a table come to: their sum, mean or maximum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import IntArray, as_array, as_float_array, as_integers, as_lengths, as_tokens, check_shape, choice
from fastrnn._kernels._embedding import bags, bags_backward, gather
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, LengthsError, ShapeError, TokenError
from fastrnn.ops._recurrent import check_grads, once
from fastrnn.ops.embedding import check_dy, row_number

Array = NDArray[Any]
Grads = dict[str, Array]

__all__ = ["embedding_bag_forward", "embedding_bag_vjp"]

MODES = ("mean", "sum", "max")


@dataclass(frozen=True)
class _Bags:
    """A call, checked: the positions that count, bag after bag."""

    name: str
    table: Array
    mode: str
    shape: tuple[int, ...]  # of the tokens
    tokens: IntArray  # (n,)
    start: NDArray[np.intp]  # (N + 1,)
    counted: NDArray[np.bool_] | None  # which of all positions these are; None: all
    factors: Array | None  # (n,)
    scale: Array | None  # (N,)

    @property
    def bag_of(self) -> NDArray[np.intp]:
        """The bag of each position."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def pooled(self) -> tuple[Array, NDArray[np.int32] | None]:
        """Return y, and for "max" the places of the largest."""
        shape = (len(self.start) - 1, self.table.shape[1])
        y = empty(shape, self.table.dtype)
        places = empty(shape, np.int32) if self.mode == "max" else None
        bags(self.tokens, self.start, self.table, self.factors, self.scale, y, places)
        return y, places


def _checked(
    name: str,
    tokens: ArrayLike,
    weight: Array,
    offsets: ArrayLike | None,
    mode: str,
    weights: Array | None,
    lengths: ArrayLike | None,
    padding_idx: int | None,
) -> _Bags:
    choice(name, "mode", mode, MODES)
    table = np.asarray(as_float_array(name, "weight", weight), order="C")
    check_shape(name, "weight", table, "(V, E)")
    padding = row_number(name, "padding_idx", padding_idx, len(table))
    used, start, counted = _positions(name, tokens, offsets, lengths, len(table))
    factors = None
    if weights is not None:
        if mode == "max":
            raise ArgumentError(f"{name}: 'weights' must be None for mode 'max', got {type(weights).__name__}")
        factors = np.ascontiguousarray(as_array(name, "weights", weights, table.dtype))
        if factors.shape != used.shape:
            raise ShapeError(f"{name}: 'weights' must have shape {used.shape}, got {factors.shape}")
    if padding is not None:
        counted = (used != padding) if counted is None else counted & (used != padding)
    shape, used = used.shape, used.reshape(-1)
    factors = None if factors is None else factors.reshape(-1)
    if counted is not None:
        counted = counted.reshape(-1)
        start = np.concatenate(([0], np.cumsum(counted)))[start]
        used, factors = used[counted], None if factors is None else factors[counted]
    if mode == "max" and len(start) > 1 and np.diff(start).max() >= 1 << 24:
        raise ShapeError(f"{name}: 'tokens' must have less than {1 << 24} in a bag for mode 'max', got {used.size}")
    scale = _mean_scale(start, factors, table.dtype) if mode == "mean" else None
    return _Bags(name, table, mode, shape, used, start.astype(np.intp), counted, factors, scale)


def _positions(
    name: str, tokens: ArrayLike, offsets: ArrayLike | None, lengths: ArrayLike | None, rows: int
) -> tuple[IntArray, IntArray, NDArray[np.bool_] | None]:
    """Return the tokens, where each bag starts among all of them, and which of them are inside their bag."""
    if offsets is None:
        shape = as_integers(name, "tokens", tokens).shape
        if len(shape) != 2:
            raise ShapeError(f"{name}: 'tokens' must have shape (N, L), or (n,) beside 'offsets', got {shape}")
        N, L = shape
        inside = None if lengths is None else np.arange(L) < as_lengths(name, lengths, N, L)[:, None]
        return as_tokens(name, "tokens", tokens, rows, counted=inside), np.arange(N + 1) * L, inside
    if lengths is not None:
        raise LengthsError(f"{name}: 'lengths' must be None beside 'offsets', got {lengths!r}")
    used = as_tokens(name, "tokens", tokens, rows)
    check_shape(name, "tokens", used, "(n)")
    starts = as_tokens(name, "offsets", offsets, len(used) + 1)
    check_shape(name, "offsets", starts, "(N)")
    if (starts[:1] != 0).any() or (np.diff(starts) < 0).any() or (len(used) and not len(starts)):
        raise TokenError(f"{name}: 'offsets' must be from 0 in increasing order, got {starts.tolist()}")
    return used, np.append(starts, len(used)), None


def _mean_scale(start: IntArray, factors: Array | None, dtype: Any) -> Array:
    """Return one over the sum of the factors of each bag, or zero where there is no such number."""
    counts = np.diff(start)
    bag_of = np.repeat(np.arange(len(counts)), counts)
    sums: Array = counts if factors is None else np.bincount(bag_of, weights=factors, minlength=len(counts))
    scale: Array = np.divide(1, sums, out=np.zeros(len(counts)), where=sums != 0).astype(dtype)
    return scale


def embedding_bag_forward(
    tokens: ArrayLike,
    weight: Array,
    offsets: ArrayLike | None = None,
    *,
    mode: str = "mean",
    weights: Array | None = None,
    lengths: ArrayLike | None = None,
    padding_idx: int | None = None,
) -> Array:
    """Return what bags of rows of a table come to.

        sum    y[b] = sum over the positions i of bag b of weights[i] * weight[tokens[i]]
        mean   y[b] = that sum / the sum of weights[i], which is their count without weights
        max    y[b] = the largest of weight[tokens[i]] in each column, NaN before any number

    Empty bags, and for "mean" bags whose weights sum to zero, come to zeros.

    Parameters
    ----------
    tokens : int array (N, L), a bag in each row; or (n,), all bags one after another
    weight : ndarray (V, E), float32 or float64
    offsets : int array (N,) beside tokens (n,). Where each bag starts; the first at 0.
    mode : "mean", "sum" or "max"
    weights : ndarray, shape of tokens, optional; not for "max". Of each position, such as TF-IDF.
    lengths : int array (N,) in 1..L, optional. Beside tokens (N, L): positions past them are not read.
    padding_idx : int in -V..V-1, optional. Its positions are left out.

    Returns
    -------
    y : ndarray (N, E)

    Raises
    ------
    ShapeError, DTypeError, TokenError, LengthsError, ArgumentError
    """
    name = "embedding_bag_forward"
    return _checked(name, tokens, weight, offsets, mode, weights, lengths, padding_idx).pooled()[0]


def embedding_bag_vjp(
    tokens: ArrayLike,
    weight: Array,
    offsets: ArrayLike | None = None,
    *,
    mode: str = "mean",
    weights: Array | None = None,
    lengths: ArrayLike | None = None,
    padding_idx: int | None = None,
) -> tuple[Array, Callable[..., tuple[Array | None, Grads]]]:
    """Pool bags of embeddings and return the pullback. Arguments are those of `embedding_bag_forward`.

    Returns
    -------
    y : ndarray (N, E)
    pullback : ``pullback(dy, *, grads=None) -> (dweights, grads)``
        dy (N, E). dweights has the shape of weights, zero where positions are left out, or is None without them. grads
        is {"weight": ndarray (V, E)}, the array of the mapping `grads` if it has one; only the rows of used tokens are
        touched. For "max" a column's gradient goes to the first of equal rows, and to the last NaN. May succeed
        once; a second call raises RuntimeError.

    Raises
    ------
    ShapeError, DTypeError, TokenError, LengthsError, ArgumentError
    """
    name = "embedding_bag_vjp"
    call = _checked(name, tokens, weight, offsets, mode, weights, lengths, padding_idx)
    y, places = call.pooled()
    shape, dtype = call.table.shape, call.table.dtype
    used = call.tokens.copy()
    factors = None if call.factors is None else call.factors.copy()
    rows, kept = None, y if factors is None else y.copy()
    if factors is not None:  # their gradient takes the rows, and for "mean" the result
        rows = empty((used.size, shape[1]), dtype)
        gather(used, call.table, rows)

    def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> tuple[Array | None, Grads]:
        dy_rows = check_dy(name, dy, y.shape, dtype)
        sums = check_grads(name, {"weight": shape}, grads, dtype)
        grad = sums["weight"]
        work = grad if grad.flags.c_contiguous else np.ascontiguousarray(grad)
        bags_backward(used, call.start, work, factors, call.scale, dy_rows, places)
        if work is not grad:
            grad[...] = work
        return None if rows is None else _factor_gradients(call, rows, kept, dy_rows), sums

    return y, once(name, pullback)


def _factor_gradients(call: _Bags, rows: Array, y: Array, dy: Array) -> Array:
    """Return the gradients of the weights of all positions, in the shape of the tokens."""
    bag_of = call.bag_of
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        gradients: Array = np.einsum("ie,ie->i", rows, dy[bag_of])
        if call.scale is not None:
            gradients = (gradients - np.einsum("be,be->b", y, dy)[bag_of]) * call.scale[bag_of]
    if call.counted is None:
        return gradients.reshape(call.shape)
    every = np.zeros(call.counted.size, dy.dtype)
    every[call.counted] = gradients
    return every.reshape(call.shape)
