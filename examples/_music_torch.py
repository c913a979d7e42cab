"""The model of the music example in PyTorch, trained beside ours: same weights, batches, optimizer and learning rates."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from _torch_learner import TorchLearner
from torch import nn

import fastrnn as fr

__all__ = ["TorchTrainer"]

CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}
IGNORED = -100


class Batch(Protocol):
    """Tokens and targets (T, N), lengths (N,)."""

    tokens: Any
    targets: Any
    lengths: Any


class TorchTrainer(TorchLearner):
    """The twin of a model with an embedding, a recurrent layer, dropout 0 and a linear layer, and of its trainer."""

    def __init__(self, model: fr.Sequential, clip: float) -> None:
        embedding, recurrent, _, linear = model
        assert isinstance(embedding, fr.Embedding)
        assert isinstance(recurrent, (fr.LSTM, fr.GRU))
        assert isinstance(linear, fr.Linear)
        C, H, L = recurrent.input_size, recurrent.hidden_size, recurrent.num_layers
        projection = {"proj_size": recurrent.proj_size} if recurrent.proj_size else {}
        cell = CELLS[type(recurrent).__name__](C, H, L, **projection)
        last = nn.Linear(linear.in_features, linear.out_features)
        # As a list the layers have the names that they have in ours: 0.weight, 1.weight_ih_l0, ..., 3.bias.
        layers = nn.ModuleList([nn.Embedding(embedding.num_embeddings, C), cell, nn.Identity(), last])
        super().__init__(layers, model.state_dict(), clip=clip)

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its mean loss. Steps past a tune's end come after all that counts."""
        embedding, recurrent, _, linear = self.module
        h, _ = recurrent(embedding(torch.from_numpy(batch.tokens)))
        inside = torch.arange(len(batch.tokens))[:, None] < torch.from_numpy(batch.lengths)
        targets = torch.where(inside, torch.from_numpy(batch.targets), IGNORED)
        logits = linear(h).flatten(0, 1)
        return self.learn(nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED), lr)
