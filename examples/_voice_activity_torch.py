"""The voice activity model in PyTorch: trained on the same batches, and fed frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from _torch_learner import TorchLearner
from torch import nn

__all__ = ["TorchDetector", "TorchTrainer"]


class TorchModel(nn.Module):  # type: ignore[misc, unused-ignore]
    """Causal convolution, GRU, one logit; as a list the layers have the names that they have in ours."""

    def __init__(self, bands: int, kernel: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Conv1d(bands, hidden, kernel), nn.GRU(hidden, hidden, batch_first=True), nn.Linear(hidden, 1)]
        self.layers = nn.ModuleList(layers)
        self.past = kernel - 1

    def forward(self, x: Any) -> Any:
        """Return logits (N, T) for features (N, T, bands)."""
        conv, gru, linear = self.layers
        z = conv(nn.functional.pad(x.mT, (self.past, 0))).relu()
        return linear(gru(z.mT)[0])[..., 0]


class TorchTrainer(TorchLearner):
    """The twin of a model whose weights are given, and its optimizer."""

    def __init__(self, weights: Mapping[str, Any], clip: float) -> None:
        hidden, bands, kernel = weights["0.weight"].shape
        self.model = TorchModel(bands, kernel, hidden)
        super().__init__(self.model.layers, weights, clip=clip)

    def step(self, batch: Any, lr: float) -> float:
        """Learn from one batch; return its loss per frame."""
        x, speaks = map(torch.from_numpy, batch)
        return self.learn(nn.functional.binary_cross_entropy_with_logits(self.model(x), speaks), lr)


class TorchDetector:
    """The model on a live signal; `features` turns a frame into scaled features."""

    def __init__(self, trainer: TorchTrainer, features: Callable[[Any], Any]) -> None:
        self._features, self._layers = features, trainer.model.layers
        conv = self._layers[0]
        self._seen = torch.zeros(conv.in_channels, conv.kernel_size[0])
        self._state = torch.zeros(1, conv.out_channels)

    @torch.inference_mode()  # type: ignore[untyped-decorator, unused-ignore]
    def step(self, frame: Any) -> float:
        """Return the probability that somebody speaks in the next frame."""
        conv, gru, linear = self._layers
        self._seen = torch.cat([self._seen[:, 1:], torch.from_numpy(self._features(frame))[:, None]], 1)
        h, self._state = gru(conv(self._seen).relu().T, self._state)
        return float(linear(h[0]).sigmoid().item())
