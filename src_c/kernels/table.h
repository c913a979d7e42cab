// All kernel bodies, and the table of this translation unit's instruction set and element type. The file that includes this
// one has defined FR_NAME and included one vocabulary (simd/vec_<isa>_<type>.h) and its mathematics.
#include "gemm.h"
#include "gru.h"
#include "lstm.h"
#include "map.h"
#include "optim.h"
#include "pack.h"
#include "pool.h"
#include "pool_backward.h"
#include "pool_last.h"
#include "rnn.h"
#include "softmax.h"
#include "conv.h"
#include "depthwise.h"
#include "depthwise_pixels.h"
#include "depthwise_rows_spread.h"
#include "depthwise_rows_weight.h"
#include "depthwise_sweep_weight.h"
#include "turn.h"
#include "time_pool.h"
#include "winograd.h"
#include "winograd_product.h"
#include "winograd_weights.h"
#include "plane_conv.h"
#include "plane_rows.h"
#include "places.h"
#include "clip.h"
#include "columns.h"
#include "dots.h"
#include "embedding.h"
#include "activation.h"
#include "attention.h"
#include "loss.h"
#include "softmax_rows.h"
#include "tap_sums.h"
#include "norm.h"

extern const fr_kernels FR_NAME(table);
const fr_kernels FR_NAME(table) = {
    .width = FR_WIDTH,
    .tile_rows = FR_MAX_ROWS,
    .gemm = FR_NAME(gemm),
    .pack_rows = FR_NAME(pack_rows),
    .pack_units = FR_NAME(pack_units),
    .column_sums = FR_NAME(column_sums),
    .rnn_tanh = FR_NAME(rnn_tanh),
    .rnn_relu = FR_NAME(rnn_relu),
    .lstm = FR_NAME(lstm),
    .gru = FR_NAME(gru),
    .gru_reset = FR_NAME(gru_reset),
    .gru_update = FR_NAME(gru_update),
    .rnn_tanh_backward = FR_NAME(rnn_tanh_backward),
    .rnn_relu_backward = FR_NAME(rnn_relu_backward),
    .lstm_backward = FR_NAME(lstm_backward),
    .gru_backward = FR_NAME(gru_backward),
    .gru_update_backward = FR_NAME(gru_update_backward),
    .gru_reset_backward = FR_NAME(gru_reset_backward),
    .exp = FR_NAME(exp),
    .sigmoid = FR_NAME(sigmoid),
    .tanh = FR_NAME(tanh),
    .adam = FR_NAME(adam),
    .sgd = FR_NAME(sgd),
    .cross_entropy = FR_NAME(cross_entropy),
    .loss = FR_NAME(loss),

    .conv = FR_NAME(conv),
    .turn = FR_NAME(turn),
    .keep = FR_NAME(keep),
    .pack_taps = FR_NAME(pack_taps),
    .add_turned = FR_NAME(add_turned),
    .activation_gradient = FR_NAME(activation_gradient),
    .add_sum = FR_NAME(add_sum),
    .gather = FR_NAME(gather),
    .add_stretches = FR_NAME(add_stretches),
    .take_columns = FR_NAME(take_columns),
    .add_dots = FR_NAME(add_dots),
    .map_conv = FR_NAME(map_conv),
    .copy_past = FR_NAME(copy_past),
    .map_conv_weight = FR_NAME(map_conv_weight),
    .bare_conv = FR_NAME(bare_conv),
    .bare_conv_weight = FR_NAME(bare_conv_weight),
    .bare_spread = FR_NAME(bare_spread),
    .bare_conv_last = FR_NAME(bare_conv_last),
    .bare_conv_last_weight = FR_NAME(bare_conv_last_weight),
    .pixel_conv = FR_NAME(pixel_conv),
    .pixel_conv_weight = FR_NAME(pixel_conv_weight),
    .pool = FR_NAME(pool),
    .pool_backward = FR_NAME(pool_backward),
    .pool_last = FR_NAME(pool_last),
    .pool_last_backward = FR_NAME(pool_last_backward),
    .time_pool = FR_NAME(time_pool),
    .time_pool_backward = FR_NAME(time_pool_backward),
    .winograd_input = FR_NAME(winograd_input),
    .winograd_spread = FR_NAME(winograd_spread),
    .winograd_output = FR_NAME(winograd_output),
    .winograd_weights = FR_NAME(winograd_weights),
    .winograd_weight_gradient = FR_NAME(winograd_weight_gradient),
    .winograd_product = FR_NAME(winograd_product),
    .plane_conv = FR_NAME(plane_conv),
    .pad_plane = FR_NAME(pad_plane),
    .tap_sums = FR_NAME(tap_sums),
    .spread = FR_NAME(spread),
    .clear_around = FR_NAME(clear_around),
    .sum_phases = FR_NAME(sum_phases),
    .weave = FR_NAME(weave),
    .turn_places = FR_NAME(turn_places),

    .rmsprop = FR_NAME(rmsprop),
    .adagrad = FR_NAME(adagrad),
    .adadelta = FR_NAME(adadelta),
    .sum_squares = FR_NAME(sum_squares),
    .scale = FR_NAME(scale),
    .limit = FR_NAME(limit),
    .softmax_row = FR_NAME(softmax_row),
    .pick_rows = FR_NAME(pick_rows),
    .bags = FR_NAME(bags),
    .bags_backward = FR_NAME(bags_backward),
    .activate = FR_NAME(activate),
    .add = FR_NAME(add),
    .multiply = FR_NAME(multiply),
    .masked_scale = FR_NAME(masked_scale),
    .softmax = FR_NAME(softmax),
    .softmax_backward = FR_NAME(softmax_backward),
    .attend = FR_NAME(attend),
    .attend_backward = FR_NAME(attend_backward),
    .norm_moments = FR_NAME(norm_moments),
    .norm_map = FR_NAME(norm_map),
    .norm_map_sums = FR_NAME(norm_map_sums),
    .norm_map_pull = FR_NAME(norm_map_pull),
    .norm_rows = FR_NAME(norm_rows),
    .norm_rows_pull = FR_NAME(norm_rows_pull),
    .norm_columns_moments = FR_NAME(norm_columns_moments),
    .norm_columns = FR_NAME(norm_columns),
    .norm_columns_sums = FR_NAME(norm_columns_sums),
    .norm_columns_pull = FR_NAME(norm_columns_pull),
};
