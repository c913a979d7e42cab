// The transpose of a convolution with a stride of two, of a map where it lies: each vector of x serves the columns of even and of odd
// numbers of all rows of outputs that see it, and both are zipped on their way out.
#pragma once

#include "depthwise_rows.h"

enum { FR_SPREAD_VECTORS = 2 };  // of a tile, at most; one for kernels of 7

// Some columns of x. Those that tap w meets lie `shift_of(w)` further on; lanes lo[i]..hi[i]-1 of the first and the last vector are inside
// for a shift of i - 1. The last vector starts `last` columns after the first one, and stores `lanes` outputs.
typedef struct spread_tile {
    const real *x;
    real *y;
    ptrdiff_t last, lanes, lo, hi[4];
} spread_tile;

typedef vec spread_sums[7][2][FR_SPREAD_VECTORS];  // [row of taps][even, odd columns]

// Outputs of even number meet the taps w with w + kernel / 2 even.
FR_INLINE int odd_column(const int w, const int kernel) {
    return (w + kernel / 2) % 2;
}
FR_INLINE int shift_of(const int w, const int kernel) { return (odd_column(w, kernel) + kernel / 2 - w) / 2; }

// What row x adds to acc[h], the outputs that see it at row h of taps.
FR_INLINE void spread_taps(const spread_tile *t, const real *x, const real *weight, spread_sums acc,
                              const int kernel, const int vectors) {
    FR_UNROLL(4) for (int shift = shift_of(kernel - 1, kernel); shift <= shift_of(0, kernel); ++shift) {
        vec v[FR_SPREAD_VECTORS];
        FR_UNROLL(2) for (int j = 0; j < vectors; ++j) {
            const real *from = x + shift + (j < vectors - 1 ? j * FR_WIDTH : t->last);
            const ptrdiff_t lo = j == 0 && shift < 0 ? t->lo : 0;
            v[j] = j == vectors - 1 ? vload_between(from, lo, t->hi[shift + 1], vzero())
                   : shift < 0      ? vload_between(from, lo, FR_WIDTH, vzero())
                                    : vload(from);
            vpin(&v[j]);
        }
        FR_UNROLL(7) for (int w = 0; w < kernel; ++w) {
            if (shift_of(w, kernel) != shift) continue;
            FR_UNROLL(7) for (int h = 0; h < kernel; ++h) {
                const vec tap = vbroadcast(weight + h * kernel + w);
                FR_UNROLL(2) for (int j = 0; j < vectors; ++j) {
                    vec *sum = &acc[h][odd_column(w, kernel)][j];
                    *sum = vfma(tap, v[j], *sum);
                }
            }
        }
    }
}

FR_INLINE void spread_store(const fr_bare_conv *g, const spread_tile *t, real *y, vec sums[2][FR_SPREAD_VECTORS], const int vectors) {
    FR_UNROLL(2) for (int j = 0; j < vectors; ++j) {
        vec even = sums[0][j], odd = sums[1][j];
        if (g->activation || g->gain) {
            even = finished(even, g->activation, g->gain), odd = finished(odd, g->activation, g->gain);
        }
        const vec low = vzip_lo(even, odd), high = vzip_hi(even, odd);
        real *to = y + 2 * (j < vectors - 1 ? j * FR_WIDTH : t->last);
        if (j < vectors - 1) vstore(to, low), vstore(to + FR_WIDTH, high);
        else vstore_lanes(to, low, lanes_left(t->lanes, 0)), vstore_lanes(to + FR_WIDTH, high, lanes_left(t->lanes, 1));
    }
}

// All rows of a tile. Two rows of outputs are done with each row of x. Sums over (h, w), h from the last to the first.
FR_INLINE void spread_tile_run(const fr_bare_conv *g, const spread_tile *tile, const int kernel, const int vectors) {
    const spread_tile t = *tile;
    const fr_bare_conv c = *g;
    const vec start = c.bias ? vbroadcast(c.bias) : vzero();
    real w[49];
    spread_sums acc;
    FR_UNROLL(49) for (int i = 0; i < kernel * kernel; ++i) w[i] = ((const real *)c.weight)[i];
    FR_UNROLL(7) for (int h = 0; h < kernel; ++h) {
        FR_UNROLL(2) for (int i = 0; i < 2; ++i) {
            FR_UNROLL(2) for (int j = 0; j < vectors; ++j) acc[h][i][j] = start;
        }
    }
    for (ptrdiff_t row = 0, out = -c.above; out < c.y_rows; ++row, out += 2) {
        if (row < c.rows) spread_taps(&t, t.x + row * c.columns, w, acc, kernel, vectors);
        FR_UNROLL(2) for (int i = 0; i < 2; ++i)
            if (out + i >= 0 && out + i < c.y_rows) spread_store(&c, &t, t.y + (out + i) * c.y_columns, acc[i], vectors);
        FR_UNROLL(7) for (int h = 0; h < kernel; ++h) {
            FR_UNROLL(2) for (int i = 0; i < 2; ++i) {
                FR_UNROLL(2) for (int j = 0; j < vectors; ++j) acc[h][i][j] = h + 2 < kernel ? acc[h + 2][i][j] : start;
            }
        }
    }
}

typedef void spread_tile_fn(const fr_bare_conv *g, const spread_tile *t);

#define FR_SPREAD_TILE(kernel, vectors)                                                                      \
    static FR_NOINLINE void spread_tile_##kernel##_##vectors(const fr_bare_conv *g, const spread_tile *t) { \
        spread_tile_run(g, t, kernel, vectors);                                                              \
    }
FR_SPREAD_TILE(3, 1)
FR_SPREAD_TILE(3, 2)
FR_SPREAD_TILE(5, 1)
FR_SPREAD_TILE(5, 2)
FR_SPREAD_TILE(7, 1)

// `vectors` vectors from column `first` of x on; the last of the row ends with it.
FR_INLINE spread_tile spread_tile_at(const fr_bare_conv *g, ptrdiff_t first, ptrdiff_t vectors) {
    const ptrdiff_t whole = lanes_left(g->columns, 0), rest = g->columns - whole, end = first + (vectors - 1) * FR_WIDTH;
    const ptrdiff_t last = end < rest ? end : rest, start = vectors > 1 ? first : last;
    spread_tile t = {.x = (const real *)g->x + start, .y = (real *)g->y + 2 * start, .last = last - start};
    t.lanes = g->y_columns - 2 * last, t.lo = lanes_left(1 - start, 0);
    for (ptrdiff_t i = 0; i < 4; ++i) t.hi[i] = lanes_left(g->columns - last - (i - 1), 0);
    return t;
}

static void FR_NAME(bare_spread)(const fr_bare_conv *g) {
    static spread_tile_fn *const tiles[3][FR_SPREAD_VECTORS] = {
        {spread_tile_3_1, spread_tile_3_2}, {spread_tile_5_1, spread_tile_5_2}, {spread_tile_7_1}};
    const ptrdiff_t all = (g->columns + FR_WIDTH - 1) / FR_WIDTH, fit = FR_MAX_ROWS * 4 / (2 * g->kernel);
    const ptrdiff_t most = vectors_of_tiles(g, g->columns, all, fit < FR_SPREAD_VECTORS ? fit : FR_SPREAD_VECTORS);
    const ptrdiff_t count = (all + most - 1) / most;
    for (ptrdiff_t n = 0, first = 0, end; n < count; ++n, first = end) {
        end = all * (n + 1) / count;
        const spread_tile t = spread_tile_at(g, first * FR_WIDTH, end - first);
        tiles[g->kernel / 2 - 1][end - first - 1](g, &t);
    }
}
