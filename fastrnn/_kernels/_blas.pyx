"""The only contact with BLAS, by way of scipy.linalg.cython_blas; importing this module imports scipy.linalg.

It serves where there is no tuned tile (the portable kernels) and no promise about single rows: weight gradients of dense layers.

Every product is cut into blocks of at most 64 x 64 x 64. OpenBLAS computes those in the calling thread: its own threads, woken
between two of our calls, would go on spinning for milliseconds. And the blocks stand where they stand whatever the team's size,
so that the bits do not depend on it.
"""

from scipy.linalg.cython_blas cimport dgemm, sgemm

ctypedef void (*outer_fn)(int itemsize, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const char *a, ptrdiff_t a_stride, const char *b,
                          ptrdiff_t b_stride, char *c, ptrdiff_t c_stride) noexcept nogil


cdef void outer_block(int itemsize, int m, int n, int k, const char *a, int a_stride, const char *b, int b_stride, char *c,
                      int c_stride) noexcept nogil:
    """C[m, n] += A[k, m]^T B[k, n], row-major; BLAS, column-major, sees C^T = B^T A."""
    cdef char plain = b"N", transposed = b"T"
    cdef float one_f = 1
    cdef double one_d = 1
    if itemsize == 4:
        sgemm(&plain, &transposed, &n, &m, &k, &one_f, <float *> b, &b_stride, <float *> a, &a_stride, &one_f, <float *> c,
              &c_stride)
    else:
        dgemm(&plain, &transposed, &n, &m, &k, &one_d, <double *> b, &b_stride, <double *> a, &a_stride, &one_d, <double *> c,
              &c_stride)


cdef void add_outer(int itemsize, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const char *a, ptrdiff_t a_stride, const char *b,
                    ptrdiff_t b_stride, char *c, ptrdiff_t c_stride) noexcept nogil:
    """C += A^T B in blocks, `m` starting at a multiple of 64 of the whole."""
    cdef ptrdiff_t im, jn, lk
    for im in range(0, m, 64):
        for jn in range(0, n, 64):
            for lk in range(0, k, 64):
                outer_block(itemsize, <int> min(64, m - im), <int> min(64, n - jn), <int> min(64, k - lk),
                            a + (lk * a_stride + im) * itemsize, <int> a_stride,
                            b + (lk * b_stride + jn) * itemsize, <int> b_stride,
                            c + (im * c_stride + jn) * itemsize, <int> c_stride)


def outer_address():
    """Address of the function for weight gradients, for a caller that imports this module on first use only."""
    return <size_t> <void *> <outer_fn> add_outer


def provider():
    """What serves scipy.linalg's BLAS calls."""
    import scipy

    blas = scipy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
