"""The character language model in PyTorch, trained beside ours: same weights, batches, optimizer and learning rates."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from _char_lm_data import Batches, IntArray
from _char_lm_run import Point
from torch import nn

import fastrnn as fr

__all__ = [
    "BLOCK",
    "EXACT",
    "EXACT_TOLERANCE",
    "LATER_TOLERANCE",
    "Learner",
    "Race",
    "TorchTrainer",
    "differences",
    "race",
]

CELLS: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
BLOCK = 25  # steps that one library makes before it is the other's turn
PAUSE = 0.15  # seconds between the libraries: threads of the one go on spinning and would slow the other down
EXACT = 50  # steps after which rounding errors, which training amplifies, may begin to show
EXACT_TOLERANCE, LATER_TOLERANCE = 1e-3, 0.05  # bits per character up to there, and of the means over blocks


class Learner(Protocol):
    """What is trained."""

    def step(self, tokens: IntArray, targets: IntArray, lr: float) -> float:
        """Learn from one batch; return its loss in bits per character."""


class TorchTrainer:
    """The PyTorch twin of a model with an embedding, a recurrent and a linear layer, and of its trainer."""

    def __init__(self, model: fr.Sequential, clip: float) -> None:
        embedding, recurrent, linear = model
        assert isinstance(embedding, fr.Embedding)
        assert isinstance(recurrent, (fr.LSTM, fr.GRU, fr.RNN))
        assert isinstance(linear, fr.Linear)
        C, H, K = recurrent.input_size, recurrent.hidden_size, linear.out_features
        cell = CELLS[type(recurrent).__name__]
        # As a list the layers have the names that they have in ours: 0.weight, 1.weight_ih_l0, ..., 2.bias.
        self.layers = nn.ModuleList(
            [nn.Embedding(embedding.num_embeddings, C), cell(C, H, recurrent.num_layers), nn.Linear(H, K)]
        )
        self.layers.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
        self.optimizer = torch.optim.Adam(self.layers.parameters(), fused=True)
        self.clip = clip
        self.state: Any = None

    def step(self, tokens: IntArray, targets: IntArray, lr: float) -> float:
        """Learn from one batch (T, N); return its loss in bits per character."""
        embedding, recurrent, linear = self.layers
        h, state = recurrent(embedding(torch.from_numpy(tokens)), self.state)
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        logits = linear(h)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        nn.utils.clip_grad_norm_(self.layers.parameters(), self.clip)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return float(loss.item()) / math.log(2)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return dict(self.layers.state_dict())


class Race(NamedTuple):
    """What came out of a race: by learner, the bits per character of each step, its curve, and its speeds by block."""

    bits: dict[str, list[float]]
    curves: dict[str, list[Point]]
    speeds: dict[str, list[float]]

    def speed(self, name: str) -> float:
        """Return the median speed in characters per second; the first block, which warms up, counts only if alone."""
        return statistics.median(self.speeds[name][1:] or self.speeds[name])


def race(
    learners: Mapping[str, Learner], batches: Batches, rates: Sequence[float], show: Callable[[float, str], None]
) -> Race:
    """Let all learners make the same steps, one for each learning rate, by turns of BLOCK steps."""
    result = Race({name: [] for name in learners}, {name: [] for name in learners}, {name: [] for name in learners})
    seconds = dict.fromkeys(learners, 0.0)
    turns = list(learners)
    for first in range(0, len(rates), BLOCK):
        block = [(*batches[step], rates[step]) for step in range(first, min(first + BLOCK, len(rates)))]
        for name in turns:
            time.sleep(PAUSE)
            start = time.perf_counter()
            result.bits[name] += [learners[name].step(*arguments) for arguments in block]
            spent = time.perf_counter() - start
            seconds[name] += spent
            result.speeds[name].append(len(block) * batches.characters / spent)
            mean = statistics.fmean(result.bits[name][first:])
            result.curves[name].append((seconds[name], (first + len(block)) * batches.characters, mean))
            show(len(result.bits[name]) / len(rates), f"{name} {mean:.3f} bits")
        turns.reverse()
    return result


def differences(result: Race) -> tuple[float, float]:
    """Return the largest difference of two learners in the first EXACT steps, and that of their means over blocks."""
    steps = zip(*(bits[:EXACT] for bits in result.bits.values()), strict=True)
    means = zip(*([point[2] for point in curve] for curve in result.curves.values()), strict=True)
    return max(abs(a - b) for a, b in steps), max(abs(a - b) for a, b in means)
