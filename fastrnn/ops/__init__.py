"""The operations of fastrnn, compiled: each checks its arguments, allocates its results and calls the kernels.

Twin of `fastrnn.reference`: the same names with the same signatures give the same results, from the equations in plain NumPy.
`pack_*` turn the weights of a layer into the kernels' layout once for many calls; `*_stream` run a layer step by step.
"""

from fastrnn.ops._conv_stream import conv_stream
from fastrnn.ops.activation import exp, sigmoid, tanh
from fastrnn.ops.conv import conv_forward, conv_vjp, pack_conv
from fastrnn.ops.conv_transpose import conv_transpose_forward, conv_transpose_vjp, pack_conv_transpose
from fastrnn.ops.embedding import embedding_forward, embedding_vjp
from fastrnn.ops.gru import gru_forward, gru_stream, gru_vjp, pack_gru
from fastrnn.ops.linear import linear_forward, linear_vjp, pack_linear
from fastrnn.ops.losses import cross_entropy, mse_loss
from fastrnn.ops.lstm import lstm_forward, lstm_stream, lstm_vjp, pack_lstm
from fastrnn.ops.optim import adam_step, sgd_step
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

__all__ = [
    "adam_step",
    "available_isas",
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
    "gru_forward",
    "gru_stream",
    "gru_vjp",
    "isa_generation",
    "linear_forward",
    "linear_vjp",
    "lstm_forward",
    "lstm_stream",
    "lstm_vjp",
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
]
