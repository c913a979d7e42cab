// The one-dimensional transforms of Winograd convolution.
//
// m outputs of a filter of r taps are a polynomial product, found from its values at alpha = m + r - 1 points: 0, h pairs +-q_i,
// and infinity, alpha = 2 h + 2. Point 0 comes first, then the pairs, then infinity; but of 6 points -q_1 is the last one. Without
// it the other five serve an *edge* tile of m - 1 outputs, with the same transformed weights: what f_p lacks then, a factor
// p + q_1, is in the transform of the input.
//   input     t = B^T d              alpha values to alpha points; the same for all m + r - 1 = alpha
//   gather    y = A^T t              alpha points to m outputs
//   spread    t = A y                its transpose: m output gradients to alpha points
//   scaled spread, scaled gather     G g and G^T u, for r taps: G is A for r outputs, point p divided by f_p
// Constants are derived, and checked here, by tools/winograd_points.py.   Winograd 1980; Lavin & Gray 2016.
#pragma once

#include "lanes.h"

enum { WINOGRAD_INPUT, WINOGRAD_GATHER, WINOGRAD_SPREAD, WINOGRAD_SCALED_GATHER, WINOGRAD_SCALED_SPREAD, WINOGRAD_OPS };
enum { WINOGRAD_MOST = 8 };  // points of one axis

// By h - 2. powers[i][j] = q_i^j; zero: the coefficients of x^2k in prod_i (x^2 - q_i^2); pair[i]: the same without factor i;
// scale: 1 / f_p for point 0 and each pair, f_p the product of the differences to all other points. Infinity has 1.
static const double winograd_power[2][3][6] = {
    {{1, 0.66666666666666667, 0.44444444444444444, 0.29629629629629630, 0.19753086419753086, 0.13168724279835391},
     {1, 1.5, 2.25, 3.375, 5.0625, 7.59375},
     {0}},
    {{1, 0.5, 0.25, 0.125, 0.0625, 0.03125}, {1, 1, 1, 1, 1, 1}, {1, 2, 4, 8, 16, 32}},
};
static const double winograd_zero[2][4] = {{1, -2.6944444444444446, 1, 0}, {-1, 5.25, -5.25, 1}};
static const double winograd_pair[2][3][3] = {
    {{-2.25, 1, 0}, {-0.44444444444444444, 1, 0}, {0}},
    {{4, -5, 1}, {1, -4.25, 1}, {0.25, -1.25, 1}},
};
static const double winograd_scale[2][4] = {
    {1, -0.62307692307692308, 0.12307692307692308, 0},
    {-1, 0.71111111111111111, -0.22222222222222222, 0.011111111111111111},
};

// sum_k c[k] * d[2k] over n terms; the last coefficient is 1.
FR_INLINE vec even_polynomial(const double *c, const int n, const vec *d) {
    vec sum = d[2 * (n - 1)];
    FR_UNROLL(4) for (int k = n - 2; k >= 0; --k) sum = vfma(vset1((real)c[k]), d[2 * k], sum);
    return sum;
}

FR_INLINE int infinity_of(const int h) { return h == 2 ? 4 : 2 * h + 1; }
FR_INLINE int minus_of(const int h, const int pair) { return h == 2 && pair == 1 ? 5 : 2 + 2 * pair; }

FR_INLINE void transform_input(const int h, const vec *d, vec *t) {
    t[0] = even_polynomial(winograd_zero[h - 2], h + 1, d);
    t[infinity_of(h)] = even_polynomial(winograd_zero[h - 2], h + 1, d + 1);
    FR_UNROLL(3) for (int i = 0; i < h; ++i) {
        const vec e = even_polynomial(winograd_pair[h - 2][i], h, d + 2), o = even_polynomial(winograd_pair[h - 2][i], h, d + 1);
        const vec q = vset1((real)winograd_power[h - 2][i][1]);
        t[1 + 2 * i] = vfma(q, o, e);
        t[minus_of(h, i)] = vfnma(q, o, e);
    }
}

FR_INLINE void transform_gather(const int h, const int n, const int scaled, const vec *t, vec *y) {
    vec sum[3], difference[3];
    FR_UNROLL(3) for (int i = 0; i < h; ++i) {
        const vec scale = vset1((real)winograd_scale[h - 2][i + 1]);
        sum[i] = vadd(t[1 + 2 * i], t[minus_of(h, i)]);
        difference[i] = vsub(t[1 + 2 * i], t[minus_of(h, i)]);
        if (scaled) sum[i] = vmul(sum[i], scale), difference[i] = vmul(difference[i], scale);
    }
    FR_UNROLL(6) for (int j = 0; j < n; ++j) {
        const vec *s = j % 2 ? difference : sum;
        vec v;
        if (j == 0) v = vadd(scaled ? vfma(vset1((real)winograd_scale[h - 2][0]), t[0], s[0]) : vadd(t[0], s[0]), s[1]);
        else v = vfma(vset1((real)winograd_power[h - 2][0][j]), s[0], vmul(vset1((real)winograd_power[h - 2][1][j]), s[1]));
        if (h == 3) v = vfma(vset1((real)winograd_power[h - 2][2][j]), s[2], v);
        y[j] = j == n - 1 ? vadd(v, t[infinity_of(h)]) : v;
    }
}

FR_INLINE void transform_spread(const int h, const int n, const int scaled, const vec *y, vec *t) {
    t[0] = scaled ? vmul(vset1((real)winograd_scale[h - 2][0]), y[0]) : y[0];
    t[infinity_of(h)] = y[n - 1];
    FR_UNROLL(3) for (int i = 0; i < h; ++i) {
        const double *q = winograd_power[h - 2][i];
        vec e = y[0], o = vmul(vset1((real)q[1]), y[1]);
        FR_UNROLL(4) for (int j = 2; j < n; ++j) {
            if (j % 2) o = vfma(vset1((real)q[j]), y[j], o);
            else e = vfma(vset1((real)q[j]), y[j], e);
        }
        const vec scale = vset1((real)winograd_scale[h - 2][i + 1]);
        t[1 + 2 * i] = scaled ? vmul(scale, vadd(e, o)) : vadd(e, o);
        t[minus_of(h, i)] = scaled ? vmul(scale, vsub(e, o)) : vsub(e, o);
    }
}

// The edge transforms, of 3 outputs and 3 taps or 4 and 2, on 0, +-a, b and infinity: rows (p + b) prod over other finite q of (x - q).
FR_INLINE void transform_edge_input(const vec *d, vec *t) {
    const double a = winograd_power[0][0][1], b = winograd_power[0][1][1];
    const vec va = vset1((real)a), vb = vset1((real)b), a2 = vset1((real)winograd_power[0][0][2]);
    const vec e1 = vfnma(vb, d[0], d[1]), e2 = vfnma(vb, d[1], d[2]), e3 = vfnma(vb, d[2], d[3]), e4 = vfnma(vb, d[3], d[4]);
    t[0] = vmul(vb, vfnma(a2, e1, e3));
    t[1] = vmul(vset1((real)(b + a)), vfma(va, e2, e3));
    t[2] = vmul(vset1((real)(b - a)), vfnma(va, e2, e3));
    t[3] = vmul(vset1((real)(2 * b)), vfnma(a2, d[1], d[3]));
    t[4] = vfnma(a2, e2, e4);
}

// n outputs, 3 or 4.
FR_INLINE void transform_edge_gather(const int n, const vec *t, vec *y) {
    const vec s = vadd(t[1], t[2]), d = vsub(t[1], t[2]);
    y[0] = vadd(vadd(t[0], s), t[3]);
    FR_UNROLL(4) for (int j = 1; j < n; ++j) {
        const vec a = vset1((real)winograd_power[0][0][j]), b = vset1((real)winograd_power[0][1][j]);
        y[j] = vfma(a, j % 2 ? d : s, j == n - 1 ? vfma(b, t[3], t[4]) : vmul(b, t[3]));
    }
}

FR_INLINE void transform_edge_spread(const int n, const vec *y, vec *t) {
    const double *a = winograd_power[0][0], *b = winograd_power[0][1];
    const vec even = vfma(vset1((real)a[2]), y[2], y[0]);
    vec odd = vmul(vset1((real)a[1]), y[1]), all = vfma(vset1((real)b[2]), y[2], vfma(vset1((real)b[1]), y[1], y[0]));
    if (n == 4) odd = vfma(vset1((real)a[3]), y[3], odd), all = vfma(vset1((real)b[3]), y[3], all);
    t[0] = y[0];
    t[1] = vadd(even, odd);
    t[2] = vsub(even, odd);
    t[3] = all;
    t[4] = y[n - 1];
}
