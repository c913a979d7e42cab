# Aligned memory that is used again: outputs and workspace.

cimport numpy as cnp


cdef class Block:
    cdef char *data
    cdef size_t capacity

cdef Block new_block(size_t nbytes)
cdef Block zeroed_block(size_t nbytes)
cdef cnp.ndarray new_array(cnp.dtype descr, int ndim, cnp.npy_intp *dims)
