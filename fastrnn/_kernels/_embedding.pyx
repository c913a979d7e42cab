"""Table look-up, bags of rows, and their gradients, which read and write only the rows that were used."""

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_bags, fr_kernels, kernels_for
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_BYTE = 0.1  # of rows that lie anywhere in a table

cdef struct Work:
    const fr_kernels *kernels
    int itemsize
    fr_bags whole

cdef void share_of_rows(void *given, Team *team, int member) noexcept nogil:
    cdef const Work *work = <const Work *> given
    cdef const fr_bags *s = &work.whole
    cdef ptrdiff_t first = first_of(s.bags, member, team.size), n = first_of(s.bags, member + 1, team.size) - first
    work.kernels.pick_rows(n, s.width, s.tokens + first, s.table, <char *> s.y + first * s.width * work.itemsize)

cdef void share_of_bags(void *given, Team *team, int member) noexcept nogil:
    cdef const Work *work = <const Work *> given
    cdef fr_bags part = work.whole
    cdef ptrdiff_t first = first_of(part.bags, member, team.size)
    part.bags = first_of(part.bags, member + 1, team.size) - first
    part.start += first
    part.y = <char *> part.y + first * part.width * work.itemsize
    if part.scale != NULL:
        part.scale = <const char *> part.scale + first * work.itemsize
    if part.places != NULL:
        part.places += first * part.width
    work.kernels.bags(&part)

cdef void share_of_gradient(void *given, Team *team, int member) noexcept nogil:
    cdef const Work *work = <const Work *> given
    cdef fr_bags part = work.whole
    part.member, part.members = member, team.size
    work.kernels.bags_backward(&part)

cdef int members(const Work *work, ptrdiff_t positions) noexcept nogil:
    return team_size(NANOSECONDS_PER_BYTE * positions * work.whole.width * work.itemsize, 1, positions)

cdef Work work_on(cnp.ndarray tokens, cnp.ndarray table, cnp.ndarray y):
    cdef Work work
    memset(&work, 0, sizeof(work))
    work.itemsize = table.itemsize
    work.kernels = kernels_for(work.itemsize)
    work.whole.bags, work.whole.width = y.shape[0], table.shape[1]
    work.whole.tokens = <const int64_t *> cnp.PyArray_DATA(tokens)
    work.whole.table, work.whole.y = cnp.PyArray_DATA(table), cnp.PyArray_DATA(y)
    return work

cdef void add_options(fr_bags *s, cnp.ndarray start, cnp.ndarray factors, cnp.ndarray scale, cnp.ndarray places):
    s.start = <const ptrdiff_t *> cnp.PyArray_DATA(start)
    if factors is not None:
        s.factors = cnp.PyArray_DATA(factors)
    if scale is not None:
        s.scale = cnp.PyArray_DATA(scale)
    if places is not None:
        s.places = <int32_t *> cnp.PyArray_DATA(places)


def gather(cnp.ndarray tokens not None, cnp.ndarray weight not None, cnp.ndarray out not None):
    """out[i] = weight[tokens[i]]; tokens (n,) int64 in range, weight (V, E) and out (n, E) contiguous."""
    cdef Work work = work_on(tokens, weight, out)
    cdef int size = members(&work, tokens.shape[0])
    with nogil:
        run_team(share_of_rows, &work, size)


def scatter_add(cnp.ndarray tokens not None, cnp.ndarray dy not None, cnp.ndarray grad not None):
    """grad[tokens[i]] += dy[i], in order of i; dy (n, E) and grad (V, E) contiguous."""
    cdef Work work = work_on(tokens, grad, dy)
    cdef int size = members(&work, tokens.shape[0])
    with nogil:
        run_team(share_of_gradient, &work, size)


def bags(cnp.ndarray tokens not None, cnp.ndarray start not None, cnp.ndarray weight not None, cnp.ndarray factors,
         cnp.ndarray scale, cnp.ndarray out not None, cnp.ndarray places):
    """Fill out (bags, E): sums of rows, or maxima if there are `places` (bags, E) int32 to fill; see `fr_bags`.

    tokens (n,) int64, start (bags + 1,) intp, factors (n,) and scale (bags,) of the type of weight, or None.
    """
    cdef Work work = work_on(tokens, weight, out)
    add_options(&work.whole, start, factors, scale, places)
    cdef int size = min(members(&work, tokens.shape[0]), max(work.whole.bags, 1))
    with nogil:
        run_team(share_of_bags, &work, size)


def bags_backward(cnp.ndarray tokens not None, cnp.ndarray start not None, cnp.ndarray grad not None, cnp.ndarray factors,
                  cnp.ndarray scale, cnp.ndarray dy not None, cnp.ndarray places):
    """Add the gradients of the rows to grad (V, E); the other arguments are those of `bags`."""
    cdef Work work = work_on(tokens, grad, dy)
    add_options(&work.whole, start, factors, scale, places)
    cdef int size = members(&work, tokens.shape[0])
    with nogil:
        run_team(share_of_gradient, &work, size)
