"""Losses of classes: each returns the loss and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import (
    as_array,
    as_float_array,
    as_lengths,
    as_tokens,
    check_shape,
    choice,
    finite_float,
    flag,
    plain_int,
)
from fastrnn._kernels._losses import cross_entropy as _cross_entropy
from fastrnn._kernels._memory import empty
from fastrnn.errors import LengthsError, ShapeError

Array = NDArray[Any]

__all__ = ["REDUCTIONS", "cross_entropy", "inside_lengths", "nll_loss"]

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class _Classes:
    """What a loss of classes is asked for, checked: scores by position, and their target classes."""

    scores: Array
    targets: NDArray[np.intp]  # (positions,), -1 where a position does not count
    weight: Array | None
    reduction: str

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which positions count."""
        return self.targets >= 0

    def divisor(self) -> float:
        """By what the sum of the losses is divided."""
        if self.reduction != "mean":
            return 1.0
        if self.weight is None:
            return float(self.counted.sum())
        return float(self.weight[self.targets[self.counted]].sum(dtype=np.float64))

    def reduced(self, losses: NDArray[np.float64], dtype: Any) -> Any:
        """Return the loss, from one for each position."""
        if self.reduction == "none":
            return losses.astype(dtype).reshape(self.scores.shape[:-1])
        total, divisor = float(losses.sum()), self.divisor()
        return total / divisor if divisor else float("nan")


def _checked(
    name: str,
    arg: str,
    scores: Array,
    targets: ArrayLike,
    weight: Array | None,
    ignore_index: int | None,
    reduction: str,
    lengths: ArrayLike | None,
    batch_first: bool,
) -> _Classes:
    array = as_float_array(name, arg, scores)
    check_shape(name, arg, array, "(..., V)")
    if ignore_index is not None:
        plain_int(name, "ignore_index", ignore_index)
    choice(name, "reduction", reduction, REDUCTIONS)
    flag(name, "batch_first", batch_first)
    shape, V = array.shape[:-1], array.shape[-1]
    inside = None if lengths is None else _inside(name, lengths, shape, batch_first)
    classes = as_tokens(name, "targets", targets, V, ignore_index, inside)
    if classes.shape != shape:
        raise ShapeError(f"{name}: 'targets' must have shape {shape}, got {classes.shape}")
    if weight is not None:
        weight = np.ascontiguousarray(as_array(name, "weight", weight, array.dtype))
        check_shape(name, "weight", weight, "(V)", V=V)
    counted = np.full(shape, True) if inside is None else inside
    if ignore_index is not None:
        counted &= classes != ignore_index
    return _Classes(array, np.where(counted, classes, -1).reshape(-1).astype(np.intp), weight, reduction)


def _inside(name: str, lengths: ArrayLike, shape: tuple[int, ...], batch_first: bool) -> NDArray[np.bool_]:
    """Return which positions are inside their sequence."""
    if len(shape) != 2:
        raise LengthsError(f"{name}: 'lengths' must be None without a batch of sequences, got targets {shape}")
    return inside_lengths(name, lengths, shape, batch_first)


def inside_lengths(name: str, lengths: ArrayLike, shape: tuple[int, ...], batch_first: bool) -> NDArray[np.bool_]:
    """Return which positions (T, N), or (N, T) with `batch_first`, are inside their sequence."""
    T, N = shape[::-1] if batch_first else shape
    ends, times = as_lengths(name, lengths, N, T), np.arange(T)
    inside: NDArray[np.bool_] = times < ends[:, None] if batch_first else times[:, None] < ends
    return inside


def cross_entropy(
    logits: Array,
    targets: ArrayLike,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, TokenError, ArgumentError, LengthsError

    References
    ----------
    Szegedy et al. 2016, Rethinking the inception architecture for computer vision, section 7 (label smoothing).
    """
    name = "cross_entropy"
    smoothing = finite_float(name, "label_smoothing", label_smoothing, 0, 1)
    given = _checked(name, "logits", logits, targets, weight, ignore_index, reduction, lengths, batch_first)
    array, divisor, kept = given.scores, given.divisor(), given.weight
    V = array.shape[-1]
    rows = np.ascontiguousarray(array).reshape(given.targets.size, V)
    dlogits, losses = empty(rows.shape, rows.dtype), np.empty(given.targets.size)
    total = float(V) if kept is None else float(kept.sum(dtype=np.float64))
    _cross_entropy(rows, given.targets, 1 / (divisor or 1), dlogits, losses, kept, smoothing, total)
    return given.reduced(losses, rows.dtype), dlogits.reshape(array.shape)


def nll_loss(
    log_p: Array,
    targets: ArrayLike,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    lengths: ArrayLike | None = None,
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

    Raises
    ------
    ShapeError, DTypeError, TokenError, ArgumentError, LengthsError
    """
    name = "nll_loss"
    given = _checked(name, "log_p", log_p, targets, weight, ignore_index, reduction, lengths, batch_first)
    array, counted = given.scores, given.counted
    rows = array.reshape(given.targets.size, array.shape[-1])
    chosen = np.flatnonzero(counted), given.targets[counted]
    weights = np.ones(len(chosen[0]), array.dtype) if given.weight is None else given.weight[chosen[1]]
    losses, gradient = np.zeros(len(rows)), np.zeros(rows.shape, rows.dtype)
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        losses[counted] = -weights.astype(np.float64) * rows[chosen]
        gradient[chosen] = -weights / array.dtype.type(given.divisor() or 1)
    return given.reduced(losses, rows.dtype), gradient.reshape(array.shape)
