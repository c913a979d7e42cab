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
from fastrnn._kernels._memory import empty
from fastrnn._kernels._ragged import gather, scatter, sort_by_length, steps_before

Array = NDArray[Any]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows of each step, and the sequences they belong to.

    Attributes
    ----------
    row, active : (T',) first row and number of rows of each step; `active` never grows
    last : (N,) each sequence's last row
    rows : how many there are
    order : (N,) the sequences, longest first, or None if the rows are the user's rows
    lengths : (N,) intp, or None with `order`
    reverse : bool. Whether steps run backwards in time.
    """

    row: Index
    active: Index
    last: Index
    rows: int
    order: Index | None = None
    lengths: Index | None = None
    reverse: bool = False

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

    def gathered(self, steps: Array) -> Array:
        """Return the valid steps of (T, N, n), whose last axis is contiguous, as rows."""
        assert self.order is not None and self.lengths is not None
        rows: Array = empty((self.rows, steps.shape[2]), steps.dtype)
        gather(steps, self.lengths, self.order, self.reverse, rows)
        return rows

    def scatter(self, rows: Array, steps: Array) -> None:
        """Write rows to the valid steps of (T, N, n), whose last axis is contiguous, and zeros to the others."""
        assert self.order is not None and self.lengths is not None
        scatter(rows, self.lengths, self.order, self.reverse, steps)

    def before(self) -> Index:
        """Return for each row that of the step before, or -1-n for row n of the initial state."""
        return steps_before(self.row, self.active, self.rows)


def uniform(T: int, N: int, reverse: bool) -> Plan:
    """Return the plan of N sequences of length T >= 1; small ones, whose making would be felt, are kept."""
    return _kept_uniform(T, N, reverse) if T * N <= KEPT_ROWS else _new_uniform(T, N, reverse)


def _new_uniform(T: int, N: int, reverse: bool) -> Plan:
    steps = np.arange(T - 1, -1, -1) if reverse else np.arange(T)
    row = (steps * N).astype(np.intp)
    return Plan(row, np.full(T, N, np.intp), row[-1] + np.arange(N, dtype=np.intp), T * N)


# 64 plans of so many rows hold at most 8 MB.
KEPT_ROWS = 8192
_kept_uniform = lru_cache(maxsize=64)(_new_uniform)


def ragged(lengths: IntArray, reverse: bool) -> Plan:
    """Return the plan of sequences of the given lengths >= 1."""
    length = np.array(lengths, np.intp)  # a copy: the caller's may change
    order, active = sort_by_length(length)
    row = np.cumsum(active) - active
    last = row[length[order] - 1] + np.arange(len(order))
    return Plan(row, active, last, int(row[-1] + active[-1]), order, length, reverse)


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
            return array.reshape(T * N, C)  # a view, as the two axes are one
    return None
