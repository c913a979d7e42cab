// Elementwise functions over contiguous arrays; y may alias x.
#pragma once

#include "lanes.h"

FR_INLINE void map(ptrdiff_t n, const real *x, real *y, vec (*const f)(vec)) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(y + i, f(vload_lanes(x + i, lanes)), lanes);
    }
}

static void FR_NAME(exp)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, vexp); }
static void FR_NAME(sigmoid)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, vsigmoid); }
static void FR_NAME(tanh)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, vtanh); }
