// The product of a convolution: as gemm.h, for rows of A that lie anywhere. A row is one output pixel, a segment a stretch of
// taps and channels that lie together in the input.
#pragma once

#include "gemm.h"
#include "lanes.h"

// How many k ahead B is fetched into the first-level cache.
enum { FR_CONV_AHEAD = 8, FR_CONV_ROWS = 8 };

typedef vec conv_sums[FR_CONV_ROWS][FR_SLOTS];

// Rows of a tile: of one or two vectors more, since as many sums are needed to hide the latency of a multiply-add. Sums and values of A
// take 24 of 32 registers, or 12 of 16; more rows would find no register for their pointers.
FR_INLINE ptrdiff_t conv_rows(const int nv) {
    const ptrdiff_t rows = 4 * FR_MAX_ROWS / (nv + 1);
    return rows > FR_CONV_ROWS ? FR_CONV_ROWS : rows < FR_MAX_ROWS ? FR_MAX_ROWS : rows;
}

// clang-format off
// acc[i][j] += sum over k of a[i][k] * b[k*nv*W + j] for mr rows and nv vectors. Each value of A is pinned as it is loaded: the
// compiler would move those that are pinned later.
FR_INLINE void conv_segment(conv_sums acc, const int mr, const int nv, const real *const *a, const real *b, ptrdiff_t length) {
    const real *a0 = a[0], *a1 = a[mr > 1 ? 1 : 0], *a2 = a[mr > 2 ? 2 : 0];
    const real *a3 = a[mr > 3 ? 3 : 0], *a4 = a[mr > 4 ? 4 : 0], *a5 = a[mr > 5 ? 5 : 0];
    const real *a6 = a[mr > 6 ? 6 : 0], *a7 = a[mr > 7 ? 7 : 0];
    const real *end = b + length * nv * FR_WIDTH;
    for (ptrdiff_t k = 0; b < end; ++k, b += nv * FR_WIDTH) {
        vec x[8];
        x[0] = vbroadcast(a0 + k), vpin(&x[0]);
        if (mr > 1) x[1] = vbroadcast(a1 + k), vpin(&x[1]);
        if (mr > 2) x[2] = vbroadcast(a2 + k), vpin(&x[2]);
        if (mr > 3) x[3] = vbroadcast(a3 + k), vpin(&x[3]);
        if (mr > 4) x[4] = vbroadcast(a4 + k), vpin(&x[4]);
        if (mr > 5) x[5] = vbroadcast(a5 + k), vpin(&x[5]);
        if (mr > 6) x[6] = vbroadcast(a6 + k), vpin(&x[6]);
        if (mr > 7) x[7] = vbroadcast(a7 + k), vpin(&x[7]);
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) {
            vec w = vload(b + j * FR_WIDTH);
            if (mr > 2 && j * FR_WIDTH * sizeof(real) % FR_LINE == 0)
                __builtin_prefetch(b + (FR_CONV_AHEAD * nv + j) * FR_WIDTH, 0, 3);
            if (mr > 1) vpin(&w);
            FR_UNROLL(8) for (int i = 0; i < mr; ++i) acc[i][j] = vfma(x[i], w, acc[i][j]);
        }
    }
}
// clang-format on

// Each pixel asks for some of the maps' lines, its neighbours for the others.
FR_INLINE void fetch_maps(const fr_conv *g, ptrdiff_t row, const int mr) {
    const ptrdiff_t line = FR_LINE / (ptrdiff_t)sizeof(real);
    if (g->y == NULL) return;
    for (ptrdiff_t pixel = row; pixel < row + mr; ++pixel) {
        const real *y = (const real *)g->y + g->y_row[pixel];
        for (ptrdiff_t u = pixel % line; u < g->maps; u += line) __builtin_prefetch(y + u * g->y_stride, 1, 3);
    }
}

// Also of what the next box reads: the transposition of it would wait for memory, which rests meanwhile.
FR_INLINE void fetch_ahead(fr_boxes *boxes) {
    const real *piece = boxes ? next_piece(boxes) : NULL;
    if (piece == NULL) return;
    for (ptrdiff_t at = 0; at < boxes->most; at += FR_LINE) __builtin_prefetch((const char *)piece + at, 0, 2);
}

FR_INLINE void conv_tile(const fr_conv *g, ptrdiff_t row, const int mr, const int nv) {
    conv_sums acc;
    FR_UNROLL(8) for (int i = 0; i < mr; ++i) {
        const real *from = g->resume ? (const real *)g->c + g->c_row[row + i] * nv * FR_WIDTH : g->bias;
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) acc[i][j] = from ? vload(from + j * FR_WIDTH) : vzero();
    }
    const real *b = g->b;
    fetch_maps(g, row, mr);
    fetch_ahead(g->ahead);
    for (ptrdiff_t s = 0; s < g->segments; ++s, b += g->length * nv * FR_WIDTH) {
        const real *a[8];
        FR_UNROLL(8) for (int i = 0; i < mr; ++i) a[i] = (const real *)g->a + g->a_row[row + i] + g->segment[s];
        conv_segment(acc, mr, nv, a, b, g->length);
    }
    FR_UNROLL(8) for (int i = 0; i < mr; ++i) {
        real *to = (real *)g->c + g->c_row[row + i] * nv * FR_WIDTH;
        FR_UNROLL(4) for (int j = 0; j < nv; ++j) vstore(to + j * FR_WIDTH, acc[i][j]);
    }
}

typedef void conv_tile_fn(const fr_conv *g, ptrdiff_t row);

#define FR_CONV_TILE(mr, nv)                                                      \
    static FR_NOINLINE void conv_tile_##mr##_##nv(const fr_conv *g, ptrdiff_t row) { \
        if (mr <= conv_rows(nv)) conv_tile(g, row, mr, nv);                         \
    }
#define FR_CONV_TILES(nv) \
    FR_CONV_TILE(1, nv)   \
    FR_CONV_TILE(2, nv)   \
    FR_CONV_TILE(3, nv)   \
    FR_CONV_TILE(4, nv)   \
    FR_CONV_TILE(5, nv)   \
    FR_CONV_TILE(6, nv)   \
    FR_CONV_TILE(7, nv)   \
    FR_CONV_TILE(8, nv)
FR_CONV_TILES(1)
FR_CONV_TILES(2)
FR_CONV_TILES(3)
FR_CONV_TILES(4)

#define FR_CONV_ROW(nv)                                                                               \
    {                                                                                                 \
        conv_tile_1_##nv, conv_tile_2_##nv, conv_tile_3_##nv, conv_tile_4_##nv, conv_tile_5_##nv,     \
            conv_tile_6_##nv, conv_tile_7_##nv, conv_tile_8_##nv                                      \
    }
static conv_tile_fn *const conv_tiles[FR_SLOTS][8] = {FR_CONV_ROW(1), FR_CONV_ROW(2), FR_CONV_ROW(3), FR_CONV_ROW(4)};

static void FR_NAME(conv)(const fr_conv *g) {
    if (g->rows <= 0) return;
    const ptrdiff_t most = conv_rows(g->vectors), tiles = (g->rows + most - 1) / most;
    const ptrdiff_t height = g->rows / tiles, taller = g->rows % tiles;
    conv_tile_fn *const *shapes = conv_tiles[g->vectors - 1];
    ptrdiff_t row = 0;
    for (ptrdiff_t t = 0; t < tiles; ++t) {
        const ptrdiff_t mr = height + (t < taller);
        shapes[mr - 1](g, row);
        row += mr;
    }
}

// Whole vectors are written, each stretch past its end into what the next one overwrites.
static void FR_NAME(gather)(ptrdiff_t rows, ptrdiff_t segments, ptrdiff_t length, const void *src, const ptrdiff_t *row,
                            const ptrdiff_t *segment, void *dst, ptrdiff_t dst_stride) {
    for (ptrdiff_t r = 0; r < rows; ++r) {
        const real *from = (const real *)src + row[r];
        real *to = (real *)dst + r * dst_stride;
        for (ptrdiff_t s = 0; s < segments; ++s, to += length) {
            for (ptrdiff_t j = 0; j < length; j += FR_WIDTH) vstore(to + j, vload(from + segment[s] + j));
        }
    }
}

static void FR_NAME(add_stretches)(ptrdiff_t rows, ptrdiff_t length, const void *src, ptrdiff_t src_stride, void *dst,
                                   ptrdiff_t dst_stride) {
    for (ptrdiff_t r = 0; r < rows; ++r) {
        const real *from = (const real *)src + r * src_stride;
        real *to = (real *)dst + r * dst_stride;
        for (ptrdiff_t j = 0; j < length; j += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(length - j, 0);
            vstore_lanes(to + j, vadd(vload_lanes(to + j, lanes), vload_lanes(from + j, lanes)), lanes);
        }
    }
}
