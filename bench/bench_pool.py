"""Pooling layers: inference and training against other libraries.

Inference is a call of the layer, which computes no indices. Training is forward and backward with the gradient of the
input.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastrnn as fr
from bench.case import OURS, Arrays, Contender
from bench.pool_onnx import onnx_contenders
from bench.pool_torch import torch_contenders
from bench.roofs import Roofs
from bench.shapes import POOLING, SMOKE_POOLING, PoolRow
from fastrnn import reference

__all__ = ["CONTENDERS", "PoolCase", "PoolProblem", "make_pool_problem", "pool_cases"]


@dataclass(frozen=True)
class PoolProblem:
    """What every library gets: x (N, C, *sizes) and the gradient of y, float32."""

    row: PoolRow
    x: NDArray[np.float32]
    dy: NDArray[np.float32]

    @cached_property
    def truth(self) -> Arrays:
        """Return y and dx in float64."""
        y, pullback = _reference(self.row, self.x.astype(float))
        return {"y": y, "dx": pullback(self.dy.astype(float))}


def _reference(row: PoolRow, x: NDArray[Any]) -> tuple[NDArray[Any], Callable[[Any], NDArray[Any]]]:
    if row.kind == "time":
        return reference.time_pool_vjp(x, "max", layout="NCT")
    if row.kind == "max":
        (y, _), pullback = reference.max_pool_vjp(x, row.kernel, stride=row.stride, padding=row.padding)
        return y, pullback
    return reference.avg_pool_vjp(x, row.kernel, stride=row.stride, padding=row.padding)


def make_pool_problem(row: PoolRow) -> PoolProblem:
    """Draw normal maps and a normal gradient; the same for the same row."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    x = rng.standard_normal((row.N, row.C, *row.sizes), np.float32)
    return PoolProblem(row, x, rng.standard_normal(row.out_shape, np.float32))


MakeContenders = Callable[[PoolProblem, str, int], Iterable[Contender]]
#: How each peer takes part: (problem, mode, threads) -> its contenders, none if it cannot.
CONTENDERS: Mapping[str, MakeContenders] = MappingProxyType(
    {
        "torch": torch_contenders,
        "onnxruntime": lambda *setting: onnx_contenders("onnxruntime", *setting),
        "openvino": lambda *setting: onnx_contenders("openvino", *setting),
    }
)


class PoolCase:
    """One row of the table of shapes in one mode."""

    def __init__(self, problem: PoolProblem, mode: str) -> None:
        self.problem = problem
        self.mode = mode

    @property
    def name(self) -> str:
        """Return the row's name and the mode."""
        return f"{self.problem.row.name} {self.mode}"

    @property
    def flops(self) -> float:
        """Return one operation for each place of each window; backward has as many."""
        row = self.problem.row
        forward = float(self.problem.dy.size * row.places)
        return 2 * forward if self.mode == "train" else forward

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""
        goals = self.problem.row.goals[self.mode]
        return goals[threads - 1] if threads <= len(goals) else None

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the time in which the machine copies as many bytes as have to be read and written.

        Forward reads x and writes y; backward reads dy and writes dx. Indices could be left out, and do not count.
        """
        moved = self.problem.x.nbytes + self.problem.dy.nbytes
        passes = 2 if self.mode == "train" else 1
        return passes * moved / (roofs.copy(self.problem.x.nbytes / threads) * threads)

    def truth(self) -> Arrays:
        """Return the right results."""
        return self.problem.truth

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
        yield OUR_MODES[self.mode](_our_layer(self.problem.row), self.problem)
        for library in libraries:
            yield from CONTENDERS[library](self.problem, self.mode, threads)


def pool_cases(*, smoke: bool = False, quick: bool = False) -> Iterator[PoolCase]:
    """Yield the cases of the suite; those of one row share inputs."""
    for row in SMOKE_POOLING if smoke else POOLING:
        if row.quick or not quick:
            problem = make_pool_problem(row)
            for mode in row.goals:
                yield PoolCase(problem, mode)


def _our_layer(row: PoolRow) -> Any:
    """Return the layer, channels last if the row says so: maps then lie as a network of such layers has them."""
    if row.kind == "time":
        return fr.TimePool("max", layout="NCT")
    kinds = {"max": fr.MaxPool2d, "avg": fr.AvgPool2d}
    return kinds[row.kind](row.kernel, row.stride, row.padding, layout="NHWC" if row.channels_last else "NCHW")


def _lying(problem: PoolProblem, maps: NDArray[Any]) -> NDArray[Any]:
    """Return maps as our layer takes them."""
    return np.ascontiguousarray(np.moveaxis(maps, 1, -1)) if problem.row.channels_last else maps


def _as_truth(problem: PoolProblem, maps: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(maps, -1, 1) if problem.row.channels_last else maps


def _our_inference(layer: Any, problem: PoolProblem) -> Contender:
    x = _lying(problem, problem.x)
    return Contender(OURS, lambda: layer(x), lambda: {"y": _as_truth(problem, layer(x))})


def _our_training(layer: Any, problem: PoolProblem) -> Contender:
    x, dy = _lying(problem, problem.x), _lying(problem, problem.dy)

    def call() -> Any:
        y, backward = layer.forward(x)
        return y, backward(dy)

    def results() -> Arrays:
        y, dx = call()
        return {"y": _as_truth(problem, y), "dx": _as_truth(problem, dx)}

    return Contender(OURS, call, results)


OUR_MODES: Mapping[str, Callable[[Any, PoolProblem], Contender]] = MappingProxyType(
    {"infer": _our_inference, "train": _our_training}
)
