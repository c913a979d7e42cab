"""The pooling problem in PyTorch, in both of its memory formats."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.case import Arrays, Contender

if TYPE_CHECKING:
    from bench.bench_pool import PoolProblem

__all__ = ["torch_contenders"]

Pool = Callable[[Any], Any]


def torch_contenders(problem: PoolProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield PyTorch's ways: maps in both memory formats, and for time each operation that gives the maximum."""
    del threads  # set for the process
    torch: Any = importlib.import_module("torch")
    make = _infer if mode == "infer" else _train
    x, dy = torch.from_numpy(problem.x), torch.from_numpy(problem.dy)
    for variant, pool in _ways(torch, problem).items():
        last = variant == "channels_last"
        form = torch.channels_last if last else torch.contiguous_format
        yield make(torch, pool, x.contiguous(memory_format=form), dy.contiguous(memory_format=form), variant)


def _ways(torch: Any, problem: PoolProblem) -> dict[str, Pool]:
    row, functional = problem.row, torch.nn.functional
    if row.kind == "time":
        return {
            "amax": lambda x: x.amax(-1),
            "max": lambda x: x.max(-1).values,
            "adaptive": lambda x: functional.adaptive_max_pool1d(x, 1)[..., 0],
            "max_pool1d": lambda x: functional.max_pool1d(x, row.sizes[0])[..., 0],
        }
    operation = functional.max_pool2d if row.kind == "max" else functional.avg_pool2d

    def pool(x: Any) -> Any:
        return operation(x, row.kernel, row.stride, row.padding)

    return {"": pool, "channels_last": pool}


def _infer(torch: Any, pool: Pool, x: Any, dy: Any, variant: str) -> Contender:
    del dy

    def call() -> Any:
        with torch.inference_mode():
            return pool(x)

    return Contender("torch", call, lambda: {"y": call().numpy()}, variant)


def _train(torch: Any, pool: Pool, x: Any, dy: Any, variant: str) -> Contender:
    del torch
    x = x.detach().clone().requires_grad_()  # keeps the memory format

    def call() -> Any:
        x.grad = None
        y = pool(x)
        y.backward(dy)
        return y

    def results() -> Arrays:
        return {"y": call().numpy(force=True), "dx": x.grad.numpy()}

    return Contender("torch", call, results, variant)
