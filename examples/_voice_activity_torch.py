"""The voice activity model in PyTorch: trained on the same batches, and fed frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
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


class TorchTrainer:
    """The twin of a model whose weights are given, and its optimizer."""

    def __init__(self, weights: Mapping[str, Any], clip: float, threads: int) -> None:
        torch.set_num_threads(threads)
        hidden, bands, kernel = weights["0.weight"].shape
        self.model, self.clip = TorchModel(bands, kernel, hidden), clip
        self.model.layers.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)

    def step(self, batch: Any, lr: float) -> float:
        """Learn from one batch; return its loss in bits per frame."""
        x, speaks = map(torch.from_numpy, batch)
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x), speaks)

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return float(loss.item()) / math.log(2)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return dict(self.model.layers.state_dict())


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
