// Pooling of maps that lie channels first, to a given number of windows that divide the axes unevenly. All rows of a window are
// joined first, along vectors, then the columns of each window; there are at most FR_POOL_UNEVEN columns and windows in a row.
#pragma once

#include "pool_rows.h"

// Lanes of columns first..end-1 of a row, the others outside.
FR_INLINE real uneven_column(const real *row, const pool_span *w, const int mode) {
    const vec outside = pool_signed(mode, pool_outside(mode));
    vec all = outside;
    for (ptrdiff_t i = 0; i < w->hi; i += FR_WIDTH)
        all = pool_join(mode, all, vload_between(row + w->start + i, 0, lane_limit(w->hi - i), outside));
    if (mode == FR_POOL_SUM) return vsum(all);
    const real best = vany(visnan(all)) ? (real)NAN : vmax_lane(all);
    return mode == FR_POOL_MIN ? -best : best;
}

FR_INLINE void uneven_join(const fr_pool *s, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_part columns = {.n = W->size, .span = W->size};
    _Alignas(64) real row[FR_POOL_UNEVEN + FR_WIDTH];
    real *y = (real *)s->y + s->row * W->out;
    pool_place to = pool_place_of(s->row, D->out, H->out);
    for (; to.row < s->row + s->rows; pool_next(&to, D->out, H->out), y += W->out) {
        const pool_rows rows = pool_rows_of(s, &to);
        lay_window(&rows, &columns, row, mode);
        const real scale = ((const real *)s->scale[0])[to.depth] * ((const real *)s->scale[1])[to.height];
        for (ptrdiff_t o = 0; o < W->out; ++o) {
            const pool_span w = pool_window(W, o);
            const real all = uneven_column(row, &w, mode), count = ((const real *)s->scale[2])[o] * scale;
            y[o] = mode == FR_POOL_SUM ? all * pool_factor(s, count) : all;
        }
    }
}
static FR_NOINLINE void uneven_join_max(const fr_pool *s) { uneven_join(s, FR_POOL_MAX); }
static FR_NOINLINE void uneven_join_min(const fr_pool *s) { uneven_join(s, FR_POOL_MIN); }
static FR_NOINLINE void uneven_join_sum(const fr_pool *s) { uneven_join(s, FR_POOL_SUM); }

// What the rows of a window hold at best in each column, negated for a minimum, and the number of the row it is in; -1: nothing.
FR_INLINE void uneven_select_rows(const fr_pool *s, const pool_rows *rows, real *best, real *taken, const int mode) {
    const ptrdiff_t W = s->axis[2].size, H = s->axis[1].kernel;
    for (ptrdiff_t i = 0; i < W; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(W - i, 0);
        vec value = vset1(-(real)INFINITY), number = vset1(-1);
        for (ptrdiff_t d = 0; d < rows->depth.hi; ++d) {
            for (ptrdiff_t h = 0; h < rows->height.hi; ++h) {
                const real *x = rows->x + d * rows->depth_step + h * rows->height_step + i;
                pool_select(&value, &number, pool_signed(mode, vload_lanes(x, lanes)), vset1((real)(d * H + h)), 1);
            }
        }
        vstore(best + i, value);
        vstore(taken + i, number);
    }
}

// Of the columns of a window the one that counts: the first place of the largest value, or the last NaN. Returns its tap.
FR_INLINE ptrdiff_t uneven_pick(const pool_span *w, ptrdiff_t kernel, const real *best, const real *taken,
                                   real *value) {
    real all = -(real)INFINITY;
    ptrdiff_t tap = 0;
    for (ptrdiff_t i = 0; i < w->hi; ++i) {
        const real v = best[w->start + i];
        const ptrdiff_t here = (ptrdiff_t)taken[w->start + i] * kernel + i;
        if (here < 0) continue;
        if (v > all || (v == all && here < tap) || (v != v && (all == all || here > tap))) all = v, tap = here;
    }
    *value = all;
    return tap;
}

FR_INLINE void uneven_select(const fr_pool *s, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    _Alignas(64) real best[FR_POOL_UNEVEN + FR_WIDTH], taken[FR_POOL_UNEVEN + FR_WIDTH];
    pool_place to = pool_place_of(s->row, D->out, H->out);
    for (; to.row < s->row + s->rows; pool_next(&to, D->out, H->out)) {
        const pool_rows rows = pool_rows_of(s, &to);
        uneven_select_rows(s, &rows, best, taken, mode);
        for (ptrdiff_t o = 0; o < W->out; ++o) {
            const pool_span w = pool_window(W, o);
            const ptrdiff_t at = to.row * W->out + o;
            real value;
            const ptrdiff_t tap = uneven_pick(&w, W->kernel, best, taken, &value);
            ((real *)s->y)[at] = mode == FR_POOL_MIN ? -value : value;
            if (s->wide) ((int32_t *)s->taps)[at] = (int32_t)tap;
            else ((uint8_t *)s->taps)[at] = (uint8_t)tap;
        }
    }
}
static FR_NOINLINE void uneven_select_max(const fr_pool *s) { uneven_select(s, FR_POOL_MAX); }
static FR_NOINLINE void uneven_select_min(const fr_pool *s) { uneven_select(s, FR_POOL_MIN); }

static void pool_uneven(const fr_pool *s) {
    if (s->mode == FR_POOL_SUM) uneven_join_sum(s);
    else if (s->taps) s->mode == FR_POOL_MAX ? uneven_select_max(s) : uneven_select_min(s);
    else s->mode == FR_POOL_MAX ? uneven_join_max(s) : uneven_join_min(s);
}

// A row of dx from the windows `depths` and `heights`, all that meet it. `sums` is room for as many reals as there are windows.
FR_INLINE void uneven_spread_row(const fr_pool *s, ptrdiff_t plane, pool_range depths, pool_range heights,
                                    real *sums, real *dx) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t n = W->out;
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vec sum = vzero();
        for (ptrdiff_t d = depths.lo; d < depths.hi; ++d) {
            for (ptrdiff_t h = heights.lo; h < heights.hi; ++h) {
                const real *dy = (const real *)s->x + ((plane * D->out + d) * H->out + h) * n + i;
                const real scale = ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
                sum = vfma(vload_lanes(dy, lanes), vset1(scale), sum);
            }
        }
        vstore(sums + i, vmul(sum, vload_lanes((const real *)s->scale[2] + i, lanes)));
    }
    for (ptrdiff_t i = 0; i < W->size; i += FR_WIDTH) vstore(dx + i, vzero());
    for (ptrdiff_t o = 0; o < n; ++o) {
        const pool_span w = pool_window(W, o);
        for (ptrdiff_t i = w.start; i < w.start + w.hi; ++i) dx[i] += sums[o];
    }
}

// Neighbouring rows that the same windows meet are alike.
static FR_NOINLINE void uneven_spread(const fr_pool *s) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    _Alignas(64) real row[FR_POOL_UNEVEN + FR_WIDTH], sums[FR_POOL_UNEVEN + FR_WIDTH];
    pool_range depths = {0, 0}, heights = {0, 0};
    pool_place p = pool_place_of(s->row, D->size, H->size);
    for (; p.row < s->row + s->rows; pool_next(&p, D->size, H->size)) {
        const pool_range d = pool_meeting(D, p.depth), h = pool_meeting(H, p.height);
        if (p.row == s->row || (p.height == 0 && p.depth == 0) || d.lo != depths.lo || d.hi != depths.hi ||
            h.lo != heights.lo || h.hi != heights.hi) {
            depths = d, heights = h;
            uneven_spread_row(s, p.plane, d, h, sums, row);
        }
        real *dx = (real *)s->y + p.row * W->size;
        for (ptrdiff_t i = 0; i < W->size; i += FR_WIDTH)
            vstore_lanes(dx + i, vload(row + i), lanes_left(W->size - i, 0));
    }
}

// Whole maps: each window gives to the place that it took.
static FR_NOINLINE void uneven_give(const fr_pool *s) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t rows = D->size * H->size, places = rows * W->size, end = (s->row + s->rows) / rows;
    ptrdiff_t at = s->row / rows * D->out * H->out * W->out;
    for (ptrdiff_t map = s->row / rows; map < end; ++map) {
        real *dx = (real *)s->y + map * places;
        for (ptrdiff_t i = 0; i < places; i += FR_WIDTH) vstore_lanes(dx + i, vzero(), lanes_left(places - i, 0));
        for (ptrdiff_t d = 0; d < D->out; ++d) {
            const ptrdiff_t depth = pool_window(D, d).start;
            for (ptrdiff_t h = 0; h < H->out; ++h) {
                const ptrdiff_t height = pool_window(H, h).start;
                for (ptrdiff_t o = 0; o < W->out; ++o, ++at) {
                    const int tap = s->wide ? ((const int32_t *)s->taps)[at] : ((const uint8_t *)s->taps)[at];
                    const int row = tap / (int)W->kernel, column = tap % (int)W->kernel;
                    const ptrdiff_t deep = depth + row / H->kernel, high = height + row % H->kernel;
                    dx[(deep * H->size + high) * W->size + pool_window(W, o).start + column] +=
                        ((const real *)s->x)[at];
                }
            }
        }
    }
}

static void pool_uneven_backward(const fr_pool *s) {
    if (s->mode == FR_POOL_SUM) uneven_spread(s);
    else uneven_give(s);
}
