"""Losses of one element at a time: each returns the loss and its gradient.

``reduction`` is "mean", "sum", or "none": a loss for each element, and the gradients of these. The mean over nothing is
NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, choice, finite_float
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops.losses import REDUCTIONS

Array = NDArray[Any]

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


def _reduced(losses: Array, gradient: Array, like: Array, reduction: str) -> tuple[Any, Array]:
    """Return the loss, and the gradient as a new array of the dtype and shape of `like`."""
    if reduction == "none":
        return np.asarray(losses, like.dtype), np.asarray(gradient, like.dtype)
    if reduction == "sum":
        return float(losses.sum()), np.asarray(gradient, like.dtype)
    loss = float(losses.sum() / losses.size) if losses.size else float("nan")
    return loss, np.asarray(gradient * like.dtype.type(1 / max(like.size, 1)), like.dtype)


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
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        difference = given - wanted
        return _reduced(np.square(difference), 2 * difference, given, reduction)


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
    with np.errstate(all="ignore"):
        difference = given - wanted
        return _reduced(np.abs(difference), np.sign(difference), given, reduction)


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
    with np.errstate(all="ignore"):
        difference = given - wanted
        size, inside = np.abs(difference), np.clip(difference, -limit, limit)
        losses = np.where(size < limit, difference * inside / 2, limit * (size - limit / 2))
        return _reduced(losses, inside, given, reduction)


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
    with np.errstate(all="ignore"):
        difference = given - wanted
        size = np.abs(difference)
        if limit == 0:
            return _reduced(size, np.sign(difference), given, reduction)
        slope = np.clip(difference / limit, -1, 1)
        losses = np.where(size < limit, difference * slope / 2, size - limit / 2)
        return _reduced(losses, slope, given, reduction)


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
    with np.errstate(all="ignore"):
        losses = -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100))
        gradient = (p - t) / np.maximum(p * (1 - p), 1e-12)
        if weights is not None:
            losses, gradient = weights * losses, weights * gradient
        return _reduced(losses, gradient, p, reduction)


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
    with np.errstate(all="ignore"):
        positive, negative = t if positive_weights is None else positive_weights * t, 1 - t
        small = np.exp(-np.abs(x))
        tail, larger = np.log1p(small), 1 / (1 + small)  # larger: of sigmoid(x) and sigmoid(-x)
        smaller, above = small * larger, x >= 0
        losses = positive * (np.maximum(-x, 0) + tail) + negative * (np.maximum(x, 0) + tail)
        gradient = negative * np.where(above, larger, smaller) - positive * np.where(above, smaller, larger)
        if weights is not None:
            losses, gradient = weights * losses, weights * gradient
        return _reduced(losses, gradient, x, reduction)
