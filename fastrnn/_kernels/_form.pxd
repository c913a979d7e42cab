# The shape of a contiguous array, and whether an array that comes has it.

cimport numpy as cnp
from libc.string cimport memcmp

cdef enum:
    MOST_AXES = 5

cdef struct Form:
    int ndim
    cnp.npy_intp dims[MOST_AXES]

cdef Form form_of(tuple shape, dtype) except *
cdef tuple as_tuple(const Form *form)

cdef inline bint fits(x, const Form *form, cnp.dtype dtype) noexcept:
    """Whether x is what kernels take as it is, of that form."""
    if type(x) is not cnp.ndarray:
        return False
    return (cnp.PyArray_NDIM(x) == form.ndim and (<cnp.ndarray> x).descr is dtype and cnp.PyArray_ISCARRAY_RO(x)
            and memcmp(cnp.PyArray_DIMS(x), form.dims, form.ndim * sizeof(cnp.npy_intp)) == 0)

cdef inline cnp.ndarray seen_as(cnp.ndarray array, const Form *form):
    """A contiguous array as one of that form, which has as many elements."""
    cdef cnp.PyArray_Dims dims
    dims.ptr, dims.len = <cnp.npy_intp *> form.dims, form.ndim
    return cnp.PyArray_Newshape(array, &dims, cnp.NPY_CORDER)
