"""Convolutions: inference and training against other libraries.

Inference is a call of the layer. Training is one step without the optimiser, as if after an optimiser's step: the weights count
as changed, the gradients are cleared, then forward, and backward with the gradients of the input, the weight and the bias.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import fastrnn as fr
from bench.case import OURS, Arrays, Contender
from bench.conv_onnx import onnx_contenders
from bench.conv_problem import ConvProblem, make_problem
from bench.conv_torch import torch_contenders
from bench.roofs import Roofs
from bench.shapes import CONV, SMOKE_CONV, ConvRow

__all__ = ["CONTENDERS", "ConvCase", "conv_cases"]

#: How each peer takes part: (problem, mode, threads) -> its contenders, none if it cannot.
CONTENDERS: dict[str, Callable[[ConvProblem, str, int], Iterable[Contender]]] = {
    "torch": torch_contenders,
    "onnxruntime": lambda *setting: onnx_contenders("onnxruntime", *setting),
    "openvino": lambda *setting: onnx_contenders("openvino", *setting),
}


class ConvCase:
    """One row of the table of shapes in one mode."""

    def __init__(self, problem: ConvProblem, mode: str) -> None:
        self.problem = problem
        self.mode = mode

    @property
    def name(self) -> str:
        """Return the row's name and the mode."""
        return f"{self.problem.row.name} {self.mode}"

    @property
    def flops(self) -> float:
        """Return two operations for each product of the direct algorithm; backward has twice as many as forward."""
        row = self.problem.row
        places = self.problem.x.size if row.transposed else self.problem.dy.size
        forward = float(2 * places * self.problem.weight[0].size)
        return 3 * forward if self.mode == "train" else forward

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""
        goals = self.problem.row.goals[self.mode]
        return goals[threads - 1] if threads <= len(goals) else None

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the least time of the direct algorithm: its products at the peak, or input and output once at copy speed.

        Training reads and writes each three times: x twice and dx, y and dy twice. An algorithm with fewer products may be
        faster than this.
        """
        size = self.problem.x.nbytes + self.problem.dy.nbytes
        products = self.flops / (roofs.flops * threads)
        if not self.problem.row.depthwise:
            return products
        passes = 3 if self.mode == "train" else 1
        return max(products, passes * size / (roofs.copy(size / 2) * threads))

    def truth(self) -> Arrays:
        """Return the right results."""
        return self.problem.truth

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
        make = _our_inference if self.mode == "infer" else _our_training
        yield make(_our_layer(self.problem), self.problem)
        for library in libraries:
            yield from CONTENDERS[library](self.problem, self.mode, threads)


def conv_cases(*, smoke: bool = False, quick: bool = False) -> Iterator[ConvCase]:
    """Yield the cases of the suite; those of one row share weights and inputs."""
    for row in SMOKE_CONV if smoke else CONV:
        if row.quick or not quick:
            yield from _cases_of(row)


def _cases_of(row: ConvRow) -> Iterator[ConvCase]:
    problem = make_problem(row)
    for mode in row.goals:
        yield ConvCase(problem, mode)


def _our_layer(problem: ConvProblem) -> Any:
    row = problem.row
    kind = "ConvTranspose" if row.transposed else "Conv"
    layer = getattr(fr, f"{kind}{row.S}d")(row.C, row.K, row.kernel, **problem.options)
    layer.load_state_dict({"weight": problem.weight, "bias": problem.bias})
    return layer


def _our_inference(layer: Any, problem: ConvProblem) -> Contender:
    return Contender(OURS, lambda: layer(problem.x), lambda: {"y": layer(problem.x)})


def _our_training(layer: Any, problem: ConvProblem) -> Contender:
    def call(layer: Any = layer) -> Any:
        with layer.parameters()["bias"].edit():
            pass  # a new version: the weights are packed again
        layer.zero_grad()
        y, backward = layer.forward(problem.x)
        return y, backward(problem.dy)

    def results() -> Arrays:
        seen = copy.deepcopy(layer)  # as gradients that were read are cleared at once, those of the timed layer are not
        y, dx = call(seen)
        return {"y": y, "dx": dx} | {name: np.array(parameter.grad) for name, parameter in seen.parameters().items()}

    return Contender(OURS, call, results)
