# Products over packed operands: the door to the one GEMM kernel, and dense layers.

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_gemm, fr_kernels
from fastrnn._kernels._memory cimport Block

cdef enum:
    # Rows of A and B summed at a time in a weight gradient. The longer the sums, the less often the gradient, which may lie in
    # memory, is read and written.
    OUTER_ROWS = 512
    # Bytes of A, and of B, that a weight gradient works on before it turns to the next: both stay in the second-level cache.
    OUTER_A_BYTES = 768 << 10
    OUTER_B_BYTES = 256 << 10

cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b

cdef inline ptrdiff_t row_stride(cnp.ndarray array) noexcept:
    """Elements between rows; an array of one row may claim any."""
    return array.strides[0] // array.itemsize if array.shape[0] > 1 else array.shape[1]

cdef inline ptrdiff_t outer_rows(ptrdiff_t rows) noexcept nogil:
    """Rows of one block of a weight gradient that sums over `rows`."""
    return min(rows, <ptrdiff_t> OUTER_ROWS)

cdef void gemm_columns(const fr_kernels *kernels, int itemsize, fr_gemm *product) noexcept nogil
cdef void gemm_long(const fr_kernels *kernels, int itemsize, const fr_gemm *product) noexcept nogil
cdef void add_outer(const fr_kernels *kernels, int itemsize, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a,
                    ptrdiff_t a_stride, const void *b, ptrdiff_t b_panel_stride, void *c, ptrdiff_t c_stride) noexcept nogil
cdef Block pack_transposed(const fr_kernels *kernels, int itemsize, const char *weight, ptrdiff_t rows, ptrdiff_t columns)
cdef Block pack_plain(const fr_kernels *kernels, int itemsize, const char *weight, ptrdiff_t rows, ptrdiff_t columns)
