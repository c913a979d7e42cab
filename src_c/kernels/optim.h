// One pass of an optimiser over parameters, gradients and state.
#pragma once

#include "lanes.h"

// Kingma & Ba 2015; weight decay either added to the gradient or, decoupled, taken off the parameter (Loshchilov & Hutter 2019).
//   m = b1 m + (1-b1) g   v = b2 v + (1-b2) g^2   p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)
static void FR_NAME(adam)(const fr_adam *s) {
    real *param = s->param, *m = s->m, *v = s->v;
    const real *grad = s->grad;
    const vec beta1 = vset1((real)s->beta1), beta2 = vset1((real)s->beta2);
    const vec rest1 = vset1((real)(1 - s->beta1)), rest2 = vset1((real)(1 - s->beta2));
    const vec rate = vset1((real)(s->lr / s->correction1)), eps = vset1((real)s->eps);
    const vec root_correction2 = vsqrt(vset1((real)s->correction2));
    const vec decay = vset1((real)s->weight_decay);
    const int decays = !s->decoupled && s->weight_decay != 0;  // zero times an infinite parameter would be a NaN
    const vec keep = vset1((real)(s->decoupled ? 1 - s->lr * s->weight_decay : 1));
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes);
        vec g = vload_lanes(grad + i, lanes);
        if (decays) g = vfma(decay, p, g);
        const vec m_new = vfma(beta1, vload_lanes(m + i, lanes), vmul(rest1, g));
        const vec v_new = vfma(beta2, vload_lanes(v + i, lanes), vmul(rest2, vmul(g, g)));
        const vec denominator = vadd(vdiv(vsqrt(v_new), root_correction2), eps);
        vstore_lanes(m + i, m_new, lanes);
        vstore_lanes(v + i, v_new, lanes);
        vstore_lanes(param + i, vfnma(rate, vdiv(m_new, denominator), vmul(keep, p)), lanes);
    }
}

//   g += decay p   buffer = momentum buffer + (1-dampening) g   p -= lr buffer   (Nesterov: p -= lr (g + momentum buffer))
static void FR_NAME(sgd)(const fr_sgd *s) {
    real *param = s->param, *buffer = s->momentum_buffer;
    const real *grad = s->grad;
    const vec momentum = vset1((real)s->momentum), fresh = vset1((real)(1 - s->dampening));
    const vec decay = vset1((real)s->weight_decay), rate = vset1((real)s->lr);
    for (ptrdiff_t i = 0; i < s->n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->n - i, 0);
        const vec p = vload_lanes(param + i, lanes);
        vec step = vload_lanes(grad + i, lanes);
        if (s->weight_decay != 0) step = vfma(decay, p, step);
        if (buffer) {
            const vec moved = s->first ? step : vfma(momentum, vload_lanes(buffer + i, lanes), vmul(fresh, step));
            vstore_lanes(buffer + i, moved, lanes);
            step = s->nesterov ? vfma(momentum, moved, step) : moved;
        }
        vstore_lanes(param + i, vfnma(rate, step, p), lanes);
    }
}
