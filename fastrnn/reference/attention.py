"""Attention: a weighted mean over the steps of a memory, by how well each fits a query."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ._common import Array, Grads, add_into, called_once, quietly, zeros_like_params

Pair = tuple[Array, Array]
Pullback = Callable[..., tuple[Array, Array, Grads]]


def _by_sample(array: Array, batch_first: bool) -> Array:
    """View (N, Q), (steps, N, Q) or (N, steps, Q) as (N, steps, Q)."""
    if array.ndim == 2:
        return array[:, None]
    return array if batch_first else array.swapaxes(0, 1)


def _factor(scale: bool | float, score: str, params: Mapping[str, Array], M: int) -> float:
    width = len(params["weight_score"]) if score == "additive" else M
    return 1 / math.sqrt(width) if scale is True else 1.0 if scale is False else float(scale)


def _scores(q: Array, m: Array, params: Mapping[str, Array], score: str) -> Array:
    """Return (queries, steps) for the queries (queries, Q) and the steps (steps, M) of one sample."""
    if score == "dot":
        return np.asarray(q @ m.T)
    if score == "general":
        return np.asarray(q @ params["weight"].T @ m.T)
    return np.asarray(np.tanh(_sums(q, m, params)) @ params["weight_score"])


def _sums(q: Array, m: Array, params: Mapping[str, Array]) -> Array:
    return np.asarray((q @ params["weight_query"].T)[:, None] + m @ params["weight_memory"].T)


def _softmax(s: Array) -> Array:
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@quietly
def attention_forward(
    query: Array,
    memory: Array,
    params: Mapping[str, Array] | None = None,
    *,
    score: str = "dot",
    scale: bool | float = False,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> Pair:
    """Attend from each query to the steps of its sample's memory.

        dot         s_t = f query . memory_t
        general     s_t = f query . weight^T memory_t
        additive    s_t = f weight_score . tanh(weight_query query + weight_memory memory_t)

        weights = softmax(s) over t < length, else exactly 0            context = sum_t weights_t memory_t

    Parameters
    ----------
    query : ndarray (N, Q), one for each sample, or (Tq, N, Q), float32 or float64
    memory : ndarray (T, N, M), T >= 1
    params : mapping
        "weight" (M, Q) for "general"; "weight_query" (A, Q), "weight_memory" (A, M), "weight_score" (A,) for "additive".
    score : "dot" (Q = M), "general" or "additive"
    scale : bool or float
        f. True stands for one over the root of M, or of A for "additive"; False for 1.
    lengths : int array (N,), optional. Number of valid steps of each memory; all T if None. Others are never read.
    batch_first : bool. query is (N, Tq, Q), memory (N, T, M), and the results are alike.

    Returns
    -------
    context : ndarray (N, M) or (Tq, N, M)
    weights : ndarray (N, T) or (Tq, N, T)
    """
    given = params or {}
    rows = memory if batch_first else memory.swapaxes(0, 1)
    N, T, M = rows.shape
    queries, factor = _by_sample(query, batch_first), _factor(scale, score, given, M)
    ends = np.full(N, T) if lengths is None else np.asarray(lengths)
    context = np.zeros((*query.shape[:-1], M), query.dtype)
    weights = np.zeros((*query.shape[:-1], T), query.dtype)
    for n, end in enumerate(ends):
        w = _softmax(factor * _scores(queries[n], rows[n, :end], given, score))
        _by_sample(weights, batch_first)[n, :, :end] = w
        _by_sample(context, batch_first)[n] = w @ rows[n, :end]
    return context, weights


@quietly
def attention_vjp(
    query: Array,
    memory: Array,
    params: Mapping[str, Array] | None = None,
    *,
    score: str = "dot",
    scale: bool | float = False,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> tuple[Pair, Pullback]:
    """Attend, and return the pullback. Arguments are those of `attention_forward`.

        dw_t = dcontext . memory_t + dweights_t         ds = f w (dw - sum(w dw))
        dot         dquery = sum_t ds_t memory_t        dmemory_t = w_t dcontext + ds_t query
        general     the same with weight query in place of query
        additive    dz_t = ds_t weight_score (1 - tanh(z_t)**2) for the sum z_t, which goes back to query and memory

    Returns
    -------
    (context, weights) : as from `attention_forward`
    pullback : ``pullback(dcontext, dweights=None, *, grads=None) -> (dquery, dmemory, grads)``
    """
    given = {name: np.array(value) for name, value in (params or {}).items()}
    result = attention_forward(query, memory, given, score=score, scale=scale, lengths=lengths, batch_first=batch_first)
    query, memory, saved = query.copy(), memory.copy(), _by_sample(result[1].copy(), batch_first)
    rows, queries = memory if batch_first else memory.swapaxes(0, 1), _by_sample(query, batch_first)
    factor = _factor(scale, score, given, rows.shape[-1])
    ends = np.full(len(rows), rows.shape[1]) if lengths is None else np.array(lengths)

    def pullback(
        dcontext: Array, dweights: Array | None = None, *, grads: Grads | None = None
    ) -> tuple[Array, Array, Grads]:
        dquery, dmemory, sums = np.zeros_like(query), np.zeros_like(memory), zeros_like_params(given)
        dqueries, drows = _by_sample(dquery, batch_first), dmemory if batch_first else dmemory.swapaxes(0, 1)
        dw_given = np.zeros(saved.shape, query.dtype) if dweights is None else _by_sample(dweights, batch_first)
        for n, end in enumerate(ends):
            m, q, w = rows[n, :end], queries[n], saved[n, :, :end]
            dc = _by_sample(dcontext, batch_first)[n]
            dw = dc @ m.T + dw_given[n, :, :end]
            ds = factor * w * (dw - (w * dw).sum(axis=-1, keepdims=True))
            dqueries[n], dm = _pull_scores(ds, q, m, given, score, sums)
            drows[n, :end] = w.T @ dc + dm
        return dquery, dmemory, add_into(grads, sums)

    return result, called_once("attention_vjp", pullback)


def _pull_scores(ds: Array, q: Array, m: Array, params: Mapping[str, Array], score: str, sums: Grads) -> Pair:
    """Return dquery and dmemory of one sample from ds (queries, steps); add to the gradients of the parameters."""
    if score == "dot":
        return ds @ m, ds.T @ q
    if score == "general":
        projected, d_projected = q @ params["weight"].T, ds @ m
        sums["weight"] += d_projected.T @ q
        return d_projected @ params["weight"], ds.T @ projected
    g = np.tanh(_sums(q, m, params))
    dz = ds[..., None] * params["weight_score"] * (1 - g * g)
    sums["weight_score"] += (ds[..., None] * g).sum(axis=(0, 1))
    sums["weight_query"] += dz.sum(axis=1).T @ q
    sums["weight_memory"] += dz.sum(axis=0).T @ m
    return dz.sum(axis=1) @ params["weight_query"], dz.sum(axis=0) @ params["weight_memory"]
