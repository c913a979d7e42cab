// The gradient of pooling of maps that lie channels first, gathered: an element of dx is written once, from the windows that meet
// it. The rows of dy and of the taps that some rows of dx meet are copied to the first-level cache with zeros around them. `step` is
// a constant 1 or 2, or 0 for any other stride, as in the pooling itself. What works on one row is a function of its own, so that its
// pointers stay in registers.
#pragma once

#include "pool_rows.h"
#include "pool_turned.h"
#include "pool_uneven.h"
#include "pool_whole.h"

enum { GATHER_SUM, GATHER_BYTES, GATHER_WIDE };  // with no taps, or with taps of that size
enum { GATHER_ROWS = 8 };                        // of y that are gathered from at a time
enum { GATHER_BUFFER = POOL_BUFFER / 2 };        // elements of dy, and as many taps

// Columns m*stride + r of dx, r one of the stride's residues, meet windows m + shift, m + shift - drop, ... of a row, by the taps
// first, first + step, ...
typedef struct gather_phase {
    ptrdiff_t first, step, shift, drop;
} gather_phase;

FR_INLINE gather_phase gather_phase_of(const fr_pool_axis *W, ptrdiff_t r) {
    gather_phase p = {0, 1, 0, 0};
    while (p.first < W->kernel && (W->padding + r - p.first * W->dilation) % W->stride) ++p.first;
    while (p.step * W->dilation % W->stride) ++p.step;
    p.shift = floor_div(W->padding + r - p.first * W->dilation, W->stride);
    p.drop = p.step * W->dilation / W->stride;
    return p;
}

// Rows of y in the buffer: those of `heights` for each of `depths`. Window `low` of a row, which may be outside, comes first.
typedef struct gather_band {
    pool_range depths, heights;
    ptrdiff_t low, pitch;
    real *dy;
    uint8_t *taps;
} gather_band;

// Rows of y whose windows meet one row of dx.
typedef struct gather_sources {
    const real *dy[GATHER_ROWS];       // of window 0, which may be outside
    const uint8_t *taps[GATHER_ROWS];  // the same
    int tap[GATHER_ROWS];              // the first tap of the windows in that row of dx
    int count;
} gather_sources;

// What windows o.. of source r give to their tap number `tap` in that row of dx.
FR_INLINE vec gather_tap(const gather_sources *from, int r, ptrdiff_t o, int tap, const int kind) {
    const vec dy = vload(from->dy[r] + o);
    if (kind == GATHER_SUM) return dy;
    const vmask taken = kind == GATHER_BYTES ? veq_u8(from->taps[r] + o, 0, FR_WIDTH, from->tap[r] + tap)
                                             : veq_i32((const int32_t *)(const void *)from->taps[r] + o, 0, FR_WIDTH,
                                                       from->tap[r] + tap);
    return vselect(taken, dy, vzero());
}

// Column m of a phase and those after it. `taps` is the constant number of taps of the phase, or 0.
FR_INLINE vec gather_vector(const gather_sources *from, int count, gather_phase p, ptrdiff_t m, ptrdiff_t kernel,
                               const int kind, const int taps) {
    vec sum = vzero();
    FR_UNROLL(3) for (int r = 0; r < count; ++r) {
        ptrdiff_t o = m + p.shift, j = p.first;
        if (taps) {
            FR_UNROLL(3) for (int t = 0; t < taps; ++t, j += p.step, o -= p.drop) {
                const vec part = gather_tap(from, r, o, (int)j, kind);
                sum = r == 0 && t == 0 ? part : vadd(sum, part);
            }
        } else {
            for (; j < kernel; j += p.step, o -= p.drop) sum = vadd(sum, gather_tap(from, r, o, (int)j, kind));
        }
    }
    return sum;
}

FR_INLINE void put_vector(real *dx, vec v, ptrdiff_t at, ptrdiff_t end, ptrdiff_t limit, int add) {
    const ptrdiff_t lanes = at + FR_WIDTH <= limit ? FR_WIDTH : lanes_left(end - at, 0);
    vstore_lanes(dx + at, add ? vadd(vload_lanes(dx + at, lanes), v) : v, lanes);
}

// Columns of stride 3 and more are written one by one.
FR_INLINE void put_stepped(real *dx, vec v, ptrdiff_t at, ptrdiff_t stride, ptrdiff_t end, int add) {
    real lanes[FR_WIDTH];
    vstore(lanes, v);
    for (ptrdiff_t i = 0; i < FR_WIDTH && at < end; ++i, at += stride) dx[at] = add ? dx[at] + lanes[i] : lanes[i];
}

// A row of dx and its columns m0*stride..end-1; dx may be written up to element `limit`, all counted from the row's start.
typedef struct gather_target {
    const fr_pool_axis *W;
    const gather_phase *phases;
    real *dx;
    ptrdiff_t m0, end, limit;
    int add;
} gather_target;

typedef void gather_fn(const gather_target *to, const gather_sources *from);

// `count` is the constant number of sources, `even` and `odd` those of the taps of the first two phases, or 0. What the stores might
// change in the eyes of the compiler is copied piece by piece: a load of what was just stored in pieces would wait.
FR_INLINE void gather_some(const gather_target *to, const gather_sources *given, const int step, const int kind,
                           const int count, const int even, const int odd) {
    const gather_phase first = to->phases[0], second = to->phases[1];
    const ptrdiff_t stride = to->W->stride, kernel = to->W->kernel, m0 = to->m0, end = to->end, limit = to->limit;
    const int add = to->add, sources = count ? count : given->count;
    real *const dx = to->dx;
    gather_sources from;
    FR_UNROLL(8) for (int r = 0; r < sources; ++r)
        from.dy[r] = given->dy[r], from.taps[r] = given->taps[r], from.tap[r] = given->tap[r];
    if (step == 1) {
        for (ptrdiff_t m = m0; m < end; m += FR_WIDTH)
            put_vector(dx, gather_vector(&from, sources, first, m, kernel, kind, even), m, end, limit, add);
    } else if (step == 2) {
        for (ptrdiff_t m = m0; 2 * m < end; m += FR_WIDTH) {
            const vec a = gather_vector(&from, sources, first, m, kernel, kind, even);
            const vec b = gather_vector(&from, sources, second, m, kernel, kind, odd);
            put_vector(dx, vzip_lo(a, b), 2 * m, end, limit, add);
            put_vector(dx, vzip_hi(a, b), 2 * m + FR_WIDTH, end, limit, add);
        }
    } else {
        for (ptrdiff_t r = 0; r < stride; ++r) {
            const gather_phase p = r < GATHER_ROWS ? to->phases[r] : gather_phase_of(to->W, r);
            for (ptrdiff_t m = m0; m * stride + r < end; m += FR_WIDTH)
                put_stepped(dx, gather_vector(&from, sources, p, m, kernel, kind, 0), m * stride + r, stride, end, add);
        }
    }
}

// Kernels of 2 and 3 columns over one to three rows have code of their own.
static FR_NOINLINE void gather_2_k2(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 1, 1, 1);
}
static FR_NOINLINE void gather_2_k3_1(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 1, 2, 1);
}
static FR_NOINLINE void gather_2_k3_2(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 2, 2, 1);
}
static FR_NOINLINE void gather_2_odd_1(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 1, 1, 2);
}
static FR_NOINLINE void gather_2_odd_2(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 2, 1, 2);
}
static FR_NOINLINE void gather_1_k3_3(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 1, GATHER_BYTES, 3, 3, 0);
}
static FR_NOINLINE void gather_1_bytes(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 1, GATHER_BYTES, 0, 0, 0);
}
static FR_NOINLINE void gather_2_bytes(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_BYTES, 0, 0, 0);
}
static FR_NOINLINE void gather_0_bytes(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 0, GATHER_BYTES, 0, 0, 0);
}
static FR_NOINLINE void gather_1_wide(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 1, GATHER_WIDE, 0, 0, 0);
}
static FR_NOINLINE void gather_2_wide(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_WIDE, 0, 0, 0);
}
static FR_NOINLINE void gather_0_wide(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 0, GATHER_WIDE, 0, 0, 0);
}
static FR_NOINLINE void gather_2_sum_k2(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_SUM, 1, 1, 1);
}
static FR_NOINLINE void gather_1_sum_k3(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 1, GATHER_SUM, 3, 3, 0);
}
static FR_NOINLINE void gather_1_sum(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 1, GATHER_SUM, 0, 0, 0);
}
static FR_NOINLINE void gather_2_sum(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 2, GATHER_SUM, 0, 0, 0);
}
static FR_NOINLINE void gather_0_sum(const gather_target *to, const gather_sources *from) {
    gather_some(to, from, 0, GATHER_SUM, 0, 0, 0);
}

// The function for 1, 2 or 3 sources, or for any number.
typedef struct gather_kernels {
    gather_fn *few[4];
} gather_kernels;

FR_INLINE gather_kernels gather_kernels_of(const fr_pool_axis *W, const gather_phase *phases, int kind) {
    gather_fn *const any[3][3] = {{gather_0_sum, gather_1_sum, gather_2_sum},
                                  {gather_0_bytes, gather_1_bytes, gather_2_bytes},
                                  {gather_0_wide, gather_1_wide, gather_2_wide}};
    gather_fn *const usual = any[kind][W->stride > 2 ? 0 : W->stride];
    gather_kernels all = {{usual, usual, usual, usual}};
    if (kind == GATHER_WIDE || W->dilation > 1) return all;
    if (W->stride == 2 && W->kernel == 2) all.few[1] = kind == GATHER_SUM ? gather_2_sum_k2 : gather_2_k2;
    if (W->stride == 1 && W->kernel == 3) all.few[3] = kind == GATHER_SUM ? gather_1_sum_k3 : gather_1_k3_3;
    if (kind == GATHER_SUM) return all;
    if (W->stride == 2 && W->kernel == 3) {
        const int odd = phases[0].first == 1;
        all.few[1] = odd ? gather_2_odd_1 : gather_2_k3_1;
        all.few[2] = odd ? gather_2_odd_2 : gather_2_k3_2;
    }
    return all;
}

FR_INLINE void gather_from(const gather_kernels *all, const gather_target *to, const gather_sources *from) {
    all->few[from->count < 4 ? from->count : 0](to, from);
}

// One row of dx from the band, by the windows `heights`.
static void gather_row(const fr_pool *s, const gather_band *band, pool_range heights, const pool_place *p, gather_target *to,
                       const gather_kernels *all, ptrdiff_t size) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t many = band->heights.hi - band->heights.lo;
    gather_sources from;
    from.count = to->add = 0;
    for (ptrdiff_t d = band->depths.lo; d < band->depths.hi; ++d) {
        const ptrdiff_t depth = pool_tap(D, d, p->depth);
        for (ptrdiff_t h = heights.lo; h < heights.hi && depth >= 0; ++h) {
            const ptrdiff_t height = pool_tap(H, h, p->height);
            const ptrdiff_t at = ((d - band->depths.lo) * many + h - band->heights.lo) * band->pitch - band->low;
            if (height < 0) continue;
            if (from.count == GATHER_ROWS) {
                gather_from(all, to, &from);
                from.count = 0, to->add = 1;
            }
            from.dy[from.count] = band->dy + at;
            from.taps[from.count] = band->taps + at * size;
            from.tap[from.count++] = (int)((depth * H->kernel + height) * W->kernel);
        }
    }
    if (from.count) gather_from(all, to, &from);
    else
        for (ptrdiff_t i = to->m0 * W->stride; i < to->end; i += FR_WIDTH) put_vector(to->dx, vzero(), i, to->end, to->limit, 0);
}

// n bytes in whole pieces where `room` bytes may be read.
FR_INLINE void copy_bytes(uint8_t *to, const uint8_t *from, ptrdiff_t n, ptrdiff_t room) {
    enum { PIECE = 16 };
    ptrdiff_t i = 0;
    for (; i < n && i + PIECE <= room; i += PIECE) __builtin_memcpy(to + i, from + i, PIECE);
    for (; i < n; ++i) to[i] = from[i];
}

// dy is scaled for the gradient of a sum. Where it is zero, taps may be anything.
FR_INLINE void lay_source(const fr_pool *s, const gather_band *band, const pool_part *c, ptrdiff_t plane, ptrdiff_t d,
                          ptrdiff_t h, ptrdiff_t at, const int kind) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const ptrdiff_t row = (plane * D->out + d) * H->out + h, from = row * W->out + c->from;
    const ptrdiff_t all = (plane + 1) * D->out * H->out * W->out, size = kind == GATHER_WIDE ? 4 : 1;
    const real *source[3] = {(const real *)s->x + from, NULL, NULL};
    real *to = band->dy + at;
    lay_joined(source, c, to, 0, 1, FR_POOL_SUM);
    if (kind == GATHER_SUM) {
        const vec scale = vset1(((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h]);
        const real *columns = (const real *)s->scale[2] + c->from;
        for (ptrdiff_t i = 0; i < c->n; i += FR_WIDTH) {
            const vec factor = vmul(scale, vload_lanes(columns + i, lanes_left(c->n - i, 0)));
            vstore(to + c->left + i, vmul(factor, vload(to + c->left + i)));
        }
    } else {
        copy_bytes(band->taps + (at + c->left) * size, (const uint8_t *)s->taps + from * size, c->n * size, (all - from) * size);
    }
}

static FR_NOINLINE void lay_band(const fr_pool *s, const gather_band *band, const pool_part *c, ptrdiff_t plane, int kind) {
    ptrdiff_t at = 0;
    for (ptrdiff_t d = band->depths.lo; d < band->depths.hi; ++d) {
        for (ptrdiff_t h = band->heights.lo; h < band->heights.hi; ++h, at += band->pitch) {
            if (kind == GATHER_SUM) lay_source(s, band, c, plane, d, h, at, GATHER_SUM);
            else if (kind == GATHER_WIDE) lay_source(s, band, c, plane, d, h, at, GATHER_WIDE);
            else lay_source(s, band, c, plane, d, h, at, GATHER_BYTES);
        }
    }
}

FR_INLINE int range_empty(pool_range a) { return a.hi <= a.lo; }

FR_INLINE pool_range range_of_both(pool_range a, pool_range b) {
    if (range_empty(a)) return b;
    if (range_empty(b)) return a;
    return (pool_range){a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}

// How many rows from p on, of the same plane and depth, have their windows in the buffer together: at least one.
FR_INLINE ptrdiff_t gather_rows_of(const fr_pool *s, const pool_place *p, pool_walk walk, gather_band *band, ptrdiff_t end) {
    const ptrdiff_t each = (band->depths.hi - band->depths.lo) * band->pitch;
    const ptrdiff_t left = s->axis[1].size - p->height, most = left < end - p->row ? left : end - p->row;
    ptrdiff_t rows = 1;
    band->heights = pool_met(&walk);
    for (; rows < most; ++rows) {
        pool_step(&walk);
        const pool_range both = range_of_both(band->heights, pool_met(&walk));
        if ((both.hi - both.lo) * each > GATHER_BUFFER) break;
        band->heights = both;
    }
    return rows;
}

// The windows low..high, counted from m, may meet columns m*stride and the others before (m+1)*stride.
FR_INLINE pool_range gather_reach(const fr_pool_axis *W) {
    return (pool_range){floor_div(W->padding - (W->kernel - 1) * W->dilation, W->stride),
                        (W->padding + W->stride - 1) / W->stride};
}

// Columns m0*stride..(m0+count)*stride-1 of all rows.
static void gather_strip(const fr_pool *s, ptrdiff_t m0, ptrdiff_t count, real *buffer, int32_t *taps, int kind) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_range reach = gather_reach(W);
    const pool_part c = pool_part_of(m0 + reach.lo, count + reach.hi - reach.lo, W->out);
    const ptrdiff_t stop = (m0 + count) * W->stride, end = stop < W->size ? stop : W->size;
    const ptrdiff_t limit = m0 == 0 && end == W->size ? (s->row + s->rows) * W->size : 0;
    gather_phase phases[GATHER_ROWS] = {0};
    for (ptrdiff_t r = 0; r < W->stride && r < GATHER_ROWS; ++r) phases[r] = gather_phase_of(W, r);
    const gather_kernels all = gather_kernels_of(W, phases, kind);
    gather_target to = {.W = W, .phases = phases, .m0 = m0, .end = end};
    gather_band band = {.low = m0 + reach.lo, .pitch = c.pitch, .dy = buffer + c.lead, .taps = (uint8_t *)taps};
    pool_place p = pool_place_of(s->row, D->size, H->size);
    while (p.row < s->row + s->rows) {
        band.depths = pool_meeting(D, p.depth);
        if (range_empty(band.depths)) band.depths = (pool_range){0, 0};
        pool_walk walk = pool_walk_from(H, p.height);
        const ptrdiff_t last = p.row + gather_rows_of(s, &p, walk, &band, s->row + s->rows);
        lay_band(s, &band, &c, p.plane, kind);
        for (; p.row < last; pool_next(&p, D->size, H->size), pool_step(&walk)) {
            to.dx = (real *)s->y + p.row * W->size;
            to.limit = limit - p.row * W->size;
            gather_row(s, &band, pool_met(&walk), &p, &to, &all, kind == GATHER_WIDE ? 4 : 1);
        }
    }
}

// A row of dx whose windows no buffer holds, one value after the other.
static void gather_without_buffer(const fr_pool *s, const pool_place *p, int kind) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_range depths = pool_meeting(D, p->depth), heights = pool_meeting(H, p->height);
    for (ptrdiff_t i = 0; i < W->size; ++i) {
        const pool_range widths = pool_meeting(W, i);
        real sum = 0;
        for (ptrdiff_t d = depths.lo; d < depths.hi; ++d) {
            for (ptrdiff_t h = heights.lo; h < heights.hi; ++h) {
                for (ptrdiff_t w = widths.lo; w < widths.hi; ++w) {
                    const ptrdiff_t a = pool_tap(D, d, p->depth), b = pool_tap(H, h, p->height), c = pool_tap(W, w, i);
                    const ptrdiff_t at = ((p->plane * D->out + d) * H->out + h) * W->out + w;
                    if (a < 0 || b < 0 || c < 0) continue;
                    const ptrdiff_t tap = (a * H->kernel + b) * W->kernel + c;
                    if (kind == GATHER_SUM)
                        sum += ((const real *)s->x)[at] * (((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h] *
                                                           ((const real *)s->scale[2])[w]);
                    else if ((kind == GATHER_WIDE ? ((const int32_t *)s->taps)[at] : ((const uint8_t *)s->taps)[at]) == tap)
                        sum += ((const real *)s->x)[at];
                }
            }
        }
        ((real *)s->y)[p->row * W->size + i] = sum;
    }
}

// How many windows of an axis can meet one position.
FR_INLINE ptrdiff_t most_meeting(const fr_pool_axis *a) {
    const ptrdiff_t most = (a->kernel - 1) * a->dilation / a->stride + 1;
    return most < a->out ? most : a->out;
}

static void FR_NAME(pool_backward)(const fr_pool *s) {
    if (s->whole) {
        pool_whole_backward(s);
        return;
    }
    if (s->turned) {
        pool_turned_backward(s);
        return;
    }
    if (s->axis[2].stride == 0) {
        pool_uneven_backward(s);
        return;
    }
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const int kind = s->mode == FR_POOL_SUM ? GATHER_SUM : s->wide ? GATHER_WIDE : GATHER_BYTES;
    const ptrdiff_t all = (W->size + W->stride - 1) / W->stride;
    const pool_range reach = gather_reach(W);
    const ptrdiff_t room = GATHER_BUFFER / (most_meeting(D) * most_meeting(H)) - 2 * FR_WIDTH - (reach.hi - reach.lo);
    const ptrdiff_t most = room < all ? room : all;
    _Alignas(64) real buffer[GATHER_BUFFER + POOL_BEYOND] = {0};
    int32_t taps[GATHER_BUFFER + POOL_BEYOND];
    for (ptrdiff_t m = 0; m < all && most > 0; m += most)
        gather_strip(s, m, m + most < all ? most : all - m, buffer, taps, kind);
    pool_place p = pool_place_of(s->row, D->size, H->size);
    for (; p.row < s->row + s->rows && most <= 0; pool_next(&p, D->size, H->size)) gather_without_buffer(s, &p, kind);
}
