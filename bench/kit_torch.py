"""The problems of the kit suite in PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from bench.case import Arrays, Contender
from bench.kit_problem import EPS, LEARNING_RATE, LOSSES, KitProblem

__all__ = ["torch_contenders"]


def torch_contenders(problem: KitProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield PyTorch's ways: one for layers and losses, and each implementation of the optimiser."""
    del threads  # set for the process
    torch: Any = importlib.import_module("torch")
    tensors = {name: torch.from_numpy(array.copy()) for name, array in problem.arrays.items()}
    if problem.row.kind == "Adam step":
        for variant in ("", "foreach", "fused"):
            yield _adam(torch, problem, variant)
    elif problem.row.kind == "cross entropy":
        yield _loss(torch.nn.functional.cross_entropy, tensors["logits"], tensors["targets"], "dlogits")
    elif problem.row.kind in LOSSES:
        yield _loss(getattr(torch.nn.functional, LOSSES[problem.row.kind]), tensors["x"], tensors["target"], "dx")
    elif mode == "infer":
        yield _infer(torch, _operation(torch, problem, training=False), tensors)
    else:
        yield _train(_operation(torch, problem, training=True), tensors)


Operation = Callable[[dict[str, Any]], Any]


def _operation(torch: Any, problem: KitProblem, *, training: bool) -> Operation:
    functional, sizes = torch.nn.functional, problem.row.sizes
    operations: dict[str, Operation] = {
        "LayerNorm": lambda t: functional.layer_norm(t["x"], sizes[1:], t["weight"], t["bias"], EPS),
        "BatchNorm": lambda t: functional.batch_norm(
            t["x"], t["mean"], t["var"], t["weight"], t["bias"], training, eps=EPS
        ),
        "softmax": lambda t: functional.softmax(t["x"], -1),
        "embedding": lambda t: functional.embedding(t["tokens"], t["weight"]),
    }
    return operations[problem.row.kind]


def _infer(torch: Any, operation: Operation, tensors: dict[str, Any]) -> Contender:
    def call() -> Any:
        with torch.inference_mode():
            return operation(tensors)

    return Contender("torch", call, lambda: {"y": call().numpy()})


def _train(operation: Operation, tensors: dict[str, Any]) -> Contender:
    trained = {name: tensors[name].requires_grad_() for name in ("x", "weight", "bias") if name in tensors}

    def call() -> Any:
        for tensor in trained.values():
            tensor.grad = None
        y = operation(tensors)
        y.backward(tensors["dy"])
        return y

    def results() -> Arrays:
        y = call().numpy(force=True)
        grads = {"dx" if name == "x" else name: tensor.grad.numpy() for name, tensor in trained.items()}
        return {"y": y, **grads}

    return Contender("torch", call, results)


def _loss(function: Callable[[Any, Any], Any], x: Any, target: Any, gradient: str) -> Contender:
    x.requires_grad_()

    def call() -> Any:
        x.grad = None
        loss = function(x, target)
        loss.backward()
        return loss

    return Contender("torch", call, lambda: {"y": call().numpy(force=True), gradient: x.grad.numpy()})


def _adam(torch: Any, problem: KitProblem, variant: str) -> Contender:
    def optimizer() -> tuple[Any, Any]:
        param = torch.from_numpy(problem.arrays["param"].copy()).requires_grad_()
        param.grad = torch.from_numpy(problem.arrays["grad"])
        return param, torch.optim.Adam([param], LEARNING_RATE, **({variant: True} if variant else {}))

    def results() -> Arrays:
        param, one = optimizer()
        one.step()
        return {"y": param.detach().numpy()}

    return Contender("torch", optimizer()[1].step, results, variant)
