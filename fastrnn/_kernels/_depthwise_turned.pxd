# Convolution of each channel by itself with the channels first, turned, for a team.

from fastrnn._kernels._depthwise cimport Both, Call
from fastrnn._kernels._threads cimport Team

cdef bint serves_turned(const Call *s) noexcept nogil
cdef void prepare_turned(Call *s) noexcept nogil
cdef ptrdiff_t places_of_band(const Call *s) noexcept nogil
cdef void fill_turned(Call *s, ptrdiff_t *tables) noexcept nogil
cdef void share_of_turned(void *work, Team *team, int member) noexcept nogil
cdef void share_of_turned_gradients(void *work, Team *team, int member) noexcept nogil
