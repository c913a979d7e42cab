// Checks of the kernels of convolution, part of check_kernels.c.
#pragma once

static double relu_of(double x) { return x > 0 ? x : 0; }

static double act(double x, int activation) {
    return activation == FR_RELU      ? relu_of(x)
           : activation == FR_TANH    ? tanh(x)
           : activation == FR_SIGMOID ? sigmoid(x)
                                      : x;
}

// Two segments, rows of A that lie anywhere, rows of C in reverse; from zeros, a bias, and what was there.
static void check_conv(ptrdiff_t count, int vectors, ptrdiff_t length, int resume) {
    const ptrdiff_t columns = vectors * K->width, k = 2 * length;
    ptrdiff_t a_row[20], c_row[20], segment[2] = {0, length + 3};
    for (ptrdiff_t r = 0; r < count; ++r) a_row[r] = r * 7 % 11, c_row[r] = count - 1 - r;
    void *a = filled(10 + 2 * length + 3), *b = filled(k * columns), *bias = filled(columns),
         *c = filled(count * columns);
    void *before = copied(c, count * columns);
    fr_boxes ahead = {.from = c, .boxes = 2, .runs = 2, .bytes = 100, .most = 64};
    K->conv(&(fr_conv){.rows = count,
                       .a = a,
                       .a_row = a_row,
                       .segments = 2,
                       .length = length,
                       .segment = segment,
                       .b = b,
                       .vectors = vectors,
                       .resume = resume,
                       .bias = count % 2 ? bias : NULL,
                       .c = c,
                       .c_row = c_row,
                       .y = resume ? c : NULL,
                       .y_row = c_row,
                       .y_stride = count,
                       .maps = columns,
                       .ahead = count % 2 ? &ahead : NULL});
    for (ptrdiff_t r = 0; r < count; ++r) {
        for (ptrdiff_t j = 0; j < columns; ++j) {
            const ptrdiff_t at = c_row[r] * columns + j;
            double sum = resume ? get(before, at) : count % 2 ? get(bias, j) : 0;
            for (ptrdiff_t i = 0; i < k; ++i)
                sum += get(a, a_row[r] + segment[i / length] + i % length) * get(b, i * columns + j);
            expect("conv", get(c, at), sum);
        }
    }
    free(a), free(b), free(bias), free(c), free(before);
}

// `units` maps, `vectors` vectors with their last ones overlapping, four taps. Each vector ends in two stretches with a gap of a lane.
static void check_planes(ptrdiff_t units, ptrdiff_t vectors, ptrdiff_t lanes) {
    enum { TAPS = 4, MOST = 8 };
    const ptrdiff_t tiles = (units + K->tile_rows - 1) / K->tile_rows, height = units / tiles, taller = units % tiles;
    const ptrdiff_t offset[TAPS] = {0, 5, 1, 3}, size = vectors * K->width, half = (lanes + 1) / 2;
    ptrdiff_t from[MOST], stretches[MOST + 1] = {0};
    fr_stretch stretch[2 * MOST];
    for (ptrdiff_t v = 0; v < vectors; ++v) {
        from[v] = v * K->width - (v == vectors - 1 && v > 0), stretches[v + 1] = 2 * (v + 1);
        stretch[2 * v] = (fr_stretch){from[v], 0, half};
        stretch[2 * v + 1] = (fr_stretch){from[v] - 1, half < lanes ? half + 1 : lanes, lanes};
    }
    void *x = filled(size + 5), *weight = filled(units * TAPS), *bias = filled(units), *gain = filled(units),
         *y = filled((units - 1) * (size + 1) + from[vectors - 1] + lanes),
         *before = copied(y, (units - 1) * (size + 1) + lanes);
    fr_boxes ahead = {.from = x, .boxes = 1, .runs = 3, .bytes = 70, .most = 64};
    fr_plane_conv planes = {.units = units,
                            .end_tile = tiles,
                            .vectors = vectors,
                            .x = x,
                            .from = from,
                            .stretches = stretches,
                            .stretch = stretch,
                            .weight = weight,
                            .bias = units % 2 ? bias : NULL,
                            .gain = units % 3 ? gain : NULL,
                            .activation = FR_RELU,
                            .y = y,
                            .y_stride = size + 1,
                            .ahead = units % 2 ? &ahead : NULL};
    for (ptrdiff_t k = 0; k < TAPS; k += planes.taps) {  // at once, or three taps and then one
        planes.before = k, planes.taps = units % 4 < 2 ? TAPS : k ? 1 : 3, planes.after = TAPS - k - planes.taps;
        planes.offset = offset + k;
        K->plane_conv(&planes);
    }
    for (ptrdiff_t t = 0, u = 0; t < tiles; ++t) {
        const ptrdiff_t mr = height + (t < taller), first = u;
        for (; u < first + mr; ++u) {
            for (ptrdiff_t at = 0; at < 2 * vectors * lanes; ++at) {
                const fr_stretch part = stretch[at / lanes];
                const ptrdiff_t lane = at % lanes;
                if (lane < part.first || lane >= part.end) continue;
                double sum = units % 2 ? get(bias, u) : 0;
                for (ptrdiff_t k = 0; k < TAPS; ++k)
                    sum += get(weight, first * TAPS + k * mr + u - first) *
                           get(x, offset[k] + from[at / lanes / 2] + lane);
                expect("plane_conv", get(y, u * (size + 1) + part.to + lane),
                       relu_of(sum) * (units % 3 ? get(gain, u) : 1));
            }
        }
    }
    if (vectors == 1 && lanes < K->width) {
        for (ptrdiff_t u = 0; u + 1 < units; ++u)
            expect("plane_conv past a vector", get(y, u * (size + 1) + lanes), get(before, u * (size + 1) + lanes));
    }
    free(x), free(weight), free(bias), free(gain), free(y), free(before);
}

// Nine rows of `columns` values a step apart, with a row above and perhaps some below.
static void check_pad_plane(ptrdiff_t columns, ptrdiff_t step, ptrdiff_t below) {
    const ptrdiff_t width = columns + 3, reads = columns ? (columns - 1) * step + 1 : 0, rows = 10 + below;
    void *src = filled(9 * reads + 1), *dst = filled(rows * width);
    K->pad_plane(&(fr_pad){.above = 1,
                           .rows = 9,
                           .below = below,
                           .width = width,
                           .before = 2,
                           .columns = columns,
                           .step = step,
                           .src = (char *)src + size,
                           .src_stride = reads,
                           .dst = dst});
    for (ptrdiff_t i = 0; i < rows * width; ++i) {
        const ptrdiff_t r = i / width - 1, j = i % width - 2;
        const int inside = r >= 0 && r < 9 && j >= 0 && j < columns;
        expect("pad_plane", get(dst, i), inside ? get(src, 1 + r * reads + j * step) : 0);
    }
    free(src), free(dst);
}

// Two rows of places a step apart, the last of which ends the memory.
static void check_turn_places(ptrdiff_t channels, ptrdiff_t columns, ptrdiff_t step) {
    const ptrdiff_t reads = (columns - 1) * step + 1, map = 2 * reads + 3, apart = channels + 2, all = 2 * columns;
    void *src = filled((channels - 1) * map + 2 * reads), *dst = filled(all * apart),
         *before = copied(dst, all * apart);
    K->turn_places(&(fr_places){.channels = channels,
                                .rows = 2,
                                .columns = columns,
                                .step = step,
                                .src = src,
                                .channel_stride = map,
                                .src_stride = reads,
                                .dst = dst,
                                .dst_stride = apart});
    for (ptrdiff_t i = 0; i < all * apart; ++i) {
        const ptrdiff_t c = i % apart, r = i / apart / columns, j = i / apart % columns;
        expect("turn_places", get(dst, i), c < channels ? get(src, c * map + r * reads + j * step) : get(before, i));
    }
    free(src), free(dst), free(before);
}

static void check_weave(ptrdiff_t columns, ptrdiff_t phases) {
    const ptrdiff_t part = (columns + phases - 1) / phases, stride = phases * part;
    void *src = filled(2 * stride), *dst = filled(2 * columns);
    K->weave(2, columns, phases, src, stride, part, dst, columns);
    for (ptrdiff_t i = 0; i < 2 * columns; ++i) {
        const ptrdiff_t r = i / columns, j = i % columns;
        expect("weave", get(dst, i), get(src, r * stride + j % phases * part + j / phases));
    }
    free(src), free(dst);
}

static void check_spread(ptrdiff_t columns, ptrdiff_t step, ptrdiff_t row_step) {
    const ptrdiff_t part = (columns + step - 1) / step, rows = 4, stride = part + 1,
                    taken = (rows + row_step - 1) / row_step;
    void *src = filled((taken - 1) * stride + part), *dst = filled(rows * columns);
    K->spread(rows, columns, row_step, step, src, stride, dst);
    for (ptrdiff_t i = 0; i < rows * columns; ++i) {
        const ptrdiff_t r = i / columns, j = i % columns;
        const int there = r % row_step == 0 && j % step == 0;
        expect("spread", get(dst, i), there ? get(src, r / row_step * stride + j / step) : 0);
    }
    free(src), free(dst);
}

static void check_sum_phases(ptrdiff_t n, ptrdiff_t phases) {
    void *src = filled(n * phases), *dst = filled(n);
    K->sum_phases(n, phases, src, dst);
    for (ptrdiff_t i = 0; i < n; ++i) {
        double sum = 0;
        for (ptrdiff_t p = 0; p < phases; ++p) sum += get(src, i * phases + p);
        expect("sum_phases", get(dst, i), sum);
    }
    free(src), free(dst);
}

// Two rows of sums, each of `taps` planes shifted.
static void check_tap_sums(ptrdiff_t columns, ptrdiff_t taps, int activation) {
    const ptrdiff_t x_stride = columns + 2, y_stride = columns + 1;
    void *x = filled(x_stride + columns + taps), *bias = filled(1), *y = filled(y_stride + columns),
         *before = copied(y, y_stride + columns);
    ptrdiff_t offset[8];
    for (ptrdiff_t t = 0; t < taps; ++t) offset[t] = (t * 3 + 1) % taps;
    K->tap_sums(&(fr_tap_sums){.rows = 2,
                               .columns = columns,
                               .taps = taps,
                               .x = x,
                               .x_stride = x_stride,
                               .offset = offset,
                               .bias = taps % 2 ? bias : NULL,
                               .activation = activation,
                               .y = y,
                               .y_stride = y_stride});
    for (ptrdiff_t i = 0; i < y_stride + columns; ++i) {
        const ptrdiff_t r = i / y_stride, j = i % y_stride;
        double sum = taps % 2 ? get(bias, 0) : 0;
        for (ptrdiff_t t = 0; t < taps && j < columns; ++t) sum += get(x, offset[t] + r * x_stride + j);
        if (j < columns) expect("tap_sums", get(y, i), act(sum, activation));
        else expect("tap_sums past a row", get(y, i), get(before, i));
    }
    free(x), free(bias), free(y), free(before);
}

// Two planes of five rows, of which `inside` lie inside.
static void check_clear_around(ptrdiff_t width, ptrdiff_t column, ptrdiff_t columns, ptrdiff_t inside) {
    const ptrdiff_t stride = 5 * width + 1, n = 2 * stride;
    void *data = filled(n), *before = copied(data, n);
    K->clear_around(&(fr_frame){.planes = 2,
                                .plane_stride = stride,
                                .rows = 5,
                                .width = width,
                                .row = 1,
                                .inside = inside,
                                .column = column,
                                .columns = columns,
                                .data = data});
    for (ptrdiff_t i = 0; i < n; ++i) {
        const ptrdiff_t at = i % stride, r = at / width - 1, j = at % width - column;
        const int kept = at == 5 * width || (r >= 0 && r < inside && j >= 0 && j < columns);
        expect("clear_around", get(data, i), kept ? get(before, i) : 0);
    }
    free(data), free(before);
}

static void check_turn(ptrdiff_t m, ptrdiff_t n, int activation) {
    void *src = filled((m - 1) * (n + 1) + n), *gain = filled(n), *turned = filled((n - 1) * (m + 2) + m),
         *kept = filled(m * n);
    fr_turn t = {.rows = m, .columns = n, .src = src, .src_stride = n + 1, .activation = activation};
    t.gain = m % 2 ? gain : NULL;
    t.dst = turned, t.dst_stride = m + 2, K->turn(&t);
    t.dst = kept, t.dst_stride = n, K->keep(&t);
    for (ptrdiff_t i = 0; i < m; ++i) {
        for (ptrdiff_t j = 0; j < n; ++j) {
            const double y = act(get(src, i * (n + 1) + j), activation) * (t.gain ? get(gain, j) : 1);
            expect("turn", get(turned, j * (m + 2) + i), y);
            expect("keep", get(kept, i * n + j), y);
        }
    }
    void *sums = filled(n * m), *start = copied(sums, n * m);
    K->add_turned(m, n, src, n + 1, sums, m);
    for (ptrdiff_t i = 0; i < m; ++i)
        for (ptrdiff_t j = 0; j < n; ++j)
            expect("add_turned", get(sums, j * m + i), get(start, j * m + i) + get(src, i * (n + 1) + j));
    free(src), free(gain), free(turned), free(kept), free(sums), free(start);
}

static void check_pack_taps(ptrdiff_t count, ptrdiff_t k) {
    const ptrdiff_t W = K->width;
    ptrdiff_t place[64];
    for (ptrdiff_t j = 0; j < k; ++j) place[j] = j % 5 == 3 ? -1 : (k - 1 - j) * W;
    void *src = filled(count * k), *dst = filled(k * W);
    K->pack_taps(count, k, src, k, dst, place);
    for (ptrdiff_t j = 0; j < k; ++j)
        for (ptrdiff_t u = 0; u < W && place[j] >= 0; ++u)
            expect("pack_taps", get(dst, place[j] + u), u < count ? get(src, u * k + j) : 0);
    free(src), free(dst);
}

// A regular kernel of height x 3 taps, and the same as a list.
static void check_map_conv(ptrdiff_t m, ptrdiff_t n, int height, int regular) {
    const ptrdiff_t stride = n + 2 + 4 * K->width, reads = (m + height - 1) * stride;
    ptrdiff_t offset[21];
    for (int t = 0; t < 3 * height; ++t) offset[t] = t / 3 * stride + t % 3;
    void *x = filled(reads), *w = filled(3 * height), *one = filled(2), *y = filled(m * n), *sums = filled(3 * height);
    fr_map_conv g = {
        .rows = m, .columns = n, .taps = 3 * height, .height = regular ? height : 0, .x = x, .x_stride = stride};
    g.offset = offset, g.weight = w, g.bias = one, g.gain = (char *)one + size, g.activation = FR_TANH;
    g.y = y, g.y_stride = n, g.sums = sums;
    K->map_conv(&g);
    for (ptrdiff_t i = 0; i < m; ++i) {
        for (ptrdiff_t j = 0; j < n; ++j) {
            double sum = get(one, 0);
            for (int t = 0; t < 3 * height; ++t) sum += get(w, t) * get(x, i * stride + offset[t] + j);
            expect("map_conv", get(y, i * n + j), get(one, 1) * tanh(sum));
        }
    }
    void *start = copied(sums, 3 * height);
    K->map_conv_weight(&g);
    for (int t = 0; t < 3 * height; ++t) {
        double sum = get(start, t);
        for (ptrdiff_t i = 0; i < m; ++i)
            for (ptrdiff_t j = 0; j < n; ++j) sum += get(y, i * n + j) * get(x, i * stride + offset[t] + j);
        expect("map_conv_weight", get(sums, t), sum);
    }
    free(x), free(w), free(one), free(y), free(sums), free(start);
}

// Maps as long as their results, with `above` rows of zeros before them and as many after as the results see.
static double bare_input(const fr_bare_conv *g, ptrdiff_t i, ptrdiff_t j, ptrdiff_t t, ptrdiff_t channel) {
    const ptrdiff_t row = i * g->step + t / g->kernel - g->above, column = j * g->step + t % g->kernel - g->kernel / 2;
    const int inside = row >= 0 && row < g->rows && column >= 0 && column < g->columns;
    return inside ? get(g->x, (row * g->columns + column) * g->apart + channel) : 0;
}

static void check_bare_conv(ptrdiff_t rows, ptrdiff_t y_rows, ptrdiff_t columns, ptrdiff_t kernel, ptrdiff_t step,
                            int activation) {
    const ptrdiff_t taps = kernel * kernel, W = K->width, n = (columns + step - 1) / step;
    void *x = filled(rows * columns), *w = filled(taps), *one = filled(2), *y = filled(y_rows * n),
         *sums = filled(taps * W);
    fr_bare_conv g = {.rows = rows,
                      .columns = columns,
                      .y_rows = y_rows,
                      .y_columns = n,
                      .above = n % kernel,
                      .kernel = kernel,
                      .step = step,
                      .x = x,
                      .weight = w};
    g.bias = one, g.gain = activation == FR_TANH ? (char *)one + size : NULL, g.activation = activation, g.y = y,
    g.sums = sums, g.apart = 1;
    K->bare_conv(&g);
    for (ptrdiff_t i = 0; i < y_rows; ++i) {
        for (ptrdiff_t j = 0; j < n; ++j) {
            double sum = get(one, 0);
            for (ptrdiff_t t = 0; t < taps; ++t) sum += get(w, t) * bare_input(&g, i, j, t, 0);
            expect("bare_conv", get(y, i * n + j), activation == FR_TANH ? get(one, 1) * tanh(sum) : sum > 0 ? sum : 0);
        }
    }
    void *start = copied(sums, taps * W);
    K->bare_conv_weight(&g);
    for (ptrdiff_t t = 0; t < taps; ++t) {
        double sum = 0, grown = 0;
        for (ptrdiff_t i = 0; i < y_rows; ++i)
            for (ptrdiff_t j = 0; j < n; ++j) sum += get(y, i * n + j) * bare_input(&g, i, j, t, 0);
        for (ptrdiff_t lane = 0; lane < W; ++lane) grown += get(sums, t * W + lane) - get(start, t * W + lane);
        expect("bare_conv_weight", grown, sum);
    }
    free(x), free(w), free(one), free(y), free(sums), free(start);
}

// The transpose of a stride of two: each value of x goes to the places that see it.
static void check_bare_spread(ptrdiff_t rows, ptrdiff_t y_rows, ptrdiff_t y_columns, ptrdiff_t kernel, int activation) {
    const ptrdiff_t taps = kernel * kernel, n = (y_columns + 1) / 2;
    void *x = filled(rows * n), *w = filled(taps), *one = filled(2), *y = filled(y_rows * y_columns);
    fr_bare_conv g = {.rows = rows,
                      .columns = n,
                      .y_rows = y_rows,
                      .y_columns = y_columns,
                      .above = n % kernel,
                      .kernel = kernel,
                      .step = 1,
                      .x = x,
                      .weight = w,
                      .bias = one,
                      .y = y,
                      .activation = activation};
    g.gain = activation == FR_TANH ? (char *)one + size : NULL;
    K->bare_spread(&g);
    for (ptrdiff_t r = 0; r < y_rows; ++r) {
        for (ptrdiff_t c = 0; c < y_columns; ++c) {
            double sum = get(one, 0);
            for (ptrdiff_t t = 0; t < taps; ++t) {
                const ptrdiff_t i = r + g.above - t / kernel, j = c + kernel / 2 - t % kernel;
                if (i >= 0 && j >= 0 && i % 2 == 0 && j % 2 == 0 && i / 2 < rows && j / 2 < n)
                    sum += get(w, t) * get(x, i / 2 * n + j / 2);
            }
            expect("bare_spread", get(y, r * y_columns + c),
                   activation == FR_TANH ? get(one, 1) * tanh(sum)
                   : sum > 0             ? sum
                                         : 0);
        }
    }
    free(x), free(w), free(one), free(y);
}

// The same with the channels last, in pixels of one channel more.
static void check_bare_conv_last(ptrdiff_t rows, ptrdiff_t y_rows, ptrdiff_t n, ptrdiff_t kernel, ptrdiff_t channels) {
    const ptrdiff_t taps = kernel * kernel, C = channels + 1;
    void *x = filled(rows * n * C), *w = filled(taps * C), *one = filled(2 * C), *y = filled(y_rows * n * C);
    void *sums = filled(taps * C), *start = copied(sums, taps * C), *before = copied(y, y_rows * n * C);
    fr_bare_conv g = {.rows = rows,
                      .columns = n,
                      .y_rows = y_rows,
                      .above = n % kernel,
                      .kernel = kernel,
                      .step = 1,
                      .x = x,
                      .weight = w};
    g.bias = one, g.gain = (char *)one + C * size, g.activation = FR_TANH, g.y = y, g.sums = sums;
    g.channels = channels, g.apart = g.tap_channels = C;
    K->bare_conv_last(&g), K->bare_conv_last_weight(&g);
    for (ptrdiff_t p = 0; p < y_rows * n; ++p) {
        for (ptrdiff_t c = 0; c < channels; ++c) {
            double sum = get(one, c);
            for (ptrdiff_t t = 0; t < taps; ++t) sum += get(w, t * C + c) * bare_input(&g, p / n, p % n, t, c);
            expect("bare_conv_last", get(y, p * C + c), get(one, C + c) * tanh(sum));
        }
        expect("bare_conv_last, between pixels", get(y, p * C + channels), get(before, p * C + channels));
    }
    for (ptrdiff_t t = 0; t < taps; ++t) {
        for (ptrdiff_t c = 0; c < channels; ++c) {
            double sum = get(start, t * C + c);
            for (ptrdiff_t p = 0; p < y_rows * n; ++p) sum += get(y, p * C + c) * bare_input(&g, p / n, p % n, t, c);
            expect("bare_conv_last_weight", get(sums, t * C + c), sum);
        }
    }
    free(x), free(w), free(one), free(y), free(sums), free(start), free(before);
}

// Three taps of one row, the first of which is outside for the first pixel, and the last for the last one.
static void check_pixel_conv(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t step, int resume) {
    ptrdiff_t place[64], one = 0;
    const ptrdiff_t places = (pixels - 1) * step + 3;
    for (ptrdiff_t i = 0; i < places; ++i) place[i] = i == 0 || i == places - 1 ? -1 : (i - 1) * channels;
    void *x = filled((places - 2) * channels), *w = filled(3 * channels), *bias = filled(channels),
         *y = filled(pixels * channels);
    void *sums = filled(3 * channels), *start = copied(sums, 3 * channels), *before = copied(y, pixels * channels);
    fr_pixel_conv g = {.channels = channels, .tap_channels = channels, .x = x, .weight = w};
    g.axis[0] = g.axis[1] =
        (fr_pixel_axis){.outputs = 1, .taps = 1, .step = 1, .pace = 1, .place = &one, .inner_end = 1};
    g.axis[2] = (fr_pixel_axis){.outputs = pixels, .taps = 3, .step = step, .pace = 1, .place = place, .inner = 1};
    g.axis[2].inner_end = pixels - 1, g.axis[2].x_stride = g.axis[2].y_stride = channels;
    g.axis[2].tap = 2, g.axis[2].tap_stride = -1;
    g.bias = bias, g.gain = bias, g.activation = resume ? FR_NONE : FR_SIGMOID, g.resume = resume, g.y = y,
    g.sums = sums;
    K->pixel_conv(&g), K->pixel_conv_weight(&g);
    for (ptrdiff_t c = 0; c < channels; ++c) {
        for (ptrdiff_t p = 0; p < pixels; ++p) {
            double sum = get(resume ? before : bias, (resume ? p * channels : 0) + c);
            for (int t = 0; t < 3; ++t)
                if (place[p * step + t] >= 0) sum += get(w, (2 - t) * channels + c) * get(x, place[p * step + t] + c);
            expect("pixel_conv", get(y, p * channels + c), get(bias, c) * (resume ? sum : sigmoid(sum)));
        }
        for (int t = 0; t < 3; ++t) {
            double sum = get(start, (2 - t) * channels + c);
            for (ptrdiff_t p = 0; p < pixels; ++p)
                if (place[p * step + t] >= 0) sum += get(y, p * channels + c) * get(x, place[p * step + t] + c);
            expect("pixel_conv_weight", get(sums, (2 - t) * channels + c), sum);
        }
    }
    free(x), free(w), free(bias), free(y), free(sums), free(start), free(before);
}

// Copies, gathered rows, added stretches, sums and the gradients of activations.
static void check_moves(ptrdiff_t n) {
    const ptrdiff_t W = K->width;
    const ptrdiff_t row[] = {1, 0, 4}, segment[] = {0, n + 2};
    void *src = filled(3 * n + 8 + 2 * W), *dst = filled(n), *rows_ = filled(3 * 2 * n + W);
    K->gather(3, 2, n, src, row, segment, rows_, 2 * n);
    for (ptrdiff_t first = 0; first < n; first += 3) {
        K->copy_past(n - first, src, (char *)dst + first * size);
        for (ptrdiff_t j = first; j < n; ++j) expect("copy_past", get(dst, j), get(src, j - first));
    }
    for (ptrdiff_t r = 0; r < 3; ++r) {
        for (ptrdiff_t j = 0; j < 2 * n; ++j)
            expect("gather", get(rows_, r * 2 * n + j), get(src, row[r] + segment[j / n] + j % n));
    }
    void *sums = filled(3 * n), *start = copied(sums, 3 * n), *total = filled(1), *da = filled(n),
         *first = copied(total, 1);
    K->add_stretches(3, n, src, n, sums, n);
    K->add_sum(n, src, total);
    double sum = get(first, 0);
    for (ptrdiff_t j = 0; j < n; ++j) sum += get(src, j);
    expect("add_sum", get(total, 0), sum);
    for (ptrdiff_t j = 0; j < 3 * n; ++j) expect("add_stretches", get(sums, j), get(start, j) + get(src, j));
    for (int activation = FR_NONE; activation <= FR_SIGMOID; ++activation) {
        K->activation_gradient(n, src, start, da, activation);
        for (ptrdiff_t j = 0; j < n; ++j) {
            const double h = get(src, j), slope[] = {1, h > 0, 1 - h * h, h * (1 - h)};
            expect("activation_gradient", get(da, j), get(start, j) * slope[activation]);
        }
    }
    free(src), free(dst), free(rows_), free(sums), free(start), free(total), free(da), free(first);
}

// Three windows of two rows of a kernel `width` long over two channels; the second window sees the border on either side, and one
// row nothing at all.
static void check_columns(ptrdiff_t width) {
    const ptrdiff_t lo = width > 1, stride = 4 * width + 1, map_stride = 2 * width + 5;
    const fr_span seen[] = {{0, 0, width},   {3, 0, width}, {-lo, lo, width},
                            {1000000, 0, 0}, {1, 0, width}, {2, 0, width - lo}};
    void *map = filled(map_stride + width + 3), *to = filled(2 * stride + 4 * width);
    K->take_columns(&(fr_columns){.windows = 3,
                                  .rows = 2,
                                  .width = width,
                                  .channels = 2,
                                  .seen = seen,
                                  .map = map,
                                  .map_stride = map_stride,
                                  .columns = to,
                                  .column_stride = stride});
    for (ptrdiff_t i = 0; i < 3 * 4 * width; ++i) {
        const ptrdiff_t w = i / (4 * width), c = i / (2 * width) % 2, r = i / width % 2, j = i % width;
        const fr_span span = seen[2 * w + r];
        expect("take_columns", get(to, w * stride + i % (4 * width)),
               span.first <= j && j < span.end ? get(map, c * map_stride + span.at + j) : 0);
    }
    free(map), free(to);
}

static void check_dots(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k) {
    void *a = filled(rows * (k + 1)), *b = filled(columns * (k + 2)), *c = filled(rows * (columns + 1));
    void *before = copied(c, rows * (columns + 1));
    K->add_dots(&(fr_dots){.rows = rows,
                           .columns = columns,
                           .k = k,
                           .a = a,
                           .a_stride = k + 1,
                           .b = b,
                           .b_stride = k + 2,
                           .c = c,
                           .c_stride = columns + 1});
    for (ptrdiff_t i = 0; i < rows * (columns + 1); ++i) {
        const ptrdiff_t row = i / (columns + 1), column = i % (columns + 1);
        double sum = get(before, i);
        for (ptrdiff_t j = 0; j < k && column < columns; ++j)
            sum += get(a, row * (k + 1) + j) * get(b, column * (k + 2) + j);
        expect("add_dots", get(c, i), sum);
    }
    free(a), free(b), free(c), free(before);
}

static void check_convolution(void) {
    const ptrdiff_t W = K->width;
    for (ptrdiff_t width = 1; width <= 2 * W + 1; width += W / 4 + 1) check_columns(width);
    for (ptrdiff_t rows = 1; rows <= 6; ++rows)
        for (ptrdiff_t columns = 1; columns <= 6; ++columns) check_dots(rows, columns, 1 + rows * columns * W / 5);
    for (ptrdiff_t r = 1; r <= 14; ++r)
        for (int vectors = 1; vectors <= 4; ++vectors) check_conv(r, vectors, 1 + r, vectors % 2);
    for (ptrdiff_t units = 1; units <= 14; ++units) {
        for (ptrdiff_t vectors = 1; vectors <= 7; ++vectors)
            check_planes(units, vectors, vectors > 1 ? W : 1 + units % W);
    }
    for (ptrdiff_t m = 1; m <= 2 * W + 1; m += W / 4 + 1)
        for (ptrdiff_t n = 1; n <= 2 * W + 1; n += W / 4 + 1) check_turn(m, n, (int)((m + n) % 4));
    for (ptrdiff_t n = 1; n <= 2 * W + 1; ++n) {
        check_pack_taps(1 + n % W, n), check_moves(n);
        check_pixel_conv(1 + n % 19, n, 1 + n % 2, n % 3 == 0), check_pixel_conv(19 - n % 19, n, 2 - n % 2, 0);
        for (ptrdiff_t step = 1; step <= 4; ++step)
            check_pad_plane(n - 1, step, n % 3), check_turn_places(1 + n % (W + 3), n, step),
                check_turn_places(2 * W + 1, n, step);
        for (ptrdiff_t phases = 1; phases <= 9; ++phases)
            check_weave(n, phases), check_weave(n * phases + n % 3, phases);
        for (ptrdiff_t step = 1; step <= 4; ++step) check_spread(n, step, 1 + n % 3), check_sum_phases(n, step);
        check_tap_sums(n, 1 + n % 7, (int)(n % 4)), check_tap_sums(4 * W + n, 4, FR_NONE);
        for (ptrdiff_t inside = 0; inside <= 4; ++inside)
            check_clear_around(n + 3, n % 3, n, inside), check_clear_around(n, n / 2, n % 2 ? n - n / 2 : 0, inside);
        for (int height = 3; height <= 7; height += 2) {
            check_map_conv(1 + n % 6, 2 * n, height, 1), check_map_conv(2, n, height, 0);
            for (ptrdiff_t step = 1; step <= 2; ++step) {
                check_bare_conv(1 + n % 9, 9, n, height, step, FR_TANH);
                check_bare_conv(11, 1 + n % 9, 4 * n + n % 4, height, step, FR_RELU);
            }
            check_bare_spread(1 + n % 9, 9, n, height, FR_TANH),
                check_bare_spread(11, 1 + n % 9, 4 * n + n % 4, height, FR_RELU);
            check_bare_conv_last(1 + n % 6, 1 + n % 5, 1 + n % 7, height, n);
        }
    }
}
