// Normalisation against plain loops: some stretches as one map, as rows, and place by place as columns.

static void norm_moments_of(const void *x, ptrdiff_t first, ptrdiff_t pieces, ptrdiff_t step, ptrdiff_t length,
                            ptrdiff_t next, double *mean, double *squares) {
    *mean = *squares = 0;
    const double n = (double)(pieces * length);
    for (ptrdiff_t p = 0; p < pieces; ++p)
        for (ptrdiff_t i = 0; i < length; ++i) *mean += get(x, first + p * step + i * next) / n;
    for (ptrdiff_t p = 0; p < pieces; ++p)
        for (ptrdiff_t i = 0; i < length; ++i) *squares += pow(get(x, first + p * step + i * next) - *mean, 2);
}

// y and xhat of one stretch; `each`: factors for each place.
static void expect_norm(const fr_norm *s, ptrdiff_t p, ptrdiff_t factor, int each, double center, double scale) {
    for (ptrdiff_t i = 0; i < s->length; ++i) {
        const ptrdiff_t at = factor + (each ? i : 0);
        const double h = (get(s->x, p * s->stride + i) - center) * scale;
        expect("xhat", get(s->xhat, p * s->stride + i), h);
        expect("norm", get(s->y, p * s->stride + i), h * get(s->weight, at) + get(s->bias, at));
    }
}

static void check_norm_map(fr_norm s) {
    double mean, squares, first, second, sums[2] = {0, 0};
    void *values = filled(4);
    norm_moments_of(s.x, 0, s.pieces, s.stride, s.length, 1, &mean, &squares);
    s.first = &first, s.second = &second;
    K->norm_moments(&s);
    expect("mean", first, mean),
        expect("squares", second / (double)(s.pieces * s.length), squares / (double)(s.pieces * s.length));
    put(values, 0, .25), put(values, 1, 0), put(values, 2, 1.5);
    s.center = values, s.rest = (char *)values + size, s.scale = (char *)values + 2 * size;
    K->norm_map(&s);
    for (ptrdiff_t p = 0; p < s.pieces; ++p) expect_norm(&s, p, 0, 0, .25, 1.5);
    K->norm_map_sums(&s);
    K->norm_map_pull(&s);
    for (ptrdiff_t p = 0; p < s.pieces; ++p) {
        for (ptrdiff_t i = 0; i < s.length; ++i) {
            const double dy = get(s.dy, p * s.stride + i), h = get(s.x, p * s.stride + i);
            sums[0] += dy, sums[1] += dy * h;
            expect("dx", get(s.y, p * s.stride + i), dy * 1.5 + h * get(s.weight, 0) + get(s.bias, 0));
        }
    }
    expect("sum", first, sums[0]), expect("product", second, sums[1]);
    free(values);
}

static void check_norm_rows(fr_norm s) {
    double mean, squares;
    s.scale = filled(s.pieces), s.eps = .1;
    K->norm_rows(&s);
    for (ptrdiff_t p = 0; p < s.pieces; ++p) {
        norm_moments_of(s.x, p * s.stride, 1, 0, s.length, 1, &mean, &squares);
        expect_norm(&s, p, 0, 1, mean, 1 / sqrt(squares / (double)s.length + .1));
    }
    void *dw0 = copied(s.dweight, s.length), *db0 = copied(s.dbias, s.length);
    K->norm_rows_pull(&s);
    for (ptrdiff_t p = 0; p < s.pieces; ++p) {
        double sums[2] = {0, 0};
        for (ptrdiff_t i = 0; i < s.length; ++i) {
            const double g = get(s.dy, p * s.stride + i) * get(s.weight, i) / (double)s.length;
            sums[0] += g, sums[1] += g * get(s.x, p * s.stride + i);
        }
        for (ptrdiff_t i = 0; i < s.length; ++i) {
            const double dy = get(s.dy, p * s.stride + i), h = get(s.x, p * s.stride + i);
            put(dw0, i, get(dw0, i) + dy * h), put(db0, i, get(db0, i) + dy);
            expect("dx of rows", get(s.y, p * s.stride + i),
                   get(s.scale, p) * (dy * get(s.weight, i) - sums[0] - h * sums[1]));
        }
    }
    for (ptrdiff_t i = 0; i < s.length; ++i)
        expect("dweight", get(s.dweight, i), get(dw0, i)), expect("dbias", get(s.dbias, i), get(db0, i));
    free(s.scale), free(dw0), free(db0);
}

static void check_norm_columns(fr_norm s) {
    double mean, squares;
    void *rest = filled(s.length), *buffer = filled(3 * s.length);
    s.first = malloc(s.length * sizeof(double)), s.second = malloc(s.length * sizeof(double));
    s.center = buffer;
    K->norm_columns_moments(&s);
    for (ptrdiff_t i = 0; i < s.length; ++i) {
        norm_moments_of(s.x, i, s.pieces, s.stride, 1, 1, &mean, &squares);
        expect("mean of a column", s.first[i], mean),
            expect("squares of a column", s.second[i] / (double)s.pieces, squares / (double)s.pieces);
    }
    K->norm_columns_sums(&s);
    for (ptrdiff_t i = 0; i < s.length; ++i) {
        double sums[2] = {0, 0};
        for (ptrdiff_t p = 0; p < s.pieces; ++p)
            sums[0] += get(s.dy, p * s.stride + i), sums[1] += get(s.dy, p * s.stride + i) * get(s.x, p * s.stride + i);
        expect("sum of a column", s.first[i], sums[0]), expect("product of a column", s.second[i], sums[1]);
    }
    s.center = filled(s.length), s.scale = filled(s.length), s.rest = rest;
    K->norm_columns(&s);
    for (ptrdiff_t at = 0; at < s.pieces * s.length; ++at) {
        const ptrdiff_t i = at % s.length, place = at / s.length * s.stride + i;
        const double h = (get(s.x, place) - get(s.center, i)) * get(s.scale, i) + get(rest, i);
        expect("xhat of a column", get(s.xhat, place), h);
        expect("norm of a column", get(s.y, place), h * get(s.weight, i) + get(s.bias, i));
    }
    K->norm_columns_pull(&s);
    for (ptrdiff_t at = 0; at < s.pieces * s.length; ++at) {
        const ptrdiff_t i = at % s.length, place = at / s.length * s.stride + i;
        const double h = get(s.x, place) * get(s.weight, i) + get(s.bias, i);
        expect("dx of a column", get(s.y, place), get(s.dy, place) * get(s.scale, i) + h);
    }
    free(rest), free(buffer), free(s.first), free(s.second), free(s.center), free(s.scale);
}

static void check_norm(ptrdiff_t pieces, ptrdiff_t length) {
    const ptrdiff_t stride = length + 2, all = (pieces - 1) * stride + length;
    void *x = filled(all), *dy = filled(all), *y = lined(all), *xhat = lined(all);
    void *weight = filled(length), *bias = filled(length), *dweight = filled(length), *dbias = filled(length);
    const fr_norm s = {.pieces = pieces,
                       .length = length,
                       .stride = stride,
                       .x = x,
                       .dy = dy,
                       .y = y,
                       .xhat = xhat,
                       .weight = weight,
                       .bias = bias,
                       .dweight = dweight,
                       .dbias = dbias};
    fr_norm past = s;
    past.past = 1;
    check_norm_map(s), check_norm_rows(s), check_norm_map(past), check_norm_rows(past), check_norm_columns(s);
    free(x), free(dy), free(y), free(xhat), free(weight), free(bias), free(dweight), free(dbias);
}
