"""Layers: what they are (`layer`, `parameter`), and each family in a file of its own."""

from __future__ import annotations

from fastrnn.layers.embedding import Embedding
from fastrnn.layers.gru import GRU
from fastrnn.layers.layer import Layer
from fastrnn.layers.linear import Linear
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.parameter import Parameter
from fastrnn.layers.rnn import RNN
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.stream import Stream

__all__ = ["GRU", "LSTM", "RNN", "Embedding", "Layer", "Linear", "Parameter", "Sequential", "Stream"]
