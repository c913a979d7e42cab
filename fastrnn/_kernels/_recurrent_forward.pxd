# The forward time loop of every recurrent cell.

from fastrnn._kernels._recurrent cimport Sequence
from fastrnn._kernels._threads cimport Team

cdef void forward_share(void *work, Team *team, int member) noexcept nogil
cdef void run_forward(Sequence *s) noexcept nogil

cdef inline const char *h_before(Sequence *s, ptrdiff_t t) noexcept nogil:
    """h of the step before t, [rows, R]; its row stride is h_before_stride."""
    return s.h0 if t == 0 else s.y + s.row[t - 1] * s.y_stride * s.itemsize

cdef inline ptrdiff_t h_before_stride(Sequence *s, ptrdiff_t t) noexcept nogil:
    return s.R if t == 0 else s.y_stride

cdef inline char *c_at(Sequence *s, ptrdiff_t t) noexcept nogil:
    """c of step t (-1: the initial state)."""
    if not s.keep:
        return s.c
    return <char *> s.c0 if t < 0 else s.c + s.row[t] * s.c_stride * s.itemsize
