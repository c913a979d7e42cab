# Reals of either type, by the bytes of one; and when results are stored past the caches.

from fastrnn._kernels._dispatch cimport FR_PAST_BYTES

cdef inline double get_real(const void *array, ptrdiff_t i, ptrdiff_t itemsize) noexcept nogil:
    return (<const float *> array)[i] if itemsize == 4 else (<const double *> array)[i]

cdef inline void put_real(void *array, ptrdiff_t i, double value, ptrdiff_t itemsize) noexcept nogil:
    if itemsize == 4:
        (<float *> array)[i] = <float> value
    else:
        (<double *> array)[i] = value

# Of shorter stretches too many lines are shared with a neighbour, and those go through the caches.
cdef inline bint stored_past(ptrdiff_t nbytes, ptrdiff_t length) noexcept nogil:
    return nbytes > FR_PAST_BYTES and length >= 256
