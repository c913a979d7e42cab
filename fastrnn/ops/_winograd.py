"""Winograd convolution: which convolutions it serves, with which tiles."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._winograd import WinogradKernel

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

# Points of the tiles along one axis, and the longest kernel of one axis that is cut into pieces.
POINTS_2D, POINTS_1D, LONGEST_1D = 6, 8, 16
# Kernels with edge tiles.
EDGED = ((2, 2), (3, 3))


def _tiles(kernel: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    """Return points and outputs of a tile for each axis, or None."""
    if len(kernel) == 2 and all(2 <= size <= 5 for size in kernel):
        return tuple((POINTS_2D, POINTS_2D + 1 - size) for size in kernel)
    if len(kernel) == 1 and 3 <= kernel[0] <= LONGEST_1D:
        pieces = {taps: -(-kernel[0] // taps) for taps in (3, 4, 5)}
        # The fewest products for one output; if equal, the fewest pieces.
        taps = min(pieces, key=lambda taps: (pieces[taps] / (POINTS_1D + 1 - taps), pieces[taps]))
        return ((POINTS_1D, POINTS_1D + 1 - taps),)
    return None


def supported(kernel: tuple[int, ...]) -> bool:
    """Return whether a convolution of one group without stride and dilation can be computed by Winograd's algorithm here."""
    return _tiles(kernel) is not None


def tiles_and_products(kernel: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of tiles over so many outputs, and their products of one channel and one unit."""
    tiles, products = 1, 1
    axes = _tiles(kernel)
    assert axes is not None
    for taps, count, (points, outputs) in zip(kernel, counts, axes, strict=True):
        here = -(-count // outputs)
        edges = (
            -count % outputs if kernel in EDGED else 0
        )  # an output and a point less, if only such tiles make up the rest
        tiles *= here
        pieces = -(-taps // (points + 1 - outputs))
        products *= pieces * (points * here - (edges if (outputs - 1) * edges <= count else 0))
    return tiles, products


def values_of_weight(kernel: tuple[int, ...]) -> int:
    """Return into how many values the kernel of one channel and one unit is transformed."""
    axes = _tiles(kernel)
    assert axes is not None
    points = [points * -(-taps // (points + 1 - outputs)) for taps, (points, outputs) in zip(kernel, axes, strict=True)]
    return math.prod(points)


class WinogradWeights:
    """Weights to be transformed at their first use: a snapshot, for the instruction set in use.

    Parameters
    ----------
    weight : ndarray (K, C/groups, *kernel), C-contiguous, float32 or float64; `supported`
    pad : pairs (before, after) of zeros around x, one for each axis
    backward : bool. Whether `run_backward` will be called.
    groups : int, which divides K and C
    """

    __slots__ = ("kernel", "pad")

    def __init__(self, weight: Array, pad: Pairs, *, backward: bool, groups: int = 1) -> None:
        tiles = _tiles(weight.shape[2:])
        assert tiles is not None
        self.pad = (pad[0][0] if len(pad) == 2 else 0), pad[-1][0]
        self.kernel = WinogradKernel(
            weight, [points for points, _ in tiles], [outputs for _, outputs in tiles], backward, groups
        )

    def run(self, x: Array, y: Array, bias: Array | None, activation: int, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros."""
        self.kernel.forward(x, y, *self.pad, bias, activation, channels_last)

    def run_backward(
        self, dy: Array, dx: Array, channels_last: bool, bias: Array | None = None, activation: int = 0
    ) -> None:
        """Write dx (N, C, *sizes) = activation(gradient of x for dy (N, K, *counts), + bias)."""
        self.kernel.backward_input(dy, dx, *self.pad, bias, activation, channels_last)

    def add_weight_gradient(
        self, x: Array, dy: Array, grad: Array, channels_last: bool, *, fresh: bool = False
    ) -> None:
        """Add the gradient of the weights to grad (K, C/groups, *kernel), C-contiguous; or write it, if that is `fresh`."""
        self.kernel.add_weight_gradient(x, dy, grad, *self.pad, channels_last, fresh)
