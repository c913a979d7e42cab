"""Tunes as numbers of tokens for the music example: batches, and n-gram models to compare with."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["END", "UNKNOWN", "Batch", "Codes", "batches", "ngram_perplexity"]

Array: TypeAlias = NDArray[Any]
Codes: TypeAlias = Sequence[int]  # a tune as numbers of tokens

END, UNKNOWN = 0, 1  # tokens: beginning and end of a tune; what the training tunes do not have


class Batch(NamedTuple):
    """Tunes side by side: tokens and the tokens that follow them (T, N), and the lengths (N,)."""

    tokens: Array
    targets: Array
    lengths: Array


def batches(tunes: Sequence[Codes], size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield all tunes, those of like length together, in random order."""
    lengths = np.array([len(tune) + 1 for tune in tunes])
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(tunes)))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    for index in rng.permutation(len(groups)):
        group = groups[index]
        padded = np.full((lengths[group].max() + 1, len(group)), END)
        for column, number in enumerate(group):
            padded[1 : lengths[number], column] = tunes[number]
        yield Batch(padded[:-1], padded[1:], lengths[group])


def ngram_perplexity(order: int, training: Sequence[Codes], validation: Sequence[Codes]) -> float:
    """Return the perplexity of an n-gram model; Witten & Bell 1991 say how much weight shorter contexts have.

    p(w | context) = (count(context, w) + kinds(context) p(w | shorter context)) / (count(context) + kinds(context))
    """
    counts: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def windows(tunes: Sequence[Codes]) -> Iterator[tuple[int, ...]]:
        for tune in tunes:
            padded = [END] * (order - 1) + [*tune, END]
            yield from (tuple(padded[end - order : end]) for end in range(order, len(padded) + 1))

    for window in windows(training):
        for start in range(order):
            counts[window[start:-1]][window[-1]] += 1
    vocabulary = len(counts[()]) + 1
    total = tokens = 0.0
    for window in windows(validation):
        p = 1 / vocabulary
        for start in reversed(range(order)):
            seen = counts.get(window[start:-1])
            if seen:
                p = (seen[window[-1]] + len(seen) * p) / (seen.total() + len(seen))
        total -= math.log(p)
        tokens += 1
    return math.exp(total / tokens)
