"""The embedding table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import IntArray, as_array, as_float_array, as_tokens, check_shape, plain_int
from fastrnn._kernels._embedding import gather, scatter_add
from fastrnn._kernels._memory import empty
from fastrnn.errors import TokenError
from fastrnn.ops._recurrent import check_grads, once

Array = NDArray[Any]
Grads = dict[str, Array]

__all__ = ["embedding_forward", "embedding_vjp", "gathered", "gathered_vjp"]


def _checked(name: str, tokens: Array, weight: Array) -> tuple[Array, Array]:
    table = np.asarray(as_float_array(name, "weight", weight), order="C")
    check_shape(name, "weight", table, "(V, E)")
    return as_tokens(name, "tokens", tokens, len(table)), table


def gathered(tokens: IntArray, table: Array) -> Array:
    """Return the rows of a table; all is checked already."""
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
    return gathered(*_checked("embedding_forward", tokens, weight))


def row_number(name: str, arg: str, value: object, rows: int) -> int | None:
    """Return a row number in -rows..rows-1 as one in 0..rows-1, or None for None."""
    if value is None:
        return None
    number = plain_int(name, arg, value)
    if not -rows <= number < rows:
        raise TokenError(f"{name}: '{arg}' must be in {-rows}..{rows - 1}, got {number}")
    return number % rows


def check_dy(name: str, dy: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return dy (*shape) as contiguous rows."""
    rows = as_array(name, "dy", dy, dtype)
    sizes = {str(axis): size for axis, size in enumerate(shape)}
    check_shape(name, "dy", rows, f"({', '.join(sizes)})", **sizes)
    return np.ascontiguousarray(rows).reshape(int(np.prod(shape[:-1])), shape[-1])


def embedding_vjp(
    tokens: Array, weight: Array, *, padding_idx: int | None = None
) -> tuple[Array, Callable[..., Grads]]:
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
        dy (*tokens.shape, E). Returns {"weight": ndarray (V, E)}, the array of the mapping `grads` if it has one; only the rows
        of used tokens are touched. May succeed once; a second call raises RuntimeError.
    """
    name = "embedding_vjp"
    checked, table = _checked(name, tokens, weight)
    return gathered_vjp(name, checked, table, row_number(name, "padding_idx", padding_idx, len(table)))


def gathered_vjp(name: str, tokens: IntArray, table: Array, padding: int | None) -> tuple[Array, Callable[..., Grads]]:
    """Return what `embedding_vjp` does; all is checked already."""
    shape, dtype = table.shape, table.dtype
    used: IntArray = tokens.copy() if padding is None else np.where(tokens == padding, -1, tokens)

    def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> Grads:
        rows = check_dy(name, dy, (*used.shape, shape[1]), dtype)
        sums = check_grads(name, {"weight": shape}, grads, dtype)
        grad = sums["weight"]
        work = grad if grad.flags.c_contiguous else np.ascontiguousarray(grad)
        scatter_add(used.reshape(-1), rows, work)
        if work is not grad:
            grad[...] = work
        return sums

    return gathered(tokens, table), once(name, pullback)
