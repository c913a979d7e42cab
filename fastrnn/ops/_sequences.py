"""Which rows a time step reads and writes: the plan that lets one time loop serve every direction and any lengths.

Rows are sequence elements in 2-D arrays. Sequences of one length need no copy: step s owns rows row[s] .. row[s]+N-1 of the user's
arrays, backwards in time for the reverse direction. Sequences of different lengths are sorted, longest first, and packed step by
step, each from its own end if reversed, so that a step's rows lie side by side and the cost is that of the elements there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import IntArray

Array = NDArray[Any]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows of each step, and how to get from the user's arrays to them and back.

    Attributes
    ----------
    row, active : (T',) first row and number of rows of each step; `active` never grows
    previous : (rows,) the row that holds the step before, or -1-n for row n of the initial state
    last : (N,) each sequence's last row
    source : (rows,) place in the flattened (T, N) of each row, or None if rows are the user's rows
    order : (N,) the sequences, longest first, or None
    """

    row: Index
    active: Index
    previous: Index
    last: Index
    source: Index | None = None
    order: Index | None = None

    def sorted(self, state: Array) -> Array:
        """Return a contiguous (N, ...) state with its rows in processing order."""
        return np.ascontiguousarray(state if self.order is None else state[self.order])

    def unsorted(self, state: Array) -> Array:
        """Return a state in the user's order."""
        if self.order is None:
            return state
        restored = np.empty_like(state)
        restored[self.order] = state
        return restored


def uniform(T: int, N: int, reverse: bool) -> Plan:
    """Return the plan of N sequences of length T >= 1; small ones, whose making would be felt, are kept."""
    return _kept_uniform(T, N, reverse) if T * N <= KEPT_ROWS else _new_uniform(T, N, reverse)


def _new_uniform(T: int, N: int, reverse: bool) -> Plan:
    steps = np.arange(T - 1, -1, -1) if reverse else np.arange(T)
    row = (steps * N).astype(np.intp)
    active = np.full(T, N, np.intp)
    everything = np.arange(T * N)
    previous = (everything + (N if reverse else -N)).astype(np.intp)
    first = np.arange(N, dtype=np.intp)
    previous[row[0] : row[0] + N] = -1 - first
    return Plan(row, active, previous, row[-1] + first)


# 64 plans of so many rows hold at most 5 MB.
KEPT_ROWS = 8192
_kept_uniform = lru_cache(maxsize=64)(_new_uniform)


def ragged(T: int, N: int, lengths: IntArray, reverse: bool) -> Plan:
    """Return the plan of sequences of the given lengths in 1..T."""
    order = np.argsort(-lengths, kind="stable").astype(np.intp)
    descending = lengths[order].astype(np.intp)
    active = (descending > np.arange(descending[0])[:, np.newaxis]).sum(axis=1, dtype=np.intp)
    row = np.cumsum(active, dtype=np.intp) - active
    step = np.repeat(np.arange(len(active)), active)
    place = np.arange(len(step)) - row[step]
    time = descending[place] - 1 - step if reverse else step
    previous = np.where(step == 0, -1 - place, row[step - 1] + place).astype(np.intp)
    last = row[descending - 1] + np.arange(N)
    return Plan(row, active, previous, last, source=(time * N + order[place]).astype(np.intp), order=order)


def as_rows(array: Array) -> Array | None:
    """Return a (T, N, C) array as (T*N, C) without a copy, or None if the kernels cannot step through its rows as they lie."""
    T, N, C = array.shape
    if array.flags.c_contiguous and array.flags.aligned:
        return array.reshape(T * N, C)
    outer, inner, last = array.strides
    if not array.flags.aligned or (C > 1 and last != array.itemsize):
        return None
    if N == 1 or T == 1 or outer == N * inner:
        step = outer if N == 1 else inner
        if step >= C * array.itemsize and step % array.itemsize == 0:
            return np.lib.stride_tricks.as_strided(array, (T * N, C), (step, array.itemsize))
    return None
