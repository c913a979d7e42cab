"""The networks of the long memory example in PyTorch: same weights, batches, optimizer and clipping."""

from __future__ import annotations

import time
from typing import Any

import torch
from _torch_learner import TorchLearner
from torch import nn

import fastrnn as fr

__all__ = ["TorchTwin"]

CELLS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class TorchTwin(TorchLearner):
    """The twin of a model with a recurrent and a linear layer, and the seconds it took to train."""

    def __init__(self, model: fr.Sequential, lr: float, clip: float | None) -> None:
        recurrent, linear = model
        assert isinstance(recurrent, (fr.LSTM, fr.GRU, fr.RNN))
        assert isinstance(linear, fr.Linear)
        options = {"nonlinearity": recurrent.nonlinearity} if isinstance(recurrent, fr.RNN) else {}
        cell = CELLS[type(recurrent).__name__](recurrent.input_size, recurrent.hidden_size, **options)
        # As a list the layers have the names that they have in ours: 0.weight_ih_l0, ..., 1.bias.
        layers = nn.ModuleList([cell, nn.Linear(linear.in_features, linear.out_features)])
        super().__init__(layers, model.state_dict(), clip=clip, lr=lr)
        self.seconds = 0.0

    def loss(self, x: Any, target: Any) -> Any:
        """Return the mean squared error of the last output, or where targets are classes the cross entropy of the last ones."""
        recurrent, linear = self.module
        h, _ = recurrent(torch.from_numpy(x))
        wanted = torch.from_numpy(target)
        if wanted.is_floating_point():
            return nn.functional.mse_loss(linear(h[-1]), wanted)
        return nn.functional.cross_entropy(linear(h[-len(wanted) :]).flatten(0, 1), wanted.flatten())

    def step(self, x: Any, target: Any) -> None:
        """Learn from one batch."""
        start = time.perf_counter()
        self.learn(self.loss(x, target))
        self.seconds += time.perf_counter() - start

    def test(self, x: Any, target: Any) -> float:
        """Return the loss without training."""
        with torch.no_grad():
            return float(self.loss(x, target).item())
