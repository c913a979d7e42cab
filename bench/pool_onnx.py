"""The pooling problem as an ONNX model, for ONNX Runtime and OpenVINO; inference only."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.case import Arrays, Contender
from bench.peers import RUNNERS
from bench.rnn_onnx import IR_VERSION, OPSET

if TYPE_CHECKING:
    from bench.bench_pool import PoolProblem

__all__ = ["onnx_contenders", "pool_model"]


def onnx_contenders(library: str, problem: PoolProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield the contender of a library that runs ONNX models; none for training."""
    if mode == "train":
        return
    run = RUNNERS[library](pool_model(problem), threads)
    feeds: Arrays = {"x": problem.x}
    yield Contender(library, lambda: run(feeds), lambda: {"y": run(feeds)[0].reshape(problem.dy.shape)})


def pool_model(problem: PoolProblem) -> bytes:
    """Return a model of one pooling, x (N, C, *sizes) to y; over time y keeps an axis of size 1."""
    onnx: Any = importlib.import_module("onnx")
    row, axes = problem.row, len(problem.row.sizes)
    options: dict[str, Any] = {}
    if row.kind != "time":
        options = {
            "kernel_shape": [row.kernel] * axes,
            "strides": [row.stride] * axes,
            "pads": [row.padding] * 2 * axes,
        }
    if row.kind == "avg":
        options["count_include_pad"] = 1
    operation = {"time": "GlobalMaxPool", "max": "MaxPool", "avg": "AveragePool"}[row.kind]
    out = [*problem.dy.shape, *([1] if row.kind == "time" else [])]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operation, ["x"], ["y"], **options)],
        row.kind,
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, problem.x.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, out)],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model: bytes = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    return model
