"""Recurrent and convolutional networks on plain CPUs: fast kernels behind small Python layers.

import fastrnn as fr

lstm = fr.LSTM(64, 256)
y, (h, c) = lstm(x)                                 # calling predicts
(y, state), backward = lstm.forward(x)              # forward trains: the result and its pullback
dx, dstate = backward(dy)                           # adds to the gradients of lstm's parameters
"""

from __future__ import annotations

from fastrnn import errors, init, io, layers, losses, ops, optim, reference
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
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Buffer,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Embedding,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    LocalContrastNorm,
    LocalResponseNorm,
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
)
from fastrnn.losses import cross_entropy, mse_loss
from fastrnn.ops import available_isas, build_info, get_isa, get_num_threads, set_isa, set_num_threads
from fastrnn.optim import SGD, Adam, clip_grad_norm, clip_grad_value

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adam",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Embedding",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Layer",
    "LayerNorm",
    "Linear",
    "LocalContrastNorm",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "MinPool1d",
    "MinPool2d",
    "MinPool3d",
    "Parameter",
    "Sequential",
    "TimePool",
    "__version__",
    "available_isas",
    "build_info",
    "clip_grad_norm",
    "clip_grad_value",
    "cross_entropy",
    "errors",
    "get_isa",
    "get_num_threads",
    "init",
    "io",
    "layers",
    "load",
    "losses",
    "mse_loss",
    "ops",
    "optim",
    "reference",
    "save",
    "set_isa",
    "set_num_threads",
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
