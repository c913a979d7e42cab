"""Losses of one element at a time: each returns the loss and its gradient.

``reduction`` is "mean", "sum", or "none": a loss for each element, and the gradients of these. The mean over nothing is
NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, choice, finite_float
from fastrnn._kernels._activation import exp, sigmoid
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops.losses import REDUCTIONS

Array = NDArray[Any]

# Elements of a piece: what is computed on the way stays in the second-level cache.
PIECE = 8192

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


def _pair(name: str, prediction: Array, target: Array, reduction: str, arg: str = "prediction") -> tuple[Array, Array]:
    choice(name, "reduction", reduction, REDUCTIONS)
    given = as_float_array(name, arg, prediction)
    wanted = as_array(name, "target", target, given.dtype)
    if wanted.shape != given.shape:
        raise ShapeError(f"{name}: 'target' must have shape {given.shape}, got {wanted.shape}")
    return given, wanted


def _spread(name: str, arg: str, value: Array | None, like: Array) -> Array | None:
    if value is None:
        return None
    array = as_array(name, arg, value, like.dtype)
    try:
        return np.broadcast_to(array, like.shape)
    except ValueError:
        raise ShapeError(f"{name}: '{arg}' must broadcast to {like.shape}, got {array.shape}") from None


def _evaluated(
    both: Callable[..., tuple[Array, Array]], reduction: str, x: Array, *others: Array | None
) -> tuple[Any, Array]:
    """Return the loss, and the gradient as a new array like `x`.

    `both` maps equally long pieces of all arrays to losses and slopes; pieces stay in cache, whatever the arrays take.
    """
    pieces = [None if array is None else np.ascontiguousarray(array).reshape(-1) for array in (x, *others)]
    gradient = empty((x.size,), x.dtype)
    losses = empty((x.size,), x.dtype) if reduction == "none" else None
    factor = x.dtype.type(1 / max(x.size, 1) if reduction == "mean" else 1)
    total = 0.0
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        for start in range(0, x.size, PIECE):
            part = slice(start, start + PIECE)
            loss, slope = both(*(None if array is None else array[part] for array in pieces))
            np.multiply(slope, factor, out=gradient[part])
            if losses is not None:
                losses[part] = loss
            else:
                total += float(loss.sum())
    if losses is not None:
        return losses.reshape(x.shape), gradient.reshape(x.shape)
    if reduction == "mean":
        total = total / x.size if x.size else float("nan")
    return total, gradient.reshape(x.shape)


def _weighted(loss: Array, slope: Array, weight: Array | None) -> tuple[Array, Array]:
    return (loss, slope) if weight is None else (weight * loss, weight * slope)


def _squares(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    return d * d, d + d


def _distances(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    return np.abs(d), np.sign(d)


def mse_loss(prediction: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Squared error.

        loss = (prediction - target)**2                         dprediction = 2 (prediction - target)

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    given, wanted = _pair("mse_loss", prediction, target, reduction)
    return _evaluated(_squares, reduction, given, wanted)


def l1_loss(prediction: Array, target: Array, *, reduction: str = "mean") -> tuple[Any, Array]:
    """Absolute error.

        loss = abs(prediction - target)                         dprediction = sign(prediction - target), sign(0) = 0

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    given, wanted = _pair("l1_loss", prediction, target, reduction)
    return _evaluated(_distances, reduction, given, wanted)


def huber_loss(prediction: Array, target: Array, *, reduction: str = "mean", delta: float = 1.0) -> tuple[Any, Array]:
    """Squared error near zero, absolute error beyond.

        d = prediction - target
        loss = d**2 / 2 if abs(d) < delta, else delta * (abs(d) - delta / 2)
        dprediction = d limited to -delta..delta

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"
    delta : float > 0

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Huber 1964, Robust estimation of a location parameter.
    """
    name = "huber_loss"
    given, wanted = _pair(name, prediction, target, reduction)
    limit = finite_float(name, "delta", delta, 0)
    if limit == 0:
        raise ArgumentError(f"{name}: 'delta' must be > 0, got {delta!r}")

    def both(x: Array, t: Array) -> tuple[Array, Array]:
        d = x - t
        inside = np.minimum(np.maximum(d, -limit), limit)
        return inside * (d - inside / 2), inside  # delta * (abs(d) - delta / 2) beyond delta

    return _evaluated(both, reduction, given, wanted)


def smooth_l1_loss(
    prediction: Array, target: Array, *, reduction: str = "mean", beta: float = 1.0
) -> tuple[Any, Array]:
    """`huber_loss` with delta = beta, divided by beta; `l1_loss` for beta = 0.

        d = prediction - target
        loss = d**2 / (2 beta) if abs(d) < beta, else abs(d) - beta / 2
        dprediction = d / beta limited to -1..1

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"
    beta : float >= 0

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Girshick 2015, Fast R-CNN, (3).
    """
    name = "smooth_l1_loss"
    given, wanted = _pair(name, prediction, target, reduction)
    limit = finite_float(name, "beta", beta, 0)
    if limit == 0:
        return _evaluated(_distances, reduction, given, wanted)

    def both(x: Array, t: Array) -> tuple[Array, Array]:
        d = x - t
        slope = np.minimum(np.maximum(d / limit, -1), 1)
        return slope * (d - slope * (limit / 2)), slope

    return _evaluated(both, reduction, given, wanted)


def binary_cross_entropy(
    prediction: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Any, Array]:
    """Cross entropy of probabilities against targets in [0, 1].

        loss = -weight * (target * log(prediction) + (1 - target) * log(1 - prediction))
        dprediction = weight * (prediction - target) / (prediction * (1 - prediction))

    As in PyTorch no logarithm counts as less than -100, and no denominator as less than 1e-12. The mean divides by the
    number of elements, whatever their weights.

    Parameters
    ----------
    prediction : ndarray, float32 or float64, in [0, 1]
    target : ndarray, shape of prediction
    weight : ndarray that broadcasts to that shape, optional
    reduction : "mean", "sum" or "none"

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "binary_cross_entropy"
    p, t = _pair(name, prediction, target, reduction)
    weights = _spread(name, "weight", weight, p)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ArgumentError(f"{name}: 'prediction' must be in 0..1, got {p.min() if p.min() < 0 else p.max()}")

    def both(p: Array, t: Array, w: Array | None) -> tuple[Array, Array]:
        losses = -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100))
        return _weighted(losses, (p - t) / np.maximum(p * (1 - p), 1e-12), w)

    return _evaluated(both, reduction, p, t, weights)


def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Any, Array]:
    """Cross entropy of sigmoid(logits) against targets in [0, 1].

        softplus(x) = max(x, 0) + log(1 + exp(-abs(x)))
        loss = weight * (pos_weight * target * softplus(-logits) + (1 - target) * softplus(logits))
        dlogits = weight * ((1 - target) * p - pos_weight * target * (1 - p)),  p = sigmoid(logits)

    The mean divides by the number of elements, whatever their weights.

    Parameters
    ----------
    logits : ndarray, float32 or float64
    target : ndarray, shape of logits
    weight : ndarray that broadcasts to that shape, optional
    pos_weight : ndarray that broadcasts to that shape, optional. Of positive targets.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    loss : float, or ndarray for "none"
    dlogits : ndarray, shape of logits

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _pair(name, logits, target, reduction, "logits")
    weights, positive_weights = _spread(name, "weight", weight, x), _spread(name, "pos_weight", pos_weight, x)

    def both(x: Array, t: Array, w: Array | None, v: Array | None) -> tuple[Array, Array]:
        positive, negative = t if v is None else v * t, 1 - t
        p, rest, small = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        sigmoid(x, p)
        sigmoid(-x, rest)
        exp(-np.abs(x), small)
        tail = np.log1p(small)
        losses = positive * (np.maximum(-x, 0) + tail) + negative * (np.maximum(x, 0) + tail)
        slopes = negative * p - positive * rest
        return _weighted(losses, slopes, w)

    return _evaluated(both, reduction, x, t, weights, positive_weights)
