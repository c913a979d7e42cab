"""Winograd's algorithm for convolutions with dilation: one without for each phase of the maps, places a dilation apart."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._memory import empty
from fastrnn._kernels._phases import join_phases, split_phases
from fastrnn.ops._winograd import WinogradWeights

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

__all__ = ["DilatedWeights", "counts_of_phases"]


def counts_of_phases(counts: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many outputs of each phase there are, or one more than there are."""
    return tuple(-(-count // step) for count, step in zip(counts, dilation, strict=True))


class DilatedWeights:
    """Weights of a convolution with dilation, channels first, in place of `WinogradWeights`.

        y_k[o * dilation + p] = sum over c, t of weight_kc[t] * x_c[(o + t) * dilation + p - low]

    Phase p of x alone makes phase p of y, so all phases of a batch are samples of one without dilation.

    Parameters
    ----------
    weight : ndarray (K, C, *kernel), C-contiguous; a kernel of `WinogradWeights`
    dilation : ints, one for each axis
    pad : pairs (before, after) of zeros around x
    backward : bool. Whether `run_backward` will be called.
    """

    __slots__ = ("dilation", "kernel", "low", "origin", "weights")

    def __init__(self, weight: Array, dilation: tuple[int, ...], pad: Pairs, *, backward: bool) -> None:
        self.kernel, self.dilation, self.low = weight.shape[2:], dilation, tuple(low for low, _ in pad)
        self.origin = (0,) * len(dilation)
        self.weights = WinogradWeights(weight, ((0, 0),) * len(dilation), backward=backward)

    def _sizes(self, y: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the sizes of the phases of x, and of those of y."""
        counts = counts_of_phases(y.shape[2:], self.dilation)
        return tuple(count + taps - 1 for count, taps in zip(counts, self.kernel, strict=True)), counts

    def _empty(self, maps: Array, sizes: tuple[int, ...]) -> Array:
        """Return memory for the phases of maps, as samples."""
        return empty((len(maps) * math.prod(self.dilation), maps.shape[1], *sizes), maps.dtype)

    def _as_channels(self, phases: Array) -> Array:
        """Return phases that are samples as channels of theirs, which lie as they do: what `_phases` takes."""
        steps = math.prod(self.dilation)
        return phases.reshape(len(phases) // steps, steps * phases.shape[1], *phases.shape[2:])

    def _split(self, maps: Array, sizes: tuple[int, ...], low: tuple[int, ...]) -> Array:
        phases = self._empty(maps, sizes)
        split_phases(maps, self._as_channels(phases), self.dilation, low, False)
        return phases

    def run(self, x: Array, y: Array, bias: Array | None, activation: int, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros; not `channels_last`."""
        of_x, of_y = self._sizes(y)
        phases = self._empty(y, of_y)
        self.weights.run(self._split(x, of_x, self.low), phases, bias, activation, channels_last)
        join_phases(self._as_channels(phases), y, self.dilation, self.origin, channels_last)

    def run_backward(
        self, dy: Array, dx: Array, channels_last: bool, bias: Array | None = None, activation: int = 0
    ) -> None:
        """Write dx (N, C, *sizes) = activation(gradient of x for dy (N, K, *counts), + bias); not `channels_last`.

        Places of x that no phase has, past the last window, are zero whatever the bias.
        """
        of_x, of_y = self._sizes(dy)
        phases = self._empty(dx, of_x)
        self.weights.run_backward(self._split(dy, of_y, self.origin), phases, channels_last, bias, activation)
        join_phases(self._as_channels(phases), dx, self.dilation, self.low, channels_last)

    def add_weight_gradient(
        self, x: Array, dy: Array, grad: Array, channels_last: bool, *, fresh: bool = False
    ) -> None:
        """Add the gradient of the weights to grad (K, C, *kernel), C-contiguous; or write it, if that is `fresh`."""
        of_x, of_y = self._sizes(dy)
        phases, dy_phases = self._split(x, of_x, self.low), self._split(dy, of_y, self.origin)
        self.weights.add_weight_gradient(phases, dy_phases, grad, channels_last, fresh=fresh)
