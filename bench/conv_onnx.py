"""The convolution as an ONNX model, for ONNX Runtime and OpenVINO; inference only."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from bench.case import Contender
from bench.conv_problem import ConvProblem
from bench.peers import RUNNERS
from bench.rnn_onnx import IR_VERSION, OPSET

__all__ = ["conv_model", "onnx_contenders"]


def onnx_contenders(library: str, problem: ConvProblem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield the contender of a library that runs ONNX models; none for training."""
    if mode == "train":
        return
    run = RUNNERS[library](conv_model(problem), threads)
    feeds = {"x": problem.x}
    yield Contender(library, lambda: run(feeds), lambda: {"y": run(feeds)[0].copy()})


def conv_model(problem: ConvProblem) -> bytes:
    """Return a model of one node with input x and output y; weight and bias are constants."""
    onnx: Any = importlib.import_module("onnx")
    row = problem.row
    node = onnx.helper.make_node(
        "ConvTranspose" if row.transposed else "Conv",
        ["x", "weight", "bias"],
        ["y"],
        kernel_shape=[row.kernel] * row.S,
        strides=[row.stride] * row.S,
        dilations=[row.dilation] * row.S,
        pads=[row.padding] * 2 * row.S,
        group=row.groups,
    )
    shapes = {"x": problem.x.shape, "y": problem.dy.shape}
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items())
    constants = {"weight": problem.weight, "bias": problem.bias}
    initial = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph([node], "conv", [x], [y], initial)
    opset = onnx.helper.make_opsetid("", OPSET)
    model: bytes = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    return model
