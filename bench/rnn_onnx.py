"""The recurrent problem as an ONNX model, for ONNX Runtime and OpenVINO; inference only."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.case import Arrays, Contender
from bench.peers import RUNNERS, Run
from bench.rnn_problem import Problem
from bench.shapes import GATES

__all__ = ["onnx_contenders", "recurrent_model", "reordered"]

# Where ONNX's gates stand in PyTorch's order: LSTM i,o,f,c from i,f,g,o; GRU z,r,h from r,z,n.
ORDER: Mapping[str, tuple[int, ...]] = MappingProxyType({"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)})
OPSET = 17
IR_VERSION = 9  # that of onnx 1.14 of 2023: every runtime since reads it


def onnx_contenders(library: str, problem: Problem, mode: str, threads: int) -> Iterator[Contender]:
    """Yield the contender of a library that runs ONNX models; none for training."""
    if mode == "train":
        return
    run = RUNNERS[library](recurrent_model(problem, stream=mode == "stream"), threads)
    if mode == "stream":
        yield _stream(library, problem, run)
        return
    feeds: Arrays = {"x": problem.x}
    if problem.lengths is not None:
        feeds["lengths"] = problem.lengths.astype(np.int32)

    def results() -> Arrays:
        return {name: array.copy() for name, array in zip(("y", "h_n", "c_n"), run(feeds), strict=False)}

    yield Contender(library, lambda: run(feeds), results)


def _stream(library: str, problem: Problem, run: Run) -> Contender:
    steps = [x_t[None] for x_t in problem.x]
    names = _state_names(problem)
    zeros = np.zeros((1, problem.row.N, problem.row.H), np.float32)
    feeds: Arrays = {}

    def step(x_t: Any) -> Any:
        feeds["x"] = x_t
        y, *state = run(feeds)
        feeds.update(zip(names, state, strict=True))
        return y

    def results() -> Arrays:
        feeds.update(dict.fromkeys(names, zeros))
        return {"y": np.concatenate([step(x_t) for x_t in steps])}

    results()  # fills feeds
    return Contender(library, lambda: step(steps[0]), results)


def _state_names(problem: Problem) -> list[str]:
    return ["h_0", "c_0"] if problem.row.cell == "lstm" else ["h_0"]


def reordered(cell: str, weight: Any) -> Any:
    """Return a weight or bias of PyTorch with its gates in ONNX's order."""
    gates = np.split(weight, GATES[cell])
    return np.concatenate([gates[place] for place in ORDER[cell]])


def recurrent_model(problem: Problem, *, stream: bool) -> bytes:
    """Return a model of inputs x, lengths or initial states if needed, and outputs y (T, N, D*H), h_n and c_n.

    Parameters
    ----------
    stream : bool
        One step with initial states as inputs instead of the whole sequence.
    """
    onnx: Any = importlib.import_module("onnx")
    row = problem.row
    T, N, H, D = (1 if stream else row.T), row.N, row.H, row.directions
    states = _state_names(problem)
    inputs: dict[str, tuple[int, ...]] = {"x": (T, N, row.C)}
    if problem.lengths is not None:
        inputs["lengths"] = (N,)
    if stream:
        inputs |= dict.fromkeys(states, (D, N, H))
    outputs = {"y": (T, N, D * H), **dict.fromkeys(("h_n", "c_n")[: len(states)], (D, N, H))}
    nodes = _nodes(onnx, problem, list(inputs), list(outputs))
    constants = {**_onnx_weights(problem), "shape": np.array(outputs["y"]), "axis": np.array([1])}
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        row.cell,
        [_info(onnx, *item) for item in inputs.items()],
        [_info(onnx, *item) for item in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model: bytes = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString()
    return model


def _nodes(onnx: Any, problem: Problem, inputs: list[str], outputs: list[str]) -> list[Any]:
    """Return the recurrent node and what brings its output (T, D, N, H) into the layout of `y`."""
    cell, make = problem.row.cell, onnx.helper.make_node
    options: dict[str, Any] = {"hidden_size": problem.row.H}
    if cell == "gru":
        options["linear_before_reset"] = 1
    if problem.row.bidirectional:
        options["direction"] = "bidirectional"
    states = [name for name in _state_names(problem) if name in inputs]
    sources = ["x", "W", "R", "B", "lengths" if "lengths" in inputs else "", *states]
    recurrent = make(cell.upper(), sources, ["directions", *outputs[1:]], **options)
    if not problem.row.bidirectional:
        return [recurrent, make("Squeeze", ["directions", "axis"], ["y"])]
    together = make("Transpose", ["directions"], ["together"], perm=[0, 2, 1, 3])
    return [recurrent, together, make("Reshape", ["together", "shape"], ["y"])]


def _info(onnx: Any, name: str, shape: tuple[int, ...]) -> Any:
    kind = onnx.TensorProto.INT32 if name == "lengths" else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def _onnx_weights(problem: Problem) -> Arrays:
    """Return W (D, G*H, C), R (D, G*H, H) and B (D, 2*G*H) in ONNX's gate order."""
    suffixes = ("_l0", "_l0_reverse")[: problem.row.directions]

    def stacked(*names: str) -> Any:
        parts = [[reordered(problem.row.cell, problem.weights[name + suffix]) for name in names] for suffix in suffixes]
        return np.stack([np.concatenate(part) for part in parts])

    return {"W": stacked("weight_ih"), "R": stacked("weight_hh"), "B": stacked("bias_ih", "bias_hh")}
