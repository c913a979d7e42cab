# The only linker of src_c: owns the table of kernels in use.

from libc.stdint cimport int32_t, int64_t

cdef extern from "fr_kernels.h" nogil:
    cdef enum:
        FR_SLOTS, FR_FAR_BYTES, FR_FAR_TILES, FR_PAST_BYTES
    cdef enum:
        FR_NONE, FR_RELU, FR_TANH, FR_SIGMOID
        FR_WINOGRAD_WEIGHT_SCRATCH

    ctypedef struct fr_run:
        const void *a
        ptrdiff_t row_stride, k_stride
        ptrdiff_t segments, segment_stride, length
        const void *b
        ptrdiff_t b_stride, panel_stride
        int vectors, last
        ptrdiff_t b_skip
        ptrdiff_t a_panel_stride

    ctypedef struct fr_gemm:
        ptrdiff_t rows, panels, columns
        int slots, runs, add, far, backwards
        fr_run run[2]
        const void *init
        ptrdiff_t init_row_stride, init_panel_stride
        void *c
        ptrdiff_t c_row_stride, c_panel_stride

    ctypedef struct fr_cell:
        ptrdiff_t rows, panels, units
        void *gates
        ptrdiff_t gates_panel_stride
        int keep
        const void *h_prev
        ptrdiff_t h_prev_stride
        const void *c_prev
        ptrdiff_t c_prev_stride
        void *c
        ptrdiff_t c_stride
        void *h
        ptrdiff_t h_stride

    ctypedef struct fr_cell_backward:
        ptrdiff_t rows, panels, units
        void *gates
        ptrdiff_t gates_panel_stride
        const void *h_prev
        ptrdiff_t h_prev_stride
        const void *h
        ptrdiff_t h_stride
        const void *c_prev
        const void *c
        ptrdiff_t c_prev_stride, c_stride
        const void *dy
        ptrdiff_t dy_stride
        void *dh
        ptrdiff_t dh_stride
        void *dc
        ptrdiff_t dc_stride
        const void *drh
        ptrdiff_t drh_stride

    ctypedef struct fr_optim:
        ptrdiff_t n
        void *param
        const void *grad
        void *slot[3]
        double lr, beta1, beta2, eps, weight_decay, dampening, correction1, correction2
        int decoupled, nesterov, first

    cdef enum:
        FR_LOSS_SQUARE, FR_LOSS_ABSOLUTE, FR_LOSS_HUBER, FR_LOSS_SMOOTH, FR_LOSS_BINARY, FR_LOSS_LOGITS

    ctypedef struct fr_loss:
        int kind
        ptrdiff_t n
        const void *x
        const void *target
        const void *weight
        const void *positive
        double limit, scale
        void *dx
        void *losses
        double *sums

    ctypedef struct fr_cross_entropy:
        ptrdiff_t rows, classes
        const void *logits
        const ptrdiff_t *targets
        double scale
        void *dlogits
        double *losses
        const void *weight
        double smoothing, total

    ctypedef struct fr_boxes:
        const char *from_ "from"
        ptrdiff_t boxes, box_stride, runs, run_stride, bytes, most, box, run, at

    ctypedef struct fr_conv:
        ptrdiff_t rows
        const void *a
        const ptrdiff_t *a_row
        ptrdiff_t segments, length
        const ptrdiff_t *segment
        const void *b
        int vectors, resume
        const void *bias
        void *c
        const ptrdiff_t *c_row
        const void *y
        const ptrdiff_t *y_row
        ptrdiff_t y_stride, maps
        fr_boxes *ahead

    ctypedef struct fr_turn:
        ptrdiff_t rows, columns
        const void *src
        ptrdiff_t src_stride
        void *dst
        ptrdiff_t dst_stride
        int activation
        const void *gain

    ctypedef struct fr_map_conv:
        ptrdiff_t rows, columns, taps, height
        const void *x
        ptrdiff_t x_stride
        const ptrdiff_t *offset
        const void *weight
        const void *bias
        const void *gain
        int resume, activation
        void *y
        ptrdiff_t y_stride
        void *sums

    ctypedef struct fr_bare_conv:
        ptrdiff_t rows, columns, y_rows, y_columns, above, kernel, step, x_next, y_next, channels, apart, tap_channels
        const void *x
        const void *weight
        const void *bias
        const void *gain
        int activation
        void *y
        void *sums

    ctypedef struct fr_pixel_axis:
        ptrdiff_t outputs, taps, step, pace
        const ptrdiff_t *place
        ptrdiff_t inner, inner_end, x_stride, y_stride, tap, tap_stride

    ctypedef struct fr_pixel_conv:
        fr_pixel_axis axis[3]
        ptrdiff_t channels, tap_channels
        const void *x
        const void *weight
        const void *bias
        const void *gain
        int resume, activation, far
        void *y
        void *sums

    cdef enum:
        FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM, FR_POOL_PLACES, FR_POOL_TURNED, FR_POOL_UNEVEN, FR_TIME_KMAX, FR_TIME_PIECE

    ctypedef struct fr_pool_axis:
        ptrdiff_t size, out, kernel, stride, padding, dilation

    ctypedef struct fr_pool:
        int mode, wide, factors, turned, whole, far
        fr_pool_axis axis[3]
        ptrdiff_t channels, row, rows
        const void *x
        void *y
        void *taps
        const void *first
        const void *scale[3]

    ctypedef struct fr_time_pool:
        int mode
        ptrdiff_t begin, end, steps, total, columns
        ptrdiff_t time_stride, column_stride
        ptrdiff_t k, y_time_stride, y_column_stride
        double divisor
        const void *x
        void *y
        int *times
        void *dx

    ctypedef void (*fr_pool_fn)(const fr_pool *) noexcept nogil
    ctypedef struct fr_winograd:
        void *maps
        ptrdiff_t channels, map_rows, map_columns
        ptrdiff_t channel_stride, row_stride, column_stride
        int points[2]
        int outputs[2]
        ptrdiff_t tile_rows, tile_columns, top, left
        int edge_rows
        ptrdiff_t edge_columns
        void *tiles
        void *edge_tiles
        ptrdiff_t point_stride, tile_stride, panel_stride
        void *scratch
        const void *bias
        int activation

    ctypedef struct fr_winograd_weights:
        void *weight
        ptrdiff_t units, channels, unit_stride, channel_stride, valid
        int points[2]
        int taps[2]
        int flipped, packed, add
        void *transformed
        ptrdiff_t point_stride, row
        void *scratch

    ctypedef struct fr_stretch:
        ptrdiff_t to, first, end

    ctypedef struct fr_frame:
        ptrdiff_t planes, plane_stride, rows, width
        ptrdiff_t row, inside, column, columns
        void *data

    ctypedef struct fr_tap_sums:
        ptrdiff_t rows, columns, taps
        const void *x
        ptrdiff_t x_stride
        const ptrdiff_t *offset
        const void *bias
        int activation
        void *y
        ptrdiff_t y_stride

    ctypedef struct fr_span:
        ptrdiff_t at, first, end

    ctypedef struct fr_columns:
        ptrdiff_t windows, rows, width, channels
        const fr_span *seen
        const void *map
        ptrdiff_t map_stride
        void *columns
        ptrdiff_t column_stride

    ctypedef struct fr_dots:
        ptrdiff_t rows, columns, k
        const void *a
        ptrdiff_t a_stride
        const void *b
        ptrdiff_t b_stride
        void *c
        ptrdiff_t c_stride

    ctypedef struct fr_pad:
        ptrdiff_t above, rows, below, width
        ptrdiff_t before, columns, step
        const void *src
        ptrdiff_t src_stride
        void *dst

    ctypedef struct fr_places:
        ptrdiff_t channels, rows, columns, step
        const void *src
        ptrdiff_t channel_stride, src_stride
        void *dst
        ptrdiff_t dst_stride

    ctypedef struct fr_fetch:
        fr_boxes part[2]

    ctypedef struct fr_plane_conv:
        ptrdiff_t units, first_tile, end_tile
        ptrdiff_t taps, before, after, vectors
        const void *x
        const ptrdiff_t *offset
        const ptrdiff_t *from_ "from"
        const ptrdiff_t *stretches
        const fr_stretch *stretch
        const void *weight
        const void *bias
        const void *gain
        int activation
        void *y
        ptrdiff_t y_stride
        fr_boxes *ahead

    cdef enum:
        FR_CHUNK

    ctypedef struct fr_bags:
        ptrdiff_t bags, width
        const int64_t *tokens
        const ptrdiff_t *start
        const void *factors
        const void *scale
        void *table
        void *y
        int32_t *places
        int member, members

    ctypedef void (*fr_optim_fn)(const fr_optim *) noexcept nogil

    cdef enum:
        FR_ACT_SIGMOID, FR_ACT_TANH, FR_ACT_SILU, FR_ACT_GELU, FR_ACT_GELU_TANH, FR_ACT_MISH, FR_ACT_SOFTPLUS, FR_ACT_ELU
        FR_ACT_SOFTSIGN, FR_ACT_HARDSWISH, FR_ACT_PIECES, FR_ACT_RELU, FR_ACT_LEAKY_RELU, FR_ACT_HARDTANH, FR_ACT_HARDSIGMOID

    ctypedef struct fr_activation:
        int kind
        ptrdiff_t n
        const void *x
        void *y
        void *saved
        double a, b

    ctypedef struct fr_masked:
        ptrdiff_t n
        const void *x
        const unsigned char *mask
        void *y
        double inside, outside
        int clear

    ctypedef struct fr_softmax:
        ptrdiff_t rows, columns
        int log, past
        const void *x
        void *y
        void *p

    ctypedef struct fr_attention:
        ptrdiff_t queries, steps, total, key_width, value_width
        const void *query
        const void *keys
        const void *values
        ptrdiff_t query_stride, key_stride, value_stride
        const void *score
        double scale
        void *weights
        void *context
        ptrdiff_t weights_stride, context_stride
        const void *dcontext
        const void *dweights
        void *dquery
        void *dkeys
        void *dvalues
        void *dscore
        void *scratch

    ctypedef struct fr_norm:
        ptrdiff_t pieces, length, stride, step
        int past
        const void *x
        const void *dy
        void *y
        void *xhat
        const void *rest
        const void *weight
        const void *bias
        void *center
        void *scale
        double eps
        double *first
        double *second
        void *dweight
        void *dbias

    ctypedef void (*fr_norm_fn)(const fr_norm *) noexcept nogil
    ctypedef void (*fr_cell_fn)(const fr_cell *) noexcept nogil
    ctypedef void (*fr_cell_backward_fn)(const fr_cell_backward *) noexcept nogil
    ctypedef void (*fr_map_fn)(ptrdiff_t n, const void *x, void *y) noexcept nogil

    ctypedef struct fr_kernels:
        int width, tile_rows
        void (*gemm)(const fr_gemm *) noexcept nogil
        void (*pack_rows)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                          ptrdiff_t dst_row_stride, ptrdiff_t dst_panel_stride) noexcept nogil
        void (*pack_units)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                           ptrdiff_t dst_stride) noexcept nogil
        void (*column_sums)(ptrdiff_t rows, ptrdiff_t panels, const void *gates, ptrdiff_t gates_panel_stride,
                            void *sums) noexcept nogil
        fr_cell_fn rnn_tanh, rnn_relu, lstm, gru, gru_reset, gru_update
        fr_cell_backward_fn rnn_tanh_backward, rnn_relu_backward, lstm_backward, gru_backward
        fr_cell_backward_fn gru_update_backward, gru_reset_backward
        fr_map_fn exp, sigmoid, tanh
        fr_optim_fn adam, sgd
        void (*cross_entropy)(const fr_cross_entropy *) noexcept nogil
        int (*loss)(const fr_loss *) noexcept nogil
        fr_pool_fn pool, pool_backward, pool_last, pool_last_backward
        void (*time_pool)(const fr_time_pool *) noexcept nogil
        void (*time_pool_backward)(const fr_time_pool *) noexcept nogil

        void (*conv)(const fr_conv *) noexcept nogil
        void (*turn)(const fr_turn *) noexcept nogil
        void (*keep)(const fr_turn *) noexcept nogil
        void (*pack_taps)(ptrdiff_t units, ptrdiff_t k, const void *src, ptrdiff_t src_stride, void *dst,
                          const ptrdiff_t *place) noexcept nogil
        void (*add_turned)(ptrdiff_t rows, ptrdiff_t columns, const void *src, ptrdiff_t src_stride, void *dst,
                           ptrdiff_t dst_stride) noexcept nogil
        void (*activation_gradient)(ptrdiff_t n, const void *h, const void *dh, void *da, int activation) noexcept nogil
        void (*add_sum)(ptrdiff_t n, const void *x, void *sum) noexcept nogil
        void (*gather)(ptrdiff_t rows, ptrdiff_t segments, ptrdiff_t length, const void *src, const ptrdiff_t *row,
                       const ptrdiff_t *segment, void *dst, ptrdiff_t dst_stride) noexcept nogil
        void (*add_stretches)(ptrdiff_t rows, ptrdiff_t length, const void *src, ptrdiff_t src_stride, void *dst,
                              ptrdiff_t dst_stride) noexcept nogil
        void (*take_columns)(const fr_columns *) noexcept nogil
        void (*add_dots)(const fr_dots *) noexcept nogil
        void (*map_conv)(const fr_map_conv *) noexcept nogil
        void (*copy_past)(ptrdiff_t n, const void *src, void *dst) noexcept nogil
        void (*map_conv_weight)(const fr_map_conv *) noexcept nogil
        void (*bare_conv)(const fr_bare_conv *) noexcept nogil
        void (*bare_conv_weight)(const fr_bare_conv *) noexcept nogil
        void (*bare_spread)(const fr_bare_conv *) noexcept nogil
        void (*bare_conv_last)(const fr_bare_conv *) noexcept nogil
        void (*bare_conv_last_weight)(const fr_bare_conv *) noexcept nogil
        void (*pixel_conv)(const fr_pixel_conv *) noexcept nogil
        void (*pixel_conv_weight)(const fr_pixel_conv *) noexcept nogil
        void (*winograd_input)(const fr_winograd *) noexcept nogil
        void (*winograd_spread)(const fr_winograd *) noexcept nogil
        void (*winograd_output)(const fr_winograd *) noexcept nogil
        void (*winograd_weights)(const fr_winograd_weights *) noexcept nogil
        void (*winograd_weight_gradient)(const fr_winograd_weights *) noexcept nogil
        void (*plane_conv)(const fr_plane_conv *) noexcept nogil
        void (*pad_plane)(const fr_pad *) noexcept nogil
        void (*turn_places)(const fr_places *) noexcept nogil
        void (*weave)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t phases, const void *src, ptrdiff_t src_stride, ptrdiff_t part,
                      void *dst, ptrdiff_t dst_stride) noexcept nogil

        fr_optim_fn rmsprop, adagrad, adadelta
        void (*sum_squares)(ptrdiff_t n, const void *x, double *sums) noexcept nogil
        void (*scale)(ptrdiff_t n, double factor, void *x) noexcept nogil
        void (*limit)(ptrdiff_t n, double limit, void *x) noexcept nogil
        double (*softmax_row)(ptrdiff_t n, const void *x, void *y) noexcept nogil
        void (*pick_rows)(ptrdiff_t n, ptrdiff_t width, const int64_t *tokens, const void *table, void *y) noexcept nogil
        void (*bags)(const fr_bags *) noexcept nogil
        void (*bags_backward)(const fr_bags *) noexcept nogil
        void (*activate)(const fr_activation *) noexcept nogil
        void (*add)(ptrdiff_t n, const void *a, const void *b, void *y) noexcept nogil
        void (*multiply)(ptrdiff_t n, const void *a, const void *b, void *y) noexcept nogil
        void (*masked_scale)(const fr_masked *) noexcept nogil
        void (*softmax)(const fr_softmax *) noexcept nogil
        void (*softmax_backward)(const fr_softmax *) noexcept nogil
        void (*attend)(const fr_attention *) noexcept nogil
        void (*attend_backward)(const fr_attention *) noexcept nogil
        fr_norm_fn norm_moments, norm_map, norm_map_sums, norm_map_pull
        fr_norm_fn norm_rows, norm_rows_pull
        fr_norm_fn norm_columns_moments, norm_columns, norm_columns_sums, norm_columns_pull
        void (*winograd_product)(const fr_gemm *, fr_fetch *) noexcept nogil
        void (*tap_sums)(const fr_tap_sums *) noexcept nogil
        void (*spread)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_step, ptrdiff_t step, const void *src,
                       ptrdiff_t src_stride, void *dst) noexcept nogil
        void (*clear_around)(const fr_frame *) noexcept nogil
        void (*sum_phases)(ptrdiff_t n, ptrdiff_t phases, const void *src, void *dst) noexcept nogil

cdef const fr_kernels *kernels_for(int itemsize) noexcept nogil
cdef bint has_tuned_tile() noexcept nogil
