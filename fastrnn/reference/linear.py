"""The dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._common import Array, Grads, add_affine_grads, add_into, affine, called_once, quietly, zeros_like_params
from .activation import activation_forward, activation_vjp

Pullback = Callable[..., tuple[Array, Grads]]


@quietly
def linear_forward(x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    """Return ``y = act(x weight^T + bias)``.

    Parameters
    ----------
    x : ndarray (..., C), float32 or float64
    weight : ndarray (K, C)
    bias : ndarray (K,), optional
    activation : str, optional
        One of those of `activation_forward`, with its usual parameters.

    Returns
    -------
    y : ndarray (..., K)
    """
    y = affine(x, weight, bias)
    return y if activation is None else activation_forward(y, activation)


@quietly
def linear_vjp(
    x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None
) -> tuple[Array, Pullback]:
    """Apply a dense layer and return its pullback. Arguments are those of `linear_forward`.

    Over all leading positions:

        dz = act'(z) dy for z = x weight^T + bias
        dx = dz weight          dweight = sum dz x^T            dbias = sum dz

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
    pull_activation = None
    if activation is not None:
        y, pull_activation = activation_vjp(y, activation)
    positions, (K, C) = math.prod(x.shape[:-1]), weight.shape
    x_rows, weight = np.array(x).reshape(positions, C), np.array(weight)
    params = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        if pull_activation is not None:
            dy = pull_activation(dy)
        sums = zeros_like_params(params)
        add_affine_grads(sums, "", dy.reshape(positions, K), x_rows)
        return dy @ weight, add_into(grads, sums)

    return y, called_once("linear_vjp", pullback)
