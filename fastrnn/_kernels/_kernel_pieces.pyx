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


cdef void cut(const Cut *c, const floating *kernels, floating *pieces) noexcept nogil:
    cdef ptrdiff_t _kernel, down, along, row, column, i, j
    for _kernel in range(c.kernels):
        for down in range(c.pieces[0]):
            for along in range(c.pieces[1]):
                for i in range(c.taps[0]):
                    row = down * c.taps[0] + i
                    for j in range(c.taps[1]):
                        column = along * c.taps[1] + j
                        pieces[j] = kernels[row * c.size[1] + column] if row < c.size[0] and column < c.size[1] else 0
                    pieces += c.taps[1]
        kernels += c.size[0] * c.size[1]


cdef void join(const Cut *c, const floating *pieces, floating *kernels, bint add) noexcept nogil:
    cdef ptrdiff_t _kernel, down, along, row, column, i, j
    for _kernel in range(c.kernels):
        for down in range(c.pieces[0]):
            for along in range(c.pieces[1]):
                for i in range(c.taps[0]):
                    row = down * c.taps[0] + i
                    if row < c.size[0]:
                        for j in range(min(c.taps[1], c.size[1] - along * c.taps[1])):
                            column = row * c.size[1] + along * c.taps[1] + j
                            kernels[column] = pieces[j] + kernels[column] if add else pieces[j]
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


def cut_kernels(cnp.ndarray kernels not None, cnp.ndarray pieces not None, taps):
    """Write kernels (K, C, *size) piece by piece of so many `taps`, zeros where the last ones have none; both C-contiguous.

    pieces : of the shape of the kernels, with the axes of the kernel rounded up to multiples of `taps`
    """
    cdef Cut c = describe(kernels, pieces, taps)
    cdef void *src = cnp.PyArray_DATA(kernels)
    cdef void *dst = cnp.PyArray_DATA(pieces)
    cdef bint single = kernels.itemsize == 4
    with nogil:
        if single:
            cut(&c, <const float *> src, <float *> dst)
        else:
            cut(&c, <const double *> src, <double *> dst)


def join_kernels(cnp.ndarray pieces not None, cnp.ndarray kernels not None, taps, bint add):
    """Write what `cut_kernels` made back as it was, or `add` it to what is there."""
    cdef Cut c = describe(kernels, pieces, taps)
    cdef void *src = cnp.PyArray_DATA(pieces)
    cdef void *dst = cnp.PyArray_DATA(kernels)
    cdef bint single = kernels.itemsize == 4
    with nogil:
        if single:
            join(&c, <const float *> src, <float *> dst, add)
        else:
            join(&c, <const double *> src, <double *> dst, add)
