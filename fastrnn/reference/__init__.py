"""The specification of fastrnn: every operation in plain NumPy, straight from its equations.

`fastrnn.ops` holds the fast twins: same names, same signatures, same results up to rounding. Nothing here is written
for speed. Arguments are taken as they are, without the checks that `ops` makes; results have the dtype of the inputs.

Letters
-------
T time steps, N batch, C input features, H hidden units, P projected units, G gates, V classes or vocabulary.

Gate order
----------
The rows of ``weight_ih (G*H, C)``, ``weight_hh (G*H, H or P)``, ``bias_ih (G*H,)`` and ``bias_hh (G*H,)`` are G blocks
of H rows each:

    RNN   G = 1
    LSTM  G = 4   i (input), f (forget), g (candidate), o (output)
    GRU   G = 3   r (reset), z (update), n (candidate)

This is the only place that states it; it is PyTorch's order.

Pullbacks
---------
``*_vjp`` returns the result and a pullback, which maps the gradient of a scalar with respect to the result to its
gradients with respect to the inputs. A pullback owns what it saved: editing the inputs after the forward pass does not
change it. It may be called once; a second call raises RuntimeError.

NaN and infinities travel through as values, without warnings.
"""

from __future__ import annotations

from .activation import (
    activation_forward,
    activation_vjp,
    exp,
    log_softmax_forward,
    log_softmax_vjp,
    sigmoid,
    softmax_forward,
    softmax_vjp,
    tanh,
)
from .adaptive_pool import (
    adaptive_avg_pool_forward,
    adaptive_avg_pool_vjp,
    adaptive_max_pool_forward,
    adaptive_max_pool_vjp,
)
from .attention import attention_forward, attention_vjp
from .conv import conv_forward, conv_vjp
from .conv_transpose import conv_transpose_forward, conv_transpose_vjp
from .dropout import dropout_vjp
from .embedding import embedding_forward, embedding_vjp
from .embedding_bag import embedding_bag_forward, embedding_bag_vjp
from .gru import gru_forward, gru_vjp
from .linear import linear_forward, linear_vjp
from .local_norm import (
    local_contrast_norm_forward,
    local_contrast_norm_vjp,
    local_response_norm_forward,
    local_response_norm_vjp,
)
from .losses import cross_entropy, nll_loss
from .losses_ctc import ctc_loss
from .losses_elementwise import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from .lstm import lstm_forward, lstm_vjp
from .norm import (
    batch_norm_forward,
    batch_norm_vjp,
    group_norm_forward,
    group_norm_vjp,
    layer_norm_forward,
    layer_norm_vjp,
)
from .optim import adadelta_step, adagrad_step, adam_step, rmsprop_step, sgd_step
from .pool import (
    avg_pool_forward,
    avg_pool_vjp,
    lp_pool_forward,
    lp_pool_vjp,
    max_pool_forward,
    max_pool_vjp,
    max_unpool_forward,
    max_unpool_vjp,
    min_pool_forward,
    min_pool_vjp,
)
from .rnn import rnn_forward, rnn_vjp
from .time_pool import time_pool_forward, time_pool_vjp

__all__ = [
    "activation_forward",
    "activation_vjp",
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adaptive_avg_pool_forward",
    "adaptive_avg_pool_vjp",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_vjp",
    "attention_forward",
    "attention_vjp",
    "avg_pool_forward",
    "avg_pool_vjp",
    "batch_norm_forward",
    "batch_norm_vjp",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv_forward",
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
    "exp",
    "group_norm_forward",
    "group_norm_vjp",
    "gru_forward",
    "gru_vjp",
    "huber_loss",
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
    "lstm_vjp",
    "max_pool_forward",
    "max_pool_vjp",
    "max_unpool_forward",
    "max_unpool_vjp",
    "min_pool_forward",
    "min_pool_vjp",
    "mse_loss",
    "nll_loss",
    "rmsprop_step",
    "rnn_forward",
    "rnn_vjp",
    "sgd_step",
    "sigmoid",
    "smooth_l1_loss",
    "softmax_forward",
    "softmax_vjp",
    "tanh",
    "time_pool_forward",
    "time_pool_vjp",
]
