"""The embedding table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import init, ops
from fastrnn._checks import FloatArray, as_dtype, as_fitting, as_generator, as_tokens, positive_int
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.pullback import simple_pullback

__all__ = ["Embedding"]

Pullback: TypeAlias = Callable[[FloatArray], None]


@registered
class Embedding(Layer):
    """Table of vectors, ``y[...] = weight[tokens[...]]``.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        V and E.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init : str or callable
        See `fastrnn.init`. By default normal with standard deviation 1, as in PyTorch.

    Attributes
    ----------
    weight : (V, E)
    """

    weight: FloatArray

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "normal",
    ) -> None:
        name = self._name
        V = self.num_embeddings = positive_int(name, "num_embeddings", num_embeddings)
        E = self.embedding_dim = positive_int(name, "embedding_dim", embedding_dim)
        self.dtype = as_dtype(name, dtype)
        if isinstance(weight_init, str) and weight_init == "torch":
            weight_init = "normal"
        draw = init.initializer(name, "weight_init", weight_init, 1.0)
        weight = draw((V, E), dtype=self.dtype, rng=as_generator(name, rng))
        self._own("weight", as_fitting(name, "initial weight", weight, (V, E), self.dtype))

    def __call__(self, tokens: Any) -> FloatArray:
        """Return y (*tokens.shape, E) for tokens, integers of any shape in 0..V-1.

        Raises
        ------
        TokenError, DTypeError
        """
        tokens = as_tokens(self._name, "tokens", tokens, self.num_embeddings)
        return ops.embedding_forward(tokens, self._parameters["weight"].data)

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
        y, pull = ops.embedding_vjp(tokens, weight.data)

        def run(dy: FloatArray) -> None:
            pull(dy, grads={"weight": weight.grad})

        return y, simple_pullback(self._name, (weight,), y, run)

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        sizes = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}
        return {**super().config(), **sizes, "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options = {name: value for name, value in config.items() if name != "type"}
        return cls(**options, weight_init="zeros")

    def _options(self) -> str:
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype.name!r}"
        return f"{self.num_embeddings}, {self.embedding_dim}{dtype}"
