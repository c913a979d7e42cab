# A part of a batch as a time loop of its own.

from fastrnn._kernels._recurrent cimport Sequence

cdef int forward_parts(Sequence *s, double step_time) noexcept nogil
cdef int backward_parts(Sequence *s, double step_time) noexcept nogil
cdef Sequence part_of(Sequence *s, int member, int size) noexcept nogil

cdef inline ptrdiff_t rows_of(Sequence *s, ptrdiff_t t) noexcept nogil:
    """How many rows step t has; those of a part lie from row s.row[t] + s.place on."""
    return min(s.N, s.active[t] - s.place)
