// The gradient of pooling of maps that lie channels first, gathered: an element of dx is written from the windows that meet it,
// one to three rows of these at a time. `stride` is a constant 1 or 2, or 0 for any other, as in the pooling itself.
#pragma once

#include "pool_windows.h"

enum { GATHER_SUM, GATHER_BYTES, GATHER_WIDE };  // with no taps, or with taps of that size

// Rows of y whose windows meet one row of dx.
typedef struct pool_sources {
    const real *dy[3];
    ptrdiff_t at[3];   // of the row in y
    ptrdiff_t tap[3];  // the first tap of the windows in that row of dx
    real scale[3];
    int count;
} pool_sources;

// What windows o..o+W-1 give to the places of tap j of a row; the lanes lo..hi-1 are windows. `count` is the constant number of
// sources, or 0.
FR_INLINE vec gather_tap(const fr_pool *s, const pool_sources *from, const int count, ptrdiff_t o, ptrdiff_t lo,
                            ptrdiff_t hi, ptrdiff_t j, const int kind) {
    vec sum = vzero();
    for (int r = 0; r < (count ? count : from->count); ++r) {
        const vec dy = vload_between(from->dy[r] + o, lo, hi, vzero());
        if (kind == GATHER_SUM) {
            sum = vfma(dy, vset1(from->scale[r]), sum);
        } else {
            const ptrdiff_t at = from->at[r] + o;
            const int tap = (int)(from->tap[r] + j);
            const vmask taken = kind == GATHER_BYTES ? veq_u8((const uint8_t *)s->taps + at, lo, hi, tap)
                                                     : veq_i32((const int32_t *)s->taps + at, lo, hi, tap);
            sum = vadd(sum, vselect(taken, dy, vzero()));
        }
    }
    return kind == GATHER_SUM ? vmul(sum, vload_between((const real *)s->scale[2] + o, lo, hi, vzero())) : sum;
}

// At the borders of a row.
static FR_NOINLINE vec gather_border(const fr_pool *s, const pool_sources *from, ptrdiff_t o, ptrdiff_t j) {
    const ptrdiff_t lo = lane_limit(-o), hi = lane_limit(s->axis[2].out - o);
    if (hi <= lo) return vzero();
    if (s->mode == FR_POOL_SUM) return gather_tap(s, from, 0, o, lo, hi, j, GATHER_SUM);
    if (s->wide) return gather_tap(s, from, 0, o, lo, hi, j, GATHER_WIDE);
    return gather_tap(s, from, 0, o, lo, hi, j, GATHER_BYTES);
}

// What the columns residue + stride * q, counted from the padding, get for q = q0..q0+W-1. `kernel` is the constant size of
// windows in a row, or 0.
FR_INLINE vec gather_columns(const fr_pool *s, const pool_sources *from, const int count, ptrdiff_t q0,
                                ptrdiff_t residue, const int step, const int kernel, const int kind) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t stride = step ? step : W->stride, taps = kernel ? kernel : W->kernel;
    vec sum = vzero();
    FR_UNROLL(3) for (ptrdiff_t j = 0; j < taps; ++j) {
        const ptrdiff_t beyond = j * (kernel ? 1 : W->dilation) - residue;
        if (stride > 1 && beyond % stride) continue;
        const ptrdiff_t o = q0 - beyond / stride;
        if (o >= 0 && o + FR_WIDTH <= W->out) sum = vadd(sum, gather_tap(s, from, count, o, 0, FR_WIDTH, j, kind));
        else sum = vadd(sum, gather_border(s, from, o, j));
    }
    return sum;
}

FR_INLINE void put_columns(real *dx, vec v, ptrdiff_t at, ptrdiff_t size, int add) {
    vstore_inside(dx, add ? vadd(vload_inside(dx, at, size, vzero()), v) : v, at, size);
}

FR_INLINE void put_stepped(real *dx, ptrdiff_t at, ptrdiff_t step, ptrdiff_t size, vec v, int add) {
    real lanes[FR_WIDTH];
    vstore(lanes, v);
    for (ptrdiff_t i = 0; i < FR_WIDTH && at < size; ++i, at += step) {
        if (at >= 0) dx[at] = add ? dx[at] + lanes[i] : lanes[i];
    }
}

FR_INLINE void gather_some(const fr_pool *s, const pool_sources *from, const int count, real *dx, int add,
                           const int stride, const int kernel, const int kind) {
    const fr_pool_axis *W = &s->axis[2];
    if (stride == 2) {
        for (ptrdiff_t q = W->padding / 2; 2 * q < W->size + W->padding; q += FR_WIDTH) {
            const ptrdiff_t at = 2 * q - W->padding;
            const vec even = gather_columns(s, from, count, q, 0, 2, kernel, kind);
            const vec odd = gather_columns(s, from, count, q, 1, 2, kernel, kind);
            put_columns(dx, vzip_lo(even, odd), at, W->size, add);
            put_columns(dx, vzip_hi(even, odd), at + FR_WIDTH, W->size, add);
        }
    } else if (stride == 1) {
        for (ptrdiff_t at = 0; at < W->size; at += FR_WIDTH)
            put_columns(dx, gather_columns(s, from, count, at + W->padding, 0, 1, kernel, kind), at, W->size, add);
    } else {
        for (ptrdiff_t r = 0; r < W->stride; ++r) {
            for (ptrdiff_t q = W->padding / W->stride; W->stride * q + r < W->size + W->padding; q += FR_WIDTH)
                put_stepped(dx, W->stride * q + r - W->padding, W->stride, W->size,
                            gather_columns(s, from, count, q, r, 0, kernel, kind), add);
        }
    }
}

// Up to three sources; a single one, where windows do not overlap, has code of its own.
FR_INLINE void gather_sources(const fr_pool *s, const pool_sources *from, real *dx, int add, const int stride,
                              const int kernel, const int kind) {
    const int narrow = kind != GATHER_WIDE && stride != 0;
    if (narrow && from->count == 1) gather_some(s, from, 1, dx, add, stride, kernel, kind);
    else if (narrow && from->count == 2 && stride == 2) gather_some(s, from, 2, dx, add, stride, kernel, kind);
    else gather_some(s, from, 0, dx, add, stride, kernel, kind);
}

FR_INLINE void gather_row(const fr_pool *s, const pool_place *p, const int stride, const int kernel, const int kind) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_range depths = pool_meeting(D, p->depth), heights = pool_meeting(H, p->height);
    const ptrdiff_t sources = (depths.hi - depths.lo) * (heights.hi - heights.lo);
    real *dx = (real *)s->y + p->row * W->size;
    int add = 0;
    pool_sources from = {.count = 0};
    ptrdiff_t d = depths.lo, h = heights.lo;
    for (ptrdiff_t i = 0; i < sources; ++i) {
        const ptrdiff_t depth = pool_tap(D, d, p->depth), height = pool_tap(H, h, p->height);
        const int r = from.count;
        if (depth >= 0 && height >= 0) {
            from.at[r] = ((p->plane * D->out + d) * H->out + h) * W->out;
            from.dy[r] = (const real *)s->x + from.at[r];
            from.tap[r] = (depth * H->kernel + height) * W->kernel;
            from.scale[r] = ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
            ++from.count;
        }
        if (from.count == 3 || (i + 1 == sources && from.count)) {
            gather_sources(s, &from, dx, add, stride, kernel, kind);
            from.count = 0, add = 1;
        }
        if (++h == heights.hi) h = heights.lo, ++d;
    }
    for (ptrdiff_t i = 0; i < W->size && !add; ++i) dx[i] = 0;
}

FR_INLINE void gather_rows(const fr_pool *s, const int stride, const int kernel, const int kind) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1];
    pool_place p = pool_place_of(s->row, D->size, H->size);
    for (; p.row < s->row + s->rows; pool_next(&p, D->size, H->size)) gather_row(s, &p, stride, kernel, kind);
}

FR_INLINE void gather_any_stride(const fr_pool *s, const int kind) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t kernel = W->dilation == 1 && kind == GATHER_BYTES ? W->kernel : 0;
    if (W->stride == 1) gather_rows(s, 1, 0, kind);
    else if (W->stride == 2 && kernel == 2) gather_rows(s, 2, 2, kind);
    else if (W->stride == 2 && kernel == 3) gather_rows(s, 2, 3, kind);
    else if (W->stride == 2) gather_rows(s, 2, 0, kind);
    else gather_rows(s, 0, 0, kind);
}

// The copy tells the compiler that stores to dx leave the options as they are.
static void FR_NAME(pool_backward)(const fr_pool *given) {
    const fr_pool s = *given;
    if (s.mode == FR_POOL_SUM) gather_any_stride(&s, GATHER_SUM);
    else if (s.wide) gather_any_stride(&s, GATHER_WIDE);
    else gather_any_stride(&s, GATHER_BYTES);
}
