"""Loss functions: each returns the loss and its gradient."""

from __future__ import annotations

import numpy as np

from ._common import Array, quietly


@quietly
def cross_entropy(logits: Array, targets: Array, *, ignore_index: int | None = None) -> tuple[float, Array]:
    """Mean cross entropy of softmax(logits) against target classes.

        log_p = logits - max - log(sum(exp(logits - max)))
        loss = -mean(log_p[target])                     dlogits = (softmax(logits) - onehot(target)) / count

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
    """
    kept = np.full(targets.shape, True) if ignore_index is None else targets != ignore_index
    chosen, classes = logits[kept], targets[kept]
    count = len(classes)
    shifted = chosen - chosen.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    target_of_row = (np.arange(count), classes)
    loss = -np.divide(log_p[target_of_row].sum(), count)
    d_chosen = np.exp(log_p)
    d_chosen[target_of_row] -= 1
    dlogits = np.zeros(logits.shape, logits.dtype)
    dlogits[kept] = d_chosen / max(count, 1)
    return float(loss), dlogits


@quietly
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
    """
    difference = prediction - target
    loss = np.divide(np.square(difference).sum(), difference.size)
    return float(loss), 2 * difference / max(difference.size, 1)
