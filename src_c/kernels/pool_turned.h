// Pooling of small maps that lie channels first: as many maps as a vector has lanes are turned, so that each has a lane, and are
// pooled as channels that lie last. Rows that are shorter than a vector leave no lanes empty then, and windows may lie anywhere.
#pragma once

#include "pool_windows.h"
#include "turn.h"

enum { TURNED_TOGETHER = 4 };  // windows

typedef struct turned_maps {
    _Alignas(64) real x[FR_POOL_TURNED * FR_WIDTH], y[FR_POOL_TURNED * FR_WIDTH];
    uint8_t taps[FR_POOL_TURNED * FR_WIDTH];
} turned_maps;

FR_INLINE ptrdiff_t places_of(const fr_pool *s) { return s->axis[0].size * s->axis[1].size * s->axis[2].size; }
FR_INLINE ptrdiff_t windows_of(const fr_pool *s) { return s->axis[0].out * s->axis[1].out * s->axis[2].out; }

FR_INLINE ptrdiff_t least_of(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

// Squares of 8 x 8 bytes, one word a row: halves of words change places, then quarters, then bytes.
FR_INLINE void turn_bytes(const uint8_t *from, ptrdiff_t stride, uint8_t *to, ptrdiff_t to_stride) {
    static const uint64_t low[3] = {0x00000000FFFFFFFF, 0x0000FFFF0000FFFF, 0x00FF00FF00FF00FF};
    uint64_t row[8];
    FR_UNROLL(8) for (int i = 0; i < 8; ++i) __builtin_memcpy(&row[i], from + i * stride, 8);
    FR_UNROLL(3) for (int step = 0, apart = 4; step < 3; ++step, apart /= 2) {
        FR_UNROLL(8) for (int i = 0; i < 8; ++i) {
            if (i & apart) continue;
            const uint64_t change = (row[i] >> 8 * apart ^ row[i + apart]) & low[step];
            row[i + apart] ^= change, row[i] ^= change << 8 * apart;
        }
    }
    FR_UNROLL(8) for (int i = 0; i < 8; ++i) __builtin_memcpy(to + i * to_stride, &row[i], 8);
}

// The last squares may overlap those before them.
FR_INLINE void turn_taps(ptrdiff_t rows, ptrdiff_t columns, const uint8_t *from, ptrdiff_t stride, uint8_t *to,
                         ptrdiff_t to_stride) {
    if (rows < 8 || columns < 8) {
        for (ptrdiff_t i = 0; i < rows; ++i)
            for (ptrdiff_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * stride + j];
        return;
    }
    for (ptrdiff_t n = 0; n < rows; n += 8) {
        const ptrdiff_t i = least_of(n, rows - 8);
        for (ptrdiff_t m = 0; m < columns; m += 8) {
            const ptrdiff_t j = least_of(m, columns - 8);
            turn_bytes(from + i * stride + j, stride, to + j * to_stride + i, to_stride);
        }
    }
}

// Rows of windows, and the rows of x that they meet (forward), or rows of dx and the windows that meet them (backward): as many as
// fit. Bands may have windows or rows in common; a map of more places than fit has no depth.
typedef struct turned_band {
    ptrdiff_t window, windows;
    ptrdiff_t place, places;
} turned_band;

FR_INLINE int turned_whole(const fr_pool *s) {
    return places_of(s) <= FR_POOL_TURNED && windows_of(s) <= FR_POOL_TURNED;
}

// From a row of windows on.
FR_INLINE turned_band band_of_windows(const fr_pool *s, ptrdiff_t window) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    if (turned_whole(s)) return (turned_band){0, H->out, 0, H->size};
    const ptrdiff_t span = (H->kernel - 1) * H->dilation + 1;
    const ptrdiff_t most = least_of((FR_POOL_TURNED / W->size - span) / H->stride + 1, FR_POOL_TURNED / W->out);
    const ptrdiff_t windows = least_of(most, H->out - window), start = window * H->stride - H->padding;
    const ptrdiff_t end = least_of(start + (windows - 1) * H->stride + span, H->size);
    const ptrdiff_t place = start < 0 ? 0 : least_of(start, end);
    return (turned_band){window, windows, place, end > place ? end - place : 0};
}

// From a row of dx on.
FR_INLINE turned_band band_of_places(const fr_pool *s, ptrdiff_t place) {
    const fr_pool_axis *H = &s->axis[1], *W = &s->axis[2];
    if (turned_whole(s)) return (turned_band){0, H->out, 0, H->size};
    const ptrdiff_t span = (H->kernel - 1) * H->dilation + 1;
    const ptrdiff_t most = least_of(FR_POOL_TURNED / W->size, (FR_POOL_TURNED / W->out - 1) * H->stride - span + 2);
    const ptrdiff_t places = least_of(most, H->size - place);
    const ptrdiff_t lo = pool_meeting(H, place).lo, hi = pool_meeting(H, place + places - 1).hi;
    return (turned_band){lo, hi > lo ? hi - lo : 0, place, places};
}

// The pooling of a band alone, from and to turned maps.
FR_INLINE fr_pool band_pool(const fr_pool *s, const turned_band *band, const real *x, real *y, uint8_t *taps) {
    fr_pool one = *s;
    one.axis[1].size = band->places, one.axis[1].out = band->windows;
    if (s->axis[1].stride) one.axis[1].padding += band->place - band->window * s->axis[1].stride;
    one.scale[1] = (const real *)s->scale[1] + band->window;
    one.x = x, one.y = y, one.taps = s->taps ? taps : NULL;
    return one;
}

// The rows of the windows at depth d and height h, joined, for each column.
FR_INLINE void join_turned_rows(const fr_pool *s, const pool_span *depth, const pool_span *height, vec *columns,
                                   const int mode) {
    const ptrdiff_t W = s->axis[2].size, row = s->axis[1].dilation * W * FR_WIDTH,
                    slice = s->axis[0].dilation * s->axis[1].size * W * FR_WIDTH;
    const real *x = (const real *)s->x + (depth->start * s->axis[1].size + height->start) * W * FR_WIDTH;
    for (ptrdiff_t w = 0; w < W; ++w, x += FR_WIDTH) {
        vec all = pool_signed(mode, pool_outside(mode));
        for (ptrdiff_t d = depth->lo; d < depth->hi; ++d) {
            const real *from = x + d * slice + height->lo * row;
            for (ptrdiff_t h = height->lo; h < height->hi; ++h, from += row)
                all = pool_join(mode, all, pool_signed(mode, vload(from)));
        }
        columns[w] = all;
    }
}

FR_INLINE void join_turned(const fr_pool *s, const int mode) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    vec columns[FR_POOL_TURNED];
    real *y = s->y;
    for (ptrdiff_t d = 0; d < D->out; ++d) {
        for (ptrdiff_t h = 0; h < H->out; ++h) {
            const pool_span depth = pool_window(D, d), height = pool_window(H, h);
            const real scale = ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
            join_turned_rows(s, &depth, &height, columns, mode);
            for (ptrdiff_t w = 0; w < W->out; ++w, y += FR_WIDTH) {
                const pool_span width = pool_window(W, w);
                vec all = pool_signed(mode, pool_outside(mode));
                for (ptrdiff_t i = width.lo; i < width.hi; ++i)
                    all = pool_join(mode, all, columns[width.start + i * W->dilation]);
                if (mode == FR_POOL_SUM) all = vmul(all, vset1(pool_factor(s, scale * ((const real *)s->scale[2])[w])));
                vstore(y, pool_signed(mode, all));
            }
        }
    }
}
static FR_NOINLINE void join_turned_max(const fr_pool *s) { join_turned(s, FR_POOL_MAX); }
static FR_NOINLINE void join_turned_min(const fr_pool *s) { join_turned(s, FR_POOL_MIN); }
static FR_NOINLINE void join_turned_sum(const fr_pool *s) { join_turned(s, FR_POOL_SUM); }

// `count` neighbours of the same taps, the first of which is at `span`: the values taken, and by which taps. Several together, since
// each comparison waits for the one before.
FR_INLINE void select_turned_windows(const fr_pool *s, const pool_span span[3], ptrdiff_t window, const int mode,
                                     const int count) {
    const fr_pool_axis *a = s->axis;
    const int empty = span[0].lo == span[0].hi || span[1].lo == span[1].hi || span[2].lo == span[2].hi;
    const ptrdiff_t first = (span[0].lo * a[1].kernel + span[1].lo) * a[2].kernel + span[2].lo;
    const ptrdiff_t next = a[2].stride * FR_WIDTH;
    const vec one = vset1(1);
    vec best[TURNED_TOGETHER], taken[TURNED_TOGETHER];
    FR_UNROLL(4) for (int i = 0; i < count; ++i) {
        best[i] = vset1(-(real)INFINITY);
        taken[i] = vset1((real)(empty ? pool_places(s) : first));
    }
    for (ptrdiff_t d = span[0].lo; d < span[0].hi; ++d) {
        for (ptrdiff_t h = span[1].lo; h < span[1].hi; ++h) {
            const ptrdiff_t depth = span[0].start + d * a[0].dilation, height = span[1].start + h * a[1].dilation;
            const real *x =
                (const real *)s->x +
                ((depth * a[1].size + height) * a[2].size + span[2].start + span[2].lo * a[2].dilation) * FR_WIDTH;
            vec tap = vset1((real)((d * a[1].kernel + h) * a[2].kernel + span[2].lo));
            for (ptrdiff_t w = span[2].lo; w < span[2].hi; ++w, x += a[2].dilation * FR_WIDTH) {
                FR_UNROLL(4) for (int i = 0; i < count; ++i)
                    pool_select(&best[i], &taken[i], pool_signed(mode, vload(x + i * next)), tap, 1);
                tap = vadd(tap, one);
            }
        }
    }
    FR_UNROLL(4) for (int i = 0; i < count; ++i) {
        vstore((real *)s->y + (window + i) * FR_WIDTH, pool_signed(mode, best[i]));
        vstore_u8((uint8_t *)s->taps + (window + i) * FR_WIDTH, taken[i], FR_WIDTH);
    }
}

// Whether windows w..w+count-1 of a row have all their taps in the map.
FR_INLINE int turned_inside(const fr_pool_axis *W, ptrdiff_t w, int count) {
    if (W->stride == 0 || w + count > W->out || w * W->stride < W->padding) return 0;
    return (w + count - 1) * W->stride - W->padding + (W->kernel - 1) * W->dilation < W->size;
}

FR_INLINE void select_turned(const fr_pool *s, const int mode) {
    const fr_pool_axis *a = s->axis;
    ptrdiff_t window = 0;
    for (ptrdiff_t d = 0; d < a[0].out; ++d) {
        for (ptrdiff_t h = 0; h < a[1].out; ++h, window += a[2].out) {
            pool_span span[3] = {pool_window(&a[0], d), pool_window(&a[1], h), {0, 0, 0}};
            for (ptrdiff_t w = 0, next; w < a[2].out; w = next) {
                span[2] = pool_window(&a[2], w);
                next = w + (turned_inside(&a[2], w, 4) ? 4 : turned_inside(&a[2], w, 2) ? 2 : 1);
                if (next - w == 4) select_turned_windows(s, span, window + w, mode, 4);
                else if (next - w == 2) select_turned_windows(s, span, window + w, mode, 2);
                else select_turned_windows(s, span, window + w, mode, 1);
            }
        }
    }
}
static FR_NOINLINE void select_turned_max(const fr_pool *s) { select_turned(s, FR_POOL_MAX); }
static FR_NOINLINE void select_turned_min(const fr_pool *s) { select_turned(s, FR_POOL_MIN); }

FR_INLINE void pool_lanes_of_maps(const fr_pool *s) {
    if (s->mode == FR_POOL_SUM) join_turned_sum(s);
    else if (s->taps) s->mode == FR_POOL_MAX ? select_turned_max(s) : select_turned_min(s);
    else s->mode == FR_POOL_MAX ? join_turned_max(s) : join_turned_min(s);
}

// A band of `maps` maps between memory, where maps are `stride` apart, and lanes. Lanes without a map are zero.
FR_INLINE void turn_in(ptrdiff_t maps, ptrdiff_t n, const real *from, ptrdiff_t stride, real *to) {
    for (ptrdiff_t i = 0; i < n && maps < FR_WIDTH; ++i) vstore(to + i * FR_WIDTH, vzero());
    FR_NAME(turn)(
        &(fr_turn){.rows = maps, .columns = n, .src = from, .src_stride = stride, .dst = to, .dst_stride = FR_WIDTH});
}
FR_INLINE void turn_out(ptrdiff_t maps, ptrdiff_t n, const real *from, real *to, ptrdiff_t stride) {
    FR_NAME(turn)(
        &(fr_turn){.rows = n, .columns = maps, .src = from, .src_stride = FR_WIDTH, .dst = to, .dst_stride = stride});
}

static FR_NOINLINE void pool_turned(const fr_pool *s) {
    turned_maps lanes;
    const ptrdiff_t places = places_of(s), windows = windows_of(s), rows = s->axis[0].out * s->axis[1].out;
    const ptrdiff_t end = (s->row + s->rows) / rows;
    for (ptrdiff_t map = s->row / rows; map < end; map += FR_WIDTH) {
        const ptrdiff_t maps = lanes_left(end - map, 0);
        for (ptrdiff_t window = 0; window < s->axis[1].out;) {
            const turned_band band = band_of_windows(s, window);
            const fr_pool one = band_pool(s, &band, lanes.x, lanes.y, lanes.taps);
            const ptrdiff_t at = map * windows + band.window * s->axis[2].out, count = windows_of(&one);
            turn_in(maps, places_of(&one), (const real *)s->x + map * places + band.place * s->axis[2].size, places,
                    lanes.x);
            pool_lanes_of_maps(&one);
            turn_out(maps, count, lanes.y, (real *)s->y + at, windows);
            if (s->taps) turn_taps(count, maps, lanes.taps, FR_WIDTH, (uint8_t *)s->taps + at, windows);
            window += band.windows;
        }
    }
}

// A row of windows that meets a row of dx, and the first of their taps there.
typedef struct turned_source {
    const real *dy;
    const uint8_t *taps;
    int tap;
} turned_source;

// Those that meet the row at depth d and height h; there is room for all rows of windows.
FR_INLINE ptrdiff_t turned_sources(const fr_pool *s, ptrdiff_t d, ptrdiff_t h, turned_source *from) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    const pool_range depths = pool_meeting(D, d), heights = pool_meeting(H, h);
    ptrdiff_t count = 0;
    for (ptrdiff_t i = depths.lo; i < depths.hi; ++i) {
        for (ptrdiff_t j = heights.lo; j < heights.hi; ++j) {
            const ptrdiff_t at = (i * H->out + j) * W->out * FR_WIDTH;
            const ptrdiff_t tap = (pool_tap(D, i, d) * H->kernel + pool_tap(H, j, h)) * W->kernel;
            from[count++] = (turned_source){(const real *)s->x + at, (const uint8_t *)s->taps + at, (int)tap};
        }
    }
    return count;
}

// A row of dx from the windows that took its places.
FR_INLINE void take_turned_row(const fr_pool_axis *W, const turned_source *from, ptrdiff_t count, real *dx) {
    pool_walk walk = pool_walk_from(W, 0);
    for (ptrdiff_t w = 0; w < W->size; ++w, pool_step(&walk)) {
        const pool_range met = pool_met(&walk);
        vec sum = vzero();
        for (ptrdiff_t r = 0; r < count; ++r) {
            int tap = from[r].tap + (int)(w + W->padding - met.lo * W->stride);
            for (ptrdiff_t o = met.lo * FR_WIDTH; o < met.hi * FR_WIDTH; o += FR_WIDTH, tap -= (int)W->stride) {
                const vmask taken = veq_u8(from[r].taps + o, 0, FR_WIDTH, tap);
                sum = vadd(sum, vselect(taken, vload(from[r].dy + o), vzero()));
            }
        }
        vstore(dx + w * FR_WIDTH, sum);
    }
}

// Whether windows overlap: then it is faster to ask for each place who took it, which is written once, than to add to places.
FR_INLINE int turned_overlap(const fr_pool *s) {
    int overlap = 0;
    for (int i = 0; i < 3; ++i) {
        const fr_pool_axis *a = &s->axis[i];
        if (a->stride == 0 || a->dilation > 1) return 0;
        overlap |= a->kernel > a->stride && a->out > 1;
    }
    return overlap;
}

static FR_NOINLINE void take_turned(const fr_pool *s) {
    const fr_pool_axis *D = &s->axis[0], *H = &s->axis[1], *W = &s->axis[2];
    turned_source from[FR_POOL_TURNED];
    real *dx = s->y;
    for (ptrdiff_t d = 0; d < D->size; ++d) {
        for (ptrdiff_t h = 0; h < H->size; ++h, dx += W->size * FR_WIDTH)
            take_turned_row(W, from, turned_sources(s, d, h, from), dx);
    }
}

// What the window at `span` gives to the places it took, or to all of them for a sum, in every lane.
FR_INLINE void give_window(const fr_pool *s, const pool_span span[3], ptrdiff_t window, vec scale,
                              const int select) {
    const fr_pool_axis *a = s->axis;
    const vec dy = vload((const real *)s->x + window * FR_WIDTH), given = select ? dy : vmul(dy, scale);
    for (ptrdiff_t d = span[0].lo; d < span[0].hi; ++d) {
        for (ptrdiff_t h = span[1].lo; h < span[1].hi; ++h) {
            const ptrdiff_t depth = span[0].start + d * a[0].dilation, height = span[1].start + h * a[1].dilation;
            real *dx = (real *)s->y + ((depth * a[1].size + height) * a[2].size + span[2].start) * FR_WIDTH;
            const int tap = (int)((d * a[1].kernel + h) * a[2].kernel);
            for (ptrdiff_t w = span[2].lo; w < span[2].hi; ++w) {
                real *to = dx + w * a[2].dilation * FR_WIDTH;
                vec part = given;
                if (select)
                    part = vselect(veq_u8((const uint8_t *)s->taps + window * FR_WIDTH, 0, FR_WIDTH, tap + (int)w), dy,
                                   vzero());
                vstore(to, vadd(vload(to), part));
            }
        }
    }
}

FR_INLINE void give_windows(const fr_pool *s, const int select) {
    const fr_pool_axis *a = s->axis;
    real *dx = s->y;
    for (ptrdiff_t i = 0; i < places_of(s) * FR_WIDTH; i += FR_WIDTH) vstore(dx + i, vzero());
    ptrdiff_t window = 0;
    for (ptrdiff_t d = 0; d < a[0].out; ++d) {
        for (ptrdiff_t h = 0; h < a[1].out; ++h) {
            pool_span span[3] = {pool_window(&a[0], d), pool_window(&a[1], h), {0, 0, 0}};
            const real scale = ((const real *)s->scale[0])[d] * ((const real *)s->scale[1])[h];
            for (ptrdiff_t w = 0; w < a[2].out; ++w, ++window) {
                span[2] = pool_window(&a[2], w);
                give_window(s, span, window, vset1(scale * ((const real *)s->scale[2])[w]), select);
            }
        }
    }
}
static FR_NOINLINE void give_taken(const fr_pool *s) { give_windows(s, 1); }
static FR_NOINLINE void give_all(const fr_pool *s) { give_windows(s, 0); }

static FR_NOINLINE void pool_turned_backward(const fr_pool *s) {
    turned_maps lanes;
    const ptrdiff_t places = places_of(s), windows = windows_of(s), rows = s->axis[0].size * s->axis[1].size;
    const ptrdiff_t end = (s->row + s->rows) / rows;
    for (ptrdiff_t map = s->row / rows; map < end; map += FR_WIDTH) {
        const ptrdiff_t maps = lanes_left(end - map, 0);
        for (ptrdiff_t place = 0; place < s->axis[1].size;) {
            const turned_band band = band_of_places(s, place);
            const fr_pool one = band_pool(s, &band, lanes.x, lanes.y, lanes.taps);
            const ptrdiff_t at = map * windows + band.window * s->axis[2].out, count = windows_of(&one);
            turn_in(maps, count, (const real *)s->x + at, windows, lanes.x);
            if (s->taps) {
                turn_taps(maps, count, (const uint8_t *)s->taps + at, windows, lanes.taps, FR_WIDTH);
                if (turned_overlap(s)) take_turned(&one);
                else give_taken(&one);
            } else {
                give_all(&one);
            }
            turn_out(maps, places_of(&one), lanes.y, (real *)s->y + map * places + band.place * s->axis[2].size,
                     places);
            place += band.places;
        }
    }
}
