// Pooling over time of one sequence. Where not its times but its features lie side by side, vectors run over these, a few steps at a
// time, with y and the times in the first-level cache in between.
#pragma once

#include "pool_windows.h"
#include "time_pool_rows.h"

enum { TIME_FEW = 16 };  // vectors of sums that features of less than one vector are added to

// Enters the times that a piece has changed, counted from its first step; -1 where it has changed none.
FR_INLINE void put_times(int32_t *times, vec changed, ptrdiff_t begin, ptrdiff_t lanes) {
    if (begin == 0) {
        vstore_i32(times, changed, lanes);
        return;
    }
    real from[FR_WIDTH];
    vstore(from, changed);
    for (ptrdiff_t i = 0; i < lanes; ++i) {
        if (from[i] >= 0) times[i] = (int32_t)(begin + (ptrdiff_t)from[i]);
    }
}

// Steps begin..end-1 of `vectors` vectors of features from c on.
FR_INLINE void pool_piece(const fr_time_pool *s, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t c, const int mode,
                             const int keep, const int vectors) {
    real *y = (real *)s->y + c;
    const real *x = (const real *)s->x + begin * s->time_stride + c;
    const ptrdiff_t lanes = vectors > 1 ? FR_WIDTH : lanes_left(s->columns - c, 0);
    vec best[TIME_SUMS], times[TIME_SUMS];
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
        best[v] = begin ? pool_signed(mode, vload_lanes(y + v * FR_WIDTH, lanes))
                        : pool_signed(mode, pool_outside(mode));
        times[v] = vset1(begin ? -1 : 0);
    }
    for (ptrdiff_t t = 0; t < end - begin; ++t, x += s->time_stride) {
        FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
            const vec value = pool_signed(mode, vload_lanes(x + v * FR_WIDTH, lanes));
            if (keep) pool_select(&best[v], &times[v], value, vset1((real)t), 1);
            else best[v] = pool_join(mode, best[v], value);
        }
    }
    const vec divisor = vset1((real)s->divisor);
    FR_UNROLL(4) for (int v = 0; v < vectors; ++v) {
        if (keep) put_times(s->times + c + v * FR_WIDTH, times[v], begin, lanes);
        if (mode == FR_POOL_SUM && end == s->steps) best[v] = vdiv(best[v], divisor);
        vstore_lanes(y + v * FR_WIDTH, pool_signed(mode, best[v]), lanes);
    }
}

FR_INLINE void pool_columns(const fr_time_pool *s, const int mode, const int keep) {
    for (ptrdiff_t begin = s->begin; begin < s->end; begin += FR_TIME_PIECE) {
        const ptrdiff_t end = begin + FR_TIME_PIECE < s->end ? begin + FR_TIME_PIECE : s->end;
        ptrdiff_t c = 0;
        for (; c + TIME_SUMS * FR_WIDTH <= s->columns; c += TIME_SUMS * FR_WIDTH)
            pool_piece(s, begin, end, c, mode, keep, TIME_SUMS);
        for (; c < s->columns; c += FR_WIDTH) pool_piece(s, begin, end, c, mode, keep, 1);
    }
}

FR_INLINE real join_reals(real a, real b, const int mode) {
    return mode == FR_POOL_SUM ? a + b : a != a || a > b ? a : b;
}

// Few features side by side: vectors run over all elements, of which some whole ones repeat the same order of features.
FR_INLINE void pool_few(const fr_time_pool *s, const int mode) {
    const ptrdiff_t C = s->columns, n = s->steps * C, common = C & -C;
    const ptrdiff_t period = C / (common < FR_WIDTH ? common : FR_WIDTH), rounds = n / (4 * period * FR_WIDTH);
    const ptrdiff_t most = TIME_FEW / period, groups = rounds < 1 ? 1 : rounds < most ? rounds : most;
    const ptrdiff_t sums = groups * period * FR_WIDTH;
    const vec outside = pool_signed(mode, pool_outside(mode));
    const real *x = s->x;
    _Alignas(64) real all[TIME_FEW * FR_WIDTH];
    for (ptrdiff_t i = 0; i < sums; i += FR_WIDTH) vstore(all + i, outside);
    for (ptrdiff_t first = 0; first < n; first += sums) {
        for (ptrdiff_t i = 0; i < sums && first + i < n; i += FR_WIDTH)
            vstore(all + i, join_lanes(x, first + i, n, vload(all + i), mode));
    }
    for (ptrdiff_t i = C; i < sums; ++i) all[i % C] = join_reals(all[i % C], all[i], mode);
    for (ptrdiff_t c = 0; c < C; ++c)
        ((real *)s->y)[c] = mode == FR_POOL_SUM ? all[c] / (real)s->divisor : mode == FR_POOL_MIN ? -all[c] : all[c];
}

FR_INLINE void pool_time(const fr_time_pool *s, const int mode) {
    const int few = s->columns < FR_WIDTH && s->columns == s->time_stride && s->begin == 0 && s->end == s->steps;
    if (s->time_stride == 1) pool_times(s, mode);
    else if (few && (mode == FR_POOL_SUM || !s->times)) pool_few(s, mode);
    else if (mode != FR_POOL_SUM && s->times) pool_columns(s, mode, 1);
    else pool_columns(s, mode, 0);
}

// Whether a precedes b among the largest: a is NaN, or larger. Of two NaN or two equal values the caller knows the later.
FR_INLINE int ranks_above(real a, real b) { return a > b || (a != a && b == b); }

// The place of the value that leaves next: the smallest; the latest of equal ones, the earliest NaN.
FR_INLINE ptrdiff_t lowest(const real *y, ptrdiff_t stride, ptrdiff_t count) {
    ptrdiff_t low = 0;
    for (ptrdiff_t i = 1; i < count; ++i) {
        if (ranks_above(y[low * stride], y[i * stride]) || y[low * stride] == y[i * stride]) low = i;
    }
    return low;
}

// The k largest so far are kept in their order of time. One that ranks above the lowest of them takes its place, at the end.
FR_INLINE void largest_times(const fr_time_pool *s, const real *x, real *y, int32_t *times) {
    const ptrdiff_t step = s->y_time_stride;
    const ptrdiff_t filled = s->steps < s->k ? s->steps : s->k;
    for (ptrdiff_t i = 0; i < s->k; ++i) {
        y[i * step] = i < filled ? x[i * s->time_stride] : 0;
        times[i * step] = i < filled ? (int32_t)i : -1;
    }
    ptrdiff_t low = lowest(y, step, filled);
    for (ptrdiff_t t = filled; t < s->steps; ++t) {
        const real value = x[t * s->time_stride];
        if (!(value > y[low * step]) && value == value) continue;
        for (ptrdiff_t i = low; i + 1 < filled; ++i) {
            y[i * step] = y[(i + 1) * step];
            times[i * step] = times[(i + 1) * step];
        }
        y[(filled - 1) * step] = value;
        times[(filled - 1) * step] = (int32_t)t;
        low = lowest(y, step, filled);
    }
}

static void FR_NAME(time_pool)(const fr_time_pool *s) {
    if (s->mode == FR_POOL_MAX) pool_time(s, FR_POOL_MAX);
    else if (s->mode == FR_POOL_MIN) pool_time(s, FR_POOL_MIN);
    else if (s->mode == FR_POOL_SUM) pool_time(s, FR_POOL_SUM);
    else
        for (ptrdiff_t c = 0; c < s->columns; ++c)
            largest_times(s, (const real *)s->x + c * s->column_stride, (real *)s->y + c * s->y_column_stride,
                          s->times + c * s->y_column_stride);
}

FR_INLINE void fill_row(real *dx, ptrdiff_t n, vec value) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) vstore_lanes(dx + i, value, lanes_left(n - i, 0));
}

// Zeros from step `from` to before step `to`.
FR_INLINE void clear_steps(const fr_time_pool *s, ptrdiff_t from, ptrdiff_t to) {
    real *dx = s->dx;
    if (s->time_stride == 1) {
        for (ptrdiff_t c = 0; c < s->columns; ++c) fill_row(dx + c * s->column_stride + from, to - from, vzero());
    } else {
        for (ptrdiff_t t = from; t < to; ++t) fill_row(dx + t * s->time_stride, s->columns, vzero());
    }
}

FR_INLINE void spread_sum(const fr_time_pool *s, ptrdiff_t from, ptrdiff_t to) {
    const real *dy = s->y;
    const real divisor = (real)s->divisor;
    if (s->time_stride == 1) {
        for (ptrdiff_t c = 0; c < s->columns; ++c)
            fill_row((real *)s->dx + c * s->column_stride + from, to - from, vset1(dy[c] / divisor));
        return;
    }
    for (ptrdiff_t c = 0; c < s->columns; c += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->columns - c, 0);
        const vec share = vdiv(vload_lanes(dy + c, lanes), vset1(divisor));
        for (ptrdiff_t t = from; t < to; ++t) vstore_lanes((real *)s->dx + t * s->time_stride + c, share, lanes);
    }
}

// Steps begin..end-1 of dx. One feature at a time where its times lie side by side, so that what was cleared is still in the
// first-level cache.
static void FR_NAME(time_pool_backward)(const fr_time_pool *s) {
    const ptrdiff_t valid = s->steps < s->end ? s->steps : s->end;
    if (s->mode == FR_POOL_SUM) {
        if (s->begin < valid) spread_sum(s, s->begin, valid);
        clear_steps(s, s->begin < valid ? valid : s->begin, s->end);
        return;
    }
    const ptrdiff_t kept = s->mode == FR_TIME_KMAX ? s->k : 1;
    const int side_by_side = s->time_stride == 1;
    if (!side_by_side) clear_steps(s, s->begin, s->end);
    for (ptrdiff_t c = 0; c < s->columns; ++c) {
        real *dx = (real *)s->dx + c * s->column_stride;
        if (side_by_side) fill_row(dx + s->begin, s->end - s->begin, vzero());
        for (ptrdiff_t i = 0; i < kept; ++i) {
            const ptrdiff_t at = c * s->y_column_stride + i * s->y_time_stride, time = s->times[at];
            if (time >= s->begin && time < s->end) dx[time * s->time_stride] = ((const real *)s->y)[at];
        }
    }
}
