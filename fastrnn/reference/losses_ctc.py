"""Connectionist temporal classification: the loss of all alignments of a label sequence with an input sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._common import Array, quietly


def _alignments(log_p: Array, labels: Array, blank: int) -> tuple[float, Array]:
    """Return the negative log likelihood of `labels` and how often each class is expected at each time, (T, V)."""
    extended = np.full(2 * len(labels) + 1, blank)
    extended[1::2] = labels
    T, S = len(log_p), len(extended)
    skips = [s >= 2 and extended[s] not in (blank, extended[s - 2]) for s in range(S)]

    alpha, beta = np.full((T, S), -np.inf), np.full((T, S), -np.inf)
    alpha[0, :2] = log_p[0, extended[:2]]
    for t in range(1, T):
        for s in range(S):
            ways = alpha[t - 1, max(s - 2 if skips[s] else s - 1, 0) : s + 1]
            alpha[t, s] = np.logaddexp.reduce(ways) + log_p[t, extended[s]]
    beta[T - 1, -2:] = 0
    for t in range(T - 2, -1, -1):
        later = beta[t + 1] + log_p[t + 1, extended]
        for s in range(S):
            end = s + 3 if s + 2 < S and skips[s + 2] else s + 2
            beta[t, s] = np.logaddexp.reduce(later[s:end])

    log_likelihood = np.logaddexp.reduce(alpha[T - 1, -2:])
    expected = np.zeros_like(log_p)
    for s in range(S):
        expected[:, extended[s]] += np.exp(alpha[:, s] + beta[:, s] - log_likelihood)
    if not log_likelihood > -np.inf:
        expected[...] = np.nan
    return -log_likelihood, expected


def _rows(targets: Array, N: int, target_lengths: Array | None) -> list[Array]:
    """Return the labels of each sequence, from (N, S) or from one array after another."""
    if targets.ndim == 2:
        ends = np.full(N, targets.shape[1]) if target_lengths is None else target_lengths
        return [targets[n, : ends[n]] for n in range(N)]
    assert target_lengths is not None
    return np.split(targets, np.cumsum(target_lengths)[:-1])


@quietly
def ctc_loss(
    logits: Array,
    targets: Array,
    input_lengths: Array | None = None,
    target_lengths: Array | None = None,
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

    References
    ----------
    Graves, Fernandez, Gomez & Schmidhuber 2006, Connectionist temporal classification, (6)-(16).
    """
    batched = logits if logits.ndim == 3 else logits[:, None]
    T, N, _ = batched.shape
    labels = _rows(targets if logits.ndim == 3 else np.atleast_2d(targets), N, _lengths(target_lengths))
    ends = np.full(N, T) if input_lengths is None else np.atleast_1d(input_lengths)
    losses, dlogits = np.zeros(N), np.zeros(batched.shape)
    for n in range(N):
        log_p = batched[: ends[n], n].astype(np.float64)
        if from_logits:
            log_p = log_p - log_p.max(axis=-1, keepdims=True)
            log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
        losses[n], expected = _alignments(log_p, np.asarray(labels[n]), blank)
        dlogits[: ends[n], n] = np.exp(log_p) - expected
        if zero_infinity and losses[n] == np.inf:
            losses[n], dlogits[:, n] = 0, 0
    counts = np.array([max(len(row), 1) for row in labels]) * N if reduction == "mean" else np.ones(N)
    dlogits = (dlogits / counts[:, None]).reshape(logits.shape).astype(logits.dtype)
    if reduction == "none":
        return losses.astype(logits.dtype).reshape(logits.shape[1:-1]), dlogits
    return float((losses / counts).sum() if N else np.nan), dlogits


def _lengths(lengths: Array | None) -> Array | None:
    return None if lengths is None else np.atleast_1d(lengths)
