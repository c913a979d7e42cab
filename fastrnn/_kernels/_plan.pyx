"""Which rows a time step reads and writes: the plan that lets one time loop serve every direction and any lengths.

Rows are sequence elements in 2-D arrays. Sequences of one length need no copy: step s owns rows row[s] .. row[s]+N-1 of the user's
arrays, backwards in time for the reverse direction. Sequences of different lengths are sorted, longest first, and packed step by
step, each from its own end if reversed, so that a step's rows lie side by side and the cost is that of the elements there are.
Row r of the packed rows is place p of step s, counted over all steps; it belongs to sequence order[p].
"""

from functools import lru_cache

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

import numpy as np

from fastrnn._kernels._threads cimport Rounds, Team, run_team, start_round, take, team_size

from fastrnn._kernels._memory import empty

cnp.import_array()

# 64 plans of so many rows hold at most 8 MB.
cdef ptrdiff_t KEPT_ROWS = 8192

cdef double NANOSECONDS_PER_BYTE = 0.05  # moved, within the second-level cache
cdef ptrdiff_t PIECES = 8                # of the steps, for each member


cdef ptrdiff_t *indices(cnp.ndarray array) noexcept:
    return <ptrdiff_t *> cnp.PyArray_DATA(array)


cdef cnp.ndarray new_indices(ptrdiff_t n):
    return cnp.PyArray_EMPTY(1, [<cnp.npy_intp> n], cnp.NPY_INTP, 0)


@cython.final
cdef class Plan:
    """Rows of each step, and the sequences they belong to; see the declarations of the attributes. Never changes."""

    cpdef cnp.ndarray gathered(self, cnp.ndarray steps):
        """Return the valid steps of (T, N, n), whose last axis is contiguous, as rows; the plan is one of lengths."""
        cdef cnp.ndarray rows = empty((self.rows, steps.shape[2]), steps.dtype)
        cdef Move m = description(steps, self, rows)
        with nogil:
            run_team(gather_share, &m, members(&m))
        return rows

    cpdef object scatter(self, cnp.ndarray rows, cnp.ndarray steps):
        """Write rows to the valid steps of (T, N, n), whose last axis is contiguous, and zeros to the others."""
        cdef Move m = description(steps, self, rows)
        with nogil:
            run_team(scatter_share, &m, members(&m))

    cdef cnp.ndarray before(self):
        """The row of the step before for each row, or -1-n for row n of the initial state."""
        cdef cnp.ndarray previous = new_indices(self.rows)
        cdef ptrdiff_t s, p
        for s in range(self.row.shape[0]):
            for p in range(indices(self.active)[s]):
                indices(previous)[indices(self.row)[s] + p] = indices(self.row)[s - 1] + p if s else -1 - p
        return previous


def uniform(T, N, reverse):
    """Return the plan of N sequences of length T >= 1; small ones, whose making would be felt, are kept."""
    return kept_uniform(T, N, reverse) if T * N <= KEPT_ROWS else new_uniform(T, N, reverse)


def new_uniform(ptrdiff_t T, ptrdiff_t N, bint reverse):
    """Return what `uniform` returns."""
    cdef Plan plan = Plan.__new__(Plan)
    cdef ptrdiff_t s, n
    plan.row, plan.active, plan.last = new_indices(T), new_indices(T), new_indices(N)
    plan.rows, plan.reverse = T * N, reverse
    for s in range(T):
        indices(plan.row)[s], indices(plan.active)[s] = (T - 1 - s if reverse else s) * N, N
    for n in range(N):
        indices(plan.last)[n] = indices(plan.row)[T - 1] + n
    return plan


kept_uniform = lru_cache(maxsize=64)(new_uniform)


def ragged(lengths, bint reverse):
    """Return the plan of sequences (N,) of the given integer lengths >= 1, at least one."""
    return new_ragged(np.array(lengths, np.intp), reverse)  # a copy: the caller's may change


cdef Plan new_ragged(cnp.ndarray lengths, bint reverse):
    """The plan of contiguous intp `lengths`, which must not change while it lives."""
    cdef Plan plan = Plan.__new__(Plan)
    cdef ptrdiff_t N = lengths.shape[0], n, s, longest = 0
    for n in range(N):
        longest = max(longest, indices(lengths)[n])
    plan.row, plan.active = new_indices(longest), new_indices(longest)
    plan.last, plan.order, plan.place = new_indices(N), new_indices(N), new_indices(N)
    plan.lengths, plan.reverse = lengths, reverse
    count_steps(plan, longest)
    plan.rows = indices(plan.row)[longest - 1] + indices(plan.active)[longest - 1]
    sort_by_length(plan, longest)
    for n in range(N):
        s = indices(lengths)[n] - 1
        indices(plan.last)[n] = indices(plan.row)[s] + indices(plan.place)[n]
    return plan


cdef void count_steps(Plan plan, ptrdiff_t longest) noexcept:
    cdef ptrdiff_t *active = indices(plan.active)
    cdef ptrdiff_t n, s
    memset(active, 0, longest * sizeof(ptrdiff_t))
    for n in range(plan.lengths.shape[0]):
        active[indices(plan.lengths)[n] - 1] += 1
    for s in range(longest - 2, -1, -1):  # from sequences that end with step s to those that have it
        active[s] += active[s + 1]
    indices(plan.row)[0] = 0
    for s in range(1, longest):
        indices(plan.row)[s] = indices(plan.row)[s - 1] + active[s - 1]


cdef sort_by_length(Plan plan, ptrdiff_t longest):
    """Fill `order`, equal lengths in their order, and `place`."""
    cdef cnp.ndarray place = new_indices(longest)
    cdef ptrdiff_t *next_place = indices(place)
    cdef ptrdiff_t n, s
    for s in range(longest):  # longer sequences come first
        next_place[s] = indices(plan.active)[s + 1] if s + 1 < longest else 0
    for n in range(plan.lengths.shape[0]):
        s = indices(plan.lengths)[n] - 1
        indices(plan.place)[n] = next_place[s]
        indices(plan.order)[next_place[s]] = n
        next_place[s] += 1


cdef struct Move:
    ptrdiff_t T, N, nbytes, t_stride, n_stride
    ptrdiff_t longest       # steps that have rows
    const ptrdiff_t *row
    const ptrdiff_t *active
    const ptrdiff_t *length
    const ptrdiff_t *order
    bint reverse
    char *steps  # (T, N, nbytes), in strides
    char *rows   # (rows, nbytes)


cdef Move description(cnp.ndarray steps, Plan plan, cnp.ndarray rows) noexcept:
    cdef Move m
    m.T, m.N, m.nbytes = steps.shape[0], steps.shape[1], rows.shape[1] * rows.itemsize
    m.t_stride, m.n_stride = steps.strides[0], steps.strides[1]
    m.longest, m.row, m.active = plan.row.shape[0], indices(plan.row), indices(plan.active)
    m.length, m.order, m.reverse = indices(plan.lengths), indices(plan.order), plan.reverse
    m.steps, m.rows = <char *> cnp.PyArray_DATA(steps), <char *> cnp.PyArray_DATA(rows)
    return m


cdef int members(Move *m) noexcept nogil:
    return team_size(NANOSECONDS_PER_BYTE * m.T * m.N * m.nbytes, 1, m.T)


cdef void gather_share(void *work, Team *team, int member) noexcept nogil:
    cdef Move *m = <Move *> work
    cdef Rounds rounds = moving(m, team, member)
    cdef ptrdiff_t first, last, s, p
    while take(&rounds, &first, &last):
        for s in range(first, min(last, m.longest)):
            for p in range(m.active[s]):
                memcpy(row_at(m, s, p), element_at(m, s, p), m.nbytes)


cdef void scatter_share(void *work, Team *team, int member) noexcept nogil:
    cdef Move *m = <Move *> work
    cdef Rounds rounds = moving(m, team, member)
    cdef ptrdiff_t first, last, s, p, n
    while take(&rounds, &first, &last):
        for s in range(first, min(last, m.longest)):
            for p in range(m.active[s]):
                memcpy(element_at(m, s, p), row_at(m, s, p), m.nbytes)
        for s in range(first, last):  # now steps of time
            for n in range(m.N):
                if s >= m.length[n]:
                    memset(m.steps + s * m.t_stride + n * m.n_stride, 0, m.nbytes)


cdef Rounds moving(Move *m, Team *team, int member) noexcept nogil:
    """One round over all steps, a few at a time: later ones have fewer rows."""
    cdef Rounds rounds
    rounds.team, rounds.member, rounds.parity = team, member, 0
    start_round(&rounds, m.T, max(<ptrdiff_t> 1, m.T // (PIECES * team.size)), False)
    return rounds


cdef inline char *row_at(Move *m, ptrdiff_t s, ptrdiff_t p) noexcept nogil:
    return m.rows + (m.row[s] + p) * m.nbytes


cdef inline char *element_at(Move *m, ptrdiff_t s, ptrdiff_t p) noexcept nogil:
    """What belongs to place p of step s."""
    cdef ptrdiff_t n = m.order[p]
    return m.steps + (m.length[n] - 1 - s if m.reverse else s) * m.t_stride + n * m.n_stride
