# Reals of either type, by the bytes of one.

cdef inline double get_real(const void *array, ptrdiff_t i, ptrdiff_t itemsize) noexcept nogil:
    return (<const float *> array)[i] if itemsize == 4 else (<const double *> array)[i]

cdef inline void put_real(void *array, ptrdiff_t i, double value, ptrdiff_t itemsize) noexcept nogil:
    if itemsize == 4:
        (<float *> array)[i] = <float> value
    else:
        (<double *> array)[i] = value
