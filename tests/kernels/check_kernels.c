// Checks every kernel of the tables this CPU can run against plain loops in double, with exact-size heap buffers, so that a
// sanitizer sees any access past the end. Also built for other architectures and run under an emulator. Prints one line a table.
#define _POSIX_C_SOURCE 200112L  // posix_memalign

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fr_dispatch.h"

static int failures;
static int size;          // bytes of one element of the table under test
static double tolerance;  // relative to max(1, |wanted|)
static const fr_kernels *K;
static const char *isa;
static unsigned state = 1;

static double uniform(void) {  // xorshift, -1..1
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state / 2147483648.0 - 1;
}

static double get(const void *a, ptrdiff_t i) { return size == 4 ? ((const float *)a)[i] : ((const double *)a)[i]; }

static void put(void *a, ptrdiff_t i, double value) {
    if (size == 4) ((float *)a)[i] = (float)value;
    else ((double *)a)[i] = value;
}

static void *filled(ptrdiff_t n) {
    void *a = malloc(n ? n * size : 1);
    for (ptrdiff_t i = 0; i < n; ++i) put(a, i, uniform());
    return a;
}

// On a line of the cache: outputs that are stored past the caches are aligned alike.
static void *lined(ptrdiff_t n) {
    void *a = NULL;
    if (posix_memalign(&a, 64, n ? n * size : 1)) abort();
    for (ptrdiff_t i = 0; i < n; ++i) put(a, i, uniform());
    return a;
}

static void *copied(const void *a, ptrdiff_t n) {
    void *b = malloc(n ? n * size : 1);
    memcpy(b, a, n * size);
    return b;
}

static void expect(const char *what, double got, double wanted) {
    if (fabs(got - wanted) <= tolerance * fmax(1, fabs(wanted))) return;
    if (++failures <= 20) printf("FAILED %s f%d %s: got %.17g, wanted %.17g\n", isa, 8 * size, what, got, wanted);
}

// C [rows, columns] (+)= init + A B with every slot count, strides larger than the rows, A by rows or by columns.
static void check_gemm(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k, int slots, int add, int transposed) {
    const ptrdiff_t W = K->width, panel = slots * W, panels = (columns + panel - 1) / panel;
    const ptrdiff_t c_stride = columns + 3;
    void *a = filled(rows * k), *b = filled(panels * k * panel), *init = filled(columns);
    void *c = filled((rows - 1) * c_stride + columns), *before = copied(c, (rows - 1) * c_stride + columns);
    fr_gemm g = {
        .rows = rows, .panels = panels, .columns = columns, .slots = slots, .runs = 1, .add = add, .backwards = add};
    g.run[0] = (fr_run){.a = a,
                        .row_stride = transposed ? 1 : k,
                        .k_stride = transposed ? rows : 1,
                        .segments = 1,
                        .length = k,
                        .b = b,
                        .b_stride = panel,
                        .panel_stride = k * panel,
                        .vectors = slots,
                        .last = slots - 1};
    g.init = init, g.init_panel_stride = panel;
    g.c = c, g.c_row_stride = c_stride, g.c_panel_stride = panel;
    K->gemm(&g);
    for (ptrdiff_t r = 0; r < rows; ++r) {
        for (ptrdiff_t j = 0; j < columns; ++j) {
            double sum = get(init, j) + (add ? get(before, r * c_stride + j) : 0);
            for (ptrdiff_t i = 0; i < k; ++i)
                sum += get(a, transposed ? i * rows + r : r * k + i) * get(b, (j / panel * k + i) * panel + j % panel);
            expect("gemm", get(c, r * c_stride + j), sum);
        }
        for (ptrdiff_t j = columns; j < c_stride && r < rows - 1; ++j)
            expect("gemm, between rows", get(c, r * c_stride + j), get(before, r * c_stride + j));
    }
    free(a), free(b), free(init), free(c), free(before);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// The gates' buffer [panel][row][4 W] of one cell, and the plain arrays beside it.
static ptrdiff_t rows, units, width, panels;

static ptrdiff_t at(ptrdiff_t row, ptrdiff_t unit, int gate) {
    return (unit / width * rows + row) * 4 * width + gate * width + unit % width;
}

static void check_lstm(void) {
    const ptrdiff_t padded = panels * width;
    void *gates = filled(panels * rows * 4 * width), *pre = copied(gates, panels * rows * 4 * width);
    void *c_prev = filled(rows * padded), *c = filled(rows * padded), *h = filled(rows * units);
    K->lstm(&(fr_cell){.rows = rows,
                       .panels = panels,
                       .units = units,
                       .gates = gates,
                       .gates_panel_stride = rows * 4 * width,
                       .keep = 1,
                       .c_prev = c_prev,
                       .c_prev_stride = padded,
                       .c = c,
                       .c_stride = padded,
                       .h = h,
                       .h_stride = units});
    void *dh = filled(rows * padded), *dc = filled(rows * padded), *dc_in = copied(dc, rows * padded),
         *dy = filled(rows * units);
    void *grads = copied(gates, panels * rows * 4 * width);
    K->lstm_backward(&(fr_cell_backward){.rows = rows,
                                         .panels = panels,
                                         .units = units,
                                         .gates = grads,
                                         .gates_panel_stride = rows * 4 * width,
                                         .c_prev = c_prev,
                                         .c = c,
                                         .c_prev_stride = padded,
                                         .c_stride = padded,
                                         .dy = dy,
                                         .dy_stride = units,
                                         .dh = dh,
                                         .dh_stride = padded,
                                         .dc = dc,
                                         .dc_stride = padded});
    for (ptrdiff_t r = 0; r < rows; ++r) {
        for (ptrdiff_t u = 0; u < units; ++u) {
            const double i = sigmoid(get(pre, at(r, u, 0))), f = sigmoid(get(pre, at(r, u, 1)));
            const double g = tanh(get(pre, at(r, u, 2))), o = sigmoid(get(pre, at(r, u, 3)));
            const double before = get(c_prev, r * padded + u), cell = f * before + i * g, t = tanh(cell);
            expect("lstm c", get(c, r * padded + u), cell);
            expect("lstm h", get(h, r * units + u), o * t);
            expect("lstm gate", get(gates, at(r, u, 1)), f);
            const double d = get(dh, r * padded + u) + get(dy, r * units + u);
            const double dcell = get(dc_in, r * padded + u) + d * o * (1 - t * t);
            expect("lstm di", get(grads, at(r, u, 0)), dcell * g * i * (1 - i));
            expect("lstm df", get(grads, at(r, u, 1)), dcell * before * f * (1 - f));
            expect("lstm dg", get(grads, at(r, u, 2)), dcell * i * (1 - g * g));
            expect("lstm do", get(grads, at(r, u, 3)), d * t * o * (1 - o));
            expect("lstm dc", get(dc, r * padded + u), dcell * f);
        }
        for (ptrdiff_t u = units; u < padded; ++u) expect("lstm padding", get(grads, at(r, u, 0)), 0);
    }
    free(gates), free(pre), free(c_prev), free(c), free(h), free(dh), free(dc), free(dc_in), free(dy), free(grads);
}

static void check_gru(int reset_after) {
    const ptrdiff_t padded = panels * width, all = panels * rows * 4 * width;
    void *gates = filled(all), *pre = copied(gates, all), *h_prev = filled(rows * units), *h = filled(rows * units);
    fr_cell cell = {.rows = rows,
                    .panels = panels,
                    .units = units,
                    .gates = gates,
                    .gates_panel_stride = rows * 4 * width,
                    .keep = 1,
                    .h_prev = h_prev,
                    .h_prev_stride = units,
                    .h = h,
                    .h_stride = units};
    if (reset_after) K->gru(&cell);
    else K->gru_reset(&cell);
    for (ptrdiff_t r = 0; r < rows && !reset_after; ++r)
        for (ptrdiff_t u = 0; u < units; ++u)
            expect("gru r h", get(h, r * units + u), sigmoid(get(pre, at(r, u, 0))) * get(h_prev, r * units + u));
    if (!reset_after) K->gru_update(&cell);
    void *dh = filled(rows * padded), *dh_in = copied(dh, rows * padded), *dy = filled(rows * units),
         *drh = filled(rows * padded);
    void *grads = copied(gates, all);
    fr_cell_backward back = {.rows = rows,
                             .panels = panels,
                             .units = units,
                             .gates = grads,
                             .gates_panel_stride = rows * 4 * width,
                             .h_prev = h_prev,
                             .h_prev_stride = units,
                             .dy = dy,
                             .dy_stride = units,
                             .dh = dh,
                             .dh_stride = padded,
                             .drh = drh,
                             .drh_stride = padded};
    if (reset_after) K->gru_backward(&back);
    else K->gru_update_backward(&back), K->gru_reset_backward(&back);
    for (ptrdiff_t row = 0; row < rows; ++row) {
        for (ptrdiff_t u = 0; u < units; ++u) {
            const double r = sigmoid(get(pre, at(row, u, 0))), z = sigmoid(get(pre, at(row, u, 1)));
            const double a_h = get(pre, at(row, u, 3)), p = get(h_prev, row * units + u);
            const double n = tanh(get(pre, at(row, u, 2)) + (reset_after ? r * a_h : 0));
            expect("gru h", get(h, row * units + u), (1 - z) * n + z * p);
            const double d = get(dh_in, row * padded + u) + get(dy, row * units + u), dn = d * (1 - z) * (1 - n * n);
            const double through = get(drh, row * padded + u);
            expect("gru dn", get(grads, at(row, u, 2)), dn);
            expect("gru dz", get(grads, at(row, u, 1)), d * (p - n) * z * (1 - z));
            expect("gru dr", get(grads, at(row, u, 0)), (reset_after ? dn * a_h : through * p) * r * (1 - r));
            if (reset_after) expect("gru da_h", get(grads, at(row, u, 3)), dn * r);
            expect("gru dh", get(dh, row * padded + u), d * z + (reset_after ? 0 : through * r));
        }
    }
    free(gates), free(pre), free(h_prev), free(h), free(dh), free(dh_in), free(dy), free(drh), free(grads);
}

static void check_rnn(int rectified) {
    const ptrdiff_t wide = 4 * width, p4 = (units + wide - 1) / wide, all = p4 * rows * wide, padded = p4 * wide;
    void *gates = filled(all), *h = filled(rows * units), *dh = filled(rows * padded), *grads = filled(all);
    const fr_cell cell = {.rows = rows,
                          .panels = p4,
                          .units = units,
                          .gates = gates,
                          .gates_panel_stride = rows * wide,
                          .h = h,
                          .h_stride = units};
    const fr_cell_backward back = {.rows = rows,
                                   .panels = p4,
                                   .units = units,
                                   .gates = grads,
                                   .gates_panel_stride = rows * wide,
                                   .h = h,
                                   .h_stride = units,
                                   .dh = dh,
                                   .dh_stride = padded};
    if (rectified) K->rnn_relu(&cell), K->rnn_relu_backward(&back);
    else K->rnn_tanh(&cell), K->rnn_tanh_backward(&back);
    for (ptrdiff_t r = 0; r < rows; ++r) {
        for (ptrdiff_t u = 0; u < units; ++u) {
            const ptrdiff_t place = (u / wide * rows + r) * wide + u % wide;
            const double a = get(gates, place), wanted = rectified ? fmax(a, 0) : tanh(a), d = get(dh, r * padded + u);
            expect("rnn h", get(h, r * units + u), wanted);
            expect("rnn da", get(grads, place), rectified ? (wanted > 0 ? d : 0) : d * (1 - wanted * wanted));
        }
    }
    free(gates), free(h), free(dh), free(grads);
}

static void check_maps(ptrdiff_t n) {
    void *x = filled(n), *y = filled(n);
    for (ptrdiff_t i = 0; i < n; ++i) put(x, i, 8 * get(x, i));
    const struct {
        fr_map_fn fast;
        double (*slow)(double);
    } maps[] = {{K->exp, exp}, {K->sigmoid, sigmoid}, {K->tanh, tanh}};
    for (int m = 0; m < 3; ++m) {
        maps[m].fast(n, x, y);
        for (ptrdiff_t i = 0; i < n; ++i) expect("map", get(y, i), maps[m].slow(get(x, i)));
    }
    free(x), free(y);
}

static void check_packing(ptrdiff_t count, ptrdiff_t columns) {
    const ptrdiff_t W = K->width, wide = 4 * W, p4 = (columns + wide - 1) / wide, u = columns < W ? columns : W;
    void *src = filled(count * columns), *dst = filled(p4 * count * wide), *sums = filled(p4 * wide);
    void *before = copied(sums, p4 * wide);
    K->pack_rows(count, columns, src, columns, dst, wide, count * wide);
    K->column_sums(count, p4, dst, count * wide, sums);
    for (ptrdiff_t j = 0; j < p4 * wide; ++j) {
        double sum = get(before, j);
        for (ptrdiff_t r = 0; r < count; ++r) {
            const double wanted = j < columns ? get(src, r * columns + j) : 0;
            expect("pack_rows", get(dst, (j / wide * count + r) * wide + j % wide), wanted);
            sum += wanted;
        }
        expect("column_sums", get(sums, j), sum);
    }
    void *turned = filled(count * W), *rows_of_units = filled(u * count);
    K->pack_units(u, count, rows_of_units, count, turned, W);
    for (ptrdiff_t i = 0; i < count; ++i)
        for (ptrdiff_t j = 0; j < W; ++j)
            expect("pack_units", get(turned, i * W + j), j < u ? get(rows_of_units, j * count + i) : 0);
    free(src), free(dst), free(sums), free(before), free(turned), free(rows_of_units);
}

// The other optimisers, each from the same start; `step` knows all numbers.
static void check_adaptive(fr_optim *step, ptrdiff_t n, void *p, const void *p0) {
    void *a = filled(n), *b = filled(n), *c = filled(n);
    for (ptrdiff_t i = 0; i < n; ++i) put(a, i, 1.5 + get(a, i)), put(b, i, fabs(get(b, i)) / 4);
    for (int kind = 0; kind < 3; ++kind) {
        void *a0 = copied(a, n), *b0 = copied(b, n), *c0 = copied(c, n);
        memcpy(p, p0, n * size);
        step->slot[0] = a, step->slot[1] = kind == 1 ? NULL : b, step->slot[2] = kind == 0 ? c : NULL;
        (kind == 0 ? K->rmsprop : kind == 1 ? K->adagrad : K->adadelta)(step);
        for (ptrdiff_t i = 0; i < n; ++i) {
            const double g = get(step->grad, i) + .2 * get(p0, i), s = .99 * get(a0, i) + .01 * g * g;
            const double mean = .99 * get(b0, i) + .01 * g;
            double move;
            if (kind == 0) move = .9 * get(c0, i) + g / (sqrt(s - mean * mean) + 1e-3);
            else if (kind == 1) move = g / (sqrt(get(a0, i) + g * g) + 1e-3);
            else move = sqrt(get(b0, i) + 1e-3) / sqrt(s + 1e-3) * g;
            expect(kind == 0 ? "rmsprop" : kind == 1 ? "adagrad" : "adadelta", get(p, i), get(p0, i) - .1 * move);
        }
        memcpy(a, a0, n * size), memcpy(b, b0, n * size);
        free(a0), free(b0), free(c0);
    }
    free(a), free(b), free(c);
}

static void check_clipping(ptrdiff_t n) {
    void *x = filled(n), *x0 = copied(x, n);
    double sums[2] = {0, 0}, wanted = 0;
    K->sum_squares(n, x, sums);
    for (ptrdiff_t i = 0; i < n; ++i) wanted += get(x, i) * get(x, i);
    expect("sum_squares", sums[0] + sums[1], wanted);
    K->limit(n, .5, x);
    K->scale(n, 3, x);
    for (ptrdiff_t i = 0; i < n; ++i) expect("clip", get(x, i), 3 * fmax(-.5, fmin(.5, get(x0, i))));
    free(x), free(x0);
}

// Bags of 0, 1, 2, .. rows of a table, sums and maxima, and the gradients as two members of a team add them.
static void check_bags(ptrdiff_t wide) {
    enum { BAGS = 5, POSITIONS = 10, ROWS = 17 };
    void *table = filled(ROWS * wide), *y = filled(BAGS * wide), *factors = filled(POSITIONS), *scale = filled(BAGS);
    void *grad = filled(ROWS * wide), *before = copied(grad, ROWS * wide), *picked = filled(POSITIONS * wide);
    int64_t *tokens = malloc(POSITIONS * sizeof *tokens);
    ptrdiff_t *start = malloc((BAGS + 1) * sizeof *start);
    int32_t *places = malloc(BAGS * wide * sizeof *places);
    double *wanted = calloc(ROWS * wide, sizeof *wanted);
    for (ptrdiff_t i = 0; i < POSITIONS; ++i) tokens[i] = (i * 5 + 3) % 7 * 16 % ROWS;
    for (ptrdiff_t b = 0; b <= BAGS; ++b) start[b] = b * (b - 1) / 2;
    K->pick_rows(POSITIONS, wide, tokens, table, picked);
    for (ptrdiff_t i = 0; i < POSITIONS * wide; ++i)
        expect("pick_rows", get(picked, i), get(table, tokens[i / wide] * wide + i % wide));
    fr_bags s = {.bags = BAGS, .width = wide, .tokens = tokens, .start = start, .factors = factors, .scale = scale};
    for (int largest = 0; largest < 2; ++largest) {
        s.table = table, s.y = y, s.places = largest ? places : NULL;
        K->bags(&s);
        s.table = grad, s.members = 2;
        for (s.member = 0; s.member < 2; ++s.member) K->bags_backward(&s);
        for (ptrdiff_t b = 0; b < BAGS; ++b) {
            for (ptrdiff_t j = 0; j < wide; ++j) {
                double sum = 0, best = -9;
                ptrdiff_t at = -1;
                for (ptrdiff_t i = start[b]; i < start[b + 1]; ++i) {
                    const double x = get(table, tokens[i] * wide + j);
                    sum += get(factors, i) * x;
                    if (x > best) best = x, at = i;
                    if (!largest)
                        wanted[tokens[i] * wide + j] += get(scale, b) * get(factors, i) * get(y, b * wide + j);
                }
                expect("bags", get(y, b * wide + j), !largest ? get(scale, b) * sum : at < 0 ? 0 : best);
                if (largest) expect("bags, places", places[b * wide + j], at < 0 ? -1 : (double)(at - start[b]));
                if (largest && at >= 0) wanted[tokens[at] * wide + j] += best;
            }
        }
    }
    tokens[0] = -1;
    s.start = NULL, s.factors = s.scale = NULL, s.places = NULL, s.members = 1, s.member = 0;
    K->bags_backward(&s);
    for (ptrdiff_t i = wide; i < BAGS * wide; ++i) wanted[tokens[i / wide] * wide + i % wide] += get(y, i);
    for (ptrdiff_t i = 0; i < ROWS * wide; ++i) expect("bags_backward", get(grad, i), get(before, i) + wanted[i]);
    free(table), free(y), free(factors), free(scale), free(grad), free(before), free(picked);
    free(tokens), free(start), free(places), free(wanted);
}

static void check_optimisers(ptrdiff_t n) {
    void *p = filled(n), *g = filled(n), *m = filled(n), *v = filled(n);
    for (ptrdiff_t i = 0; i < n; ++i) put(v, i, fabs(get(v, i)));
    void *p0 = copied(p, n), *m0 = copied(m, n), *v0 = copied(v, n);
    fr_optim step = {.n = n,
                     .param = p,
                     .grad = g,
                     .slot = {m, v},
                     .lr = .1,
                     .beta1 = .9,
                     .beta2 = .99,
                     .eps = 1e-3,
                     .weight_decay = .2,
                     .correction1 = .5,
                     .correction2 = .3};
    K->adam(&step);
    for (ptrdiff_t i = 0; i < n; ++i) {
        const double d = get(g, i) + .2 * get(p0, i), m1 = .9 * get(m0, i) + .1 * d,
                     v1 = .99 * get(v0, i) + .01 * d * d;
        expect("adam", get(p, i), get(p0, i) - .1 / .5 * m1 / (sqrt(v1 / .3) + 1e-3));
    }
    memcpy(p, p0, n * size);
    K->sgd(&(fr_optim){.n = n,
                       .param = p,
                       .slot = {m0},
                       .grad = g,
                       .lr = .1,
                       .beta1 = .8,
                       .dampening = .1,
                       .nesterov = 1,
                       .first = 1});
    for (ptrdiff_t i = 0; i < n; ++i) expect("sgd", get(p, i), get(p0, i) - .1 * 1.8 * get(g, i));
    check_adaptive(&step, n, p, p0);
    free(p), free(g), free(m), free(v), free(p0), free(m0), free(v0);
}

static void check_cross_entropy(ptrdiff_t count, ptrdiff_t classes) {
    void *x = filled(count * classes), *dx = filled(count * classes);
    ptrdiff_t *targets = malloc(count * sizeof *targets);
    double *losses = malloc(count * sizeof *losses);
    for (ptrdiff_t r = 0; r < count; ++r) targets[r] = r % 3 == 2 ? -1 : r % classes;
    void *weight = filled(classes), *chances = filled(classes);
    double total = 0;
    for (ptrdiff_t j = 0; j < classes; ++j) total += get(weight, j);
    for (int weighted = 0; weighted < 2; ++weighted) {
        const double smoothing = .3 * weighted;
        K->cross_entropy(&(fr_cross_entropy){.rows = count,
                                             .classes = classes,
                                             .logits = x,
                                             .targets = targets,
                                             .scale = .5,
                                             .dlogits = dx,
                                             .losses = losses,
                                             .weight = weighted ? weight : NULL,
                                             .smoothing = smoothing,
                                             .total = total});
        for (ptrdiff_t r = 0; r < count; ++r) {
            double sum = 0, loss = 0, all = 0;
            for (ptrdiff_t j = 0; j < classes; ++j) sum += exp(get(x, r * classes + j));
            expect("softmax_row", K->softmax_row(classes, (char *)x + r * classes * size, chances), log(sum));
            for (int pass = 0; pass < 2; ++pass) {
                for (ptrdiff_t j = 0; j < classes; ++j) {
                    const double w = weighted ? get(weight, j) : 1, z = get(x, r * classes + j);
                    const double q =
                        targets[r] < 0 ? 0 : w * ((1 - smoothing) * (targets[r] == j) + smoothing / classes);
                    if (pass) expect("dlogits", get(dx, r * classes + j), .5 * (all * exp(z) / sum - q));
                    else all += q, loss += q * (log(sum) - z);
                    if (pass) expect("softmax_row", get(chances, j), exp(z) / sum);
                }
            }
            expect("loss", losses[r], loss);
        }
    }
    free(weight), free(chances);
    free(x), free(dx), free(targets), free(losses);
}

#include "check_activation.h"
#include "check_conv.h"
#include "check_norm.h"

#include "check_loss.h"

// Windows of a map of `maps` planes (channels first) or samples, against plain loops; vectors meet both borders.
static void check_pool(ptrdiff_t H, ptrdiff_t W, ptrdiff_t kernel, ptrdiff_t stride, int mode, ptrdiff_t channels,
                       int turned) {
    enum { MAPS = 3 };
    const ptrdiff_t padding = kernel / 2, C = channels ? channels : 1;
    const ptrdiff_t OH = (H + 2 * padding - kernel) / stride + 1, OW = (W + 2 * padding - kernel) / stride + 1;
    const ptrdiff_t all_x = MAPS * H * W * C, all_y = MAPS * OH * OW * C;
    void *x = filled(all_x), *y = filled(all_y), *dy = filled(all_y), *dx = filled(all_x), *first = filled(OW);
    void *one = filled(1), *h = filled(OH), *w = filled(OW);
    uint8_t *taps = malloc(all_y);
    double *wanted = calloc(all_x, sizeof *wanted);
    put(one, 0, 1);
    for (ptrdiff_t o = 0; o < OH; ++o) put(h, o, 1);
    for (ptrdiff_t o = 0; o < OW; ++o) put(w, o, 1), put(first, o, o * stride < padding ? padding - o * stride : 0);
    fr_pool s = {.mode = mode,
                 .turned = turned,
                 .axis = {{1, 1, 1, 1, 0, 1}, {H, OH, kernel, stride, padding, 1}, {W, OW, kernel, stride, padding, 1}},
                 .channels = channels,
                 .rows = MAPS * OH,
                 .x = x,
                 .y = y,
                 .taps = mode == FR_POOL_SUM ? NULL : taps,
                 .first = first,
                 .scale = {one, h, w}};
    if (channels) K->pool_last(&s);
    else K->pool(&s);
    for (ptrdiff_t i = 0; i < all_y; ++i) {
        const ptrdiff_t c = i % C, ow = i / C % OW, oh = i / C / OW % OH, map = i / C / OW / OH;
        double best = mode == FR_POOL_SUM ? 0 : -INFINITY;
        ptrdiff_t taken = 0;
        for (ptrdiff_t t = 0; t < kernel * kernel; ++t) {
            const ptrdiff_t p = oh * stride - padding + t / kernel, q = ow * stride - padding + t % kernel;
            const ptrdiff_t at = ((map * H + p) * W + q) * C + c;
            if (p < 0 || p >= H || q < 0 || q >= W) continue;
            if (mode == FR_POOL_SUM) best += get(x, at), wanted[at] += get(dy, i);
            else if ((mode == FR_POOL_MIN ? -1 : 1) * get(x, at) > best)
                best = (mode == FR_POOL_MIN ? -1 : 1) * get(x, at), taken = t;
        }
        expect("pool", get(y, i), mode == FR_POOL_MIN ? -best : best);
        if (mode == FR_POOL_SUM) continue;
        expect("pool tap", taps[i], (double)taken);
        wanted[((map * H + oh * stride - padding + taken / kernel) * W + ow * stride - padding + taken % kernel) * C +
               c] += get(dy, i);
    }
    s.rows = MAPS * H, s.x = dy, s.y = dx;
    if (channels) K->pool_last_backward(&s);
    else K->pool_backward(&s);
    for (ptrdiff_t i = 0; i < all_x; ++i) expect("pool dx", get(dx, i), wanted[i]);
    s.rows = MAPS * OH, s.x = x, s.y = y, s.taps = NULL;  // without taps the same values
    void *with_taps = copied(y, all_y);
    if (channels) K->pool_last(&s);
    else K->pool(&s);
    for (ptrdiff_t i = 0; i < all_y; ++i) expect("pool without taps", get(y, i), get(with_taps, i));
    free(x), free(y), free(dy), free(dx), free(first), free(one), free(h), free(w), free(taps), free(wanted),
        free(with_taps);
}

static void check_time_pool(ptrdiff_t T, ptrdiff_t C, int mode, int time_last) {
    const ptrdiff_t steps = (T + 1) / 2 + T / 4, k = mode == FR_TIME_KMAX ? 3 : 1;
    void *x = filled(T * C), *y = filled(k * C), *dx = filled(T * C);
    int32_t *times = malloc(k * C * sizeof *times);
    fr_time_pool s = {.mode = mode,
                      .end = steps,
                      .steps = steps,
                      .total = T,
                      .columns = C,
                      .time_stride = time_last ? 1 : C,
                      .column_stride = time_last ? T : 1,
                      .k = k,
                      .y_time_stride = C,
                      .y_column_stride = 1,
                      .divisor = 2,
                      .x = x,
                      .y = y,
                      .times = times,
                      .dx = dx};
    K->time_pool(&s);
    s.end = T;
    K->time_pool_backward(&s);
    for (ptrdiff_t c = 0; c < C; ++c) {
        double sum = 0, best = -INFINITY, given = 0;
        for (ptrdiff_t t = 0; t < T; ++t) {
            const double value = get(x, t * s.time_stride + c * s.column_stride);
            if (t < steps) sum += value / 2, best = fmax(best, value);
            given += get(dx, t * s.time_stride + c * s.column_stride);
        }
        double largest = -INFINITY, all = 0;
        for (ptrdiff_t i = 0; i < k; ++i) all += get(y, i * C + c), largest = fmax(largest, get(y, i * C + c));
        expect("time pool", mode == FR_POOL_SUM ? all : largest,
               mode == FR_POOL_SUM ? sum
               : steps < k         ? fmax(best, 0)
                                   : best);
        expect("time pool dx", given, mode == FR_POOL_SUM ? all * (double)steps / 2 : all);
    }
    free(x), free(y), free(dx), free(times);
}

static void check_pools(void) {
    for (ptrdiff_t W = 1; W <= 2 * width + 3; W += 1 + W / 8)
        for (ptrdiff_t kernel = 2; kernel <= 4; ++kernel)
            for (ptrdiff_t stride = 1; stride <= 3; ++stride)
                for (int mode = FR_POOL_MAX; mode <= FR_POOL_SUM; ++mode) {
                    check_pool(5, W, kernel, stride, mode, 0, 0), check_pool(5, 4, kernel, stride, mode, W, 0);
                    if (5 * W <= FR_POOL_TURNED) check_pool(5, W, kernel, stride, mode, 0, 1);
                    if (stride >= kernel) check_pool(31, 10 + W, kernel, stride, mode, 0, 1);
                }
    for (ptrdiff_t n = 1; n <= 5 * width; n += 1 + n / 4)
        for (int mode = FR_POOL_MAX; mode <= FR_TIME_KMAX; ++mode)
            if (mode != FR_POOL_MIN) check_time_pool(n, 3, mode, 1), check_time_pool(20, n, mode, 0);
}

// Products of Winograd's points against those of plain loops; x and the weights are fetched meanwhile.
static void check_product(fr_winograd w, ptrdiff_t count, int slots, const void *v, const void *u, const void *m,
                          fr_boxes x, fr_boxes weight) {
    const ptrdiff_t wide = 4 * K->width, tiles = w.tile_rows * w.tile_columns,
                    points = (ptrdiff_t)w.points[0] * w.points[1];
    void *got = filled(points * tiles * wide);
    fr_fetch fetch = {.part = {x, weight}};
    fr_gemm g = {.rows = tiles, .panels = points, .columns = points * slots * K->width, .slots = slots, .runs = 1};
    g.run[0] = (fr_run){.a = v, .row_stride = w.tile_stride, .k_stride = 1, .segments = 1, .length = count, .b = u};
    g.run[0].b_stride = wide, g.run[0].panel_stride = count * wide, g.run[0].vectors = slots, g.run[0].last = slots - 1;
    g.run[0].a_panel_stride = w.point_stride;
    g.c = got, g.c_row_stride = wide, g.c_panel_stride = tiles * wide;
    K->winograd_product(&g, &fetch);
    for (ptrdiff_t i = 0; i < points * tiles; ++i)
        for (ptrdiff_t k = 0; k < count; ++k) expect("winograd product", get(got, i * wide + k), get(m, i * wide + k));
    if (points == 36 && tiles > 1 && count < 3 &&
        slots == 4) {  // pieces fewer than tiles of the product: all have been taken
        for (int i = 0; i < 2; ++i) expect("winograd fetch", (double)fetch.part[i].box, (double)fetch.part[i].boxes);
    }
    free(got);
}

// A whole Winograd convolution with its weight gradient, `count` channels and units, one image of 7 rows (1 if rows are not
// transformed) and 9 columns with one zero around it; products by plain loops.
static void check_winograd(fr_winograd w, ptrdiff_t count) {
    const ptrdiff_t wide = 4 * K->width, padded = (count + K->width - 1) / K->width * K->width, pad = w.points[0] > 1;
    const ptrdiff_t rows = pad ? 7 : 1, columns = 9, points = (ptrdiff_t)w.points[0] * w.points[1];
    const ptrdiff_t taps0 = w.points[0] - w.outputs[0] + 1, taps1 = w.points[1] - w.outputs[1] + 1,
                    taps = taps0 * taps1;
    const ptrdiff_t rows_out = rows + 2 * pad - taps0 + 1, columns_out = columns + 2 - taps1 + 1;
    w.tile_rows = (rows_out + w.outputs[0] - 1) / w.outputs[0],
    w.tile_columns = (columns_out + w.outputs[1] - 1) / w.outputs[1];
    const ptrdiff_t tiles = w.tile_rows * w.tile_columns, places = rows * columns, places_out = rows_out * columns_out;
    void *x = filled(count * places), *y = filled(count * places_out), *dy = filled(count * places_out),
         *bias = filled(count);
    void *weight = filled(count * count * taps), *grad = filled(count * count * taps),
         *grad0 = copied(grad, count * count * taps);
    void *u = filled(points * count * wide), *v = filled(points * tiles * padded), *t = filled(points * tiles * wide);
    const ptrdiff_t together = count < FR_WINOGRAD_CHANNELS ? count : FR_WINOGRAD_CHANNELS;
    void *m = filled(points * tiles * wide), *scratch = filled(together * taps * K->width);
    fr_winograd_weights g = {.weight = weight,
                             .units = count,
                             .channels = count,
                             .unit_stride = count * taps,
                             .channel_stride = taps,
                             .valid = taps,
                             .points = {w.points[0], w.points[1]},
                             .taps = {(int)taps0, (int)taps1},
                             .transformed = u,
                             .point_stride = count * wide,
                             .row = wide,
                             .scratch = scratch};
    K->winograd_weights(&g);
    w.channels = count,
    w.scratch = filled(K->width * w.points[0] * ((w.tile_columns - 1) * w.outputs[1] + w.points[1]));
    w.maps = x, w.map_rows = rows, w.map_columns = columns, w.channel_stride = places, w.row_stride = columns,
    w.column_stride = 1;
    w.top = -pad, w.left = -1, w.tiles = v, w.point_stride = tiles * padded, w.tile_stride = padded,
    w.panel_stride = wide;
    K->winograd_input(&w);
    fr_winograd input = w;
    free(w.scratch), w.scratch = filled(K->width * w.outputs[0] * w.tile_columns * w.outputs[1]);
    w.maps = y, w.map_rows = rows_out, w.map_columns = columns_out, w.channel_stride = places_out,
    w.row_stride = columns_out;
    w.top = w.left = 0, w.tiles = m, w.point_stride = tiles * wide, w.tile_stride = wide, w.bias = bias;
    for (ptrdiff_t p = 0; p < points; ++p) {
        for (ptrdiff_t i = 0; i < tiles; ++i) {
            for (ptrdiff_t k = 0; k < count; ++k) {
                double sum = 0;
                for (ptrdiff_t c = 0; c < count; ++c)
                    sum += get(v, (p * tiles + i) * padded + c) * get(u, (p * count + c) * wide + k);
                put(m, (p * tiles + i) * wide + k, sum);
            }
        }
    }
    for (int slots = (int)(padded / K->width); slots <= 4; ++slots)
        check_product(input, count, slots, v, u, m,
                      (fr_boxes){x, 1, 0, count, places * size, places * size, 64, 0, 0, 0},
                      (fr_boxes){weight, 2, 0, 1, 0, count * size, 4096, 0, 0, 0});
    K->winograd_output(&w);
    w.maps = dy, w.tiles = t;
    K->winograd_spread(&w);
    for (ptrdiff_t p = 0; p < points; ++p) {
        for (ptrdiff_t c = 0; c < count; ++c) {
            for (ptrdiff_t k = 0; k < count; ++k) {
                double sum = 0;
                for (ptrdiff_t i = 0; i < tiles; ++i)
                    sum += get(v, (p * tiles + i) * padded + c) * get(t, (p * tiles + i) * wide + k);
                put(u, (p * count + c) * wide + k, sum);
            }
        }
    }
    void *written = filled(count * count * taps);
    g.weight = written;
    K->winograd_weight_gradient(&g);
    g.weight = grad, g.add = 1;
    K->winograd_weight_gradient(&g);
    const double direct = tolerance;
    tolerance *= 10;
    double *dw = calloc(count * count * taps, sizeof *dw);
    for (ptrdiff_t k = 0; k < count; ++k) {
        for (ptrdiff_t o = 0; o < places_out; ++o) {
            double sum = get(bias, k);
            for (ptrdiff_t c = 0; c < count; ++c) {
                for (ptrdiff_t tap = 0; tap < taps; ++tap) {
                    const ptrdiff_t r = o / columns_out + tap / taps1 - pad, q = o % columns_out + tap % taps1 - 1;
                    if (r < 0 || r >= rows || q < 0 || q >= columns) continue;
                    const double value = get(x, c * places + r * columns + q);
                    sum += value * get(weight, (k * count + c) * taps + tap);
                    dw[(k * count + c) * taps + tap] += value * get(dy, k * places_out + o);
                }
            }
            expect("winograd", get(y, k * places_out + o), sum);
        }
    }
    for (ptrdiff_t i = 0; i < count * count * taps; ++i)
        expect("winograd gradient", get(grad, i) - get(grad0, i), dw[i]),
            expect("winograd gradient", get(written, i), dw[i]);
    tolerance = direct;
    free(x), free(y), free(dy), free(bias), free(weight), free(grad), free(grad0), free(written), free(u), free(v),
        free(t), free(m), free(dw);
    free(scratch), free(w.scratch);
}

static void check_table(void) {
    width = K->width;
    check_convolution();
    for (ptrdiff_t r = 1; r <= 13; ++r)
        for (int slots = 1; slots <= 4; ++slots)
            for (ptrdiff_t c = 1; c <= 9 * width; c += width / 2 + 1)
                check_gemm(r, c, 7 + r, slots, (r + c) & 1, (int)(r & 1));
    for (ptrdiff_t c = 1; c <= 2 * width + 1; ++c) {
        check_activations(c), check_softmax(5, c), check_attention(6, c + 2, c), check_maps(c), check_optimisers(c);
        check_clipping(c), check_bags(c), check_cross_entropy(5, c), check_packing(21, c), check_losses(c);
        for (rows = 1; rows <= 3; ++rows) {
            units = c, panels = (units + width - 1) / width;
            check_lstm(), check_gru(1), check_gru(0), check_rnn(0), check_rnn(1);
        }
    }
    check_pools();
    check_clipping(1024 + 4 * width - 1), check_losses(1024 + 300), check_bags(4 * width), check_bags(9 * width + 1);
    for (ptrdiff_t length = 1; length <= 5 * width; length += length < 2 * width ? 1 : width - 1) check_norm(5, length);
    check_norm(150, 3), check_norm(2, 4500);
    for (rows = 2, units = 5 * width - 1, panels = 5; units <= 5 * width; ++units) check_rnn(0), check_rnn(1);
    for (int m = 2; m <= 4; ++m) {
        for (ptrdiff_t count = 1; count <= 2 * width + 1; count += width - 1) {
            check_winograd((fr_winograd){.points = {6, 6}, .outputs = {m, 4}}, count);
            check_winograd((fr_winograd){.points = {6, 6}, .outputs = {4, m}}, count);
            check_winograd((fr_winograd){.points = {1, 6}, .outputs = {1, m}}, count);
            check_winograd((fr_winograd){.points = {1, 8}, .outputs = {1, m + 2}}, count);
        }
    }
}

int main(void) {
    fr_isa isas[FR_ISAS];
    fr_list_isas(isas);
    for (int i = 0; i < FR_ISAS; ++i) {
        for (int t = 0; t < FR_DTYPES && isas[i].built && isas[i].supported; ++t) {
            isa = isas[i].name, K = isas[i].tables[t], size = t == FR_F32 ? 4 : 8,
            tolerance = t == FR_F32 ? 1e-5 : 1e-13;
            const int before = failures;
            check_table();
            printf("%s f%d: %s\n", isa, 8 * size, failures == before ? "ok" : "FAILED");
        }
    }
    return failures != 0;
}
