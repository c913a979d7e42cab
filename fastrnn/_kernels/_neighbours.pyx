"""Several maps to a channel, with the channels last: each channel once for each of its maps, and the sums of those.

What belongs to a channel then lies side by side, so that arrays are long rows, whatever their shape. Those of a stream, whose
samples lie apart, are one for each sample.
"""

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_kernels, kernels_for
from fastrnn._kernels._threads cimport Team, first_element, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_VALUE = 0.2  # of the longer row


cdef struct Rows:
    const fr_kernels *kernels
    int itemsize
    char *short_row
    char *long_row
    ptrdiff_t rows, short_stride, long_stride
    ptrdiff_t n, maps  # elements of a short row; for each, of the long one


cdef void share_of_repeated(void *work, Team *team, int member) noexcept nogil:
    cdef const Rows *r = <const Rows *> work
    cdef ptrdiff_t first = first_element(r.n, member, team.size), count = first_element(r.n, member + 1, team.size) - first
    r.kernels.weave(r.rows, count * r.maps, r.maps, r.short_row + first * r.itemsize, r.short_stride, 0,
                    r.long_row + first * r.maps * r.itemsize, r.long_stride)


cdef void share_of_sums(void *work, Team *team, int member) noexcept nogil:
    cdef const Rows *r = <const Rows *> work
    cdef ptrdiff_t first = first_element(r.n, member, team.size), count = first_element(r.n, member + 1, team.size) - first
    cdef ptrdiff_t row
    for row in range(r.rows):
        r.kernels.sum_phases(count, r.maps, r.long_row + (row * r.long_stride + first * r.maps) * r.itemsize,
                             r.short_row + (row * r.short_stride + first) * r.itemsize)


cdef int describe(Rows *r, cnp.ndarray short_row, cnp.ndarray long_row):
    """Fill in a call and return the size of its team."""
    r.itemsize, r.kernels = short_row.itemsize, kernels_for(short_row.itemsize)
    r.short_row, r.long_row = <char *> cnp.PyArray_DATA(short_row), <char *> cnp.PyArray_DATA(long_row)
    r.n, r.rows, r.short_stride, r.long_stride = cnp.PyArray_SIZE(short_row), 1, 0, 0
    r.maps = cnp.PyArray_SIZE(long_row) // max(<ptrdiff_t> 1, r.n)
    if not (cnp.PyArray_IS_C_CONTIGUOUS(short_row) and cnp.PyArray_IS_C_CONTIGUOUS(long_row)):
        r.rows, r.n = short_row.shape[0], r.n // max(<ptrdiff_t> 1, <ptrdiff_t> short_row.shape[0])
        r.short_stride, r.long_stride = short_row.strides[0] // r.itemsize, long_row.strides[0] // r.itemsize
    return team_size(NANOSECONDS_PER_VALUE * cnp.PyArray_SIZE(long_row), 1, max(<ptrdiff_t> 1, r.n // 1024))


cdef void repeat_channels(cnp.ndarray x, cnp.ndarray repeated):
    """Write repeated[..., c * maps + i] = x[..., c]; each sample C-contiguous."""
    cdef Rows r
    cdef int size = describe(&r, x, repeated)
    with nogil:
        run_team(share_of_repeated, &r, size)


cdef void sum_of_maps(cnp.ndarray maps, cnp.ndarray y):
    """Write y[..., c] = the sum over i of maps[..., c * maps + i]; each sample C-contiguous."""
    cdef Rows r
    cdef int size = describe(&r, y, maps)
    with nogil:
        run_team(share_of_sums, &r, size)
