// The gradient of the weights of a map where it lies: rows of x are read once for some columns of taps, and the rows of y that each
// meets stay in registers.
#pragma once

#include "depthwise_rows.h"

// Columns of a map: `lanes` of the last vector. Tap s of the first half leaves out lo[s] lanes at the start; the one as far from
// the end finds `right[s]` in the last vector.
typedef struct weight_tile {
    const real *x, *y;
    ptrdiff_t lanes, lo[3], right[3];
} weight_tile;

// Vector j of `vectors` for tap s. Lanes without an output are zeros in x too, which may hold an infinity there.
FR_INLINE vec weight_load(const weight_tile *t, const real *from, const int s, const int kernel, const int j,
                             const int vectors) {
    const int left = j == 0 && s < kernel / 2, right = j == vectors - 1;
    const ptrdiff_t lo = left ? t->lo[s] : 0, hi = s > kernel / 2 ? t->right[kernel - 1 - s] : t->lanes;
    if (right) return left ? vload_between(from, lo, hi, vzero()) : vload_n(from, hi);
    return left ? vload_between(from, lo, FR_WIDTH, vzero()) : vload(from);
}

FR_INLINE void weight_row(const fr_bare_conv *g, const weight_tile *t, ptrdiff_t row, vec *to, const int vectors) {
    const int inside = row >= 0 && row < g->y_rows;
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
        const real *from = t->y + row * g->columns + j * FR_WIDTH;
        to[j] = !inside ? vzero() : j == vectors - 1 ? vload_n(from, t->lanes) : vload(from);
    }
}

// Columns first.. of taps, `across` of them.
FR_INLINE void weight_pass(const fr_bare_conv *g, const weight_tile *t, const int first, const int across, const int kernel,
                           const int vectors) {
    vec met[7][FR_ROW_VECTORS], acc[3][7];  // met[r]: the row of y that meets the row of x at row r of taps
    real *sums = (real *)g->sums + first * FR_WIDTH;
    FR_UNROLL(3) for (int s = 0; s < across; ++s) {
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) acc[s][r] = vload(sums + (r * kernel + s) * FR_WIDTH);
    }
    FR_UNROLL(7) for (int r = 0; r < kernel - 1; ++r) weight_row(g, t, g->above - 1 - r, met[r], vectors);
    for (ptrdiff_t row = 0; row < g->rows; ++row) {
        const real *x = t->x + row * g->columns + first - kernel / 2;
        FR_UNROLL(7) for (int r = kernel - 1; r > 0; --r) {
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) met[r][j] = met[r - 1][j];
        }
        weight_row(g, t, row + g->above, met[0], vectors);
        FR_UNROLL(3) for (int s = 0; s < across; ++s) {
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
                vec v = weight_load(t, x + s + j * FR_WIDTH, first + s, kernel, j, vectors);
                vpin(&v);
                FR_UNROLL(7) for (int r = 0; r < kernel; ++r) acc[s][r] = vfma(met[r][j], v, acc[s][r]);
            }
        }
    }
    FR_UNROLL(3) for (int s = 0; s < across; ++s) {
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) vstore(sums + (r * kernel + s) * FR_WIDTH, acc[s][r]);
    }
}

// Three columns of taps at once, or two: what leaves room for rows of y and still hides the latency of a multiply-add.
FR_INLINE void weight_tile_run(const fr_bare_conv *g, const weight_tile *tile, const int kernel, const int vectors) {
    const weight_tile t = *tile;
    const fr_bare_conv c = *g;
    const int across = kernel == 7 ? 2 : 3;
    FR_UNROLL(4) for (int first = 0; first < kernel; first += across)
        weight_pass(&c, &t, first, kernel - first < across ? kernel - first : across, kernel, vectors);
}

typedef void weight_tile_fn(const fr_bare_conv *g, const weight_tile *t);

#define FR_WEIGHT_TILE(kernel, vectors)                                                                     \
    static FR_NOINLINE void weight_tile_##kernel##_##vectors(const fr_bare_conv *g, const weight_tile *t) { \
        weight_tile_run(g, t, kernel, vectors);                                                             \
    }
FR_WEIGHT_TILE(3, 1)
FR_WEIGHT_TILE(3, 2)
FR_WEIGHT_TILE(3, 3)
FR_WEIGHT_TILE(3, 4)
FR_WEIGHT_TILE(5, 1)
FR_WEIGHT_TILE(5, 2)
FR_WEIGHT_TILE(7, 1)
FR_WEIGHT_TILE(7, 2)

// `vectors` vectors from column `first` on.
FR_INLINE weight_tile weight_tile_at(const fr_bare_conv *g, ptrdiff_t first, ptrdiff_t vectors) {
    const ptrdiff_t last = first + (vectors - 1) * FR_WIDTH;
    weight_tile t = {.x = (const real *)g->x + first, .y = (const real *)g->y + first, .lanes = lanes_left(g->columns - last, 0)};
    for (ptrdiff_t s = 0; s < g->kernel / 2; ++s) {
        const ptrdiff_t out = g->kernel / 2 - s;
        t.lo[s] = lanes_left(out - first, 0);
        t.right[s] = lanes_left(g->columns - last - out, 0);
    }
    return t;
}

static void FR_NAME(bare_conv_weight)(const fr_bare_conv *g) {
    static weight_tile_fn *const tiles[3][FR_ROW_VECTORS] = {
        {weight_tile_3_1, weight_tile_3_2, weight_tile_3_3, weight_tile_3_4},
        {weight_tile_5_1, weight_tile_5_2},
        {weight_tile_7_1, weight_tile_7_2},
    };
    const ptrdiff_t all = (g->columns + FR_WIDTH - 1) / FR_WIDTH, fit = FR_MAX_ROWS < 6 ? 2 : FR_ROW_VECTORS;
    const ptrdiff_t most = vectors_of_tiles(g, all, g->kernel == 3 ? fit : fit / 2), count = (all + most - 1) / most;
    for (ptrdiff_t n = 0, first = 0, end; n < count; ++n, first = end) {
        end = all * (n + 1) / count;
        const weight_tile t = weight_tile_at(g, first * FR_WIDTH, end - first);
        tiles[g->kernel / 2 - 1][end - first - 1](g, &t);
    }
}
