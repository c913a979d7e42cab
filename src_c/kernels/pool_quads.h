// Maxima, minima and sums of the squares of two by two places that lie side by side, in maps that lie channels first.
#pragma once

#include "pool_rows.h"

enum { QUAD_ROWS = 32 };  // of windows whose rows are joined before columns are: their stores have left the core then

// Whether windows are those.
FR_INLINE int pool_has_quads(const fr_pool *s) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    return D->size == 1 && D->out == 1 && H->kernel == 2 && H->stride == 2 && W->kernel == 2 && W->stride == 2 &&
           H->padding == 0 && W->padding == 0 && H->dilation == 1 && W->dilation == 1 && 2 * H->out <= H->size &&
           2 * W->out <= W->size;
}

FR_INLINE real pool_row_scale(const fr_pool *s, const pool_place *p) {
    return ((const real *)s->scale[0])[p->depth] * ((const real *)s->scale[1])[p->height];
}

// What sums are multiplied by: all windows have one divisor.
FR_INLINE vec quads_factor(const fr_pool *s, const pool_place *p, const int mode) {
    const real divisor = mode == FR_POOL_SUM ? pool_row_scale(s, p) * ((const real *)s->scale[2])[0] : 1;
    return vset1(pool_factor(s, divisor));
}

FR_INLINE vec quads_of(vec a, vec b, vec factor, const int mode) {
    const vec all = pool_join(mode, vunzip_even(a, b), vunzip_odd(a, b));
    return mode == FR_POOL_SUM ? vmul(all, factor) : pool_signed(mode, all);
}

// Rows of windows on their way: the next of them is at x, and `height` windows of its map lie above it.
typedef struct quad_rows {
    const real *x;
    ptrdiff_t height;
} quad_rows;

// The next rows of windows, joined: the columns that windows meet, at most a vector, lie in the buffer one row after the other.
// `whole`: memory after them may be read.
FR_INLINE void join_narrow_rows(const fr_pool *s, quad_rows *from, ptrdiff_t rows, real *buffer, const int mode,
                                   const int whole) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t size = W->size, columns = 2 * W->out,
                    over = (H->size - 2 * H->out) * size;  // rows that no window meets
    while (rows > 0) {
        const ptrdiff_t some = over && H->out - from->height < rows ? H->out - from->height : rows;
        const real *x = from->x;
        for (ptrdiff_t i = 0; i < some; ++i, x += 2 * size, buffer += columns) {
            const vec a = whole ? vload(x) : vload_n(x, columns),
                      b = whole ? vload(x + size) : vload_n(x + size, columns);
            vstore(buffer, pool_join(mode, pool_signed(mode, a), pool_signed(mode, b)));
        }
        from->x = x, from->height += some, rows -= some;
        if (from->height == H->out) from->height = 0, from->x += over;
    }
    vstore(buffer, vzero()), vstore(buffer + FR_WIDTH, vzero());
}

// Rows of windows that are at most half a vector: their columns are joined as if they were one row.
FR_INLINE void join_narrow_quads(const fr_pool *s, const int mode) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    _Alignas(64) real buffer[(QUAD_ROWS + 3) * FR_WIDTH];
    const ptrdiff_t out = W->out, last = s->row + s->rows;
    const pool_place to = pool_place_of(s->row, 1, H->out);
    const vec factor = quads_factor(s, &to, mode);
    const real *end = pool_maps_end(s);
    quad_rows from = {(const real *)s->x + (to.plane * H->size + 2 * to.height) * W->size, to.height};
    for (ptrdiff_t row = s->row, rows; row < last; row += rows) {
        rows = last - row < QUAD_ROWS ? last - row : QUAD_ROWS;
        real *y = (real *)s->y + row * out;
        const ptrdiff_t most = (rows / H->out + 1) * H->size * W->size + FR_WIDTH;  // that whole vectors meet
        if (end - from.x >= most) join_narrow_rows(s, &from, rows, buffer, mode, 1);
        else join_narrow_rows(s, &from, rows, buffer, mode, 0);
        for (ptrdiff_t i = 0; i < rows * out; i += FR_WIDTH)
            vstore_lanes(y + i, quads_of(vload(buffer + 2 * i), vload(buffer + 2 * i + FR_WIDTH), factor, mode),
                         lanes_left(rows * out - i, 0));
    }
}

FR_INLINE void join_wide_quads(const fr_pool *s, const int mode) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t out = W->out, size = W->size, last = s->row + s->rows, limit = last * out;
    const real *end = pool_maps_end(s);
    pool_place to = pool_place_of(s->row, 1, H->out);
    const vec factor = quads_factor(s, &to, mode), none = vzero();
    for (; to.row < last; pool_next(&to, 1, H->out)) {
        const real *x = (const real *)s->x + (to.plane * H->size + 2 * to.height) * size;
        for (ptrdiff_t o = 0; o < out; o += FR_WIDTH, x += 2 * FR_WIDTH) {
            const int whole = end - (x + size) >= 2 * FR_WIDTH;
            const ptrdiff_t at = to.row * out + o, left = lane_limit(2 * (out - o)),
                            right = lane_limit(2 * (out - o) - FR_WIDTH);
            vec a = pool_signed(mode, whole ? vload(x) : vload_between(x, 0, left, none));
            vec b = pool_signed(mode, whole ? vload(x + FR_WIDTH) : vload_between(x + FR_WIDTH, 0, right, none));
            const real *below = x + size;
            a = pool_join(mode, a, pool_signed(mode, whole ? vload(below) : vload_between(below, 0, left, none)));
            below += FR_WIDTH;
            b = pool_join(mode, b, pool_signed(mode, whole ? vload(below) : vload_between(below, 0, right, none)));
            vstore_lanes((real *)s->y + at, quads_of(a, b, factor, mode), pool_lanes(at, limit, out - o));
        }
    }
}

FR_INLINE void join_quads(const fr_pool *s, const int mode) {
    if (2 * s->axis[2].out <= FR_WIDTH) join_narrow_quads(s, mode);
    else join_wide_quads(s, mode);
}
static FR_NOINLINE void join_quads_max(const fr_pool *s) { join_quads(s, FR_POOL_MAX); }
static FR_NOINLINE void join_quads_min(const fr_pool *s) { join_quads(s, FR_POOL_MIN); }
static FR_NOINLINE void join_quads_sum(const fr_pool *s) { join_quads(s, FR_POOL_SUM); }
