# Rows of padded maps.

from fastrnn._kernels._windows cimport Axis, Range

cdef void pad_row(const Axis *axis, int itemsize, const char *row, Range places, ptrdiff_t part, char *to) noexcept nogil
