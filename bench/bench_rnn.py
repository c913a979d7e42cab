"""Recurrent layers: inference, training and streaming against other libraries.

Inference is a call of the layer. Training is one step without the optimiser: clear the gradients, forward, backward
with the gradients of the input and of all weights. Streaming is one step of batch size 1 called from Python with the
state carried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import fastrnn as fr
from bench.case import OURS, Arrays, Contender
from bench.rnn_onnx import onnx_contenders
from bench.rnn_problem import Problem, make_problem
from bench.rnn_torch import torch_contenders
from bench.roofs import Roofs
from bench.shapes import GATES, RECURRENT, SMOKE_RECURRENT, RecurrentRow

__all__ = ["CONTENDERS", "RecurrentCase", "recurrent_cases"]

LAYERS: Mapping[str, Callable[..., Any]] = MappingProxyType({"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN})

MakeContenders = Callable[[Problem, str, int], Iterable[Contender]]
#: How each peer takes part: (problem, mode, threads) -> its contenders, none if it cannot.
CONTENDERS: dict[str, MakeContenders] = {
    "torch": torch_contenders,
    "onnxruntime": lambda *setting: onnx_contenders("onnxruntime", *setting),
    "openvino": lambda *setting: onnx_contenders("openvino", *setting),
}


class RecurrentCase:
    """One row of the table of shapes in one mode."""

    def __init__(self, problem: Problem, mode: str) -> None:
        self.problem = problem
        self.mode = mode

    @property
    def name(self) -> str:
        """Return the row's name and the mode."""
        return f"{self.problem.row.name} {self.mode}"

    @property
    def flops(self) -> float:
        """Return two operations for each weight and step; backward has twice the products of forward."""
        row = self.problem.row
        steps = 1 if self.mode == "stream" else self.problem.steps
        forward = 2.0 * GATES[row.cell] * row.H * (row.C + row.H) * steps * row.directions
        return 3 * forward if self.mode == "train" else forward

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""
        goals = self.problem.row.goals[self.mode]
        return goals[threads - 1] if threads <= len(goals) else None

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the least time the machine needs.

        The products with x, and those of dx and of the weight gradients, can be done for all steps at once, at the
        peak of multiply-adds. Those with h come one step after the other, and each step reads all recurrent weights:
        the slower of peak and reads counts. Backward walks the steps once more. A stream has all products in its step.
        """
        row, problem = self.problem.row, self.problem
        peak = roofs.flops * threads
        columns = row.H + (row.C if self.mode == "stream" else 0)
        weights = GATES[row.cell] * row.H * columns * row.directions
        read = 4 * weights / threads / roofs.read(4 * weights / threads)
        if self.mode == "stream":
            return max(2 * weights / peak, read)
        active = problem.valid.sum(axis=1)
        walk = float(np.maximum(2 * weights * active / peak, read * (active > 0)).sum())
        flops_h = 2.0 * weights * problem.steps
        flops_x = flops_h * row.C / row.H
        if self.mode == "infer":
            return flops_x / peak + walk
        return (3 * flops_x + flops_h) / peak + 2 * walk

    def truth(self) -> Arrays:
        """Return the right results."""
        return self.problem.truth

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
        yield OUR_MODES[self.mode](_our_layer(self.problem), self.problem)
        for library in libraries:
            yield from CONTENDERS[library](self.problem, self.mode, threads)


def recurrent_cases(*, smoke: bool = False, quick: bool = False) -> Iterator[RecurrentCase]:
    """Yield the cases of the suite; those of one row share weights and inputs."""
    for row in SMOKE_RECURRENT if smoke else RECURRENT:
        if row.quick or not quick:
            yield from _cases_of(row)


def _cases_of(row: RecurrentRow) -> Iterator[RecurrentCase]:
    problem = make_problem(row)
    for mode in row.goals:
        yield RecurrentCase(problem, mode)


def _our_layer(problem: Problem) -> Any:
    row = problem.row
    layer = LAYERS[row.cell](row.C, row.H, bidirectional=row.bidirectional)
    layer.load_state_dict(problem.weights)
    return layer


def _outputs(y: Any, state: Any) -> Arrays:
    parts = state if isinstance(state, tuple) else (state,)
    return {"y": y} | dict(zip(("h_n", "c_n"), parts, strict=False))


def _our_inference(layer: Any, problem: Problem) -> Contender:
    def call() -> Any:
        return layer(problem.x, lengths=problem.lengths)

    return Contender(OURS, call, lambda: _outputs(*call()))


def _our_training(layer: Any, problem: Problem) -> Contender:
    def call() -> Any:
        layer.zero_grad()
        outputs, backward = layer.forward(problem.x, lengths=problem.lengths)
        return outputs, backward(problem.dy)[0]

    def results() -> Arrays:
        outputs, dx = call()
        gradients = {name: np.array(parameter.grad) for name, parameter in layer.parameters().items()}
        return _outputs(*outputs) | {"dx": dx} | gradients

    return Contender(OURS, call, results)


def _our_stream(layer: Any, problem: Problem) -> Contender:
    stream = layer.stream(problem.row.N)
    step, first = stream.step, problem.x[0]

    def results() -> Arrays:
        stream.reset()
        return {"y": np.stack([np.array(step(x_t)) for x_t in problem.x])}

    return Contender(OURS, lambda: step(first), results)


OUR_MODES: Mapping[str, Callable[[Any, Problem], Contender]] = MappingProxyType(
    {"infer": _our_inference, "train": _our_training, "stream": _our_stream}
)
