"""The dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._common import Array, Grads, add_affine_grads, add_into, affine, called_once, quietly, zeros_like_params

Pullback = Callable[..., tuple[Array, Grads]]


@quietly
def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return ``y = x weight^T + bias``.

    Parameters
    ----------
    x : ndarray (..., C), float32 or float64
    weight : ndarray (K, C)
    bias : ndarray (K,), optional

    Returns
    -------
    y : ndarray (..., K)
    """
    return affine(x, weight, bias)


@quietly
def linear_vjp(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Pullback]:
    """Apply a dense layer and return its pullback. Arguments are those of `linear_forward`.

    Over all leading positions:

        dx = dy weight          dweight = sum dy x^T            dbias = sum dy

    Returns
    -------
    y : ndarray (..., K)
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        dy (..., K). Returns dx (..., C) and the gradients of weight and, if given, bias, added into the arrays of the
        mapping `grads` where it has them.

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y = affine(x, weight, bias)
    positions, (K, C) = math.prod(x.shape[:-1]), weight.shape
    x_rows, weight = np.array(x).reshape(positions, C), np.array(weight)
    params = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        sums = zeros_like_params(params)
        add_affine_grads(sums, "", dy.reshape(positions, K), x_rows)
        return dy @ weight, add_into(grads, sums)

    return y, called_once("linear_vjp", pullback)
