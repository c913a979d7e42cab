"""Which algorithm a convolution runs by: the one place that decides.

Every convolution can run directly: as products over maps that are turned to channels last, or, with the channels first, with the
pixels in the lanes, which turns nothing but wastes lanes on short rows. Both give the same bits. Winograd's algorithm needs a
quarter of the products (3x3), and adds transforms of maps and weights, which are paid for by the number of channels that share
them.
"""

from __future__ import annotations

import math

from fastrnn._checks import choice
from fastrnn.errors import ArgumentError
from fastrnn.ops._spatial import Geometry, Three
from fastrnn.ops._winograd import supported, tiles_and_products

__all__ = ["ALGORITHMS", "check_algorithm", "is_dense", "prefers_planes", "prefers_winograd"]

ALGORITHMS = ("auto", "direct", "winograd")
#: What pays for the transforms, measured on 170 sizes (docs/performance.md): products saved, maps on each side, and pairs of
#: maps, on two axes each with the tiles of a map.
LEAST_SAVING, LEAST_MAPS, LEAST_PAIRS = 1.9, 16, 1024


def check_algorithm(name: str, algorithm: object, geometry: Geometry) -> str:
    """Return one of `ALGORITHMS`; "auto" only where there is a choice.

    Raises
    ------
    ArgumentError : unknown, or asked for where it does not apply
    """
    wish = choice(name, "algorithm", algorithm, ALGORITHMS)
    refusal = _refusal(geometry)
    if wish == "winograd" and refusal:
        raise ArgumentError(f"{name}: 'algorithm' cannot be 'winograd' here, since {refusal}")
    return "direct" if refusal else wish


def _refusal(geometry: Geometry) -> str:
    """Return why Winograd's algorithm cannot run convolutions of this geometry, or ""."""
    if geometry.border != "zeros":
        return f"padding_mode is {geometry.border!r}, not 'zeros'"
    S = geometry.S
    if S == 3 or not supported(
        geometry.kernel[3 - S :], geometry.stride[3 - S :], geometry.dilation[3 - S :], geometry.groups
    ):
        return "it takes stride 1, dilation 1, groups 1 and kernels of 3 to 5 on two axes or 3 to 16 on one"
    return ""


def prefers_winograd(algorithm: str, geometry: Geometry, C: int, K: int, counts: Three) -> bool:
    """Return whether C maps go to K of these sizes by Winograd's algorithm; never depends on the batch."""
    if algorithm != "auto":
        return algorithm == "winograd"
    S = geometry.S
    tiles, products = tiles_and_products(geometry.kernel[3 - S :], counts[3 - S :])
    saving = math.prod(counts) * math.prod(geometry.kernel) / max(products, 1)
    pairs = C * K * (tiles if S == 2 else 1)
    return saving >= LEAST_SAVING and min(C, K) >= LEAST_MAPS and pairs >= LEAST_PAIRS


def is_dense(algorithm: str, geometry: Geometry, sizes: Three) -> bool:
    """Return whether the kernels are as large as maps of these sizes: each output is then a sum over all values."""
    plain = geometry.groups == 1 and not geometry.channels_last and not any(map(any, geometry.pads))
    return algorithm != "winograd" and plain and sizes == geometry.kernel and geometry.dilation == (1, 1, 1)


#: A value turned costs as much as so many products; what a tile reads of more than 16 KB of x, or 32 KB, slows its products.
TURN_COST, FAR_COST, FARTHER_COST = 20, 1.1, 1.25


def prefers_planes(geometry: Geometry, C: int, K: int, counts: Three, lanes: int, *, backward: bool = False) -> bool:
    """Return whether the pixels should lie in the lanes where C maps go to K of these sizes, or back: then `counts` are those of x.

    The gradient of x is a convolution of the same kernel, from K maps to C, where the stride is 1.
    """
    inputs, units = C // geometry.groups, K // geometry.groups
    if geometry.channels_last or (backward and geometry.stride != (1, 1, 1)) or (inputs == 1 and geometry.groups > 1):
        return False  # one channel a group has kernels of its own
    if backward:
        inputs, units = units, inputs
    outputs, columns = math.prod(counts), counts[2]
    if math.prod(geometry.kernel) == 1 and geometry.stride == (1, 1, 1) and not any(map(any, geometry.pads)):
        columns = outputs
    taps = inputs * math.prod(geometry.kernel)
    turned = outputs * (taps * _up(units, lanes) + TURN_COST * (units + inputs * math.prod(geometry.stride)))
    bytes_read = inputs * geometry.kernel[0] * geometry.kernel[1] * 256
    slower = 1.0 if bytes_read <= 16 << 10 else FAR_COST if bytes_read <= 32 << 10 else FARTHER_COST
    return outputs // max(columns, 1) * _up(columns, lanes) * taps * units * slower < turned


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
