"""Aligned memory that is used again: outputs and workspace.

The first touch of a fresh page costs about ten times a copy of it, and large blocks that go back to the operating system come back
fresh. So blocks of dead arrays are kept and handed out again, at most `KEPT_LIMIT` bytes of them whatever shapes a program uses;
the size that was used longest ago goes first.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.number cimport PyNumber_AsSsize_t
from cpython.object cimport PyTypeObject
from cpython.ref cimport PyObject, Py_INCREF
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdlib.h>
    #include <sys/mman.h>
    #ifdef MADV_HUGEPAGE
    static void fr_advise_huge(void *data, size_t nbytes) { (void)madvise(data, nbytes, MADV_HUGEPAGE); }
    #else
    static void fr_advise_huge(void *data, size_t nbytes) { (void)data; (void)nbytes; }
    #endif
    """
    int posix_memalign(void **out, size_t alignment, size_t nbytes)
    void fr_advise_huge(void *data, size_t nbytes)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(PyTypeObject *subtype, cnp.dtype descr, int ndim, cnp.npy_intp *dims, cnp.npy_intp *strides,
                                void *data, int flags, PyObject *parent)

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cnp.import_array()

cdef size_t LINE = 64
cdef size_t HUGE_PAGE = 2 << 20
cdef size_t SMALL = 32 << 10       # the C library serves these from memory that it already holds
cdef size_t KEPT_LIMIT = 256 << 20

cdef dict kept = {}                # capacity -> addresses of free blocks; the class used longest ago comes first
cdef size_t kept_bytes = 0


cdef size_t capacity_for(size_t nbytes):
    """Round up to a size class: a multiple of an eighth of the power of two below, so that at most an eighth is unused."""
    cdef size_t power = SMALL
    if nbytes <= SMALL:
        return max(LINE, (nbytes + LINE - 1) // LINE * LINE)
    while power * 2 <= nbytes:
        power *= 2
    cdef size_t step = power // 8
    return (nbytes + step - 1) // step * step


cdef char *take(size_t capacity) except NULL:
    global kept_bytes
    cdef void *data = NULL
    cdef list blocks = kept.get(capacity) if capacity > SMALL else None
    if blocks is not None:
        address = blocks.pop()
        kept_bytes -= capacity
        if not blocks:
            del kept[capacity]
        return <char *> <size_t> address
    cdef size_t alignment = HUGE_PAGE if capacity >= 2 * HUGE_PAGE else LINE
    if posix_memalign(&data, alignment, capacity) != 0:
        raise MemoryError(f"cannot allocate {capacity} bytes")
    if alignment == HUGE_PAGE:
        fr_advise_huge(data, capacity)
    return <char *> data


cdef void give_back(char *data, size_t capacity):
    global kept_bytes
    if capacity <= SMALL or capacity > KEPT_LIMIT:
        free(data)
        return
    cdef list fresh = [], blocks = kept.pop(capacity, fresh)  # made first: making it may free another block of this class
    blocks.append(<size_t> data)
    kept[capacity] = blocks
    kept_bytes += capacity
    while kept_bytes > KEPT_LIMIT:
        drop_oldest()


cdef void drop_oldest():
    global kept_bytes
    cdef size_t capacity = next(iter(kept))
    cdef list blocks = kept[capacity]
    free(<void *> <size_t> blocks.pop(0))
    kept_bytes -= capacity
    if not blocks:
        del kept[capacity]


@cython.final
@cython.no_gc
cdef class Block:
    """Owns aligned memory; its death returns the memory to the pool."""

    def __dealloc__(self):
        if self.data != NULL:
            give_back(self.data, self.capacity)


cdef Block new_block(size_t nbytes):
    """At least `nbytes` bytes, 64-byte aligned, contents undefined."""
    cdef Block block = Block.__new__(Block)
    block.capacity = capacity_for(nbytes)
    block.data = take(block.capacity)
    return block


cdef Block zeroed_block(size_t nbytes):
    cdef Block block = new_block(nbytes)
    memset(block.data, 0, nbytes)
    return block


cdef cnp.ndarray new_array(cnp.dtype descr, int ndim, cnp.npy_intp *dims):
    """What `empty` returns, for a shape that is checked: its sizes are non-negative, and it fits in memory."""
    cdef size_t nbytes = descr.itemsize
    cdef int axis
    for axis in range(ndim):
        nbytes *= dims[axis]
    cdef Block block = new_block(nbytes)
    Py_INCREF(descr)  # the call below takes one reference for itself
    cdef cnp.ndarray array = PyArray_NewFromDescr(
        <PyTypeObject *> cnp.ndarray, descr, ndim, dims, NULL, block.data, cnp.NPY_ARRAY_CARRAY, NULL)
    cnp.set_array_base(array, block)
    return array


def empty(shape, dtype):
    """An uninitialised C-contiguous array, 64-byte aligned, in memory that is used again after its death.

    Parameters
    ----------
    shape : tuple of int
    dtype : a NumPy type without Python objects in it
    """
    cdef cnp.dtype descr = dtype if isinstance(dtype, cnp.dtype) else np.dtype(dtype)
    if not isinstance(shape, tuple):
        raise TypeError(f"empty: 'shape' must be a tuple of int, got {type(shape).__name__}")
    cdef cnp.npy_intp dims[32]
    cdef Py_ssize_t nbytes = descr.itemsize, size
    cdef int axis, ndim = len(shape)
    if descr.hasobject:
        raise TypeError(f"empty: 'dtype' must not hold Python objects, got {descr}")
    if ndim > 32:
        raise ValueError(f"empty: 'shape' must have at most 32 axes, got {ndim}")
    for axis in range(ndim):
        try:
            size = PyNumber_AsSsize_t(shape[axis], OverflowError)
        except OverflowError:
            size = -1
        if size < 0 or size > PY_SSIZE_T_MAX // max(nbytes, <Py_ssize_t> 1):
            raise ValueError(f"empty: 'shape' must be non-negative and fit in memory, got {shape}")
        dims[axis] = size
        nbytes *= size
    return new_array(descr, ndim, dims)


def kept_memory():
    """Bytes held for the next calls."""
    return kept_bytes
