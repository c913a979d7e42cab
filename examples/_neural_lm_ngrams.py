"""The n-gram model to beat: maximum likelihood estimates of all orders, interpolated with weights from held-out text."""

from __future__ import annotations

from collections import Counter

import numpy as np
from _neural_lm_data import IntArray, ngrams
from numpy.typing import NDArray

__all__ = ["Interpolated"]

ROUNDS = 30  # of expectation maximisation; the likelihood stands still long before
BINS = 12  # of contexts by how often they were seen: never, once, 2 to 3, 4 to 7, ...


class Interpolated:
    """Jelinek-Mercer smoothing.

        p(w | context) = sum over k = 0..n of lambda_k(bin) * p_k(w | last k - 1 words)

    p_0 is uniform, p_1 counts words, p_2 pairs and so on; where a context was never seen, p_k is p_{k-1}. The weights
    depend on how often the longest context was seen, and maximise the likelihood of held-out text.

    References
    ----------
    Jelinek & Mercer 1980, Interpolated estimation of Markov source parameters from sparse data.
    """

    def __init__(self, training: IntArray, held_out: IntArray, size: int, n: int) -> None:
        self.size, self.n = size, n
        windows = ngrams(training, n)
        self._counts = [Counter(map(tuple, windows[:, n - k :].tolist())) for k in range(n + 1)]
        self._contexts = [Counter(map(tuple, windows[:, n - k : n - 1].tolist())) for k in range(n + 1)]
        self.weights = np.empty((BINS, n + 1))
        self._fit(held_out)

    def probabilities(self, tokens: IntArray) -> NDArray[np.float64]:
        """Return the probability of each token but the first after those before it."""
        parts, bins = self._parts(ngrams(tokens, self.n))
        mixed: NDArray[np.float64] = (self.weights[bins] * parts).sum(1)
        return mixed

    def _fit(self, tokens: IntArray) -> None:
        """Find the weights of each bin by expectation maximisation; a bin that does not occur gets those of all."""
        parts, bins = self._parts(ngrams(tokens, self.n))
        self.weights[:] = _maximised(parts)
        for index in np.unique(bins):
            self.weights[index] = _maximised(parts[bins == index])

    def _parts(self, windows: IntArray) -> tuple[NDArray[np.float64], IntArray]:
        """Return p_0 ... p_n of the last word of each window, and the bin of its context."""
        n = self.n
        parts, bins = np.full((len(windows), n + 1), 1 / self.size), np.zeros(len(windows), np.int64)
        for row, window in enumerate(map(tuple, windows.tolist())):
            for k in range(1, n + 1):
                seen = self._contexts[k][window[n - k : n - 1]]
                parts[row, k] = self._counts[k][window[n - k :]] / seen if seen else parts[row, k - 1]
            bins[row] = min(seen.bit_length(), BINS - 1)
        return parts, bins


def _maximised(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of a mixture under which the words are likeliest."""
    weights: NDArray[np.float64] = np.full(parts.shape[1], 1 / parts.shape[1])
    for _ in range(ROUNDS):
        shares = weights * parts
        weights = (shares / shares.sum(1, keepdims=True)).mean(0)
    return weights
