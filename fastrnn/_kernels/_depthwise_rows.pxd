# Convolution of each channel by itself with the channels first, over maps where they lie, for a team.

from fastrnn._kernels._depthwise cimport Both, Call
from fastrnn._kernels._threads cimport Team

cdef bint serves_rows(const Call *s) noexcept nogil
cdef ptrdiff_t bytes_of_rows(const Call *s, bint gradient) noexcept nogil
cdef void share_of_rows(void *work, Team *team, int member) noexcept nogil
cdef void share_of_row_gradients(void *work, Team *team, int member) noexcept nogil
