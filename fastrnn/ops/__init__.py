"""The operations of fastrnn, compiled: each checks its arguments, allocates its results and calls the kernels.

Twin of `fastrnn.reference`: the same names with the same signatures give the same results, from the equations in plain NumPy.
`*_values` leave out the indices of a selection, which are then never computed. `pack_*` turn the weights of a layer into the
kernels' layout once for many calls; `*_stream` run a layer step by step.
"""

from fastrnn.ops._conv_stream import conv_stream
from fastrnn.ops.activation import exp, sigmoid, tanh
from fastrnn.ops.adaptive_pool import (
    adaptive_avg_pool_forward,
    adaptive_avg_pool_vjp,
    adaptive_max_pool_forward,
    adaptive_max_pool_values,
    adaptive_max_pool_values_vjp,
    adaptive_max_pool_vjp,
)
from fastrnn.ops.conv import conv_forward, conv_vjp, pack_conv
from fastrnn.ops.conv_transpose import conv_transpose_forward, conv_transpose_vjp, pack_conv_transpose
from fastrnn.ops.embedding import embedding_forward, embedding_vjp
from fastrnn.ops.gru import gru_forward, gru_stream, gru_vjp, pack_gru
from fastrnn.ops.linear import linear_forward, linear_vjp, pack_linear
from fastrnn.ops.local_norm import (
    local_contrast_norm_forward,
    local_contrast_norm_vjp,
    local_response_norm_forward,
    local_response_norm_vjp,
)
from fastrnn.ops.losses import cross_entropy, mse_loss
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
from fastrnn.ops.optim import adam_step, sgd_step
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
from fastrnn.ops.time_pool import time_pool_forward, time_pool_vjp
from fastrnn.ops.unpool import max_unpool_forward, max_unpool_vjp

__all__ = [
    "adam_step",
    "adaptive_avg_pool_forward",
    "adaptive_avg_pool_vjp",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_values",
    "adaptive_max_pool_values_vjp",
    "adaptive_max_pool_vjp",
    "available_isas",
    "avg_pool_forward",
    "avg_pool_vjp",
    "batch_norm_forward",
    "batch_norm_vjp",
    "build_info",
    "conv_forward",
    "conv_stream",
    "conv_transpose_forward",
    "conv_transpose_vjp",
    "conv_vjp",
    "cross_entropy",
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
    "isa_generation",
    "layer_norm_forward",
    "layer_norm_vjp",
    "linear_forward",
    "linear_vjp",
    "local_contrast_norm_forward",
    "local_contrast_norm_vjp",
    "local_response_norm_forward",
    "local_response_norm_vjp",
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
    "pack_conv",
    "pack_conv_transpose",
    "pack_gru",
    "pack_linear",
    "pack_lstm",
    "pack_rnn",
    "rnn_forward",
    "rnn_stream",
    "rnn_vjp",
    "set_isa",
    "set_num_threads",
    "sgd_step",
    "sigmoid",
    "tanh",
    "time_pool_forward",
    "time_pool_vjp",
]
