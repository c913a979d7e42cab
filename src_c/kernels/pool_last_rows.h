// Pooling of maps that lie channels last, where nobody asks which places were taken: the rows that a row of windows meets are joined
// first, and then the columns of each window. Few channels leave no lanes empty in the first step, and tall windows share it.
#pragma once

#include "pool_windows.h"

enum { LAST_BUFFER = 4096 };  // 16 KB of floats

// Joined rows lie in a buffer between columns outside: `left` before them, `span` in all, of which `columns` are in the map. So many
// channels go together: all of them, or as many whole vectors as there is room for; 0: not one.
typedef struct last_rows {
    ptrdiff_t channels, left, columns, span;
} last_rows;

FR_INLINE last_rows last_rows_of(const fr_pool *s) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t met = (W->out - 1) * W->stride + (W->kernel - 1) * W->dilation + 1,
                    span = W->stride ? met : W->size;
    const ptrdiff_t left = W->stride ? W->padding : 0, room = span - left;
    const ptrdiff_t all = span * s->channels <= LAST_BUFFER ? s->channels : LAST_BUFFER / span / FR_WIDTH * FR_WIDTH;
    return (last_rows){all, left, room < W->size ? room : W->size, span};
}

// Whether that takes well fewer vectors than to meet each place of each window.
FR_INLINE int last_by_rows(const fr_pool *s) {
    const fr_pool_axis *W = &s->axis[2];
    const last_rows r = last_rows_of(s);
    const ptrdiff_t rows = s->axis[0].kernel * s->axis[1].kernel, C = s->channels,
                    vectors = (C + FR_WIDTH - 1) / FR_WIDTH;
    const ptrdiff_t windows = W->out * W->kernel * vectors,
                    joined = (r.columns * C + FR_WIDTH - 1) / FR_WIDTH * rows + windows;
    return r.channels > 0 && r.columns > 0 && (C < FR_WIDTH ? joined < windows * rows : 2 * joined <= windows * rows);
}

FR_INLINE void last_fill(real *to, ptrdiff_t n, vec value) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) vstore(to + i, value);
}

// All columns of the rows of a window, for some channels of x on; whole vectors are written.
FR_INLINE void last_join_rows(const fr_pool *s, const last_rows *r, const pool_span *depth, const pool_span *height,
                                 const real *x, ptrdiff_t channels, real *to, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1];
    const ptrdiff_t C = s->channels, row = s->axis[2].size * C, slice = H->size * row, step = H->dilation * row;
    const ptrdiff_t runs = channels == C ? 1 : r->columns, n = channels == C ? r->columns * C : channels;
    const vec outside = pool_signed(mode, pool_outside(mode));
    x += (depth->start + depth->lo * D->dilation) * slice + (height->start + height->lo * H->dilation) * row;
    for (ptrdiff_t run = 0; run < runs; ++run, x += C, to += channels) {
        for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(n - i, 0);
            const real *from = x + i;
            vec all = outside;
            for (ptrdiff_t d = depth->lo; d < depth->hi; ++d, from += D->dilation * slice) {
                for (ptrdiff_t h = 0; h < height->hi - height->lo; ++h)
                    all = pool_join(mode, all, pool_signed(mode, vload_lanes(from + h * step, lanes)));
            }
            vstore(to + i, all);
        }
    }
    last_fill(to - runs * channels + r->columns * channels, (r->span - r->left - r->columns) * channels + FR_WIDTH,
              outside);
}

// The windows of a row, for some channels; y is where the first of them goes. `whole`: how many elements from there on may be
// written, as they are written later.
FR_INLINE void last_join_columns(const fr_pool *s, const real *columns, ptrdiff_t channels, real scale, real *y,
                                    ptrdiff_t whole, const int mode) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t step = W->dilation * channels;
    for (ptrdiff_t o = 0; o < W->out; ++o, y += s->channels, whole -= s->channels) {
        const vec factor = vset1(mode == FR_POOL_SUM ? pool_factor(s, scale * ((const real *)s->scale[2])[o]) : 0);
        const pool_span w = W->stride ? (pool_span){o * W->stride, 0, W->kernel} : pool_window(W, o);
        for (ptrdiff_t c = 0; c < channels; c += FR_WIDTH) {
            const real *from = columns + w.start * channels + c;
            vec all = vload(from);
            for (ptrdiff_t i = 1; i < w.hi; ++i) all = pool_join(mode, all, vload(from + i * step));
            if (mode == FR_POOL_SUM) all = vmul(all, factor);
            vstore_lanes(y + c, pool_signed(mode, all), c + FR_WIDTH <= whole ? FR_WIDTH : lanes_left(channels - c, 0));
        }
    }
}

FR_INLINE void pool_last_rows(const fr_pool *s, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t C = s->channels, end = s->row + s->rows;
    const last_rows r = last_rows_of(s);
    _Alignas(64) real columns[LAST_BUFFER + 2 * FR_WIDTH];
    for (pool_place p = pool_place_of(s->row, D->out, H->out); p.row < end; pool_next(&p, D->out, H->out)) {
        const pool_span depth = pool_window(D, p.depth), height = pool_window(H, p.height);
        const real scale = ((const real *)s->scale[0])[p.depth] * ((const real *)s->scale[1])[p.height];
        const real *x = (const real *)s->x + p.plane * D->size * H->size * W->size * C;
        real *y = (real *)s->y + p.row * W->out * C;
        for (ptrdiff_t c = 0; c < C; c += r.channels) {
            const ptrdiff_t channels = c + r.channels <= C ? r.channels : C - c;
            last_fill(columns, r.left * channels, pool_signed(mode, pool_outside(mode)));
            last_join_rows(s, &r, &depth, &height, x + c, channels, columns + r.left * channels, mode);
            last_join_columns(s, columns, channels, scale, y + c, channels == C ? (end - p.row) * W->out * C : 0, mode);
        }
    }
}
static FR_NOINLINE void pool_last_rows_max(const fr_pool *s) { pool_last_rows(s, FR_POOL_MAX); }
static FR_NOINLINE void pool_last_rows_min(const fr_pool *s) { pool_last_rows(s, FR_POOL_MIN); }
static FR_NOINLINE void pool_last_rows_sum(const fr_pool *s) { pool_last_rows(s, FR_POOL_SUM); }
