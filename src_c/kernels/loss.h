// Losses of one element at a time and their slopes, in one pass. With d = x - target, l the limit, w the weight (1 without):
//   square    d^2                                                slope 2 d
//   absolute  |d|                                                slope sign(d)
//   huber     c (d - c / 2), c = d limited to -l..l              slope c                  Huber 1964
//   smooth    s (d - s l / 2), s = d / l limited to -1..1        slope s                  Girshick 2015
//   binary    -w (t log x + (1 - t) log(1 - x))                  slope w (x - t) / (x (1 - x))
//   logits    w (v t softplus(-x) + (1 - t) softplus(x))         slope w ((1 - t) p - v t (1 - p)),  p = sigmoid(x)
// In `binary` no logarithm counts as less than -100 and no denominator as less than 1e-12, as in PyTorch.
#pragma once

#include "activation.h"

enum { LOSS_PIECE = 256 };  // elements that are summed as reals: at most 64 terms of one lane; divides FR_CHUNK

// The logarithm of x > 0, with x = 2^n m and sqrt(1/2) < m <= sqrt(2):  log x = n ln 2 + 2 atanh((m - 1) / (m + 1)).
// Largest error 2.6 ULP on every ISA, found by sampling and rounded up. NaN for NaN; for other x any value.
FR_INLINE vec loss_log(vec x) {
    const int narrow = sizeof(real) == 4, shift = narrow ? 24 : 54;
    const vmask small = vlt(x, vset1(narrow ? (real)1.17549435e-38 : (real)2.2250738585072014e-308));
    const vec scaled = vselect(small, vscale2(x, vset1((real)shift)), x), exponent = vexponent(scaled);
    const vec whole = vscale2(scaled, vneg(exponent)), one = vset1(1);  // 1..2
    const vmask upper = vgt(whole, vset1((real)1.4142135623730951));
    const vec m = vselect(upper, vmul(whole, vset1((real)0.5)), whole);
    const vec more = vselect(upper, one, vzero()), less = vselect(small, vset1((real)shift), vzero());
    const vec n = vsub(vadd(exponent, more), less);
    const vec w = vdiv(vsub(m, one), vadd(m, one));
    const vec tail = vmul(vadd(w, w), act_polynomial(ATANH, ACT_COUNT(ATANH), vmul(w, w)));
    return vfma(n, vset1(LN2_SPLIT[0]), vfma(n, vset1(LN2_SPLIT[1]), tail));
}

// log(1 - x) for 0 <= x < 1, with the same error: -2 atanh(x / (2 - x)) below one half, from where on 1 - x is exact.
FR_INLINE vec loss_log_rest(vec x) {
    const vec w = vdiv(x, vsub(vset1(2), x));
    const vec near_zero = vmul(vadd(w, w), act_polynomial(ATANH, ACT_COUNT(ATANH), vmul(w, w)));
    return vselect(vlt(x, vset1((real)0.5)), vneg(near_zero), loss_log(vsub(vset1(1), x)));
}

FR_INLINE vec loss_at_least(vec logarithm, vmask nothing) {
    const vec least = vset1(-100);
    return vselect(nothing, least, vmax(least, logarithm));
}

FR_INLINE vec loss_binary(vec x, vec t, vec *slope) {
    const vec one = vset1(1), rest = vsub(one, x);
    const vec first = loss_at_least(loss_log(x), vle(x, vzero()));
    const vec second = loss_at_least(loss_log_rest(x), vle(one, x));
    *slope = vdiv(vsub(x, t), vmax(vset1((real)1e-12), vmul(x, rest)));
    return vneg(vfma(t, first, vmul(vsub(one, t), second)));
}

// positive: v t, of the positive target.
FR_INLINE vec loss_logits(vec x, vec t, vec positive, vec *slope) {
    const vec u = vexp(vneg(vabs(x))), tail = act_log1p(u), negative = vsub(vset1(1), t);
    vec rest;
    const vec p = act_sigmoid(x, u, &rest);
    *slope = vsub(vmul(negative, p), vmul(positive, rest));
    const vec of_positive = vmul(positive, vadd(vmax(vzero(), vneg(x)), tail));
    return vfma(negative, vadd(vmax(vzero(), x), tail), of_positive);
}

FR_INLINE vec loss_sign(vec d) { return vselect(vgt(d, vzero()), vset1(1), vselect(vlt(d, vzero()), vset1(-1), d)); }

FR_INLINE vec loss_one(const int kind, vec x, vec t, vec positive, vec limit, vec *slope) {
    const vec d = vsub(x, t), half = vset1((real)0.5), one = vset1(1);
    vec y = d;
    *slope = d;
    switch (kind) {
        case FR_LOSS_SQUARE:
            y = vmul(d, d), *slope = vadd(d, d);
            break;
        case FR_LOSS_ABSOLUTE:
            y = vabs(d), *slope = loss_sign(d);
            break;
        case FR_LOSS_HUBER:
            *slope = vmax(vneg(limit), vmin(limit, d));
            y = vmul(*slope, vfnma(half, *slope, d));
            break;
        case FR_LOSS_SMOOTH:
            *slope = vmax(vneg(one), vmin(one, vdiv(d, limit)));
            y = vmul(*slope, vfnma(vmul(half, limit), *slope, d));
            break;
        case FR_LOSS_BINARY:
            y = loss_binary(x, t, slope);
            break;
        case FR_LOSS_LOGITS:
            y = loss_logits(x, t, positive, slope);
            break;
        default:
            break;  // there are no others
    }
    return y;
}

// The losses of up to one vector of elements from i on, zero in lanes past them; counts x outside 0..1 of `binary`.
FR_INLINE vec loss_step(const fr_loss *s, ptrdiff_t i, ptrdiff_t lanes, const int kind, const int weighted,
                           int *outside) {
    const vec x = vload_lanes((const real *)s->x + i, lanes), t = vload_lanes((const real *)s->target + i, lanes);
    vec slope, positive = t;
    if (s->positive) positive = vmul(vload_lanes((const real *)s->positive + i, lanes), t);
    vec y = loss_one(kind, x, t, positive, vset1((real)s->limit), &slope);
    if (kind == FR_LOSS_BINARY) *outside |= vany(vor(vlt(x, vzero()), vgt(x, vset1(1))));
    if (weighted) {
        const vec w = vload_lanes((const real *)s->weight + i, lanes);
        y = vmul(w, y), slope = vmul(w, slope);
    }
    vstore_lanes((real *)s->dx + i, vmul(slope, vset1((real)s->scale)), lanes);
    if (s->losses) vstore_lanes((real *)s->losses + i, y, lanes);
    if (lanes == FR_WIDTH) return y;
    real part[FR_WIDTH] = {0};
    vstore_n(part, y, lanes);
    return vload(part);
}

FR_INLINE int loss_all(const fr_loss *s, const int kind, const int weighted) {
    int outside = 0;
    for (ptrdiff_t begin = 0; begin < s->n; begin += LOSS_PIECE) {
        const ptrdiff_t end = s->n - begin < LOSS_PIECE ? s->n : begin + LOSS_PIECE;
        vec sum = vzero();
        ptrdiff_t i = begin;
        for (; i + FR_WIDTH <= end; i += FR_WIDTH) sum = vadd(sum, loss_step(s, i, FR_WIDTH, kind, weighted, &outside));
        if (i < end) sum = vadd(sum, loss_step(s, i, end - i, kind, weighted, &outside));
        double *total = &s->sums[begin / FR_CHUNK];
        *total = (begin % FR_CHUNK ? *total : 0) + (double)vsum(sum);
    }
    return outside;
}

FR_INLINE int loss_kind(const fr_loss *s, const int kind) {
    return s->weight ? loss_all(s, kind, 1) : loss_all(s, kind, 0);
}

static int FR_NAME(loss)(const fr_loss *s) {
    switch (s->kind) {
        case FR_LOSS_SQUARE:
            return loss_all(s, FR_LOSS_SQUARE, 0);
        case FR_LOSS_ABSOLUTE:
            return loss_all(s, FR_LOSS_ABSOLUTE, 0);
        case FR_LOSS_HUBER:
            return loss_all(s, FR_LOSS_HUBER, 0);
        case FR_LOSS_SMOOTH:
            return loss_all(s, FR_LOSS_SMOOTH, 0);
        case FR_LOSS_BINARY:
            return loss_kind(s, FR_LOSS_BINARY);
        case FR_LOSS_LOGITS:
            return loss_kind(s, FR_LOSS_LOGITS);
        default:
            return 0;  // there are no others
    }
}
