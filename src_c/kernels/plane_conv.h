// A convolution with the channels first and the pixels in the lanes: a tile of outputs is a few maps by a few vectors of pixels,
// and nothing is transposed.
#pragma once

#include "depthwise.h"
#include "gemm.h"

FR_INLINE void store_stretch(real *to, vec x, const fr_stretch part) {
    if (part.end - part.first == FR_WIDTH) vstore(to, x);
    else vstore_between(to, x, part.first, part.end);
}

// What the sums will be stored to comes nearer meanwhile. Even for a few taps: the lines of a tile lie on as many pages as it has
// maps, and stores alone would wait for one after the other.
FR_INLINE void fetch_places(const fr_plane_conv *g, ptrdiff_t unit, ptrdiff_t v, const int mr, const int nv) {
    const real *y = (const real *)g->y + unit * g->y_stride;
    FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
        const fr_stretch *part = &g->stretch[g->stretches[v + j]];
        const real *to = y + part->to + part->first;
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) __builtin_prefetch(to + i * g->y_stride, 1, 3);
    }
}

// Where sums go on that were left in y. Out of line and through memory: inlined, it would take the registers of all other tiles.
static FR_NOINLINE void load_stretches(const fr_plane_conv *g, ptrdiff_t unit, ptrdiff_t v, int mr, int nv, tile sums) {
    for (int j = 0; j < nv; ++j) {
        for (int i = 0; i < mr; ++i) sums[i][j] = vzero();
        for (ptrdiff_t s = g->stretches[v + j]; s < g->stretches[v + j + 1]; ++s) {
            const fr_stretch part = g->stretch[s];
            const real *y = (const real *)g->y + unit * g->y_stride + part.to;
            for (int i = 0; i < mr; ++i)
                sums[i][j] = vload_between(y + i * g->y_stride, part.first, part.end, sums[i][j]);
        }
    }
}

// clang-format off
// Maps unit..unit+mr-1 of the vectors v..v+nv-1.
FR_INLINE void plane_tile(const fr_plane_conv *g, ptrdiff_t unit, ptrdiff_t v, const int mr, const int nv) {
    tile acc;
    if (g->before) {
        tile sums;
        load_stretches(g, unit, v, mr, nv, sums);
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) FR_UNROLL(4) for (int j = 0; j < nv; ++j) acc[i][j] = sums[i][j];
    } else {
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
            const vec start = g->bias ? vbroadcast((const real *)g->bias + unit + i) : vzero();
            FR_UNROLL(4) for (int j = 0; j < nv; ++j) acc[i][j] = start;
        }
        fetch_places(g, unit, v, mr, nv);
    }
    const real *a = (const real *)g->weight + unit * (g->before + g->taps + g->after) + g->before * mr, *x = g->x;
    const real *from[FR_SLOTS];
    FR_UNROLL(4) for (int j = 0; j < nv; ++j) from[j] = x + g->from[v + j];
    const real *next = mr > 2 && g->ahead ? next_piece(g->ahead) : NULL;
    const ptrdiff_t next_k = next ? (g->ahead->most / (ptrdiff_t)sizeof(real) + g->taps - 1) / g->taps : 0;
    // Else what the next vectors read, of each tap: a line and, by the next tile, another, whose neighbours come with them.
    const ptrdiff_t along = next ? 0 : -1;
    if (!next) next = from[0] + nv * FR_WIDTH + unit / mr % 2 * 2 * FR_LINE / (ptrdiff_t)sizeof(real);
    for (ptrdiff_t k = 0; k < g->taps; ++k, a += mr, next += next_k) {
        const ptrdiff_t at = g->offset[k];
        if (mr > 2) __builtin_prefetch(next + (at & along), 0, 2);
        vec b[FR_SLOTS];
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
            b[j] = vload(from[j] + at);
            if (mr > 1) vpin(&b[j]);
        }
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
            vec w = vbroadcast(a + i);
            if (nv > 1) vpin(&w);
            FR_UNROLL(4) for (int j = 0; j < nv; ++j) acc[i][j] = vfma(w, b[j], acc[i][j]);
        }
    }
    if (g->after == 0 && (g->activation || g->gain)) {
        FR_UNROLL(6) for (int i = 0; i < mr; ++i) {
            const real *gain = g->gain ? (const real *)g->gain + unit + i : NULL;
            FR_UNROLL(4) for (int j = 0; j < nv; ++j) acc[i][j] = finished(acc[i][j], g->activation, gain);
        }
    }
    real *y = (real *)g->y + unit * g->y_stride;
    FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
        for (ptrdiff_t s = g->stretches[v + j]; s < g->stretches[v + j + 1]; ++s) {
            const fr_stretch part = g->stretch[s];
            FR_UNROLL(6) for (int i = 0; i < mr; ++i) store_stretch(y + i * g->y_stride + part.to, acc[i][j], part);
        }
    }
}
// clang-format on

typedef void plane_tile_fn(const fr_plane_conv *g, ptrdiff_t unit, ptrdiff_t v);

#define FR_PLANE_TILE(mr, nv)                                                                              \
    static FR_NOINLINE void plane_tile_##mr##_##nv(const fr_plane_conv *g, ptrdiff_t unit, ptrdiff_t v) { \
        if (mr <= FR_MAX_ROWS) plane_tile(g, unit, v, mr, nv);                                             \
    }
#define FR_PLANE_TILES(nv) \
    FR_PLANE_TILE(1, nv)   \
    FR_PLANE_TILE(2, nv)   \
    FR_PLANE_TILE(3, nv)   \
    FR_PLANE_TILE(4, nv)   \
    FR_PLANE_TILE(5, nv)   \
    FR_PLANE_TILE(6, nv)
FR_PLANE_TILES(1)
FR_PLANE_TILES(2)
FR_PLANE_TILES(3)
FR_PLANE_TILES(4)

#define FR_PLANE_ROW(nv)                                                                                  \
    {                                                                                                     \
        plane_tile_1_##nv, plane_tile_2_##nv, plane_tile_3_##nv, plane_tile_4_##nv, plane_tile_5_##nv,    \
            plane_tile_6_##nv                                                                             \
    }
static plane_tile_fn *const plane_tiles[FR_SLOTS][6] = {FR_PLANE_ROW(1), FR_PLANE_ROW(2), FR_PLANE_ROW(3), FR_PLANE_ROW(4)};

// The tiles of one group of vectors follow each other: what they read of x is then in the first-level cache.
static void FR_NAME(plane_conv)(const fr_plane_conv *g) {
    const ptrdiff_t tiles = (g->units + FR_MAX_ROWS - 1) / FR_MAX_ROWS, height = g->units / tiles, taller = g->units % tiles;
    const ptrdiff_t groups = (g->vectors + FR_SLOTS - 1) / FR_SLOTS;
    for (ptrdiff_t group = 0; group < groups; ++group) {
        const ptrdiff_t v = g->vectors * group / groups, nv = g->vectors * (group + 1) / groups - v;
        plane_tile_fn *const *shapes = plane_tiles[nv - 1];
        for (ptrdiff_t t = g->first_tile; t < g->end_tile; ++t)
            shapes[height + (t < taller) - 1](g, t * height + (t < taller ? t : taller), v);
    }
}
