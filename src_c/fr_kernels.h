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

// Arrays of more bytes than this have left the second-level cache before anyone reads what was written first. Kernels may be told to
// store them past the caches: a line is then not read before it is written.
enum { FR_PAST_BYTES = 8 << 20 };

// One operand pair of a product: A [rows, k] times B [k, vectors*W] for each panel of C, k = segments * length.
//   A(row, s*length + j) = a[row*row_stride + s*segment_stride + j*k_stride]
//   B(k, column)         = b[panel*panel_stride + k*b_stride + s*b_skip + column]
// Vector j of B goes to slot j of the panel, but its last vector goes to slot `last`.
typedef struct fr_run {
    const void *a;
    ptrdiff_t row_stride, k_stride;
    ptrdiff_t segments, segment_stride, length;
    const void *b;
    ptrdiff_t b_stride, panel_stride;
    int vectors;       // 1..slots
    int last;          // vectors-1, or 3 when vectors is 3
    ptrdiff_t b_skip;  // elements of B that are left out after each segment
    // 0: one A for all panels. Else each panel is a product of its own (run 0 of a single run).
    ptrdiff_t a_panel_stride;
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
    int far;            // these panels are a part of a B of more than FR_FAR_BYTES, in which more of them follow
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

// One optimiser step over n elements, in place; equations in kernels/optim.h. Each reads the numbers that it knows:
//   sgd       lr, beta1 (momentum), dampening, weight_decay, nesterov, first    slot 0: momentum buffer, NULL without momentum
//   adam      lr, beta1, beta2, eps, weight_decay, correction1 and 2, decoupled    slots: m, v, largest v or NULL
//   rmsprop   lr, beta1 (momentum), beta2 (alpha), eps, weight_decay    slots: mean square, mean or NULL, buffer or NULL
//   adagrad   lr, eps, weight_decay    slot 0: sum of squares
//   adadelta  lr, beta2 (rho), eps, weight_decay    slots: mean square of gradients, of steps
typedef struct fr_optim {
    ptrdiff_t n;
    void *param;
    const void *grad;
    void *slot[3];
    double lr, beta1, beta2, eps, weight_decay, dampening;
    double correction1, correction2;  // 1 - beta1^step, 1 - beta2^step
    int decoupled;                    // AdamW's weight decay
    int nesterov, first;              // first: the buffer starts as the gradient
} fr_optim;

// Softmax and cross entropy of `rows` rows of `classes` logits; equations in kernels/softmax.h.
typedef struct fr_cross_entropy {
    ptrdiff_t rows, classes;
    const void *logits;        // [rows, classes]
    const ptrdiff_t *targets;  // [rows]; a negative one ignores its row
    double scale;              // of the gradient: one over the number of rows that count
    void *dlogits;             // [rows, classes] out
    double *losses;            // [rows] out, 0 for ignored rows
    const void *weight;        // [classes]; NULL: ones
    double smoothing, total;   // the share of the target that all classes have alike; the sum of all weights
} fr_cross_entropy;

// Losses of one element at a time; equations in kernels/loss.h. Sums are those of each FR_CHUNK elements: of reals within pieces of
// it, of doubles between. The kernel returns whether any x of `binary` is outside 0..1.
enum { FR_LOSS_SQUARE, FR_LOSS_ABSOLUTE, FR_LOSS_HUBER, FR_LOSS_SMOOTH, FR_LOSS_BINARY, FR_LOSS_LOGITS };
typedef struct fr_loss {
    int kind;
    ptrdiff_t n;
    const void *x, *target;         // [n]
    const void *weight, *positive;  // [n] of binary and logits, of logits alone; NULL: ones
    double limit;                   // > 0, of huber and smooth
    double scale;                   // of the gradient
    void *dx;                       // [n] out; may be x
    void *losses;                   // [n] out, or NULL
    double *sums;                   // out
} fr_loss;

// Convolution. What becomes of a sum: y = gain * act(sum).
enum { FR_NONE, FR_RELU, FR_TANH, FR_SIGMOID };

// Memory that will soon be used, which products fetch into the second-level cache meanwhile: boxes of `runs` runs of `bytes`
// bytes, in pieces of at most `most` bytes, one piece for a tile of the product. All distances are in bytes. Nothing is read, so
// it does not matter if parts lie outside of all arrays.
typedef struct fr_boxes {
    const char *from;
    ptrdiff_t boxes, box_stride, runs, run_stride, bytes, most;
    ptrdiff_t box, run, at;  // the next piece
} fr_boxes;
typedef struct fr_fetch {
    fr_boxes part[2];  // one after the other
} fr_fetch;

// C(row) = start + A(row) B for the output pixels `row` and the maps of one panel, summed in order of k = s*length + j.
//   A(row, k)    = a[a_row[row] + segment[s] + j]
//   B(k, column) = b[k*vectors*W + column]
//   C(row)       = c[c_row[row]*vectors*W ...], vectors*W columns, all of them written
// start: C itself if `resume`, else the bias (vectors*W values), else zeros.
// C is brought to y[y_row[row] + u*y_stride], u < maps, later; these places are fetched meanwhile, if y is not NULL.
typedef struct fr_conv {
    ptrdiff_t rows;
    const void *a;
    const ptrdiff_t *a_row;
    ptrdiff_t segments, length;
    const ptrdiff_t *segment;
    const void *b;
    int vectors;  // 1..4
    int resume;
    const void *bias;  // NULL: zeros
    void *c;
    const ptrdiff_t *c_row;
    const void *y;
    const ptrdiff_t *y_row;
    ptrdiff_t y_stride, maps;
    fr_boxes *ahead;  // what the next box will read, a piece of it for each tile; NULL: nothing
} fr_conv;

// Lanes first..end-1 of a vector go to y[to + lane].
typedef struct fr_stretch {
    ptrdiff_t to, first, end;
} fr_stretch;

// With the pixels in the lanes, for vectors v of pixels and maps u of tiles first_tile..end_tile-1:
//   sum(u, v)  = gain[u] * act(bias[u] + sum over k, in order, of weight(u, k) * x[offset[k] + from[v] + lane])
//   y[u*y_stride + ...] takes the stretches stretches[v]..stretches[v+1]-1 of it
// Maps are spread evenly over tiles of at most `tile_rows`, larger ones first; weights lie [tile][k][map of the tile]. x is read in
// all lanes, nothing but stretches of y is touched. Vectors may overlap, stretches only where whole sums are computed: these k may
// be some of `before` + `taps` + `after`, which is how many the weights have, and sums then go on from y; the last ones finish them.
typedef struct fr_plane_conv {
    ptrdiff_t units, first_tile, end_tile;
    ptrdiff_t taps, before, after, vectors;
    const void *x;
    const ptrdiff_t *offset;     // [taps]
    const ptrdiff_t *from;       // [vectors]
    const ptrdiff_t *stretches;  // [vectors + 1]
    const fr_stretch *stretch;
    const void *weight;
    const void *bias;  // [units], NULL: zeros
    const void *gain;  // [units], NULL: none
    int activation;
    void *y;
    ptrdiff_t y_stride;
    fr_boxes *ahead;  // what the next call will read, a piece of it for each tile; NULL: what the next vectors read
} fr_plane_conv;

// What lies around rows row..row+inside-1 and columns column..column+columns-1 of planes of `rows` rows, `width` places long.
typedef struct fr_frame {
    ptrdiff_t planes, plane_stride, rows, width;
    ptrdiff_t row, inside, column, columns;
    void *data;
} fr_frame;

// Rows of sums over shifted planes: y[r*y_stride + i] = act(bias + sum over t, in order, of x[offset[t] + r*x_stride + i]), i < columns.
typedef struct fr_tap_sums {
    ptrdiff_t rows, columns, taps;
    const void *x;
    ptrdiff_t x_stride;
    const ptrdiff_t *offset;  // [taps]
    const void *bias;         // one value, NULL: zero
    int activation;
    void *y;
    ptrdiff_t y_stride;
} fr_tap_sums;

// A map with room around it: `above` rows of zeros, `rows` rows, and `below` rows of zeros, all `width` places long, of which number
// before + i is src[r*src_stride + i*step], i < columns, and the others are zeros.
typedef struct fr_pad {
    ptrdiff_t above, rows, below, width;
    ptrdiff_t before, columns, step;
    const void *src;
    ptrdiff_t src_stride;
    void *dst;
} fr_pad;

// Places of maps a step apart: dst[(r*columns + j)*dst_stride + c] = src[c*channel_stride + r*src_stride + j*step].
typedef struct fr_places {
    ptrdiff_t channels, rows, columns, step;
    const void *src;
    ptrdiff_t channel_stride, src_stride;
    void *dst;
    ptrdiff_t dst_stride;
} fr_places;

// Windows over maps as rows of columns: columns[w*column_stride + (c*rows + r)*width + j] is place seen[w*rows + r].at + j of channel
// c, or zero unless first <= j < end there. `rows` are those of the kernel, over all axes but the last, which is `width` long.
typedef struct fr_span {
    ptrdiff_t at, first, end;  // 0 <= first, end <= width
} fr_span;
typedef struct fr_columns {
    ptrdiff_t windows, rows, width, channels;
    const fr_span *seen;  // [windows][rows]
    const void *map;
    ptrdiff_t map_stride;  // from one channel to the next
    void *columns;
    ptrdiff_t column_stride;
} fr_columns;

// c[i*c_stride + j] += the sum over k of a[i*a_stride + k] * b[j*b_stride + k], each lane of a vector by itself and then over the lanes.
typedef struct fr_dots {
    ptrdiff_t rows, columns, k;
    const void *a;
    ptrdiff_t a_stride;
    const void *b;
    ptrdiff_t b_stride;
    void *c;
    ptrdiff_t c_stride;
} fr_dots;

// A matrix on its way to another place, past an activation and a factor for each column; gain NULL: none.
typedef struct fr_turn {
    ptrdiff_t rows, columns;
    const void *src;
    ptrdiff_t src_stride;
    void *dst;
    ptrdiff_t dst_stride;
    int activation;
    const void *gain;  // [columns]
} fr_turn;

// Output rows of one map from one padded map: y[r][c] = start + sum over t of weight[t] * x[r*x_stride + offset[t] + c].
// Taps that form rows of `height` of them, offset[h*(taps/height) + w] = offset[w] + h*x_stride, may say so for speed; sums then run
// over w outside and h inside, else in order of t. x is read up to 4 vectors past the last column. For the gradient of the weights, sums[t] += the sum over r and c of
// y[r][c] * x[r*x_stride + offset[t] + c], and nothing past the columns is read.
typedef struct fr_map_conv {
    ptrdiff_t rows, columns, taps;
    ptrdiff_t height;  // 3, 5 or 7; 0: not regular
    const void *x;
    ptrdiff_t x_stride;
    const ptrdiff_t *offset;
    const void *weight;
    const void *bias;  // one value, NULL: zero
    const void *gain;  // one value, NULL: none
    int resume;        // start from y
    int activation;
    void *y;
    ptrdiff_t y_stride;
    void *sums;
} fr_map_conv;

// One map of outputs from one map where it lies, with zeros around it: y[r][c] = start + sum over h, w of
// weight[h][w] * x[r*step + h - above][c*step + w - kernel / 2]. Rows lie one after another; y has a column for each `step`-th of x.
// 0 <= above < kernel. For the gradient of the weights, the sum over the lanes of sums[h][w][W] grows by that of y[r][c] * x[...].
// The transpose, for step 2: y[r][c] = start + sum over those h, w that make both even of weight[h][w] *
// x[(r + above - h) / 2][(c + kernel / 2 - w) / 2]; y has twice as many columns as x, or one less.
// With the channels last, the same for each channel: a pixel is `apart` elements after the one before, weight and sums are
// [h][w][tap_channels], bias and gain [channels].
typedef struct fr_bare_conv {
    ptrdiff_t rows, columns;  // of x
    ptrdiff_t y_rows, y_columns, above;
    ptrdiff_t kernel;  // 3, 5 or 7 rows and columns
    ptrdiff_t step;    // 1 or 2, with the channels first
    // For the gradient of the weights: how far behind those of x and y what is read next lies.
    ptrdiff_t x_next, y_next;
    ptrdiff_t channels, apart, tap_channels;
    const void *x;
    const void *weight;
    const void *bias;  // one value, NULL: zero
    const void *gain;  // one value, NULL: none
    int activation;
    void *y;
    void *sums;
} fr_bare_conv;

// Outputs of one sample with the channels last, along depth, rows and columns: of those with numbers o and the taps t of an axis, the
// value of x that they meet lies, summed over the axes, at place[o*step + t*pace] elements. A place of -1 is outside: its taps are
// left out. Outputs inner..inner_end-1 of the columns have all taps inside, evenly x_stride elements a place apart.
typedef struct fr_pixel_axis {
    ptrdiff_t outputs, taps, step, pace;
    const ptrdiff_t *place;
    ptrdiff_t inner, inner_end, x_stride, y_stride;
    ptrdiff_t tap, tap_stride;  // of the numbers of taps, tap + t*tap_stride, which add up over the axes
} fr_pixel_axis;

// y[o][c] = gain[c] * act(bias[c] + sum over t of weight[number of t][c] * x[place][c]), or from y on instead of the bias.
// For the gradient of the weights, sums[number of t][c] += the sum over o of y[o][c] * x[place][c].
typedef struct fr_pixel_conv {
    fr_pixel_axis axis[3];
    ptrdiff_t channels, tap_channels;  // of one pixel; from one tap to the next in weight and sums
    const void *x;
    const void *weight;
    const void *bias, *gain;  // [channels], or NULL
    int resume, activation;   // not both
    int far;                  // x comes from memory: the next rows are asked for
    void *y;
    void *sums;
} fr_pixel_conv;

// Pooling over windows of maps [planes][D][H][W], or [planes][D][H][W][channels] for channels last. Fewer axes have size 1.
//   tap      the number of a place in its window, (i_d * kernel_h + i_h) * kernel_w + i_w; the number of places of a window
//            stands for no place. Bytes, or int32 if `wide`; laid out as y
//   scale    SUM only divides by scale_d[o_d] * scale_h[o_h] * scale_w[o_w]; with `factors` it multiplies by them, as backward always
//            does, unless `whole`: that one divides
// Backward gathers: x is dy, y is dx, and every element of dx is written once. Rows are those of what is written, numbered over
// all planes, depths and heights. The number of places is at most 2^24.
enum { FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM };
enum { FR_POOL_PLACES = 255 };  // as many places have bytes as taps
enum {
    FR_POOL_TURNED = 400
};  // places of maps, or of bands of them, of which a vector's worth stays in the first-level cache

enum { FR_POOL_UNEVEN = 2048 };  // most columns, and windows of a row, where windows of stride 0 are not turned

typedef struct fr_pool_axis {
    ptrdiff_t size, out;  // of x and of y
    ptrdiff_t kernel, stride, padding,
        dilation;  // stride 0: `out` windows that divide the axis evenly, of at most `kernel` places
} fr_pool_axis;

typedef struct fr_pool {
    int mode;
    int wide;
    int factors;  // of a sum forward: scale holds factors, not divisors
    int turned;  // lanes hold maps: channels first, not wide, whole maps of at most FR_POOL_TURNED places and windows; or of any
    // number, without depth, if two rows of windows, and twice the rows that one spans, have no more places
    int whole;  // channels first, and one window, without padding or dilation, is all of a map
    int far;    // x is large: what is read next is asked for
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
    ptrdiff_t total;              // steps of x and dx; dx is zero from `steps` on
    ptrdiff_t columns;
    ptrdiff_t time_stride, column_stride;  // of x or dx
    ptrdiff_t k, y_time_stride, y_column_stride;
    double divisor;
    const void *x;   // backward: NULL
    void *y;         // backward: dy
    int32_t *times;  // as y; NULL if not wanted, which KMAX always does
    void *dx;
} fr_time_pool;

// Winograd convolution of stride 1 over two spatial axes, rows and columns; one spatial axis is the columns of one row. Equations
// in kernels/winograd_transform.h. An axis has `points` points, `outputs` outputs of a tile and points - outputs + 1 taps; an axis
// that is not transformed has one of each. Some rows of tiles of one image:
//   maps    [channels][map_rows][map_columns], place (channel, row, column) at the strides; channel_stride or column_stride is 1
//   tiles   point p of tile t, vector v of channels: at p*point_stride + t*tile_stride + v/4*panel_stride + v%4*W; tiles row by
//           row; whole vectors, zeros past `channels`
// Tile (0, 0) begins at place (top, left) of the map, which may lie outside; places outside are zero, and not written.
// scratch: the places that a row of tiles reads (input) or that it covers (output, spread), for W channels: with all tiles of a row
// counted, points[0] * ((columns-1)*outputs[1] + points[1]) * W or outputs[0] * columns*outputs[1] * W reals.
enum { FR_ACTIVATION_NONE, FR_ACTIVATION_RELU, FR_ACTIVATION_TANH, FR_ACTIVATION_SIGMOID };
typedef struct fr_winograd {
    void *maps;
    ptrdiff_t channels, map_rows, map_columns;
    ptrdiff_t channel_stride, row_stride, column_stride;
    int points[2], outputs[2];  // points 1, 6 or 8
    ptrdiff_t tile_rows, tile_columns, top, left;
    int edge_rows;           // these are rows of edge tiles: 5 of 6 points, an output less
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
//                `packed`: tap t of (unit, channel) at (channel*taps + t)*4*W + unit instead, zeros past `units` and `valid`
//   transformed  point p of (unit, channel): at p*point_stride + channel*row + unit, where a row has whole vectors for all units
// scratch: all taps of W units and as many channels as are transformed at a time, at most this many vectors.
enum { FR_WINOGRAD_CHANNELS = 8, FR_WINOGRAD_WEIGHT_SCRATCH = FR_WINOGRAD_CHANNELS * 25 };
typedef struct fr_winograd_weights {
    void *weight;
    ptrdiff_t units, channels, unit_stride, channel_stride, valid;
    int points[2], taps[2], flipped, packed;
    int add;  // of the gradient: to what the weights hold
    void *transformed;
    ptrdiff_t point_stride, row;
    void *scratch;
} fr_winograd_weights;

// Rows of a table [.., width] in bags: bag b holds the positions start[b]..start[b+1]-1, or position b alone if start is NULL.
//   forward   y[b] = scale[b] * sum of factor[i] * table[token[i]];  max: the largest of each column, the last NaN before any number,
//             and its place in the bag; zeros and place -1 where a bag is empty
//   backward  table[token[i]] += scale[b] * factor[i] * y[b];  max: only the columns where position i was chosen
// Sums run in order of the positions. Backward serves one member of a team: rows are dealt out to the members, so that each
// row's sum is one member's; it leaves out negative tokens. For max a bag has at most 2^24 positions.
typedef struct fr_bags {
    ptrdiff_t bags, width;
    const int64_t *tokens;
    const ptrdiff_t *start;
    const void *factors;  // [positions]; NULL: ones
    const void *scale;    // [bags]; NULL: ones
    void *table, *y;
    int32_t *places;  // [bags, width]; NULL: sums
    int member, members;
} fr_bags;

enum { FR_CHUNK = 1024 };  // elements whose squares are summed in their own type

typedef void (*fr_optim_fn)(const fr_optim *);
// Elementwise activations; equations in kernels/activation.h. Curves come before FR_ACT_PIECES, pieces of lines after it.
enum {
    FR_ACT_SIGMOID,
    FR_ACT_TANH,
    FR_ACT_SILU,
    FR_ACT_GELU,
    FR_ACT_GELU_TANH,
    FR_ACT_MISH,
    FR_ACT_SOFTPLUS,  // a: beta, b: threshold
    FR_ACT_ELU,       // a: alpha, b: scale
    FR_ACT_SOFTSIGN,
    FR_ACT_HARDSWISH,
    FR_ACT_PIECES,
    FR_ACT_RELU = FR_ACT_PIECES,
    FR_ACT_LEAKY_RELU,  // a: slope
    FR_ACT_HARDTANH,    // a: min, b: max
    FR_ACT_HARDSIGMOID
};
typedef struct fr_activation {
    int kind;
    ptrdiff_t n;
    const void *x;
    void *y;  // may be x
    void *
        saved;  // NULL, or [n] out: the slope of a curve; a byte for a piece of a line, 1 on the middle (or upper) piece
    double a, b;
} fr_activation;

// y = inside * x where mask is 1, else outside * x, or just 0 if `clear`. y may be x.
typedef struct fr_masked {
    ptrdiff_t n;
    const void *x;
    const uint8_t *mask;
    void *y;
    double inside, outside;
    int clear;
} fr_masked;

// Softmax of each row, or its logarithm; equations in kernels/softmax_rows.h.
typedef struct fr_softmax {
    ptrdiff_t rows, columns;
    int log;
    int past;       // y and p, aligned alike, are stored past the caches, see FR_PAST_BYTES
    const void *x;  // [rows, columns]; backward: dy
    void *y;        // out, not x; backward: dx, which may be p
    void *p;        // softmax(x): out if not NULL; backward: in
} fr_softmax;

// Attention of some queries to one sequence of which `steps` steps are valid; equations in kernels/attention.h. Arrays after
// `context` are for its gradient alone; dkeys, dvalues and dscore are added to, and dkeys may be dvalues.
typedef struct fr_attention {
    ptrdiff_t queries, steps, total;  // total: steps of `weights`, zero past the valid ones
    ptrdiff_t key_width, value_width;
    const void *query, *keys, *values;
    ptrdiff_t query_stride, key_stride, value_stride;  // also of their gradients
    const void *score;                                 // [key_width] of the additive form; NULL: dot products
    double scale;
    void *weights, *context;
    ptrdiff_t weights_stride, context_stride;  // also of their gradients
    const void *dcontext, *dweights;           // dweights may be NULL: zeros
    void *dquery, *dkeys, *dvalues, *dscore;
    void *scratch;  // [4 * steps]
} fr_attention;
// Normalisation of a part of the maps; equations in kernels/norm.h. Stretches of `length` elements of x, y, dy and xhat lie
// `stride` apart, all at the same places. Forward, xhat = (x - center) * scale + rest and y = xhat * weight + bias; in the
// gradient, x is xhat, y is dx = dy * scale + xhat * weight + bias.
//   map      one set of moments; one factor of each kind, or with `step` 1 one for each stretch
//   rows     each stretch has moments of its own; weight and bias have `length` values, scale has one for each stretch (out)
//   columns  each place of a stretch has moments and factors of its own; `center` is a buffer of 3 * length for moments and sums
typedef struct fr_norm {
    ptrdiff_t pieces, length, stride, step;
    int past;  // the arrays are large: y and xhat of map and rows are stored past the caches, see FR_PAST_BYTES; aligned alike
    const void *x, *dy;
    void *y, *xhat;  // xhat NULL: not wanted, nor is the scale of rows
    const void *rest, *weight, *bias;
    void *center, *scale;
    double eps;              // rows
    double *first, *second;  // moments: the mean and the sum of (x - mean)^2; sums: of dy and of dy * xhat
    void *dweight, *dbias;   // rows: what is added to
} fr_norm;

typedef void (*fr_cell_fn)(const fr_cell *);
typedef void (*fr_cell_backward_fn)(const fr_cell_backward *);
typedef void (*fr_pool_fn)(const fr_pool *);
typedef void (*fr_norm_fn)(const fr_norm *);
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
    fr_optim_fn adam, sgd;
    void (*cross_entropy)(const fr_cross_entropy *);
    int (*loss)(const fr_loss *);

    // Convolution.
    void (*conv)(const fr_conv *);
    // dst[j*dst_stride + i] = gain[j] * act(src[i*src_stride + j]): transposed.
    void (*turn)(const fr_turn *);
    // dst[i*dst_stride + j] = gain[j] * act(src[i*src_stride + j]): rows stay rows. dst may be src.
    void (*keep)(const fr_turn *);
    // dst[place[j] + u] = src[u*src_stride + j] for u < units, zeros for units <= u < W; nothing where place[j] < 0.
    void (*pack_taps)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                      const ptrdiff_t *place);
    // dst[j*dst_stride + i] += src[i*src_stride + j].
    void (*add_turned)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                       ptrdiff_t dst_stride);
    // da = dh * act'(a) from h = act(a). da may alias dh.
    void (*activation_gradient)(ptrdiff_t n, const void *h, const void *dh, void *da, int activation);
    // *sum += the sum of n elements.
    void (*add_sum)(ptrdiff_t n, const void *x, void *sum);
    // dst[r*dst_stride + s*length + j] = src[row[r] + segment[s] + j]. Reads and writes up to W past each stretch, and leaves
    // anything in dst past the last one.
    void (*gather)(ptrdiff_t rows, ptrdiff_t segments, ptrdiff_t length, const void *src, const ptrdiff_t *row,
                   const ptrdiff_t *segment, void *dst, ptrdiff_t dst_stride);
    // dst[r*dst_stride + j] += src[r*src_stride + j] for j < length.
    void (*add_stretches)(ptrdiff_t rows, ptrdiff_t length, const void *src, ptrdiff_t src_stride, void *dst,
                          ptrdiff_t dst_stride);
    void (*take_columns)(const fr_columns *);
    void (*add_dots)(const fr_dots *);
    void (*map_conv)(const fr_map_conv *);
    void (*copy_past)(ptrdiff_t n, const void *src,
                      void *dst);  // past the caches; n = 0: such stores come before later ones
    void (*map_conv_weight)(const fr_map_conv *);
    void (*bare_conv)(const fr_bare_conv *);
    void (*bare_conv_weight)(const fr_bare_conv *);
    void (*bare_spread)(const fr_bare_conv *);
    void (*bare_conv_last)(const fr_bare_conv *);
    void (*bare_conv_last_weight)(const fr_bare_conv *);
    void (*pixel_conv)(const fr_pixel_conv *);
    void (*pixel_conv_weight)(const fr_pixel_conv *);
    fr_pool_fn pool, pool_backward, pool_last, pool_last_backward;
    void (*time_pool)(const fr_time_pool *);
    void (*time_pool_backward)(const fr_time_pool *);
    void (*winograd_input)(const fr_winograd *);                    // tiles = B^T maps B
    void (*winograd_spread)(const fr_winograd *);                   // tiles = A maps A^T
    void (*winograd_output)(const fr_winograd *);                   // maps = activation(A^T tiles A + bias)
    void (*winograd_weights)(const fr_winograd_weights *);          // transformed = G weight G^T
    void (*winograd_weight_gradient)(const fr_winograd_weights *);  // weight (+)= G^T transformed G; not flipped
    void (*plane_conv)(const fr_plane_conv *);

    // Optimisers, losses, tables.
    fr_optim_fn rmsprop, adagrad, adadelta;
    void (*sum_squares)(ptrdiff_t n, const void *x, double *sums);  // of each FR_CHUNK elements
    void (*scale)(ptrdiff_t n, double factor, void *x);             // x *= factor
    void (*limit)(ptrdiff_t n, double limit, void *x);              // into -limit..limit; NaN stays
    double (*softmax_row)(ptrdiff_t n, const void *x, void *y);     // y = softmax(x); returns log(sum(exp(x)))
    void (*pick_rows)(ptrdiff_t n, ptrdiff_t width, const int64_t *tokens, const void *table, void *y);
    void (*bags)(const fr_bags *);
    void (*bags_backward)(const fr_bags *);
    // Activation, dropout and softmax.
    void (*activate)(const fr_activation *);
    // y = a + b, y = a b; y may be either.
    void (*add)(ptrdiff_t n, const void *a, const void *b, void *y);
    void (*multiply)(ptrdiff_t n, const void *a, const void *b, void *y);
    void (*masked_scale)(const fr_masked *);
    void (*softmax)(const fr_softmax *);
    void (*softmax_backward)(const fr_softmax *);
    void (*attend)(const fr_attention *);
    void (*attend_backward)(const fr_attention *);
    // Normalisation: moments, values; sums and values of the gradient.
    fr_norm_fn norm_moments, norm_map, norm_map_sums, norm_map_pull;
    fr_norm_fn norm_rows, norm_rows_pull;
    fr_norm_fn norm_columns_moments, norm_columns, norm_columns_sums, norm_columns_pull;
    void (*pad_plane)(const fr_pad *);
    // dst[r*dst_stride + j] = src[r*src_stride + j%phases*part + j/phases] for j < columns.
    void (*weave)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t phases, const void *src, ptrdiff_t src_stride,
                  ptrdiff_t part, void *dst, ptrdiff_t dst_stride);
    void (*winograd_product)(const fr_gemm *, fr_fetch *);  // gemm that fetches beside
    void (*tap_sums)(const fr_tap_sums *);
    // dst[r*columns + j] = src[r/row_step*src_stride + j/step] where the steps divide r < rows and j < columns, else zero.
    void (*spread)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_step, ptrdiff_t step, const void *src,
                   ptrdiff_t src_stride, void *dst);
    void (*clear_around)(const fr_frame *);  // becomes zeros
    void (*sum_phases)(ptrdiff_t n, ptrdiff_t phases, const void *src,
                       void *dst);  // dst[i] = the sum over p < phases of src[i*phases + p]
    void (*turn_places)(const fr_places *);
} fr_kernels;
