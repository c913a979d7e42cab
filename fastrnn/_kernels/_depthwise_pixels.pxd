# Convolution of each channel by itself with the channels last, in place or turned, for a team; the work is a Call.

from fastrnn._kernels._depthwise cimport Call, Places
from fastrnn._kernels._dispatch cimport fr_pixel_conv
from fastrnn._kernels._threads cimport Team
from fastrnn._kernels._windows cimport Axis, Range

cdef Range places_along(const Axis *axis) noexcept nogil
cdef ptrdiff_t entries_of_places(const Axis *axis) noexcept nogil
cdef void fill_places(const Axis *axis, const ptrdiff_t *stride, bint padded, ptrdiff_t *memory,
                      Places *places) noexcept nogil
cdef void run_box(const Axis *axis, int itemsize, const Places *places, const Range *box, fr_pixel_conv *g, char *y,
                  const ptrdiff_t *y_stride, void (*kernel)(const fr_pixel_conv *) noexcept nogil) noexcept nogil
cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil
cdef void share_of_pixel_gradients(void *work, Team *team, int member) noexcept nogil
