"""Elementwise functions over contiguous arrays."""

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_map_fn, kernels_for

cnp.import_array()


cdef void apply(fr_map_fn function, cnp.ndarray x, cnp.ndarray y):
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef void *target = cnp.PyArray_DATA(y)
    with nogil:
        function(n, source, target)


def exp(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = exp(x)."""
    apply(kernels_for(x.itemsize).exp, x, y)


def sigmoid(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = 1 / (1 + exp(-x))."""
    apply(kernels_for(x.itemsize).sigmoid, x, y)


def tanh(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = tanh(x)."""
    apply(kernels_for(x.itemsize).tanh, x, y)
