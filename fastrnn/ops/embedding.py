"""The embedding table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, as_tokens, check_shape
from fastrnn._kernels._embedding import gather, scatter_add
from fastrnn._kernels._memory import empty
from fastrnn.ops._recurrent import check_grads, once

Array = NDArray[Any]
Grads = dict[str, Array]

__all__ = ["embedding_forward", "embedding_vjp"]


def _checked(name: str, tokens: Array, weight: Array) -> tuple[Array, Array]:
    table = np.asarray(as_float_array(name, "weight", weight), order="C")
    check_shape(name, "weight", table, "(V, E)")
    return as_tokens(name, "tokens", tokens, len(table)), table


def _gathered(tokens: Array, table: Array) -> Array:
    rows = empty((tokens.size, table.shape[1]), table.dtype)
    gather(tokens.reshape(-1), table, rows)
    return rows.reshape(*tokens.shape, table.shape[1])


def embedding_forward(tokens: Array, weight: Array) -> Array:
    """Return ``y[..., :] = weight[tokens[...]]``.

    Parameters
    ----------
    tokens : int array of any shape, 0..V-1
    weight : ndarray (V, E), float32 or float64

    Returns
    -------
    y : ndarray (*tokens.shape, E), new array

    Raises
    ------
    TokenError, DTypeError, ShapeError
    """
    return _gathered(*_checked("embedding_forward", tokens, weight))


def embedding_vjp(tokens: Array, weight: Array) -> tuple[Array, Callable[..., Grads]]:
    """Look up embeddings and return the pullback. Arguments are those of `embedding_forward`.

        dweight[v] = sum of dy over the positions whose token is v

    Returns
    -------
    y : ndarray (*tokens.shape, E)
    pullback : ``pullback(dy, *, grads=None) -> grads``
        dy (*tokens.shape, E). Returns {"weight": ndarray (V, E)}, the array of the mapping `grads` if it has one; only the rows
        of used tokens are touched. May succeed once; a second call raises RuntimeError.
    """
    name = "embedding_vjp"
    checked, table = _checked(name, tokens, weight)
    used, shape, dtype = checked.copy(), table.shape, table.dtype

    def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> Grads:
        rows = as_array(name, "dy", dy, dtype)
        sizes = {str(axis): size for axis, size in enumerate((*used.shape, shape[1]))}
        check_shape(name, "dy", rows, f"({', '.join(sizes)})", **sizes)
        sums = check_grads(name, {"weight": shape}, grads, dtype)
        grad = sums["weight"]
        work = grad if grad.flags.c_contiguous else np.ascontiguousarray(grad)
        scatter_add(used.reshape(-1), np.ascontiguousarray(rows).reshape(used.size, shape[1]), work)
        if work is not grad:
            grad[...] = work
        return sums

    return _gathered(checked, table), once(name, pullback)
