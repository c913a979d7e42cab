"""Layers: what they are (`layer`, `parameter`), and each family in a file of its own."""

from __future__ import annotations

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
from fastrnn.layers.conv import Conv1d, Conv2d, Conv3d
from fastrnn.layers.conv_stream import ConvStream
from fastrnn.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.gru import GRU
from fastrnn.layers.layer import Layer
from fastrnn.layers.linear import Linear
from fastrnn.layers.local_norm import LocalContrastNorm, LocalResponseNorm
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm
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
from fastrnn.layers.rnn import RNN
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.stream import Stream
from fastrnn.layers.time_pool import TimePool
from fastrnn.layers.unpool import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
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
    "ConvStream",
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
    "Stream",
    "TimePool",
]
