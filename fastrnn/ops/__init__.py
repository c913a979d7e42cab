"""The operations of fastrnn, compiled: each checks its arguments, allocates its results and calls the kernels.

Twin of `fastrnn.reference`: the same names with the same signatures give the same results, from the equations in plain NumPy.
`*_values` leave out the indices of a selection, which are then never computed. `pack_*` turn the weights of a layer into the
kernels' layout once for many calls; `*_stream` run a layer step by step.
"""

from fastrnn.ops._conv_stream import conv_stream
from fastrnn.ops.activation import ACTIVATIONS, activation_forward, activation_vjp, exp, sigmoid, tanh
from fastrnn.ops.adaptive_pool import (
    adaptive_avg_pool_forward,
    adaptive_avg_pool_vjp,
    adaptive_max_pool_forward,
    adaptive_max_pool_values,
    adaptive_max_pool_values_vjp,
    adaptive_max_pool_vjp,
)
from fastrnn.ops.attention import attention_forward, attention_memory, attention_vjp
from fastrnn.ops.conv import conv_forward, conv_vjp, pack_conv
from fastrnn.ops.conv_transpose import conv_transpose_forward, conv_transpose_vjp, pack_conv_transpose
from fastrnn.ops.dropout import dropout_vjp
from fastrnn.ops.embedding import embedding_forward, embedding_vjp
from fastrnn.ops.embedding_bag import embedding_bag_forward, embedding_bag_vjp
from fastrnn.ops.gru import gru_forward, gru_stream, gru_vjp, pack_gru
from fastrnn.ops.linear import linear_forward, linear_vjp, pack_linear
from fastrnn.ops.local_norm import (
    local_contrast_norm_forward,
    local_contrast_norm_vjp,
    local_response_norm_forward,
    local_response_norm_vjp,
)
from fastrnn.ops.losses import cross_entropy, nll_loss
from fastrnn.ops.losses_ctc import ctc_loss
from fastrnn.ops.losses_elementwise import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from fastrnn.ops.lp_pool import lp_pool_forward, lp_pool_vjp
from fastrnn.ops.lstm import lstm_forward, lstm_stream, lstm_vjp, pack_lstm
from fastrnn.ops.norm import (
    batch_norm_forward,
    batch_norm_vjp,
    group_norm_forward,
    group_norm_vjp,
    layer_norm_forward,
    layer_norm_vjp,
)
from fastrnn.ops.optim import (
    adadelta_step,
    adagrad_step,
    adam_step,
    clip_values,
    rmsprop_step,
    scale_values,
    sgd_step,
    sum_of_squares,
)
from fastrnn.ops.pool import (
    avg_pool_forward,
    avg_pool_vjp,
    max_pool_forward,
    max_pool_values,
    max_pool_values_vjp,
    max_pool_vjp,
    min_pool_forward,
    min_pool_values,
    min_pool_values_vjp,
    min_pool_vjp,
)
from fastrnn.ops.rnn import pack_rnn, rnn_forward, rnn_stream, rnn_vjp
from fastrnn.ops.runtime import (
    available_isas,
    build_info,
    empty,
    get_isa,
    get_num_threads,
    isa_generation,
    set_isa,
    set_num_threads,
)
from fastrnn.ops.softmax import log_softmax_forward, log_softmax_vjp, softmax_forward, softmax_vjp
from fastrnn.ops.time_pool import time_pool_forward, time_pool_vjp
from fastrnn.ops.unpool import max_unpool_forward, max_unpool_vjp

__all__ = [
    "ACTIVATIONS",
    "activation_forward",
    "activation_vjp",
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adaptive_avg_pool_forward",
    "adaptive_avg_pool_vjp",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_values",
    "adaptive_max_pool_values_vjp",
    "adaptive_max_pool_vjp",
    "attention_forward",
    "attention_memory",
    "attention_vjp",
    "available_isas",
    "avg_pool_forward",
    "avg_pool_vjp",
    "batch_norm_forward",
    "batch_norm_vjp",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "build_info",
    "clip_values",
    "conv_forward",
    "conv_stream",
    "conv_transpose_forward",
    "conv_transpose_vjp",
    "conv_vjp",
    "cross_entropy",
    "ctc_loss",
    "dropout_vjp",
    "embedding_bag_forward",
    "embedding_bag_vjp",
    "embedding_forward",
    "embedding_vjp",
    "empty",
    "exp",
    "get_isa",
    "get_num_threads",
    "group_norm_forward",
    "group_norm_vjp",
    "gru_forward",
    "gru_stream",
    "gru_vjp",
    "huber_loss",
    "isa_generation",
    "l1_loss",
    "layer_norm_forward",
    "layer_norm_vjp",
    "linear_forward",
    "linear_vjp",
    "local_contrast_norm_forward",
    "local_contrast_norm_vjp",
    "local_response_norm_forward",
    "local_response_norm_vjp",
    "log_softmax_forward",
    "log_softmax_vjp",
    "lp_pool_forward",
    "lp_pool_vjp",
    "lstm_forward",
    "lstm_stream",
    "lstm_vjp",
    "max_pool_forward",
    "max_pool_values",
    "max_pool_values_vjp",
    "max_pool_vjp",
    "max_unpool_forward",
    "max_unpool_vjp",
    "min_pool_forward",
    "min_pool_values",
    "min_pool_values_vjp",
    "min_pool_vjp",
    "mse_loss",
    "nll_loss",
    "pack_conv",
    "pack_conv_transpose",
    "pack_gru",
    "pack_linear",
    "pack_lstm",
    "pack_rnn",
    "rmsprop_step",
    "rnn_forward",
    "rnn_stream",
    "rnn_vjp",
    "scale_values",
    "set_isa",
    "set_num_threads",
    "sgd_step",
    "sigmoid",
    "smooth_l1_loss",
    "softmax_forward",
    "softmax_vjp",
    "sum_of_squares",
    "tanh",
    "time_pool_forward",
    "time_pool_vjp",
]
