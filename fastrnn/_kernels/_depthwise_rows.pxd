# Convolution of each channel by itself over maps where they lie, for a team.

from fastrnn._kernels._depthwise cimport Both, Call
from fastrnn._kernels._dispatch cimport fr_bare_conv
from fastrnn._kernels._memory cimport Block
from fastrnn._kernels._threads cimport Team

cdef ptrdiff_t rows_of_band(const Call *s) noexcept nogil
cdef ptrdiff_t bytes_of_band(const Call *s) noexcept nogil
cdef void keep_rows(const Call *s, ptrdiff_t n, ptrdiff_t first, ptrdiff_t end) noexcept nogil
cdef bint fits_rows(const Call *s) noexcept nogil
cdef bint fits_pairs(const Call *s) noexcept nogil
cdef Block scratch_of_rows(Call *s, int size, bint gradient)
cdef void see_rows(const Call *s, ptrdiff_t first, ptrdiff_t end, const char *x, fr_bare_conv *g) noexcept nogil
cdef void order_weight(const Call *s, const char *weight, ptrdiff_t bytes, ptrdiff_t apart, char *to) noexcept nogil
cdef void share_of_rows(void *work, Team *team, int member) noexcept nogil
cdef void share_of_row_gradients(void *work, Team *team, int member) noexcept nogil
cdef void share_of_sweeps(void *work, Team *team, int member) noexcept nogil
cdef void share_of_sweep_gradients(void *work, Team *team, int member) noexcept nogil
