"""The nets of the image classification in PyTorch, with the same initial weights, trained on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _image_classification_data import Array
from _torch_learner import TorchLearner
from torch import nn

import fastrnn as fr

__all__ = ["TorchClassifier", "twin"]


class Shortcut(nn.Module):  # type: ignore[misc, unused-ignore]
    """The twin of `fastrnn.Residual` with a ReLU after the sum."""

    def __init__(self, layer: fr.Residual) -> None:
        super().__init__()
        self.body = twin(layer.body)
        self.shortcut = nn.Identity() if layer.shortcut is None else twin(layer.shortcut)

    def forward(self, x: Any) -> Any:
        """Run the block."""
        return torch.relu(self.body(x) + self.shortcut(x))


def twin(layer: fr.Layer) -> Any:
    """Return a layer's twin, whose weights have the same names."""
    return TWINS[type(layer)](layer)


def convolution(layer: fr.Conv2d) -> Any:
    """Return the twin of a convolution."""
    options = layer.config()
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "bias")
    return nn.Conv2d(**{name: options[name] for name in names})


TWINS: dict[type[fr.Layer], Callable[[Any], Any]] = {
    fr.Sequential: lambda layers: nn.Sequential(*map(twin, layers)),
    fr.Residual: Shortcut,
    fr.Conv2d: convolution,
    fr.BatchNorm2d: lambda layer: nn.BatchNorm2d(layer.num_features),
    fr.Linear: lambda layer: nn.Linear(layer.in_features, layer.out_features),
    fr.MaxPool2d: lambda layer: nn.MaxPool2d(layer.kernel_size),
    fr.GlobalAvgPool: lambda _: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    fr.Flatten: lambda _: nn.Flatten(),
    fr.ReLU: lambda _: nn.ReLU(),
}


class TorchClassifier(TorchLearner):
    """A net's twin and its optimizer."""

    def __init__(self, model: fr.Sequential, weight_decay: float) -> None:
        super().__init__(twin(model), model.state_dict(), optimizer=torch.optim.AdamW, weight_decay=weight_decay)

    def step(self, x: Array, y: Array, lr: float) -> float:
        """Learn from one batch; return its loss."""
        self.module.train()
        return self.learn(nn.functional.cross_entropy(self.module(torch.from_numpy(x)), torch.from_numpy(y)), lr)

    def predict(self, x: Array) -> Array:
        """Return the likeliest class of each picture."""
        self.module.eval()
        with torch.no_grad():
            return np.asarray(self.module(torch.from_numpy(x)).argmax(1).numpy())
