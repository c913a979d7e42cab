"""Recurrent and convolutional networks on plain CPUs: fast kernels behind small Python layers.

import fastrnn as fr

lstm = fr.LSTM(64, 256)
y, (h, c) = lstm(x)                                 # calling predicts
(y, state), backward = lstm.forward(x)              # forward trains: the result and its pullback
dx, dstate = backward(dy)                           # adds to the gradients of lstm's parameters
"""

from __future__ import annotations

from fastrnn import decode, errors, init, io, layers, losses, ops, optim, reference
from fastrnn.decode import ctc_beam_decode, ctc_greedy_decode
from fastrnn.io import load, save
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Embedding,
    EmbeddingBag,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    Linear,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MaxUnpool1d,
    MaxUnpool2d,
    MaxUnpool3d,
    MinPool1d,
    MinPool2d,
    MinPool3d,
    Parameter,
    Sequential,
    TimePool,
    arena,
)
from fastrnn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    ctc_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from fastrnn.ops import available_isas, build_info, get_isa, get_num_threads, set_isa, set_num_threads
from fastrnn.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearWarmup,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    RMSprop,
    StepLR,
    WarmupCosine,
    clip_grad_norm,
    clip_grad_value,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineAnnealingLR",
    "Embedding",
    "EmbeddingBag",
    "ExponentialLR",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "LambdaLR",
    "Layer",
    "Linear",
    "LinearWarmup",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "MinPool1d",
    "MinPool2d",
    "MinPool3d",
    "MultiStepLR",
    "OneCycleLR",
    "Parameter",
    "RMSprop",
    "ReduceLROnPlateau",
    "Sequential",
    "StepLR",
    "TimePool",
    "WarmupCosine",
    "__version__",
    "arena",
    "available_isas",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "build_info",
    "clip_grad_norm",
    "clip_grad_value",
    "cross_entropy",
    "ctc_beam_decode",
    "ctc_greedy_decode",
    "ctc_loss",
    "decode",
    "errors",
    "get_isa",
    "get_num_threads",
    "huber_loss",
    "init",
    "io",
    "l1_loss",
    "layers",
    "load",
    "losses",
    "mse_loss",
    "nll_loss",
    "ops",
    "optim",
    "reference",
    "save",
    "set_isa",
    "set_num_threads",
    "smooth_l1_loss",
]


def __getattr__(name: str) -> str:
    """Look up `__version__` when it is asked for: importlib.metadata is slow to import."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastrnn")
    except PackageNotFoundError:
        return "0+unknown"
