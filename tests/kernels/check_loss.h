// Losses of elements against plain loops; included by check_kernels.c.

static double loss_value(int kind, double x, double t, double v, double limit, double *slope) {
    const double d = x - t, p = sigmoid(x);
    switch (kind) {
        case FR_LOSS_SQUARE:
            *slope = 2 * d;
            return d * d;
        case FR_LOSS_ABSOLUTE:
            *slope = (d > 0) - (d < 0);
            return fabs(d);
        case FR_LOSS_HUBER:
            *slope = fmax(-limit, fmin(limit, d));
            return *slope * (d - *slope / 2);
        case FR_LOSS_SMOOTH:
            *slope = fmax(-1, fmin(1, d / limit));
            return *slope * (d - *slope * limit / 2);
        case FR_LOSS_BINARY:
            *slope = d / fmax(1e-12, x * (1 - x));
            return -(t * fmax(-100, log(x)) + (1 - t) * fmax(-100, log1p(-x)));
        default:
            *slope = (1 - t) * p - v * t * (1 - p);
            return v * t * log1p(exp(-x)) + (1 - t) * log1p(exp(x));
    }
}

static void check_losses(ptrdiff_t n) {
    const ptrdiff_t chunks = (n + FR_CHUNK - 1) / FR_CHUNK;
    void *x = filled(n), *t = filled(n), *w = filled(n), *v = filled(n), *dx = filled(n), *y = filled(n);
    double *sums = malloc(chunks * sizeof *sums + 1);
    for (ptrdiff_t i = 0; i < n; ++i) put(x, i, .5 + .499 * get(x, i)), put(t, i, .5 + .5 * get(t, i));
    for (int kind = FR_LOSS_SQUARE; kind <= FR_LOSS_LOGITS; ++kind) {
        for (int weighted = 0; weighted <= (kind >= FR_LOSS_BINARY); ++weighted) {
            fr_loss s = {.kind = kind, .n = n, .x = x, .target = t, .limit = .3, .scale = .5, .dx = dx, .sums = sums};
            s.losses = weighted ? NULL : y, s.weight = weighted ? w : NULL;
            s.positive = kind == FR_LOSS_LOGITS && weighted ? v : NULL;
            expect("inside", K->loss(&s), 0);
            for (ptrdiff_t first = 0; first < n; first += FR_CHUNK) {
                double sum = 0, slope;
                for (ptrdiff_t i = first; i < n && i < first + FR_CHUNK; ++i) {
                    const double factor = weighted ? get(w, i) : 1, positive = weighted ? get(v, i) : 1;
                    const double wanted = factor * loss_value(kind, get(x, i), get(t, i), positive, .3, &slope);
                    if (!weighted) expect("loss", get(y, i), wanted);
                    expect("slope of a loss", get(dx, i), .5 * factor * slope);
                    sum += wanted;
                }
                expect("sum of losses", sums[first / FR_CHUNK], sum);
            }
        }
    }
    put(x, n - 1, 1.5);
    expect("outside", K->loss(&(fr_loss){.kind = FR_LOSS_BINARY, .n = n, .x = x, .target = t, .dx = dx, .sums = sums}),
           1);
    free(x), free(t), free(w), free(v), free(dx), free(y), free(sums);
}
