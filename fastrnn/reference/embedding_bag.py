"""What bags of rows of a table come to: their sum, mean or maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._common import Array, Grads, called_once, quietly


def _bags(
    tokens: Array, offsets: Array | None, lengths: Array | None, padding: int | None
) -> Iterator[tuple[Array, Array]]:
    """Yield the positions of each bag, in flat order, and their tokens; padding is left out."""
    flat = tokens.reshape(-1)
    if offsets is None:
        N, L = tokens.shape
        starts = np.arange(N) * L
        ends = starts + (np.full(N, L) if lengths is None else lengths)
    else:
        starts, ends = offsets, np.append(offsets[1:], len(flat))
    for start, end in zip(starts, ends, strict=True):
        positions = np.arange(start, end)
        positions = positions if padding is None else positions[flat[start:end] != padding]
        yield positions, flat[positions]


def _pooled(rows: Array, factors: Array, mode: str) -> tuple[Array, Array]:
    """Return what the rows of one bag come to, and its derivative with respect to each element of them."""
    if mode == "max":
        share = np.zeros_like(rows)
        if not len(rows):
            return np.zeros(rows.shape[1], rows.dtype), share
        last_nan = len(rows) - 1 - np.isnan(rows)[::-1].argmax(axis=0)
        place = np.where(np.isnan(rows).any(axis=0), last_nan, rows.argmax(axis=0))
        share[place, np.arange(rows.shape[1])] = 1
        return rows[place, np.arange(rows.shape[1])], share
    total = factors.sum() if mode == "mean" else 1
    shares = factors / (total if total != 0 else 1) * (total != 0)
    return (shares[:, None] * rows).sum(axis=0), np.repeat(shares[:, None], rows.shape[1], axis=1)


@quietly
def embedding_bag_forward(
    tokens: Array,
    weight: Array,
    offsets: Array | None = None,
    *,
    mode: str = "mean",
    weights: Array | None = None,
    lengths: Array | None = None,
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
    """
    return embedding_bag_vjp(
        tokens, weight, offsets, mode=mode, weights=weights, lengths=lengths, padding_idx=padding_idx
    )[0]


@quietly
def embedding_bag_vjp(
    tokens: Array,
    weight: Array,
    offsets: Array | None = None,
    *,
    mode: str = "mean",
    weights: Array | None = None,
    lengths: Array | None = None,
    padding_idx: int | None = None,
) -> tuple[Array, Callable[..., tuple[Any, Grads]]]:
    """Pool bags of embeddings and return the pullback. Arguments are those of `embedding_bag_forward`.

    Returns
    -------
    y : ndarray (N, E)
    pullback : ``pullback(dy, *, grads=None) -> (dweights, grads)``
        dy (N, E). dweights has the shape of weights, zero where positions are left out, or is None without them. grads
        is {"weight": ndarray (V, E)}, the array of the mapping `grads` if it has one; only the rows of used tokens are
        touched. For "max" a column's gradient goes to the first of equal rows, and to the last NaN. May be called once.
    """
    padding = None if padding_idx is None else padding_idx % len(weight)
    factors = np.ones(tokens.size, weight.dtype) if weights is None else np.array(weights).reshape(-1)
    bags = list(_bags(np.array(tokens), offsets, lengths, padding))
    table, shape = np.array(weight), np.shape(tokens)
    pooled = [_pooled(table[used], factors[positions], mode) for positions, used in bags]
    y = np.array([result for result, _ in pooled], weight.dtype).reshape(len(bags), weight.shape[1])
    kept = y.copy()

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Any, Grads]:
        dweight = np.zeros(table.shape, table.dtype) if grads is None or "weight" not in grads else grads["weight"]
        dfactors = np.zeros(factors.size, table.dtype)
        for b, (positions, used) in enumerate(bags):
            np.add.at(dweight, used, pooled[b][1] * dy[b])
            total = factors[positions].sum() if mode == "mean" else 1
            center = kept[b] if mode == "mean" else 0
            dfactors[positions] = (total != 0) * ((table[used] - center) @ dy[b]) / (total if total != 0 else 1)
        return None if weights is None else dfactors.reshape(shape), {"weight": dweight}

    return y, called_once("embedding_bag_vjp", pullback)
