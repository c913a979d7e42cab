"""Losses of one element at a time: each returns the loss and its gradient.

``reduction`` is "mean", "sum", or "none": a loss for each element, and the gradients of these. The mean over nothing is
NaN. With ``lengths`` of sequences (T, N, ...), or (N, T, ...) with ``batch_first``, losses and gradients past them are
zero, and a mean does not count those elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._common import Array, quietly


def _reduced(
    losses: Array, gradient: Array, dtype: Any, reduction: str, lengths: Array | None, batch_first: bool
) -> tuple[Any, Array]:
    count = losses.size
    if lengths is not None:
        N, T = losses.shape[:2] if batch_first else losses.shape[1::-1]
        inside = np.arange(T) < np.asarray(lengths)[:, None]
        spread = (inside if batch_first else inside.T).reshape(*losses.shape[:2], *(1,) * (losses.ndim - 2))
        losses, gradient = np.where(spread, losses, 0), np.where(spread, gradient, 0)
        count = int(inside.sum()) * (losses.size // max(N * T, 1))
    if reduction == "none":
        return np.asarray(losses, dtype), np.asarray(gradient, dtype)
    divisor = count if reduction == "mean" else 1
    return float(np.divide(losses.sum(), divisor)), np.asarray(gradient / max(divisor, 1), dtype)


@quietly
def mse_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
) -> tuple[Any, Array]:
    """Squared error.

        loss = (prediction - target)**2                         dprediction = 2 (prediction - target)

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction
    """
    difference = prediction - target
    return _reduced(np.square(difference), 2 * difference, prediction.dtype, reduction, lengths, batch_first)


@quietly
def l1_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
) -> tuple[Any, Array]:
    """Absolute error.

        loss = abs(prediction - target)                         dprediction = sign(prediction - target), sign(0) = 0

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction
    """
    difference = prediction - target
    return _reduced(np.abs(difference), np.sign(difference), prediction.dtype, reduction, lengths, batch_first)


@quietly
def huber_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    delta: float = 1.0,
    lengths: Array | None = None,
    batch_first: bool = False,
) -> tuple[Any, Array]:
    """Squared error near zero, absolute error beyond.

        d = prediction - target
        loss = d**2 / 2 if abs(d) < delta, else delta * (abs(d) - delta / 2)
        dprediction = d limited to -delta..delta

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64
    reduction : "mean", "sum" or "none"
    delta : float > 0
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    References
    ----------
    Huber 1964, Robust estimation of a location parameter.
    """
    d = prediction - target
    size = np.abs(d)
    losses = np.where(size < delta, d * d / 2, delta * (size - delta / 2))
    return _reduced(losses, np.clip(d, -delta, delta), prediction.dtype, reduction, lengths, batch_first)


@quietly
def smooth_l1_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    beta: float = 1.0,
    lengths: Array | None = None,
    batch_first: bool = False,
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
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction

    References
    ----------
    Girshick 2015, Fast R-CNN, (3).
    """
    if beta == 0:
        difference = prediction - target
        return _reduced(np.abs(difference), np.sign(difference), prediction.dtype, reduction, lengths, batch_first)
    d = prediction - target
    size = np.abs(d)
    losses = np.where(size < beta, d * d / (2 * beta), size - beta / 2)
    return _reduced(losses, np.clip(d / beta, -1, 1), prediction.dtype, reduction, lengths, batch_first)


@quietly
def binary_cross_entropy(
    prediction: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
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
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dprediction : ndarray, shape of prediction
    """
    p, t = prediction, target
    losses = -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100))
    gradient = (p - t) / np.maximum(p * (1 - p), 1e-12)
    if weight is not None:
        losses, gradient = weight * losses, weight * gradient
    return _reduced(losses, gradient, prediction.dtype, reduction, lengths, batch_first)


@quietly
def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
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
    lengths : int array (N,), optional. Of sequences: arrays are (T, N, ...), or (N, T, ...) with `batch_first`.
    batch_first : bool

    Returns
    -------
    loss : float, or ndarray for "none"
    dlogits : ndarray, shape of logits
    """
    x, positive, negative = logits, target if pos_weight is None else pos_weight * target, 1 - target
    tail = np.log1p(np.exp(-np.abs(x)))
    losses = positive * (np.maximum(-x, 0) + tail) + negative * (np.maximum(x, 0) + tail)
    gradient = negative / (1 + np.exp(-x)) - positive / (1 + np.exp(x))
    if weight is not None:
        losses, gradient = weight * losses, weight * gradient
    return _reduced(losses, gradient, logits.dtype, reduction, lengths, batch_first)
