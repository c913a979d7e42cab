// Elementwise activations y = f(x), and what their pullbacks and dropout need: a factor or a mask for each element.
//
// A smooth f leaves its slope f'(x), which shares an exponential with f(x); the gradient is then one product. A piecewise linear
// f has two slopes and leaves a byte that says which.
//
// Largest error of y in ULP on every ISA and in both types, where y and what leads to it are normal numbers; found by sampling
// and rounded up:
//   elu 1.6      silu 3.6      mish 3.9      softplus 4.0      gelu 7.5
// Without fused multiply-adds the far tail of gelu has an error of x^2 / 2 ULP more. The error of its tanh form grows alike with
// the cube of a negative x.
#pragma once

#include "lanes.h"

// c[0] + c[1] x + ... + c[n-1] x^(n-1)
FR_INLINE vec act_polynomial(const real *c, const int n, vec x) {
    vec p = vset1(c[n - 1]);
    FR_UNROLL(32) for (int i = n - 2; i >= 0; --i) p = vfma(p, x, vset1(c[i]));
    return p;
}

#define ACT_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

// e^x - 1 and e^x for x <= 0; NaN for NaN. With x = n ln 2 + r:  e^x - 1 = 2^n (e^r - 1) + (2^n - 1).
FR_INLINE vec act_expm1(vec x, vec *exp) {
    const vec one = vset1(1);
    const vec t = vmax(vset1(sizeof(real) == 4 ? (real)-104 : (real)-746), x);
    const vec n = vround_product(t, LOG2E), scale = vscale2(one, n);
    const vec r = vfnma(n, vset1(LN2_SPLIT[1]), vfnma(n, vset1(LN2_SPLIT[0]), t));
    const vec m = vmul(r, act_polynomial(EXP + 1, ACT_COUNT(EXP) - 1, r));  // e^r - 1
    *exp = vscale2(vadd(one, m), n);
    return vfma(scale, m, vsub(scale, one));
}

// log(1 + u) for 0 <= u <= 1: 2 atanh(u / (2 + u)).
FR_INLINE vec act_log1p(vec u) {
    const vec w = vdiv(u, vadd(u, vset1(2)));
    return vmul(vadd(w, w), act_polynomial(ATANH, ACT_COUNT(ATANH), vmul(w, w)));
}

// The lower tail of the normal distribution at -|x|, and its density.
FR_INLINE vec act_normal_tail(vec x, vec *density) {
    const vec half = vset1((real)0.5), four = vset1(4);
    const vec square = vmul(x, x), lost = vfms(x, x, square);  // x^2 = square + lost
    const vec s = vdiv(four, vadd(four, vabs(x))), e = vexp(vneg(vmul(half, square)));
    const vec exact = vselect(vlt(square, vset1(2000)), vfnma(vmul(half, lost), e, e), e);
    *density = vmul(exact, vset1((real)0.3989422804014327));
    return vmul(exact, vmul(s, act_polynomial(NORMAL, ACT_COUNT(NORMAL), s)));
}

// sigmoid(z) and 1 - sigmoid(z), neither with cancellation, from e^-|z|.
FR_INLINE vec act_sigmoid(vec z, vec u, vec *rest) {
    const vec larger = vdiv(vset1(1), vadd(vset1(1), u)), smaller = vmul(u, larger);
    const vmask up = vle(vzero(), z);
    *rest = vselect(up, smaller, larger);
    return vselect(up, larger, smaller);
}

FR_INLINE vec act_silu(vec x, vec *slope) {
    vec rest;
    const vec sigmoid = act_sigmoid(x, vexp(vneg(vabs(x))), &rest);
    *slope = vfma(vmul(x, sigmoid), rest, sigmoid);
    return vmul(x, sigmoid);
}

// y = x Phi(x), Phi the normal distribution.   Hendrycks & Gimpel 2016, with its approximation:
FR_INLINE vec act_gelu(vec x, vec *slope) {
    vec density;
    const vec tail = act_normal_tail(x, &density);
    const vec p = vselect(vgt(x, vzero()), vsub(vset1(1), tail), tail);
    *slope = vfma(x, density, p);
    return vmul(x, p);
}

//   y = x sigmoid(z), z = 2 sqrt(2 / pi) (x + 0.044715 x^3)
FR_INLINE vec act_gelu_tanh(vec x, vec *slope) {
    const vec k = vset1((real)1.5957691216057308), cubic = vset1((real)0.044715), square = vmul(x, x);
    const vec z = vmul(k, vfma(vmul(cubic, square), x, x));
    vec rest;
    const vec sigmoid = act_sigmoid(z, vexp(vneg(vabs(z))), &rest);
    const vec dz = vmul(k, vfma(vset1((real)0.134145), square, vset1(1)));
    *slope = vfma(vmul(vmul(x, sigmoid), rest), dz, sigmoid);
    return vmul(x, sigmoid);
}

// y = x tanh(log(1 + e^x)).   Misra 2020. With u = e^-|x| the tangent is n / (n + 2 d), all terms positive:
//   x >= 0   n = 1 + 2 u, d = u^2          x < 0   n = u^2 + 2 u, d = 1
FR_INLINE vec act_mish(vec x, vec *slope) {
    const vec one = vset1(1), two = vset1(2), u = vexp(vneg(vabs(x))), square = vmul(u, u);
    const vmask up = vle(vzero(), x);
    const vec n = vselect(up, vfma(two, u, one), vfma(u, u, vadd(u, u)));
    const vec twice = vselect(up, vadd(square, square), two), whole = vadd(n, twice);
    const vec tangent = vdiv(n, whole), rest = vmul(vdiv(twice, whole), vadd(one, tangent));  // 1 - tangent^2
    vec unused;
    *slope = vfma(vmul(x, act_sigmoid(x, u, &unused)), rest, tangent);
    return vmul(x, tangent);
}

// y = log(1 + e^z) / beta, z = beta x; x itself where z is past the threshold.
FR_INLINE vec act_softplus(vec x, vec beta, vec threshold, vec *slope) {
    const vec z = vmul(beta, x), u = vexp(vneg(vabs(z)));
    const vmask past = vgt(z, threshold);
    vec unused;
    *slope = vselect(past, vset1(1), act_sigmoid(z, u, &unused));
    return vselect(past, x, vdiv(vadd(vmax(vzero(), z), act_log1p(u)), beta));
}

// y = scale x for x > 0, else scale alpha (e^x - 1).   Clevert et al. 2016; Klambauer et al. 2017.
FR_INLINE vec act_elu(vec x, vec alpha, vec scale, vec *slope) {
    const vmask up = vgt(x, vzero());
    vec exp;
    const vec m = act_expm1(vmin(vzero(), x), &exp), gain = vmul(scale, alpha);
    *slope = vselect(up, scale, vmul(gain, exp));
    return vselect(up, vmul(scale, x), vmul(gain, m));
}

FR_INLINE vec act_softsign(vec x, vec *slope) {
    const vec below = vadd(vset1(1), vabs(x));
    *slope = vdiv(vset1(1), vmul(below, below));
    return vdiv(x, below);
}

// y = x min(max(x + 3, 0), 6) / 6.   Howard et al. 2019.
FR_INLINE vec act_hardswish(vec x, vec *slope) {
    const vec three = vset1(3), six = vset1(6);
    const vec inside = vadd(vdiv(x, three), vset1((real)0.5));
    *slope = vselect(vle(x, vneg(three)), vzero(), vselect(vle(three, x), vset1(1), inside));
    return vdiv(vmul(x, vmin(six, vmax(vzero(), vadd(x, three)))), six);
}

FR_INLINE vec act_curve(const int kind, vec x, vec a, vec b, vec *slope) {
    vec y = x;
    *slope = vset1(1);
    switch (kind) {
        case FR_ACT_SIGMOID: y = vsigmoid(x), *slope = vmul(y, vsub(vset1(1), y)); break;
        case FR_ACT_TANH: y = vtanh(x), *slope = vfnma(y, y, vset1(1)); break;
        case FR_ACT_SILU: y = act_silu(x, slope); break;
        case FR_ACT_GELU: y = act_gelu(x, slope); break;
        case FR_ACT_GELU_TANH: y = act_gelu_tanh(x, slope); break;
        case FR_ACT_MISH: y = act_mish(x, slope); break;
        case FR_ACT_SOFTPLUS: y = act_softplus(x, a, b, slope); break;
        case FR_ACT_ELU: y = act_elu(x, a, b, slope); break;
        case FR_ACT_SOFTSIGN: y = act_softsign(x, slope); break;
        case FR_ACT_HARDSWISH: y = act_hardswish(x, slope); break;
        default: break;  // pieces of lines
    }
    return y;
}

// For pieces of lines *inside is 1 where the slope is that of the identity (hardsigmoid: of its middle), else 0. Of NaN only relu
// lets the gradient pass, as in PyTorch.
FR_INLINE vec act_pieces(const int kind, vec x, vec a, vec b, vec *inside) {
    const vec one = vset1(1), zero = vzero(), three = vset1(3), six = vset1(6);
    vec y = x;
    *inside = one;
    switch (kind) {
        case FR_ACT_RELU: y = vmax(zero, x), *inside = vselect(vle(x, zero), zero, one); break;
        case FR_ACT_LEAKY_RELU:
            *inside = vselect(vgt(x, zero), one, zero);
            y = vselect(vgt(x, zero), x, vmul(a, x));
            break;
        case FR_ACT_HARDTANH:
            *inside = vselect(vgt(x, a), vselect(vlt(x, b), one, zero), zero);
            y = vmin(b, vmax(a, x));
            break;
        case FR_ACT_HARDSIGMOID:
            *inside = vselect(vlt(vabs(x), three), one, zero);
            y = vdiv(vmin(six, vmax(zero, vadd(x, three))), six);
            break;
        default: break;  // curves
    }
    return y;
}

FR_INLINE void act_step(const fr_activation *s, ptrdiff_t i, ptrdiff_t lanes, const int kind, const int keep) {
    const vec x = vload_lanes((const real *)s->x + i, lanes), a = vset1((real)s->a), b = vset1((real)s->b);
    vec more;
    if (kind < FR_ACT_PIECES) {
        vstore_lanes((real *)s->y + i, act_curve(kind, x, a, b, &more), lanes);
        if (keep) vstore_lanes((real *)s->saved + i, more, lanes);
    } else {
        vstore_lanes((real *)s->y + i, act_pieces(kind, x, a, b, &more), lanes);
        if (keep) vstore_u8((uint8_t *)s->saved + i, more, lanes);
    }
}

FR_INLINE void act_all(const fr_activation *s, const int kind, const int keep) {
    ptrdiff_t i = 0;
    for (; i + FR_WIDTH <= s->n; i += FR_WIDTH) act_step(s, i, FR_WIDTH, kind, keep);
    if (i < s->n) act_step(s, i, s->n - i, kind, keep);
}

FR_INLINE void act_kind(const fr_activation *s, const int kind) {
    if (s->saved) act_all(s, kind, 1);
    else act_all(s, kind, 0);
}

static void FR_NAME(activate)(const fr_activation *s) {
    switch (s->kind) {
        case FR_ACT_SIGMOID: act_kind(s, FR_ACT_SIGMOID); break;
        case FR_ACT_TANH: act_kind(s, FR_ACT_TANH); break;
        case FR_ACT_SILU: act_kind(s, FR_ACT_SILU); break;
        case FR_ACT_GELU: act_kind(s, FR_ACT_GELU); break;
        case FR_ACT_GELU_TANH: act_kind(s, FR_ACT_GELU_TANH); break;
        case FR_ACT_MISH: act_kind(s, FR_ACT_MISH); break;
        case FR_ACT_SOFTPLUS: act_kind(s, FR_ACT_SOFTPLUS); break;
        case FR_ACT_ELU: act_kind(s, FR_ACT_ELU); break;
        case FR_ACT_SOFTSIGN: act_kind(s, FR_ACT_SOFTSIGN); break;
        case FR_ACT_HARDSWISH: act_kind(s, FR_ACT_HARDSWISH); break;
        case FR_ACT_RELU: act_kind(s, FR_ACT_RELU); break;
        case FR_ACT_LEAKY_RELU: act_kind(s, FR_ACT_LEAKY_RELU); break;
        case FR_ACT_HARDTANH: act_kind(s, FR_ACT_HARDTANH); break;
        case FR_ACT_HARDSIGMOID: act_kind(s, FR_ACT_HARDSIGMOID); break;
        default: break;  // there are no others
    }
}

static void FR_NAME(add)(ptrdiff_t n, const void *a, const void *b, void *y) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec left = vload_lanes((const real *)a + i, lanes), right = vload_lanes((const real *)b + i, lanes);
        vstore_lanes((real *)y + i, vadd(left, right), lanes);
    }
}

static void FR_NAME(multiply)(ptrdiff_t n, const void *a, const void *b, void *y) {
    for (ptrdiff_t i = 0; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec left = vload_lanes((const real *)a + i, lanes), right = vload_lanes((const real *)b + i, lanes);
        vstore_lanes((real *)y + i, vmul(left, right), lanes);
    }
}

FR_INLINE void masked_step(const fr_masked *s, ptrdiff_t i, ptrdiff_t lanes, const int clear) {
    const vec x = vload_lanes((const real *)s->x + i, lanes);
    const vmask kept = veq_u8(s->mask + i, 0, lanes, 1);
    const vec out = clear ? vzero() : vmul(x, vset1((real)s->outside));
    vstore_lanes((real *)s->y + i, vselect(kept, vmul(x, vset1((real)s->inside)), out), lanes);
}

FR_INLINE void masked_all(const fr_masked *s, const int clear) {
    ptrdiff_t i = 0;
    for (; i + FR_WIDTH <= s->n; i += FR_WIDTH) masked_step(s, i, FR_WIDTH, clear);
    if (i < s->n) masked_step(s, i, s->n - i, clear);
}

static void FR_NAME(masked_scale)(const fr_masked *s) {
    if (s->clear) masked_all(s, 1);
    else masked_all(s, 0);
}
