"""The translator in PyTorch, with parameters of the same names, trained on the same batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from _dates_data import END, Batch
from _torch_learner import TorchLearner
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["TorchTrainer"]

IGNORED = -100  # the class that PyTorch's cross entropy leaves out


class AdditiveAttention(nn.Module):  # type: ignore[misc, unused-ignore]
    """Weighted mean over a memory (T, N, M) by a query (N, Q)."""

    def __init__(self, Q: int, M: int, A: int) -> None:
        super().__init__()
        self.weight_query = nn.Parameter(torch.empty(A, Q))
        self.weight_memory = nn.Parameter(torch.empty(A, M))
        self.weight_score = nn.Parameter(torch.empty(A))

    def forward(self, query: Any, memory: Any, keys: Any, past: Any) -> Any:
        """Return the context; `keys` are those of the memory, `past` (T, N) marks what lies after its end."""
        scores = torch.tanh(query @ self.weight_query.T + keys) @ self.weight_score
        weights = scores.masked_fill(past, -torch.inf).softmax(0)
        return (weights[..., None] * memory).sum(0)


class TorchTranslator(nn.Module):  # type: ignore[misc, unused-ignore]
    """Encoder, attention and decoder."""

    def __init__(self, sources: int, targets: int, E: int, H: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(sources, E), nn.Embedding(targets, E)
        self.encoder, self.decoder = nn.GRU(E, H, bidirectional=True), nn.GRU(E + 2 * H, H)
        self.bridge, self.head = nn.Linear(H, H), nn.Linear(3 * H, targets)
        self.attention = AdditiveAttention(H, 2 * H, H)

    def forward(self, source: Any, lengths: Any, previous: Any) -> Any:
        """Return the logits (L, N, targets) of what follows each token of `previous` (L, N)."""
        packed = pack_padded_sequence(self.source(source), lengths, enforce_sorted=False)
        packed, ends = self.encoder(packed)
        encoded, _ = pad_packed_sequence(packed, total_length=len(source))
        h = torch.tanh(self.bridge(ends[1]))
        keys = encoded @ self.attention.weight_memory.T
        past = torch.arange(len(source))[:, None] >= lengths
        outputs = []
        for y in self.target(previous):
            context = self.attention(h, encoded, keys, past)
            _, state = self.decoder(torch.cat([y, context], -1)[None], h[None])
            h = state[0]
            outputs.append(torch.cat([h, context], -1))
        return self.head(torch.stack(outputs))


class TorchTrainer(TorchLearner):
    """The twin of a model whose weights are given, and its optimizer."""

    def __init__(self, weights: Mapping[str, Any], E: int, H: int, clip: float) -> None:
        twin = TorchTranslator(len(weights["source.weight"]), len(weights["target.weight"]), E, H)
        super().__init__(twin, weights, clip=clip)

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its loss per character."""
        source, lengths, target, target_lengths = map(torch.from_numpy, batch)
        logits = self.module(source, lengths, torch.cat([torch.full_like(target[:1], END), target[:-1]]))
        wanted = target.masked_fill(torch.arange(len(target))[:, None] >= target_lengths, IGNORED)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
        return self.learn(loss, lr)
