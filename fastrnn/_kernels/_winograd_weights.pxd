# Transformed weights of a Winograd convolution.

from fastrnn._kernels._dispatch cimport fr_boxes, fr_kernels
from fastrnn._kernels._memory cimport Block
from fastrnn._kernels._winograd_tiles cimport Algorithm

cdef struct Transform:
    # Weights [group, units, channels, taps] at these strides, and U, of all panels or of a part of one.
    const fr_kernels *kernels
    int itemsize
    Algorithm algorithm
    const char *weight
    ptrdiff_t units, channels, unit_stride, channel_stride  # units and channels of a group
    ptrdiff_t groups, group_bytes
    int flipped
    int packed  # weight is [panel][channel][tap][4 W]; only if there is one piece
    char *transformed
    char *scratch

cdef void transform_part(const Transform *t, ptrdiff_t panel, ptrdiff_t piece, ptrdiff_t channel, ptrdiff_t channels, char *to,
                         ptrdiff_t point_stride, char *scratch) noexcept nogil
cdef fr_boxes part_of_weights(const Transform *t, ptrdiff_t panel, ptrdiff_t channel, ptrdiff_t channels) noexcept nogil
cdef Block packed_weights(const Transform *t)
cdef ptrdiff_t packed_bytes(const Transform *t) noexcept nogil
cdef ptrdiff_t group_distance(const Transform *t) noexcept nogil
cdef ptrdiff_t row_of_units(const fr_kernels *kernels, ptrdiff_t units) noexcept nogil
cdef ptrdiff_t point_distance(const Transform *t) noexcept nogil
cdef Block transformed_weights(const Transform *t)
