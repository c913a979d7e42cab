// header
#pragma once

static const real LOG2E = 1.442695f;
static const real LN2 = 0.6931472f;
static const real LN2_SPLIT[] = {0.69314575f, 1.4286068e-06f};
static const real EXP[] = {1.0f, 1.0f, 0.49999994f, 0.16666521f, 0.04166839f, 0.008368711f, 0.0013814608f};
static const real TANH[] = {1.0f, -0.33331272f, 0.13110669f};

// x * scale rounded to an integer, for |x * scale| < 2^22: adding 1.5 * 2^23 leaves no fraction bits.
FR_INLINE vec vround_product(vec x, real scale) {
    const vec shift = vset1(12582912.0f);
    return vsub(vfma(x, vset1(scale), shift), shift);
}

// x - n ln 2. The first part of ln 2 is short enough for an exact product.
FR_INLINE vec vreduce(vec x, vec n) { return vfnma(n, vset1(LN2_SPLIT[1]), vfnma(n, vset1(LN2_SPLIT[0]), x)); }

// tanh(k r) / r for k = 1 or 1/2 and |k r| <= ln 2 / 4, from u = r^2. The scaled coefficients are exact.
FR_INLINE vec vtanh_ratio(vec u, real k) {
    const vec p = vfma(vset1(TANH[2] * k * k * k * k * k), u, vset1(TANH[1] * k * k * k));
    return vfma(p, u, vset1(TANH[0] * k));
}

// Past the limits the result is infinity (from 88.73) or zero (from -103.98).
FR_INLINE vec vexp(vec x) {
    const vec t = vmax(vset1(-104.0f), vmin(vset1(89.0f), x));
    const vec n = vround_product(t, LOG2E), r = vreduce(t, n);
    vec p = vfma(vset1(EXP[6]), r, vset1(EXP[5]));
    p = vfma(p, r, vset1(EXP[4]));
    p = vfma(p, r, vset1(EXP[3]));
    p = vfma(p, r, vset1(EXP[2]));
    p = vfma(p, r, vset1(EXP[1]));
    p = vfma(p, r, vset1(EXP[0]));
    return vscale2(p, n);
}

// Past the limits the result is 1 (from 17.33) or zero (from -103.98).
FR_INLINE vec vsigmoid(vec x) {
    const vec t = vmax(vset1(-104.0f), vmin(vset1(40.0f), x)), one = vset1(1.0f);
    const vec n = vround_product(t, LOG2E), r = vreduce(t, n);
    const vec p = vtanh_ratio(vmul(r, r), 0.5f);
    const vec a = vscale2(vfma(p, r, one), n);
    return vdiv(a, vadd(a, vfnma(p, r, one)));
}

// Past the limits the result is +-1 (from 9.02). One product with ln 2 / 2 rounded to nearest is enough here: |n| <= 29, and
// where n is large the derivative of tanh is small. The difference as (s + 1) v - (1 - s) keeps the sign of a zero.
FR_INLINE vec vtanh(vec x) {
    const vec t = vmax(vset1(-10.0f), vmin(vset1(10.0f), x)), one = vset1(1.0f);
    const vec n = vround_product(t, 2 * LOG2E), r = vfnma(n, vset1(LN2 / 2), t);
    const vec v = vmul(r, vtanh_ratio(vmul(r, r), 1.0f)), s = vpow2(n), sum = vadd(s, one);
    return vdiv(vfms(sum, v, vsub(one, s)), vfma(vsub(s, one), v, sum));
}
