"""Elementwise functions and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._common import Array, called_once, quietly

Pullback = Callable[[Array], Array]


@quietly
def exp(x: Array) -> Array:
    """Return e**x, elementwise; infinity where it overflows."""
    return np.asarray(np.exp(x))


@quietly
def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e**-x), elementwise.

    Both branches take the exponential of -abs(x), which cannot overflow:

        x >= 0    1 / (1 + e**-x)
        x <  0    e**x / (1 + e**x)
    """
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


@quietly
def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent of x, elementwise."""
    return np.asarray(np.tanh(x))


# Each activation returns y = f(x) and the slope f'(x). At a corner the slope is that of PyTorch.


def _relu(x: Array) -> tuple[Array, Array]:
    return np.maximum(x, 0), np.where(x <= 0, 0, 1)


def _leaky_relu(x: Array, negative_slope: float = 0.01) -> tuple[Array, Array]:
    slope = np.where(x > 0, 1, negative_slope)
    return x * slope, slope


def _elu(x: Array, alpha: float = 1.0) -> tuple[Array, Array]:
    below = np.minimum(x, 0)
    return np.where(x > 0, x, alpha * np.expm1(below)), np.where(x > 0, 1, alpha * np.exp(below))


def _selu(x: Array) -> tuple[Array, Array]:
    scale = 1.0507009873554804934193349852946
    y, slope = _elu(x, 1.6732632423543772848170429916717)
    return scale * y, scale * slope


def _normal(x: Array) -> Array:
    """Return the normal distribution function, P(X <= x)."""
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2)


def _gelu(x: Array, approximate: str = "none") -> tuple[Array, Array]:
    if approximate == "none":
        phi = _normal(x)
        return x * phi, phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    z = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    dz = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    s = sigmoid(z)
    return x * s, s + x * s * sigmoid(-z) * dz


def _silu(x: Array) -> tuple[Array, Array]:
    s = sigmoid(x)
    return x * s, s + x * s * sigmoid(-x)


def _mish(x: Array) -> tuple[Array, Array]:
    t = np.tanh(np.logaddexp(x, 0))
    return x * t, t + x * (1 - t * t) * sigmoid(x)


def _softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array, Array]:
    z = beta * x
    return np.where(z > threshold, x, np.logaddexp(z, 0) / beta), np.where(z > threshold, 1, sigmoid(z))


def _softsign(x: Array) -> tuple[Array, Array]:
    return x / (1 + np.abs(x)), 1 / (1 + np.abs(x)) ** 2


def _hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array, Array]:
    return np.clip(x, min_val, max_val), np.where((x > min_val) & (x < max_val), 1, 0)


def _relu6(x: Array) -> tuple[Array, Array]:
    return _hardtanh(x, 0, 6)


def _hardsigmoid(x: Array) -> tuple[Array, Array]:
    return np.clip(x + 3, 0, 6) / 6, np.where(np.abs(x) < 3, 1 / 6, 0)


def _hardswish(x: Array) -> tuple[Array, Array]:
    slope = np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 1 / 2))
    return x * np.clip(x + 3, 0, 6) / 6, slope


def _sigmoid(x: Array) -> tuple[Array, Array]:
    return sigmoid(x), sigmoid(x) * sigmoid(-x)


def _tanh(x: Array) -> tuple[Array, Array]:
    y = np.tanh(x)
    return y, 1 - y * y


_FUNCTIONS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "elu": _elu,
    "gelu": _gelu,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "mish": _mish,
    "relu": _relu,
    "relu6": _relu6,
    "selu": _selu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "softplus": _softplus,
    "softsign": _softsign,
    "tanh": _tanh,
}


@quietly
def activation_forward(x: Array, kind: str, **params: Any) -> Array:
    """Return y = f(x), elementwise.

        relu            max(x, 0)
        leaky_relu      x for x > 0, else negative_slope x
        elu             x for x > 0, else alpha (e**x - 1)
        selu            1.0507 elu(x) with alpha = 1.6733
        gelu            x P(X <= x) for a normal X; approximate="tanh": x sigmoid(2 sqrt(2/pi) (x + 0.044715 x**3))
        silu            x sigmoid(x)
        mish            x tanh(log(1 + e**x))
        softplus        log(1 + e**(beta x)) / beta, and x where beta x > threshold
        softsign        x / (1 + abs(x))
        hardtanh        x, at least min_val and at most max_val
        relu6           min(max(x, 0), 6)
        hardsigmoid     relu6(x + 3) / 6
        hardswish       x relu6(x + 3) / 6
        sigmoid, tanh

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    kind : str
        Name of f, as above.
    **params
        negative_slope=0.01, alpha=1.0, approximate="none", beta=1.0 and threshold=20.0, min_val=-1.0 and max_val=1.0,
        where f has them.

    Returns
    -------
    y : ndarray, shape of x
    """
    return _FUNCTIONS[kind](x, **params)[0].astype(x.dtype)


@quietly
def activation_vjp(x: Array, kind: str, **params: Any) -> tuple[Array, Pullback]:
    """Return y = f(x) and the pullback. Arguments are those of `activation_forward`.

        dx = f'(x) dy

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``
    """
    y, slope = _FUNCTIONS[kind](x, **params)
    slope = slope.astype(x.dtype)
    return y.astype(x.dtype), called_once("activation_vjp", lambda dy: np.asarray(dy * slope))


@quietly
def softmax_forward(x: Array, axis: int = -1) -> Array:
    """Return e**x over its sum along an axis.

        y = exp(x - max(x)) / sum(exp(x - max(x)))

    Parameters
    ----------
    x : ndarray of at least one axis, float32 or float64
    axis : int

    Returns
    -------
    y : ndarray, shape of x
    """
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


@quietly
def softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return softmax(x) and the pullback. Arguments are those of `softmax_forward`.

        dx = y (dy - sum(y dy))

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``
    """
    y = softmax_forward(x, axis)
    p = y.copy()

    def pullback(dy: Array) -> Array:
        return np.asarray(p * (dy - (p * dy).sum(axis=axis, keepdims=True)))

    return y, called_once("softmax_vjp", pullback)


@quietly
def log_softmax_forward(x: Array, axis: int = -1) -> Array:
    """Return log(softmax(x)) along an axis.

        y = x - max(x) - log(sum(exp(x - max(x))))

    Parameters
    ----------
    x : ndarray of at least one axis, float32 or float64
    axis : int

    Returns
    -------
    y : ndarray, shape of x
    """
    shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


@quietly
def log_softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return log(softmax(x)) and the pullback. Arguments are those of `log_softmax_forward`.

        dx = dy - softmax(x) sum(dy)

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``
    """
    p = softmax_forward(x, axis)

    def pullback(dy: Array) -> Array:
        return np.asarray(dy - p * dy.sum(axis=axis, keepdims=True))

    return log_softmax_forward(x, axis), called_once("log_softmax_vjp", pullback)
