"""The embedding table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import init
from fastrnn._checks import (
    FloatArray,
    IntArray,
    as_dtype,
    as_fitting,
    as_generator,
    as_tokens,
    flag,
    plain_int,
    positive_int,
)
from fastrnn.errors import TokenError
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.parameter import Parameter
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops.embedding import gathered, gathered_vjp

__all__ = ["Embedding", "EmbeddingTable"]

Pullback: TypeAlias = Callable[[FloatArray], None]


class EmbeddingTable(Layer):
    """What `Embedding` and `EmbeddingBag` have in common: the table and its options."""

    weight: FloatArray

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "normal",
    ) -> None:
        name = self._name
        V = self.num_embeddings = positive_int(name, "num_embeddings", num_embeddings)
        E = self.embedding_dim = positive_int(name, "embedding_dim", embedding_dim)
        self.padding_idx = None if padding_idx is None else plain_int(name, "padding_idx", padding_idx)
        if self.padding_idx is not None:
            if not -V <= self.padding_idx < V:
                raise TokenError(f"{name}: 'padding_idx' must be in {-V}..{V - 1}, got {padding_idx}")
            self.padding_idx %= V
        self.sparse = flag(name, "sparse", sparse)
        self.dtype = as_dtype(name, dtype)
        if isinstance(weight_init, str) and weight_init == "torch":
            weight_init = "normal"
        draw = init.initializer(name, "weight_init", weight_init, 1.0)
        weight = draw((V, E), dtype=self.dtype, rng=as_generator(name, rng))
        weight = np.array(as_fitting(name, "initial weight", weight, (V, E), self.dtype))
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        self._own("weight", weight)
        if self.sparse:
            self.__dict__["_parameters"]["weight"] = Parameter(weight, sparse=True)

    def _used_rows(self, tokens: IntArray) -> IntArray | None:
        """Return the rows whose gradient a pullback will touch, some several times; None unless the table is sparse."""
        if not self.sparse:
            return None
        return tokens.copy() if self.padding_idx is None else tokens[tokens != self.padding_idx]

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        sizes = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}
        options = {"padding_idx": self.padding_idx, "sparse": self.sparse, "dtype": self.dtype.name}
        return {**super().config(), **sizes, **options}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options = {name: value for name, value in config.items() if name != "type"}
        return cls(**options, weight_init="zeros")

    def _options(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype.name!r}"
        return f"{self.num_embeddings}, {self.embedding_dim}{self._kind()}{padding}{sparse}{dtype}"

    def _kind(self) -> str:
        return ""


@registered
class Embedding(EmbeddingTable):
    """Table of vectors, ``y[...] = weight[tokens[...]]``.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        V and E.
    padding_idx : int in -V..V-1, optional
        A row that starts at zero and has no gradient.
    sparse : bool
        Whether the gradient is kept by rows: `zero_grad`, clipping and optimizers then read and write only the rows
        that were used, so that a step costs the same for any V. Weights and momentum of other rows stay as they are,
        which for some optimizers is not what a zero gradient would do; see each.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init : str or callable
        See `fastrnn.init`. By default normal with standard deviation 1, as in PyTorch.

    Attributes
    ----------
    weight : (V, E)
    """

    def __call__(self, tokens: Any) -> FloatArray:
        """Return y (*tokens.shape, E) for tokens, integers of any shape in 0..V-1.

        Raises
        ------
        TokenError, DTypeError
        """
        tokens = as_tokens(self._name, "tokens", tokens, self.num_embeddings)
        return gathered(tokens, self._parameters["weight"].data)

    def forward(self, tokens: Any) -> tuple[FloatArray, Pullback]:
        """Return y (*tokens.shape, E), and the pullback.

        Returns
        -------
        y : ndarray (*tokens.shape, E)
        backward : ``backward(dy) -> None``
            Adds to the gradient of the rows that were used; tokens have none. May be called once.

        Raises
        ------
        TokenError, DTypeError
        """
        tokens = as_tokens(self._name, "tokens", tokens, self.num_embeddings)
        weight = self._parameters["weight"]
        y, pull = gathered_vjp(self._name, tokens, weight.data, self.padding_idx)
        used = self._used_rows(tokens)

        def run(dy: FloatArray) -> None:
            weight.touch(used)
            pull(dy, grads={"weight": weight.grad})

        return y, simple_pullback(self._name, (weight,), y, run)
