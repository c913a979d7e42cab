"""Bags of rows of an embedding table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, choice
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.embedding import EmbeddingTable
from fastrnn.layers.layer import registered
from fastrnn.layers.pullback import simple_pullback

__all__ = ["EmbeddingBag"]

Pullback: TypeAlias = Callable[[FloatArray], "FloatArray | None"]


@registered
class EmbeddingBag(EmbeddingTable):
    """Sums, means or maxima of bags of vectors out of a table.

        sum    y[b] = sum over the positions i of bag b of weights[i] * weight[tokens[i]]
        mean   y[b] = that sum / the sum of weights[i], which is their count without weights
        max    y[b] = the largest of weight[tokens[i]] in each column

    Empty bags come to zeros.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        V and E.
    mode : "mean", "sum" or "max"
    padding_idx : int in -V..V-1, optional
        A token that is left out of its bag. Its row starts at zero and has no gradient.
    sparse : bool
        See `Embedding`.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init : str or callable
        See `fastrnn.init`. By default normal with standard deviation 1, as in PyTorch.

    Attributes
    ----------
    weight : (V, E)
    """

    takes_lengths = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "normal",
    ) -> None:
        self.mode = choice(self._name, "mode", mode, ("mean", "sum", "max"))
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, sparse=sparse, dtype=dtype, rng=rng, weight_init=weight_init
        )

    def __call__(
        self, tokens: Any, offsets: Any = None, weights: FloatArray | None = None, *, lengths: Any = None
    ) -> FloatArray:
        """Return y (N, E).

        Parameters
        ----------
        tokens : int array (N, L), a bag in each row; or (n,), all bags one after another
        offsets : int array (N,), beside tokens (n,)
            Where each bag starts, the first at 0.
        weights : array, shape of tokens, optional
            Of each position, such as TF-IDF; not for "max". PyTorch's per_sample_weights, which "mean" also takes here.
        lengths : int array (N,), optional
            Of the bags (N, L), each in 1..L; tokens past them are not read.

        Raises
        ------
        ShapeError, DTypeError, TokenError, LengthsError, ArgumentError
        """
        y: FloatArray = self._run(ops.embedding_bag_forward, tokens, offsets, weights, lengths)
        return y

    def forward(
        self, tokens: Any, offsets: Any = None, weights: FloatArray | None = None, *, lengths: Any = None
    ) -> tuple[FloatArray, Pullback]:
        """Return y (N, E), and the pullback. The arguments are those of a call.

        Returns
        -------
        y : ndarray (N, E)
        backward : ``backward(dy) -> dweights``
            Adds to the gradient of the rows that were used. dweights, of the shape of `weights`, is their gradient, or
            None without them. May be called once.

        Raises
        ------
        ShapeError, DTypeError, TokenError, LengthsError, ArgumentError
        """
        weight = self._parameters["weight"]
        y, pull = self._run(ops.embedding_bag_vjp, tokens, offsets, weights, lengths)
        used = self._used_rows(_read(tokens, lengths)) if self.sparse else None

        def run(dy: FloatArray) -> FloatArray | None:
            weight.touch(used)
            dweights: FloatArray | None = pull(dy, grads={"weight": weight.grad})[0]
            return dweights

        return y, simple_pullback(self._name, (weight,), y, run)

    def _run(self, operation: Any, tokens: Any, offsets: Any, weights: Any, lengths: Any) -> Any:
        table = self._parameters["weight"].data
        try:
            return operation(
                tokens, table, offsets, mode=self.mode, weights=weights, lengths=lengths, padding_idx=self.padding_idx
            )
        except (ValueError, TypeError, IndexError) as error:
            # The operation names itself; the user called the layer.
            error.args = (str(error).replace(operation.__name__, self._name, 1),)
            raise

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        return {**super().config(), "mode": self.mode}

    def _kind(self) -> str:
        return f", mode={self.mode!r}"


def _read(tokens: Any, lengths: Any) -> IntArray:
    """Return the tokens that are read, of arguments that were checked."""
    array = np.asarray(tokens).astype(np.int64)
    return array if lengths is None else array[np.arange(array.shape[1]) < np.asarray(lengths)[:, None]]
