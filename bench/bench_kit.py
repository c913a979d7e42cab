"""What a network has beside its products: normalisation, softmax, loss, optimiser step, embedding.

Inference is a call of the layer. Training is forward and backward, with the gradients of the input and of the parameters; of a loss
its value and gradient, of an optimiser one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import fastrnn as fr
from bench.case import OURS, Arrays, Contender
from bench.kit_problem import EPS, LEARNING_RATE, LOSSES, MOVED, KitProblem, make_kit_problem
from bench.kit_torch import torch_contenders
from bench.roofs import Roofs
from bench.shapes import KIT, SMOKE_KIT, KitRow

__all__ = ["CONTENDERS", "KitCase", "kit_cases"]

MakeContenders = Callable[[KitProblem, str, int], Iterable[Contender]]
#: How each peer takes part: (problem, mode, threads) -> its contenders, none if it cannot.
CONTENDERS: Mapping[str, MakeContenders] = MappingProxyType({"torch": torch_contenders})

#: Floating-point operations for each element, about as many as the equations have, in training and in inference.
FLOPS_TRAINING, FLOPS_INFERENCE = 16, 7


class KitCase:
    """One row of the table of shapes in one mode."""

    def __init__(self, problem: KitProblem, mode: str) -> None:
        self.problem = problem
        self.mode = mode

    @property
    def name(self) -> str:
        """Return the row's name and the mode."""
        return f"{self.problem.row.name} {self.mode}"

    @property
    def flops(self) -> float:
        """Return about how many operations the elements of the input take; an embedding has one addition for each."""
        if self.problem.row.kind == "embedding":
            return float(self.problem.arrays["dy"].size)
        return float(self._largest.size * (FLOPS_TRAINING if self.mode == "train" else FLOPS_INFERENCE))

    @property
    def _largest(self) -> Any:
        """Return the array that is moved."""
        arrays = self.problem.arrays
        return next(arrays[name] for name in ("x", "logits", "param", "dy") if name in arrays)

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""
        goals = self.problem.row.goals[self.mode]
        return goals[threads - 1] if threads <= len(goals) else None

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the time in which the machine copies as many bytes as have to be read and written.

        The gradient of an embedding starts as zeros: the whole table is written once.
        """
        row, array = self.problem.row, self._largest
        moved = MOVED[row.kind, self.mode] * array.nbytes
        if row.kind == "embedding" and self.mode == "train":
            moved += self.problem.arrays["weight"].nbytes
        seconds: float = moved / (roofs.copy(array.nbytes / threads) * threads)
        return seconds

    def truth(self) -> Arrays:
        """Return the right results."""
        return self.problem.truth[self.mode]

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
        yield _ours(self.problem, self.mode)
        for library in libraries:
            if library in CONTENDERS:
                yield from CONTENDERS[library](self.problem, self.mode, threads)


def _can_run(row: KitRow) -> bool:
    return row.kind != "softmax" or hasattr(fr, "Softmax")


def kit_cases(*, smoke: bool = False, quick: bool = False) -> Iterator[KitCase]:
    """Yield the cases of the suite; those of one row share inputs."""
    for row in filter(_can_run, SMOKE_KIT if smoke else KIT):
        if row.quick or not quick:
            problem = make_kit_problem(row)
            for mode in row.goals:
                yield KitCase(problem, mode)


def _layer(problem: KitProblem) -> Any:
    """Return our layer with the problem's parameters and statistics."""
    kind, sizes, given = problem.row.kind, problem.row.sizes, problem.arrays
    layers: dict[str, Callable[[], Any]] = {
        "LayerNorm": lambda: fr.LayerNorm(sizes[1], EPS),
        "BatchNorm": lambda: fr.BatchNorm2d(sizes[1], EPS),
        "softmax": lambda: fr.Softmax(-1),  # type: ignore[attr-defined, unused-ignore]
        "embedding": lambda: fr.Embedding(sizes[1], sizes[2], weight_init="zeros"),
    }
    layer = layers[kind]()
    state = {"running_mean" if key == "mean" else "running_var" if key == "var" else key: given[key] for key in given}
    layer.load_state_dict({key: value for key, value in state.items() if key in layer.state_dict()}, strict=False)
    return layer


def _ours(problem: KitProblem, mode: str) -> Contender:
    if problem.row.kind == "cross entropy":
        return _our_loss(fr.cross_entropy, (problem.arrays["logits"], problem.arrays["targets"]), "dlogits")
    if problem.row.kind in LOSSES:
        function = getattr(fr, LOSSES[problem.row.kind])
        return _our_loss(function, (problem.arrays["x"], problem.arrays["target"]), "dx")
    if problem.row.kind == "Adam step":
        return _our_step(problem)
    layer, x = _layer(problem), problem.arrays["tokens" if problem.row.kind == "embedding" else "x"]
    if mode == "infer":
        return Contender(OURS, lambda: layer(x), lambda: {"y": layer(x)})
    dy = problem.arrays["dy"]

    def call() -> Any:
        layer.zero_grad()
        y, backward = layer.forward(x)
        return y, backward(dy)

    def results() -> Arrays:
        y, dx = call()
        grads = {name: parameter.grad for name, parameter in layer.parameters().items()}
        return {"y": y, **({} if dx is None else {"dx": dx}), **grads}

    return Contender(OURS, call, results)


def _our_loss(function: Callable[..., Any], given: tuple[Any, Any], name: str) -> Contender:
    def results() -> Arrays:
        loss, gradient = function(*given)
        return {"y": np.array(loss), name: gradient}

    return Contender(OURS, lambda: function(*given), results)


def _our_step(problem: KitProblem) -> Contender:
    def optimizer() -> tuple[fr.Parameter, fr.Adam]:
        parameter = fr.Parameter(problem.arrays["param"])
        parameter.grad = problem.arrays["grad"]
        return parameter, fr.Adam([parameter], LEARNING_RATE)

    def results() -> Arrays:
        parameter, one = optimizer()
        one.step()
        return {"y": parameter.data.copy()}

    return Contender(OURS, optimizer()[1].step, results)
