"""Sequences of different lengths: packed step by step, longest first, and back.

Row r of the packed rows is place p of step s, counted over all steps; it belongs to sequence order[p] and to its own step s from
its start or, reversed, from its end.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

import numpy as np

cnp.import_array()


cdef ptrdiff_t *indices(cnp.ndarray array) noexcept:
    return <ptrdiff_t *> cnp.PyArray_DATA(array)


def sort_by_length(cnp.ndarray lengths not None):
    """Return the sequences (N,) in order of falling `lengths` (N,), equals in their order; and how many each step (longest,) has.

    `lengths` are contiguous intp >= 1, at least one.
    """
    cdef ptrdiff_t N = lengths.shape[0], n, t, longest = 0
    cdef const ptrdiff_t *length = indices(lengths)
    for n in range(N):
        longest = max(longest, length[n])
    cdef cnp.ndarray order = np.empty(N, np.intp), active = np.zeros(longest, np.intp), place = np.empty(longest, np.intp)
    cdef ptrdiff_t *count = indices(active)
    cdef ptrdiff_t *next_place = indices(place)
    for n in range(N):
        count[length[n] - 1] += 1
    for t in range(longest - 2, -1, -1):  # from sequences that end with step t to those that have it
        count[t] += count[t + 1]
    for t in range(longest):              # longer sequences come first
        next_place[t] = count[t + 1] if t + 1 < longest else 0
    for n in range(N):
        indices(order)[next_place[length[n] - 1]] = n
        next_place[length[n] - 1] += 1
    return order, active


def steps_before(cnp.ndarray row not None, cnp.ndarray active not None, ptrdiff_t rows):
    """Return for each row that of the step before, or -1-p for place p of the initial state.

    Step s has rows row[s] + p, p < active[s].
    """
    cdef cnp.ndarray previous = np.empty(rows, np.intp)
    cdef ptrdiff_t s, p
    for s in range(row.shape[0]):
        for p in range(indices(active)[s]):
            indices(previous)[indices(row)[s] + p] = indices(row)[s - 1] + p if s else -1 - p
    return previous


cdef struct Move:
    ptrdiff_t T, N, nbytes, t_stride, n_stride
    const ptrdiff_t *length
    const ptrdiff_t *order
    bint reverse
    char *steps  # (T, N, nbytes), in strides
    char *rows   # (rows, nbytes)


cdef Move description(cnp.ndarray array, cnp.ndarray lengths, cnp.ndarray order, bint reverse, cnp.ndarray rows) noexcept:
    cdef Move m
    m.T, m.N, m.nbytes = array.shape[0], array.shape[1], rows.shape[1] * rows.itemsize
    m.t_stride, m.n_stride = array.strides[0], array.strides[1]
    m.length, m.order, m.reverse = indices(lengths), indices(order), reverse
    m.steps, m.rows = <char *> cnp.PyArray_DATA(array), <char *> cnp.PyArray_DATA(rows)
    return m


def gather(cnp.ndarray array not None, cnp.ndarray lengths not None, cnp.ndarray order not None, bint reverse,
           cnp.ndarray rows not None):
    """rows (rows, n) = the valid steps of array (T, N, n), whose last axis is contiguous."""
    cdef Move m = description(array, lengths, order, reverse, rows)
    with nogil:
        move(&m, False)


def scatter(cnp.ndarray rows not None, cnp.ndarray lengths not None, cnp.ndarray order not None, bint reverse,
            cnp.ndarray array not None):
    """The valid steps of array (T, N, n), whose last axis is contiguous, = rows (rows, n); all others become zeros."""
    cdef Move m = description(array, lengths, order, reverse, rows)
    with nogil:
        move(&m, True)
        clear_padding(&m)


cdef void move(Move *m, bint back) noexcept nogil:
    cdef char *row = m.rows
    cdef char *step
    cdef ptrdiff_t s, p, n
    for s in range(m.length[m.order[0]]):
        for p in range(m.N):
            n = m.order[p]
            if m.length[n] <= s:
                break
            step = m.steps + (m.length[n] - 1 - s if m.reverse else s) * m.t_stride + n * m.n_stride
            if back:
                memcpy(step, row, m.nbytes)
            else:
                memcpy(row, step, m.nbytes)
            row += m.nbytes


cdef void clear_padding(Move *m) noexcept nogil:
    cdef ptrdiff_t t, n
    for t in range(m.T):
        for n in range(m.N):
            if t >= m.length[n]:
                memset(m.steps + t * m.t_stride + n * m.n_stride, 0, m.nbytes)
