"""The embedding table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._common import Array, Grads, called_once, quietly

Pullback = Callable[..., Grads]


def embedding_forward(tokens: Array, weight: Array) -> Array:
    """Return ``y[..., :] = weight[tokens[...]]``.

    Parameters
    ----------
    tokens : int array of any shape, 0..V-1
    weight : ndarray (V, E), float32 or float64

    Returns
    -------
    y : ndarray (*tokens.shape, E), new array
    """
    return np.array(weight[tokens])


@quietly
def embedding_vjp(tokens: Array, weight: Array, *, padding_idx: int | None = None) -> tuple[Array, Pullback]:
    """Look up embeddings and return the pullback.

        dweight[v] = sum of dy over the positions whose token is v

    Parameters
    ----------
    tokens, weight : as for `embedding_forward`
    padding_idx : int in -V..V-1, optional. A row without gradient; negative numbers count from the end.

    Returns
    -------
    y : ndarray (*tokens.shape, E)
    pullback : ``pullback(dy, *, grads=None) -> grads``
        dy (*tokens.shape, E). Returns {"weight": ndarray (V, E)}, the array of the mapping `grads` if it has one;
        only the rows of used tokens are touched.

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    used, shape, dtype = np.array(tokens), weight.shape, weight.dtype

    def pullback(dy: Array, *, grads: Grads | None = None) -> Grads:
        dweight = np.zeros(shape, dtype) if grads is None or "weight" not in grads else grads["weight"]
        counted = np.full(used.shape, True) if padding_idx is None else used != padding_idx % shape[0]
        np.add.at(dweight, used[counted], dy[counted])
        return {"weight": dweight}

    return embedding_forward(tokens, weight), called_once("embedding_vjp", pullback)
