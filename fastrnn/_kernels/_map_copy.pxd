# Padded copies of parts of one map, in which places that lie a stride apart are neighbours.

from fastrnn._kernels._dispatch cimport fr_kernels
from fastrnn._kernels._windows cimport Axis, Blocks, Range

cdef struct Copy:
    # Place [d][h][w], counted from `first`, lies at data[w % step * part + d * place_stride[0] + h * place_stride[1] + w // step].
    char *data
    ptrdiff_t first[3]
    ptrdiff_t place_stride[2]
    ptrdiff_t part

cdef ptrdiff_t copy_bytes(const fr_kernels *kernels, int itemsize, const Axis *axis, const Blocks *blocks) noexcept nogil
cdef void copy_map(const fr_kernels *kernels, int itemsize, const Axis *axis, const char *map, const ptrdiff_t *place_stride,
                   const Range *box, char *memory, Copy *copy) noexcept nogil
