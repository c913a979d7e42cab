// A transposed convolution from planes of products, one for each tap: each output is a sum over some of the planes, shifted.
#pragma once

#include "lanes.h"
#include "turn.h"

FR_INLINE void tap_sum(const fr_tap_sums *s, const real *x, real *y, const int vectors, ptrdiff_t lanes,
                          const int activation) {
    vec acc[FR_SLOTS];
    const vec start = s->bias ? vbroadcast(s->bias) : vzero();
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[j] = start;
    for (ptrdiff_t t = 0; t < s->taps; ++t) {
        const real *from = x + s->offset[t];
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[j] = vadd(acc[j], vload_lanes(from + j * FR_WIDTH, lanes));
    }
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) vstore_lanes(y + j * FR_WIDTH, activated(acc[j], activation), lanes);
}

FR_INLINE void tap_rows(const fr_tap_sums *s, const int activation) {
    for (ptrdiff_t r = 0; r < s->rows; ++r) {
        const real *x = (const real *)s->x + r * s->x_stride;
        real *y = (real *)s->y + r * s->y_stride;
        ptrdiff_t i = 0;
        for (; i + FR_SLOTS * FR_WIDTH <= s->columns; i += FR_SLOTS * FR_WIDTH)
            tap_sum(s, x + i, y + i, FR_SLOTS, FR_WIDTH, activation);
        for (; i < s->columns; i += FR_WIDTH) tap_sum(s, x + i, y + i, 1, lanes_left(s->columns - i, 0), activation);
    }
}

static void FR_NAME(tap_sums)(const fr_tap_sums *s) {
    switch (s->activation) {
        case FR_RELU: tap_rows(s, FR_RELU); break;
        case FR_TANH: tap_rows(s, FR_TANH); break;
        case FR_SIGMOID: tap_rows(s, FR_SIGMOID); break;
        default: tap_rows(s, FR_NONE);
    }
}
