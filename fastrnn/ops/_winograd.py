"""Winograd convolution: which convolutions it serves, with which tiles."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._winograd import WinogradKernel

Array = NDArray[Any]
Pairs = tuple[tuple[int, int], ...]

ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")
# Kernel size -> (points, outputs) of the tiles along one axis.
TILES_2D = {3: (6, 4), 4: (6, 3), 5: (6, 2)}
TILES_1D = {3: (8, 6), 4: (8, 5), 5: (8, 4)}


def _tiles(kernel: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    if len(kernel) == 2:
        if all(size in TILES_2D for size in kernel):
            return tuple(TILES_2D[size] for size in kernel)
    elif len(kernel) == 1 and 3 <= kernel[0] <= 16:
        return (TILES_1D.get(kernel[0], TILES_1D[3 if kernel[0] % 3 == 0 else 4 if kernel[0] % 4 == 0 else 5]),)
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
