// Elman cell after the products: h = tanh(.) or relu(.). Elman 1990; Le, Jaitly & Hinton 2015 for the rectified form.
#pragma once

#include "lanes.h"

FR_INLINE vec relu(vec x) { return vmax(vzero(), x); }  // keeps a NaN

FR_INLINE void rnn_forward(const fr_cell *s, const int rectified) {
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        const real *gates = (const real *)s->gates + p * s->gates_panel_stride;
        real *h = (real *)s->h + p * FR_SLOTS * FR_WIDTH;
        const ptrdiff_t vectors = (s->units - p * FR_SLOTS * FR_WIDTH + FR_WIDTH - 1) / FR_WIDTH;  // that have units
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            for (int v = 0; v < FR_SLOTS && v < vectors; ++v) {
                const vec a = vload(gates + v * FR_WIDTH);
                vstore_soon(h + row * s->h_stride + v * FR_WIDTH, rectified ? relu(a) : vtanh(a),
                            lanes_left(s->units, p * FR_SLOTS + v));
            }
        }
    }
}

//   dh += dy   da = dh (1 - h^2)   or   da = dh where h > 0, else 0
FR_INLINE void rnn_gradient(const fr_cell_backward *s, const int rectified) {
    const vec one = vset1(1), zero = vzero();
    for (ptrdiff_t p = 0; p < s->panels; ++p) {
        real *gates = (real *)s->gates + p * s->gates_panel_stride;
        const ptrdiff_t column = p * FR_SLOTS * FR_WIDTH;
        for (ptrdiff_t row = 0; row < s->rows; ++row, gates += FR_SLOTS * FR_WIDTH) {
            for (int v = 0; v < FR_SLOTS; ++v) {
                const ptrdiff_t at = column + v * FR_WIDTH, lanes = lanes_left(s->units, p * FR_SLOTS + v);
                const vec h = vload_lanes((const real *)s->h + row * s->h_stride + at, lanes);
                vec dh = vload((const real *)s->dh + row * s->dh_stride + at);
                if (s->dy) dh = vadd(dh, vload_lanes((const real *)s->dy + row * s->dy_stride + at, lanes));
                const vec da = rectified ? vselect(vle(h, zero), zero, dh) : vmul(dh, vfnma(h, h, one));
                vstore(gates + v * FR_WIDTH, da);
                if (lanes < FR_WIDTH) vstore(gates + v * FR_WIDTH, vload_n(gates + v * FR_WIDTH, lanes));
            }
        }
    }
}

static void FR_NAME(rnn_tanh)(const fr_cell *s) { rnn_forward(s, 0); }
static void FR_NAME(rnn_relu)(const fr_cell *s) { rnn_forward(s, 1); }
static void FR_NAME(rnn_tanh_backward)(const fr_cell_backward *s) { rnn_gradient(s, 0); }
static void FR_NAME(rnn_relu_backward)(const fr_cell_backward *s) { rnn_gradient(s, 1); }
