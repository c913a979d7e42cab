// Between channels first and channels last: transpositions through squares of W x W elements in registers, and what an output
// goes through on its way.
#pragma once

#include "pack.h"
#include "rnn.h"

FR_INLINE vec activated(vec x, const int activation) {
    return activation == FR_RELU      ? relu(x)
           : activation == FR_TANH    ? vtanh(x)
           : activation == FR_SIGMOID ? vsigmoid(x)
                                      : x;
}

// Rows i.. and columns j.. of src become columns i.. and rows j.. of dst.
FR_INLINE void turn_square(const fr_turn *t, ptrdiff_t i, ptrdiff_t j, const int activation) {
    const real *src = (const real *)t->src + i * t->src_stride + j;
    real *dst = (real *)t->dst + j * t->dst_stride + i;
    const ptrdiff_t rows = t->rows - i, columns = t->columns - j;
    vec v[FR_WIDTH];
    if (t->src_stride > t->dst_stride) {
    FR_UNROLL(16) for (int r = 0; r < FR_WIDTH; ++r) __builtin_prefetch(src + r * t->src_stride + t->columns, 0, 2);
    }
    if (rows >= FR_WIDTH && columns >= FR_WIDTH) {
        FR_UNROLL(16) for (int r = 0; r < FR_WIDTH; ++r) v[r] = vload(src + r * t->src_stride);
    } else {
        const ptrdiff_t lanes = lanes_left(columns, 0);
        FR_UNROLL(16) for (int r = 0; r < FR_WIDTH; ++r) v[r] = r < rows ? vload_n(src + r * t->src_stride, lanes) : vzero();
    }
    transpose(v);
    FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c) v[c] = activated(v[c], activation);
    if (t->gain) {
        FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c)
            if (c < columns) v[c] = vmul(v[c], vbroadcast((const real *)t->gain + j + c));
    }
    if (rows >= FR_WIDTH && columns >= FR_WIDTH) {
        FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c) vstore(dst + c * t->dst_stride, v[c]);
    } else {
        const ptrdiff_t lanes = lanes_left(rows, 0);
        FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c)
            if (c < columns) vstore_n(dst + c * t->dst_stride, v[c], lanes);
    }
}

// The side whose rows lie farther apart is gone along row by row: its rows may lie on as many pages of memory.
FR_INLINE void turn_squares(const fr_turn *t, const int activation) {
    if (t->src_stride > t->dst_stride) {
        for (ptrdiff_t i = 0; i < t->rows; i += FR_WIDTH)
            for (ptrdiff_t j = 0; j < t->columns; j += FR_WIDTH) turn_square(t, i, j, activation);
    } else {
        for (ptrdiff_t j = 0; j < t->columns; j += FR_WIDTH)
            for (ptrdiff_t i = 0; i < t->rows; i += FR_WIDTH) turn_square(t, i, j, activation);
    }
}

static FR_NOINLINE void turn_none(const fr_turn *t) { turn_squares(t, FR_NONE); }
static FR_NOINLINE void turn_relu(const fr_turn *t) { turn_squares(t, FR_RELU); }
static FR_NOINLINE void turn_tanh(const fr_turn *t) { turn_squares(t, FR_TANH); }
static FR_NOINLINE void turn_sigmoid(const fr_turn *t) { turn_squares(t, FR_SIGMOID); }

// A few channels beside each other: element by element is faster than squares that are mostly empty.
static FR_NOINLINE void turn_few(const fr_turn *t) {
    for (ptrdiff_t i = 0; i < t->rows; ++i) {
        const real *src = (const real *)t->src + i * t->src_stride;
        real *dst = (real *)t->dst + i;
        for (ptrdiff_t j = 0; j < t->columns; ++j) dst[j * t->dst_stride] = src[j];
    }
}

static void FR_NAME(turn)(const fr_turn *t) {
    switch (t->activation) {
        case FR_RELU: turn_relu(t); break;
        case FR_TANH: turn_tanh(t); break;
        case FR_SIGMOID: turn_sigmoid(t); break;
        default:
            if (t->rows < 4 && t->gain == NULL) turn_few(t);
            else turn_none(t);
    }
}

FR_INLINE void keep_rows(const fr_turn *t, const int activation) {
    for (ptrdiff_t i = 0; i < t->rows; ++i) {
        const real *src = (const real *)t->src + i * t->src_stride;
        real *dst = (real *)t->dst + i * t->dst_stride;
        for (ptrdiff_t v = 0; v * FR_WIDTH < t->columns; ++v) {
            const ptrdiff_t lanes = lanes_left(t->columns, v);
            vec x = activated(vload_lanes(src + v * FR_WIDTH, lanes), activation);
            if (t->gain) x = vmul(x, vload_lanes((const real *)t->gain + v * FR_WIDTH, lanes));
            vstore_lanes(dst + v * FR_WIDTH, x, lanes);
        }
    }
}

static void FR_NAME(keep)(const fr_turn *t) {
    switch (t->activation) {
        case FR_RELU: keep_rows(t, FR_RELU); break;
        case FR_TANH: keep_rows(t, FR_TANH); break;
        case FR_SIGMOID: keep_rows(t, FR_SIGMOID); break;
        default: keep_rows(t, FR_NONE);
    }
}

static void FR_NAME(pack_taps)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                               const ptrdiff_t *place) {
    for (ptrdiff_t j = 0; j < k; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(k, j / FR_WIDTH);
        const real *from = (const real *)src + j;
        vec row[FR_WIDTH];
        if (units >= FR_WIDTH && lanes == FR_WIDTH) {
            FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u) {
                row[u] = vload(from + u * src_stride);
                __builtin_prefetch(from + (FR_WIDTH + u) * src_stride, 0, 2);  // of the next units
            }
        } else {
            FR_UNROLL(16) for (int u = 0; u < FR_WIDTH; ++u)
                row[u] = u < units ? vload_lanes(from + u * src_stride, lanes) : vzero();
        }
        transpose(row);
        FR_UNROLL(16) for (int i = 0; i < FR_WIDTH; ++i)
            if (i < lanes && place[j + i] >= 0) vstore((real *)dst + place[j + i], row[i]);
    }
}

static void FR_NAME(add_turned)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                                ptrdiff_t dst_stride) {
    for (ptrdiff_t j = 0; j < columns; j += FR_WIDTH) {
        for (ptrdiff_t i = 0; i < rows; i += FR_WIDTH) {
            const ptrdiff_t width = lanes_left(columns - j, 0), height = lanes_left(rows - i, 0);
            const real *from = (const real *)src + i * src_stride + j;
            real *to = (real *)dst + j * dst_stride + i;
            vec v[FR_WIDTH];
            FR_UNROLL(16) for (int r = 0; r < FR_WIDTH; ++r) v[r] = r < height ? vload_lanes(from + r * src_stride, width) : vzero();
            transpose(v);
            FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c)
                if (c < width) v[c] = vadd(vload_lanes(to + c * dst_stride, height), v[c]);
            FR_UNROLL(16) for (int c = 0; c < FR_WIDTH; ++c)
                if (c < width) vstore_lanes(to + c * dst_stride, v[c], height);
        }
    }
}

FR_INLINE void activation_gradients(ptrdiff_t n, const real *h, const real *dh, real *da, const int activation) {
    const vec one = vset1(1), zero = vzero();
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec y = vload_lanes(h + i, lanes), d = vload_lanes(dh + i, lanes);
        vec a = activation == FR_RELU ? vselect(vle(y, zero), zero, d) : d;
        if (activation == FR_TANH) a = vmul(d, vsub(one, vmul(y, y)));
        if (activation == FR_SIGMOID) a = vmul(vmul(d, y), vsub(one, y));
        vstore_lanes(da + i, a, lanes);
    }
}

static void FR_NAME(activation_gradient)(ptrdiff_t n, const void *h, const void *dh, void *da, int activation) {
    switch (activation) {
        case FR_RELU: activation_gradients(n, h, dh, da, FR_RELU); break;
        case FR_TANH: activation_gradients(n, h, dh, da, FR_TANH); break;
        case FR_SIGMOID: activation_gradients(n, h, dh, da, FR_SIGMOID); break;
        default: activation_gradients(n, h, dh, da, FR_NONE);
    }
}

// Four sums side by side, so that they do not wait for each other.
static void FR_NAME(add_sum)(ptrdiff_t n, const void *x, void *sum) {
    const real *from = x;
    vec s[4];
    FR_UNROLL(4) for (int j = 0; j < 4; ++j) s[j] = vzero();
    ptrdiff_t i = 0;
    for (; i + 4 * FR_WIDTH <= n; i += 4 * FR_WIDTH) {
        FR_UNROLL(4) for (int j = 0; j < 4; ++j) s[j] = vadd(s[j], vload(from + i + j * FR_WIDTH));
    }
    for (; i < n; i += FR_WIDTH) s[0] = vadd(s[0], vload_lanes(from + i, lanes_left(n - i, 0)));
    *(real *)sum += vsum(vadd(vadd(s[0], s[1]), vadd(s[2], s[3])));
}
