# Where the windows of one pooling lie.

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_kernels, fr_pool, fr_pool_fn


cdef struct Rows:
    fr_pool_fn kernel
    const fr_kernels *kernels
    int itemsize
    fr_pool whole
    ptrdiff_t count
    ptrdiff_t together  # rows that are not shared out: those of a map that is turned
    ptrdiff_t length    # of a row of dx
    ptrdiff_t piece     # so many of them go past the caches together, from a thread's `band`; 0: none does
    char *band


cdef class Windows:
    cdef fr_pool pool
    cdef tuple tables
    cdef int itemsize
    cdef const void *factors[3]
    cdef bint exact, single

    cpdef object forward(self, int mode, cnp.ndarray x, cnp.ndarray y, cnp.ndarray taps)
    cpdef object backward(self, int mode, cnp.ndarray dy, cnp.ndarray taps, cnp.ndarray dx)
    cdef ptrdiff_t places(self)
    cdef void choose(self, Rows *rows, cnp.ndarray x, ptrdiff_t rows_of_map, ptrdiff_t limit, ptrdiff_t tile, int width)
    cdef bint has_tiles(self)
    cdef bint has_quads(self)
    cdef bint falls_into_bands(self, int width)
    cdef void multiply(self, Rows *rows)
    cdef Rows rows_of(self, int mode, cnp.ndarray x, cnp.ndarray y, cnp.ndarray taps)
