"""Connectionist temporal classification: the loss of all alignments of a label sequence with an input sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import IntArray, as_float_array, as_integers, as_tokens, check_shape, choice, flag, plain_int
from fastrnn._kernels._ctc import ctc
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, LengthsError, ShapeError, TokenError
from fastrnn.ops.losses import REDUCTIONS

Array = NDArray[Any]

__all__ = ["ctc_loss"]


def ctc_loss(
    logits: Array,
    targets: ArrayLike,
    input_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    from_logits: bool = True,
) -> tuple[Any, Array]:
    """Negative log likelihood of label sequences, summed over all their alignments with the input.

        y = softmax(logits)
        l' = blank, l_1, blank, l_2, ..., l_S, blank
        alpha_t(s) = y_t(l'_s) * (alpha_{t-1}(s) + alpha_{t-1}(s-1) + alpha_{t-1}(s-2))
        beta_t(s) = the sum over s' = s, s+1, s+2 of beta_{t+1}(s') * y_{t+1}(l'_{s'})
        p = alpha_T(2S+1) + alpha_T(2S)                         loss = -log(p)
        dlogits_t(v) = y_t(v) - (sum over l'_s = v of alpha_t(s) * beta_t(s)) / p

    A label is skipped to (s-2) only over a blank between two different labels. Steps past an input's length are not
    read, their gradient is zero. "mean" divides each loss by the number of its labels (at least 1) before the mean over
    the batch, as PyTorch does.

    Log probabilities are logits too, whose log softmax they are: they give the same loss and, as it is the gradient
    that PyTorch returns for them, the same gradient: the one with respect to the logits. With ``from_logits=False``
    they are taken as they are, normalised or not, with y = exp(log_p) in all of the above.

    Labels that need more steps than there are (one for each, and one between equal neighbours) have an infinite loss
    and a gradient of NaN, unless `zero_infinity` makes both zero.

    Parameters
    ----------
    logits : ndarray (T, N, V), or (T, V) for one sequence, float32 or float64
    targets : int array (N, S), (S,) for one sequence, or all labels one after another; 0..V-1 other than `blank`
    input_lengths, target_lengths : int array (N,), or int for one sequence. All of T and S by default.
    blank : int
    reduction : "mean", "sum" or "none"
    zero_infinity, from_logits : bool

    Returns
    -------
    loss : float, or ndarray (N,) for "none"
    dlogits : ndarray, shape of logits

    Raises
    ------
    ShapeError, DTypeError, TokenError, LengthsError, ArgumentError

    References
    ----------
    Graves, Fernandez, Gomez & Schmidhuber 2006, Connectionist temporal classification, (6)-(16).
    """
    name = "ctc_loss"
    array = as_float_array(name, "logits", logits)
    if array.ndim != 2:
        check_shape(name, "logits", array, "(T, N, V)")
    steps = np.ascontiguousarray(array if array.ndim == 3 else array[:, None])
    T, N, V = steps.shape
    if plain_int(name, "blank", blank, 0) >= V:
        raise TokenError(f"{name}: 'blank' must be in 0..{V - 1}, got {blank}")
    choice(name, "reduction", reduction, REDUCTIONS)
    options = flag(name, "zero_infinity", zero_infinity), flag(name, "from_logits", from_logits)
    ends = np.full(N, T) if input_lengths is None else _lengths(name, "input_lengths", input_lengths, N, 1, T)
    if input_lengths is None and T == 0:
        raise ShapeError(f"{name}: 'logits' must have at least one step, got shape {array.shape}")
    labels, starts = _labels(name, targets, target_lengths, N, V, blank, array.ndim == 3)
    scales = 1 / (np.maximum(np.diff(starts), 1) * float(max(N, 1))) if reduction == "mean" else np.ones(N)
    losses, gradient = np.empty(N), empty(steps.shape, steps.dtype)
    ctc(steps, labels, starts, ends, blank, *options, scales, gradient, losses)
    gradient = gradient.reshape(array.shape)
    if reduction == "none":
        return losses.astype(array.dtype).reshape(array.shape[1:-1]), gradient
    return float((losses * scales).sum() if N else np.nan), gradient


def _lengths(name: str, arg: str, value: ArrayLike, N: int, low: int, high: int) -> IntArray:
    """Return `value` as an int64 array (N,), each in low..high; one number will do for one sequence."""
    array = as_tokens(name, arg, value, np.iinfo(np.int64).max)
    array = array.reshape(1) if array.ndim == 0 and N == 1 else array
    check_shape(name, arg, array, "(N)", N=N)
    if N and (array.min() < low or array.max() > high):
        got = array.min() if array.min() < low else array.max()
        raise LengthsError(f"{name}: '{arg}' must be in {low}..{high}, got {got}")
    return array


def _labels(
    name: str, targets: ArrayLike, target_lengths: ArrayLike | None, N: int, V: int, blank: int, batched: bool
) -> tuple[IntArray, IntArray]:
    """Return all labels one after another, and where those of each sequence start, (N + 1,)."""
    shape = as_integers(name, "targets", targets).shape
    if (len(shape) == 2 and batched) or (len(shape) == 1 and not batched):
        S = shape[-1]
        ends = np.full(N, S) if target_lengths is None else _lengths(name, "target_lengths", target_lengths, N, 0, S)
        if batched and shape[0] != N:
            raise ShapeError(f"{name}: 'targets' must have shape (N={N}, S), got {shape}")
        inside = (np.arange(S) < ends[:, None]).reshape(shape)
        labels = as_tokens(name, "targets", targets, V, counted=inside)[inside]
    elif len(shape) == 1 and target_lengths is not None:
        labels = as_tokens(name, "targets", targets, V)
        ends = _lengths(name, "target_lengths", target_lengths, N, 0, len(labels))
        if ends.sum() != len(labels):
            raise ShapeError(
                f"{name}: 'targets' must have shape ({ends.sum()},), the sum of their lengths, got {shape}"
            )
    else:
        wanted = f"(N={N}, S), or one axis beside 'target_lengths'" if batched else "(S,)"
        raise ShapeError(f"{name}: 'targets' must have shape {wanted}, got {shape}")
    if (labels == blank).any():
        raise ArgumentError(f"{name}: 'targets' must be other than the blank, got {blank}")
    return labels, np.concatenate(([0], np.cumsum(ends))).astype(np.int64)
