"""Losses of one element at a time: each returns the loss and its gradient.

``reduction`` is "mean", "sum", or "none": a loss for each element, and the gradients of these. The mean over nothing is
NaN. With ``lengths`` of sequences (T, N, ...), or (N, T, ...) with ``batch_first``, elements past them are not read;
their losses and gradients are zero, and a mean does not count them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import as_array, as_float_array, choice, finite_float, flag
from fastrnn._kernels._losses import KINDS, elementwise
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, LengthsError, ShapeError
from fastrnn.ops.losses import REDUCTIONS, inside_lengths

Array = NDArray[Any]

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


def _spread(name: str, arg: str, value: Array | None, like: Array) -> Array | None:
    if value is None:
        return None
    array = as_array(name, arg, value, like.dtype)
    try:
        return np.broadcast_to(array, like.shape)
    except ValueError:
        raise ShapeError(f"{name}: '{arg}' must broadcast to {like.shape}, got {array.shape}") from None


class _Elements:
    """What a loss of elements is asked for, checked."""

    def __init__(
        self,
        name: str,
        prediction: Array,
        target: Array,
        reduction: str,
        lengths: ArrayLike | None,
        batch_first: bool,
        arg: str = "prediction",
    ) -> None:
        self.name, self.reduction = name, choice(name, "reduction", reduction, REDUCTIONS)
        flag(name, "batch_first", batch_first)
        self.x = as_float_array(name, arg, prediction)
        self.target = as_array(name, "target", target, self.x.dtype)
        if self.target.shape != self.x.shape:
            raise ShapeError(f"{name}: 'target' must have shape {self.x.shape}, got {self.target.shape}")
        self.inside: NDArray[np.bool_] | None = None
        if lengths is not None:
            if self.x.ndim < 2:
                raise LengthsError(f"{name}: 'lengths' must be None without sequences, got {arg} {self.x.shape}")
            self.inside = inside_lengths(name, lengths, self.x.shape[:2], batch_first)

    def _counted(self, array: Array) -> Array:
        """Return the elements that count, in memory one after another."""
        return np.ascontiguousarray(array if self.inside is None else array[self.inside])

    def _whole(self, counted: Array) -> Array:
        """Undo `_counted`, with zeros where elements do not count."""
        if self.inside is None:
            return counted.reshape(self.x.shape)
        whole: Array = np.zeros(self.x.shape, counted.dtype)
        whole[self.inside] = counted
        return whole

    def evaluated(
        self, kind: str, limit: float = 1.0, weight: Array | None = None, positive: Array | None = None
    ) -> tuple[Any, Array]:
        """Return the loss and its gradient."""
        x, target = self._counted(self.x), self._counted(self.target)
        weights = None if weight is None else self._counted(weight)
        positives = None if positive is None else self._counted(positive)
        gradient = empty(x.shape, x.dtype)
        losses = empty(x.shape, x.dtype) if self.reduction == "none" else None
        scale = 1 / max(x.size, 1) if self.reduction == "mean" else 1.0
        sums, outside = elementwise(KINDS[kind], x, target, weights, positives, limit, scale, gradient, losses)
        if outside:
            wrong = x[~((x >= 0) & (x <= 1) | np.isnan(x))].flat[0]
            raise ArgumentError(f"{self.name}: 'prediction' must be in 0..1, got {wrong}")
        if losses is not None:
            return self._whole(losses), self._whole(gradient)
        total = float(sums.sum())
        if self.reduction == "mean":
            total = total / x.size if x.size else float("nan")
        return total, self._whole(gradient)


def mse_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError
    """
    return _Elements("mse_loss", prediction, target, reduction, lengths, batch_first).evaluated("square")


def l1_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError
    """
    return _Elements("l1_loss", prediction, target, reduction, lengths, batch_first).evaluated("absolute")


def huber_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    delta: float = 1.0,
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError

    References
    ----------
    Huber 1964, Robust estimation of a location parameter.
    """
    name = "huber_loss"
    given = _Elements(name, prediction, target, reduction, lengths, batch_first)
    limit = finite_float(name, "delta", delta, 0)
    if limit == 0:
        raise ArgumentError(f"{name}: 'delta' must be > 0, got {delta!r}")
    return given.evaluated("huber", limit)


def smooth_l1_loss(
    prediction: Array,
    target: Array,
    *,
    reduction: str = "mean",
    beta: float = 1.0,
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError

    References
    ----------
    Girshick 2015, Fast R-CNN, (3).
    """
    name = "smooth_l1_loss"
    given = _Elements(name, prediction, target, reduction, lengths, batch_first)
    limit = finite_float(name, "beta", beta, 0)
    return given.evaluated("absolute") if limit == 0 else given.evaluated("smooth", limit)


def binary_cross_entropy(
    prediction: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError
    """
    name = "binary_cross_entropy"
    given = _Elements(name, prediction, target, reduction, lengths, batch_first)
    return given.evaluated("binary", weight=_spread(name, "weight", weight, given.x))


def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, LengthsError
    """
    name = "binary_cross_entropy_with_logits"
    given = _Elements(name, logits, target, reduction, lengths, batch_first, "logits")
    weights, positive = _spread(name, "weight", weight, given.x), _spread(name, "pos_weight", pos_weight, given.x)
    return given.evaluated("logits", weight=weights, positive=positive)
