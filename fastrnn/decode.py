"""Label sequences from the outputs of a network trained with `ctc_loss`."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn._checks import FloatArray, IntArray, as_float_array, as_lengths, check_shape, plain_int, positive_int
from fastrnn.errors import TokenError

__all__ = ["ctc_beam_decode", "ctc_greedy_decode"]

Labels: TypeAlias = tuple[int, ...]


def ctc_greedy_decode(logits: FloatArray, lengths: ArrayLike | None = None, *, blank: int = 0) -> list[IntArray]:
    """Return the labels of the most likely class at each step: repeats become one, blanks go.

    Parameters
    ----------
    logits : ndarray (T, N, V), float32 or float64
        Or log probabilities.
    lengths : int array (N,) in 1..T, optional
        Steps past them are not read.
    blank : int

    Returns
    -------
    labels : list of N int arrays

    Raises
    ------
    ShapeError, DTypeError, LengthsError, TokenError, ArgumentError

    References
    ----------
    Graves, Fernandez, Gomez & Schmidhuber 2006, Connectionist temporal classification, section 3.2 (best path).
    """
    array, ends = _checked("ctc_greedy_decode", logits, lengths, blank)
    found: list[IntArray] = []
    for n, end in enumerate(ends):
        path = array[:end, n].argmax(axis=-1).astype(np.int64)
        first = np.append(True, path[1:] != path[:-1])[: len(path)]
        found.append(path[first & (path != blank)])
    return found


def ctc_beam_decode(
    logits: FloatArray, lengths: ArrayLike | None = None, *, blank: int = 0, beam_width: int = 10, top: int = 1
) -> list[list[tuple[IntArray, float]]]:
    """Return the most likely labels of each sequence, all their alignments taken together, by a prefix beam search.

    Of each step, `beam_width` beginnings are kept; the logarithms are of the alignments found on the way, and right if
    the beam is wide enough.

    Parameters
    ----------
    logits : ndarray (T, N, V), float32 or float64
        Or log probabilities.
    lengths : int array (N,) in 1..T, optional
        Steps past them are not read.
    blank, beam_width : int
    top : int
        How many to return for each sequence, the most likely first; fewer if the beam has fewer.

    Returns
    -------
    beams : list of N lists of (labels, log likelihood)

    Raises
    ------
    ShapeError, DTypeError, LengthsError, TokenError, ArgumentError

    References
    ----------
    Hannun et al. 2014, First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs,
    algorithm 1, without a language model.
    """
    name = "ctc_beam_decode"
    array, ends = _checked(name, logits, lengths, blank)
    width, count = positive_int(name, "beam_width", beam_width), positive_int(name, "top", top)
    log_p = array.astype(np.float64)
    with np.errstate(all="ignore"):  # infinities and NaN are ordinary values here
        log_p -= log_p.max(axis=-1, keepdims=True, initial=-np.inf)
        log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    beams: list[list[tuple[IntArray, float]]] = []
    for n, end in enumerate(ends):
        found = _search(log_p[:end, n], blank, width)
        best = sorted(found.items(), key=lambda item: -_sum(*item[1]))[:count]
        beams.append([(np.array(labels, np.int64), _sum(*ways)) for labels, ways in best])
    return beams


def _checked(name: str, logits: Any, lengths: ArrayLike | None, blank: int) -> tuple[FloatArray, NDArray[Any]]:
    array = as_float_array(name, "logits", logits)
    check_shape(name, "logits", array, "(T, N, V)")
    T, N, V = array.shape
    if plain_int(name, "blank", blank, 0) >= V:
        raise TokenError(f"{name}: 'blank' must be in 0..{V - 1}, got {blank}")
    return array, np.full(N, T) if lengths is None else as_lengths(name, lengths, N, T)


def _sum(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    high, low = (a, b) if a >= b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _search(log_p: FloatArray, blank: int, width: int) -> dict[Labels, tuple[float, float]]:
    """Return the beginnings in the last beam, with the log likelihoods that they end in a blank and in a label."""
    nothing = -math.inf
    beam: dict[Labels, tuple[float, float]] = {(): (0.0, nothing)}
    for step in log_p:
        ends: defaultdict[Labels, list[float]] = defaultdict(lambda: [nothing, nothing])
        # Of one beginning no more than `width` new ones can get into the beam; beside them, the blank and a repetition. Those
        # that are in the beam already go on in any case.
        likely = np.argsort(-step, kind="stable")[: width + 2].tolist()
        known: defaultdict[Labels, set[int]] = defaultdict(set)
        for labels in filter(None, beam):
            known[labels[:-1]].add(labels[-1])
        for labels, (in_blank, in_label) in beam.items():
            every = _sum(in_blank, in_label)
            same = ends[labels]
            same[0] = _sum(same[0], every + float(step[blank]))
            if labels:  # the last label goes on
                same[1] = _sum(same[1], in_label + float(step[labels[-1]]))
            for v in known[labels].union(likely) - {blank}:
                longer = ends[(*labels, v)]
                before = in_blank if labels and labels[-1] == v else every
                longer[1] = _sum(longer[1], before + float(step[v]))
        kept = sorted(ends.items(), key=lambda item: -_sum(*item[1]))[:width]
        beam = {labels: (ways[0], ways[1]) for labels, ways in kept}
    return beam
