# Convolution of each channel by itself with the channels last, for a team; the work is a Call.

from fastrnn._kernels._threads cimport Team

cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil
cdef void share_of_pixel_gradients(void *work, Team *team, int member) noexcept nogil
