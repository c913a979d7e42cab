// Convolution of maps with the channels last where they lie, as wide as their results: a vector of channels sweeps along the columns of
// some rows, and each value that is loaded serves all outputs that see it.
#pragma once

#include "depthwise.h"

enum { FR_SWEEP_ROWS = 2 };  // of outputs: two share each loaded weight

// Channels c.. of the rows that one sweep reads, NULL outside, and of those it writes.
typedef struct sweep_rows {
    const real *x[6 + FR_SWEEP_ROWS];
    real *y;
    const real *next;  // what the next rows read first
    ptrdiff_t c, lanes;
} sweep_rows;

FR_INLINE void sweep_store(const fr_bare_conv *g, const sweep_rows *t, real *y, vec out, ptrdiff_t lanes) {
    if (g->activation) out = finished(out, g->activation, NULL);
    if (g->gain) out = vmul(out, vload_lanes((const real *)g->gain + t->c, lanes));
    vstore_lanes(y, out, lanes);
}

// What column w of x adds: it is tap s of output w - s + kernel / 2, whose sum acc[i][s] is.
FR_INLINE void sweep_taps(const fr_bare_conv *g, const vec *x, const real *weight, const vec *few,
                             vec acc[FR_SWEEP_ROWS][7], const int kernel, const int rows, ptrdiff_t lanes) {
    FR_UNROLL(7) for (int s = 0; s < kernel; ++s) {
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) {
            vec w = kernel == 3 ? few[r * 3 + s] : vload_lanes(weight + (r * kernel + s) * g->tap_channels, lanes);
            if (kernel > 3) vpin(&w);
            FR_UNROLL(2) for (int i = 0; i < rows; ++i) acc[i][s] = vfma(w, x[r + i], acc[i][s]);
        }
    }
}

// Output w - kernel / 2 is done once column w was added, and the sums of those after it move on.
FR_INLINE void sweep_on(const fr_bare_conv *g, const sweep_rows *t, real *y, vec start, vec acc[FR_SWEEP_ROWS][7], const int kernel,
                        const int rows, ptrdiff_t lanes) {
    FR_UNROLL(2) for (int i = 0; i < rows; ++i) {
        if (y) sweep_store(g, t, y + i * g->columns * g->apart, acc[i][kernel - 1], lanes);
        FR_UNROLL(7) for (int s = kernel - 1; s > 0; --s) acc[i][s] = acc[i][s - 1];
        acc[i][0] = start;
    }
}

// Sums over (w, h), w outside. Nine weights stay in registers, more are loaded.
FR_INLINE void sweep(const fr_bare_conv *shape, const sweep_rows *t, const int kernel, const int rows, const int whole) {
    static const real zeros[FR_WIDTH];
    const fr_bare_conv g = *shape;
    const ptrdiff_t lanes = whole ? FR_WIDTH : t->lanes;
    const real *weight = (const real *)g.weight + t->c, *next = t->next, *from[6 + FR_SWEEP_ROWS];
    const vec start = g.bias ? vload_lanes((const real *)g.bias + t->c, lanes) : vzero();
    vec acc[FR_SWEEP_ROWS][7], few[9];
    ptrdiff_t step[6 + FR_SWEEP_ROWS];
    real *const y = t->y;
    FR_UNROLL(8) for (int i = 0; i < kernel + rows - 1; ++i)
        from[i] = t->x[i] ? t->x[i] : zeros, step[i] = t->x[i] ? g.apart : 0;
    if (kernel == 3) {
        FR_UNROLL(9) for (int i = 0; i < 9; ++i) few[i] = vload_lanes(weight + i * g.tap_channels, lanes);
    }
    FR_UNROLL(2) for (int i = 0; i < rows; ++i) {
        FR_UNROLL(7) for (int s = 0; s < kernel; ++s) acc[i][s] = start;
    }
    for (ptrdiff_t w = 0; w < g.columns + kernel / 2; ++w) {
        if (w < g.columns) {
            vec x[6 + FR_SWEEP_ROWS];
            FR_UNROLL(8) for (int i = 0; i < kernel + rows - 1; ++i) {
                x[i] = vload_lanes(from[i], lanes);
                vpin(&x[i]);
                from[i] += step[i];
            }
            FR_UNROLL(2) for (int i = 0; i < rows; ++i, next += FR_WIDTH) lanes_fetch(next);
            sweep_taps(&g, x, weight, few, acc, kernel, rows, lanes);
        }
        sweep_on(&g, t, w >= kernel / 2 ? y + (w - kernel / 2) * g.apart : NULL, start, acc, kernel, rows, lanes);
    }
}

typedef void sweep_fn(const fr_bare_conv *g, const sweep_rows *t);

#define FR_SWEEP(kernel, rows)                                                                            \
    static FR_NOINLINE void sweep_##kernel##_##rows(const fr_bare_conv *g, const sweep_rows *t) {         \
        sweep(g, t, kernel, rows, 1);                                                                     \
    }                                                                                                     \
    static FR_NOINLINE void sweep_part_##kernel##_##rows(const fr_bare_conv *g, const sweep_rows *t) {    \
        sweep(g, t, kernel, rows, 0);                                                                     \
    }
FR_SWEEP(3, 1)
FR_SWEEP(3, 2)
FR_SWEEP(5, 1)
FR_SWEEP(5, 2)
FR_SWEEP(7, 1)
FR_SWEEP(7, 2)

static void FR_NAME(bare_conv_last)(const fr_bare_conv *g) {
    static sweep_fn *const sweeps[3][2][2] = {
        {{sweep_part_3_1, sweep_3_1}, {sweep_part_3_2, sweep_3_2}},
        {{sweep_part_5_1, sweep_5_1}, {sweep_part_5_2, sweep_5_2}},
        {{sweep_part_7_1, sweep_7_1}, {sweep_part_7_2, sweep_7_2}},
    };
    const ptrdiff_t row = g->columns * g->apart;
    for (ptrdiff_t h = 0, rows; h < g->y_rows; h += rows) {
        rows = g->y_rows - h < FR_SWEEP_ROWS ? g->y_rows - h : FR_SWEEP_ROWS;
        const ptrdiff_t first = h - g->above, seen = g->kernel + rows - 1;
        const real *x = (const real *)g->x + first * row;
        sweep_rows t = {.next = x + seen * row};
        for (t.c = 0; t.c < g->channels; t.c += FR_WIDTH, t.next += rows * g->columns * FR_WIDTH) {
            t.lanes = lanes_left(g->channels - t.c, 0), t.y = (real *)g->y + h * row + t.c;
            for (ptrdiff_t i = 0; i < seen; ++i)
                t.x[i] = first + i >= 0 && first + i < g->rows ? x + i * row + t.c : NULL;
            sweeps[g->kernel / 2 - 1][rows - 1][t.lanes == FR_WIDTH](g, &t);
        }
    }
}
