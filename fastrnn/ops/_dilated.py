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

    def _empty(self, maps: Array, outputs: Array) -> Array:
        """Return memory for the phases, as samples, of the maps from which such outputs are computed, or of outputs themselves."""
        more = (0,) * len(self.kernel) if maps is outputs else tuple(taps - 1 for taps in self.kernel)
        counts = counts_of_phases(outputs.shape[2:], self.dilation)
        sizes = tuple(count + extra for count, extra in zip(counts, more, strict=True))
        return empty((len(maps) * math.prod(self.dilation), maps.shape[1], *sizes), maps.dtype)

    def _joined(self, phases: Array) -> Array:
        """Return phases that are samples as channels of theirs, as `_phases` has them."""
        steps = math.prod(self.dilation)
        return phases.reshape(len(phases) // steps, steps * phases.shape[1], *phases.shape[2:])

    def _split(self, maps: Array, outputs: Array) -> Array:
        phases = self._empty(maps, outputs)
        split_phases(maps, self._joined(phases), self.dilation, self.origin if maps is outputs else self.low, False)
        return phases

    def run(self, x: Array, y: Array, bias: Array | None, activation: int, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros; not `channels_last`."""
        phases = self._empty(y, y)
        self.weights.run(self._split(x, y), phases, bias, activation, channels_last)
        join_phases(self._joined(phases), y, self.dilation, self.origin, channels_last)

    def run_backward(
        self, dy: Array, dx: Array, channels_last: bool, bias: Array | None = None, activation: int = 0
    ) -> None:
        """Write dx (N, C, *sizes) = activation(gradient of x for dy (N, K, *counts), + bias); not `channels_last`.

        Places of x that no phase has, past the last window, are zero whatever the bias.
        """
        phases = self._empty(dx, dy)
        self.weights.run_backward(self._split(dy, dy), phases, channels_last, bias, activation)
        join_phases(self._joined(phases), dx, self.dilation, self.low, channels_last)

    def add_weight_gradient(
        self, x: Array, dy: Array, grad: Array, channels_last: bool, *, fresh: bool = False
    ) -> None:
        """Add the gradient of the weights to grad (K, C, *kernel), C-contiguous; or write it, if that is `fresh`."""
        self.weights.add_weight_gradient(self._split(x, dy), self._split(dy, dy), grad, channels_last, fresh=fresh)
