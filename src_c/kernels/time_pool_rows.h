// Pooling over time of features whose times lie side by side: vectors run along time. As many features as a vector has lanes go
// together, and are turned to have a lane each; how a feature is added up does not depend on those beside it.
#pragma once

#include "pack.h"
#include "pool_windows.h"

enum { TIME_BLOCK = 1024 };            // times that stay in the first-level cache until the largest is looked for
enum { TIME_TURNED = 16 * FR_WIDTH };  // of longer sequences the largest value is looked for when it is known
enum { TIME_SUMS = 4 };  // vectors, to hide the latency of an operation

FR_INLINE vec join_lanes(const real *x, ptrdiff_t i, ptrdiff_t n, vec sum, const int mode) {
    const vec outside = pool_outside(mode);
    const vec v = i + FR_WIDTH <= n ? vload(x + i) : vload_between(x + i, 0, lane_limit(n - i), outside);
    return pool_join(mode, sum, pool_signed(mode, v));
}

// The largest in each lane of n values (the smallest negated), or their sum.
FR_INLINE vec join_row(const real *x, ptrdiff_t n, const int mode) {
    vec s[TIME_SUMS];
    ptrdiff_t i = 0;
    if (n < TIME_SUMS * FR_WIDTH) {
        s[0] = pool_signed(mode, vload_filled(x, lane_limit(n), pool_outside(mode)));
        for (i = FR_WIDTH; i < n; i += FR_WIDTH) s[0] = join_lanes(x, i, n, s[0], mode);
        return s[0];
    }
    FR_UNROLL(4) for (int j = 0; j < TIME_SUMS; ++j) s[j] = pool_signed(mode, pool_outside(mode));
    for (; i + TIME_SUMS * FR_WIDTH <= n; i += TIME_SUMS * FR_WIDTH)
        FR_UNROLL(4) for (int j = 0; j < TIME_SUMS; ++j) s[j] = join_lanes(x, i + j * FR_WIDTH, n, s[j], mode);
    for (; i < n; i += FR_WIDTH) s[0] = join_lanes(x, i, n, s[0], mode);
    return pool_join(mode, pool_join(mode, s[0], s[1]), pool_join(mode, s[2], s[3]));
}

FR_INLINE void join_features(const fr_time_pool *s, ptrdiff_t column, ptrdiff_t lanes, const int mode) {
    const real *x = (const real *)s->x + column * s->column_stride;
    vec v[FR_WIDTH];
    for (ptrdiff_t j = 0; j < FR_WIDTH; ++j, x += s->column_stride) v[j] = j < lanes ? join_row(x, s->steps, mode) : vzero();
    transpose(v);
    FR_UNROLL(4) for (int half = FR_WIDTH / 2; half > 0; half /= 2) {
        FR_UNROLL(8) for (int i = 0; i < half; ++i) v[i] = pool_join(mode, v[i], v[i + half]);
    }
    const vec all = mode == FR_POOL_SUM ? vdiv(v[0], vset1((real)s->divisor)) : pool_signed(mode, v[0]);
    vstore_lanes((real *)s->y + column, all, lanes);
}

FR_INLINE void select_features(const fr_time_pool *s, ptrdiff_t column, ptrdiff_t lanes, const int mode) {
    const real *x = (const real *)s->x + column * s->column_stride;
    const vec outside = pool_outside(mode);
    vec best = pool_signed(mode, outside), times = vzero();
    for (ptrdiff_t t = 0; t < s->steps; t += FR_WIDTH) {
        const ptrdiff_t n = lane_limit(s->steps - t);
        vec v[FR_WIDTH];
        for (ptrdiff_t j = 0; j < FR_WIDTH; ++j) v[j] = j < lanes ? vload_filled(x + j * s->column_stride + t, n, outside) : outside;
        transpose(v);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i)
            pool_select(&best, &times, pool_signed(mode, v[i]), vset1((real)(t + i)), 1);
    }
    vstore_lanes((real *)s->y + column, pool_signed(mode, best), lanes);
    vstore_i32(s->times + column, times, lanes);
}

// The first place of `value` in x, or the last NaN if it is one. It is there.
FR_INLINE ptrdiff_t place_of(const real *x, ptrdiff_t n, real value) {
    ptrdiff_t i = 0;
    if (isnan(value)) {
        for (i = n - 1; !isnan(x[i]);) --i;
        return i;
    }
    while (i + FR_WIDTH <= n && !vany(veq(vload(x + i), vset1(value)))) i += FR_WIDTH;
    while (x[i] != value) ++i;
    return i;
}

FR_INLINE real largest_of(vec v) { return vany(visnan(v)) ? (real)NAN : vmax_lane(v); }

FR_INLINE void select_time(const fr_time_pool *s, ptrdiff_t column, const int mode) {
    const real *x = (const real *)s->x + column * s->column_stride;
    real best = -(real)INFINITY;
    ptrdiff_t block = 0;
    for (ptrdiff_t i = 0; i < s->steps; i += TIME_BLOCK) {
        const real here = largest_of(join_row(x + i, s->steps - i < TIME_BLOCK ? s->steps - i : TIME_BLOCK, mode));
        if (here > best || here != here) best = here, block = i;
    }
    best = mode == FR_POOL_MIN ? -best : best;
    const ptrdiff_t length = s->steps - block < TIME_BLOCK ? s->steps - block : TIME_BLOCK;
    s->times[column] = (int32_t)(block + place_of(x + block, length, best));
    ((real *)s->y)[column] = best;
}

FR_INLINE void pool_times(const fr_time_pool *s, const int mode) {
    const int select = mode != FR_POOL_SUM && s->times != NULL;
    for (ptrdiff_t column = 0; column < s->columns; column += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->columns - column, 0);
        if (!select) join_features(s, column, lanes, mode);
        else if (s->steps <= TIME_TURNED) select_features(s, column, lanes, mode);
        else
            for (ptrdiff_t j = 0; j < lanes; ++j) select_time(s, column + j, mode);
    }
}
