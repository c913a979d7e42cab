# The part of the input that a box of outputs reads, with the channels last.

from fastrnn._kernels._dispatch cimport fr_kernels
from fastrnn._kernels._windows cimport Axis, Range

cdef struct Maps:
    # An input or output (N, channels, *sizes), in either layout; the strides count elements.
    char *data
    ptrdiff_t channels
    ptrdiff_t batch_stride, channel_stride
    ptrdiff_t place_stride[3]

cdef struct Band:
    # Value of channel c at a place: data[n*batch_stride + sum (place - first)*place_stride + c]
    char *data
    ptrdiff_t batch_stride
    ptrdiff_t place_stride[3]
    ptrdiff_t first[3]

cdef void fill_band(const fr_kernels *kernels, int itemsize, const Axis *axis, const Maps *x, ptrdiff_t channel,
                    ptrdiff_t channels, const Range *box, char *memory, Band *band) noexcept nogil
cdef void borrow_band(int itemsize, const Maps *x, ptrdiff_t channel, const Range *box, Band *band) noexcept nogil
