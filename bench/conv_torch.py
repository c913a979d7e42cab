"""The convolution in PyTorch, with the channels first, and for images with the channels last."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from bench.case import Arrays, Contender
from bench.conv_problem import ConvProblem

__all__ = ["torch_contenders"]


def torch_contenders(problem: ConvProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield PyTorch's ways."""
    del threads  # set for the process
    torch: Any = importlib.import_module("torch")
    make = _infer if mode == "infer" else _train
    yield make(torch, problem, torch.contiguous_format, "")
    if problem.row.S == 2:
        yield make(torch, problem, torch.channels_last, "channels_last")


def _layer(torch: Any, problem: ConvProblem, memory_format: Any) -> Any:
    row = problem.row
    kind = "ConvTranspose" if row.transposed else "Conv"
    layer = getattr(torch.nn, f"{kind}{row.S}d")(row.C, row.K, row.kernel, **problem.options)
    layer.load_state_dict({"weight": torch.from_numpy(problem.weight), "bias": torch.from_numpy(problem.bias)})
    return layer.to(memory_format=memory_format)


def _infer(torch: Any, problem: ConvProblem, memory_format: Any, variant: str) -> Contender:
    layer = _layer(torch, problem, memory_format).eval()
    x = torch.from_numpy(problem.x).contiguous(memory_format=memory_format)

    def call() -> Any:
        with torch.inference_mode():
            return layer(x)

    return Contender("torch", call, lambda: {"y": call().numpy(force=True)}, variant)


def _train(torch: Any, problem: ConvProblem, memory_format: Any, variant: str) -> Contender:
    layer = _layer(torch, problem, memory_format).train()
    x = torch.from_numpy(problem.x).contiguous(memory_format=memory_format).requires_grad_()
    dy = torch.from_numpy(problem.dy).contiguous(memory_format=memory_format)

    def call() -> Any:
        x.grad = None
        layer.zero_grad()  # sets the gradients to None
        y = layer(x)
        y.backward(dy)
        return y

    def results() -> Arrays:
        y = call()
        gradients = {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()}
        return {"y": y.numpy(force=True), "dx": x.grad.numpy(), **gradients}

    return Contender("torch", call, results, variant)
