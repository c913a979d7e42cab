# Aligned memory that is used again: outputs and workspace.

cdef class Block:
    cdef char *data
    cdef size_t capacity

cdef Block new_block(size_t nbytes)
cdef Block zeroed_block(size_t nbytes)
