// Where the windows of a pooling lie, what they share across layouts: spans, taps, and lanes of a row that may reach past it.
#pragma once

#include <math.h>

#include "lanes.h"

// The taps lo..hi-1 of a window are in the map; tap i is at start + i * dilation.
typedef struct pool_span {
    ptrdiff_t start, lo, hi;
} pool_span;

// Window `o` of an axis; the windows of an adaptive axis (stride 0) divide it evenly.
FR_INLINE pool_span pool_window(const fr_pool_axis *a, ptrdiff_t o) {
    if (a->stride == 0) {
        const ptrdiff_t start = o * a->size / a->out;
        return (pool_span){start, 0, ((o + 1) * a->size + a->out - 1) / a->out - start};
    }
    const ptrdiff_t start = o * a->stride - a->padding, d = a->dilation, rest = a->size - start;
    ptrdiff_t lo = start < 0 ? -start : 0, hi = rest > 0 ? rest : 0;
    if (d > 1) lo = (lo + d - 1) / d, hi = (hi + d - 1) / d;
    if (hi > a->kernel) hi = a->kernel;
    return (pool_span){start, lo, hi < lo ? lo : hi};
}

// The windows lo..hi-1 are all that can meet position p of an axis.
typedef struct pool_range {
    ptrdiff_t lo, hi;
} pool_range;

FR_INLINE pool_range pool_meeting(const fr_pool_axis *a, ptrdiff_t p) {
    if (a->stride == 0) return (pool_range){p * a->out / a->size, ((p + 1) * a->out + a->size - 1) / a->size};
    const ptrdiff_t at = p + a->padding, before = at - a->dilation * (a->kernel - 1), last = at / a->stride;
    return (pool_range){before > 0 ? (before + a->stride - 1) / a->stride : 0, last < a->out ? last + 1 : a->out};
}

FR_INLINE ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// The windows that meet a position of an axis, walked along it without divisions.
typedef struct pool_walk {
    ptrdiff_t lo, lo_rest, hi, hi_rest, stride, out;
} pool_walk;

FR_INLINE pool_walk pool_walk_from(const fr_pool_axis *a, ptrdiff_t p) {
    const ptrdiff_t last = p + a->padding, first = last - a->dilation * (a->kernel - 1) + a->stride - 1;
    const ptrdiff_t lo = floor_div(first, a->stride), hi = last / a->stride;
    return (pool_walk){lo, first - lo * a->stride, hi + 1, last - hi * a->stride, a->stride, a->out};
}

FR_INLINE void pool_step(pool_walk *w) {
    if (++w->lo_rest == w->stride) w->lo_rest = 0, ++w->lo;
    if (++w->hi_rest == w->stride) w->hi_rest = 0, ++w->hi;
}

FR_INLINE pool_range pool_met(const pool_walk *w) {
    return (pool_range){w->lo > 0 ? w->lo : 0, w->hi < w->out ? w->hi : w->out};
}

// The tap of window `o`, one of `pool_meeting`, that is at position p; -1 if it steps over p.
FR_INLINE ptrdiff_t pool_tap(const fr_pool_axis *a, ptrdiff_t o, ptrdiff_t p) {
    if (a->stride == 0) return p - o * a->size / a->out;
    const ptrdiff_t distance = p + a->padding - o * a->stride;
    return a->dilation == 1 ? distance : distance % a->dilation ? -1 : distance / a->dilation;
}

// A row of maps, and where it is: divisions are slow, so that rows are walked.
typedef struct pool_place {
    ptrdiff_t row, plane, depth, height;
} pool_place;

FR_INLINE pool_place pool_place_of(ptrdiff_t row, ptrdiff_t depths, ptrdiff_t heights) {
    return (pool_place){row, row / (depths * heights), row / heights % depths, row % heights};
}

FR_INLINE void pool_next(pool_place *p, ptrdiff_t depths, ptrdiff_t heights) {
    ++p->row;
    if (++p->height < heights) return;
    p->height = 0;
    if (++p->depth < depths) return;
    p->depth = 0;
    ++p->plane;
}

FR_INLINE ptrdiff_t pool_places(const fr_pool *s) {
    return s->axis[0].kernel * s->axis[1].kernel * s->axis[2].kernel;
}

// What stands for a place outside: it takes no part in a maximum, a minimum or a sum.
FR_INLINE vec pool_outside(const int mode) {
    return mode == FR_POOL_SUM ? vzero() : vset1(mode == FR_POOL_MAX ? -(real)INFINITY : (real)INFINITY);
}

// A minimum is the maximum of the negated values.
FR_INLINE vec pool_signed(const int mode, vec v) {
    return mode == FR_POOL_MIN ? vneg(v) : v;
}

FR_INLINE vec pool_join(const int mode, vec a, vec b) { return mode == FR_POOL_SUM ? vadd(a, b) : vmax_nan(a, b); }

// What a sum is multiplied by: one division serves many of them.
FR_INLINE real pool_factor(const fr_pool *s, real scale) {
    return s->factors ? scale : 1 / scale;
}

// Takes v at `tap` where it is larger, so that the first of equal values stays; with `nan` also where it is NaN: the last stays.
FR_INLINE void pool_select(vec *best, vec *taps, vec v, vec tap, const int nan) {
    const vmask better = nan ? vgt_nan(v, *best) : vgt(v, *best);
    *best = vselect(better, v, *best);
    *taps = vselect(better, tap, *taps);
}

FR_INLINE ptrdiff_t lane_limit(ptrdiff_t n) { return n < 0 ? 0 : n < FR_WIDTH ? n : FR_WIDTH; }

// The first lanes from memory, the others of `fill`.
FR_INLINE vec vload_filled(const real *from, ptrdiff_t lanes, vec fill) {
    return lanes == FR_WIDTH ? vload(from) : vload_between(from, 0, lanes, fill);
}

// Taps are kept in bytes, or in 32 bits where a window has more than FR_POOL_PLACES places.
FR_INLINE vmask taps_equal(const fr_pool *s, ptrdiff_t at, ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t tap) {
    return s->wide ? veq_i32((const int32_t *)s->taps + at, lo, hi, (int)tap)
                   : veq_u8((const uint8_t *)s->taps + at, lo, hi, (int)tap);
}

FR_INLINE void store_taps(const fr_pool *s, ptrdiff_t at, vec taps, ptrdiff_t lanes) {
    if (s->wide) vstore_i32((int32_t *)s->taps + at, taps, lanes);
    else vstore_u8((uint8_t *)s->taps + at, taps, lanes);
}
