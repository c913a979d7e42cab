// Rows of maps on their way into a band of planes, with room around them, and out of the planes that the phases of a transposed
// convolution are computed in.
#pragma once

#include "lanes.h"

// Element i of the result is src[i*step], i < n <= W.
FR_INLINE vec load_every(const real *src, ptrdiff_t step, ptrdiff_t n) {
    if (step == 1) return vload_lanes(src, n);
    if (step == 2) {
        const ptrdiff_t reals = 2 * n - 1;  // nothing past the last of them is read
        return vunzip_even(vload_n(src, lanes_left(reals, 0)), vload_n(src + FR_WIDTH, lanes_left(reals, 1)));
    }
    real every[FR_WIDTH] = {0};
    for (ptrdiff_t i = 0; i < n; ++i) every[i] = src[i * step];
    return vload(every);
}

FR_INLINE real *zero_reals(real *to, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) vstore_lanes(to + j, vzero(), lanes_left(n - j, 0));
    return to + n;
}

// `over`: whole vectors are written, past the end of the row.
FR_INLINE void pad_row(const fr_pad *p, const real *src, real *to, const int over) {
    to = zero_reals(to, p->before);
    for (ptrdiff_t j = 0; j < p->columns; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(p->columns - j, 0);
        vstore_lanes(to + j, load_every(src + j * p->step, p->step, lanes), over ? FR_WIDTH : lanes);
    }
    zero_reals(to + p->columns, p->width - p->before - p->columns);
}

// What a vector holds past its row is overwritten by the next row, if that is long enough.
static void FR_NAME(pad_plane)(const fr_pad *p) {
    const real *src = p->src;
    real *to = zero_reals(p->dst, p->above * p->width);
    const int over = p->width >= FR_WIDTH;
    for (ptrdiff_t r = 1; r < p->rows; ++r, src += p->src_stride, to += p->width) pad_row(p, src, to, over);
    if (p->rows) pad_row(p, src, to, 0), to += p->width;
    zero_reals(to, p->below * p->width);
}

// Past the caches, as FR_PAST_BYTES says. Waiting for such stores after each piece costs a fifth of the time: a call without any does.
static void FR_NAME(copy_past)(ptrdiff_t n, const void *src, void *dst) {
    const real *from = src;
    real *to = dst;
    for (ptrdiff_t i = 0, lanes = lanes_first(to, n, 1); i < n; i += lanes, lanes = lanes_left(n - i, 0))
        vstore_past(to + i, vload_lanes(from + i, lanes), lanes, 1);
    if (n == 0) vstream_end();
}

FR_INLINE void weave_two(ptrdiff_t columns, const real *even, const real *odd, real *to) {
    for (ptrdiff_t j = 0; j < columns; j += 2 * FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(columns - j, 0), more = lanes_left(columns - j, 1);
        const vec a = vload_n(even + j / 2, (lanes + more + 1) / 2), b = vload_n(odd + j / 2, (lanes + more) / 2);
        vstore_lanes(to + j, vzip_lo(a, b), lanes);
        vstore_lanes(to + j + FR_WIDTH, vzip_hi(a, b), more);
    }
}

static void FR_NAME(weave)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t phases, const void *src, ptrdiff_t src_stride,
                           ptrdiff_t part, void *dst, ptrdiff_t dst_stride) {
    for (ptrdiff_t r = 0; r < rows; ++r) {
        const real *from = (const real *)src + r * src_stride;
        real *to = (real *)dst + r * dst_stride;
        if (phases == 2) {
            weave_two(columns, from, from + part, to);
            continue;
        }
        for (ptrdiff_t phase = 0; phase < phases; ++phase)
            for (ptrdiff_t j = phase, i = phase * part; j < columns; j += phases, ++i) to[j] = from[i];
    }
}
