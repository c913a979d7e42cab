// The gradient of the weights of a map where it lies: rows of x are read once for some columns of taps, and the rows of y that each
// meets stay in registers.
#pragma once

#include "depthwise_rows.h"

// Columns of a map: `lanes` of the last vector. Tap s of the first half leaves out lo[s] lanes at the start; the one as far from
// the end finds `right[s]` in the last vector. `pair`: see row_tile.
typedef struct weight_tile {
    const real *x, *y;
    ptrdiff_t lanes, lo[3], right[3];
    row_pair pair[4];
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
        const real *from = t->y + row * g->y_columns + j * FR_WIDTH;
        to[j] = !inside ? vzero() : j == vectors - 1 ? vload_n(from, t->lanes) : vload(from);
    }
}

// Memory is read while sums are computed.
FR_INLINE void weight_fetch(const fr_bare_conv *g, const weight_tile *t, ptrdiff_t row, ptrdiff_t y_row, const int step,
                            const int vectors) {
    const real *x = t->x + g->x_next + row * g->columns, *y = t->y + g->y_next + y_row * g->y_columns;
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
        lanes_fetch(y + j * FR_WIDTH);
        FR_UNROLL(2) for (int i = 0; i < step; ++i) {
            lanes_fetch(x + (step * j + i) * FR_WIDTH);
            if (step > 1) lanes_fetch(x + g->columns + (step * j + i) * FR_WIDTH);
        }
    }
}

// What a row of x gives to columns first.. of taps; met[r]: the row of y that meets it at row r * step + part of taps.
FR_INLINE void weight_products(const weight_tile *t, const real *x, vec met[7][FR_ROW_VECTORS], vec acc[4][7], const int first,
                               const int across, const int kernel, const int step, const int part, const int vectors) {
    FR_UNROLL(4) for (int s = 0; s < across; s += step) {
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
            vec v[2];
            const real *from = x + first + s - kernel / 2 + step * j * FR_WIDTH;
            if (step == 1) v[0] = weight_load(t, from, first + s, kernel, j, vectors);
            else row_pair_load(&t->pair[(first + s) / 2], from, j == 0 && first + s < kernel / 2, j == vectors - 1, &v[0], &v[1]);
            vpin(&v[0]);
            if (step > 1 && s + 1 < across) vpin(&v[1]);
            FR_UNROLL(2) for (int i = 0; i < step; ++i) {
                if (s + i >= across) continue;
                FR_UNROLL(7) for (int r = 0; r * step + part < kernel; ++r)
                    acc[s + i][r * step + part] = vfma(met[r][j], v[i], acc[s + i][r * step + part]);
            }
        }
    }
}

// Columns first.. of taps, `across` of them.
FR_INLINE void weight_pass(const fr_bare_conv *g, const weight_tile *t, const int first, const int across, const int kernel,
                           const int step, const int vectors) {
    const int seen = (kernel + step - 1) / step;
    vec met[7][FR_ROW_VECTORS], acc[4][7];
    real *sums = (real *)g->sums + first * FR_WIDTH;
    FR_UNROLL(4) for (int s = 0; s < across; ++s) {
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) acc[s][r] = vload(sums + (r * kernel + s) * FR_WIDTH);
    }
    ptrdiff_t y_row = g->above / step;
    FR_UNROLL(7) for (int r = 0; r < seen - 1; ++r) weight_row(g, t, y_row - 1 - r, met[r], vectors);
    for (ptrdiff_t row = y_row * step - g->above; row < g->rows; row += step, ++y_row) {
        FR_UNROLL(7) for (int r = seen - 1; r > 0; --r) {
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) met[r][j] = met[r - 1][j];
        }
        weight_row(g, t, y_row, met[0], vectors);
        if (first == 0) weight_fetch(g, t, row, y_row, step, vectors);
        if (row >= 0 && row < g->rows)
            weight_products(t, t->x + row * g->columns, met, acc, first, across, kernel, step, 0, vectors);
        if (step > 1 && row + 1 >= 0 && row + 1 < g->rows)
            weight_products(t, t->x + (row + 1) * g->columns, met, acc, first, across, kernel, step, 1, vectors);
    }
    FR_UNROLL(4) for (int s = 0; s < across; ++s) {
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) vstore(sums + (r * kernel + s) * FR_WIDTH, acc[s][r]);
    }
}

// Three columns of taps at once, or two: what leaves room for rows of y and still hides the latency of a multiply-add. With a stride
// they come in pairs.
FR_INLINE void weight_tile_run(const fr_bare_conv *g, const weight_tile *tile, const int kernel, const int step, const int vectors) {
    const weight_tile t = *tile;
    const fr_bare_conv c = *g;
    const int across = step == 2 ? (kernel == 3 ? 4 : 2) : kernel == 7 ? 2 : 3;
    FR_UNROLL(4) for (int first = 0; first < kernel; first += across)
        weight_pass(&c, &t, first, kernel - first < across ? kernel - first : across, kernel, step, vectors);
}

typedef void weight_tile_fn(const fr_bare_conv *g, const weight_tile *t);

#define FR_WEIGHT_TILE(kernel, step, vectors)                                                                        \
    static FR_NOINLINE void weight_tile_##kernel##_##step##_##vectors(const fr_bare_conv *g, const weight_tile *t) { \
        weight_tile_run(g, t, kernel, step, vectors);                                                                \
    }
#define FR_WEIGHT_TILES(step)  \
    FR_WEIGHT_TILE(3, step, 1) \
    FR_WEIGHT_TILE(3, step, 2) \
    FR_WEIGHT_TILE(3, step, 3) \
    FR_WEIGHT_TILE(3, step, 4) \
    FR_WEIGHT_TILE(5, step, 1) \
    FR_WEIGHT_TILE(5, step, 2) \
    FR_WEIGHT_TILE(7, step, 1) \
    FR_WEIGHT_TILE(7, step, 2)
FR_WEIGHT_TILES(1)
FR_WEIGHT_TILES(2)

// `vectors` vectors from column `first` of the outputs on. Lanes without an output are not loaded of x.
FR_INLINE weight_tile weight_tile_at(const fr_bare_conv *g, ptrdiff_t first, ptrdiff_t vectors) {
    const ptrdiff_t last = first + (vectors - 1) * FR_WIDTH;
    weight_tile t;
    t.x = (const real *)g->x + g->step * first, t.y = (const real *)g->y + first;
    t.lanes = lanes_left(g->y_columns - last, 0);
    for (ptrdiff_t s = 0; s < g->kernel / 2; ++s) {
        const ptrdiff_t out = g->kernel / 2 - s;
        t.lo[s] = lanes_left(out - first, 0);
        t.right[s] = lanes_left(g->columns - last - out, 0);
    }
    for (ptrdiff_t s = 0; g->step == 2 && s < g->kernel; s += 2) {
        const ptrdiff_t end = g->columns + g->kernel / 2 - s - 2 * last;
        t.pair[s / 2] = row_pair_between(g->kernel / 2 - s - 2 * first, end < 2 * t.lanes ? end : 2 * t.lanes);
    }
    return t;
}

#define FR_WEIGHT_SHAPES(step)                                                                                       \
    {                                                                                                                 \
        {weight_tile_3_##step##_1, weight_tile_3_##step##_2, weight_tile_3_##step##_3, weight_tile_3_##step##_4},    \
            {weight_tile_5_##step##_1, weight_tile_5_##step##_2}, {weight_tile_7_##step##_1, weight_tile_7_##step##_2} \
    }

static void FR_NAME(bare_conv_weight)(const fr_bare_conv *g) {
    static weight_tile_fn *const tiles[2][3][FR_ROW_VECTORS] = {FR_WEIGHT_SHAPES(1), FR_WEIGHT_SHAPES(2)};
    const ptrdiff_t all = (g->y_columns + FR_WIDTH - 1) / FR_WIDTH, fit = FR_MAX_ROWS < 6 ? 2 : FR_ROW_VECTORS;
    const ptrdiff_t most = vectors_of_tiles(g, g->y_columns, all, g->kernel == 3 ? fit : fit / 2);
    const ptrdiff_t count = (all + most - 1) / most;
    for (ptrdiff_t n = 0, first = 0, end; n < count; ++n, first = end) {
        end = all * (n + 1) / count;
        const weight_tile t = weight_tile_at(g, first * FR_WIDTH, end - first);
        tiles[g->step - 1][g->kernel / 2 - 1][end - first - 1](g, &t);
    }
}
