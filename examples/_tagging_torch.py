"""The taggers in PyTorch, with the same initial weights, trained on the same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _tagging_data import Array, Batch
from _torch_learner import TorchLearner
from torch import nn

import fastrnn as fr

__all__ = ["TorchTagger"]


def twin(layer: fr.Layer) -> Any:
    """Return the twin of one of a tagger's layers."""
    if isinstance(layer, fr.LSTM):
        return nn.LSTM(layer.input_size, layer.hidden_size, layer.num_layers, bidirectional=layer.bidirectional)
    if isinstance(layer, fr.Linear):
        return nn.Linear(layer.in_features, layer.out_features)
    return nn.ReLU()


class TorchTagger(TorchLearner):
    """A tagger's twin and its optimizer."""

    def __init__(self, model: fr.Sequential, clip: float) -> None:
        super().__init__(nn.ModuleList(map(twin, model)), model.state_dict(), clip=clip)

    def logits(self, batch: Batch) -> Any:
        """Return the logits (T, N, labels)."""
        x = torch.from_numpy(batch.x)
        for layer in self.module:
            if isinstance(layer, nn.LSTM):
                packed = nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(batch.lengths), enforce_sorted=False)
                x = nn.utils.rnn.pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]
            else:
                x = layer(x)
        return x

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its loss."""
        wanted = torch.from_numpy(batch.y).flatten()
        return self.learn(nn.functional.cross_entropy(self.logits(batch).flatten(0, 1), wanted, ignore_index=-1), lr)

    def tag(self, batch: Batch) -> Array:
        """Return the likeliest label of each frame (T, N)."""
        with torch.no_grad():
            return np.asarray(self.logits(batch).argmax(-1).numpy())
