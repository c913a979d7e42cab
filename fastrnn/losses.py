"""Loss functions: each returns the loss and its gradient, to hand to a pullback."""

from __future__ import annotations

from typing import Any

from fastrnn import ops
from fastrnn._checks import FloatArray, as_fitting, as_floats, as_tokens, check_shape, plain_int
from fastrnn.errors import ShapeError

__all__ = ["cross_entropy", "mse_loss"]


def cross_entropy(logits: FloatArray, targets: Any, *, ignore_index: int | None = None) -> tuple[float, FloatArray]:
    """Mean cross entropy of softmax(logits) against target classes.

        loss = -mean(log softmax(logits)[target])           dlogits = (softmax(logits) - onehot(target)) / count

    over the `count` positions whose target is not `ignore_index`; the gradient of the others is zero. With no position
    left the loss is NaN.

    Parameters
    ----------
    logits : ndarray (..., V), float32 or float64
    targets : int array (...), each in 0..V-1 or `ignore_index`
    ignore_index : int, optional
        Marks positions to leave out, such as those past the length of a sequence; often -1.

    Returns
    -------
    loss : float, in nats
    dlogits : ndarray (..., V)

    Raises
    ------
    ShapeError, DTypeError, TokenError, ArgumentError
    """
    name = "cross_entropy"
    logits = as_floats(name, "logits", logits)
    check_shape(name, "logits", logits, "(..., V)")
    ignored = None if ignore_index is None else plain_int(name, "ignore_index", ignore_index)
    classes = as_tokens(name, "targets", targets, logits.shape[-1], besides=ignored)
    if classes.shape != logits.shape[:-1]:
        raise ShapeError(f"{name}: 'targets' must have shape {logits.shape[:-1]}, got {classes.shape}")
    return ops.cross_entropy(logits, classes, ignore_index=ignored)


def mse_loss(prediction: FloatArray, target: FloatArray) -> tuple[float, FloatArray]:
    """Mean squared error over all elements.

        loss = mean((prediction - target)**2)               dprediction = 2 (prediction - target) / size

    Parameters
    ----------
    prediction, target : ndarrays of one shape and dtype, float32 or float64

    Returns
    -------
    loss : float, NaN for empty arrays
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError
    """
    prediction = as_floats("mse_loss", "prediction", prediction)
    target = as_fitting("mse_loss", "target", target, prediction.shape, prediction.dtype)
    return ops.mse_loss(prediction, target)
