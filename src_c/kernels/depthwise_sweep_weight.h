// The gradient of the weights of maps with the channels last where they lie: a vector of channels sweeps along the columns of one row
// of y, whose values stay in registers while columns of x that see them pass by.
#pragma once

#include "depthwise_sweep.h"

enum { FR_SWEEP_SUMS = FR_MAX_ROWS >= 6 ? 15 : 10 };  // that fit registers beside a row of values of y

// Channels c.. of one row of y and of the rows of x that meet it, NULL outside.
typedef struct sweep_sums {
    const real *x[7], *y;
    ptrdiff_t c, lanes;
} sweep_sums;

// Rows first.. of taps, `across` of them.
FR_INLINE void sweep_sums_pass(const fr_bare_conv *g, const sweep_sums *t, const int first, const int across,
                                  const int kernel, ptrdiff_t lanes) {
    static const real zeros[FR_WIDTH];
    real *sums = (real *)g->sums + first * kernel * g->tap_channels + t->c;
    vec acc[5][7], met[7];  // met[s]: the value of y that meets a value of x at column s of taps
    const real *from[5];
    ptrdiff_t step[5];
    FR_UNROLL(5) for (int r = 0; r < across; ++r) {
        from[r] = t->x[first + r] ? t->x[first + r] : zeros, step[r] = t->x[first + r] ? g->apart : 0;
        FR_UNROLL(7) for (int s = 0; s < kernel; ++s) acc[r][s] = vload_lanes(sums + (r * kernel + s) * g->tap_channels, lanes);
    }
    FR_UNROLL(7) for (int s = 0; s < kernel - 1; ++s) {
        const ptrdiff_t w = kernel / 2 - 1 - s;
        met[s] = w >= 0 && w < g->columns ? vload_lanes(t->y + w * g->apart, lanes) : vzero();
    }
    for (ptrdiff_t w = 0; w < g->columns; ++w) {
        FR_UNROLL(7) for (int s = kernel - 1; s > 0; --s) met[s] = met[s - 1];
        met[0] = w + kernel / 2 < g->columns ? vload_lanes(t->y + (w + kernel / 2) * g->apart, lanes) : vzero();
        FR_UNROLL(5) for (int r = 0; r < across; ++r) {
            vec x = vload_lanes(from[r], lanes);
            vpin(&x);
            from[r] += step[r];
            FR_UNROLL(7) for (int s = 0; s < kernel; ++s) acc[r][s] = vfma(met[s], x, acc[r][s]);
        }
    }
    FR_UNROLL(5) for (int r = 0; r < across; ++r) {
        FR_UNROLL(7) for (int s = 0; s < kernel; ++s) vstore_lanes(sums + (r * kernel + s) * g->tap_channels, acc[r][s], lanes);
    }
}

FR_INLINE void sweep_sums_run(const fr_bare_conv *shape, const sweep_sums *t, const int kernel, const int whole) {
    const fr_bare_conv g = *shape;
    const int across = FR_SWEEP_SUMS / kernel;
    const ptrdiff_t lanes = whole ? FR_WIDTH : t->lanes;
    FR_UNROLL(7) for (int first = 0; first < kernel; first += across)
        sweep_sums_pass(&g, t, first, kernel - first < across ? kernel - first : across, kernel, lanes);
}

typedef void sweep_sums_fn(const fr_bare_conv *g, const sweep_sums *t);

#define FR_SWEEP_SUMS_OF(kernel)                                                                       \
    static FR_NOINLINE void sweep_sums_##kernel(const fr_bare_conv *g, const sweep_sums *t) {          \
        sweep_sums_run(g, t, kernel, 1);                                                               \
    }                                                                                                  \
    static FR_NOINLINE void sweep_sums_part_##kernel(const fr_bare_conv *g, const sweep_sums *t) {     \
        sweep_sums_run(g, t, kernel, 0);                                                               \
    }
FR_SWEEP_SUMS_OF(3)
FR_SWEEP_SUMS_OF(5)
FR_SWEEP_SUMS_OF(7)

static void FR_NAME(bare_conv_last_weight)(const fr_bare_conv *g) {
    static sweep_sums_fn *const sweeps[3][2] = {
        {sweep_sums_part_3, sweep_sums_3}, {sweep_sums_part_5, sweep_sums_5}, {sweep_sums_part_7, sweep_sums_7}};
    const ptrdiff_t row = g->columns * g->apart;
    for (ptrdiff_t h = 0; h < g->y_rows; ++h) {
        for (sweep_sums t = {.c = 0}; t.c < g->channels; t.c += FR_WIDTH) {
            t.lanes = lanes_left(g->channels - t.c, 0), t.y = (const real *)g->y + h * row + t.c;
            for (ptrdiff_t i = 0, from = h - g->above; i < g->kernel; ++i, ++from)
                t.x[i] = from >= 0 && from < g->rows ? (const real *)g->x + from * row + t.c : NULL;
            sweeps[g->kernel / 2 - 1][t.lanes == FR_WIDTH](g, &t);
        }
    }
}
