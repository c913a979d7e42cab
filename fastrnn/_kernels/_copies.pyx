"""Copies of what a pullback keeps."""

cimport numpy as cnp
from libc.string cimport memcpy

from fastrnn._kernels._memory cimport new_array
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef extern from *:
    void fetch "__builtin_prefetch"(const void *address) nogil

cdef enum:
    LINE = 64
    AHEAD = 8192  # bytes fetched ahead of both arrays: alone, the memory lets one core copy at half the speed

cdef double NANOSECONDS_PER_BYTE = 0.1


cdef struct Copy:
    const char *src
    char *dst
    ptrdiff_t nbytes


cdef void share_of_copy(void *work, Team *team, int member) noexcept nogil:
    cdef Copy *c = <Copy *> work
    cdef ptrdiff_t at = first_of(c.nbytes, member, team.size), end = first_of(c.nbytes, member + 1, team.size)
    while at <= end - LINE:
        fetch(c.src + at + AHEAD)  # beyond the end too, which reads nothing
        fetch(c.dst + at + AHEAD)
        memcpy(c.dst + at, c.src + at, LINE)
        at += LINE
    memcpy(c.dst + at, c.src + at, end - at)


def copied(cnp.ndarray x not None):
    """A copy of a C-contiguous array, in memory that is used again: fresh pages would cost more than the copy."""
    cdef Copy c
    cdef cnp.ndarray y = new_array(<cnp.dtype> cnp.PyArray_DESCR(x), cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x))
    c.src, c.dst, c.nbytes = <const char *> cnp.PyArray_DATA(x), <char *> cnp.PyArray_DATA(y), cnp.PyArray_NBYTES(x)
    cdef int size = team_size(NANOSECONDS_PER_BYTE * c.nbytes, 1, c.nbytes)
    with nogil:
        run_team(share_of_copy, &c, size)
    return y
