# The only linker of src_c: owns the table of kernels in use.

cdef extern from "fr_kernels.h" nogil:
    cdef enum:
        FR_SLOTS, FR_FAR_BYTES, FR_FAR_TILES
        FR_WINOGRAD_WEIGHT_SCRATCH

    ctypedef struct fr_run:
        const void *a
        ptrdiff_t row_stride, k_stride
        ptrdiff_t segments, segment_stride, length
        const void *b
        ptrdiff_t b_stride, panel_stride
        int vectors, last
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

    ctypedef struct fr_adam:
        ptrdiff_t n
        void *param
        void *m
        void *v
        const void *grad
        double lr, beta1, beta2, eps, weight_decay, correction1, correction2
        int decoupled

    ctypedef struct fr_sgd:
        ptrdiff_t n
        void *param
        void *momentum_buffer
        const void *grad
        double lr, momentum, dampening, weight_decay
        int nesterov, first

    ctypedef struct fr_cross_entropy:
        ptrdiff_t rows, classes
        const void *logits
        const ptrdiff_t *targets
        double scale
        void *dlogits
        double *losses

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
        int flipped
        void *transformed
        ptrdiff_t point_stride
        void *scratch

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
        void (*adam)(const fr_adam *) noexcept nogil
        void (*sgd)(const fr_sgd *) noexcept nogil
        void (*cross_entropy)(const fr_cross_entropy *) noexcept nogil
        void (*winograd_input)(const fr_winograd *) noexcept nogil
        void (*winograd_spread)(const fr_winograd *) noexcept nogil
        void (*winograd_output)(const fr_winograd *) noexcept nogil
        void (*winograd_weights)(const fr_winograd_weights *) noexcept nogil
        void (*winograd_weight_gradient)(const fr_winograd_weights *) noexcept nogil

cdef const fr_kernels *kernels_for(int itemsize) noexcept nogil
cdef bint has_tuned_tile() noexcept nogil
