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

// Queries are taken four at a time, so that each key and value serves four of them; every sum is the same as for one alone.
enum { ATT_ROWS = 4 };

// out[r * out_stride] = q_r . k for `rows` queries.
FR_INLINE void att_dots(const real *q, ptrdiff_t stride, const int rows, const real *k, ptrdiff_t n, real *out,
                           ptrdiff_t out_stride) {
    vec even[ATT_ROWS], odd[ATT_ROWS];
    FR_UNROLL(4) for (int r = 0; r < rows; ++r) even[r] = odd[r] = vzero();
    ptrdiff_t j = 0;
    for (; j + 2 * FR_WIDTH <= n; j += 2 * FR_WIDTH) {
        const vec first = vload(k + j), second = vload(k + j + FR_WIDTH);
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) {
            even[r] = vfma(first, vload(q + r * stride + j), even[r]);
            odd[r] = vfma(second, vload(q + r * stride + j + FR_WIDTH), odd[r]);
        }
    }
    for (; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        const vec key = vload_lanes(k + j, lanes);
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) even[r] = vfma(key, vload_lanes(q + r * stride + j, lanes), even[r]);
    }
    FR_UNROLL(4) for (int r = 0; r < rows; ++r) out[r * out_stride] = vsum(vadd(even[r], odd[r]));
}

// sum_r[j] = sum over t of w_r[t] values[t][j].
FR_INLINE void att_weighted(const real *w, ptrdiff_t w_stride, const int rows, const real *values, ptrdiff_t stride,
                            ptrdiff_t steps, real *sum, ptrdiff_t sum_stride, ptrdiff_t n) {
    ptrdiff_t j = 0;
    for (; j + 2 * FR_WIDTH <= n; j += 2 * FR_WIDTH) {
        vec left[ATT_ROWS], right[ATT_ROWS];
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) left[r] = right[r] = vzero();
        for (ptrdiff_t t = 0; t < steps; ++t) {
            const vec a = vload(values + t * stride + j), b = vload(values + t * stride + j + FR_WIDTH);
            FR_UNROLL(4) for (int r = 0; r < rows; ++r) {
                const vec share = vbroadcast(w + r * w_stride + t);
                left[r] = vfma(share, a, left[r]), right[r] = vfma(share, b, right[r]);
            }
        }
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) {
            vstore(sum + r * sum_stride + j, left[r]);
            vstore(sum + r * sum_stride + j + FR_WIDTH, right[r]);
        }
    }
    for (; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        vec acc[ATT_ROWS];
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) acc[r] = vzero();
        for (ptrdiff_t t = 0; t < steps; ++t) {
            const vec v = vload_lanes(values + t * stride + j, lanes);
            FR_UNROLL(4) for (int r = 0; r < rows; ++r) acc[r] = vfma(vbroadcast(w + r * w_stride + t), v, acc[r]);
        }
        FR_UNROLL(4) for (int r = 0; r < rows; ++r) vstore_lanes(sum + r * sum_stride + j, acc[r], lanes);
    }
}

// row += sum over r, in order, of share[r * share_stride] x_r
FR_INLINE void att_add(const real *share, ptrdiff_t share_stride, const int rows, const real *x, ptrdiff_t stride, real *row,
                       ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j += FR_WIDTH) {
        const ptrdiff_t lanes = lanes_left(n - j, 0);
        vec v = vload_lanes(row + j, lanes);
        FR_UNROLL(4) for (int r = 0; r < rows; ++r)
            v = vfma(vbroadcast(share + r * share_stride), vload_lanes(x + r * stride + j, lanes), v);
        vstore_lanes(row + j, v, lanes);
    }
}

FR_INLINE void att_forward(const fr_attention *s, ptrdiff_t i, const int rows) {
    const ptrdiff_t A = s->key_width, step = s->weights_stride;
    const real *q = (const real *)s->query + i * s->query_stride;
    real *w = (real *)s->weights + i * step;
    for (ptrdiff_t t = 0; t < s->steps; ++t) {
        const real *k = (const real *)s->keys + t * s->key_stride;
        if (s->score)
            for (int r = 0; r < rows; ++r) w[r * step + t] = att_score(s->score, k, q + r * s->query_stride, A);
        else att_dots(q, s->query_stride, rows, k, A, w + t, step);
    }
    for (int r = 0; r < rows; ++r) {
        real *row = w + r * step;
        for (ptrdiff_t t = 0; t < s->steps; ++t) row[t] *= (real)s->scale;
        const real sum = smr_exp(row, row, s->steps, smr_max(row, s->steps));
        smr_scale(row, s->steps, 1 / sum);
        for (ptrdiff_t t = s->steps; t < s->total; ++t) row[t] = 0;
    }
    real *context = (real *)s->context + i * s->context_stride;
    att_weighted(w, step, rows, s->values, s->value_stride, s->steps, context, s->context_stride, s->value_width);
}

static void FR_NAME(attend)(const fr_attention *s) {
    ptrdiff_t i = 0;
    for (; i + ATT_ROWS <= s->queries; i += ATT_ROWS) att_forward(s, i, ATT_ROWS);
    for (; i < s->queries; ++i) att_forward(s, i, 1);
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
FR_INLINE void att_backward(const fr_attention *s, ptrdiff_t i, const int rows) {
    const ptrdiff_t A = s->key_width, M = s->value_width, step = s->weights_stride, length = s->steps;
    const real *q = (const real *)s->query + i * s->query_stride, *w = (const real *)s->weights + i * step;
    const real *dc = (const real *)s->dcontext + i * s->context_stride;
    real *dq = (real *)s->dquery + i * s->query_stride, *ds = s->scratch;  // ds [rows, length]
    for (ptrdiff_t t = 0; t < length; ++t) {
        att_dots(dc, s->context_stride, rows, (const real *)s->values + t * s->value_stride, M, ds + t, length);
        att_add(w + t, step, rows, dc, s->context_stride, (real *)s->dvalues + t * s->value_stride, M);
    }
    for (int r = 0; r < rows; ++r) {
        real *row = ds + r * length;
        if (s->dweights)
            for (ptrdiff_t t = 0; t < length; ++t) row[t] += ((const real *)s->dweights)[(i + r) * step + t];
        const real mean = smr_dot(w + r * step, row, length, 1);
        for (ptrdiff_t t = 0; t < length; ++t) row[t] = (real)s->scale * (w[r * step + t] * (row[t] - mean));
        if (s->score)
            for (ptrdiff_t j = 0; j < A; ++j) dq[r * s->query_stride + j] = 0;
    }
    if (!s->score) att_weighted(ds, length, rows, s->keys, s->key_stride, length, dq, s->query_stride, A);
    for (ptrdiff_t t = 0; t < length; ++t) {
        const real *k = (const real *)s->keys + t * s->key_stride;
        real *dk = (real *)s->dkeys + t * s->key_stride;
        if (!s->score) att_add(ds + t, length, rows, q, s->query_stride, dk, A);
        else
            for (int r = 0; r < rows; ++r)
                att_score_backward(s, ds[r * length + t], k, q + r * s->query_stride, dk, dq + r * s->query_stride);
    }
}

static void FR_NAME(attend_backward)(const fr_attention *s) {
    ptrdiff_t i = 0;
    for (; i + ATT_ROWS <= s->queries; i += ATT_ROWS) att_backward(s, i, ATT_ROWS);
    for (; i < s->queries; ++i) att_backward(s, i, 1);
}
