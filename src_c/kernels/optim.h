// One pass of an optimiser over parameters, gradients and what it keeps.
#pragma once

#include "lanes.h"

// The gradient with the penalty's. Without decay a zero would meet infinite parameters, and make NaN of them.
FR_INLINE vec optim_gradient(const fr_optim *s, const real *grad, vec p, vec decay, ptrdiff_t lanes) {
    const vec g = vload_lanes(grad, lanes);
    return s->weight_decay != 0 && !s->decoupled ? vfma(decay, p, g) : g;
}

// Kingma & Ba 2015; weight decay either added to the gradient or, decoupled, taken off the parameter (Loshchilov & Hutter 2019).
//   m = b1 m + (1-b1) g   v = b2 v + (1-b2) g^2   p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)
// With `most` the denominator has the largest v so far (AMSGrad, Reddi et al. 2018).
static void FR_NAME(adam)(const fr_optim *s) {
    real *param = s->param, *m = s->slot[0], *v = s->slot[1], *most = s->slot[2];
    const real *grad = s->grad;
    const vec beta1 = vset1((real)s->beta1), beta2 = vset1((real)s->beta2);
    const vec rest1 = vset1((real)(1 - s->beta1)), rest2 = vset1((real)(1 - s->beta2));
    const vec rate = vset1((real)(s->lr / s->correction1)), eps = vset1((real)s->eps);
    const vec root_correction2 = vsqrt(vset1((real)s->correction2));
    const vec decay = vset1((real)s->weight_decay);
    const vec keep = vset1((real)(s->decoupled ? 1 - s->lr * s->weight_decay : 1));
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes), g = optim_gradient(s, grad + i, p, decay, lanes);
        const vec m_new = vfma(beta1, vload_lanes(m + i, lanes), vmul(rest1, g));
        vec v_new = vfma(beta2, vload_lanes(v + i, lanes), vmul(rest2, vmul(g, g)));
        vstore_lanes(m + i, m_new, lanes);
        vstore_lanes(v + i, v_new, lanes);
        if (most) {
            v_new = vmax_nan(vload_lanes(most + i, lanes), v_new);
            vstore_lanes(most + i, v_new, lanes);
        }
        const vec denominator = vadd(vdiv(vsqrt(v_new), root_correction2), eps);
        vstore_lanes(param + i, vfnma(rate, vdiv(m_new, denominator), vmul(keep, p)), lanes);
    }
}

//   g += decay p   buffer = momentum buffer + (1-dampening) g   p -= lr buffer   (Nesterov: p -= lr (g + momentum buffer))
static void FR_NAME(sgd)(const fr_optim *s) {
    real *param = s->param, *buffer = s->slot[0];
    const real *grad = s->grad;
    const vec momentum = vset1((real)s->beta1), fresh = vset1((real)(1 - s->dampening));
    const vec decay = vset1((real)s->weight_decay), rate = vset1((real)s->lr);
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes);
        vec step = optim_gradient(s, grad + i, p, decay, lanes);
        if (buffer) {
            const vec moved = s->first ? step : vfma(momentum, vload_lanes(buffer + i, lanes), vmul(fresh, step));
            vstore_lanes(buffer + i, moved, lanes);
            step = s->nesterov ? vfma(momentum, moved, step) : moved;
        }
        vstore_lanes(param + i, vfnma(rate, step, p), lanes);
    }
}

// Tieleman & Hinton 2012, with the mean taken off (Graves 2013) and momentum:
//   s = a s + (1-a) g^2   mean = a mean + (1-a) g   step = g / (sqrt(s - mean^2) + eps)   buffer = momentum buffer + step
// Rounding may leave s - mean^2 a little below zero.
static void FR_NAME(rmsprop)(const fr_optim *s) {
    real *param = s->param, *square = s->slot[0], *mean = s->slot[1], *buffer = s->slot[2];
    const real *grad = s->grad;
    const vec alpha = vset1((real)s->beta2), rest = vset1((real)(1 - s->beta2)), momentum = vset1((real)s->beta1);
    const vec rate = vset1((real)s->lr), eps = vset1((real)s->eps), decay = vset1((real)s->weight_decay);
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes), g = optim_gradient(s, grad + i, p, decay, lanes);
        vec spread = vfma(alpha, vload_lanes(square + i, lanes), vmul(rest, vmul(g, g)));
        vstore_lanes(square + i, spread, lanes);
        if (mean) {
            const vec moved = vfma(alpha, vload_lanes(mean + i, lanes), vmul(rest, g));
            vstore_lanes(mean + i, moved, lanes);
            spread = vmax(vzero(), vfnma(moved, moved, spread));
        }
        vec step = vdiv(g, vadd(vsqrt(spread), eps));
        if (buffer) {
            step = vfma(momentum, vload_lanes(buffer + i, lanes), step);
            vstore_lanes(buffer + i, step, lanes);
        }
        vstore_lanes(param + i, vfnma(rate, step, p), lanes);
    }
}

// Duchi, Hazan & Singer 2011:   sum += g^2   p -= lr g / (sqrt(sum) + eps)
static void FR_NAME(adagrad)(const fr_optim *s) {
    real *param = s->param, *sum = s->slot[0];
    const real *grad = s->grad;
    const vec rate = vset1((real)s->lr), eps = vset1((real)s->eps), decay = vset1((real)s->weight_decay);
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes), g = optim_gradient(s, grad + i, p, decay, lanes);
        const vec more = vfma(g, g, vload_lanes(sum + i, lanes));
        vstore_lanes(sum + i, more, lanes);
        vstore_lanes(param + i, vfnma(rate, vdiv(g, vadd(vsqrt(more), eps)), p), lanes);
    }
}

// Zeiler 2012, algorithm 1:   s = r s + (1-r) g^2   step = sqrt(d + eps) / sqrt(s + eps) g   d = r d + (1-r) step^2   p -= lr step
static void FR_NAME(adadelta)(const fr_optim *s) {
    real *param = s->param, *square = s->slot[0], *steps = s->slot[1];
    const real *grad = s->grad;
    const vec rho = vset1((real)s->beta2), rest = vset1((real)(1 - s->beta2));
    const vec rate = vset1((real)s->lr), eps = vset1((real)s->eps), decay = vset1((real)s->weight_decay);
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes), g = optim_gradient(s, grad + i, p, decay, lanes);
        const vec d = vload_lanes(steps + i, lanes);
        const vec spread = vfma(rho, vload_lanes(square + i, lanes), vmul(rest, vmul(g, g)));
        const vec step = vmul(vdiv(vsqrt(vadd(d, eps)), vsqrt(vadd(spread, eps))), g);
        vstore_lanes(square + i, spread, lanes);
        vstore_lanes(steps + i, vfma(rho, d, vmul(rest, vmul(step, step))), lanes);
        vstore_lanes(param + i, vfnma(rate, step, p), lanes);
    }
}
