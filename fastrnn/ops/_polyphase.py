"""Winograd's algorithm for convolutions with a stride: one without over the phases of the maps, places a stride apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._memory import empty
from fastrnn._kernels._phases import join_phases, split_phases
from fastrnn.ops._winograd import WinogradWeights

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]
Index = tuple[int | slice, ...]

ALL = slice(None)

__all__ = ["PhasedWeights", "kernel_of_phases"]


def kernel_of_phases(kernel: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of the kernel that slides over the phases."""
    return tuple(-(-taps // step) for taps, step in zip(kernel, stride, strict=True))


class PhasedWeights:
    """Weights of a convolution with a stride, in place of `WinogradWeights`.

        y_k[o] = sum over c, p, t of weight_kc[t * stride + p] * x_c[(o + t) * stride + p - low]

    Tap t * stride + p of a kernel becomes tap t of phase p, or zero where there is none; channel c of phase p is number
    p * C + c.

    Parameters
    ----------
    weight : ndarray (K, C, *kernel), C-contiguous
    stride : ints, one for each axis; `kernel_of_phases` is one of those of `WinogradWeights`
    pad : pairs (before, after) of zeros around x
    backward : bool. Whether `run_backward` will be called.
    """

    __slots__ = ("kernel", "low", "stride", "weights")

    def __init__(self, weight: Array, stride: tuple[int, ...], pad: Pairs, *, backward: bool) -> None:
        self.kernel, self.stride, self.low = weight.shape[2:], stride, tuple(low for low, _ in pad)
        K, C, *_ = weight.shape
        phased = np.zeros((K, math.prod(stride), C, *kernel_of_phases(self.kernel, stride)), weight.dtype)
        for place, taps in self._phases():
            phased[place] = weight[taps]
        whole = phased.reshape(K, -1, *phased.shape[3:])
        self.weights = WinogradWeights(whole, ((0, 0),) * len(stride), backward=backward)

    def _phases(self) -> Iterator[tuple[Index, Index]]:
        """Return where the taps of each phase lie in weights [K][phase][C][taps], and in [K][C][kernel]."""
        for number, start in enumerate(product(*map(range, self.stride))):
            axes = list(zip(self.kernel, start, self.stride, strict=True))
            counts = (slice(len(range(first, taps, step))) for taps, first, step in axes)
            yield (ALL, number, ALL, *counts), (ALL, ALL, *(slice(first, None, step) for _, first, step in axes))

    def _empty(self, maps: Array, outputs: Array, channels_last: bool) -> Array:
        """Return memory for the phases of maps from which such outputs are computed."""
        first = 1 if channels_last else 2
        counts = outputs.shape[first : first + len(self.stride)]
        sizes = tuple(n + k - 1 for n, k in zip(counts, kernel_of_phases(self.kernel, self.stride), strict=True))
        channels = math.prod(self.stride) * maps.shape[-1 if channels_last else 1]
        shape = (*sizes, channels) if channels_last else (channels, *sizes)
        return empty((len(maps), *shape), maps.dtype)

    def _split(self, x: Array, outputs: Array, channels_last: bool) -> Array:
        phases = self._empty(x, outputs, channels_last)
        split_phases(x, phases, self.stride, self.low, channels_last)
        return phases

    def run(self, x: Array, y: Array, bias: Array | None, activation: int, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros."""
        self.weights.run(self._split(x, y, channels_last), y, bias, activation, channels_last)

    def run_backward(
        self, dy: Array, dx: Array, channels_last: bool, bias: Array | None = None, activation: int = 0
    ) -> None:
        """Write dx (N, C, *sizes) = activation(gradient of x for dy (N, K, *counts), + bias).

        Places of x that no phase has, past the last window, are zero whatever the bias.
        """
        phases = self._empty(dx, dy, channels_last)
        of_phases = None if bias is None else np.tile(bias, math.prod(self.stride))
        self.weights.run_backward(dy, phases, channels_last, of_phases, activation)
        join_phases(phases, dx, self.stride, self.low, channels_last)

    def add_weight_gradient(
        self, x: Array, dy: Array, grad: Array, channels_last: bool, *, fresh: bool = False
    ) -> None:
        """Add the gradient of the weights to grad (K, C, *kernel), C-contiguous; or write it, if that is `fresh`."""
        K, C, *_ = grad.shape
        sums = empty((K, math.prod(self.stride), C, *kernel_of_phases(self.kernel, self.stride)), grad.dtype)
        whole = sums.reshape(K, -1, *sums.shape[3:])
        self.weights.add_weight_gradient(self._split(x, dy, channels_last), dy, whole, channels_last, fresh=True)
        for place, taps in self._phases():
            grad[taps] = sums[place] if fresh else grad[taps] + sums[place]
