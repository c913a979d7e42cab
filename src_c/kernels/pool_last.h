// Pooling of maps that lie channels last. Vectors run over the channels, so that windows may lie anywhere.
#pragma once

#include "pool_last_rows.h"
#include "pool_windows.h"

enum { POOL_BLOCK = 4 };  // vectors of channels that go through a window together

// The windows of one position of y, for `vectors` vectors of channels from c on.
FR_INLINE void pool_position(const fr_pool *s, const pool_span span[3], const real *x, ptrdiff_t to, ptrdiff_t c,
                                vec factor, const int mode, const int keep, const int vectors) {
    const fr_pool_axis *a = s->axis;
    const ptrdiff_t C = s->channels, lanes = vectors > 1 ? FR_WIDTH : lanes_left(C - c, 0);
    const vec start = pool_signed(mode, pool_outside(mode));
    const int empty = span[0].lo == span[0].hi || span[1].lo == span[1].hi || span[2].lo == span[2].hi;
    const ptrdiff_t first = (span[0].lo * a[1].kernel + span[1].lo) * a[2].kernel + span[2].lo;
    vec y[POOL_BLOCK], taps[POOL_BLOCK];
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
        y[v] = start;
        taps[v] = vset1((real)(empty ? pool_places(s) : first));
    }
    for (ptrdiff_t d = span[0].lo; d < span[0].hi; ++d) {
        for (ptrdiff_t h = span[1].lo; h < span[1].hi; ++h) {
            const ptrdiff_t depth = span[0].start + d * a[0].dilation, height = span[1].start + h * a[1].dilation;
            const real *row = x + ((depth * a[1].size + height) * a[2].size + span[2].start) * C + c;
            for (ptrdiff_t w = span[2].lo; w < span[2].hi; ++w) {
                const vec tap = vset1((real)((d * a[1].kernel + h) * a[2].kernel + w));
                FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
                    const real *from = row + w * a[2].dilation * C + v * FR_WIDTH;
                    const vec value = pool_signed(mode, vload_lanes(from, lanes));
                    if (keep) pool_select(&y[v], &taps[v], value, tap, 1);
                    else y[v] = pool_join(mode, y[v], value);
                }
            }
        }
    }
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
        const ptrdiff_t at = to + c + v * FR_WIDTH;
        if (keep) store_taps(s, at, taps[v], lanes);
        if (mode == FR_POOL_SUM) y[v] = vmul(y[v], factor);
        vstore_lanes((real *)s->y + at, pool_signed(mode, y[v]), lanes);
    }
}

FR_INLINE void pool_last(const fr_pool *s, const int mode, const int keep) {
    const fr_pool_axis *a = s->axis;
    const ptrdiff_t C = s->channels;
    for (ptrdiff_t row = s->row; row < s->row + s->rows; ++row) {
        const ptrdiff_t d = row / a[1].out % a[0].out, h = row % a[1].out;
        const real *x = (const real *)s->x + row / (a[0].out * a[1].out) * a[0].size * a[1].size * a[2].size * C;
        const real scale = ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
        pool_span span[3] = {pool_window(&a[0], d), pool_window(&a[1], h), {0, 0, 0}};
        for (ptrdiff_t w = 0; w < a[2].out; ++w) {
            const vec factor = vset1(mode == FR_POOL_SUM ? pool_factor(s, scale * ((const real *)s->scale[2])[w]) : 0);
            span[2] = pool_window(&a[2], w);
            ptrdiff_t c = 0;
            for (; c + POOL_BLOCK * FR_WIDTH <= C; c += POOL_BLOCK * FR_WIDTH)
                pool_position(s, span, x, (row * a[2].out + w) * C, c, factor, mode, keep, POOL_BLOCK);
            for (; c < C; c += FR_WIDTH)
                pool_position(s, span, x, (row * a[2].out + w) * C, c, factor, mode, keep, 1);
        }
    }
}

static void FR_NAME(pool_last)(const fr_pool *s) {
    if (!s->taps && last_by_rows(s)) {
        if (s->mode == FR_POOL_SUM) pool_last_rows_sum(s);
        else s->mode == FR_POOL_MAX ? pool_last_rows_max(s) : pool_last_rows_min(s);
    } else if (s->mode == FR_POOL_SUM) pool_last(s, FR_POOL_SUM, 0);
    else if (s->mode == FR_POOL_MAX && s->taps) pool_last(s, FR_POOL_MAX, 1);
    else if (s->mode == FR_POOL_MAX) pool_last(s, FR_POOL_MAX, 0);
    else if (s->taps) pool_last(s, FR_POOL_MIN, 1);
    else pool_last(s, FR_POOL_MIN, 0);
}

// What position p of x gets from the windows that meet it, for `vectors` vectors of channels from c on.
FR_INLINE void gather_position(const fr_pool *s, const ptrdiff_t p[3], const pool_range range[3], ptrdiff_t plane,
                               real *dx, ptrdiff_t c, const int select, const int vectors) {
    const fr_pool_axis *a = s->axis;
    const ptrdiff_t C = s->channels, lanes = vectors > 1 ? FR_WIDTH : lanes_left(C - c, 0);
    vec sum[POOL_BLOCK];
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) sum[v] = vzero();
    for (ptrdiff_t d = range[0].lo; d < range[0].hi; ++d) {
        const ptrdiff_t depth = pool_tap(&a[0], d, p[0]);
        for (ptrdiff_t h = range[1].lo; h < range[1].hi && depth >= 0; ++h) {
            const ptrdiff_t height = pool_tap(&a[1], h, p[1]), row = (plane * a[0].out + d) * a[1].out + h;
            for (ptrdiff_t w = range[2].lo; w < range[2].hi && height >= 0; ++w) {
                const ptrdiff_t width = pool_tap(&a[2], w, p[2]), from = (row * a[2].out + w) * C + c;
                if (width < 0) continue;
                const ptrdiff_t tap = (depth * a[1].kernel + height) * a[2].kernel + width;
                const vec scale = select ? vzero()
                                         : vset1(((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h] *
                                                 ((const real *)s->scale[2])[w]);
                FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
                    const vec dy = vload_lanes((const real *)s->x + from + v * FR_WIDTH, lanes);
                    if (select) {
                        const vmask taken = taps_equal(s, from + v * FR_WIDTH, 0, lanes, tap);
                        sum[v] = vadd(sum[v], vselect(taken, dy, vzero()));
                    } else {
                        sum[v] = vfma(dy, scale, sum[v]);
                    }
                }
            }
        }
    }
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) vstore_lanes(dx + c + v * FR_WIDTH, sum[v], lanes);
}

FR_INLINE void pull_back_last(const fr_pool *s, const int select) {
    const fr_pool_axis *a = s->axis;
    const ptrdiff_t C = s->channels;
    for (ptrdiff_t row = s->row; row < s->row + s->rows; ++row) {
        const ptrdiff_t plane = row / (a[0].size * a[1].size);
        ptrdiff_t p[3] = {row / a[1].size % a[0].size, row % a[1].size, 0};
        pool_range range[3] = {pool_meeting(&a[0], p[0]), pool_meeting(&a[1], p[1]), {0, 0}};
        pool_walk walk = a[2].stride ? pool_walk_from(&a[2], 0) : (pool_walk){.stride = 1};
        for (; p[2] < a[2].size; ++p[2], pool_step(&walk)) {
            real *dx = (real *)s->y + (row * a[2].size + p[2]) * C;
            range[2] = a[2].stride ? pool_met(&walk) : pool_meeting(&a[2], p[2]);
            ptrdiff_t c = 0;
            for (; c + POOL_BLOCK * FR_WIDTH <= C; c += POOL_BLOCK * FR_WIDTH)
                gather_position(s, p, range, plane, dx, c, select, POOL_BLOCK);
            for (; c < C; c += FR_WIDTH) gather_position(s, p, range, plane, dx, c, select, 1);
        }
    }
}

static void FR_NAME(pool_last_backward)(const fr_pool *s) {
    if (s->mode == FR_POOL_SUM) pull_back_last(s, 0);
    else pull_back_last(s, 1);
}
