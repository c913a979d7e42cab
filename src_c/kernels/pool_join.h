// Pooling of maps that lie channels first, without the places of what was taken. All rows of a window are joined first, then the
// columns of the joined row. `stride` is a constant 1 or 2, where neighbouring windows are brought together in registers, or 0 for
// any other, where windows of stride 1 are joined and some of them picked. A minimum is a maximum of rows that are negated. What
// works on one row is a function of its own: inlined into one another, the loops spilled their registers.
#pragma once

#include "pool_quads.h"

// The windows that start at the elements 0, stride, ... of the buffer. `three`: the kernel has that size, and no dilation.
FR_INLINE vec join_taps(const fr_pool_axis *W, const real *buffer, const int mode, const int stride,
                           const int three) {
    const ptrdiff_t kernel = three ? 3 : W->kernel, dilation = three ? 1 : W->dilation;
    if (stride == 2 && dilation == 1) {
        vec a = vload(buffer), b = vload(buffer + FR_WIDTH), all = vunzip_even(a, b);
        if (kernel > 1) all = pool_join(mode, all, vunzip_odd(a, b));
        for (ptrdiff_t j = 2; j < kernel; j += 2) {
            a = vload(buffer + j), b = vload(buffer + j + FR_WIDTH);
            all = pool_join(mode, all, vunzip_even(a, b));
            if (j + 1 < kernel) all = pool_join(mode, all, vunzip_odd(a, b));
        }
        return all;
    }
    vec all = vload(buffer);
    if (stride == 2) all = vunzip_even(all, vload(buffer + FR_WIDTH));
    for (ptrdiff_t j = 1; j < kernel; ++j) {
        const real *from = buffer + j * dilation;
        all = pool_join(mode, all, stride == 2 ? vunzip_even(vload(from), vload(from + FR_WIDTH)) : vload(from));
    }
    return all;
}

// In place, every stride-th of the windows that start at any element; of all rows as one, since vectors reach into the next.
FR_INLINE void pick_windows(const fr_pool_axis *W, real *buffer, ptrdiff_t rows, ptrdiff_t pitch, ptrdiff_t count,
                               const int mode) {
    const ptrdiff_t last =
        (rows - 1) * pitch + (count - 1) * W->stride;  // windows after it would reach past the buffer
    for (ptrdiff_t i = 0; i <= last; i += FR_WIDTH) vstore(buffer + i, join_taps(W, buffer + i, mode, 1, 0));
    for (; rows > 0; --rows, buffer += pitch) {
        for (ptrdiff_t i = 1; i < count; ++i) buffer[i] = buffer[i * W->stride];
    }
}

// Windows o.. of a row, `count` of them at most a vector. y may be written up to element `limit`. A sum is multiplied by `factor`.
FR_INLINE void put_windows(const fr_pool *s, vec all, ptrdiff_t row, ptrdiff_t o, ptrdiff_t count, ptrdiff_t limit,
                              vec factor, const int mode) {
    const ptrdiff_t at = row * s->axis[2].out + o;
    if (mode == FR_POOL_SUM) all = vmul(all, factor);
    else if (s->mode == FR_POOL_MIN) all = vneg(all);
    vstore_lanes((real *)s->y + at, all, pool_lanes(at, limit, count));
}

// The factors of `count` windows from o on, in rows of one scale; `factors` has room for whole vectors.
static FR_NOINLINE void pool_factors(const fr_pool *s, real scale, ptrdiff_t o, ptrdiff_t count, real *factors) {
    const real *columns = (const real *)s->scale[2] + o;
    for (ptrdiff_t i = 0; i < count; i += FR_WIDTH) {
        const vec both = vmul(vset1(scale), vload_between(columns + i, 0, lane_limit(count - i), vset1(1)));
        vstore(factors + i, s->factors ? both : vdiv(vset1(1), both));
    }
}

// Windows o..o+count-1 of a row, from its joined columns.
// `at` is the number of that row, `factors` what the sums are multiplied by.
typedef void join_fn(const fr_pool *s, const real *row, const real *factors, ptrdiff_t at, ptrdiff_t o, ptrdiff_t count,
                     ptrdiff_t limit);

FR_INLINE void join_windows(const fr_pool *s, const real *row, const real *factors, ptrdiff_t at, ptrdiff_t o,
                               ptrdiff_t count, ptrdiff_t limit, const int mode, const int stride, const int three) {
    for (ptrdiff_t i = 0; i < count; i += FR_WIDTH) {
        const vec all = stride ? join_taps(&s->axis[2], row + i * stride, mode, stride, three) : vload(row + i);
        put_windows(s, all, at, o + i, count - i, limit, mode == FR_POOL_SUM ? vload(factors + i) : vzero(), mode);
    }
}

// One function for each kind of window, so that its loop is its own.
#define FR_JOIN(name, mode, stride, three)                                                                    \
    static FR_NOINLINE void join_##name(const fr_pool *s, const real *row, const real *factors, ptrdiff_t at, \
                                        ptrdiff_t o, ptrdiff_t count, ptrdiff_t limit) {                      \
        join_windows(s, row, factors, at, o, count, limit, mode, stride, three);                              \
    }
FR_JOIN(max_0, FR_POOL_MAX, 0, 0)
FR_JOIN(max_1, FR_POOL_MAX, 1, 0)
FR_JOIN(max_2, FR_POOL_MAX, 2, 0)
FR_JOIN(max_1_3, FR_POOL_MAX, 1, 1)
FR_JOIN(max_2_3, FR_POOL_MAX, 2, 1)
FR_JOIN(sum_0, FR_POOL_SUM, 0, 0)
FR_JOIN(sum_1, FR_POOL_SUM, 1, 0)
FR_JOIN(sum_2, FR_POOL_SUM, 2, 0)
FR_JOIN(sum_1_3, FR_POOL_SUM, 1, 1)
FR_JOIN(sum_2_3, FR_POOL_SUM, 2, 1)

// Pairs of columns, from up to three rows where they lie: no buffer, and the same sums. All windows of a row have one divisor.
FR_INLINE void join_pairs(const fr_pool *s, const pool_rows *rows, const pool_place *to, ptrdiff_t limit,
                             const int mode) {
    const ptrdiff_t out = s->axis[2].out, step = rows->height_step, height = rows->height.hi - rows->height.lo;
    const real scale = mode == FR_POOL_SUM ? pool_row_scale(s, to) : 0;
    const real *row = rows->x + rows->height.lo * step;
    for (ptrdiff_t o = 0; o < out; o += FR_WIDTH, row += 2 * FR_WIDTH) {
        vec a = vload(row), b = vload(row + FR_WIDTH);
        for (ptrdiff_t h = 1; h < height; ++h) {
            a = pool_join(mode, a, vload(row + h * step));
            b = pool_join(mode, b, vload(row + h * step + FR_WIDTH));
        }
        const real factor = mode == FR_POOL_SUM ? pool_factor(s, scale * ((const real *)s->scale[2])[o]) : 0;
        put_windows(s, pool_join(mode, vunzip_even(a, b), vunzip_odd(a, b)), to->row, o, out - o, limit, vset1(factor),
                    mode);
    }
}

// A row of windows that no buffer holds, one value after the other.
FR_INLINE void join_without_buffer(const fr_pool *s, const pool_place *to, const int mode) {
    const fr_pool_axis *W = &s->axis[2];
    const pool_rows rows = pool_rows_of(s, to);
    const real scale = pool_row_scale(s, to);
    for (ptrdiff_t o = 0; o < W->out; ++o) {
        const pool_span w = pool_window(W, o);
        vec all = pool_signed(mode, pool_outside(mode));
        for (ptrdiff_t d = rows.depth.lo; d < rows.depth.hi; ++d) {
            for (ptrdiff_t h = rows.height.lo; h < rows.height.hi; ++h) {
                const real *row = rows.x + d * rows.depth_step + h * rows.height_step + w.start;
                for (ptrdiff_t i = w.lo; i < w.hi; ++i)
                    all = pool_join(mode, all, pool_signed(mode, vset1(row[i * W->dilation])));
            }
        }
        if (mode == FR_POOL_SUM) all = vmul(all, vset1(pool_factor(s, ((const real *)s->scale[2])[o] * scale)));
        vstore_n((real *)s->y + to->row * W->out + o, pool_signed(mode, all), 1);
    }
}

// The rows of a window of maps without depth, joined; `count` is their constant number, or 0. What stands around the columns is in
// the buffer already.
FR_INLINE void lay_flat(const real *x, ptrdiff_t size, ptrdiff_t rows, const pool_part *c, real *to, const int mode,
                           const int count) {
    const vec fill = pool_outside(mode);
    const ptrdiff_t height = count ? count : rows;
    for (ptrdiff_t i = 0; i < c->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(c->n - i, 0);
        vec all = pool_signed(mode, vload_filled(x + i, lanes, fill));
    FR_UNROLL(3) for (ptrdiff_t h = 1; h < height; ++h)
            all = pool_join(mode, all, pool_signed(mode, vload_filled(x + h * size + i, lanes, fill)));
        vstore(to + c->left + i, all);
    }
}

FR_INLINE void lay_flat_window(const fr_pool *s, const pool_place *p, const pool_part *c, real *to, const int mode) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t start = p->height * H->stride - H->padding, end = start + H->kernel;
    const ptrdiff_t lo = start > 0 ? start : 0, rows = (end < H->size ? end : H->size) - lo;
    const real *x = (const real *)s->x + (p->plane * H->size + lo) * W->size + c->from;
    if (rows == 3) lay_flat(x, W->size, rows, c, to, mode, 3);
    else if (rows == 2) lay_flat(x, W->size, rows, c, to, mode, 2);
    else lay_flat(x, W->size, rows, c, to, mode, 0);
}

// Whether that serves: each window then has a row in the map.
FR_INLINE int pool_is_flat(const fr_pool *s) {
    return s->axis[0].size == 1 && s->axis[0].out == 1 && s->axis[0].kernel == 1 && s->axis[1].dilation == 1;
}

static FR_NOINLINE void lay_outside(const fr_pool *s, real *buffer, ptrdiff_t n) {
    const vec outside = s->mode == FR_POOL_SUM ? vzero() : vset1(-(real)INFINITY);
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) vstore(buffer + i, outside);
}

// Returns the place after rows from..stop-1, which then lie in the buffer one after the other.
FR_INLINE pool_place join_columns(const fr_pool *s, pool_place from, ptrdiff_t stop, const pool_part *c, real *to,
                                  const int mode) {
    const int flat = pool_is_flat(s);
    for (; from.row < stop; pool_next(&from, s->axis[0].out, s->axis[1].out), to += c->pitch) {
        if (flat) {
            lay_flat_window(s, &from, c, to, mode);
        } else {
            const pool_rows rows = pool_rows_of(s, &from);
            lay_window(&rows, c, to, mode);
        }
    }
    return from;
}
static FR_NOINLINE pool_place join_columns_max(const fr_pool *s, pool_place from, ptrdiff_t stop, const pool_part *c,
                                               real *to) {
    return join_columns(s, from, stop, c, to, FR_POOL_MAX);
}
static FR_NOINLINE pool_place join_columns_min(const fr_pool *s, pool_place from, ptrdiff_t stop, const pool_part *c,
                                               real *to) {
    return join_columns(s, from, stop, c, to, FR_POOL_MIN);
}
static FR_NOINLINE pool_place join_columns_sum(const fr_pool *s, pool_place from, ptrdiff_t stop, const pool_part *c,
                                               real *to) {
    return join_columns(s, from, stop, c, to, FR_POOL_SUM);
}

static FR_NOINLINE void pick_max(const fr_pool_axis *W, real *buffer, ptrdiff_t rows, ptrdiff_t pitch,
                                 ptrdiff_t count) {
    pick_windows(W, buffer, rows, pitch, count, FR_POOL_MAX);
}
static FR_NOINLINE void pick_sum(const fr_pool_axis *W, real *buffer, ptrdiff_t rows, ptrdiff_t pitch,
                                 ptrdiff_t count) {
    pick_windows(W, buffer, rows, pitch, count, FR_POOL_SUM);
}

// Windows o..o+count-1 of all rows. As many rows as there is room for are joined before the first of them is read again: a load
// that meets two stores waits until they have left the core.
static void join_strip(const fr_pool *s, ptrdiff_t o, ptrdiff_t count, real *buffer, real *factors, join_fn *join) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_part c = pool_part_met(W, o, count);
    const ptrdiff_t together = POOL_BUFFER / c.pitch, end = s->row + s->rows,
                    limit = count == W->out ? end * W->out : 0;
    const int picked = W->stride > 2, sum = s->mode == FR_POOL_SUM, flat = pool_is_flat(s);
    real scale = 0;  // of the factors
    pool_place from = pool_place_of(s->row, D->out, H->out), to = from;
    while (to.row < end) {
        const ptrdiff_t stop = to.row + together < end ? to.row + together : end;
        real *row = buffer + c.lead;
        if (flat && (picked || to.row == s->row)) lay_outside(s, row, (stop - to.row) * c.pitch);
        if (s->mode == FR_POOL_MAX) from = join_columns_max(s, from, stop, &c, row);
        else if (s->mode == FR_POOL_MIN) from = join_columns_min(s, from, stop, &c, row);
        else from = join_columns_sum(s, from, stop, &c, row);
        if (picked && s->mode == FR_POOL_SUM) pick_sum(W, row, stop - to.row, c.pitch, count);
        else if (picked) pick_max(W, row, stop - to.row, c.pitch, count);
        for (; to.row < stop; pool_next(&to, D->out, H->out), row += c.pitch) {
            const real here = sum ? pool_row_scale(s, &to) : scale;
            if (here != scale) pool_factors(s, scale = here, o, count, factors);
            join(s, row, factors, to.row, o, count, limit);
        }
    }
}

// As many rows as can be read where they lie; returns the number of the one after them.
FR_INLINE ptrdiff_t join_in_place(const fr_pool *s, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t end = s->row + s->rows, met = (W->out + FR_WIDTH - 1) / FR_WIDTH * FR_WIDTH * 2;
    const real *maps_end = pool_maps_end(s);
    pool_place to = pool_place_of(s->row, D->out, H->out);
    for (; to.row < end; pool_next(&to, D->out, H->out)) {
        const pool_rows rows = pool_rows_of(s, &to);
        if (pool_rows_empty(&rows) || !pool_in_place(&rows, met, maps_end)) break;
        if (s->far) pool_fetch(s, &rows);
        join_pairs(s, &rows, &to, end * W->out, mode);
    }
    return to.row;
}
static FR_NOINLINE ptrdiff_t join_in_place_max(const fr_pool *s) { return join_in_place(s, FR_POOL_MAX); }
static FR_NOINLINE ptrdiff_t join_in_place_sum(const fr_pool *s) { return join_in_place(s, FR_POOL_SUM); }

static void join_rows(const fr_pool *given, join_fn *join) {
    fr_pool s = *given;
    const fr_pool_axis *D = &s.axis[0], *H = &s.axis[1], *W = &s.axis[2];
    const ptrdiff_t most = pool_windows_at_once(W, 1), end = s.row + s.rows;
    _Alignas(64)
        real buffer[POOL_BUFFER + POOL_BEYOND] = {0};  // what lies past a row must be numbers: denormal ones are slow
    real factors[POOL_BUFFER];
    const int pairs = W->stride == 2 && W->kernel == 2 && W->dilation == 1 && pool_stays_inside(W) && D->kernel == 1 &&
                      H->kernel <= 3;
    if (pairs && s.mode == FR_POOL_MAX) s.row = join_in_place_max(&s);
    else if (pairs && s.mode == FR_POOL_SUM) s.row = join_in_place_sum(&s);
    s.rows = end - s.row;
    for (ptrdiff_t o = 0; o < W->out && most > 0; o += most)
        join_strip(&s, o, o + most < W->out ? most : W->out - o, buffer, factors, join);
    pool_place to = pool_place_of(s.row, D->out, H->out);
    for (; to.row < end && most == 0; pool_next(&to, D->out, H->out)) {
        if (s.mode == FR_POOL_SUM) join_without_buffer(&s, &to, FR_POOL_SUM);
        else if (s.mode == FR_POOL_MAX) join_without_buffer(&s, &to, FR_POOL_MAX);
        else join_without_buffer(&s, &to, FR_POOL_MIN);
    }
}

static void join_all(const fr_pool *s) {
    if (pool_has_quads(s)) {
        if (s->mode == FR_POOL_SUM) join_quads_sum(s);
        else s->mode == FR_POOL_MAX ? join_quads_max(s) : join_quads_min(s);
        return;
    }
    join_fn *const any[2][3] = {{join_max_0, join_max_1, join_max_2}, {join_sum_0, join_sum_1, join_sum_2}};
    join_fn *const three[2][3] = {{join_max_0, join_max_1_3, join_max_2_3}, {join_sum_0, join_sum_1_3, join_sum_2_3}};
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t stride = W->stride > 2 ? 0 : W->stride, sum = s->mode == FR_POOL_SUM;
    join_rows(s, W->kernel == 3 && W->dilation == 1 ? three[sum][stride] : any[sum][stride]);
}
