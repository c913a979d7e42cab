"""The recurrent problem in PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.case import Arrays, Contender
from bench.rnn_problem import Problem

__all__ = ["torch_contenders"]

Forward = Callable[[Any], tuple[Any, Any]]


def torch_contenders(problem: Problem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield PyTorch's ways: with lengths, the packed one and the one that computes the padding too."""
    del threads  # set for the process
    torch: Any = importlib.import_module("torch")
    row = problem.row
    module = getattr(torch.nn, row.cell.upper())(row.C, row.H, bidirectional=row.bidirectional)
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in problem.weights.items()})
    if mode == "stream":
        yield _stream(torch, module.eval(), problem)
        return
    make = _infer if mode == "infer" else _train
    if problem.lengths is None:
        yield make(torch, module, problem, module, "")
    else:
        yield make(torch, module, problem, _packed(torch, module, problem), "packed")
        # Right only where the padding comes last, in one direction; its final states are not those at the lengths.
        yield make(torch, module, problem, module, "padded")


def _packed(torch: Any, module: Any, problem: Problem) -> Forward:
    lengths = torch.from_numpy(problem.lengths)
    rnn: Any = torch.nn.utils.rnn

    def forward(x: Any) -> tuple[Any, Any]:
        packed, state = module(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
        return rnn.pad_packed_sequence(packed, total_length=problem.row.T)[0], state

    return forward


def _outputs(problem: Problem, variant: str, y: Any, state: Any) -> Arrays:
    if variant == "padded":
        return {"y": np.where(problem.valid[..., None], y.numpy(force=True), 0)}
    parts = state if isinstance(state, tuple) else (state,)
    return {"y": y.numpy(force=True)} | {
        name: part.numpy(force=True) for name, part in zip(("h_n", "c_n"), parts, strict=False)
    }


def _infer(torch: Any, module: Any, problem: Problem, forward: Forward, variant: str) -> Contender:
    module.eval()
    x = torch.from_numpy(problem.x)

    def call() -> Any:
        with torch.inference_mode():
            return forward(x)

    return Contender("torch", call, lambda: _outputs(problem, variant, *call()), variant)


def _train(torch: Any, module: Any, problem: Problem, forward: Forward, variant: str) -> Contender:
    module.train()
    x = torch.from_numpy(problem.x).requires_grad_()
    dy = torch.from_numpy(problem.dy)

    def call() -> Any:
        x.grad = None
        module.zero_grad()  # sets the gradients to None
        y, state = forward(x)
        y.backward(dy)
        return y, state

    def results() -> Arrays:
        outputs = _outputs(problem, variant, *call())
        gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
        return outputs | {"dx": x.grad.numpy()} | gradients

    return Contender("torch", call, results, variant)


def _stream(torch: Any, module: Any, problem: Problem) -> Contender:
    steps = [torch.from_numpy(x_t[None]) for x_t in problem.x]
    state: Any = None

    def step(x_t: Any) -> Any:
        nonlocal state
        with torch.inference_mode():
            y, state = module(x_t, state)
        return y

    def results() -> Arrays:
        nonlocal state
        state = None
        return {"y": np.concatenate([step(x_t).numpy() for x_t in steps])}

    return Contender("torch", lambda: step(steps[0]), results)
