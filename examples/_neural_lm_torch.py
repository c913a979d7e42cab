"""The feed-forward language model in PyTorch: the same weights, batches and optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _neural_lm_data import IntArray
from _torch_learner import load_weights
from numpy.typing import NDArray
from torch import nn

import fastrnn as fr

__all__ = ["TorchTrainer"]


class TorchTrainer:
    """The twin of a model, and of its trainer: the table's gradient is sparse here, too."""

    def __init__(self, model: fr.Sequential) -> None:
        embedding, _, hidden, dropout, output = model
        assert isinstance(embedding, fr.Embedding)
        assert isinstance(hidden, fr.Linear)
        assert isinstance(dropout, fr.Dropout)
        assert isinstance(output, fr.Linear)
        # The layers have the names that they have in ours, but for tanh, which is a part of our hidden layer.
        self.layers = nn.ModuleDict(
            {
                "0": nn.Embedding(embedding.num_embeddings, embedding.embedding_dim, sparse=True),
                "2": nn.Linear(hidden.in_features, hidden.out_features),
                "4": nn.Linear(output.in_features, output.out_features),
            }
        )
        load_weights(self.layers, model.state_dict())
        self.dropout = nn.Dropout(dropout.p)
        dense = [*self.layers["2"].parameters(), *self.layers["4"].parameters()]
        self.optimizers = [torch.optim.SparseAdam(self.layers["0"].parameters()), torch.optim.Adam(dense, fused=True)]

    def step(self, windows: IntArray, lr: float) -> float:
        """Learn from n-grams (N, n); return the loss."""
        self.dropout.train()
        tokens = torch.from_numpy(windows)
        loss = nn.functional.cross_entropy(self._run(tokens[:, :-1]), tokens[:, -1])
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        return float(loss.item())

    def logits(self, contexts: IntArray) -> NDArray[Any]:
        """Return logits (N, V) for contexts (N, n - 1)."""
        self.dropout.eval()
        with torch.inference_mode():
            return np.asarray(self._run(torch.from_numpy(np.array(contexts))).numpy())

    def _run(self, contexts: Any) -> Any:
        x = self.layers["0"](contexts).flatten(1)
        return self.layers["4"](self.dropout(torch.tanh(self.layers["2"](x))))
