// Convolution of a map where it lies, as wide as its result or, with a stride of two, twice as wide: vectors run along its rows, and
// the zeros beside it are lanes that are not loaded. Rows are read once, from the first to the last, and each serves all rows of
// outputs that see it.
#pragma once

#include "depthwise.h"

enum { FR_ROW_VECTORS = 4 };  // of a tile, at most

// Which lanes of two neighbouring vectors are inside.
typedef struct row_pair {
    ptrdiff_t lo[2], hi[2];
} row_pair;

FR_INLINE row_pair row_pair_between(ptrdiff_t lo, ptrdiff_t hi) {
    return (row_pair){{lanes_left(lo, 0), lanes_left(lo, 1)}, {lanes_left(hi, 0), lanes_left(hi, 1)}};
}

// Places from `from` on, those of even numbers and the others; `left`, `right`: some of them may be outside there.
FR_INLINE void row_pair_load(const row_pair *p, const real *from, const int left, const int right, vec *even,
                                vec *odd) {
    vec v[2];
    FR_UNROLL(2) for (int i = 0; i < 2; ++i) {
        const real *at = from + i * FR_WIDTH;
        v[i] = left    ? vload_between(at, p->lo[i], right ? p->hi[i] : FR_WIDTH, vzero())
               : right ? vload_n(at, p->hi[i])
                       : vload(at);
    }
    *even = vunzip_even(v[0], v[1]), *odd = vunzip_odd(v[0], v[1]);
}

// Some columns of a map. Its last vector starts `last` columns after the first one, and may share columns with the one before. Tap s
// of the first half leaves out lo[s] lanes of the first vector; the one as far from the end finds hi[s] in the last one. With a
// stride, `pair` are the same of two vectors of places, which serve taps s and s + 1.
typedef struct row_tile {
    const real *x;
    real *y;
    ptrdiff_t last, lanes;  // lanes: of all vectors, less than whole ones if a row is shorter
    ptrdiff_t lo[3], hi[3];
    const row_pair *pair;
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

// What one row of x adds to the outputs that see it; acc[r] is the sum that its row r * step + part of taps belongs to.
FR_INLINE void row_taps(const row_tile *t, const real *x, const real *weight, vec acc[7][FR_ROW_VECTORS], const int kernel,
                        const int step, const int part, const int vectors, const int narrow) {
    FR_UNROLL(7) for (int s = 0; s < kernel; s += step) {
        vec v[2][FR_ROW_VECTORS];
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
            const real *from = x + s - kernel / 2 + step * (j < vectors - 1 ? j * FR_WIDTH : t->last);
            if (step == 1) v[0][j] = row_load(t, from, s, kernel, j, vectors, narrow);
            else row_pair_load(&t->pair[s / 2], from, j == 0 && s < kernel / 2, j == vectors - 1, &v[0][j], &v[1][j]);
            vpin(&v[0][j]);
            if (step > 1 && s + 1 < kernel) vpin(&v[1][j]);
        }
        FR_UNROLL(2) for (int i = 0; i < step; ++i) {
            if (s + i >= kernel) continue;
            FR_UNROLL(7) for (int r = 0; r * step + part < kernel; ++r) {
                const vec w = vbroadcast(weight + (r * step + part) * kernel + s + i);
                FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = vfma(w, v[i][j], acc[r][j]);
            }
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
FR_INLINE void row_tile_run(const fr_bare_conv *g, const row_tile *tile, const int kernel, const int step, const int vectors,
                            const int narrow) {
    row_tile t = *tile;
    row_pair pair[4];
    for (int i = 0; step > 1 && i <= kernel / 2; ++i) pair[i] = tile->pair[i];
    t.pair = pair;
    const fr_bare_conv c = *g;
    const int seen = (kernel + step - 1) / step;  // outputs of a column that see a row, or one of the `step` rows after it
    const vec start = c.bias ? vbroadcast(c.bias) : vzero();
    const real *x = t.x - c.above * c.columns;
    real *y = t.y - (seen - 1) * (step == 1 ? c.columns : c.y_columns);
    real w[49];
    vec acc[7][FR_ROW_VECTORS];
    FR_UNROLL(49) for (int i = 0; i < kernel * kernel; ++i) w[i] = ((const real *)c.weight)[i];
    FR_UNROLL(7) for (int r = 0; r < seen; ++r) {
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = start;
    }
    const ptrdiff_t x_step = step * c.columns, y_step = step == 1 ? x_step : c.y_columns;
    for (ptrdiff_t row = -c.above, left = c.y_rows + seen - 1; left > 0; row += step, --left, x += x_step, y += y_step) {
        // Not a loop: one of a single round would stay one.
        if (row >= 0 && row < c.rows) row_taps(&t, x, w, acc, kernel, step, 0, vectors, narrow);
        if (step > 1 && row + 1 >= 0 && row + 1 < c.rows)
            row_taps(&t, x + c.columns, w, acc, kernel, step, 1, vectors, narrow);
        if (left <= c.y_rows) row_store(&c, &t, y, acc[seen - 1], vectors, narrow);
        FR_UNROLL(7) for (int r = seen - 1; r > 0; --r) {
            FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[r][j] = acc[r - 1][j];
        }
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[0][j] = start;
    }
}

typedef void row_tile_fn(const fr_bare_conv *g, const row_tile *t);

#define FR_ROW_TILE(kernel, step, name, vectors, narrow)                                                    \
    static FR_NOINLINE void row_tile_##kernel##_##step##_##name(const fr_bare_conv *g, const row_tile *t) { \
        row_tile_run(g, t, kernel, step, vectors, narrow);                                                  \
    }
#define FR_ROW_TILES(kernel, step)         \
    FR_ROW_TILE(kernel, step, narrow, 1, 1) \
    FR_ROW_TILE(kernel, step, 1, 1, 0)     \
    FR_ROW_TILE(kernel, step, 2, 2, 0)     \
    FR_ROW_TILE(kernel, step, 3, 3, 0)     \
    FR_ROW_TILE(kernel, step, 4, 4, 0)
FR_ROW_TILES(3, 1)
FR_ROW_TILES(5, 1)
FR_ROW_TILES(7, 1)
FR_ROW_TILES(3, 2)
FR_ROW_TILES(5, 2)
FR_ROW_TILES(7, 2)

// `vectors` vectors from column `first` of the outputs on; the last of the row ends with it. `pair` is filled.
FR_INLINE row_tile row_tile_at(const fr_bare_conv *g, ptrdiff_t first, ptrdiff_t vectors, row_pair pair[4]) {
    const ptrdiff_t whole = lanes_left(g->y_columns, 0), rest = g->y_columns - whole, end = first + (vectors - 1) * FR_WIDTH;
    const ptrdiff_t last = end < rest ? end : rest, start = vectors > 1 ? first : last;
    row_tile t = {.pair = pair};
    t.x = (const real *)g->x + g->step * start, t.y = (real *)g->y + start, t.last = last - start, t.lanes = whole;
    for (ptrdiff_t s = 0; s < g->kernel / 2; ++s) {
        const ptrdiff_t out = g->kernel / 2 - s;
        t.lo[s] = lanes_left(out - start, 0);
        t.hi[s] = lanes_left(g->columns - last - out, 0);
    }
    for (ptrdiff_t s = 0; g->step == 2 && s < g->kernel; s += 2)
        pair[s / 2] = row_pair_between(g->kernel / 2 - s - 2 * start, g->columns + g->kernel / 2 - s - 2 * last);
    return t;
}

// Vectors of a tile. Edges lie in the first and the last vector alone, or each is a tile by itself.
FR_INLINE ptrdiff_t vectors_of_tiles(const fr_bare_conv *g, ptrdiff_t columns, ptrdiff_t all, ptrdiff_t most) {
    const ptrdiff_t last = columns - (all - 1) * FR_WIDTH;
    return most < 1 || last < g->kernel / 2 || FR_WIDTH < g->kernel / 2 ? 1 : most;
}

#define FR_ROW_SHAPES(kernel, step)                                                                                  \
    {                                                                                                                 \
        row_tile_##kernel##_##step##_narrow, row_tile_##kernel##_##step##_1, row_tile_##kernel##_##step##_2,         \
            row_tile_##kernel##_##step##_3, row_tile_##kernel##_##step##_4                                           \
    }

static void FR_NAME(bare_conv)(const fr_bare_conv *g) {
    static row_tile_fn *const tiles[2][3][1 + FR_ROW_VECTORS] = {
        {FR_ROW_SHAPES(3, 1), FR_ROW_SHAPES(5, 1), FR_ROW_SHAPES(7, 1)},
        {FR_ROW_SHAPES(3, 2), FR_ROW_SHAPES(5, 2), FR_ROW_SHAPES(7, 2)},
    };
    const ptrdiff_t all = (g->y_columns + FR_WIDTH - 1) / FR_WIDTH, fit = FR_MAX_ROWS * 4 / g->kernel;
    const ptrdiff_t most = vectors_of_tiles(g, g->y_columns, all, fit < FR_ROW_VECTORS ? fit : FR_ROW_VECTORS);
    const ptrdiff_t count = (all + most - 1) / most;
    for (ptrdiff_t n = 0, first = 0, end; n < count; ++n, first = end) {
        end = all * (n + 1) / count;
        row_pair pair[4];
        const row_tile t = row_tile_at(g, first * FR_WIDTH, end - first, pair);
        tiles[g->step - 1][g->kernel / 2 - 1][g->y_columns < FR_WIDTH ? 0 : end - first](g, &t);
    }
}
