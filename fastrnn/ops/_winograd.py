"""Winograd convolution: which convolutions it serves, with which tiles."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._winograd import WinogradKernel

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")
# Points of the tiles along one axis, and the longest kernel of one axis that is cut into pieces.
POINTS_2D, POINTS_1D, LONGEST_1D = 6, 8, 16


def _tiles(kernel: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    """Return points and outputs of a tile for each axis, or None."""
    if len(kernel) == 2 and all(3 <= size <= 5 for size in kernel):
        return tuple((POINTS_2D, POINTS_2D + 1 - size) for size in kernel)
    if len(kernel) == 1 and 3 <= kernel[0] <= LONGEST_1D:
        pieces = {taps: -(-kernel[0] // taps) for taps in (3, 4, 5)}
        # The fewest products for one output; if equal, the fewest pieces.
        taps = min(pieces, key=lambda taps: (pieces[taps] / (POINTS_1D + 1 - taps), pieces[taps]))
        return ((POINTS_1D, POINTS_1D + 1 - taps),)
    return None


def supported(kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> bool:
    """Return whether a convolution can be computed by Winograd's algorithm here."""
    plain = groups == 1 and all(step == 1 for step in (*stride, *dilation))
    return plain and _tiles(kernel) is not None


class WinogradWeights:
    """Transformed weights: a snapshot, for the instruction set in use.

    Parameters
    ----------
    weight : ndarray (K, C, *kernel), C-contiguous, float32 or float64; `supported`
    backward : bool. Whether `backward_input` will be called.
    """

    __slots__ = ("kernel",)

    def __init__(self, weight: Array, *, backward: bool) -> None:
        tiles = _tiles(weight.shape[2:])
        assert tiles is not None
        self.kernel = WinogradKernel(
            weight, [points for points, _ in tiles], [outputs for _, outputs in tiles], backward
        )

    def forward(self, x: Array, y: Array, pad: Pairs, bias: Array | None, activation: str, channels_last: bool) -> None:
        """Write y (N, K, *counts) = activation(x (N, C, *sizes) * weight + bias), x padded with zeros."""
        self.kernel.forward(x, y, *_before(pad), bias, ACTIVATIONS.index(activation), channels_last)

    def backward_input(self, dy: Array, dx: Array, pad: Pairs, channels_last: bool) -> None:
        """Write dx (N, C, *sizes), the gradient of x, from dy (N, K, *counts)."""
        self.kernel.backward_input(dy, dx, *_before(pad), channels_last)

    def add_weight_gradient(self, x: Array, dy: Array, grad: Array, pad: Pairs, channels_last: bool) -> None:
        """Add the gradient of the weights to grad (K, C, *kernel)."""
        self.kernel.add_weight_gradient(x, dy, grad, *_before(pad), channels_last)


def _before(pad: Pairs) -> tuple[int, int]:
    return (pad[0][0] if len(pad) == 2 else 0), pad[-1][0]
