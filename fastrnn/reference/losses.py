"""Losses of classes: each returns the loss and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._common import Array, quietly


def _kept(targets: Array, ignore_index: int | None, lengths: Array | None, batch_first: bool) -> Array:
    """Return a mask of the positions that count."""
    kept = np.full(targets.shape, True) if ignore_index is None else targets != ignore_index
    if lengths is not None:
        times = np.arange(targets.shape[1 if batch_first else 0])
        kept &= times < lengths[:, None] if batch_first else times[:, None] < lengths
    return kept


def _reduced(losses: Array, dlosses: Array, weights: Array, kept: Array, reduction: str) -> tuple[Any, Array]:
    """Return the loss and the gradient from those of the kept positions, and the weights of their targets."""
    dlogits = np.zeros((*kept.shape, dlosses.shape[-1]), dlosses.dtype)
    if reduction == "none":
        every = np.zeros(kept.shape, dlosses.dtype)
        every[kept], dlogits[kept] = losses, dlosses
        return every, dlogits
    total = float(weights.sum())
    count = total if reduction == "mean" else 1.0
    dlogits[kept] = dlosses / (count if count != 0 else 1.0)
    return float(np.divide(losses.sum(), count)), dlogits


@quietly
def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
) -> tuple[Any, Array]:
    """Cross entropy of softmax(logits) against target classes.

        log_p = logits - max - log(sum(exp(logits - max)))
        q = (1 - label_smoothing) * onehot(target) + label_smoothing / V
        loss = -sum over classes of weight * q * log_p
        dlogits = sum(weight * q) * softmax(logits) - weight * q

    at each position whose target is not `ignore_index` and which is inside its sequence; positions that do not count
    are not read, their loss and gradient are zero. "mean" divides the sum by the sum of the targets' weights, which is
    their count without weights; over nothing it is NaN. "none" returns a loss for each position, and the gradients of
    these.

    Parameters
    ----------
    logits : ndarray (..., V), float32 or float64
    targets : int array (...), 0..V-1 or `ignore_index`
    weight : ndarray (V,), optional
    ignore_index : int, optional
    label_smoothing : float in [0, 1]
    reduction : "mean", "sum" or "none"
    lengths : int array (N,), optional. Of sequences: logits are (T, N, V), or (N, T, V) with `batch_first`.

    Returns
    -------
    loss : float, or ndarray (...) for "none"
    dlogits : ndarray (..., V)

    References
    ----------
    Szegedy et al. 2016, Rethinking the inception architecture for computer vision, section 7 (label smoothing).
    """
    kept = _kept(targets, ignore_index, lengths, batch_first)
    chosen, classes = logits[kept], targets[kept]
    V = logits.shape[-1]
    shifted = chosen - chosen.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    weights = np.ones(V, logits.dtype) if weight is None else weight
    target_of_row = (np.arange(len(classes)), classes)
    hard = (1 - label_smoothing) * weights[classes]
    losses, dlosses = -hard * log_p[target_of_row], hard[:, None] * np.exp(log_p)
    dlosses[target_of_row] -= hard
    if label_smoothing:
        soft = label_smoothing / V * weights
        losses = losses - (soft * log_p).sum(axis=-1)
        dlosses += soft.sum() * np.exp(log_p) - soft
    return _reduced(losses, dlosses.astype(logits.dtype), weights[classes], kept, reduction)


@quietly
def nll_loss(
    log_p: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    lengths: Array | None = None,
    batch_first: bool = False,
) -> tuple[Any, Array]:
    """Negative log likelihood of target classes.

        loss = -weight[target] * log_p[target]                  dlog_p = -weight[target] * onehot(target)

    at each position; which ones count and how they are reduced is told at `cross_entropy`.

    Parameters
    ----------
    log_p : ndarray (..., V), float32 or float64. Log probabilities.
    targets, weight, ignore_index, reduction, lengths, batch_first : as for `cross_entropy`

    Returns
    -------
    loss : float, or ndarray (...) for "none"
    dlog_p : ndarray (..., V)
    """
    kept = _kept(targets, ignore_index, lengths, batch_first)
    chosen, classes = log_p[kept], targets[kept]
    weights = np.ones(len(classes), log_p.dtype) if weight is None else weight[classes]
    target_of_row = (np.arange(len(classes)), classes)
    dlosses = np.zeros_like(chosen)
    dlosses[target_of_row] = -weights
    return _reduced(-weights * chosen[target_of_row], dlosses, weights, kept, reduction)
