// Softmax with cross entropy, fused, one row at a time. With M the row's maximum, S = sum_j exp(x_j - M), and the target
// distribution q_j = w_j ((1-e) [j = target] + e/V) of sum Q, for weights w and smoothing e:
//   loss = Q log S - sum_j q_j (x_j - M)      dx_j = scale (Q exp(x_j - M) / S - q_j)
#pragma once

#include <math.h>

#include "lanes.h"

// The maximum; NaN if any element is NaN (a comparison with NaN never replaces it).
FR_INLINE real row_max(const real *x, ptrdiff_t n) {
    vec best = vset1(-(real)INFINITY);
    vec nans = vzero();
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec v = vload_lanes(x + i, lanes);
        if (lanes < FR_WIDTH) {
            for (ptrdiff_t j = i; j < n; ++j) best = vmax(best, vset1(x[j]));
        } else {
            best = vmax(best, v);
        }
        nans = vselect(visnan(v), v, nans);
    }
    const real poison = vsum(nans);
    return poison != poison ? poison : vmax_lane(best);
}

// y = exp(x - shift), and the sum of y.
FR_INLINE real row_exp(const real *x, real *y, ptrdiff_t n, real shift) {
    const vec m = vset1(shift);
    vec sum = vzero();
    ptrdiff_t i = 0;
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) {
        const vec e = vexp(vsub(vload(x + i), m));
        vstore(y + i, e);
        sum = vadd(sum, e);
    }
    real total = vsum(sum);
    if (i < n) {
        vstore_n(y + i, vexp(vsub(vload_n(x + i, n - i), m)), n - i);
        for (; i < n; ++i) total += y[i];
    }
    return total;
}

FR_INLINE void row_scale(real *y, ptrdiff_t n, real factor) {
    const vec f = vset1(factor);
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        vstore_lanes(y + i, vmul(vload_lanes(y + i, lanes), f), lanes);
    }
}

// dx_j -= factor w_j; returns the sum of w_j (x_j - shift). w NULL: ones.
FR_INLINE double row_smooth(const real *x, const real *w, real *dx, ptrdiff_t n, real shift, real factor) {
    const vec m = vset1(shift), f = vset1(factor), one = vset1(1);
    vec sum = vzero();
    ptrdiff_t i = 0;
    for (; i + FR_WIDTH <= n; i += FR_WIDTH) {
        const vec q = w ? vload(w + i) : one;
        vstore(dx + i, vfnma(f, q, vload(dx + i)));
        sum = vfma(q, vsub(vload(x + i), m), sum);
    }
    double total = (double)vsum(sum);
    for (; i < n; ++i) {
        const real q = w ? w[i] : 1;
        dx[i] -= factor * q;
        total += (double)q * ((double)x[i] - (double)shift);
    }
    return total;
}

static void FR_NAME(cross_entropy)(const fr_cross_entropy *s) {
    const real *weight = s->weight;
    const double soft = s->smoothing / (double)s->classes;
    for (ptrdiff_t r = 0; r < s->rows; ++r) {
        const real *x = (const real *)s->logits + r * s->classes;
        real *dx = (real *)s->dlogits + r * s->classes;
        const ptrdiff_t target = s->targets[r];
        if (target < 0) {
            for (ptrdiff_t j = 0; j < s->classes; ++j) dx[j] = 0;
            s->losses[r] = 0;
            continue;
        }
        const double hard = (1 - s->smoothing) * (weight ? (double)weight[target] : 1), all = hard + soft * s->total;
        const real shift = row_max(x, s->classes), sum = row_exp(x, dx, s->classes, shift);
        row_scale(dx, s->classes, (real)(s->scale * all / (double)sum));
        s->losses[r] = all * log((double)sum) - hard * ((double)x[target] - (double)shift);
        if (soft != 0) s->losses[r] -= soft * row_smooth(x, weight, dx, s->classes, shift, (real)(s->scale * soft));
        dx[target] -= (real)(s->scale * hard);
    }
}

static double FR_NAME(softmax_row)(ptrdiff_t n, const void *x, void *y) {
    const real shift = row_max(x, n), sum = row_exp(x, y, n, shift);
    row_scale(y, n, (real)(1 / (double)sum));
    return (double)shift + log((double)sum);
}
