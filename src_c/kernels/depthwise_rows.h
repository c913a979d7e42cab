// Convolution of a map where it lies, as wide as its result: vectors run along its rows, and the zeros beside it are lanes that are not
// loaded. Rows are read once, from the first to the last, and each serves all rows of outputs that see it.
#pragma once

#include "depthwise.h"

enum { FR_ROW_VECTORS = 4 };  // of a tile, at most

// Some columns of a map. Its last vector starts `last` columns after the first one, and may share columns with the one before. Tap s
// of the first half leaves out lo[s] lanes of the first vector; the one as far from the end finds hi[s] in the last one.
typedef struct row_tile {
    const real *x;
    real *y;
    ptrdiff_t last, lanes;  // lanes: of all vectors, less than whole ones if a row is shorter
    ptrdiff_t lo[3], hi[3];
} row_tile;

// Vector j of `vectors` for tap s, whose input starts at `from`; in a row shorter than a vector if `narrow`.
FR_INLINE vec row_load(const row_tile *t, const real *from, const int s, const int kernel, const int j,
                          const int vectors, const int narrow) {
    const int left = j == 0 && s < kernel / 2, right = j == vectors - 1 && s > kernel / 2;
    if (narrow || (left && right))
        return vload_between(from, left ? t->lo[s] : 0, right ? t->hi[kernel - 1 - s] : t->lanes, vzero());
    if (left) return vload_between(from, t->lo[s], FR_WIDTH, vzero());
    return right ? vload_n(from, t->hi[kernel - 1 - s]) : vload(from);
}

// What one row of x adds to the outputs of `kernel` rows; acc[r] is the sum that its row r of taps belongs to.
FR_INLINE void row_taps(const row_tile *t, const real *x, const real *weight, vec acc[7][FR_ROW_VECTORS],
                           const int kernel, const int vectors, const int narrow) {
    FR_UNROLL(7) for (int s = 0; s < kernel; ++s) {
        vec v[FR_ROW_VECTORS];
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
            v[j] = row_load(t, x + s - kernel / 2 + (j < vectors - 1 ? j * FR_WIDTH : t->last), s, kernel, j, vectors, narrow);
            vpin(&v[j]);
        }
        FR_UNROLL(7) for (int r = 0; r < kernel; ++r) {
            const vec w = vbroadcast(weight + r * kernel + s);
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = vfma(w, v[j], acc[r][j]);
        }
    }
}

FR_INLINE void row_store(const fr_bare_conv *g, const row_tile *t, real *y, const vec *acc, const int vectors, const int narrow) {
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
        const vec out = g->activation || g->gain ? finished(acc[j], g->activation, g->gain) : acc[j];
        if (narrow) vstore_n(y, out, t->lanes);
        else vstore(y + (j < vectors - 1 ? j * FR_WIDTH : t->last), out);
    }
}

// All rows of a tile, with `above` rows of zeros before the first. Sums over (h, w), h outside.
FR_INLINE void row_tile_run(const fr_bare_conv *g, const row_tile *tile, const int kernel, const int vectors, const int narrow) {
    const row_tile t = *tile;
    const fr_bare_conv c = *g;
    const vec start = c.bias ? vbroadcast(c.bias) : vzero();
    const real *x = t.x - c.above * c.columns;
    real *y = t.y - (kernel - 1) * c.columns;
    real w[49];
    vec acc[7][FR_ROW_VECTORS];
    FR_UNROLL(49) for (int i = 0; i < kernel * kernel; ++i) w[i] = ((const real *)c.weight)[i];
    FR_UNROLL(7) for (int r = 0; r < kernel; ++r) {
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = start;
    }
    for (ptrdiff_t row = -c.above, left = c.y_rows + kernel - 1; left > 0; ++row, --left, x += c.columns, y += c.columns) {
        if (row >= 0 && row < c.rows) row_taps(&t, x, w, acc, kernel, vectors, narrow);
        if (left <= c.y_rows) row_store(&c, &t, y, acc[kernel - 1], vectors, narrow);
        FR_UNROLL(7) for (int r = kernel - 1; r > 0; --r) {
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = acc[r - 1][j];
        }
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[0][j] = start;
    }
}

typedef void row_tile_fn(const fr_bare_conv *g, const row_tile *t);

#define FR_ROW_TILE(kernel, name, vectors, narrow)                                                  \
    static FR_NOINLINE void row_tile_##kernel##_##name(const fr_bare_conv *g, const row_tile *t) {  \
        row_tile_run(g, t, kernel, vectors, narrow);                                                \
    }
#define FR_ROW_TILES(kernel)         \
    FR_ROW_TILE(kernel, narrow, 1, 1) \
    FR_ROW_TILE(kernel, 1, 1, 0)     \
    FR_ROW_TILE(kernel, 2, 2, 0)     \
    FR_ROW_TILE(kernel, 3, 3, 0)     \
    FR_ROW_TILE(kernel, 4, 4, 0)
FR_ROW_TILES(3)
FR_ROW_TILES(5)
FR_ROW_TILES(7)

// `vectors` vectors from column `first` on; the last of the row ends with it.
FR_INLINE row_tile row_tile_at(const fr_bare_conv *g, ptrdiff_t first, ptrdiff_t vectors) {
    const ptrdiff_t whole = lanes_left(g->columns, 0), rest = g->columns - whole, end = first + (vectors - 1) * FR_WIDTH;
    const ptrdiff_t last = end < rest ? end : rest, start = vectors > 1 ? first : last;
    row_tile t = {.x = (const real *)g->x + start, .y = (real *)g->y + start, .last = last - start, .lanes = whole};
    for (ptrdiff_t s = 0; s < g->kernel / 2; ++s) {
        const ptrdiff_t out = g->kernel / 2 - s;
        t.lo[s] = lanes_left(out - start, 0);
        t.hi[s] = lanes_left(g->columns - last - out, 0);
    }
    return t;
}

// Vectors of a tile. Edges lie in the first and the last vector alone, or each is a tile by itself.
FR_INLINE ptrdiff_t vectors_of_tiles(const fr_bare_conv *g, ptrdiff_t all, ptrdiff_t most) {
    const ptrdiff_t last = g->columns - (all - 1) * FR_WIDTH;
    return most < 1 || last < g->kernel / 2 || FR_WIDTH < g->kernel / 2 ? 1 : most;
}

static void FR_NAME(bare_conv)(const fr_bare_conv *g) {
    static row_tile_fn *const tiles[3][1 + FR_ROW_VECTORS] = {
        {row_tile_3_narrow, row_tile_3_1, row_tile_3_2, row_tile_3_3, row_tile_3_4},
        {row_tile_5_narrow, row_tile_5_1, row_tile_5_2, row_tile_5_3, row_tile_5_4},
        {row_tile_7_narrow, row_tile_7_1, row_tile_7_2, row_tile_7_3, row_tile_7_4},
    };
    const ptrdiff_t all = (g->columns + FR_WIDTH - 1) / FR_WIDTH, fit = FR_MAX_ROWS * 4 / g->kernel;
    const ptrdiff_t most = vectors_of_tiles(g, all, fit < FR_ROW_VECTORS ? fit : FR_ROW_VECTORS), count = (all + most - 1) / most;
    for (ptrdiff_t n = 0, first = 0, end; n < count; ++n, first = end) {
        end = all * (n + 1) / count;
        const row_tile t = row_tile_at(g, first * FR_WIDTH, end - first);
        tiles[g->kernel / 2 - 1][g->columns < FR_WIDTH ? 0 : end - first](g, &t);
    }
}
