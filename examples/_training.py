"""Training as most of the examples do it: one or two libraries by turns on the same batches, until the end or Ctrl-C."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol

from _command_line import InputError
from _progress import ProgressBar, StopRequest, clock

__all__ = ["WARM_UP", "Learner", "Training", "learning_rate", "train"]

WARM_UP = 50  # steps during which the learning rate rises, unless an example says otherwise
SMOOTHING = 0.02  # how far the loss that is shown moves towards that of the last step


class Learner(Protocol):
    """What is trained: a model of ours with its optimizer, or its twin in PyTorch."""

    @property
    def step(self) -> Callable[..., float]:
        """The function that learns from (*batch, learning rate) and returns the loss."""


class Training(NamedTuple):
    """How it went: the seconds that each learner's steps took, and whether Ctrl-C ended it."""

    seconds: dict[str, float]
    stopped: bool


def learning_rate(peak: float, step: int, fraction: float, warm_up: int = WARM_UP) -> float:
    """Rise to the peak in the first steps, then fall along half a cosine to 0 at the end of the run."""
    return peak * min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * fraction)) / 2


def train(
    learners: Mapping[str, Learner],
    batches: Iterable[tuple[Any, ...]],
    steps: int,
    peak: float,
    *,
    warm_up: int = WARM_UP,
    title: str = "",
    every: int = 0,
    report: Callable[[int], str] = str,
) -> Training:
    """Let all learners make the same steps; `every` so many of them say what `report` returns of their number.

    The loss that is shown is that of the first learner.
    """
    seconds, smooth, begin = dict.fromkeys(learners, 0.0), math.nan, time.perf_counter()
    with StopRequest() as stop, ProgressBar() as bar:
        for step, batch in enumerate(islice(batches, steps)):
            done, losses = step + 1, []
            for name, learner in learners.items():
                start = time.perf_counter()
                losses.append(learner.step(*batch, learning_rate(peak, step, step / steps, warm_up)))
                seconds[name] += time.perf_counter() - start
            if not math.isfinite(losses[0]):
                raise InputError(f"the loss became {losses[0]} at step {done}: try a lower --lr")
            smooth = losses[0] if step == 0 else smooth + SMOOTHING * (losses[0] - smooth)
            left = clock((time.perf_counter() - begin) / done * (steps - done))
            bar.show(done / steps, f"{title}step {done:,} of {steps:,}  loss {smooth:.4f}  {left} left")
            if every and done % every == 0:
                bar.say(report(done))
            if stop.made:
                bar.say("interrupted: going on with what was learned until now")
                break
    return Training(seconds, stop.made)
