// Convolution of each channel by itself with the channels last: vectors run over the channels of a pixel, and a tile is some
// neighbouring pixels, which share the weights that are loaded. Taps outside are left out where a tile lies at an edge.
#pragma once

#include "depthwise.h"

enum { FR_PIXELS = 8 };  // of a tile: one load more for each eight multiply-adds

typedef struct pixel_tile {
    const ptrdiff_t *depth, *row, *column;  // places of the first pixel and tap
    real *y;
    ptrdiff_t c, lanes;
} pixel_tile;

// What a row of taps adds. `inside`: all of them; `whole`: the vectors are.
FR_INLINE void pixel_taps(const fr_pixel_conv *g, const pixel_tile *t, const real *x, const real *weight, vec *acc,
                             const int pixels, const int inside, const int whole) {
    const fr_pixel_axis *a = &g->axis[2];
    const ptrdiff_t lanes = whole ? FR_WIDTH : t->lanes, apart = a->step * a->x_stride,
                    next = a->tap_stride * g->tap_channels;
    const ptrdiff_t *place = t->column;
    if (inside) x += *place;
    for (ptrdiff_t k = 0; k < a->taps; ++k, place += a->pace, weight += next) {
        vec w = vload_lanes(weight, lanes);
        vpin(&w);
    FR_UNROLL(8) for (int j = 0; j < pixels; ++j) {
            if (inside) acc[j] = vfma(w, vload_lanes(x + j * apart, lanes), acc[j]);
            else if (place[j * a->step] >= 0) acc[j] = vfma(w, vload_lanes(x + place[j * a->step], lanes), acc[j]);
        }
        x += inside ? a->pace * a->x_stride : 0;
    }
}

FR_INLINE void pixel_finish(const fr_pixel_conv *g, const pixel_tile *t, vec *acc, const int pixels, const int whole) {
    const ptrdiff_t lanes = whole ? FR_WIDTH : t->lanes;
    if (g->activation) {
        FR_UNROLL(8) for (int j = 0; j < pixels; ++j) acc[j] = finished(acc[j], g->activation, NULL);
    }
    if (g->gain) {
        const vec gain = vload_lanes((const real *)g->gain + t->c, lanes);
        FR_UNROLL(8) for (int j = 0; j < pixels; ++j) acc[j] = vmul(acc[j], gain);
    }
    FR_UNROLL(8) for (int j = 0; j < pixels; ++j) vstore_lanes(t->y + j * g->axis[2].y_stride, acc[j], lanes);
}

FR_INLINE void run_pixel_tile(const fr_pixel_conv *g, const pixel_tile *t, const int pixels, const int inside, const int whole) {
    const fr_pixel_axis *D = &g->axis[0], *H = &g->axis[1];
    const ptrdiff_t lanes = whole ? FR_WIDTH : t->lanes;
    const vec start = g->bias ? vload_lanes((const real *)g->bias + t->c, lanes) : vzero();
    vec acc[FR_PIXELS];
    FR_UNROLL(8) for (int j = 0; j < pixels; ++j)
        acc[j] = g->resume ? vload_lanes(t->y + j * g->axis[2].y_stride, lanes) : start;
    for (ptrdiff_t d = 0; d < D->taps; ++d) {
        for (ptrdiff_t h = 0; h < H->taps; ++h) {
            const ptrdiff_t depth = t->depth[d * D->pace], row = t->row[h * H->pace];
            if (depth < 0 || row < 0) continue;
            const ptrdiff_t number = D->tap + d * D->tap_stride + H->tap + h * H->tap_stride + g->axis[2].tap;
            pixel_taps(g, t, (const real *)g->x + depth + row + t->c, (const real *)g->weight + number * g->tap_channels + t->c, acc,
                       pixels, inside, whole);
        }
    }
    pixel_finish(g, t, acc, pixels, whole);
}

typedef void pixel_tile_fn(const fr_pixel_conv *g, const pixel_tile *t);

#define FR_PIXEL_TILE(pixels)                                                                         \
    static FR_NOINLINE void pixel_inside_##pixels(const fr_pixel_conv *g, const pixel_tile *t) {      \
        run_pixel_tile(g, t, pixels, 1, 1);                                                           \
    }                                                                                                 \
    static FR_NOINLINE void pixel_edge_##pixels(const fr_pixel_conv *g, const pixel_tile *t) {        \
        run_pixel_tile(g, t, pixels, 0, 1);                                                           \
    }                                                                                                 \
    static FR_NOINLINE void pixel_part_##pixels(const fr_pixel_conv *g, const pixel_tile *t) {        \
        run_pixel_tile(g, t, pixels, 0, 0);                                                           \
    }
FR_PIXEL_TILE(1)
FR_PIXEL_TILE(2)
FR_PIXEL_TILE(3)
FR_PIXEL_TILE(4)
FR_PIXEL_TILE(5)
FR_PIXEL_TILE(6)
FR_PIXEL_TILE(7)
FR_PIXEL_TILE(8)

#define FR_PIXEL_TILES(kind) \
    {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7, kind##_8}
enum { FR_PIXEL_INSIDE, FR_PIXEL_EDGE, FR_PIXEL_PART };
static pixel_tile_fn *const pixel_tiles[3][FR_PIXELS] = {FR_PIXEL_TILES(pixel_inside), FR_PIXEL_TILES(pixel_edge),
                                                         FR_PIXEL_TILES(pixel_part)};

// What the next row of outputs will read of the columns that this tile read, if the rows of x lie evenly.
FR_INLINE void pixel_fetch(const fr_pixel_conv *g, const pixel_tile *t, ptrdiff_t first, ptrdiff_t end) {
    const fr_pixel_axis *H = &g->axis[1], *W = &g->axis[2];
    const ptrdiff_t row = t->row[(H->taps - 1) * H->pace];
    if (*t->depth < 0 || row < 0) return;
    const real *x = (const real *)g->x + *t->depth + row + t->c;
    for (ptrdiff_t i = 1; i <= H->step; ++i)
        for (ptrdiff_t j = first * W->step; j < end * W->step; ++j) lanes_fetch(x + i * H->x_stride + j * W->x_stride);
}

// One row of outputs, in tiles of about the same length.
FR_INLINE void pixel_row(const fr_pixel_conv *g, const ptrdiff_t *depth, const ptrdiff_t *row, real *y) {
    const fr_pixel_axis *a = &g->axis[2];
    const ptrdiff_t tiles = (a->outputs + FR_PIXELS - 1) / FR_PIXELS;
    pixel_tile t = {.depth = depth, .row = row};
    for (ptrdiff_t n = 0, first = 0, end; n < tiles; ++n, first = end) {
        end = a->outputs * (n + 1) / tiles;
        const int kind = first >= a->inner && end <= a->inner_end ? FR_PIXEL_INSIDE : FR_PIXEL_EDGE;
        t.column = a->place + first * a->step;
        for (t.c = 0; t.c < g->channels; t.c += FR_WIDTH) {
            t.y = y + first * a->y_stride + t.c, t.lanes = lanes_left(g->channels - t.c, 0);
            if (g->far) pixel_fetch(g, &t, first, end);
            pixel_tiles[t.lanes < FR_WIDTH ? FR_PIXEL_PART : kind][end - first - 1](g, &t);
        }
    }
}

static void FR_NAME(pixel_conv)(const fr_pixel_conv *g) {
    const fr_pixel_axis *D = &g->axis[0], *H = &g->axis[1];
    for (ptrdiff_t d = 0; d < D->outputs; ++d)
        for (ptrdiff_t h = 0; h < H->outputs; ++h)
            pixel_row(g, D->place + d * D->step, H->place + h * H->step, (real *)g->y + d * D->y_stride + h * H->y_stride);
}

// Some taps whose sums wait in registers: how far their places are from those of the first tap, and their numbers.
typedef struct pixel_sums {
    ptrdiff_t depth[FR_TAPS_AT_ONCE], row[FR_TAPS_AT_ONCE], column[FR_TAPS_AT_ONCE], number[FR_TAPS_AT_ONCE];
    ptrdiff_t c, lanes;
} pixel_sums;

FR_INLINE void pixel_sums_from(const fr_pixel_conv *g, ptrdiff_t first, const int taps, pixel_sums *p) {
    const fr_pixel_axis *D = &g->axis[0], *H = &g->axis[1], *W = &g->axis[2];
    for (int t = 0; t < taps; ++t) {
        const ptrdiff_t w = (first + t) % W->taps, h = (first + t) / W->taps % H->taps, d = (first + t) / W->taps / H->taps;
        p->depth[t] = d * D->pace, p->row[t] = h * H->pace, p->column[t] = w * W->pace;
        p->number[t] = D->tap + d * D->tap_stride + H->tap + h * H->tap_stride + W->tap + w * W->tap_stride;
    }
}

// Outputs first..end-1 of a row at y, some of whose taps are outside; `from` is NULL for taps whose rows are.
FR_INLINE void edge_products(const fr_pixel_conv *g, const pixel_sums *p, const real *const *from, const real *y, ptrdiff_t first,
                             ptrdiff_t end, vec *acc, const int taps, ptrdiff_t lanes) {
    const fr_pixel_axis *a = &g->axis[2];
    for (ptrdiff_t o = first; o < end; ++o) {
        const vec d = vload_lanes(y + o * a->y_stride, lanes);
        const ptrdiff_t *place = a->place + o * a->step;
        FR_UNROLL(9) for (int t = 0; t < taps; ++t) {
            const ptrdiff_t at = place[p->column[t]];
            if (from[t] && at >= 0) acc[t] = vfma(d, vload_lanes(from[t] + at, lanes), acc[t]);
        }
    }
}

FR_INLINE void row_products(const fr_pixel_conv *g, const pixel_sums *p, const ptrdiff_t *depth, const ptrdiff_t *row, const real *y,
                            vec *acc, const int taps, const int whole) {
    const fr_pixel_axis *a = &g->axis[2];
    const ptrdiff_t lanes = whole ? FR_WIDTH : p->lanes, apart = a->step * a->x_stride;
    const real *from[FR_TAPS_AT_ONCE];
    int inside = a->inner < a->inner_end;
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) {
        const ptrdiff_t d = depth[p->depth[t]], h = row[p->row[t]];
        from[t] = d < 0 || h < 0 ? NULL : (const real *)g->x + d + h + p->c;
        inside = inside && from[t];
    }
    if (!inside) {
        edge_products(g, p, from, y, 0, a->outputs, acc, taps, lanes);
        return;
    }
    edge_products(g, p, from, y, 0, a->inner, acc, taps, lanes);
    const real *inner[FR_TAPS_AT_ONCE], *to = y + a->inner * a->y_stride;
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) inner[t] = from[t] + a->place[a->inner * a->step + p->column[t]];
    for (ptrdiff_t o = a->inner, at = 0; o < a->inner_end; ++o, at += apart, to += a->y_stride) {
        const vec d = vload_lanes(to, lanes);
        FR_UNROLL(9) for (int t = 0; t < taps; ++t) acc[t] = vfma(d, vload_lanes(inner[t] + at, lanes), acc[t]);
    }
    edge_products(g, p, from, y, a->inner_end, a->outputs, acc, taps, lanes);
}

FR_INLINE void pixel_products(const fr_pixel_conv *g, pixel_sums *p, ptrdiff_t first, const int taps, const int whole) {
    const fr_pixel_axis *D = &g->axis[0], *H = &g->axis[1];
    vec acc[FR_TAPS_AT_ONCE];
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) acc[t] = vzero();
    pixel_sums_from(g, first, taps, p);
    for (ptrdiff_t d = 0; d < D->outputs; ++d)
        for (ptrdiff_t h = 0; h < H->outputs; ++h)
            row_products(g, p, D->place + d * D->step, H->place + h * H->step,
                         (const real *)g->y + d * D->y_stride + h * H->y_stride + p->c, acc, taps, whole);
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) {
        real *sum = (real *)g->sums + p->number[t] * g->tap_channels + p->c;
        vstore_lanes(sum, vadd(vload_lanes(sum, p->lanes), acc[t]), p->lanes);
    }
}

#define FR_PIXEL_PRODUCTS(taps)                                                                                   \
    static FR_NOINLINE void pixel_products_##taps(const fr_pixel_conv *g, pixel_sums *p, ptrdiff_t first) {       \
        if (p->lanes == FR_WIDTH) pixel_products(g, p, first, taps, 1);                                           \
        else pixel_products(g, p, first, taps, 0);                                                                \
    }
FR_PIXEL_PRODUCTS(1)
FR_PIXEL_PRODUCTS(2)
FR_PIXEL_PRODUCTS(3)
FR_PIXEL_PRODUCTS(4)
FR_PIXEL_PRODUCTS(5)
FR_PIXEL_PRODUCTS(6)
FR_PIXEL_PRODUCTS(7)
FR_PIXEL_PRODUCTS(8)
FR_PIXEL_PRODUCTS(9)

static void FR_NAME(pixel_conv_weight)(const fr_pixel_conv *g) {
    void (*const pass[])(const fr_pixel_conv *, pixel_sums *, ptrdiff_t) = {
        pixel_products_1, pixel_products_2, pixel_products_3, pixel_products_4, pixel_products_5,
        pixel_products_6, pixel_products_7, pixel_products_8, pixel_products_9,
    };
    const ptrdiff_t taps = g->axis[0].taps * g->axis[1].taps * g->axis[2].taps;
    pixel_sums p;
    for (p.c = 0; p.c < g->channels; p.c += FR_WIDTH) {
        p.lanes = lanes_left(g->channels - p.c, 0);
        for (ptrdiff_t t = 0, n; t < taps; t += n) {
            n = taps_of_pass(taps - t);
            pass[n - 1](g, &p, t);
        }
    }
}
