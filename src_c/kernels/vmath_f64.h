// exp, sigmoid and tanh of a vector of doubles. Include after a vocabulary header of the same type.
//
//   exp      2^n EXP(r)                                    x = n ln 2 + r,      |r| <= ln 2 / 2
//   sigmoid  s (1 + v) / (s (1 + v) + (1 - v))             x = n ln 2 + r,      v = tanh(r / 2),  s = 2^n
//   tanh     ((s + 1) v + s - 1) / ((s - 1) v + s + 1)     x = n ln 2 / 2 + r,  v = tanh(r),      s = 2^n
//
// sigmoid is e^x / (e^x + 1) with e^r = (1 + v) / (1 - v); tanh is its addition theorem, tanh(n ln 2 / 2) being
// (s - 1) / (s + 1). So both need tanh only for |v| < 0.18, and nothing cancels: for n = 0 tanh is v itself.
//
// Largest error in ULP. Some 70 million samples, evenly over fourteen ranges and over all bit patterns, show 0.96, 2.47
// and 2.52 (scalar 1.24, 2.47, 2.55); the bounds leave room for what they missed:
//            avx2, avx512, neon   scalar
//   exp      1.1                  1.5
//   sigmoid  2.8                  2.8
//   tanh     2.8                  3.0
// The fused ISAs agree bit for bit; scalar rounds each product before its sum. The bounds hold at every magnitude, down
// to gradual underflow. exp(0) = 1; tanh is odd, keeps -0 and denormals; sigmoid and tanh reach 1, never more.
// Infinities give their limits, NaN gives NaN.
//
// Constants: tools/fit_math.py, which also checks that they stand here. LN2_SPLIT is ln 2 in two parts, the first so
// short that n times it is exact. EXP is exp(r) in powers of r, relative error 1.1e-17; TANH is tanh(r) / r in powers
// of r^2 for |r| <= ln 2 / 4, relative error 4.7e-18. ATANH and
// NORMAL serve activation.h: atanh(w) / w in powers of w^2 for |w| <= 1/3, relative error 2.1e-18; the upper tail of the
// normal distribution times exp(x^2 / 2) (4 + x) / 4 in powers of 4 / (4 + x) for x >= 0, relative error 3.0e-17.
#pragma once

#include "quotient.h"

static const real LOG2E = 1.4426950408889634;
static const real LN2_SPLIT[] = {0.6931471805598903, 5.497923018708371e-14};
static const real EXP[] = {1.0,
                           1.0,
                           0.5000000000000011,
                           0.16666666666666413,
                           0.04166666666653024,
                           0.00833333333349434,
                           0.0013888888943604102,
                           0.0001984126950682304,
                           2.4801493129277726e-05,
                           2.755758621991583e-06,
                           2.7630236464178607e-07,
                           2.500008967072887e-08};
static const real TANH[] = {1.0,
                            -0.3333333333333249,
                            0.13333333332784233,
                            -0.05396825278285271,
                            0.021869370777124565,
                            -0.008857310858948912,
                            0.003444863566516998};
static const real ATANH[] = {1.0,
                             0.33333333333333337,
                             0.1999999999999703,
                             0.14285714286248788,
                             0.1111111106320157,
                             0.09090911581401276,
                             0.0769222649966825,
                             0.06668393838147475,
                             0.058580740954369034,
                             0.05485617139121814,
                             0.03499659907680392,
                             0.08229652105480252};
static const real NORMAL[] = {0.09973557010274724,  0.09973556992249635,   0.093502103053507,    0.08103502355078036,
                              0.0635053282019836,   0.043225735161840154,  0.023549413101842286, 0.006272633711781462,
                              0.001290352303923915, -0.023002142222454783, 0.043608382757002156, -0.11308753660963092,
                              0.19955883031416832,  -0.23971456911461428,  0.15948619063572378,  0.08567459817045495,
                              -0.37765231122607973, 0.502774357031225,     -0.4003693991596768,  0.20808550792090832,
                              -0.06983161146902103, 0.01386304941740424,   -0.001245075556311579};

// x * scale rounded to an integer, for |x * scale| < 2^51: adding 1.5 * 2^52 leaves no fraction bits.
FR_INLINE vec vround_product(vec x, real scale) {
    const vec shift = vset1(6755399441055744.0);
    return vsub(vfma(x, vset1(scale), shift), shift);
}

// x - n k ln 2 for k = 1 or 1/2. The first part of ln 2 is short enough for an exact product.
FR_INLINE vec vreduce(vec x, vec n, real k) {
    return vfnma(n, vset1(LN2_SPLIT[1] * k), vfnma(n, vset1(LN2_SPLIT[0] * k), x));
}

// tanh(k r) / r for k = 1 or 1/2 and |k r| <= ln 2 / 4, from u = r^2. The scaled coefficients are exact.
FR_INLINE vec vtanh_ratio(vec u, real k) {
    const real k2 = k * k, k4 = k2 * k2, k8 = k4 * k4;
    vec p = vfma(vset1(TANH[6] * k8 * k4 * k), u, vset1(TANH[5] * k8 * k2 * k));
    p = vfma(p, u, vset1(TANH[4] * k8 * k));
    p = vfma(p, u, vset1(TANH[3] * k4 * k2 * k));
    p = vfma(p, u, vset1(TANH[2] * k4 * k));
    p = vfma(p, u, vset1(TANH[1] * k2 * k));
    return vfma(p, u, vset1(TANH[0] * k));
}

// At the limits the result is already infinity (from 709.79 on) or zero (from -745.14 on).
// The even and the odd powers are summed apart: two shorter chains of dependent operations.
FR_INLINE vec vexp(vec x) {
    const vec t = vmax(vset1(-746.0), vmin(vset1(710.0), x));
    const vec n = vround_product(t, LOG2E), r = vreduce(t, n, 1.0), u = vmul(r, r);
    vec even = vfma(vset1(EXP[10]), u, vset1(EXP[8])), odd = vfma(vset1(EXP[11]), u, vset1(EXP[9]));
    even = vfma(even, u, vset1(EXP[6]));
    odd = vfma(odd, u, vset1(EXP[7]));
    even = vfma(even, u, vset1(EXP[4]));
    odd = vfma(odd, u, vset1(EXP[5]));
    even = vfma(even, u, vset1(EXP[2]));
    odd = vfma(odd, u, vset1(EXP[3]));
    const vec above = vfma(vfma(odd, r, even), r, vset1(EXP[1]));
    return vscale2(vfma(above, r, vset1(EXP[0])), n);
}

// At the limits the result is already 1 (from 37.43 on) or zero (from -745.14 on).
FR_INLINE quotient sigmoid_quotient(vec x) {
    const vec t = vmax(vset1(-746.0), vmin(vset1(40.0), x)), one = vset1(1.0);
    const vec n = vround_product(t, LOG2E), r = vreduce(t, n, 1.0);
    const vec p = vtanh_ratio(vmul(r, r), 0.5);
    const vec a = vscale2(vfma(p, r, one), n);
    return (quotient){a, vadd(a, vfnma(p, r, one))};
}

// At the limits the result is already +-1 (from 18.55 on). (s + 1) v - (1 - s) keeps the sign of a zero.
FR_INLINE quotient tanh_quotient(vec x) {
    const vec t = vmax(vset1(-20.0), vmin(vset1(20.0), x)), one = vset1(1.0);
    const vec n = vround_product(t, 2 * LOG2E), r = vreduce(t, n, 0.5);
    const vec v = vmul(r, vtanh_ratio(vmul(r, r), 1.0)), s = vpow2(n), sum = vadd(s, one);
    return (quotient){vfms(sum, v, vsub(one, s)), vfma(vsub(s, one), v, sum)};
}

FR_INLINE vec vsigmoid(vec x) { return vquotient(sigmoid_quotient(x)); }
FR_INLINE vec vtanh(vec x) { return vquotient(tanh_quotient(x)); }
