// Pooling of maps that lie channels first. Vectors run along the last axis: `stride` is a constant 1 or 2, where neighbouring
// windows are brought together in registers, or 0 for any other, where they are collected lane by lane.
#pragma once

#include "pool_windows.h"

// The rows of x that one row of y meets.
typedef struct pool_rows {
    const real *x;  // of the first tap of the window, which may be outside
    ptrdiff_t depth_step, height_step;
    pool_span depth, height;
} pool_rows;

FR_INLINE pool_rows rows_of(const fr_pool *s, ptrdiff_t row) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t plane = row / (D->out * H->out), rest = row % (D->out * H->out), slice = H->size * W->size;
    const pool_span d = pool_window(D, rest / H->out), h = pool_window(H, rest % H->out);
    const real *x = (const real *)s->x + plane * D->size * slice;
    return (pool_rows){x + d.start * slice + h.start * W->size, D->dilation * slice, H->dilation * W->size, d, h};
}

// Elements at, at + step, ... of a row of `size`.
FR_INLINE vec vload_stepped(const real *row, ptrdiff_t at, ptrdiff_t step, ptrdiff_t size, vec fill) {
    real lanes[FR_WIDTH];
    vstore(lanes, fill);
    for (ptrdiff_t i = 0; i < FR_WIDTH; ++i, at += step) {
        if (at >= 0 && at < size) lanes[i] = row[at];
    }
    return vload(lanes);
}

FR_INLINE vec load_tap(const real *row, ptrdiff_t at, ptrdiff_t size, const int inside, vec fill) {
    return inside ? vload(row + at) : vload_inside(row, at, size, fill);
}

// Joins all rows first, then the taps along the row.
FR_INLINE vec join_windows(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, const int mode, const int stride,
                           const int inside) {
    const fr_pool_axis *W = &s->axis[2];
    const vec fill = pool_outside(mode);
    const int pairs = stride == 2 && W->dilation == 1;
    vec all = pool_signed(mode, fill);
    for (ptrdiff_t j = 0; j < W->kernel; j += pairs ? 2 : 1) {
        const ptrdiff_t here = at + j * W->dilation;
        vec a = pool_signed(mode, fill), b = a;
        for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
            const real *row = rows->x + d * rows->depth_step + rows->height.lo * rows->height_step;
            for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h, row += rows->height_step) {
                if (stride == 0) {
                    a = pool_join(mode, a, pool_signed(mode, vload_stepped(row, here, W->stride, W->size, fill)));
                    continue;
                }
                a = pool_join(mode, a, pool_signed(mode, load_tap(row, here, W->size, inside, fill)));
                if (stride == 2)
                    b = pool_join(mode, b, pool_signed(mode, load_tap(row, here + FR_WIDTH, W->size, inside, fill)));
            }
        }
        all = pool_join(mode, all, stride == 2 ? vunzip_even(a, b) : a);
        if (pairs && j + 1 < W->kernel) all = pool_join(mode, all, vunzip_odd(a, b));
    }
    return all;
}

// Goes through the places in their order, and finds taps as well.
FR_INLINE vec select_windows(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *taps, const int mode,
                             const int stride, const int inside) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const vec fill = pool_outside(mode), one = vset1(1);
    const int pairs = stride == 2 && W->dilation == 1;
    vec best = pool_signed(mode, fill);
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            const real *row = rows->x + d * rows->depth_step + h * rows->height_step;
            vec tap = vset1((real)((d * H->kernel + h) * W->kernel));
            for (ptrdiff_t j = 0; j < W->kernel; j += pairs ? 2 : 1) {
                const ptrdiff_t here = at + j * W->dilation;
                vec a, b = fill;
                if (stride == 0) a = vload_stepped(row, here, W->stride, W->size, fill);
                else a = load_tap(row, here, W->size, inside, fill);
                if (stride == 2) b = load_tap(row, here + FR_WIDTH, W->size, inside, fill);
                pool_select(&best, taps, pool_signed(mode, stride == 2 ? vunzip_even(a, b) : a), tap);
                tap = vadd(tap, one);
                if (pairs && j + 1 < W->kernel) {
                    pool_select(&best, taps, pool_signed(mode, vunzip_odd(a, b)), tap);
                    tap = vadd(tap, one);
                }
            }
        }
    }
    return best;
}

FR_INLINE void pool_row(const fr_pool *s, ptrdiff_t row, const int mode, const int stride, const int keep) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_rows rows = rows_of(s, row);
    const int empty = rows.depth.lo == rows.depth.hi || rows.height.lo == rows.height.hi;
    const vec none = vset1((real)pool_places(s));
    const vec first_row = empty ? none : vset1((real)((rows.depth.lo * H->kernel + rows.height.lo) * W->kernel));
    const ptrdiff_t reach = (W->kernel - 1) * W->dilation + (stride == 2 ? 2 * FR_WIDTH : FR_WIDTH);
    const ptrdiff_t rest = row % (D->out * H->out);
    const vec divisor = vset1(((const real *)s->scale[0])[rest / H->out] * ((const real *)s->scale[1])[rest % H->out]);
    for (ptrdiff_t o = 0; o < W->out; o += FR_WIDTH) {
        const ptrdiff_t at = o * W->stride - W->padding, to = row * W->out + o, lanes = lanes_left(W->out - o, 0);
        const int inside = stride != 0 && at >= 0 && at + reach <= W->size;
        vec y;
        if (keep) {
            vec taps = vmin(none, vadd(first_row, vload_lanes((const real *)s->first + o, lanes)));
            y = inside ? select_windows(s, &rows, at, &taps, mode, stride, 1)
                       : select_windows(s, &rows, at, &taps, mode, stride, 0);
            store_taps(s, to, taps, lanes);
        } else {
            y = inside ? join_windows(s, &rows, at, mode, stride, 1) : join_windows(s, &rows, at, mode, stride, 0);
        }
        if (mode == FR_POOL_SUM) {
            const vec count = lanes == FR_WIDTH ? vload((const real *)s->scale[2] + o)
                                                : vload_between((const real *)s->scale[2] + o, 0, lanes, vset1(1));
            y = vdiv(y, vmul(count, divisor));
        }
        vstore_lanes((real *)s->y + to, pool_signed(mode, y), lanes);
    }
}

FR_INLINE void pool_rows_from_first(const fr_pool *s, const int mode, const int stride, const int keep) {
    for (ptrdiff_t row = s->row; row < s->row + s->rows; ++row) pool_row(s, row, mode, stride, keep);
}

FR_INLINE void pool_any_stride(const fr_pool *s, const int mode, const int keep) {
    if (s->axis[2].stride == 1) pool_rows_from_first(s, mode, 1, keep);
    else if (s->axis[2].stride == 2) pool_rows_from_first(s, mode, 2, keep);
    else pool_rows_from_first(s, mode, 0, keep);
}

static void FR_NAME(pool)(const fr_pool *s) {
    if (s->mode == FR_POOL_SUM) pool_any_stride(s, FR_POOL_SUM, 0);
    else if (s->mode == FR_POOL_MAX && s->taps) pool_any_stride(s, FR_POOL_MAX, 1);
    else if (s->mode == FR_POOL_MAX) pool_any_stride(s, FR_POOL_MAX, 0);
    else if (s->taps) pool_any_stride(s, FR_POOL_MIN, 1);
    else pool_any_stride(s, FR_POOL_MIN, 0);
}

// One row of x and one row of y whose windows meet it with the taps from `tap` on.
typedef struct pool_pair {
    real *dx;
    const real *dy;
    ptrdiff_t row;  // of y
    ptrdiff_t tap;
    vec scale;
} pool_pair;

// What the columns residue + stride * q, counted from the padding, get for q = q0..q0+W-1.
FR_INLINE vec gathered(const fr_pool *s, const pool_pair *p, ptrdiff_t q0, ptrdiff_t residue, const int step,
                       const int select) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t stride = step ? step : W->stride;
    vec sum = vzero();
    for (ptrdiff_t j = 0; j < W->kernel; ++j) {
        const ptrdiff_t beyond = j * W->dilation - residue;
        if (stride > 1 && beyond % stride) continue;
        const ptrdiff_t o = q0 - beyond / stride;
        const vec dy = vload_inside(p->dy, o, W->out, vzero());
        if (select) {
            const vmask taken = veq(load_taps(s, p->row * W->out, o, W->out), vset1((real)(p->tap + j)));
            sum = vadd(sum, vselect(taken, dy, vzero()));
        } else {
            sum = vadd(sum, vmul(dy, vload_inside((const real *)s->scale[2], o, W->out, vzero())));
        }
    }
    return select ? sum : vmul(sum, p->scale);
}

FR_INLINE void put_row(real *dx, ptrdiff_t at, ptrdiff_t size, vec v, int add) {
    vstore_inside(dx, add ? vadd(v, vload_inside(dx, at, size, vzero())) : v, at, size);
}

FR_INLINE void put_stepped(real *dx, ptrdiff_t at, ptrdiff_t step, ptrdiff_t size, vec v, int add) {
    real lanes[FR_WIDTH];
    vstore(lanes, v);
    for (ptrdiff_t i = 0; i < FR_WIDTH && at < size; ++i, at += step) {
        if (at >= 0) dx[at] = add ? dx[at] + lanes[i] : lanes[i];
    }
}

FR_INLINE void pull_back_row(const fr_pool *s, const pool_pair *p, int add, const int stride, const int select) {
    const fr_pool_axis *W = &s->axis[2];
    if (stride == 2) {
        for (ptrdiff_t q = W->padding / 2; 2 * q < W->size + W->padding; q += FR_WIDTH) {
            const ptrdiff_t at = 2 * q - W->padding;
            const vec even = gathered(s, p, q, 0, 2, select), odd = gathered(s, p, q, 1, 2, select);
            put_row(p->dx, at, W->size, vzip_lo(even, odd), add);
            put_row(p->dx, at + FR_WIDTH, W->size, vzip_hi(even, odd), add);
        }
    } else if (stride == 1) {
        for (ptrdiff_t at = 0; at < W->size; at += FR_WIDTH)
            put_row(p->dx, at, W->size, gathered(s, p, at + W->padding, 0, 1, select), add);
    } else {
        for (ptrdiff_t r = 0; r < W->stride; ++r) {
            for (ptrdiff_t q = W->padding / W->stride; W->stride * q + r < W->size + W->padding; q += FR_WIDTH)
                put_stepped(p->dx, W->stride * q + r - W->padding, W->stride, W->size,
                            gathered(s, p, q, r, 0, select), add);
        }
    }
}

FR_INLINE void pull_back_rows(const fr_pool *s, const int stride, const int select) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    for (ptrdiff_t row = s->row; row < s->row + s->rows; ++row) {
        const ptrdiff_t plane = row / (D->size * H->size), depth = row / H->size % D->size, height = row % H->size;
        const pool_range ds = pool_meeting(D, depth), hs = pool_meeting(H, height);
        real *dx = (real *)s->y + row * W->size;
        int add = 0;
        for (ptrdiff_t d = ds.lo; d < ds.hi; ++d) {
            const ptrdiff_t depth_tap = pool_tap(D, d, depth);
            for (ptrdiff_t h = hs.lo; h < hs.hi && depth_tap >= 0; ++h) {
                const ptrdiff_t height_tap = pool_tap(H, h, height), from = (plane * D->out + d) * H->out + h;
                if (height_tap < 0) continue;
                const real scale = select ? 1 : ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
                const pool_pair pair = {dx, (const real *)s->x + from * W->out, from,
                                        (depth_tap * H->kernel + height_tap) * W->kernel, vset1(scale)};
                pull_back_row(s, &pair, add, stride, select);
                add = 1;
            }
        }
        for (ptrdiff_t i = 0; i < W->size && !add; ++i) dx[i] = 0;
    }
}

static void FR_NAME(pool_backward)(const fr_pool *s) {
    const ptrdiff_t stride = s->axis[2].stride;
    if (s->mode == FR_POOL_SUM) {
        if (stride == 1) pull_back_rows(s, 1, 0);
        else if (stride == 2) pull_back_rows(s, 2, 0);
        else pull_back_rows(s, 0, 0);
    } else if (stride == 1) pull_back_rows(s, 1, 1);
    else if (stride == 2) pull_back_rows(s, 2, 1);
    else pull_back_rows(s, 0, 1);
}
