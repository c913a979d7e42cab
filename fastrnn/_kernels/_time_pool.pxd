# The layout of a pooling over time.

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_kernels, fr_time_pool

# Sequences whose features lie side by side.
cdef struct Sequences:
    const fr_kernels *kernels
    fr_time_pool whole               # of one sequence with all its features
    ptrdiff_t count, itemsize
    ptrdiff_t stride, y_stride       # between sequences
    const cnp.int64_t *lengths       # NULL: all of them have whole.total steps
    bint mean, backward
    ptrdiff_t unit                   # features that stay together
    char *band                       # BAND_BYTES of each thread for dx on its way past the caches; NULL: it does not go there

cdef class Sequence:
    cdef Sequences all
    cdef object lengths

    cpdef object forward(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray times)
    cpdef object backward(self, cnp.ndarray dy, cnp.ndarray times, cnp.ndarray dx)
