"""One convolution with weights, input and output gradient; the right results by the float64 reference."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.case import Arrays
from bench.shapes import ConvRow
from fastrnn import reference

__all__ = ["ConvProblem", "make_problem"]


@dataclass(frozen=True)
class ConvProblem:
    """What every library gets: x (N, C, *sizes), weight and bias as PyTorch has them, dy as the output; all float32."""

    row: ConvRow
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    x: NDArray[np.float32]
    dy: NDArray[np.float32]

    @property
    def options(self) -> dict[str, int]:
        """Return the options of the convolution, as PyTorch names them."""
        row = self.row
        return {"stride": row.stride, "padding": row.padding, "dilation": row.dilation, "groups": row.groups}

    @cached_property
    def truth(self) -> Arrays:
        """Return all results in float64: y, dx and the gradients of weight and bias."""
        vjp: Any = reference.conv_transpose_vjp if self.row.transposed else reference.conv_vjp
        y, pullback = vjp(self.x.astype(float), self.weight.astype(float), self.bias.astype(float), **self.options)
        dx, grads = pullback(self.dy.astype(float))
        return {"y": y, "dx": dx, **grads}


def make_problem(row: ConvRow) -> ConvProblem:
    """Draw weights uniformly in +-1/sqrt(fan in), PyTorch's default, and normal inputs; the same for the same row."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    first, second = (row.C, row.K) if row.transposed else (row.K, row.C)
    shape = (first, second // row.groups, *(row.kernel,) * row.S)
    bound = 1 / np.sqrt(np.prod(shape[1:]))
    weight = rng.uniform(-bound, bound, shape).astype(np.float32)
    bias = rng.uniform(-bound, bound, row.K).astype(np.float32)
    x = rng.standard_normal((row.N, row.C, *row.sizes), np.float32)
    return ConvProblem(row, weight, bias, x, rng.standard_normal((row.N, row.K, *row.counts), np.float32))
