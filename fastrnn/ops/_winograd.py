"""Winograd convolution: which convolutions it serves, with which tiles."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._kernel_pieces import cut_kernels, join_kernels
from fastrnn._kernels._memory import empty
from fastrnn._kernels._winograd import WinogradKernel

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

# Points of the tiles along one axis; the longest kernels of two axes and of one. Longer ones than a tile takes are cut into pieces.
POINTS_2D, POINTS_1D, LONGEST_2D, LONGEST_1D = 6, 8, 11, 16
# Pieces with edge tiles.
EDGED = ((2, 2), (3, 3))


def _tiles(kernel: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    """Return points and outputs of a tile for each axis, or None."""
    if len(kernel) == 2 and all(2 <= size <= LONGEST_2D for size in kernel):
        taps = (size if size < POINTS_2D else _taps_of_pieces(size, POINTS_2D) for size in kernel)
        return tuple((POINTS_2D, POINTS_2D + 1 - size) for size in taps)
    if len(kernel) == 1 and 3 <= kernel[0] <= LONGEST_1D:
        return ((POINTS_1D, POINTS_1D + 1 - _taps_of_pieces(kernel[0], POINTS_1D)),)
    return None


def _taps_of_pieces(size: int, points: int) -> int:
    """Return the taps of a piece for the fewest products for one output; if equal, the fewest pieces."""
    pieces = {taps: -(-size // taps) for taps in (3, 4, 5)}
    return min(pieces, key=lambda taps: (pieces[taps] / (points + 1 - taps), pieces[taps]))


def supported(kernel: tuple[int, ...]) -> bool:
    """Return whether a convolution of one group without stride and dilation can be computed by Winograd's algorithm here."""
    return _tiles(kernel) is not None


def is_cut(kernel: tuple[int, ...]) -> bool:
    """Return whether a kernel lies in pieces: one of two axes, longer than a tile takes; on one axis they are cut as it lies."""
    return len(kernel) == 2 and max(kernel) >= POINTS_2D


def tiles_and_products(kernel: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of tiles over so many outputs, and their products of one channel and one unit."""
    tiles, products = 1, 1
    axes = _tiles(kernel)
    assert axes is not None
    edged = tuple(points + 1 - outputs for points, outputs in axes) in EDGED
    for taps, count, (points, outputs) in zip(kernel, counts, axes, strict=True):
        here = -(-count // outputs)
        edges = -count % outputs if edged else 0  # an output and a point less, if only such tiles make up the rest
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

    __slots__ = ("kernel", "pad", "shape", "taps")

    def __init__(self, weight: Array, pad: Pairs, *, backward: bool, groups: int = 1) -> None:
        tiles = _tiles(weight.shape[2:])
        assert tiles is not None
        self.pad = (pad[0][0] if len(pad) == 2 else 0), pad[-1][0]
        self.shape, self.taps = weight.shape, tuple(points + 1 - outputs for points, outputs in tiles)
        self.kernel = WinogradKernel(
            self._in_pieces(weight),
            [points for points, _ in tiles],
            [outputs for _, outputs in tiles],
            backward,
            groups,
        )

    def _empty_pieces(self, dtype: Any) -> Array:
        """Return memory for the pieces of all kernels."""
        sizes = zip(self.shape[2:], self.taps, strict=True)
        return empty((*self.shape[:2], *(-(-size // taps) * taps for size, taps in sizes)), dtype)

    def _in_pieces(self, weight: Array) -> Array:
        if not is_cut(self.shape[2:]):
            return weight
        pieces = self._empty_pieces(weight.dtype)
        cut_kernels(weight, pieces, self.taps)
        return pieces

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
        if not is_cut(self.shape[2:]):
            self.kernel.add_weight_gradient(x, dy, grad, *self.pad, channels_last, fresh)
            return
        sums = self._empty_pieces(grad.dtype)
        self.kernel.add_weight_gradient(x, dy, sums, *self.pad, channels_last, True)
        join_kernels(sums, grad, self.taps, not fresh)
