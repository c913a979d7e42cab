"""Table look-up and its gradient; the gradient reads and writes only the rows that were used."""

cimport numpy as cnp
from libc.string cimport memcpy

from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_gemm, fr_kernels, kernels_for

cnp.import_array()


def gather(cnp.ndarray tokens not None, cnp.ndarray weight not None, cnp.ndarray out not None):
    """out[i] = weight[tokens[i]]; tokens (n,) int64 in range, weight (V, E) and out (n, E) contiguous."""
    cdef const cnp.int64_t *token = <const cnp.int64_t *> cnp.PyArray_DATA(tokens)
    cdef ptrdiff_t i, n = tokens.shape[0], row = weight.shape[1] * weight.itemsize
    cdef const char *table = <const char *> cnp.PyArray_DATA(weight)
    cdef char *target = <char *> cnp.PyArray_DATA(out)
    with nogil:
        for i in range(n):
            memcpy(target + i * row, table + token[i] * row, row)


def scatter_add(cnp.ndarray tokens not None, cnp.ndarray dy not None, cnp.ndarray grad not None):
    """grad[tokens[i]] += dy[i], in order of i; dy (n, E) and grad (V, E) contiguous."""
    cdef const cnp.int64_t *token = <const cnp.int64_t *> cnp.PyArray_DATA(tokens)
    cdef ptrdiff_t i, n = tokens.shape[0], row = grad.shape[1] * grad.itemsize
    cdef const char *source = <const char *> cnp.PyArray_DATA(dy)
    cdef char *target = <char *> cnp.PyArray_DATA(grad)
    cdef const fr_kernels *kernels = kernels_for(grad.itemsize)
    cdef fr_gemm add  # no products: C += init
    add.rows, add.runs, add.add, add.backwards, add.slots = 1, 0, 1, 0, FR_SLOTS
    add.columns = grad.shape[1]
    add.init_row_stride = add.c_row_stride = 0
    add.init_panel_stride = add.c_panel_stride = FR_SLOTS * kernels.width
    add.panels = (add.columns + add.c_panel_stride - 1) // add.c_panel_stride
    with nogil:
        for i in range(n):
            add.init = source + i * row
            add.c = target + token[i] * row
            kernels.gemm(&add)
