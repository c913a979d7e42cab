"""Attention of a decoder to the outputs of an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn import init, ops
from fastrnn._checks import (
    FloatArray,
    as_array,
    as_dtype,
    as_fitting,
    as_generator,
    as_lengths,
    check_shape,
    choice,
    finite_float,
    flag,
    positive_int,
)
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.packing import PackCache
from fastrnn.layers.parameter import Parameter, adding_to
from fastrnn.layers.pullback import Once

__all__ = ["Attention", "AttentionMemory"]

Pair: TypeAlias = tuple[FloatArray, FloatArray]

SCORES = ("dot", "general", "additive")


def _pack(params: dict[str, FloatArray], training: bool) -> dict[str, Any]:
    return {
        name: value if name == "weight_score" else ops.pack_linear(value, backward=training)
        for name, value in params.items()
    }


@registered
class Attention(Layer):
    """Weighted mean over the steps of a memory, by how well each fits a query.

        dot         s_t = f query . memory_t
        general     s_t = f query . weight^T memory_t
        additive    s_t = f weight_score . tanh(weight_query query + weight_memory memory_t)

        weights = softmax(s) over t < length, else exactly 0            context = sum_t weights_t memory_t

    Parameters
    ----------
    query_size, memory_size : int
        Q and M; the same for "dot".
    score : "dot", "general" or "additive"
    units : int, optional
        A, the width of the sum in "additive"; M unless given.
    scale : bool or float
        f. True stands for one over the root of M, or of A for "additive"; False for 1.
    batch_first : bool
        Whether queries are (N, Tq, Q) instead of (Tq, N, Q), the memory (N, T, M) instead of (T, N, M), and results alike.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init : str or callable
        See `fastrnn.init`. By default Glorot uniform.

    Attributes
    ----------
    weight : (M, Q), of "general"
    weight_query, weight_memory, weight_score : (A, Q), (A, M) and (A,), of "additive"

    References
    ----------
    dot, general: Luong, Pham & Manning 2015, Effective approaches to attention-based neural machine translation. additive:
    Bahdanau, Cho & Bengio 2015, Neural machine translation by jointly learning to align and translate.
    """

    takes_lengths = True

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        score: str = "dot",
        *,
        units: int | None = None,
        scale: bool | float = False,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "glorot",
    ) -> None:
        name = self._name
        Q = self.query_size = positive_int(name, "query_size", query_size)
        M = self.memory_size = positive_int(name, "memory_size", memory_size)
        self.score = choice(name, "score", score, SCORES)
        if score == "dot" and Q != M:
            raise ArgumentError(f"{name}: 'query_size' must be 'memory_size' {M} for 'dot', got {Q}")
        if units is not None and score != "additive":
            raise ArgumentError(f"{name}: 'units' must be None for {score!r}, got {units!r}")
        A = self.units = (M if units is None else positive_int(name, "units", units)) if score == "additive" else None
        self.scale = bool(scale) if isinstance(scale, (bool, np.bool_)) else finite_float(name, "scale", scale)
        self.batch_first = flag(name, "batch_first", batch_first)
        self.dtype = as_dtype(name, dtype)
        self._cache = PackCache()
        source = as_generator(name, rng)
        shapes: dict[str, tuple[int, ...]] = {"weight": (M, Q)} if score == "general" else {}
        if A is not None:
            shapes = {"weight_query": (A, Q), "weight_memory": (A, M), "weight_score": (A,)}
        for key, shape in shapes.items():
            draw = init.initializer(name, "weight_init", weight_init, 1 / math.sqrt(shape[-1]))
            matrix = draw((1, *shape)[-2:], dtype=self.dtype, rng=source)
            self._own(key, as_fitting(name, f"initial {key}", matrix, (1, *shape)[-2:], self.dtype).reshape(shape))

    def __call__(self, query: FloatArray, memory: FloatArray, *, lengths: ArrayLike | None = None) -> Pair:
        """Return (context, weights) for one query of each sample, or several.

        Parameters
        ----------
        query : ndarray (N, Q) or (Tq, N, Q)
        memory : ndarray (T, N, M)
        lengths : int array (N,), optional
            Number of valid steps of each memory; all of them if None. The others are never read.

        Returns
        -------
        context : ndarray (N, M) or (Tq, N, M)
        weights : ndarray (N, T) or (Tq, N, T)

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        steps, ends = self._memory(memory, lengths)
        packed = self._cache.get(self._parameters, _pack, training=False)
        queries = self._query(query, self._samples(steps))
        return ops.attention_forward(queries, steps, packed, lengths=ends, **self._arguments())

    def forward(
        self, query: FloatArray, memory: FloatArray, *, lengths: ArrayLike | None = None
    ) -> tuple[Pair, Callable[..., Pair]]:
        """Return what a call returns, and the pullback. Arguments are those of a call.

        Returns
        -------
        (context, weights) : ndarrays
        backward : ``backward(dcontext, dweights=None) -> (dquery, dmemory)``
            Adds to the gradients of the parameters. May be called once; dmemory is zero past a length.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        kept = self.memory(memory, lengths=lengths)
        result, pull = kept.forward(query)
        once = Once(self._name, (pull, kept))

        def backward(dcontext: FloatArray, dweights: FloatArray | None = None) -> Pair:
            once.require()
            dquery = pull(dcontext, dweights)
            once.take()
            return dquery, kept.backward()

        return result, backward

    def memory(self, memory: FloatArray, *, lengths: ArrayLike | None = None) -> AttentionMemory:
        """Prepare a memory for the queries of many decoder steps: what does not depend on the query is computed once.

        Parameters
        ----------
        memory : ndarray (T, N, M)
        lengths : int array (N,), optional

        Returns
        -------
        AttentionMemory

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        return AttentionMemory(self, *self._memory(memory, lengths))

    def _arguments(self) -> dict[str, Any]:
        return {"score": self.score, "scale": self.scale, "batch_first": self.batch_first}

    def _memory(self, memory: object, lengths: object) -> tuple[FloatArray, Any]:
        """Return the memory and its lengths, checked."""
        name, array = self._name, as_array(self._name, "memory", memory, self.dtype)
        check_shape(name, "memory", array, "(N, T, M)" if self.batch_first else "(T, N, M)", M=self.memory_size)
        N, T = array.shape[:2] if self.batch_first else array.shape[1::-1]
        if T == 0:
            raise ShapeError(f"{name}: 'memory' must have at least one step, got {array.shape}")
        return array, None if lengths is None else as_lengths(name, lengths, N, T)

    def _samples(self, memory: FloatArray) -> int:
        shape: tuple[int, ...] = memory.shape
        return shape[0 if self.batch_first else 1]

    def _query(self, query: object, N: int) -> FloatArray:
        array = as_array(self._name, "query", query, self.dtype)
        spec = "(N, Q)" if array.ndim == 2 else "(N, Tq, Q)" if self.batch_first else "(Tq, N, Q)"
        check_shape(self._name, "query", array, spec, N=N, Q=self.query_size)
        return array

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        sizes = {"query_size": self.query_size, "memory_size": self.memory_size, "units": self.units}
        return {**super().config(), **sizes, **self._arguments(), "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options = {name: value for name, value in config.items() if name != "type"}
        return cls(**options, weight_init="zeros")

    def _options(self) -> str:
        usual = {"units": None, "scale": False, "batch_first": False, "dtype": "float32"}
        values = {"units": self.units, "scale": self.scale, "batch_first": self.batch_first, "dtype": self.dtype.name}
        more = "".join(f", {key}={value!r}" for key, value in values.items() if value != usual[key])
        return f"{self.query_size}, {self.memory_size}, {self.score!r}{more}"


class AttentionMemory:
    """A memory that many queries read, as `Attention.memory` returns it: a snapshot, also of the layer's weights.

    In a decoder, with weights shared over its steps:

        memory = attention.memory(encoded, lengths=lengths)
        (context, weights), back = memory.forward(query)        # at each step
        dquery = back(dcontext)                                 # at each step, in any order
        dencoded = memory.backward()                            # once, after all of them
    """

    def __init__(self, layer: Attention, memory: FloatArray, lengths: Any) -> None:
        self._layer = layer
        self._N = layer._samples(memory)
        self._own: dict[str, Parameter] = dict(layer._parameters)
        packed = layer._cache.get(self._own, _pack, training=True)
        self._kept = ops.attention_memory(memory, packed, lengths=lengths, **layer._arguments())
        self._once = Once(layer._name, self._kept)

    def _grads(self) -> dict[str, FloatArray]:
        return {name: parameter.grad for name, parameter in self._own.items()}

    def __call__(self, query: FloatArray) -> Pair:
        """Return (context, weights) for query (N, Q) or (Tq, N, Q): inference.

        Raises
        ------
        ShapeError, DTypeError
        """
        return self._kept.forward(self._layer._query(query, self._N))

    def forward(self, query: FloatArray) -> tuple[Pair, Callable[..., FloatArray]]:
        """Return what a call returns, and the pullback.

        Returns
        -------
        (context, weights) : ndarrays
        backward : ``backward(dcontext, dweights=None) -> dquery``
            Adds to the gradients of the parameters, and to what `AttentionMemory.backward` will return. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        layer = self._layer
        result, pull = self._kept.vjp(layer._query(query, self._N))
        shapes, once = tuple(array.shape for array in result), Once(layer._name, pull)

        def backward(dcontext: FloatArray, dweights: FloatArray | None = None) -> FloatArray:
            once.require()
            self._once.require()
            dc = as_fitting(layer._name, "dcontext", dcontext, shapes[0], layer.dtype)
            dw = None if dweights is None else as_fitting(layer._name, "dweights", dweights, shapes[1], layer.dtype)
            with adding_to(tuple(self._own.values())):
                dquery, _ = once.take()(dc, dw, grads=self._grads())
            return dquery

        return result, backward

    def backward(self) -> FloatArray:
        """Return the gradient of the memory, summed over all pullbacks; adds to that of weight_memory. May be called once."""
        with adding_to(tuple(self._own.values())):
            dmemory, _ = self._once.take().pull_back(grads=self._grads())
        return dmemory
