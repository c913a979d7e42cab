// Elementwise functions over contiguous arrays; y may alias x.
#pragma once

#include "lanes.h"

enum { MAP_EXP, MAP_SIGMOID, MAP_TANH };

FR_INLINE vec map_one(const int function, vec x) {
    return function == MAP_EXP ? vexp(x) : function == MAP_SIGMOID ? vsigmoid(x) : vtanh(x);
}

FR_INLINE void map(ptrdiff_t n, const real *x, real *y, const int function) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(y + i, map_one(function, vload_lanes(x + i, lanes)), lanes);
    }
}

static void FR_NAME(exp)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, MAP_EXP); }
static void FR_NAME(sigmoid)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, MAP_SIGMOID); }
static void FR_NAME(tanh)(ptrdiff_t n, const void *x, void *y) { map(n, x, y, MAP_TANH); }
