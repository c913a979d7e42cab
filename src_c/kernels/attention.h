// Attention of queries to the steps of one sequence, its memory. For a query q, keys k_t and values v_t:
//   s_t = scale q . k_t      or, additive, scale sum_a score_a tanh(k_ta + q_a)
//   w = softmax(s)           context = sum_t w_t v_t
// Sums over t run in order, and sums over features do not depend on the number of steps or queries.
#pragma once

#include "softmax_rows.h"

FR_INLINE real att_score(const real *score, const real *k, const real *q, ptrdiff_t n) {
    vec even = vzero(), odd = vzero();
    ptrdiff_t i = 0;
    for (; i + 2 * FR_WIDTH <= n; i += 2 * FR_WIDTH) {
        const vec first = vtanh(vadd(vload(k + i), vload(q + i)));
        const vec second = vtanh(vadd(vload(k + i + FR_WIDTH), vload(q + i + FR_WIDTH)));
        even = vfma(vload(score + i), first, even), odd = vfma(vload(score + i + FR_WIDTH), second, odd);
    }
    for (; i < n; i += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - i, 0);
        const vec g = vtanh(vadd(vload_lanes(k + i, lanes), vload_lanes(q + i, lanes)));
        even = vfma(vload_lanes(score + i, lanes), g, even);
    }
    return vsum(vadd(even, odd));
}

// sum[j] = sum over t of w[t] rows[t][j].
FR_INLINE void att_weighted(const real *w, const real *rows, ptrdiff_t stride, ptrdiff_t steps, real *sum,
                               ptrdiff_t n) {
    ptrdiff_t j = 0;
    for (; j + 4 * FR_WIDTH <= n; j += 4 * FR_WIDTH) {
        vec acc[4] = {vzero(), vzero(), vzero(), vzero()};
        for (ptrdiff_t t = 0; t < steps; ++t) {
            const vec share = vbroadcast(w + t);
    FR_UNROLL(4) for (int v = 0; v < 4; ++v) acc[v] = vfma(share, vload(rows + t * stride + j + v * FR_WIDTH), acc[v]);
        }
        FR_UNROLL(4) for (int v = 0; v < 4; ++v) vstore(sum + j + v * FR_WIDTH, acc[v]);
    }
    for (; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        vec acc = vzero();
        for (ptrdiff_t t = 0; t < steps; ++t)
            acc = vfma(vbroadcast(w + t), vload_lanes(rows + t * stride + j, lanes), acc);
        vstore_lanes(sum + j, acc, lanes);
    }
}

// row += share * x
FR_INLINE void att_add(real share, const real *x, real *row, ptrdiff_t n) {
    const vec factor = vset1(share);
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        vstore_lanes(row + j, vfma(factor, vload_lanes(x + j, lanes), vload_lanes(row + j, lanes)), lanes);
    }
}

static void FR_NAME(attend)(const fr_attention *s) {
    const ptrdiff_t A = s->key_width;
    for (ptrdiff_t i = 0; i < s->queries; ++i) {
        const real *q = (const real *)s->query + i * s->query_stride;
        real *w = (real *)s->weights + i * s->weights_stride;
        for (ptrdiff_t t = 0; t < s->steps; ++t) {
            const real *k = (const real *)s->keys + t * s->key_stride;
            w[t] = (real)s->scale * (s->score ? att_score(s->score, k, q, A) : smr_dot(q, k, A, 1));
        }
        const real sum = smr_exp(w, w, s->steps, smr_max(w, s->steps));
        smr_scale(w, NULL, s->steps, 1 / sum);
        for (ptrdiff_t t = s->steps; t < s->total; ++t) w[t] = 0;
        att_weighted(w, s->values, s->value_stride, s->steps, (real *)s->context + i * s->context_stride, s->value_width);
    }
}

// With g = tanh(k_t + q):  dk_t += ds score (1 - g^2), the same to dq, and dscore += ds g.
FR_INLINE void att_score_backward(const fr_attention *s, real ds, const real *k, const real *q, real *dk, real *dq) {
    const vec one = vset1(1), share = vset1(ds);
    real *dscore = s->dscore;
    for (ptrdiff_t j = 0; j < s->key_width; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(s->key_width - j, 0);
        const vec g = vtanh(vadd(vload_lanes(k + j, lanes), vload_lanes(q + j, lanes)));
        const vec d = vmul(vmul(share, vload_lanes((const real *)s->score + j, lanes)), vfnma(g, g, one));
        vstore_lanes(dk + j, vadd(vload_lanes(dk + j, lanes), d), lanes);
        vstore_lanes(dq + j, vadd(vload_lanes(dq + j, lanes), d), lanes);
        vstore_lanes(dscore + j, vfma(share, g, vload_lanes(dscore + j, lanes)), lanes);
    }
}

//   dw_t = dcontext . v_t + dweights_t      ds = scale w (dw - sum(w dw))      dv_t += w_t dcontext      dk_t += ds_t q
static void FR_NAME(attend_backward)(const fr_attention *s) {
    const ptrdiff_t A = s->key_width, M = s->value_width;
    real *ds = s->scratch;
    for (ptrdiff_t i = 0; i < s->queries; ++i) {
        const real *q = (const real *)s->query + i * s->query_stride, *w = (const real *)s->weights + i * s->weights_stride;
        const real *dc = (const real *)s->dcontext + i * s->context_stride;
        const real *dweights = s->dweights ? (const real *)s->dweights + i * s->weights_stride : NULL;
        real *dq = (real *)s->dquery + i * s->query_stride;
        for (ptrdiff_t t = 0; t < s->steps; ++t) {
            ds[t] = smr_dot((const real *)s->values + t * s->value_stride, dc, M, 1) + (dweights ? dweights[t] : 0);
            att_add(w[t], dc, (real *)s->dvalues + t * s->value_stride, M);
        }
        const real mean = smr_dot(w, ds, s->steps, 1);
        for (ptrdiff_t t = 0; t < s->steps; ++t) ds[t] = (real)s->scale * (w[t] * (ds[t] - mean));
        if (s->score)
            for (ptrdiff_t j = 0; j < A; ++j) dq[j] = 0;
        else att_weighted(ds, s->keys, s->key_stride, s->steps, dq, A);
        for (ptrdiff_t t = 0; t < s->steps; ++t) {
            const real *k = (const real *)s->keys + t * s->key_stride;
            real *dk = (real *)s->dkeys + t * s->key_stride;
            if (s->score) att_score_backward(s, ds[t], k, q, dk, dq);
            else att_add(ds[t], q, dk, A);
        }
    }
}
