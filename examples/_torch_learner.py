"""What the twins of the examples' models in PyTorch have in common: the same weights, and an optimizer that steps as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["TorchLearner", "load_weights"]


def load_weights(module: Any, weights: Mapping[str, Any]) -> None:
    """Give a module the weights of its twin of ours, which have the same names."""
    found = module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()}, strict=False)
    missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]  # ours do not count
    assert not (missing or found.unexpected_keys), (missing, found.unexpected_keys)


class TorchLearner:
    """A module and its optimizer; the module has the weights already unless they are given."""

    def __init__(
        self,
        module: Any,
        weights: Mapping[str, Any] | None = None,
        *,
        clip: float | None = None,
        optimizer: Any = torch.optim.Adam,
        **options: Any,
    ) -> None:
        if weights is not None:
            load_weights(module, weights)
        self.module, self.clip = module, clip
        self.optimizer = optimizer(module.parameters(), fused=True, **options)

    def learn(self, loss: Any, lr: float | None = None) -> float:
        """Make a step down the gradient of a loss; return the loss."""
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        if lr is not None:
            self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return float(loss.item())

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return dict(self.module.state_dict())
