// Convolution of each channel by itself with the channels first: vectors run along a row of one map.
#pragma once

#include "turn.h"

static FR_NOINLINE vec finished(vec x, int activation, const real *gain) {
    switch (activation) {
        case FR_RELU:
            x = relu(x);
            break;
        case FR_TANH:
            x = vtanh(x);
            break;
        case FR_SIGMOID:
            x = vsigmoid(x);
            break;
        default:
            break;
    }
    return gain ? vmul(x, vbroadcast(gain)) : x;
}

// `vectors` vectors of one output row.
FR_INLINE void map_vectors(const fr_map_conv *g, const real *x, real *y, const int vectors, ptrdiff_t columns) {
    vec acc[FR_SLOTS];
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j) {
        acc[j] = g->resume ? vload_lanes(y + j * FR_WIDTH, lanes_left(columns, j)) : g->bias ? vbroadcast(g->bias) : vzero();
    }
    for (ptrdiff_t t = 0; t < g->taps; ++t) {
        const vec w = vbroadcast((const real *)g->weight + t);
        const real *from = x + g->offset[t];
        FR_UNROLL(4) for (int j = 0; j < vectors; ++j) acc[j] = vfma(w, vload(from + j * FR_WIDTH), acc[j]);
    }
    FR_UNROLL(4) for (int j = 0; j < vectors; ++j)
        vstore_lanes(y + j * FR_WIDTH, finished(acc[j], g->activation, g->gain), lanes_left(columns, j));
}

enum { FR_MAP_ROWS = FR_MAX_ROWS >= 6 ? 8 : 4 };  // output rows that share the loads of a regular kernel: sums that fit registers

// `rows` rows by `vectors` vectors, for a kernel of `height` taps one input row apart: each vector of an input row serves all
// output rows that see it. Sums over (w, h), w outside. Lanes past `columns` are neither read nor written in y.
FR_INLINE void map_tile(const fr_map_conv *g, const real *x, real *y, const int rows, const int height, const int vectors,
                        const int whole, ptrdiff_t columns) {
    vec acc[FR_MAP_ROWS][2];
    const ptrdiff_t across = g->taps / height;
    const vec start = g->bias ? vbroadcast(g->bias) : vzero();
    FR_UNROLL(8) for (int i = 0; i < rows; ++i) {
        FR_UNROLL(2) for (int j = 0; j < vectors; ++j) acc[i][j] = start;
    }
    if (g->resume) {
        FR_UNROLL(8) for (int i = 0; i < rows; ++i) {
            FR_UNROLL(2) for (int j = 0; j < vectors; ++j)
                acc[i][j] = vload_n(y + i * g->y_stride + j * FR_WIDTH, lanes_left(columns, j));
        }
    }
    for (ptrdiff_t s = 0; s < across; ++s) {
        const real *from = x + g->offset[s];
        vec w[7];
        FR_UNROLL(7) for (int r = 0; r < height; ++r) w[r] = vbroadcast((const real *)g->weight + r * across + s);
        FR_UNROLL(14) for (int i = 0; i < rows + height - 1; ++i, from += g->x_stride) {
            FR_UNROLL(2) for (int j = 0; j < vectors; ++j) {
                vec v = vload(from + j * FR_WIDTH);
                vpin(&v);
                FR_UNROLL(7) for (int r = 0; r < height; ++r)
                    if (i - r >= 0 && i - r < rows) acc[i - r][j] = vfma(w[r], v, acc[i - r][j]);
            }
        }
    }
    if (g->activation || g->gain) {
        FR_UNROLL(8) for (int i = 0; i < rows; ++i) {
            FR_UNROLL(2) for (int j = 0; j < vectors; ++j) acc[i][j] = finished(acc[i][j], g->activation, g->gain);
        }
    }
    FR_UNROLL(8) for (int i = 0; i < rows; ++i) {
        FR_UNROLL(2) for (int j = 0; j < vectors; ++j) {
            if (whole || j < vectors - 1) vstore(y + i * g->y_stride + j * FR_WIDTH, acc[i][j]);
            else vstore_n(y + i * g->y_stride + j * FR_WIDTH, acc[i][j], columns - j * FR_WIDTH);
        }
    }
}

FR_INLINE void map_strip(const fr_map_conv *g, const real *x, real *y, const int rows, const int height) {
    ptrdiff_t c = 0;
    for (; c + 2 * FR_WIDTH <= g->columns; c += 2 * FR_WIDTH) map_tile(g, x + c, y + c, rows, height, 2, 1, 2 * FR_WIDTH);
    if (c + FR_WIDTH < g->columns) map_tile(g, x + c, y + c, rows, height, 2, 0, g->columns - c);
    else if (c < g->columns) map_tile(g, x + c, y + c, rows, height, 1, 0, g->columns - c);
}

// As many strips of `rows` rows from row r on as there are; returns the row after them.
FR_INLINE ptrdiff_t map_strips_of(const fr_map_conv *g, ptrdiff_t r, const int rows, const int height) {
    for (; r + rows <= g->rows; r += rows)
        map_strip(g, (const real *)g->x + r * g->x_stride, (real *)g->y + r * g->y_stride, rows, height);
    return r;
}

// Three rows of taps gain little by more than four output rows at once, and more go to memory less in order.
FR_INLINE void map_strips(const fr_map_conv *g, const int height) {
    ptrdiff_t r = 0;
    if (FR_MAP_ROWS > 4 && height > 3) r = map_strips_of(g, r, FR_MAP_ROWS, height);
    r = map_strips_of(g, r, 4, height);
    r = map_strips_of(g, r, 2, height);
    map_strips_of(g, r, 1, height);
}

static FR_NOINLINE void map_strips_3(const fr_map_conv *g) { map_strips(g, 3); }
static FR_NOINLINE void map_strips_5(const fr_map_conv *g) { map_strips(g, 5); }
static FR_NOINLINE void map_strips_7(const fr_map_conv *g) { map_strips(g, 7); }

static void map_rows(const fr_map_conv *g) {
    for (ptrdiff_t r = 0; r < g->rows; ++r) {
        const real *x = (const real *)g->x + r * g->x_stride;
        real *y = (real *)g->y + r * g->y_stride;
        ptrdiff_t c = 0;
        for (; g->columns - c > 3 * FR_WIDTH; c += 4 * FR_WIDTH) map_vectors(g, x + c, y + c, 4, g->columns - c);
        if (g->columns - c > 2 * FR_WIDTH) map_vectors(g, x + c, y + c, 3, g->columns - c);
        else if (g->columns - c > FR_WIDTH) map_vectors(g, x + c, y + c, 2, g->columns - c);
        else if (g->columns > c) map_vectors(g, x + c, y + c, 1, g->columns - c);
    }
}

static void FR_NAME(map_conv)(const fr_map_conv *g) {
    switch (g->height) {
        case 3: map_strips_3(g); break;
        case 5: map_strips_5(g); break;
        case 7: map_strips_7(g); break;
        default: map_rows(g);
    }
}

// Taps whose sums wait in registers, enough to hide the latency of a multiply-add. More are cut evenly: a lone tap takes as long as
// five.
enum { FR_TAPS_AT_ONCE = 9 };

FR_INLINE ptrdiff_t taps_of_pass(ptrdiff_t taps) {
    const ptrdiff_t passes = (taps + FR_TAPS_AT_ONCE - 1) / FR_TAPS_AT_ONCE;
    return (taps + passes - 1) / passes;
}

// Lanes past the row are zeros in both operands: what lies there in x may be an infinity.
FR_INLINE void map_products(const fr_map_conv *g, ptrdiff_t first, const int taps) {
    vec acc[FR_TAPS_AT_ONCE];
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) acc[t] = vzero();
    for (ptrdiff_t r = 0; r < g->rows; ++r) {
        const real *x = (const real *)g->x + r * g->x_stride, *y = (const real *)g->y + r * g->y_stride;
        ptrdiff_t c = 0;
        for (; c + FR_WIDTH <= g->columns; c += FR_WIDTH) {
            const vec d = vload(y + c);
            FR_UNROLL(9) for (int t = 0; t < taps; ++t) acc[t] = vfma(d, vload(x + g->offset[first + t] + c), acc[t]);
        }
        if (c < g->columns) {
            const ptrdiff_t lanes = g->columns - c;
            const vec d = vload_n(y + c, lanes);
            FR_UNROLL(9) for (int t = 0; t < taps; ++t) acc[t] = vfma(d, vload_n(x + g->offset[first + t] + c, lanes), acc[t]);
        }
    }
    FR_UNROLL(9) for (int t = 0; t < taps; ++t) ((real *)g->sums)[first + t] += vsum(acc[t]);
}

static FR_NOINLINE void map_products_1(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 1); }
static FR_NOINLINE void map_products_2(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 2); }
static FR_NOINLINE void map_products_3(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 3); }
static FR_NOINLINE void map_products_4(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 4); }
static FR_NOINLINE void map_products_5(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 5); }
static FR_NOINLINE void map_products_6(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 6); }
static FR_NOINLINE void map_products_7(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 7); }
static FR_NOINLINE void map_products_8(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 8); }
static FR_NOINLINE void map_products_9(const fr_map_conv *g, ptrdiff_t first) { map_products(g, first, 9); }

static void FR_NAME(map_conv_weight)(const fr_map_conv *g) {
    void (*const pass[])(const fr_map_conv *, ptrdiff_t) = {
        map_products_1, map_products_2, map_products_3, map_products_4, map_products_5,
        map_products_6, map_products_7, map_products_8, map_products_9,
    };
    for (ptrdiff_t t = 0, n; t < g->taps; t += n) {
        n = taps_of_pass(g->taps - t);
        pass[n - 1](g, t);
    }
}
