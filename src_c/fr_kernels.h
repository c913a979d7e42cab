// The contracts of every micro-kernel, and the table through which the rest of the library calls them.
//
// Kernels are serial, allocate nothing and keep no state. One table exists per (instruction set, element type); inside one
// table every `void *` points to elements of that table's type, and every stride and size counts elements, not bytes.
// W below is the table's `width`, the number of lanes of one vector. A *panel* is four vectors (4*W columns).
#pragma once

#include <stddef.h>

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
    ptrdiff_t
        a_panel_stride;  // 0: one A for all panels. Else each panel is a product of its own (run 0 of a single run)
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

// Winograd convolution of stride 1 over two spatial axes, rows and columns; one spatial axis is the columns of one row. Equations
// in kernels/winograd_transform.h. An axis has `points` points, `outputs` outputs of a tile and points - outputs + 1 taps; an axis
// that is not transformed has one of each. Some rows of tiles of one image:
//   maps    [channels][map_rows][map_columns], place (channel, row, column) at the strides; channel_stride or column_stride is 1
//   tiles   point p of tile t, vector v of channels: at p*point_stride + t*tile_stride + v/4*panel_stride + v%4*W; tiles row by
//           row; whole vectors, zeros past `channels`
// Tile (0, 0) begins at place (top, left) of the map, which may lie outside; places outside are zero, and not written.
// scratch: W * (2*8*(columns*outputs[1] + 8) + outputs[0]*points[1]*columns) reals, columns of all tiles of a row.
enum { FR_ACTIVATION_NONE, FR_ACTIVATION_RELU, FR_ACTIVATION_TANH, FR_ACTIVATION_SIGMOID };
typedef struct fr_winograd {
    void *maps;
    ptrdiff_t channels, map_rows, map_columns;
    ptrdiff_t channel_stride, row_stride, column_stride;
    int points[2], outputs[2];  // points 1, 6 or 8
    ptrdiff_t tile_rows, tile_columns, top, left;
    int edge_rows;           // these are rows of edge tiles: 5 points, 3 outputs, of 6 points and 4 outputs
    ptrdiff_t edge_columns;  // so many tiles of each row, after tile_columns others, are edge tiles along it
    void *tiles, *edge_tiles;
    ptrdiff_t point_stride, tile_stride, panel_stride;
    void *scratch;
    const void *bias;  // of the output: [channels], NULL: none
    int activation;
} fr_winograd;

// The same for weights of up to 4*W units (outputs, or inputs for the gradient of the input) and some channels.
//   weight       tap t of (unit, channel): at unit*unit_stride + channel*channel_stride + t, t < valid; taps past it are zero.
//                `flipped`: the first `valid` taps in reverse
//   transformed  point p of (unit, channel): at p*point_stride + channel*4*W + unit
enum { FR_WINOGRAD_WEIGHT_SCRATCH = 512 };  // vectors
typedef struct fr_winograd_weights {
    void *weight;
    ptrdiff_t units, channels, unit_stride, channel_stride, valid;
    int points[2], taps[2], flipped;
    void *transformed;
    ptrdiff_t point_stride;
    void *scratch;
} fr_winograd_weights;

typedef void (*fr_cell_fn)(const fr_cell *);
typedef void (*fr_cell_backward_fn)(const fr_cell_backward *);
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
    void (*winograd_input)(const fr_winograd *);                    // tiles = B^T maps B
    void (*winograd_spread)(const fr_winograd *);                   // tiles = A maps A^T
    void (*winograd_output)(const fr_winograd *);                   // maps = activation(A^T tiles A + bias)
    void (*winograd_weights)(const fr_winograd_weights *);          // transformed = G weight G^T
    void (*winograd_weight_gradient)(const fr_winograd_weights *);  // weight += G^T transformed G; not flipped
} fr_kernels;
