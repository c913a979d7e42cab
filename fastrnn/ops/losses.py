"""Loss functions: each returns the loss and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, as_tokens, check_shape, plain_int
from fastrnn._kernels._losses import cross_entropy as _cross_entropy
from fastrnn._kernels._memory import empty
from fastrnn.errors import ShapeError

Array = NDArray[Any]

__all__ = ["cross_entropy", "mse_loss"]


def cross_entropy(logits: Array, targets: Array, *, ignore_index: int | None = None) -> tuple[float, Array]:
    """Mean cross entropy of softmax(logits) against target classes.

        loss = -mean(log softmax(logits)[target])       dlogits = (softmax(logits) - onehot(target)) / count

    over the `count` positions whose target is not `ignore_index`. Ignored positions are not read and their gradient is
    zero. With no position left the loss is NaN, a mean over nothing.

    Parameters
    ----------
    logits : ndarray (..., V), float32 or float64
    targets : int array (...), 0..V-1 or `ignore_index`
    ignore_index : int, optional

    Returns
    -------
    loss : float
    dlogits : ndarray (..., V)

    Raises
    ------
    ShapeError, DTypeError, TokenError
    """
    name = "cross_entropy"
    array = as_float_array(name, "logits", logits)
    check_shape(name, "logits", array, "(..., V)")
    if ignore_index is not None:
        plain_int(name, "ignore_index", ignore_index)
    classes = as_tokens(name, "targets", targets, array.shape[-1], ignore_index)
    if classes.shape != array.shape[:-1]:
        raise ShapeError(f"{name}: 'targets' must have shape {array.shape[:-1]}, got {classes.shape}")
    flat = classes.reshape(-1)
    if ignore_index is not None:
        flat = np.where(flat == ignore_index, -1, flat)
    count = int((flat >= 0).sum())
    rows = np.ascontiguousarray(array).reshape(flat.size, array.shape[-1])
    dlogits, losses = empty(rows.shape, rows.dtype), np.empty(flat.size)
    _cross_entropy(rows, flat.astype(np.intp, copy=False), 1 / max(count, 1), dlogits, losses)
    return float(losses.sum() / count) if count else float("nan"), dlogits.reshape(array.shape)


def mse_loss(prediction: Array, target: Array) -> tuple[float, Array]:
    """Mean squared error over all elements.

        loss = mean((prediction - target)**2)           dprediction = 2 (prediction - target) / size

    The loss of empty arrays is NaN, a mean over nothing.

    Parameters
    ----------
    prediction, target : ndarrays of one shape, float32 or float64

    Returns
    -------
    loss : float
    dprediction : ndarray, shape of prediction

    Raises
    ------
    ShapeError, DTypeError
    """
    name = "mse_loss"
    given = as_float_array(name, "prediction", prediction)
    wanted = as_array(name, "target", target, given.dtype)
    if wanted.shape != given.shape:
        raise ShapeError(f"{name}: 'target' must have shape {given.shape}, got {wanted.shape}")
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        difference = given - wanted
        loss = float(np.square(difference).sum())
    size = difference.size
    loss = loss / size if size else float("nan")
    return loss, difference * difference.dtype.type(2 / max(size, 1))
