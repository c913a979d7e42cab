// exp, sigmoid and tanh of a vector of doubles; the vocabulary header comes first. TODO_ULP
#pragma once

static const real LOG2E = 1.4426950408889634;
static const real LN2[] = {0.6931471805598903, 5.497923018708371e-14};
static const real EXPM1[] = {1.0, 0.5000000000000006, 0.16666666666666588, 0.04166666666657674, 0.008333333333389665, 0.0013888888931568827, 0.00019841269718779333, 2.480150526926418e-05, 2.7557407729259834e-06, 2.76260396183198e-07, 2.5053721060075168e-08};

// n and exp(r) - 1
FR_INLINE vec vexpm1_reduced(vec x, vec *n) {
    const vec shift = vset1(6755399441055744.0);
    *n = vsub(vfma(x, vset1(LOG2E), shift), shift);
    const vec r = vfnma(*n, vset1(LN2[1]), vfnma(*n, vset1(LN2[0]), x)), r2 = vmul(r, r);
    vec even = vfma(vset1(EXPM1[9]), r2, vset1(EXPM1[7]));
    vec odd = vfma(vset1(EXPM1[10]), r2, vset1(EXPM1[8]));
    even = vfma(even, r2, vset1(EXPM1[5]));
    odd = vfma(odd, r2, vset1(EXPM1[6]));
    even = vfma(even, r2, vset1(EXPM1[3]));
    odd = vfma(odd, r2, vset1(EXPM1[4]));
    even = vfma(even, r2, vset1(EXPM1[1]));
    odd = vfma(odd, r2, vset1(EXPM1[2]));
    return vfma(vfma(odd, r, even), r2, r);
}

FR_INLINE vec vexp_reduced(vec x) {
    vec n;
    const vec m = vexpm1_reduced(x, &n);
    return vscale2(vadd(m, vset1(1.0)), n);
}

FR_INLINE vec vexp(vec x) { return vexp_reduced(vmax(vset1(-746.0), vmin(vset1(710.0), x))); }

FR_INLINE vec vsigmoid(vec x) {
    const vec e = vexp_reduced(vmax(vset1(-746.0), vmin(vset1(40.0), x)));
    return vdiv(e, vadd(vset1(1.0), e));
}

FR_INLINE vec vtanh(vec x) {
    vec n;
    const vec t = vmin(vset1(40.0), vabs(vadd(x, x)));
    const vec m = vexpm1_reduced(t, &n);
    const vec s = vscale2(vset1(1.0), n);
    const vec e = vfma(s, m, vsub(s, vset1(1.0)));
    return vcopysign(vdiv(e, vadd(e, vset1(2.0))), x);
}
