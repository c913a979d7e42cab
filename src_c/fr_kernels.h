// The contracts of every micro-kernel, and the table through which the rest of the library calls them.
//
// Kernels are serial, allocate nothing and keep no state. One table exists per (instruction set, element type); inside one
// table every `void *` points to elements of that table's type, and every stride and size counts elements, not bytes.
// W below is the table's `width`, the number of lanes of one vector. A *panel* is four vectors (4*W columns).
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { FR_SLOTS = 4 };  // vectors in one panel; the register tile is (rows) x (4 vectors)

// Operands B of more bytes do not stay in the second-level cache from one product to the next. If no more than that many tiles
// share a panel of such a B, they fetch the next panel ahead.
enum { FR_FAR_BYTES = 1500000, FR_FAR_TILES = 16 };

// One operand pair of a product: A [rows, k] times B [k, vectors*W] for each panel of C, k = segments * length.
//   A(row, s*length + j) = a[row*row_stride + s*segment_stride + j*k_stride]
//   B(k, column)         = b[panel*panel_stride + k*b_stride + column]
// Vector j of B goes to slot j of the panel, but its last vector goes to slot `last`.
typedef struct fr_run {
    const void *a;
    ptrdiff_t row_stride, k_stride;
    ptrdiff_t segments, segment_stride, length;
    const void *b;
    ptrdiff_t b_stride, panel_stride;
    int vectors;  // 1..slots
    int last;     // vectors-1, or 3 when vectors is 3
} fr_run;

// C = init + A0 B0 + A1 B1, each element summed in exactly that order of k, one rounding per multiply-add, so that an
// element's bits depend neither on the number of rows nor on how rows and panels are shared out.
// C may alias init. Columns past `columns` (counted over all panels) are neither read nor written in init and C.
typedef struct fr_gemm {
    ptrdiff_t rows, panels;
    ptrdiff_t columns;  // (panels-1)*slots*W < columns <= panels*slots*W
    int slots;          // vectors in one panel of C, 1..4
    int runs;           // 0..2
    int add;            // C += the sum instead of C = the sum
    int far;            // these panels are a part of a B of more than FR_FAR_BYTES
    int backwards;      // walk the panels from last to first (finds the last call's panels still in cache)
    fr_run run[2];
    const void *init;  // NULL: zeros. row_stride 0: one row (a bias) for all
    ptrdiff_t init_row_stride, init_panel_stride;
    void *c;
    ptrdiff_t c_row_stride, c_panel_stride;
} fr_gemm;

// One time step of a recurrent cell for `rows` sequences and some panels of units, after the products.
//   gates [panel][row][4*W]  pre-activations; LSTM i,f,g,o; GRU r,z,n from x,n from h, one vector of units each;
//                            RNN four vectors of units
// `units` counts the valid units in these panels; h and h_prev are user memory and are not touched past it, c is padded.
typedef struct fr_cell {
    ptrdiff_t rows, panels, units;
    void *gates;  // in; out: the activated gates if keep
    ptrdiff_t gates_panel_stride;
    int keep;
    const void *h_prev;
    ptrdiff_t h_prev_stride;
    const void *c_prev;
    ptrdiff_t c_prev_stride;
    void *c;  // out; may alias c_prev
    ptrdiff_t c_stride;
    void *h;  // out; GRU with reset before the product: its reset kernel writes r*h_prev here
    ptrdiff_t h_stride;
} fr_cell;

// The gradient of the same step. dh holds what later steps sent back; the step's own output gradient is dy.
//   gates  in: the activated gates;  out: the gradients of the pre-activations, same layout
typedef struct fr_cell_backward {
    ptrdiff_t rows, panels, units;
    void *gates;
    ptrdiff_t gates_panel_stride;
    const void *h_prev;  // GRU
    ptrdiff_t h_prev_stride;
    const void *h;  // RNN
    ptrdiff_t h_stride;
    const void *c_prev, *c;  // LSTM
    ptrdiff_t c_prev_stride, c_stride;
    const void *dy;  // NULL: zeros
    ptrdiff_t dy_stride;
    void *dh;  // in; GRU out: the part of dh_{t-1} that does not pass through a product
    ptrdiff_t dh_stride;
    void *dc;  // LSTM, in and out
    ptrdiff_t dc_stride;
    const void *drh;  // GRU with reset before the product: gradient of r*h_prev
    ptrdiff_t drh_stride;
} fr_cell_backward;

// One optimiser step over n elements; equations in kernels/optim.h.
typedef struct fr_adam {
    ptrdiff_t n;
    void *param, *m, *v;
    const void *grad;
    double lr, beta1, beta2, eps, weight_decay;
    double correction1, correction2;  // 1 - beta1^step, 1 - beta2^step
    int decoupled;                    // AdamW's weight decay
} fr_adam;

typedef struct fr_sgd {
    ptrdiff_t n;
    void *param, *momentum_buffer;  // buffer NULL: plain gradient descent
    const void *grad;
    double lr, momentum, dampening, weight_decay;
    int nesterov, first;  // first: the buffer starts as the gradient
} fr_sgd;

// Softmax and cross entropy of `rows` rows of `classes` logits; equations in kernels/softmax.h.
typedef struct fr_cross_entropy {
    ptrdiff_t rows, classes;
    const void *logits;        // [rows, classes]
    const ptrdiff_t *targets;  // [rows]; a negative one ignores its row
    double scale;              // of the gradient: one over the number of rows that count
    void *dlogits;             // [rows, classes] out
    double *losses;            // [rows] out, -log softmax(logits)[target], 0 for ignored rows
} fr_cross_entropy;

// Pooling over windows of maps [planes][D][H][W], or [planes][D][H][W][channels] for channels last. Fewer axes have size 1.
//   tap      the number of a place in its window, (i_d * kernel_h + i_h) * kernel_w + i_w; the number of places of a window
//            stands for no place. Bytes, or int32 if `wide`; laid out as y
//   scale    SUM only divides by scale_d[o_d] * scale_h[o_h] * scale_w[o_w]; its backward multiplies by them instead
// Backward gathers: x is dy, y is dx, and every element of dx is written once. Rows are those of what is written, numbered over
// all planes, depths and heights. The number of places is at most 2^24.
enum { FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM };
enum { FR_POOL_PLACES = 255 };  // as many places have bytes as taps

typedef struct fr_pool_axis {
    ptrdiff_t size, out;                          // of x and of y
    ptrdiff_t kernel, stride, padding, dilation;  // stride 0 (channels last): `out` windows that divide the axis evenly
} fr_pool_axis;

typedef struct fr_pool {
    int mode;
    int wide;
    fr_pool_axis axis[3];
    ptrdiff_t channels;
    ptrdiff_t row, rows;
    const void *x;
    void *y;
    void *taps;            // forward: NULL if not wanted
    const void *first;     // channels first: the first tap of each window in the last axis that is in the map
    const void *scale[3];  // [out] of each axis
} fr_pool;

// Pooling over the steps of one sequence of `columns` features; either the times of a feature or the features of a time lie
// side by side.
//   MAX, MIN      the earlier of equal values, the last NaN before any number; SUM divides by `divisor`
//   KMAX          the `k` largest by that order, in their order of time; zeros at time -1 where steps < k
// A call may continue an earlier one that ended before step `begin`, then y (and times) hold its results; SUM divides at `end`.
enum { FR_TIME_KMAX = FR_POOL_SUM + 1 };
enum { FR_TIME_PIECE = 16 };  // steps of a call that keeps its columns in the first-level cache

typedef struct fr_time_pool {
    int mode;
    ptrdiff_t begin, end, steps;  // of begin..end-1; steps: the length of the sequence
    ptrdiff_t total;              // backward: steps of dx, zero from `steps` on
    ptrdiff_t columns;
    ptrdiff_t time_stride, column_stride;  // of x or dx
    ptrdiff_t k, y_time_stride, y_column_stride;
    double divisor;
    const void *x;   // backward: NULL
    void *y;         // backward: dy
    int32_t *times;  // as y; NULL if not wanted, which KMAX always does
    void *dx;
} fr_time_pool;

typedef void (*fr_cell_fn)(const fr_cell *);
typedef void (*fr_cell_backward_fn)(const fr_cell_backward *);
typedef void (*fr_pool_fn)(const fr_pool *);
typedef void (*fr_map_fn)(ptrdiff_t n, const void *x, void *y);  // y may alias x

typedef struct fr_kernels {
    int width;      // lanes of one vector
    int tile_rows;  // rows of the register tile
    void (*gemm)(const fr_gemm *);
    // dst[panel][row][4*W] = src[row][panel*4*W ...], zeros past `columns`.
    void (*pack_rows)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                      ptrdiff_t dst_row_stride, ptrdiff_t dst_panel_stride);
    // dst[k*dst_stride + u] = src[u*src_stride + k] for u < units, zeros for units <= u < W.
    void (*pack_units)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                       ptrdiff_t dst_stride);
    // sums[panel][4*W] += the sum over rows of gates[panel][row][4*W].
    void (*column_sums)(ptrdiff_t rows, ptrdiff_t panels, const void *gates, ptrdiff_t gates_panel_stride, void *sums);
    fr_cell_fn rnn_tanh, rnn_relu, lstm, gru, gru_reset, gru_update;
    fr_cell_backward_fn rnn_tanh_backward, rnn_relu_backward, lstm_backward, gru_backward;
    fr_cell_backward_fn gru_update_backward, gru_reset_backward;
    fr_map_fn exp, sigmoid, tanh;
    void (*adam)(const fr_adam *);
    void (*sgd)(const fr_sgd *);
    void (*cross_entropy)(const fr_cross_entropy *);
    fr_pool_fn pool, pool_backward, pool_last, pool_last_backward;
    void (*time_pool)(const fr_time_pool *);
    void (*time_pool_backward)(const fr_time_pool *);
} fr_kernels;
