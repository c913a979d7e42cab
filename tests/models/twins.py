"""Training of a model beside its PyTorch twin: the same start, the same batches, the same losses at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import fastrnn as fr

__all__ = ["STEPS", "TOLERANCE", "assert_same_losses", "copy_parameters", "our_losses", "torch_losses"]

STEPS = 20

# Relative to the loss. Rounding errors of float64 (1e-16) and float32 (6e-8) grow with each step, since Adam divides by
# gradients that may be near zero: over 20 steps by less than four orders of magnitude.
TOLERANCE = {np.float32: 1e-3, np.float64: 1e-8}

#: Takes a batch, adds to the gradients, returns the loss.
Step = Callable[[Any], float]


def copy_parameters(twin: Any, model: fr.Layer, names: Callable[[str], str] = lambda name: name) -> None:
    """Give `model` the parameters of its twin; `names` turns our names into the twin's."""
    theirs = {name: tensor.numpy(force=True) for name, tensor in twin.state_dict().items()}
    model.load_state_dict({name: theirs[names(name)] for name in model.state_dict()})


def our_losses(model: fr.Layer, step: Step, batches: Iterable[Any], lr: float = 3e-2, norm: float = 1.0) -> list[float]:
    """Return the losses of a training with clipped gradients and Adam."""
    optimizer, losses = fr.optim.Adam(model, lr), []
    for batch in batches:
        optimizer.zero_grad()
        losses.append(step(batch))
        fr.clip_grad_norm(model, norm)
        optimizer.step()
    return losses


def torch_losses(
    twin: Any, loss: Callable[[Any], Any], batches: Iterable[Any], lr: float = 3e-2, norm: float = 1.0
) -> Any:
    """Return the losses of the same training in PyTorch."""
    import torch

    optimizer, losses = torch.optim.Adam(twin.parameters(), lr), []
    for batch in batches:
        optimizer.zero_grad()
        value = loss(batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), norm)
        optimizer.step()
        losses.append(value.item())
    return losses


def assert_same_losses(ours: list[float], theirs: list[float], dtype: Any) -> None:
    """Assert that both trainings went the same way, and went somewhere."""
    assert len(ours) == len(theirs) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[dtype])
    assert ours[-1] < 0.9 * ours[0]
