// Pooling of maps that lie channels first. Vectors run along the last axis: `stride` is a constant 1 or 2, where neighbouring
// windows are brought together in registers, or 0 for any other, where they are collected lane by lane.
#pragma once

#include "pool_windows.h"

// Joined rows wait here, with what stands for the padding on both sides: 8 KB of floats. As many rows of y as there is room for
// are joined before the first of them is read again, as a load that meets two stores waits until they have left the core; of a
// longer row a part at a time.
enum { POOL_BUFFER = 2048 };

// The rows of x that one row of y meets.
typedef struct pool_rows {
    const real *x;  // of the first tap of the window, which may be outside
    ptrdiff_t depth_step, height_step;
    pool_span depth, height;
} pool_rows;

FR_INLINE pool_rows rows_of(const fr_pool *s, const pool_place *p) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t slice = H->size * W->size;
    const pool_span d = pool_window(D, p->depth), h = pool_window(H, p->height);
    const real *x = (const real *)s->x + p->plane * D->size * slice;
    return (pool_rows){x + d.start * slice + h.start * W->size, D->dilation * slice, H->dilation * W->size, d, h};
}

FR_INLINE real row_divisor(const fr_pool *s, const pool_place *p) {
    return ((const real *)s->scale[0])[p->depth] * ((const real *)s->scale[1])[p->height];
}

FR_INLINE vec join_vector(const real *const row[3], ptrdiff_t i, ptrdiff_t lanes, const int count, const int mode) {
    vec all = pool_signed(mode, vload_lanes(row[0] + i, lanes));
    if (count > 1) all = pool_join(mode, all, pool_signed(mode, vload_lanes(row[1] + i, lanes)));
    if (count > 2) all = pool_join(mode, all, pool_signed(mode, vload_lanes(row[2] + i, lanes)));
    return all;
}

// n elements of one to three rows, joined to what the buffer holds if `add`.
FR_INLINE void join_some(const real *const row[3], ptrdiff_t n, real *buffer, int add, const int count,
                            const int mode) {
    ptrdiff_t i = 0;
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) {
        const vec all = join_vector(row, i, FR_WIDTH, count, mode);
        vstore(buffer + i, add ? pool_join(mode, vload(buffer + i), all) : all);
    }
    if (i < n) {
        const vec all = join_vector(row, i, n - i, count, mode);
        vstore_n(buffer + i, add ? pool_join(mode, vload_n(buffer + i, n - i), all) : all, n - i);
    }
}

// Columns from..from+n-1 of all rows of a window, joined.
FR_INLINE void join_rows(const pool_rows *rows, ptrdiff_t from, ptrdiff_t n, real *buffer, const int mode) {
    const real *row[3];
    int count = 0, add = 0;
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        const int last_depth = d + 1 == rows->depth.hi;
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            row[count++] = rows->x + d * rows->depth_step + h * rows->height_step + from;
            if (count < 3 && !(last_depth && h + 1 == rows->height.hi)) continue;
            if (count == 1) join_some(row, n, buffer, add, 1, mode);
            else if (count == 2) join_some(row, n, buffer, add, 2, mode);
            else join_some(row, n, buffer, add, 3, mode);
            count = 0, add = 1;
        }
    }
}

FR_INLINE void fill_buffer(real *buffer, ptrdiff_t from, ptrdiff_t to, vec value) {
    for (; from + FR_WIDTH <= to; from += FR_WIDTH) vstore(buffer + from, value);
    if (from < to) vstore_n(buffer + from, value, to - from);
}

FR_INLINE vec collect(const real *from, ptrdiff_t step) {
    real lanes[FR_WIDTH];
    for (ptrdiff_t i = 0; i < FR_WIDTH; ++i) lanes[i] = from[i * step];
    return vload(lanes);
}

// The windows that start at the elements 0, stride, ... of the buffer.
FR_INLINE vec join_taps(const fr_pool_axis *W, const real *buffer, const int mode, const int stride) {
    if (stride == 2 && W->dilation == 1) {
        vec a = vload(buffer), b = vload(buffer + FR_WIDTH), all = vunzip_even(a, b);
        if (W->kernel > 1) all = pool_join(mode, all, vunzip_odd(a, b));
        for (ptrdiff_t j = 2; j < W->kernel; j += 2) {
            a = vload(buffer + j), b = vload(buffer + j + FR_WIDTH);
            all = pool_join(mode, all, vunzip_even(a, b));
            if (j + 1 < W->kernel) all = pool_join(mode, all, vunzip_odd(a, b));
        }
        return all;
    }
    vec all = stride == 1 ? vload(buffer) : collect(buffer, W->stride);
    for (ptrdiff_t j = 1; j < W->kernel; ++j) {
        const real *from = buffer + j * W->dilation;
        all = pool_join(mode, all, stride == 1 ? vload(from) : collect(from, W->stride));
    }
    return all;
}

// The columns that windows o..o+count-1 of a row meet go to the buffer, all rows of x joined.
FR_INLINE void join_columns_of(const fr_pool *s, const pool_rows *rows, ptrdiff_t o, ptrdiff_t used, real *buffer,
                                  const int mode) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t left = o * W->stride - W->padding;
    const ptrdiff_t from = left > 0 ? left : 0, to = left + used < W->size ? left + used : W->size;
    const vec outside = pool_signed(mode, pool_outside(mode));
    if (rows->depth.lo == rows->depth.hi || rows->height.lo == rows->height.hi || to <= from) {
        fill_buffer(buffer, 0, used, outside);
    } else {
        fill_buffer(buffer, 0, from - left, outside);
        join_rows(rows, from, to - from, buffer + from - left, mode);
        fill_buffer(buffer, to - left, used, outside);
    }
}

// Not inlined: the same for any stride.
static FR_NOINLINE void join_columns_max(const fr_pool *s, const pool_rows *rows, ptrdiff_t o, ptrdiff_t used,
                                         real *to) {
    join_columns_of(s, rows, o, used, to, FR_POOL_MAX);
}
static FR_NOINLINE void join_columns_min(const fr_pool *s, const pool_rows *rows, ptrdiff_t o, ptrdiff_t used,
                                         real *to) {
    join_columns_of(s, rows, o, used, to, FR_POOL_MIN);
}
static FR_NOINLINE void join_columns_sum(const fr_pool *s, const pool_rows *rows, ptrdiff_t o, ptrdiff_t used,
                                         real *to) {
    join_columns_of(s, rows, o, used, to, FR_POOL_SUM);
}
FR_INLINE void join_columns(const fr_pool *s, const pool_rows *rows, ptrdiff_t o, ptrdiff_t used, real *to,
                               const int mode) {
    if (mode == FR_POOL_MAX) join_columns_max(s, rows, o, used, to);
    else if (mode == FR_POOL_MIN) join_columns_min(s, rows, o, used, to);
    else join_columns_sum(s, rows, o, used, to);
}

// Windows o..o+count-1 of a row, from its joined columns.
FR_INLINE void join_windows(const fr_pool *s, const real *buffer, const pool_place *to, ptrdiff_t o, ptrdiff_t count,
                               const int mode, const int stride) {
    const fr_pool_axis *W = &s->axis[2];
    real *y = (real *)s->y + to->row * W->out + o;
    const vec scale = vset1(row_divisor(s, to));
    for (ptrdiff_t i = 0; i < count; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(count - i, 0);
        vec all = join_taps(W, buffer + i * W->stride, mode, stride);
        if (mode == FR_POOL_SUM) {
            const real *counts = (const real *)s->scale[2] + o + i;
            const vec number = lanes == FR_WIDTH ? vload(counts) : vload_between(counts, 0, lanes, vset1(1));
            all = vdiv(all, vmul(number, scale));
        }
        vstore_lanes(y + i, pool_signed(mode, all), lanes);
    }
}

// A row of windows that no buffer holds, one value after the other.
FR_INLINE void join_without_buffer(const fr_pool *s, const pool_rows *rows, const pool_place *to, const int mode) {
    const fr_pool_axis *W = &s->axis[2];
    const real scale = row_divisor(s, to);
    for (ptrdiff_t o = 0; o < W->out; ++o) {
        const pool_span w = pool_window(W, o);
        vec all = pool_signed(mode, pool_outside(mode));
        for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
            for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
                const real *row = rows->x + d * rows->depth_step + h * rows->height_step + w.start;
                for (ptrdiff_t i = w.lo; i < w.hi; ++i)
                    all = pool_join(mode, all, pool_signed(mode, vset1(row[i * W->dilation])));
            }
        }
        if (mode == FR_POOL_SUM) all = vdiv(all, vset1(((const real *)s->scale[2])[o] * scale));
        vstore_n((real *)s->y + to->row * W->out + o, pool_signed(mode, all), 1);
    }
}

// Elements of the buffer for `count` windows: vectors are read whole.
FR_INLINE ptrdiff_t columns_of(const fr_pool_axis *W, ptrdiff_t count) {
    return (count + FR_WIDTH - 1) / FR_WIDTH * FR_WIDTH * W->stride + (W->kernel - 1) * W->dilation;
}

FR_INLINE void join_long_row(const fr_pool *s, const pool_place *to, real *buffer, const int mode,
                                const int stride) {
    const fr_pool_axis *W = &s->axis[2];
    const pool_rows rows = rows_of(s, to);
    const ptrdiff_t room = (POOL_BUFFER - (W->kernel - 1) * W->dilation) / (W->stride * FR_WIDTH) * FR_WIDTH;
    for (ptrdiff_t o = 0; o < W->out && room > 0; o += room) {
        const ptrdiff_t count = o + room < W->out ? room : W->out - o;
        join_columns(s, &rows, o, columns_of(W, count), buffer, mode);
        join_windows(s, buffer, to, o, count, mode, stride);
    }
    if (room <= 0) join_without_buffer(s, &rows, to, mode);
}

FR_INLINE void join_all_rows(const fr_pool *s, const int mode, const int stride) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t used = columns_of(W, W->out), together = POOL_BUFFER / used, end = s->row + s->rows;
    real buffer[POOL_BUFFER];
    pool_place from = pool_place_of(s->row, D->out, H->out), to = from;
    if (together == 0) {
        for (; to.row < end; pool_next(&to, D->out, H->out)) join_long_row(s, &to, buffer, mode, stride);
        return;
    }
    while (to.row < end) {
        const ptrdiff_t first = to.row, stop = first + together < end ? first + together : end;
        for (; from.row < stop; pool_next(&from, D->out, H->out)) {
            const pool_rows rows = rows_of(s, &from);
            join_columns(s, &rows, 0, used, buffer + (from.row - first) * used, mode);
        }
        for (; to.row < stop; pool_next(&to, D->out, H->out))
            join_windows(s, buffer + (to.row - first) * used, &to, 0, W->out, mode, stride);
    }
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

FR_INLINE vec load_tap(const real *row, ptrdiff_t at, ptrdiff_t size, vec fill, const int inside) {
    return inside ? vload(row + at) : vload_inside(row, at, size, fill);
}

// The places in their order. Tells whether it met a NaN: then the result does not count. `kernel` is the constant size of
// windows in a row, or 0; `inside` says that no load leaves the row.
FR_INLINE int select_numbers(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *best, vec *taps,
                                const int mode, const int stride, const int kernel, const int inside) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const vec fill = pool_outside(mode), one = vset1(1);
    const int pairs = stride == 2 && (kernel || W->dilation == 1);
    const ptrdiff_t count = kernel ? kernel : W->kernel, dilation = kernel ? 1 : W->dilation;
    vmask seen = vlt(fill, fill);
    *best = pool_signed(mode, fill);
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            const real *row = rows->x + d * rows->depth_step + h * rows->height_step;
            vec tap = vset1((real)((d * H->kernel + h) * W->kernel));
    FR_UNROLL(3) for (ptrdiff_t j = 0; j < count; j += pairs ? 2 : 1) {
                const ptrdiff_t here = at + j * dilation;
                const vec a = load_tap(row, here, W->size, fill, inside);
                const vec b = stride == 2 ? load_tap(row, here + FR_WIDTH, W->size, fill, inside) : fill;
                seen = vor(seen, vunordered(a, b));
                pool_select(best, taps, pool_signed(mode, stride == 2 ? vunzip_even(a, b) : a), tap, 0);
                tap = vadd(tap, one);
                if (pairs && j + 1 < count) {
                    pool_select(best, taps, pool_signed(mode, vunzip_odd(a, b)), tap, 0);
                    tap = vadd(tap, one);
                }
            }
        }
    }
    return vany(seen);
}

// Any windows and any values.
FR_INLINE vec select_any(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *taps, const int stride) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const int negated = s->mode == FR_POOL_MIN;
    const vec fill = vset1(negated ? (real)INFINITY : -(real)INFINITY);
    vec best = vset1(-(real)INFINITY);
    for (ptrdiff_t d = rows->depth.lo; d < rows->depth.hi; ++d) {
        for (ptrdiff_t h = rows->height.lo; h < rows->height.hi; ++h) {
            const real *row = rows->x + d * rows->depth_step + h * rows->height_step;
            for (ptrdiff_t j = 0; j < W->kernel; ++j) {
                const ptrdiff_t here = at + j * W->dilation;
                vec v;
                if (stride == 0) v = vload_stepped(row, here, W->stride, W->size, fill);
                else v = vload_inside(row, here, W->size, fill);
                if (stride == 2) v = vunzip_even(v, vload_inside(row, here + FR_WIDTH, W->size, fill));
                if (negated) v = vneg(v);
                pool_select(&best, taps, v, vset1((real)((d * H->kernel + h) * W->kernel + j)), 1);
            }
        }
    }
    return best;
}
static FR_NOINLINE vec select_any_0(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *taps) {
    return select_any(s, rows, at, taps, 0);
}
static FR_NOINLINE vec select_any_1(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *taps) {
    return select_any(s, rows, at, taps, 1);
}
static FR_NOINLINE vec select_any_2(const fr_pool *s, const pool_rows *rows, ptrdiff_t at, vec *taps) {
    return select_any(s, rows, at, taps, 2);
}

FR_INLINE void put_selection(const fr_pool *s, ptrdiff_t row, ptrdiff_t o, vec best, vec taps, const int mode) {
    const ptrdiff_t lanes = lanes_left(s->axis[2].out - o, 0);
    store_taps(s, row * s->axis[2].out + o, taps, lanes);
    vstore_lanes((real *)s->y + row * s->axis[2].out + o, pool_signed(mode, best), lanes);
}

// The taps before any value is looked at: the first that is in the map.
FR_INLINE vec first_taps(const fr_pool *s, ptrdiff_t o, vec first) {
    const vec columns = vload_lanes((const real *)s->first + o, lanes_left(s->axis[2].out - o, 0));
    return vmin(vset1((real)pool_places(s)), vadd(first, columns));
}

FR_INLINE void select_border(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, vec first,
                             const int mode, const int stride) {
    const ptrdiff_t at = o * s->axis[2].stride - s->axis[2].padding;
    vec taps = first_taps(s, o, first);
    const vec best = stride == 0   ? select_any_0(s, rows, at, &taps)
                     : stride == 1 ? select_any_1(s, rows, at, &taps)
                                   : select_any_2(s, rows, at, &taps);
    put_selection(s, row, o, best, taps, mode);
}

FR_INLINE void select_vector(const fr_pool *s, const pool_rows *rows, ptrdiff_t row, ptrdiff_t o, vec first,
                             const int mode, const int stride, const int kernel, const int inside) {
    vec best, taps = first_taps(s, o, first);
    const ptrdiff_t at = o * s->axis[2].stride - s->axis[2].padding;
    if (select_numbers(s, rows, at, &best, &taps, mode, stride, kernel, inside))
        select_border(s, rows, row, o, first, mode, stride);
    else put_selection(s, row, o, best, taps, mode);
}

// The windows lo..hi-1 of a row can begin a vector whose loads do not leave the row.
FR_INLINE pool_range middle_of(const fr_pool_axis *W, const int stride) {
    const ptrdiff_t last = (W->kernel - 1) * W->dilation, even = W->dilation == 1 ? last & ~(ptrdiff_t)1 : last;
    const ptrdiff_t room = W->size + W->padding - (stride == 2 ? 2 * FR_WIDTH + even : FR_WIDTH + last);
    return (pool_range){(W->padding + W->stride - 1) / W->stride, room < 0 ? 0 : room / W->stride + 1};
}

FR_INLINE void select_row(const fr_pool *s, const pool_place *to, const int mode, const int stride, const int kernel) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    const pool_rows rows = rows_of(s, to);
    const int empty = rows.depth.lo == rows.depth.hi || rows.height.lo == rows.height.hi;
    const ptrdiff_t place = empty ? pool_places(s) : (rows.depth.lo * H->kernel + rows.height.lo) * W->kernel;
    const vec first = vset1((real)place);
    const pool_range middle = middle_of(W, stride);
    const ptrdiff_t last = W->out > FR_WIDTH ? W->out - FR_WIDTH : 0;  // the last vector may overlap the one before
    for (ptrdiff_t o = 0; o < W->out; o += FR_WIDTH) {
        const ptrdiff_t start = o < last ? o : last;
        if (stride != 0 && start >= middle.lo && start < middle.hi)
            select_vector(s, &rows, to->row, start, first, mode, stride, kernel, 1);
        else if (kernel) select_vector(s, &rows, to->row, start, first, mode, stride, kernel, 0);
        else select_border(s, &rows, to->row, start, first, mode, stride);
    }
}

FR_INLINE void select_all_rows(const fr_pool *s, const int mode, const int stride, const int kernel) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1];
    pool_place to = pool_place_of(s->row, D->out, H->out);
    for (; to.row < s->row + s->rows; pool_next(&to, D->out, H->out)) select_row(s, &to, mode, stride, kernel);
}

FR_INLINE void pool_any_stride(const fr_pool *s, const int mode, const int keep) {
    const fr_pool_axis *W = &s->axis[2];
    const ptrdiff_t kernel = W->dilation == 1 && mode == FR_POOL_MAX ? W->kernel : 0;  // no own code for the rare minimum
    if (!keep) {
        if (W->stride == 1) join_all_rows(s, mode, 1);
        else if (W->stride == 2) join_all_rows(s, mode, 2);
        else join_all_rows(s, mode, 0);
    } else if (W->stride == 1 && kernel == 3) select_all_rows(s, mode, 1, 3);
    else if (W->stride == 1) select_all_rows(s, mode, 1, 0);
    else if (W->stride == 2 && kernel == 2) select_all_rows(s, mode, 2, 2);
    else if (W->stride == 2 && kernel == 3) select_all_rows(s, mode, 2, 3);
    else if (W->stride == 2) select_all_rows(s, mode, 2, 0);
    else select_all_rows(s, mode, 0, 0);
}

// The copy tells the compiler that stores to y leave the options as they are.
static void FR_NAME(pool)(const fr_pool *given) {
    const fr_pool s = *given;
    if (s.mode == FR_POOL_SUM) pool_any_stride(&s, FR_POOL_SUM, 0);
    else if (s.mode == FR_POOL_MAX && s.taps) pool_any_stride(&s, FR_POOL_MAX, 1);
    else if (s.mode == FR_POOL_MAX) pool_any_stride(&s, FR_POOL_MAX, 0);
    else if (s.taps) pool_any_stride(&s, FR_POOL_MIN, 1);
    else pool_any_stride(&s, FR_POOL_MIN, 0);
}
