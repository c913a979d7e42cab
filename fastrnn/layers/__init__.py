"""Layers: what they are (`layer`, `parameter`), and each family in a file of its own."""

from __future__ import annotations

from fastrnn.layers.conv import Conv1d, Conv2d, Conv3d
from fastrnn.layers.conv_stream import ConvStream
from fastrnn.layers.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.gru import GRU
from fastrnn.layers.layer import Layer
from fastrnn.layers.linear import Linear
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.parameter import Parameter
from fastrnn.layers.rnn import RNN
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.stream import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvStream",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Embedding",
    "Layer",
    "Linear",
    "Parameter",
    "Sequential",
    "Stream",
]
