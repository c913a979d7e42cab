"""Layers: what they are (`layer`, `parameter`), and each family in a file of its own."""

from __future__ import annotations

from fastrnn.layers.activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)
from fastrnn.layers.adaptive_pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
)
from fastrnn.layers.arenas import Arena, arena
from fastrnn.layers.attention import Attention, AttentionMemory
from fastrnn.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastrnn.layers.bidirectional import Bidirectional
from fastrnn.layers.conv import Conv1d, Conv2d, Conv3d
from fastrnn.layers.conv_stream import ConvStream
from fastrnn.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastrnn.layers.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d, LockedDropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.embedding_bag import EmbeddingBag
from fastrnn.layers.gru import GRU
from fastrnn.layers.layer import Layer
from fastrnn.layers.linear import Linear
from fastrnn.layers.local_norm import LocalContrastNorm, LocalResponseNorm
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.norm import GroupNorm, LayerNorm
from fastrnn.layers.parallel import Parallel
from fastrnn.layers.parameter import Buffer, Parameter
from fastrnn.layers.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MinPool1d,
    MinPool2d,
    MinPool3d,
)
from fastrnn.layers.residual import Residual
from fastrnn.layers.rnn import RNN
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.shape import Flatten, Identity, Permute, Reshape, Transpose, Unflatten
from fastrnn.layers.softmax import LogSoftmax, Softmax
from fastrnn.layers.stream import Stream
from fastrnn.layers.time_distributed import TimeDistributed
from fastrnn.layers.time_pool import TimePool
from fastrnn.layers.unpool import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "Arena",
    "Attention",
    "AttentionMemory",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bidirectional",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvStream",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "EmbeddingBag",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalContrastNorm",
    "LocalResponseNorm",
    "LockedDropout",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "MinPool1d",
    "MinPool2d",
    "MinPool3d",
    "Mish",
    "Parallel",
    "Parameter",
    "Permute",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Stream",
    "Tanh",
    "TimeDistributed",
    "TimePool",
    "Transpose",
    "Unflatten",
    "arena",
]
