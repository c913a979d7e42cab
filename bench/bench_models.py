"""Whole models: one training step and one inference against PyTorch.

A training step is what a loop does for each batch: clear the gradients, forward, loss, backward, clip the norm of the
gradients, Adam. The gate compares the loss and all gradients before clipping with our own model in float64, which the
tests hold against the reference and against PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

import fastrnn as fr
from bench.case import OURS, Arrays, Contender
from bench.gate import GRADIENT_TOLERANCE
from bench.models import Batch, build, make_batch, our_loss
from bench.models_torch import torch_contenders
from bench.roofs import Roofs
from bench.shapes import MODELS, SMOKE_MODELS, ModelRow

__all__ = ["CONTENDERS", "ModelCase", "ModelProblem", "model_cases", "our_step"]

#: Small steps: a benchmark repeats one batch, and what it has learnt by heart has gradients like no other.
LR = 1e-5
NORM = 5.0
#: Probability of dropping a feature, where a model drops any.
DROPOUT = 0.5


#: Some of the millions of inputs of ReLUs are within a rounding error of zero, where float32 may pass another gradient than
#: float64. In the last stages of a residual net a few of them are 2% of a weight's gradient; what is wrong is off by 1.
KINKS = ("ResNet-20", "text CNN")
KINKED = 0.1


@dataclass(frozen=True)
class ModelProblem:
    """What every library gets: a batch, and parameters to start from."""

    row: ModelRow
    batch: Batch
    lr: float = LR
    norm: float = NORM

    def model(self, dropout: float = 0.0, dtype: Any = np.float32) -> fr.Layer:
        """Return our model with the parameters that all start from."""
        return build(self.row, dropout, dtype)

    @cached_property
    def names(self) -> list[str]:
        """Return the names of the parameters."""
        return list(self.model().parameters())

    @cached_property
    def truth(self) -> Mapping[str, Arrays]:
        """Return for each mode the right results, by our model in float64 with parameters rounded to float32."""
        model = self.model(dtype=np.float64)
        model.load_state_dict(self.model().state_dict())
        x = self.batch.x.astype(np.float64) if self.batch.x.dtype.kind == "f" else self.batch.x
        batch = Batch(x, self.batch.targets, self.batch.lengths, self.batch.target_lengths)
        return {"infer": {"y": _predict(model, batch)}, "train": _gradients(model, batch)}

    @cached_property
    def products(self) -> int:
        """Return the multiply-adds of one inference; padded steps do not count."""
        batch = self.batch
        whole = self.model().summary(batch.x, **_options(batch)).multiply_adds
        return whole if batch.lengths is None else int(whole * batch.lengths.sum() / (self.row.T * self.row.N))


MakeContenders = Callable[[ModelProblem, str, int], Iterable[Contender]]
#: How each peer takes part: (problem, mode, threads) -> its contenders, none if it cannot.
CONTENDERS: Mapping[str, MakeContenders] = MappingProxyType({"torch": torch_contenders})


class ModelCase:
    """One row of the table of models in one mode."""

    def __init__(self, problem: ModelProblem, mode: str) -> None:
        self.problem = problem
        self.mode = mode

    @property
    def name(self) -> str:
        """Return the row's name and the mode."""
        return f"{self.problem.row.name} {self.mode}"

    @property
    def gradient_tolerance(self) -> float:
        """Return the largest relative error of a gradient."""
        return KINKED if self.problem.row.kind in KINKS else GRADIENT_TOLERANCE

    @property
    def flops(self) -> float:
        """Return two operations for each multiply-add; backward has twice the products of forward."""
        forward = 2.0 * self.problem.products
        return 3 * forward if self.mode == "train" else forward

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""
        goals = self.problem.row.goals[self.mode]
        return goals[threads - 1] if threads <= len(goals) else None

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the time of the products alone, at the peak of multiply-adds."""
        return self.flops / (roofs.flops * threads)

    def truth(self) -> Arrays:
        """Return the right results."""
        return self.problem.truth[self.mode]

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
        yield _our_inference(self.problem) if self.mode == "infer" else _our_training(self.problem)
        for library in libraries:
            if library in CONTENDERS:
                yield from CONTENDERS[library](self.problem, self.mode, threads)


def model_cases(*, smoke: bool = False, quick: bool = False) -> Iterator[ModelCase]:
    """Yield the cases of the suite; those of one row share inputs."""
    for row in SMOKE_MODELS if smoke else MODELS:
        if row.quick or not quick:
            problem = ModelProblem(row, make_batch(row))
            for mode in row.goals:
                yield ModelCase(problem, mode)


def _options(batch: Batch) -> dict[str, Any]:
    return {} if batch.lengths is None else {"lengths": batch.lengths}


def _predict(model: fr.Layer, batch: Batch) -> Any:
    return model(batch.x, **_options(batch))


def _gradients(model: fr.Layer, batch: Batch) -> Arrays:
    """Return the loss, and the gradients of all parameters by name."""
    model.zero_grad()
    y, backward = model.forward(batch.x, **_options(batch))
    loss, dy = our_loss(batch, y)
    backward(dy)
    grads = {name: parameter.grad.copy() for name, parameter in model.parameters().items()}
    return {"y": np.array([loss]), **grads}


def _our_inference(problem: ModelProblem) -> Contender:
    model, batch = problem.model(), problem.batch
    return Contender(OURS, lambda: _predict(model, batch), lambda: {"y": _predict(model, batch)})


def our_step(problem: ModelProblem, model: fr.Layer) -> tuple[tuple[str, Callable[[], None]], ...]:
    """Return the parts of a training step with their names, to be called in this order."""
    fr.arena(model)  # one pass over all parameters, as that of torch.optim.Adam(fused=True)
    optimizer, batch = fr.optim.Adam(model, problem.lr), problem.batch
    kept: dict[str, Any] = {}

    def forward() -> None:
        kept["y"], kept["backward"] = model.forward(batch.x, **_options(batch), input_gradient=False)

    def loss() -> None:
        kept["dy"] = our_loss(batch, kept.pop("y"))[1]

    def backward() -> None:
        kept.pop("backward")(kept.pop("dy"))

    def clip() -> None:
        fr.clip_grad_norm(model, problem.norm)

    parts = {"zero_grad": optimizer.zero_grad, "forward": forward, "loss": loss, "backward": backward}
    return (*parts.items(), ("clip", clip), ("Adam", optimizer.step))


def _our_training(problem: ModelProblem) -> Contender:
    parts = our_step(problem, problem.model(DROPOUT))

    def call() -> None:
        for _, part in parts:
            part()

    return Contender(OURS, call, lambda: _gradients(problem.model(), problem.batch))
