// exp, sigmoid and tanh of a vector of floats; the vocabulary header comes first.
// All three take every float; NaN gives NaN. TODO_ULP
#pragma once

static const real LOG2E = 1.442695f;
static const real LN2[] = {0.69314575f, 1.4286068e-06f};
static const real EXP[] = {1.0f, 1.0f, 0.49999994f, 0.16666521f, 0.04166839f, 0.008368717f, 0.0013814592f};
static const real TANH_P[] = {1.0f, 0.1338327f, 0.003498151f, 2.0647289e-05f, 1.3400301e-08f};
static const real TANH_Q[] = {1.0f, 0.46716592f, 0.025886994f, 0.00032896537f, 7.7967746e-07f};
static const real TANH_MAX = 9.533389f;

FR_INLINE vec vexp_reduced(vec x) {
    const vec shift = vset1(12582912.0f);
    const vec n = vsub(vfma(x, vset1(LOG2E), shift), shift);
    const vec r = vfnma(n, vset1(LN2[1]), vfnma(n, vset1(LN2[0]), x));
    vec p = vfma(vset1(EXP[6]), r, vset1(EXP[5]));
    p = vfma(p, r, vset1(EXP[4]));
    p = vfma(p, r, vset1(EXP[3]));
    p = vfma(p, r, vset1(EXP[2]));
    p = vfma(p, r, vset1(EXP[1]));
    p = vfma(p, r, vset1(EXP[0]));
    return vscale2(p, n);
}

FR_INLINE vec vexp(vec x) { return vexp_reduced(vmax(vset1(-104.0f), vmin(vset1(89.0f), x))); }

FR_INLINE vec vsigmoid(vec x) {
    const vec e = vexp_reduced(vmax(vset1(-104.0f), vmin(vset1(40.0f), x)));
    return vdiv(e, vadd(vset1(1.0f), e));
}

FR_INLINE vec vtanh(vec x) {
    const vec limit = vset1(TANH_MAX), one = vset1(1.0f);
    const vec t = vmax(vneg(limit), vmin(limit, x)), u = vmul(t, t);
    vec p = vfma(vset1(TANH_P[4]), u, vset1(TANH_P[3]));
    vec q = vfma(vset1(TANH_Q[4]), u, vset1(TANH_Q[3]));
    p = vfma(p, u, vset1(TANH_P[2]));
    q = vfma(q, u, vset1(TANH_Q[2]));
    p = vfma(p, u, vset1(TANH_P[1]));
    q = vfma(q, u, vset1(TANH_Q[1]));
    p = vfma(p, u, vset1(TANH_P[0]));
    q = vfma(q, u, vset1(TANH_Q[0]));
    return vmax(vneg(one), vmin(one, vdiv(vmul(t, p), q)));
}
