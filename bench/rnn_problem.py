"""One recurrent layer with weights, input and output gradient; the right results by the float64 reference."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.case import Arrays
from bench.shapes import GATES, RecurrentRow
from fastrnn import reference

__all__ = ["Problem", "make_problem"]

_VJP: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"lstm": reference.lstm_vjp, "gru": reference.gru_vjp, "rnn": reference.rnn_vjp}
)


@dataclass(frozen=True)
class Problem:
    """What every library gets.

    x is (T, N, C) and dy (T, N, D*H), both float32, dy zero past the lengths; `weights` is a PyTorch state dict.
    """

    row: RecurrentRow
    weights: Arrays
    x: NDArray[np.float32]
    dy: NDArray[np.float32]
    lengths: NDArray[np.int64] | None

    @property
    def steps(self) -> int:
        """Return the number of steps of all sequences together."""
        return int(self.valid.sum())

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Return which steps of which sequences are there, (T, N)."""
        lengths = np.full(self.row.N, self.row.T) if self.lengths is None else self.lengths
        return np.arange(self.row.T)[:, None] < lengths

    @cached_property
    def truth(self) -> Arrays:
        """Return all results in float64: y, h_n, c_n, dx and the gradient of each weight."""
        results: Arrays = {"dx": np.zeros(self.x.shape)}
        finals = []
        outputs = []
        for d in range(self.row.directions):
            suffix = "_l0_reverse" if d else "_l0"
            params = {n.removesuffix(suffix): w.astype(float) for n, w in self.weights.items() if n.endswith(suffix)}
            vjp = _VJP[self.row.cell]
            (y, state), pullback = vjp(self.x.astype(float), params, lengths=self.lengths, reverse=d == 1)
            outputs.append(y)
            finals.append(state if isinstance(state, tuple) else (state,))
            H = self.row.H
            dx, _, grads = pullback(self.dy[:, :, d * H : (d + 1) * H].astype(float))
            results["dx"] += dx
            results |= {name + suffix: grad for name, grad in grads.items()}
        results["y"] = np.concatenate(outputs, axis=2)
        names = ("h_n", "c_n")
        return results | {name: np.stack(part) for name, part in zip(names, zip(*finals, strict=True), strict=False)}


def make_problem(row: RecurrentRow) -> Problem:
    """Draw weights uniformly in +-1/sqrt(H), PyTorch's default, and normal inputs; the same for the same row."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    bound = 1 / np.sqrt(row.H)
    rows = GATES[row.cell] * row.H
    shapes = {"weight_ih": (rows, row.C), "weight_hh": (rows, row.H), "bias_ih": (rows,), "bias_hh": (rows,)}
    weights = {
        name + suffix: rng.uniform(-bound, bound, shape).astype(np.float32)
        for suffix in ("_l0", "_l0_reverse")[: row.directions]
        for name, shape in shapes.items()
    }
    x = rng.standard_normal((row.T, row.N, row.C), np.float32)
    dy = rng.standard_normal((row.T, row.N, row.directions * row.H), np.float32)
    problem = Problem(row, weights, x, dy, rng.integers(1, row.T + 1, row.N) if row.lengths else None)
    dy[~problem.valid] = 0
    return problem
