"""Kernels of two axes cut into pieces, each as it lies in memory of its own, and back."""

from cython cimport floating

cimport numpy as cnp

cnp.import_array()


cdef struct Cut:
    # Kernels of `size` taps in so many pieces of `taps`.
    ptrdiff_t kernels
    ptrdiff_t size[2]
    ptrdiff_t taps[2]
    ptrdiff_t pieces[2]


cdef enum Way:
    CUT
    JOIN
    ADD


cdef inline void move_row(floating *kernel, floating *piece, ptrdiff_t taps, ptrdiff_t inside, Way way) noexcept nogil:
    """One row of a piece, of whose taps so many lie in the kernel."""
    cdef ptrdiff_t j
    if way == CUT:
        for j in range(inside):
            piece[j] = kernel[j]
        for j in range(inside, taps):
            piece[j] = 0
    elif way == ADD:
        for j in range(inside):
            kernel[j] += piece[j]
    else:
        for j in range(inside):
            kernel[j] = piece[j]


cdef void move(const Cut *c, floating *kernels, floating *pieces, Way way) noexcept nogil:
    """Taps of all kernels to their pieces, or back."""
    cdef ptrdiff_t _kernel, down, along, row, column, inside, i
    for _kernel in range(c.kernels):
        for down in range(c.pieces[0]):
            for along in range(c.pieces[1]):
                column = along * c.taps[1]
                for i in range(c.taps[0]):
                    row = down * c.taps[0] + i
                    inside = min(c.taps[1], c.size[1] - column)
                    if row >= c.size[0]:
                        row = inside = 0
                    move_row(kernels + row * c.size[1] + column, pieces, c.taps[1], inside, way)
                    pieces += c.taps[1]
        kernels += c.size[0] * c.size[1]


cdef Cut describe(cnp.ndarray kernels, cnp.ndarray pieces, taps):
    cdef Cut c
    cdef int axis
    c.kernels = kernels.shape[0] * kernels.shape[1]
    for axis in range(2):
        c.size[axis], c.taps[axis] = kernels.shape[2 + axis], taps[axis]
        c.pieces[axis] = pieces.shape[2 + axis] // c.taps[axis]
    return c


cdef void run(cnp.ndarray kernels, cnp.ndarray pieces, taps, Way way):
    cdef Cut c = describe(kernels, pieces, taps)
    cdef void *at = cnp.PyArray_DATA(kernels)
    cdef void *in_pieces = cnp.PyArray_DATA(pieces)
    cdef bint single = kernels.itemsize == 4
    with nogil:
        if single:
            move(&c, <float *> at, <float *> in_pieces, way)
        else:
            move(&c, <double *> at, <double *> in_pieces, way)


def cut_kernels(cnp.ndarray kernels not None, cnp.ndarray pieces not None, taps):
    """Write kernels (K, C, *size) piece by piece of so many `taps`, zeros where the last ones have none; both C-contiguous.

    pieces : of the shape of the kernels, with the axes of the kernel rounded up to multiples of `taps`
    """
    run(kernels, pieces, taps, CUT)


def join_kernels(cnp.ndarray pieces not None, cnp.ndarray kernels not None, taps, bint add):
    """Write what `cut_kernels` made back as it was, or `add` it to what is there."""
    run(kernels, pieces, taps, ADD if add else JOIN)
