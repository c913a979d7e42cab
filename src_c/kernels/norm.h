// Normalisation, passes over memory: moments and the normalised values, and for the gradient two sums and dx.
//
// Moments. About a shift m near the mean, with d = x - m summed over n elements,
//   mean = m + sum d / n        M2 = sum (x - mean)^2 = sum d^2 - (sum d)^2 / n
// block by block, in float64 between blocks, where the shift is the mean so far. Two blocks a and b of na and nb elements join as
//   M2 = M2a + M2b + (mean_b - mean_a)^2 na nb / (na + nb)             Chan, Golub & LeVeque 1983
// A shift that is off by t adds n t^2 to sum d^2, but means that differ so much have at least na nb / (na + nb) t^2 in M2 too. So
// the relative error of the variance grows by n / na at most: NORM_BLOCK / NORM_GUESS = 16 in the first block, 2 in later ones,
// whatever the size of the mean.
//
// (x - center) * scale + rest, with center the mean rounded to a real and rest = (center - mean) * scale, loses nothing of it
// either: x - center is exact where x is near.
#pragma once

#include <math.h>

#include "lanes.h"

enum { NORM_BLOCK = 4096, NORM_GUESS = 256 };  // elements
enum { NORM_FETCHED = 8192 };                  // elements of a row that is fetched ahead
enum { NORM_ROWS = 64 };                       // rows of a column that are summed as reals
enum { NORM_COLUMNS = 1024 };                  // columns whose factors stay in the first-level cache

typedef struct norm_moments {
    double count, mean, squares;
} norm_moments;

FR_INLINE ptrdiff_t norm_least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

FR_INLINE vec norm_load(const real *x, ptrdiff_t lanes, vec missing) {
    return lanes == FR_WIDTH ? vload(x) : vload_between(x, 0, lanes, missing);
}

// The sums of x - shift and of its square over stretches of one block.
FR_INLINE void norm_block(const real *x, ptrdiff_t pieces, ptrdiff_t length, ptrdiff_t stride, real shift,
                             double sums[2]) {
    const vec m = vset1(shift);
    vec a[4] = {vzero(), vzero(), vzero(), vzero()}, b[4] = {vzero(), vzero(), vzero(), vzero()};
    for (ptrdiff_t p = 0; p < pieces; ++p, x += stride) {
        ptrdiff_t i = 0;
        for (; i + 4 * FR_WIDTH <= length; i += 4 * FR_WIDTH) {
    FR_UNROLL(4)
            for (int j = 0; j < 4; ++j) {
                const vec d = vsub(vload(x + i + j * FR_WIDTH), m);
                a[j] = vadd(a[j], d);
                b[j] = vfma(d, d, b[j]);
            }
        }
        for (; i < length; i += FR_WIDTH) {
            const vec d = vsub(norm_load(x + i, lanes_left(length - i, 0), m), m);
            a[0] = vadd(a[0], d);
            b[0] = vfma(d, d, b[0]);
        }
    }
    sums[0] = (double)vsum(vadd(vadd(a[0], a[1]), vadd(a[2], a[3])));
    sums[1] = (double)vsum(vadd(vadd(b[0], b[1]), vadd(b[2], b[3])));
}

// The mean of at most NORM_GUESS of the first elements, roughly.
FR_INLINE real norm_guess(const real *x, ptrdiff_t pieces, ptrdiff_t length, ptrdiff_t stride) {
    const ptrdiff_t some = norm_least(length, NORM_GUESS), count = norm_least(pieces, NORM_GUESS / some);
    vec sum = vzero();
    for (ptrdiff_t p = 0; p < count; ++p) {
        for (ptrdiff_t i = 0; i < some; i += FR_WIDTH)
            sum = vadd(sum, vload_lanes(x + p * stride + i, lanes_left(some - i, 0)));
    }
    return vsum(sum) / (real)(some * count);
}

FR_INLINE void norm_join(norm_moments *all, double count, double mean, double squares) {
    if (squares < 0) squares = 0;  // a rounding
    const double total = all->count + count, t = mean - all->mean;
    if (all->count == 0) {
        *all = (norm_moments){count, mean, squares};
    } else {
        all->squares += squares + t * t * (all->count * count / total);
        all->mean += t * (count / total);
        all->count = total;
    }
}

FR_INLINE norm_moments norm_measure(const real *x, ptrdiff_t pieces, ptrdiff_t length, ptrdiff_t stride) {
    norm_moments all = {0, 0, 0};
    if (pieces == 0 || length == 0) return all;
    real shift = norm_guess(x, pieces, length, stride);
    const ptrdiff_t together = length < NORM_BLOCK ? NORM_BLOCK / length : 1;
    for (ptrdiff_t p = 0; p < pieces; p += together) {
        const ptrdiff_t some = norm_least(together, pieces - p);
        for (ptrdiff_t i = 0; i < length; i += NORM_BLOCK) {
            const ptrdiff_t part = norm_least(NORM_BLOCK, length - i);
            const double n = (double)(some * part);
            double sums[2];
            norm_block(x + p * stride + i, some, part, stride, shift, sums);
            norm_join(&all, n, (double)shift + sums[0] / n, sums[1] - sums[0] * sums[0] / n);
            shift = (real)all.mean;
        }
    }
    return all;
}

static void FR_NAME(norm_moments)(const fr_norm *s) {
    const norm_moments all = norm_measure(s->x, s->pieces, s->length, s->stride);
    *s->first = all.mean;
    *s->second = all.squares;
}

FR_INLINE void norm_one_map(const fr_norm *s, ptrdiff_t p, const int keep, const int past) {
    const ptrdiff_t at = p * s->step, n = s->length;
    const vec center = vbroadcast((const real *)s->center + at), rest = vbroadcast(s->rest);
    const vec scale = vbroadcast((const real *)s->scale + at);
    const vec weight = vbroadcast((const real *)s->weight + at), bias = vbroadcast((const real *)s->bias + at);
    const real *x = (const real *)s->x + p * s->stride;
    real *y = (real *)s->y + p * s->stride, *xhat = keep ? (real *)s->xhat + p * s->stride : NULL;
    for (ptrdiff_t i = 0, lanes = lanes_first(y, n, past); i < n; i += past ? lanes : FR_WIDTH, lanes = lanes_left(n - i, 0)) {
        const vec h = vfma(vsub(vload_lanes(x + i, lanes), center), scale, rest);
        vstore_past(y + i, vfma(h, weight, bias), lanes, past);
        if (keep) vstore_past(xhat + i, h, lanes, past);
    }
}

FR_INLINE void norm_maps(const fr_norm *s, const int keep, const int past) {
    for (ptrdiff_t p = 0; p < s->pieces; ++p) norm_one_map(s, p, keep, past);
    if (past) vstream_end();
}

static void FR_NAME(norm_map)(const fr_norm *s) {
    if (s->xhat) s->past ? norm_maps(s, 1, 1) : norm_maps(s, 1, 0);
    else s->past ? norm_maps(s, 0, 1) : norm_maps(s, 0, 0);
}

// The sums of g = w dy and of g xhat over one stretch, w NULL: 1.
FR_INLINE void norm_products(const real *dy, const real *xhat, const real *w, ptrdiff_t length, double sums[2]) {
    for (ptrdiff_t begin = 0; begin < length; begin += NORM_BLOCK) {
        const ptrdiff_t end = norm_least(length, begin + NORM_BLOCK);
        vec a[4] = {vzero(), vzero(), vzero(), vzero()}, b[4] = {vzero(), vzero(), vzero(), vzero()};
        ptrdiff_t i = begin;
        for (; i + 4 * FR_WIDTH <= end; i += 4 * FR_WIDTH) {
            FR_UNROLL(4)
            for (int j = 0; j < 4; ++j) {
                const ptrdiff_t at = i + j * FR_WIDTH;
                const vec g = w ? vmul(vload(dy + at), vload(w + at)) : vload(dy + at);
                a[j] = vadd(a[j], g);
                b[j] = vfma(g, vload(xhat + at), b[j]);
            }
        }
        for (; i < end; i += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(end - i, 0);
            const vec v = vload_lanes(dy + i, lanes), g = w ? vmul(v, vload_lanes(w + i, lanes)) : v;
            a[0] = vadd(a[0], g);
            b[0] = vfma(g, vload_lanes(xhat + i, lanes), b[0]);
        }
        sums[0] += (double)vsum(vadd(vadd(a[0], a[1]), vadd(a[2], a[3])));
        sums[1] += (double)vsum(vadd(vadd(b[0], b[1]), vadd(b[2], b[3])));
    }
}

static void FR_NAME(norm_map_sums)(const fr_norm *s) {
    double sums[2] = {0, 0};
    for (ptrdiff_t p = 0; p < s->pieces; ++p)
        norm_products((const real *)s->dy + p * s->stride, (const real *)s->x + p * s->stride, NULL, s->length, sums);
    *s->first = sums[0];
    *s->second = sums[1];
}

static void FR_NAME(norm_map_pull)(const fr_norm *s) {
    const vec scale = vbroadcast(s->scale), slope = vbroadcast(s->weight), start = vbroadcast(s->bias);
    for (ptrdiff_t p = 0; p < s->pieces; ++p) {
        const real *dy = (const real *)s->dy + p * s->stride, *xhat = (const real *)s->x + p * s->stride;
        real *dx = (real *)s->y + p * s->stride;
        for (ptrdiff_t i = 0; i < s->length; i += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(s->length - i, 0);
            const vec h = vfma(vload_lanes(xhat + i, lanes), slope, start);
            vstore_lanes(dx + i, vfma(vload_lanes(dy + i, lanes), scale, h), lanes);
        }
    }
}

// How far ahead rows of large arrays are fetched while those before them are written, when memory is idle otherwise: so many rows, unless
// these fill much of the second-level cache.
FR_INLINE ptrdiff_t norm_ahead(const fr_norm *s, ptrdiff_t rows) { return s->length <= NORM_FETCHED ? rows * s->stride : 0; }

FR_INLINE void norm_one_row(const fr_norm *s, ptrdiff_t r, const int keep, const int past) {
    const real *w = s->weight, *b = s->bias, *x = (const real *)s->x + r * s->stride;
    real *y = (real *)s->y + r * s->stride, *xhat = keep ? (real *)s->xhat + r * s->stride : NULL;
    const ptrdiff_t n = s->length, ahead = norm_ahead(s, 2);
    const norm_moments all = norm_measure(x, 1, n, 0);
    const real mean = (real)all.mean, factor = (real)(1 / sqrt(all.squares / all.count + s->eps));
    const vec center = vset1(mean), scale = vset1(factor);
    const vec rest = vset1((real)(((double)mean - all.mean) * (double)factor));
    for (ptrdiff_t i = 0, lanes = lanes_first(y, n, past); i < n; i += past ? lanes : FR_WIDTH, lanes = lanes_left(n - i, 0)) {
        if (past) lanes_fetch(x + ahead + i);
        const vec h = vfma(vsub(vload_lanes(x + i, lanes), center), scale, rest);
        vstore_past(y + i, vfma(h, vload_lanes(w + i, lanes), vload_lanes(b + i, lanes)), lanes, past);
        if (keep) vstore_past(xhat + i, h, lanes, past);
    }
    if (keep) ((real *)s->scale)[r] = factor;
}

FR_INLINE void norm_all_rows(const fr_norm *s, const int keep, const int past) {
    for (ptrdiff_t r = 0; r < s->pieces; ++r) norm_one_row(s, r, keep, past);
    if (past) vstream_end();
}

static void FR_NAME(norm_rows)(const fr_norm *s) {
    if (s->xhat) s->past ? norm_all_rows(s, 1, 1) : norm_all_rows(s, 1, 0);
    else s->past ? norm_all_rows(s, 0, 1) : norm_all_rows(s, 0, 0);
}

// dx of some rows from `row` on, and their shares of the gradients of weight and bias, added in order of the rows.
FR_INLINE void norm_pull_rows(const fr_norm *s, ptrdiff_t row, const int rows, const int past) {
    const ptrdiff_t ahead = norm_ahead(s, rows);
    const real *dy = (const real *)s->dy + row * s->stride, *xhat = (const real *)s->x + row * s->stride;
    const real *w = s->weight;
    real *dx = (real *)s->y + row * s->stride, *dweight = s->dweight, *dbias = s->dbias;
    vec scale[4], slope[4], start[4];
    for (int r = 0; r < rows; ++r) {
        double sums[2] = {0, 0};
        norm_products(dy + r * s->stride, xhat + r * s->stride, w, s->length, sums);
        const real factor = ((const real *)s->scale)[row + r];
        scale[r] = vset1(factor);
        start[r] = vset1((real)(-(double)factor * sums[0] / (double)s->length));
        slope[r] = vset1((real)(-(double)factor * sums[1] / (double)s->length));
    }
    for (ptrdiff_t i = 0; i < s->length; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->length - i, 0);
        const vec weight = vload_lanes(w + i, lanes);
        vec dw = vload_lanes(dweight + i, lanes), db = vload_lanes(dbias + i, lanes);
        FR_UNROLL(4)
        for (int r = 0; r < rows; ++r) {
            const ptrdiff_t next = ahead + r * s->stride + i;
            if (past) lanes_fetch(dy + next), lanes_fetch(xhat + next);
            const vec g = vload_lanes(dy + r * s->stride + i, lanes), h = vload_lanes(xhat + r * s->stride + i, lanes);
            dw = vfma(g, h, dw);
            db = vadd(db, g);
            vstore_lanes(dx + r * s->stride + i, vfma(vmul(g, weight), scale[r], vfma(h, slope[r], start[r])), lanes);
        }
        vstore_lanes(dweight + i, dw, lanes);
        vstore_lanes(dbias + i, db, lanes);
    }
}

FR_INLINE void norm_pull_all_rows(const fr_norm *s, const int past) {
    ptrdiff_t row = 0;
    for (; row + 4 <= s->pieces; row += 4) norm_pull_rows(s, row, 4, past);
    for (; row < s->pieces; ++row) norm_pull_rows(s, row, 1, past);
}

static void FR_NAME(norm_rows_pull)(const fr_norm *s) {
    if (s->past) norm_pull_all_rows(s, 1);
    else norm_pull_all_rows(s, 0);
}

// Adds some rows, at most 4, to two sums of reals for each column. Forward: x - shift and its square. Backward: dy and dy xhat.
FR_INLINE void norm_add_rows(const fr_norm *s, ptrdiff_t row, const int rows, const int backward, real *sums) {
    const real *x = (const real *)s->x + row * s->stride;
    const real *dy = backward ? (const real *)s->dy + row * s->stride : NULL, *shift = s->center;
    for (ptrdiff_t i = 0; i < s->length; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->length - i, 0);
        const vec m = backward ? vzero() : vload_lanes(shift + i, lanes);
        vec a = vload_lanes(sums + i, lanes), b = vload_lanes(sums + s->length + i, lanes);
        FR_UNROLL(4)
        for (int r = 0; r < rows; ++r) {
            const vec v = vload_lanes(x + r * s->stride + i, lanes);
            const vec d = backward ? vload_lanes(dy + r * s->stride + i, lanes) : vsub(v, m);
            a = vadd(a, d);
            b = vfma(d, backward ? v : d, b);
        }
        vstore_lanes(sums + i, a, lanes);
        vstore_lanes(sums + s->length + i, b, lanes);
    }
}

FR_INLINE void norm_flush(ptrdiff_t n, real *restrict sums, double *restrict total) {
    for (ptrdiff_t i = 0; i < n; ++i) total[i] += (double)sums[i], sums[i] = 0;
}

// Sums of the columns, as reals over NORM_ROWS rows, then as doubles. The buffer holds shifts and two sums for each column.
FR_INLINE void norm_all_columns(const fr_norm *s, const int backward) {
    real *sums = (real *)s->center + s->length;
    for (ptrdiff_t c = 0; c < s->length; ++c) s->first[c] = s->second[c] = sums[c] = sums[s->length + c] = 0;
    for (ptrdiff_t row = 0; row < s->pieces;) {
        const ptrdiff_t end = norm_least(s->pieces, row + NORM_ROWS);
        for (; row + 4 <= end; row += 4) norm_add_rows(s, row, 4, backward, sums);
        for (; row < end; ++row) norm_add_rows(s, row, 1, backward, sums);
        norm_flush(s->length, sums, s->first);
        norm_flush(s->length, sums + s->length, s->second);
    }
}

// A column's shift is the mean of its first rows.
static void FR_NAME(norm_columns_moments)(const fr_norm *s) {
    enum { FIRST = 16 };
    const ptrdiff_t rows = norm_least(s->pieces, FIRST);
    const double n = (double)s->pieces;
    real *shift = s->center;
    for (ptrdiff_t i = 0; i < s->length; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->length - i, 0);
        vec sum = vzero();
        for (ptrdiff_t r = 0; r < rows; ++r)
            sum = vadd(sum, vload_lanes((const real *)s->x + r * s->stride + i, lanes));
        vstore_lanes(shift + i, vdiv(sum, vset1((real)rows)), lanes);
    }
    norm_all_columns(s, 0);
    for (ptrdiff_t c = 0; c < s->length; ++c) {
        const double sum = s->first[c], squares = s->second[c] - sum * sum / n;
        s->first[c] = (double)shift[c] + sum / n;
        s->second[c] = squares < 0 ? 0 : squares;
    }
}

static void FR_NAME(norm_columns_sums)(const fr_norm *s) { norm_all_columns(s, 1); }

static void FR_NAME(norm_columns)(const fr_norm *s) {
    for (ptrdiff_t c = 0; c < s->length; c += NORM_COLUMNS) {
        const ptrdiff_t end = norm_least(s->length, c + NORM_COLUMNS);
        for (ptrdiff_t r = 0; r < s->pieces; ++r) {
            const real *x = (const real *)s->x + r * s->stride;
            real *y = (real *)s->y + r * s->stride, *xhat = s->xhat ? (real *)s->xhat + r * s->stride : NULL;
            for (ptrdiff_t i = c; i < end; i += FR_WIDTH) {
                const ptrdiff_t n = lanes_left(end - i, 0);
                const vec d = vsub(vload_lanes(x + i, n), vload_lanes((const real *)s->center + i, n));
                const vec rest = vload_lanes((const real *)s->rest + i, n);
                const vec h = vfma(d, vload_lanes((const real *)s->scale + i, n), rest);
                const vec bias = vload_lanes((const real *)s->bias + i, n);
                vstore_lanes(y + i, vfma(h, vload_lanes((const real *)s->weight + i, n), bias), n);
                if (xhat) vstore_lanes(xhat + i, h, n);
            }
        }
    }
}

static void FR_NAME(norm_columns_pull)(const fr_norm *s) {
    for (ptrdiff_t c = 0; c < s->length; c += NORM_COLUMNS) {
        const ptrdiff_t end = norm_least(s->length, c + NORM_COLUMNS);
        for (ptrdiff_t r = 0; r < s->pieces; ++r) {
            const real *dy = (const real *)s->dy + r * s->stride, *xhat = (const real *)s->x + r * s->stride;
            real *dx = (real *)s->y + r * s->stride;
            for (ptrdiff_t i = c; i < end; i += FR_WIDTH) {
                const ptrdiff_t n = lanes_left(end - i, 0);
                const vec slope = vload_lanes((const real *)s->weight + i, n);
                const vec h = vfma(vload_lanes(xhat + i, n), slope, vload_lanes((const real *)s->bias + i, n));
                vstore_lanes(dx + i, vfma(vload_lanes(dy + i, n), vload_lanes((const real *)s->scale + i, n), h), n);
            }
        }
    }
}
