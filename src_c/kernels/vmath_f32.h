// exp, sigmoid and tanh of a vector of floats. Include after a vocabulary header of the same type.
//
//   exp      2^n EXP(r)                                    x = n ln 2 + r,      |r| <= ln 2 / 2
//   sigmoid  s (1 + v) / (s (1 + v) + (1 - v))             x = n ln 2 + r,      v = tanh(r / 2),  s = 2^n
//   tanh     ((s + 1) v + s - 1) / ((s - 1) v + s + 1)     x = n ln 2 / 2 + r,  v = tanh(r),      s = 2^n
//
// sigmoid is e^x / (e^x + 1) with e^r = (1 + v) / (1 - v); tanh is its addition theorem, tanh(n ln 2 / 2) being
// (s - 1) / (s + 1). So both need tanh only for |v| < 0.18, and nothing cancels: for n = 0 tanh is v itself.
//
// Largest error in ULP, found over all 2^32 inputs and rounded up:
//            avx2, avx512, neon   scalar
//   exp      0.91                 1.18
//   sigmoid  2.51                 2.58
//   tanh     2.59                 2.77
// The fused ISAs agree bit for bit; scalar rounds each product before its sum. The bounds hold at every magnitude, down
// to gradual underflow. exp(0) = 1; tanh is odd, keeps -0 and denormals; sigmoid and tanh reach 1, never more.
// Infinities give their limits, NaN gives NaN.
//
// Constants: tools/fit_math.py, which also checks that they stand here. LN2_SPLIT is ln 2 in two parts, the first so
// short that n times it is exact. EXP is exp(r) in powers of r, relative error 3.9e-9; TANH is tanh(r) / r in powers
// of r^2 for |r| <= ln 2 / 4, relative error 5.6e-8. ATANH and
// NORMAL serve activation.h: atanh(w) / w in powers of w^2 for |w| <= 1/3, relative error 5.3e-10; the upper tail of the
// normal distribution times exp(x^2 / 2) (4 + x) / 4 in powers of 4 / (4 + x) for x >= 0, relative error 2.8e-8.
#pragma once

#include "quotient.h"

static const real LOG2E = 1.442695f;
static const real LN2 = 0.6931472f;
static const real LN2_SPLIT[] = {0.69314575f, 1.4286068e-06f};
static const real EXP[] = {1.0f, 1.0f, 0.49999994f, 0.16666521f, 0.04166839f, 0.008368711f, 0.0013814608f};
static const real TANH[] = {1.0f, -0.33331272f, 0.13110669f};
static const real ATANH[] = {1.0f, 0.33333337f, 0.19999444f, 0.143083f, 0.10715353f, 0.1214485f};
static const real NORMAL[] = {0.09974633f,  0.09952146f,  0.09528789f,  0.07301262f,  0.08385183f,
                              0.017733488f, 0.022612493f, 0.055878192f, -0.06453659f, 0.016892292f};

// x * scale rounded to an integer, for |x * scale| < 2^22: adding 1.5 * 2^23 leaves no fraction bits.
FR_INLINE vec vround_product(vec x, real scale) {
    const vec shift = vset1(12582912.0f);
    return vsub(vfma(x, vset1(scale), shift), shift);
}

// x - n ln 2. The first part of ln 2 is short enough for an exact product.
FR_INLINE vec vreduce(vec x, vec n) {
    return vfnma(n, vset1(LN2_SPLIT[1]), vfnma(n, vset1(LN2_SPLIT[0]), x));
}

// tanh(k r) / r for k = 1 or 1/2 and |k r| <= ln 2 / 4, from u = r^2. The scaled coefficients are exact.
FR_INLINE vec vtanh_ratio(vec u, real k) {
    const vec p = vfma(vset1(TANH[2] * k * k * k * k * k), u, vset1(TANH[1] * k * k * k));
    return vfma(p, u, vset1(TANH[0] * k));
}

// At the limits the result is already infinity (from 88.73 on) or zero (from -103.98 on).
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

// At the limits the result is already 1 (from 17.33 on) or zero (from -103.98 on).
FR_INLINE quotient sigmoid_quotient(vec x) {
    const vec t = vmax(vset1(-104.0f), vmin(vset1(40.0f), x)), one = vset1(1.0f);
    const vec n = vround_product(t, LOG2E), r = vreduce(t, n);
    const vec p = vtanh_ratio(vmul(r, r), 0.5f);
    const vec a = vscale2(vfma(p, r, one), n);
    return (quotient){a, vadd(a, vfnma(p, r, one))};
}

// At the limits the result is already +-1 (from 8.50 on). One product with ln 2 / 2 rounded to nearest is enough:
// |n| <= 29, and where n is large the derivative of tanh is small. (s + 1) v - (1 - s) keeps the sign of a zero.
FR_INLINE quotient tanh_quotient(vec x) {
    const vec t = vmax(vset1(-10.0f), vmin(vset1(10.0f), x)), one = vset1(1.0f);
    const vec n = vround_product(t, 2 * LOG2E), r = vfnma(n, vset1(LN2 / 2), t);
    const vec v = vmul(r, vtanh_ratio(vmul(r, r), 1.0f)), s = vpow2(n), sum = vadd(s, one);
    return (quotient){vfms(sum, v, vsub(one, s)), vfma(vsub(s, one), v, sum)};
}

FR_INLINE vec vsigmoid(vec x) { return vquotient(sigmoid_quotient(x)); }
FR_INLINE vec vtanh(vec x) { return vquotient(tanh_quotient(x)); }
