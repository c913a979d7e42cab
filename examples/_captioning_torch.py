"""The captioner in PyTorch, with the same initial weights, trained on the same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _captioning_data import END, Array
from torch import nn

import fastrnn as fr

__all__ = ["TorchLearner"]


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


class TorchLearner:
    """A captioner's twin and its optimizer."""

    def __init__(self, model: Any, clip: float, threads: int) -> None:
        torch.set_num_threads(threads)
        convolutions = [layer.out_channels for layer in model.encoder if isinstance(layer, fr.Conv2d)]
        linear = model.encoder[len(model.encoder) - 1]
        words, width = model.embedding.weight.shape
        self.model = Twin(tuple(convolutions), width, model.lstm.hidden_size, words, linear.in_features)
        state = {name: torch.tensor(value) for name, value in model.state_dict().items()}
        self.model.load_state_dict(state, strict=False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.clip = clip

    def step(self, pictures: Array, captions: Array, targets: Array, lr: float) -> float:
        """Learn from one batch; return its loss."""
        self.model.train()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        logits = self.model(torch.from_numpy(pictures), torch.from_numpy(captions[:-1]))
        wanted = torch.from_numpy(targets).flatten()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return float(loss.item())

    def describe(self, pictures: Array, longest: int) -> Array:
        """Return the likeliest tokens (T, N), each word fed back."""
        self.model.eval()
        with torch.no_grad():
            x, state, tokens = self.model.encoder(torch.from_numpy(pictures)), None, []
            for _ in range(longest):
                h, state = self.model.lstm(x[None], state)
                tokens.append(self.model.head(h[0]).argmax(-1))
                x = self.model.embedding(tokens[-1])
        result = np.stack([each.numpy() for each in tokens])
        assert result.min() >= END
        return result
