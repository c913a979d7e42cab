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
    if (step == 3) {
        const ptrdiff_t reals = 3 * n - 2;
        return vunzip_third(vload_n(src, lanes_left(reals, 0)), vload_n(src + FR_WIDTH, lanes_left(reals, 1)),
                            vload_n(src + 2 * FR_WIDTH, lanes_left(reals, 2)));
    }
    real every[FR_WIDTH] = {0};
    for (ptrdiff_t i = 0; i < n; ++i) every[i] = src[i * step];
    return vload(every);
}

// The same of a whole vector, where more of the row follows.
FR_INLINE vec load_whole_every(const real *src, ptrdiff_t step) {
    if (step == 2) return vunzip_even(vload(src), vload(src + FR_WIDTH));
    if (step == 3) return vunzip_third(vload(src), vload(src + FR_WIDTH), vload(src + 2 * FR_WIDTH));
    return load_every(src, step, FR_WIDTH);
}

FR_INLINE real *zero_reals(real *to, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) vstore_lanes(to + j, vzero(), lanes_left(n - j, 0));
    return to + n;
}

FR_INLINE void copy_reals(ptrdiff_t n, const real *from, real *to) {
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        vstore_lanes(to + j, vload_lanes(from + j, lanes), lanes);
    }
}

// One row and what lies between it and the next.
FR_INLINE void pad_row(const real *src, ptrdiff_t columns, const ptrdiff_t step, real *to, ptrdiff_t gap) {
    ptrdiff_t j = 0;
    for (; j + FR_WIDTH < columns; j += FR_WIDTH) vstore(to + j, load_whole_every(src + j * step, step));
    if (j < columns) {
        const ptrdiff_t lanes = lanes_left(columns - j, 0);
        vstore_lanes(to + j, load_every(src + j * step, step, lanes), lanes);
    }
    zero_reals(to + columns, gap);
}

// The same in whole vectors, read and written past all of that: the next rows follow.
FR_INLINE void pad_row_over(const real *src, ptrdiff_t columns, const ptrdiff_t step, real *to, ptrdiff_t gap) {
    for (ptrdiff_t j = 0; j < columns; j += FR_WIDTH) vstore(to + j, load_whole_every(src + j * step, step));
    for (ptrdiff_t j = 0; j < gap; j += FR_WIDTH) vstore(to + columns + j, vzero());
}

FR_INLINE void pad_rows(const fr_pad *p, real *to, const real *end, const ptrdiff_t step) {
    const ptrdiff_t columns = p->columns, gap = p->width - columns, width = p->width, src_stride = p->src_stride;
    const real *src = p->src;
    ptrdiff_t follow = p->rows - 1;
    for (; follow * src_stride >= step * FR_WIDTH && end - to >= width + FR_WIDTH;
         --follow, src += src_stride, to += width)
        pad_row_over(src, columns, step, to, gap);
    for (; follow > 0; --follow, src += src_stride, to += width) pad_row(src, columns, step, to, gap);
    pad_row(src, columns, step, to, gap - p->before);
}

static void FR_NAME(pad_plane)(const fr_pad *p) {
    const real *end = (const real *)p->dst + (p->above + p->rows + p->below) * p->width;
    real *to = zero_reals(p->dst, p->above * p->width);
    if (p->rows) {
        to = zero_reals(to, p->before);
        if (p->step == 1) pad_rows(p, to, end, 1);
        else if (p->step == 2) pad_rows(p, to, end, 2);
        else if (p->step == 3) pad_rows(p, to, end, 3);
        else pad_rows(p, to, end, p->step);
        to += p->rows * p->width - p->before;
    }
    zero_reals(to, p->below * p->width);
}

// Past the caches, as FR_PAST_BYTES says; what follows in memory is asked for, since it often is what comes next. Waiting for such
// stores after each piece costs a fifth of the time: a call without any does.
static void FR_NAME(copy_past)(ptrdiff_t n, const void *src, void *dst) {
    const real *from = src;
    real *to = dst;
    for (ptrdiff_t i = 0, lanes = lanes_first(to, n, 1); i < n; i += lanes, lanes = lanes_left(n - i, 0)) {
        lanes_fetch(from + n + i);
        vstore_past(to + i, vload_lanes(from + i, lanes), lanes, 1);
    }
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

// Four or eight phases: those half of all phases apart are zipped, until one row is left.
FR_INLINE void weave_powers(ptrdiff_t columns, const int phases, const real *from, ptrdiff_t part, real *to) {
    const ptrdiff_t whole = columns / (phases * FR_WIDTH) * FR_WIDTH;
    for (ptrdiff_t i = 0; i < whole; i += FR_WIDTH, to += phases * FR_WIDTH) {
        vec a[8], b[8];
    FR_UNROLL(8) for (int p = 0; p < phases; ++p) a[p] = vload(from + p * part + i);
        FR_UNROLL(3) for (int left = phases; left > 1; left /= 2) {
            FR_UNROLL(4) for (int k = 0; k < phases / 2; ++k) {
                b[2 * k] = vzip_lo(a[k], a[k + phases / 2]);
                b[2 * k + 1] = vzip_hi(a[k], a[k + phases / 2]);
            }
            FR_UNROLL(8) for (int k = 0; k < phases; ++k) a[k] = b[k];
        }
        FR_UNROLL(8) for (int p = 0; p < phases; ++p) vstore(to + p * FR_WIDTH, a[p]);
    }
    for (ptrdiff_t j = whole * phases, k = 0; j < columns; ++j, ++k) to[k] = from[k % phases * part + whole + k / phases];
}

// The compiler makes vectors of this where it knows the number of phases.
FR_INLINE void weave_few(ptrdiff_t columns, const ptrdiff_t phases, const real *restrict from, ptrdiff_t part, real *restrict to) {
    const ptrdiff_t whole = columns / phases;
    for (ptrdiff_t i = 0; i < whole; ++i)
        for (ptrdiff_t phase = 0; phase < phases; ++phase) to[i * phases + phase] = from[phase * part + i];
    for (ptrdiff_t j = whole * phases; j < columns; ++j) to[j] = from[j % phases * part + whole];
}

static void FR_NAME(weave)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t phases, const void *src, ptrdiff_t src_stride,
                           ptrdiff_t part, void *dst, ptrdiff_t dst_stride) {
    for (ptrdiff_t r = 0; r < rows; ++r) {
        const real *from = (const real *)src + r * src_stride;
        real *to = (real *)dst + r * dst_stride;
        switch (phases) {
            case 1: copy_reals(columns, from, to); break;
            case 2: weave_two(columns, from, from + part, to); break;
            case 3: weave_few(columns, 3, from, part, to); break;
            case 4: weave_powers(columns, 4, from, part, to); break;
            case 8: weave_powers(columns, 8, from, part, to); break;
            default: weave_few(columns, phases, from, part, to);
        }
    }
}

FR_INLINE void spread_row(ptrdiff_t columns, ptrdiff_t step, const real *from, real *to) {
    if (step == 2) {
        const vec zero = vzero();
        for (ptrdiff_t j = 0; j < columns; j += 2 * FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(columns - j, 0), more = lanes_left(columns - j, 1);
            const vec a = vload_n(from + j / 2, (lanes + more + 1) / 2);
            vstore_lanes(to + j, vzip_lo(a, zero), lanes);
            vstore_lanes(to + j + FR_WIDTH, vzip_hi(a, zero), more);
        }
        return;
    }
    if (step > 1) zero_reals(to, columns);
    for (ptrdiff_t j = 0, i = 0; j < columns; j += step, ++i) to[j] = from[i];
}

static void FR_NAME(spread)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_step, ptrdiff_t step, const void *src,
                            ptrdiff_t src_stride, void *dst) {
    for (ptrdiff_t r = 0; r < rows; ++r) {
        real *to = (real *)dst + r * columns;
        if (r % row_step) zero_reals(to, columns);
        else spread_row(columns, step, (const real *)src + r / row_step * src_stride, to);
    }
}

static void FR_NAME(clear_around)(const fr_frame *f) {
    for (ptrdiff_t p = 0; p < f->planes; ++p) {
        real *plane = (real *)f->data + p * f->plane_stride;
        const ptrdiff_t first = f->row * f->width + f->column, gap = f->width - f->columns;
        if (f->inside == 0 || f->columns == 0) {
            zero_reals(plane, f->rows * f->width);
            continue;
        }
        zero_reals(plane, first);
        for (ptrdiff_t r = 1; r < f->inside; ++r) zero_reals(plane + first + r * f->width - gap, gap);
        const ptrdiff_t end = first + (f->inside - 1) * f->width + f->columns;
        zero_reals(plane + end, f->rows * f->width - end);
    }
}

static void FR_NAME(sum_phases)(ptrdiff_t n, ptrdiff_t phases, const void *src, void *dst) {
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        const real *from = (const real *)src + j * phases;
        vec sum = load_every(from, phases, lanes);
        for (ptrdiff_t phase = 1; phase < phases; ++phase) sum = vadd(sum, load_every(from + phase, phases, lanes));
        vstore_lanes((real *)dst + j, sum, lanes);
    }
}
