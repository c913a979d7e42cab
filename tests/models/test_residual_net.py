"""A convolutional net of three residual blocks with batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models.twins import STEPS, assert_same_losses, our_losses, torch_losses

import fastrnn as fr

N, C, SIZE, K = 6, 4, 8, 3


def residual_net(dtype: Any) -> fr.Layer:
    rng = np.random.default_rng(0)

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> fr.Layer:
        options: Any = {"padding": kernel // 2, "bias": False, "dtype": dtype, "rng": rng}
        return fr.Conv2d(inputs, outputs, kernel, stride, **options)

    def norm(channels: int) -> fr.Layer:
        return fr.BatchNorm2d(channels, dtype=dtype)

    def block(inputs: int, outputs: int, stride: int = 1) -> fr.Layer:
        body = (conv(inputs, outputs, 3, stride), norm(outputs), fr.ReLU(), conv(outputs, outputs, 3), norm(outputs))
        around = fr.Sequential(conv(inputs, outputs, 1, stride), norm(outputs)) if inputs != outputs else None
        return fr.Residual(*body, shortcut=around, activation="relu")

    stem = (conv(1, C, 3), norm(C), fr.ReLU())
    blocks = (block(C, C), block(C, 2 * C, 2), block(2 * C, 2 * C))
    return fr.Sequential(*stem, *blocks, fr.GlobalAvgPool(), fr.Linear(2 * C, K, dtype=dtype, rng=rng))


def torch_twin(dtype: Any) -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
            super().__init__()
            first = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            second = [nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)]
            around = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
            self.body = nn.Sequential(*first, *second)
            self.shortcut = nn.Sequential(*around) if inputs != outputs else nn.Identity()

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    stem = [nn.Conv2d(1, C, 3, 1, 1, bias=False), nn.BatchNorm2d(C), nn.ReLU()]
    blocks = [Block(C, C), Block(C, 2 * C, 2), Block(2 * C, 2 * C)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * C, K)]
    return nn.Sequential(*stem, *blocks, *head).to(getattr(torch, np.dtype(dtype).name))


def our_name(name: str) -> str:
    """Return the twin's name of a parameter or buffer: its head has a layer more."""
    return name.replace("7.", "8.", 1) if name.startswith("7.") else name


def batches(dtype: Any) -> list[Any]:
    """Return (images, classes), two batches in turn: bars that lie, bars that stand, and neither."""
    rng, made = np.random.default_rng(0), []
    for _ in range(2):
        x, classes = 0.5 * rng.standard_normal((N, 1, SIZE, SIZE)), rng.integers(0, K, N)
        for n, (kind, at) in enumerate(zip(classes, rng.integers(0, SIZE, N), strict=True)):
            if kind:
                np.moveaxis(x[n, 0], kind - 1, 0)[at] += 2
        made.append((x.astype(dtype), classes))
    return made * (STEPS // 2)


def test_it_trains_like_its_twin(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    twin, model = torch_twin(dtype), residual_net(dtype)
    ours = {our_name(name): torch.from_numpy(array) for name, array in model.state_dict().items()}
    twin.load_state_dict(ours)

    def step(batch: Any) -> float:
        y, backward = model.forward(batch[0])
        loss, dy = fr.cross_entropy(y, batch[1])
        backward(dy)
        return float(loss)

    def loss(batch: Any) -> Any:
        x, classes = map(torch.from_numpy, batch)
        return torch.nn.functional.cross_entropy(twin(x), classes)

    data = batches(dtype)
    assert_same_losses(our_losses(model, step, data), torch_losses(twin, loss, data), dtype)
    # Predictions go by the running statistics, which both have gathered on the way.
    twin.eval()
    theirs = twin(torch.from_numpy(data[0][0])).numpy(force=True)
    np.testing.assert_allclose(model(data[0][0]), theirs, rtol=1e-8 if dtype is np.float64 else 1e-2, atol=1e-2)


def test_gradients() -> None:
    x = np.random.default_rng(1).standard_normal((2, 1, 5, 4))
    assert fr.gradcheck(residual_net(np.float64), x).ok
