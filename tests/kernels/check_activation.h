// Activations, masks, softmax and attention against plain loops; included by check_kernels.c.

static double act_value(int kind, double x, double a, double b) {
    switch (kind) {
        case FR_ACT_SIGMOID:
            return sigmoid(x);
        case FR_ACT_TANH:
            return tanh(x);
        case FR_ACT_SILU:
            return x * sigmoid(x);
        case FR_ACT_GELU:
            return x * erfc(-x / sqrt(2)) / 2;
        case FR_ACT_GELU_TANH:
            return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));
        case FR_ACT_MISH:
            return x * tanh(log1p(exp(x)));
        case FR_ACT_SOFTPLUS:
            return a * x > b ? x : log1p(exp(a * x)) / a;
        case FR_ACT_ELU:
            return b * (x > 0 ? x : a * expm1(x));
        case FR_ACT_SOFTSIGN:
            return x / (1 + fabs(x));
        case FR_ACT_HARDSWISH:
            return x * fmin(6, fmax(0, x + 3)) / 6;
        case FR_ACT_RELU:
            return fmax(0, x);
        case FR_ACT_LEAKY_RELU:
            return x > 0 ? x : a * x;
        case FR_ACT_HARDTANH:
            return fmin(b, fmax(a, x));
        default:
            return fmin(6, fmax(0, x + 3)) / 6;
    }
}

// The slope by a difference in double, and the mask from the slope.
static void check_activations(ptrdiff_t n) {
    const double a = .5, b = 2, step = 1e-6;
    void *x = filled(n), *y = filled(n), *plain = filled(n), *dx = filled(n);
    for (ptrdiff_t i = 0; i < n; ++i) put(x, i, 6 * get(x, i));
    for (int kind = 0; kind <= FR_ACT_HARDSIGMOID; ++kind) {
        const int pieces = kind >= FR_ACT_PIECES;
        void *saved = malloc((pieces ? 1 : size) * n), *dy = filled(n);
        fr_activation s = {.kind = kind, .n = n, .x = x, .y = y, .saved = saved, .a = a, .b = b};
        K->activate(&s);
        s.y = plain, s.saved = NULL;
        K->activate(&s);
        const double inside = kind == FR_ACT_HARDSIGMOID ? 1. / 6 : 1, outside = kind == FR_ACT_LEAKY_RELU ? a : 0;
        fr_masked m = {.n = n, .x = dy, .mask = saved, .y = dx, .inside = inside, .outside = outside};
        if (pieces) K->masked_scale(&m);
        else K->multiply(n, saved, dy, dx);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const double at = get(x, i);
            const double slope = (act_value(kind, at + step, a, b) - act_value(kind, at - step, a, b)) / (2 * step);
            expect("activation", get(y, i), act_value(kind, at, a, b));
            expect("activation alone", get(plain, i), get(y, i));
            const double exact = tolerance;
            tolerance = fmax(tolerance, 1e-8);
            expect("slope", get(dx, i), slope * get(dy, i));
            tolerance = exact;
        }
        free(saved), free(dy);
    }
    uint8_t *mask = malloc(n);
    for (ptrdiff_t i = 0; i < n; ++i) mask[i] = i % 3 == 1, put(x, i, i % 3 == 2 ? INFINITY : i);
    K->masked_scale(&(fr_masked){.n = n, .x = x, .mask = mask, .y = x, .inside = 2, .clear = 1});
    for (ptrdiff_t i = 0; i < n; ++i) expect("cleared", get(x, i), i % 3 == 1 ? 2. * i : 0);
    void *sum = filled(n), *left = filled(n), *right = filled(n);
    K->add(n, left, right, sum);
    for (ptrdiff_t i = 0; i < n; ++i) expect("sum", get(sum, i), get(left, i) + get(right, i));
    free(x), free(y), free(plain), free(dx), free(mask), free(sum), free(left), free(right);
}

static void check_softmax(ptrdiff_t count, ptrdiff_t columns) {
    const ptrdiff_t n = count * columns;
    void *x = filled(n), *dy = filled(n), *y = lined(n), *p = lined(n), *dx = filled(n);
    for (int log_form = 0; log_form <= 1; ++log_form) {
        for (int keep = 0; keep <= 1; ++keep) {
            fr_softmax s = {.rows = count, .columns = columns, .log = log_form, .x = x, .y = y, .p = keep ? p : NULL};
            for (s.past = 0; s.past <= 1; ++s.past) K->softmax(&s);
            s.x = dy, s.y = dx, s.p = p;
            if (keep) K->softmax_backward(&s);
            for (ptrdiff_t r = 0; r < count; ++r) {
                double sum = 0, dot = 0;
                for (ptrdiff_t j = 0; j < columns; ++j) sum += exp(get(x, r * columns + j));
                for (ptrdiff_t j = r * columns; j < (r + 1) * columns; ++j)
                    dot += get(dy, j) * (log_form ? 1 : exp(get(x, j)) / sum);
                for (ptrdiff_t j = r * columns; j < (r + 1) * columns; ++j) {
                    const double q = exp(get(x, j)) / sum;
                    expect("softmax", get(y, j), log_form ? get(x, j) - log(sum) : q);
                    if (!keep) continue;
                    expect("softmax kept", get(p, j), q);
                    expect("softmax dx", get(dx, j), log_form ? get(dy, j) - q * dot : q * (get(dy, j) - dot));
                }
            }
        }
    }
    free(x), free(dy), free(y), free(p), free(dx);
}

// One sequence of `steps` of steps + 2 steps; keys are values unless the form is additive.
static void check_attention(ptrdiff_t queries, ptrdiff_t steps, ptrdiff_t n) {
    const ptrdiff_t total = steps + 2;
    for (int additive = 0; additive <= 1; ++additive) {
        void *q = filled(queries * n), *values = filled(steps * n), *keys = additive ? filled(steps * n) : values;
        void *score = filled(n), *w = filled(queries * total), *c = filled(queries * n), *scratch = filled(4 * steps);
        void *dc = filled(queries * n), *dw = filled(queries * total), *dq = filled(queries * n), *dscore = filled(n);
        void *dv = filled(steps * n), *dk = additive ? filled(steps * n) : dv, *dscore_in = copied(dscore, n);
        void *dv_in = copied(dv, steps * n), *dk_in = copied(dk, steps * n);
        fr_attention s = {.queries = queries, .steps = steps, .total = total, .key_width = n, .value_width = n};
        s.query = q, s.keys = keys, s.values = values, s.score = additive ? score : NULL, s.scale = .5;
        s.query_stride = s.key_stride = s.value_stride = s.context_stride = n, s.weights_stride = total;
        s.weights = w, s.context = c, s.dcontext = dc, s.dweights = dw, s.scratch = scratch;
        s.dquery = dq, s.dkeys = dk, s.dvalues = dv, s.dscore = dscore;
        K->attend(&s);
        K->attend_backward(&s);
        double *ds = malloc(queries * steps * sizeof *ds), *e = malloc(steps * sizeof *e);
        for (ptrdiff_t i = 0; i < queries; ++i) {
            double sum = 0, mean = 0;
            for (ptrdiff_t t = 0; t < steps; ++t) {
                double dot = 0;
                for (ptrdiff_t j = 0; j < n; ++j) {
                    const double k = get(keys, t * n + j), at = get(q, i * n + j);
                    dot += additive ? get(score, j) * tanh(k + at) : k * at;
                }
                sum += e[t] = exp(.5 * dot);
            }
            for (ptrdiff_t t = 0; t < total; ++t) expect("weights", get(w, i * total + t), t < steps ? e[t] / sum : 0);
            for (ptrdiff_t t = 0; t < steps; ++t) {
                double d = get(dw, i * total + t);
                for (ptrdiff_t j = 0; j < n; ++j) d += get(dc, i * n + j) * get(values, t * n + j);
                ds[i * steps + t] = d;
                mean += d * e[t] / sum;
            }
            for (ptrdiff_t t = 0; t < steps; ++t) ds[i * steps + t] = .5 * e[t] / sum * (ds[i * steps + t] - mean);
        }
        for (ptrdiff_t i = 0; i < queries; ++i) {
            for (ptrdiff_t j = 0; j < n; ++j) {
                double context = 0, d = 0;
                for (ptrdiff_t t = 0; t < steps; ++t) {
                    const double g = tanh(get(keys, t * n + j) + get(q, i * n + j));
                    context += get(w, i * total + t) * get(values, t * n + j);
                    d += ds[i * steps + t] * (additive ? get(score, j) * (1 - g * g) : get(keys, t * n + j));
                }
                expect("context", get(c, i * n + j), context);
                expect("dquery", get(dq, i * n + j), d);
            }
        }
        for (ptrdiff_t j = 0; j < n; ++j) {
            double d = get(dscore_in, j);
            for (ptrdiff_t t = 0; t < steps; ++t) {
                double value = get(dv_in, t * n + j), key = additive ? get(dk_in, t * n + j) : value;
                for (ptrdiff_t i = 0; i < queries; ++i) {
                    const double at = get(q, i * n + j), g = tanh(get(keys, t * n + j) + at), share = ds[i * steps + t];
                    value += get(w, i * total + t) * get(dc, i * n + j);
                    key += additive ? share * get(score, j) * (1 - g * g)
                                    : share * at + get(w, i * total + t) * get(dc, i * n + j);
                    d += share * g;
                }
                if (additive) expect("dvalues", get(dv, t * n + j), value);
                expect("dkeys", get(dk, t * n + j), key);
            }
            if (additive) expect("dscore", get(dscore, j), d);
        }
        if (additive) free(keys), free(dk);
        free(q), free(values), free(score), free(w), free(c), free(scratch), free(dc), free(dw), free(dq), free(dscore);
        free(dv), free(dscore_in), free(dv_in), free(dk_in), free(ds), free(e);
    }
}
