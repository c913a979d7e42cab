// Sums of products of rows with rows, where too few columns come out for the tile of gemm.h.
#pragma once

#include "lanes.h"

enum { FR_DOT_ROWS = 4 };

// Rows i.. of A and j.. of B: as many sums as hide the latency of a multiply-add, each over the lanes of one vector at the end.
FR_INLINE void dot_tile(const fr_dots *g, ptrdiff_t i, ptrdiff_t j, const int mr, const int nr) {
    const real *a = (const real *)g->a + i * g->a_stride, *b = (const real *)g->b + j * g->b_stride;
    vec sum[FR_DOT_ROWS][FR_DOT_ROWS];
    FR_UNROLL(4) for (int m = 0; m < mr; ++m) FR_UNROLL(4) for (int n = 0; n < nr; ++n) sum[m][n] = vzero();
    for (ptrdiff_t k = 0; k < g->k; k += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(g->k - k, 0);
        vec y[FR_DOT_ROWS];
        FR_UNROLL(4) for (int n = 0; n < nr; ++n) y[n] = vload_lanes(b + n * g->b_stride + k, lanes);
        FR_UNROLL(4) for (int m = 0; m < mr; ++m) {
            const vec x = vload_lanes(a + m * g->a_stride + k, lanes);
            FR_UNROLL(4) for (int n = 0; n < nr; ++n) sum[m][n] = vfma(x, y[n], sum[m][n]);
        }
    }
    real *c = (real *)g->c + i * g->c_stride + j;
    FR_UNROLL(4) for (int m = 0; m < mr; ++m) FR_UNROLL(4) for (int n = 0; n < nr; ++n) c[m * g->c_stride + n] += vsum(sum[m][n]);
}

FR_INLINE void dot_rows(const fr_dots *g, ptrdiff_t i, const int mr) {
    for (ptrdiff_t j = 0; j < g->columns; j += FR_DOT_ROWS) {
        switch (g->columns - j) {
            case 1: dot_tile(g, i, j, mr, 1); break;
            case 2: dot_tile(g, i, j, mr, 2); break;
            case 3: dot_tile(g, i, j, mr, 3); break;
            default: dot_tile(g, i, j, mr, 4);
        }
    }
}

static void FR_NAME(add_dots)(const fr_dots *g) {
    ptrdiff_t i = 0;
    for (; i + FR_DOT_ROWS <= g->rows; i += FR_DOT_ROWS) dot_rows(g, i, FR_DOT_ROWS);
    for (; i < g->rows; ++i) dot_rows(g, i, 1);
}
