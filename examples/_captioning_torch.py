"""The captioner in PyTorch, with the same initial weights, trained on the same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _captioning_data import Array
from _torch_learner import TorchLearner
from torch import nn

import fastrnn as fr

__all__ = ["TorchCaptioner"]


class Twin(nn.Module):  # type: ignore[misc, unused-ignore]
    """The twin of `captioning.Captioner`; its weights have the same names."""

    def __init__(self, sides: tuple[int, ...], width: int, hidden: int, words: int, features: int) -> None:
        super().__init__()
        encoder: list[Any] = []
        for inputs, outputs in zip((3, *sides), sides, strict=False):
            encoder += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
            encoder += [nn.ReLU(), nn.MaxPool2d(2)]
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(features, width))
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden)
        self.head = nn.Linear(hidden, words)

    def forward(self, pictures: Any, tokens: Any) -> Any:
        """Return the logits (T + 1, N, words)."""
        x = torch.cat([self.encoder(pictures)[None], self.embedding(tokens)])
        return self.head(self.lstm(x)[0])


class TorchCaptioner(TorchLearner):
    """A captioner's twin and its optimizer."""

    def __init__(self, model: Any, clip: float) -> None:
        convolutions = [layer.out_channels for layer in model.encoder if isinstance(layer, fr.Conv2d)]
        linear = model.encoder[len(model.encoder) - 1]
        words, width = model.embedding.weight.shape
        twin = Twin(tuple(convolutions), width, model.lstm.hidden_size, words, linear.in_features)
        super().__init__(twin, model.state_dict(), clip=clip)

    def step(self, pictures: Array, captions: Array, targets: Array, lr: float) -> float:
        """Learn from one batch; return its loss."""
        self.module.train()
        logits = self.module(torch.from_numpy(pictures), torch.from_numpy(captions[:-1]))
        wanted = torch.from_numpy(targets).flatten()
        return self.learn(nn.functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1), lr)

    def describe(self, pictures: Array, longest: int) -> Array:
        """Return the likeliest tokens (T, N), each word fed back."""
        self.module.eval()
        with torch.no_grad():
            x, state, tokens = self.module.encoder(torch.from_numpy(pictures)), None, []
            for _ in range(longest):
                h, state = self.module.lstm(x[None], state)
                tokens.append(self.module.head(h[0]).argmax(-1))
                x = self.module.embedding(tokens[-1])
        return np.stack([each.numpy() for each in tokens])
