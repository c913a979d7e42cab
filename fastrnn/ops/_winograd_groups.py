"""Winograd's algorithm for convolutions with groups, channels first: group by group, as they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from fastrnn.ops._winograd import WinogradWeights

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

__all__ = ["GroupedWeights"]


class GroupedWeights:
    """Weights of a convolution with groups, in place of `WinogradWeights`, with the channels first.

    Parameters
    ----------
    weight : ndarray (K, C/groups, *kernel), C-contiguous
    pad, backward : of `WinogradWeights`
    """

    __slots__ = ("groups",)

    def __init__(self, weight: Array, pad: Pairs, groups: int, *, backward: bool) -> None:
        units = len(weight) // groups
        parts = (weight[group * units : (group + 1) * units] for group in range(groups))
        self.groups = [WinogradWeights(part, pad, backward=backward) for part in parts]

    def _parts(self, maps: Array, outputs: Array) -> Iterator[tuple[WinogradWeights, slice, Array, Array]]:
        """Return the weights of each group, its outputs' numbers, and its maps and outputs, as views."""
        inputs, units = maps.shape[1] // len(self.groups), outputs.shape[1] // len(self.groups)
        for group, weights in enumerate(self.groups):
            there = slice(group * units, (group + 1) * units)
            yield weights, there, maps[:, group * inputs : (group + 1) * inputs], outputs[:, there]

    def run(self, x: Array, y: Array, bias: Array | None, activation: int, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros."""
        assert not channels_last
        for weights, units, maps, outputs in self._parts(x, y):
            weights.run(maps, outputs, None if bias is None else bias[units], activation, False)

    def run_backward(self, dy: Array, dx: Array, channels_last: bool) -> None:
        """Write dx (N, C, *sizes), the gradient of x for dy (N, K, *counts)."""
        assert not channels_last
        for weights, _, maps, outputs in self._parts(dy, dx):
            weights.run_backward(maps, outputs, False)

    def add_weight_gradient(self, x: Array, dy: Array, grad: Array, channels_last: bool) -> None:
        """Add the gradient of the weights to grad (K, C/groups, *kernel), C-contiguous."""
        assert not channels_last
        for weights, units, maps, outputs in self._parts(x, dy):
            weights.add_weight_gradient(maps, outputs, grad[units], False)
