"""Attention: a weighted mean over the steps of a memory, by how well each fits a query."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import as_array, as_fitting, as_float_array, as_lengths, check_shape, choice, finite_float, flag
from fastrnn._kernels._attention import Memory
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.ops._recurrent import check_grads, once
from fastrnn.ops.linear import PackedLinear, linear_forward, linear_vjp

Array = NDArray[Any]
Grads = dict[str, Array]
Pair = tuple[Array, Array]

__all__ = ["attention_forward", "attention_memory", "attention_vjp"]

SCORES = ("dot", "general", "additive")
#: The parameters of each score.
PARAMS: dict[str, tuple[str, ...]] = {
    "dot": (),
    "general": ("weight",),
    "additive": ("weight_query", "weight_memory", "weight_score"),
}


def _check_params(
    name: str, params: Mapping[str, Any] | None, score: str, dtype: Any, M: int, train: bool
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return the parameters, matrices packed, and their shapes."""
    if params is not None and not isinstance(params, Mapping):
        raise ArgumentError(f"{name}: 'params' must be a mapping of arrays, got {type(params).__name__}")
    given = params or {}
    if set(given) != set(PARAMS[score]):
        wanted = ", ".join(PARAMS[score]) or "nothing"
        raise ArgumentError(
            f"{name}: 'params' must hold {wanted} for {score!r}, got {', '.join(map(str, given)) or 'nothing'}"
        )
    packed: dict[str, Any] = {}
    for key in PARAMS[score]:
        value = given[key]
        if key == "weight_score":
            packed[key] = as_array(name, key, value, dtype).copy()
            check_shape(name, key, packed[key], "(A)")
            continue
        if not isinstance(value, PackedLinear):
            matrix = as_array(name, key, value, dtype)
            check_shape(
                name, key, matrix, "(M, Q)" if key == "weight" else "(A, Q)" if key == "weight_query" else "(A, M)"
            )
            value = PackedLinear(name, matrix, None, train)
        elif value.weights.dtype != dtype:
            raise DTypeError(f"{name}: '{key}' must have dtype {dtype}, got {value.weights.dtype}")
        packed[key] = value
    shapes = {key: value.shapes["weight"] if key != "weight_score" else value.shape for key, value in packed.items()}
    _check_sizes(name, shapes, M)
    return packed, shapes


def _check_sizes(name: str, shapes: Mapping[str, tuple[int, ...]], M: int) -> None:
    if "weight" in shapes and shapes["weight"][0] != M:
        raise ShapeError(f"{name}: 'weight' must have shape (M={M}, Q), got {shapes['weight']}")
    if "weight_score" in shapes:
        A = shapes["weight_score"][0]
        for key, width in (("weight_query", "Q"), ("weight_memory", f"M={M}")):
            if shapes[key][0] != A or (key == "weight_memory" and shapes[key][1] != M):
                raise ShapeError(f"{name}: '{key}' must have shape (A={A}, {width}), got {shapes[key]}")


class AttentionMemory:
    """The memory of a batch, read by any number of queries; what `attention_memory` returns.

    The keys of the additive form are computed once. The pullbacks of all queries add up what the memory is due; after the last
    of them `pull_back` returns it.
    """

    def __init__(
        self,
        name: str,
        memory: Array,
        params: Mapping[str, Any] | None,
        score: str,
        scale: bool | float,
        lengths: ArrayLike | None,
        batch_first: bool,
        train: bool,
        packed: bool = True,
    ) -> None:
        self._name = name
        self._score = choice(name, "score", score, SCORES)
        self._batch_first = flag(name, "batch_first", batch_first)
        array = np.asarray(as_float_array(name, "memory", memory), order="C")
        check_shape(name, "memory", array, "(N, T, M)" if batch_first else "(T, N, M)")
        self._N, self._T = array.shape[:2] if batch_first else array.shape[1::-1]
        self._M, self.dtype = array.shape[2], array.dtype
        if self._T == 0 or self._M == 0:
            raise ShapeError(f"{name}: 'memory' must have at least one step and one feature, got {array.shape}")
        self._params, self._shapes = _check_params(name, params, self._score, self.dtype, self._M, train)
        ends = None if lengths is None else as_lengths(name, lengths, self._N, self._T).copy()
        # Steps of one sample side by side: with a power of two between them they would displace each other in the caches.
        rows = array if batch_first else array.swapaxes(0, 1)
        self._values = np.array(rows, order="C") if train else np.ascontiguousarray(rows) if packed else rows
        self._valid = None if ends is None else np.arange(self._T) < ends[:, None]
        self._pull_keys: Callable[..., Any] | None = None
        keys = self._make_keys(train) if self._score == "additive" else self._values
        self._A = keys.shape[2]
        self._kernel = Memory(
            keys,
            self._values,
            np.full(self._N, self._T) if ends is None else ends,
            self._params.get("weight_score"),
            self._factor(scale),
        )
        self._lock = threading.Lock()
        self._done = False
        self._dvalues: Array | None = None
        self._dkeys: Array | None = None

    def _factor(self, scale: bool | float) -> float:
        if isinstance(scale, (bool, np.bool_)):
            width = len(self._params["weight_score"]) if self._score == "additive" else self._M
            return 1 / math.sqrt(max(width, 1)) if scale else 1.0
        return finite_float(self._name, "scale", scale)

    def _make_keys(self, train: bool) -> Array:
        """Return the keys (N, T, A); those past a length are zero."""
        weight = self._params["weight_memory"]
        rows = self._values if self._valid is None else self._values[self._valid]
        if train:
            found, self._pull_keys = linear_vjp(rows, weight)
        else:
            found = linear_forward(rows, weight)
        if self._valid is None:
            return found
        keys = np.zeros((*self._values.shape[:2], found.shape[-1]), self.dtype)
        keys[self._valid] = found
        return keys

    def _by_sample(self, array: Array) -> Array:
        """View (N, Q), (Tq, N, Q) or (N, Tq, Q) as (N, Tq, Q)."""
        if array.ndim == 2:
            return array[:, None]
        return array if self._batch_first else array.swapaxes(0, 1)

    def _checked(self, query: Array) -> Array:
        array = np.asarray(as_array(self._name, "query", query, self.dtype), order="C")
        matrix = self._params.get("weight", self._params.get("weight_query"))
        Q = self._M if matrix is None else matrix.weights.inputs
        if array.ndim not in (2, 3) or array.shape[-1] != Q or self._samples(array) != self._N:
            many = f"(N={self._N}, Tq, Q={Q})" if self._batch_first else f"(Tq, N={self._N}, Q={Q})"
            raise ShapeError(f"{self._name}: 'query' must have shape (N={self._N}, Q={Q}) or {many}, got {array.shape}")
        return array

    def _samples(self, query: Array) -> int:
        shape: tuple[int, ...] = query.shape
        return shape[0] if self._batch_first or query.ndim == 2 else shape[1]

    def _attend(self, query: Array, projected: Array) -> Pair:
        context = empty((*query.shape[:-1], self._M), self.dtype)
        weights = empty((*query.shape[:-1], self._T), self.dtype)
        views = [self._by_sample(array) for array in (projected, weights, context)]
        if query.size and self._N:
            self._kernel.attend(*views)
        return context, weights

    def forward(self, query: Array) -> Pair:
        """Return (context, weights) for query (N, Q) or (Tq, N, Q)."""
        array = self._checked(query)
        matrix = self._params.get("weight", self._params.get("weight_query"))
        return self._attend(array, array if matrix is None else linear_forward(array, matrix))

    def vjp(self, query: Array) -> tuple[Pair, Callable[..., tuple[Array, Grads]]]:
        """Return (context, weights), and ``pullback(dcontext, dweights=None, *, grads=None) -> (dquery, grads)``.

        The pullback may succeed once; after `pull_back` it raises RuntimeError.
        """
        name, array = self._name, self._checked(query)
        matrix = self._params.get("weight", self._params.get("weight_query"))
        projected, pull_query = (array.copy(), None) if matrix is None else linear_vjp(array, matrix)
        context, weights = self._attend(array, projected)
        saved, shapes = weights.copy(), (context.shape, weights.shape)

        def pullback(
            dcontext: Array, dweights: Array | None = None, *, grads: Mapping[str, Array] | None = None
        ) -> tuple[Array, Grads]:
            dc = np.asarray(as_fitting(name, "dcontext", dcontext, shapes[0], self.dtype), order="C")
            dw = None if dweights is None else as_fitting(name, "dweights", dweights, shapes[1], self.dtype)
            sums = check_grads(name, self._shapes, grads, self.dtype)
            d_projected = self._pull_scores(projected, saved, dc, dw, sums)
            if pull_query is None:
                return d_projected, sums
            key = "weight" if "weight" in sums else "weight_query"
            return pull_query(d_projected, grads={"weight": sums[key]})[0], sums

        return (context, weights), once(name, pullback)

    def _pull_scores(self, projected: Array, saved: Array, dc: Array, dw: Array | None, sums: Grads) -> Array:
        """Return the gradient of the projected queries; add to those of keys, values and weight_score."""
        d_projected = empty(projected.shape, self.dtype)
        dscore = np.zeros((self._N, self._A), self.dtype) if "weight_score" in sums else None
        gradients = None if dw is None else self._by_sample(np.ascontiguousarray(dw))
        with self._lock:
            self._require_open()
            dvalues, dkeys = self._sums()
            if projected.size:
                query, weights, dcontext, dquery = map(self._by_sample, (projected, saved, dc, d_projected))
                self._kernel.attend_backward(query, weights, dcontext, gradients, dquery, dkeys, dvalues, dscore)
        if dscore is not None:
            sums["weight_score"] += dscore.sum(axis=0)
        return d_projected

    def _require_open(self) -> None:
        if self._done:
            raise RuntimeError(f"{self._name}: the gradient of this memory was taken; it can be taken once, and last")

    def _sums(self) -> Pair:
        """Return what has come back to values and keys so far, zeros at first; one array unless the form is additive."""
        if self._dvalues is None:
            self._dvalues = np.zeros(self._values.shape, self.dtype)
        if self._dkeys is None:
            additive = self._score == "additive"
            self._dkeys = np.zeros((*self._values.shape[:2], self._A), self.dtype) if additive else self._dvalues
        return self._dvalues, self._dkeys

    def pull_back(self, *, grads: Mapping[str, Array] | None = None) -> tuple[Array, Grads]:
        """Return ``(dmemory, grads)`` from what all pullbacks left; a second call raises RuntimeError."""
        sums = check_grads(self._name, self._shapes, grads, self.dtype)
        with self._lock:
            self._require_open()
            self._done = True
            dvalues, dkeys = self._sums()
            self._dvalues = self._dkeys = None
        if self._pull_keys is not None:
            rows = dkeys if self._valid is None else dkeys[self._valid]
            drows, _ = self._pull_keys(rows, grads={"weight": sums["weight_memory"]})
            if self._valid is None:
                dvalues += drows
            else:
                dvalues[self._valid] += drows
        return dvalues if self._batch_first else np.ascontiguousarray(dvalues.swapaxes(0, 1)), sums


def attention_memory(
    memory: Array,
    params: Mapping[str, Any] | None = None,
    *,
    score: str = "dot",
    scale: bool | float = False,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> AttentionMemory:
    """Prepare a memory for the queries of many decoder steps. Arguments are those of `attention_forward`.

    Returns
    -------
    AttentionMemory
        ``forward(query)``; ``vjp(query)``, whose pullbacks may be called in any order; and, after the last of these, once
        ``pull_back(grads=None) -> (dmemory, grads)``.
    """
    return AttentionMemory("attention_memory", memory, params, score, scale, lengths, batch_first, True)


def attention_forward(
    query: Array,
    memory: Array,
    params: Mapping[str, Any] | None = None,
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
        Matrices may come as `pack_linear` packs them.
    score : "dot" (Q = M), "general" or "additive"
    scale : bool or float
        f. True stands for one over the root of M, or of A for "additive"; False for 1.
    lengths : int array (N,), optional. Number of valid steps of each memory; all T if None. Others are never read.
    batch_first : bool. query is (N, Tq, Q), memory (N, T, M), and the results are alike.

    Returns
    -------
    context : ndarray (N, M) or (Tq, N, M)
    weights : ndarray (N, T) or (Tq, N, T)

    Raises
    ------
    ShapeError, DTypeError, LengthsError, ArgumentError

    References
    ----------
    dot, general: Luong, Pham & Manning 2015, Effective approaches to attention-based neural machine translation. additive:
    Bahdanau, Cho & Bengio 2015, Neural machine translation by jointly learning to align and translate. scale: Vaswani et al.
    2017, Attention is all you need.
    """
    name = "attention_forward"
    once_only = np.ndim(query) == 2  # then a copy of the memory costs more than it saves
    return AttentionMemory(
        name, memory, params, score, scale, lengths, batch_first, train=False, packed=not once_only
    ).forward(query)


def attention_vjp(
    query: Array,
    memory: Array,
    params: Mapping[str, Any] | None = None,
    *,
    score: str = "dot",
    scale: bool | float = False,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
) -> tuple[Pair, Callable[..., tuple[Array, Array, Grads]]]:
    """Attend, and return the pullback. Arguments are those of `attention_forward`.

        dw_t = dcontext . memory_t + dweights_t         ds = f w (dw - sum(w dw))
        dot         dquery = sum_t ds_t memory_t        dmemory_t = w_t dcontext + ds_t query
        general     the same with weight query in place of query
        additive    dz_t = ds_t weight_score (1 - tanh(z_t)**2) for the sum z_t, which goes back to query and memory

    Returns
    -------
    (context, weights) : as from `attention_forward`
    pullback : ``pullback(dcontext, dweights=None, *, grads=None) -> (dquery, dmemory, grads)``
        May succeed once; a second call raises RuntimeError.
    """
    name = "attention_vjp"
    whole = AttentionMemory(name, memory, params, score, scale, lengths, batch_first, True)
    result, pull = whole.vjp(query)

    def pullback(
        dcontext: Array, dweights: Array | None = None, *, grads: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array, Grads]:
        dquery, sums = pull(dcontext, dweights, grads=grads)
        dmemory, sums = whole.pull_back(grads=sums)
        return dquery, dmemory, sums

    return result, once(name, pullback)
