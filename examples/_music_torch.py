"""The model of the music example in PyTorch, trained beside ours: same weights, batches, optimizer and learning rates."""

from __future__ import annotations

from typing import Any, Protocol

import torch
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


class TorchTrainer:
    """The twin of a model with an embedding, a recurrent layer, dropout 0 and a linear layer, and of its trainer."""

    def __init__(self, model: fr.Sequential, clip: float) -> None:
        embedding, recurrent, _, linear = model
        assert isinstance(embedding, fr.Embedding)
        assert isinstance(recurrent, (fr.LSTM, fr.GRU))
        assert isinstance(linear, fr.Linear)
        C, H, K = recurrent.input_size, recurrent.hidden_size, linear.out_features
        cell = CELLS[type(recurrent).__name__](C, H, recurrent.num_layers)
        # As a list the layers have the names that they have in ours: 0.weight, 1.weight_ih_l0, ..., 3.bias.
        self.layers = nn.ModuleList([nn.Embedding(embedding.num_embeddings, C), cell, nn.Identity(), nn.Linear(H, K)])
        self.layers.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
        self.optimizer = torch.optim.Adam(self.layers.parameters(), fused=True)
        self.clip = clip

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its mean loss. Steps past a tune's end come after all that counts."""
        embedding, recurrent, _, linear = self.layers
        h, _ = recurrent(embedding(torch.from_numpy(batch.tokens)))
        inside = torch.arange(len(batch.tokens))[:, None] < torch.from_numpy(batch.lengths)
        targets = torch.where(inside, torch.from_numpy(batch.targets), IGNORED)
        loss = nn.functional.cross_entropy(linear(h).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        nn.utils.clip_grad_norm_(self.layers.parameters(), self.clip)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return float(loss.item())

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return dict(self.layers.state_dict())
