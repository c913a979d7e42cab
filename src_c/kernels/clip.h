// Sums of squares, and limits: what clipping of gradients takes.
#pragma once

#include <math.h>

#include "lanes.h"

// Four sums, so that no addition waits for the one before.
FR_INLINE double clip_chunk(const real *x, ptrdiff_t n) {
    vec sums[4] = {vzero(), vzero(), vzero(), vzero()};
    ptrdiff_t i = 0;
    for (; i + 4 * FR_WIDTH <= n; i += 4 * FR_WIDTH) {
    FR_UNROLL(4)
        for (int j = 0; j < 4; ++j) {
            const vec v = vload(x + i + j * FR_WIDTH);
            sums[j] = vfma(v, v, sums[j]);
        }
    }
    for (; i < n; i += FR_WIDTH) {
        const vec v = vload_lanes(x + i, lanes_left(n - i, 0));
        sums[0] = vfma(v, v, sums[0]);
    }
    const double sum = (double)vsum(vadd(vadd(sums[0], sums[1]), vadd(sums[2], sums[3])));
    if (!isinf(sum)) return sum;
    double exact = 0;  // the squares of floats from 1.8e19 on overflow
    for (i = 0; i < n; ++i) exact += (double)x[i] * (double)x[i];
    return exact;
}

static void FR_NAME(sum_squares)(ptrdiff_t n, const void *x, double *sums) {
    for (ptrdiff_t i = 0; i < n; i += FR_CHUNK)
        sums[i / FR_CHUNK] = clip_chunk((const real *)x + i, n - i < FR_CHUNK ? n - i : FR_CHUNK);
}

static void FR_NAME(scale)(ptrdiff_t n, double factor, void *x) { row_scale(x, n, (real)factor); }

static void FR_NAME(limit)(ptrdiff_t n, double limit, void *x) {
    const vec high = vset1((real)limit), low = vneg(high);
    real *values = x;
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(values + i, vmax(low, vmin(high, vload_lanes(values + i, lanes))), lanes);
    }
}
