// Softmax and its logarithm over rows, one row at a time: it stays in cache between the passes over it. With M the row's maximum:
//   e_j = exp(x_j - M)      S = sum_j e_j      softmax: e_j / S      log-softmax: (x_j - M) - log S
// A NaN in a row makes the whole row NaN through S, whatever M is then. Sums run over four vectors of partial sums, the same for
// a row in any company.
#pragma once

#include <math.h>
#include <string.h>

#include "lanes.h"

enum { SMR_SUMS = 4 };
enum {
    SMR_AHEAD = 1024
};  // elements from an exponential to what is fetched meanwhile, at least; longer rows fetch the next one

FR_INLINE real smr_max(const real *x, ptrdiff_t n) {
    const vec least = vset1(-(real)INFINITY);
    vec best[SMR_SUMS] = {least, least, least, least};
    ptrdiff_t i = 0;
    for (; i + SMR_SUMS * FR_WIDTH <= n; i += SMR_SUMS * FR_WIDTH) FR_UNROLL(4) for (int j = 0; j < SMR_SUMS; ++j) best[j] = vmax(best[j], vload(x + i + j * FR_WIDTH));
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) best[0] = vmax(best[0], vload(x + i));
    if (i < n) best[1] = vmax(best[1], vload_between(x + i, 0, n - i, least));
    return vmax_lane(vmax(vmax(best[0], best[1]), vmax(best[2], best[3])));
}

// Lanes past the end hold exp(-inf) = 0, or NaN where the whole row is NaN.
FR_INLINE vec smr_exp_step(const real *x, real *e, ptrdiff_t lanes, vec shift) {
    const vec least = vset1(-(real)INFINITY);
    const vec y = vexp(vsub(lanes == FR_WIDTH ? vload(x) : vload_between(x, 0, lanes, least), shift));
    if (e) vstore_lanes(e, y, lanes);
    return y;
}

// The sum of exp(x - shift), which go to e unless it is NULL.
FR_INLINE real smr_exp(const real *x, real *e, ptrdiff_t n, real shift) {
    const vec m = vset1(shift);
    vec sum[SMR_SUMS] = {vzero(), vzero(), vzero(), vzero()};
    ptrdiff_t i = 0;
    const ptrdiff_t ahead = n < SMR_AHEAD ? SMR_AHEAD : n;
    for (; i + SMR_SUMS * FR_WIDTH <= n; i += SMR_SUMS * FR_WIDTH) {
        FR_UNROLL(4) for (int j = 0; j < SMR_SUMS; ++j) {
            const ptrdiff_t at = i + j * FR_WIDTH;
            lanes_fetch(x + ahead + at);
            sum[j] = vadd(sum[j], smr_exp_step(x + at, e ? e + at : e, FR_WIDTH, m));
        }
    }
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) sum[0] = vadd(sum[0], smr_exp_step(x + i, e ? e + i : e, FR_WIDTH, m));
    if (i < n) sum[1] = vadd(sum[1], smr_exp_step(x + i, e ? e + i : e, n - i, m));
    return vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));
}

FR_INLINE void smr_scale(real *y, ptrdiff_t n, real factor) {
    const vec f = vset1(factor);
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(y + i, vmul(vload_lanes(y + i, lanes), f), lanes);
    }
}

FR_INLINE void smr_subtract(const real *x, real *y, ptrdiff_t n, real first, real second) {
    const vec a = vset1(first), b = vset1(second);
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(y + i, vsub(vsub(vload_lanes(x + i, lanes), a), b), lanes);
    }
}

FR_INLINE void smr_row(const real *x, real *y, real *p, ptrdiff_t n, real shift, const int log_form) {
    if (!log_form) {
        real *e = p ? p : y;
        const real sum = smr_exp(x, e, n, shift);
        smr_scale(e, n, 1 / sum);
        if (p) memcpy(y, p, (size_t)n * sizeof(real));  // a loop that writes both at once is a third slower
    } else if (p) {
        const real sum = smr_exp(x, p, n, shift);
        smr_scale(p, n, 1 / sum);
        smr_subtract(x, y, n, shift, (real)log((double)sum));
    } else {
        smr_subtract(x, y, n, shift, (real)log((double)smr_exp(x, NULL, n, shift)));
    }
}

// The same bits, past the caches: what is stored there cannot be scaled later, but exponentials cost less than memory.
FR_INLINE void smr_row_past(const real *x, real *y, real *p, ptrdiff_t n, real shift, const int log_form) {
    const real sum = smr_exp(x, NULL, n, shift);
    const vec m = vset1(shift), factor = vset1(1 / sum), less = vset1(log_form ? (real)log((double)sum) : 0);
    for (ptrdiff_t i = 0, lanes = lanes_first(y, n, 1); i < n; i += lanes, lanes = lanes_left(n - i, 0)) {
        const vec d = vsub(vload_lanes(x + i, lanes), m);
        if (p || !log_form) {
            const vec q = vmul(vexp(d), factor);
            if (p) vstore_past(p + i, q, lanes, 1);
            if (!log_form) vstore_past(y + i, q, lanes, 1);
        }
        if (log_form) vstore_past(y + i, vsub(d, less), lanes, 1);
    }
}

FR_INLINE void smr_all(const fr_softmax *s, const int log_form, const int past) {
    const ptrdiff_t n = s->columns;
    for (ptrdiff_t r = 0; r < s->rows; ++r) {
        const real *x = (const real *)s->x + r * n, shift = smr_max(x, n);
        real *y = (real *)s->y + r * n, *p = s->p ? (real *)s->p + r * n : NULL;
        if (past) smr_row_past(x, y, p, n, shift, log_form);
        else smr_row(x, y, p, n, shift, log_form);
    }
    if (past) vstream_end();
}

static void FR_NAME(softmax)(const fr_softmax *s) {
    if (s->past) s->log ? smr_all(s, 1, 1) : smr_all(s, 0, 1);
    else s->log ? smr_all(s, 1, 0) : smr_all(s, 0, 0);
}

// The sum of dy, weighted by p unless the softmax was a logarithm.
FR_INLINE real smr_dot(const real *p, const real *dy, ptrdiff_t n, const int weighted) {
    vec sum[SMR_SUMS] = {vzero(), vzero(), vzero(), vzero()};
    ptrdiff_t i = 0;
    for (; i + SMR_SUMS * FR_WIDTH <= n; i += SMR_SUMS * FR_WIDTH) {
        FR_UNROLL(4) for (int j = 0; j < SMR_SUMS; ++j) {
            const vec d = vload(dy + i + j * FR_WIDTH);
            sum[j] = weighted ? vfma(vload(p + i + j * FR_WIDTH), d, sum[j]) : vadd(sum[j], d);
        }
    }
    for (; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec d = vload_lanes(dy + i, lanes);
        sum[0] = weighted ? vfma(vload_lanes(p + i, lanes), d, sum[0]) : vadd(sum[0], d);
    }
    return vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));
}

//   softmax   dx_j = p_j (dy_j - sum_k p_k dy_k)      log-softmax   dx_j = dy_j - p_j sum_k dy_k
FR_INLINE void smr_backward(const fr_softmax *s, const int weighted) {
    const ptrdiff_t n = s->columns;
    for (ptrdiff_t r = 0; r < s->rows; ++r) {
        const real *p = (const real *)s->p + r * n, *dy = (const real *)s->x + r * n;
        real *dx = (real *)s->y + r * n;
        const vec sum = vset1(smr_dot(p, dy, n, weighted));
        for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
            const ptrdiff_t lanes = lanes_left(n - i, 0);
            const vec q = vload_lanes(p + i, lanes), d = vload_lanes(dy + i, lanes);
            vstore_lanes(dx + i, weighted ? vmul(q, vsub(d, sum)) : vfnma(q, sum, d), lanes);
        }
    }
}

static void FR_NAME(softmax_backward)(const fr_softmax *s) {
    if (s->log) smr_backward(s, 0);
    else smr_backward(s, 1);
}
