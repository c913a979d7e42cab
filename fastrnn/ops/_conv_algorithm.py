"""Which algorithm a convolution runs by: the one place that decides.

Every convolution can run directly. Winograd's algorithm needs a quarter of the products (3x3), and adds transforms of maps and
weights, which are paid for by the number of channels that share them.
"""

from __future__ import annotations

import math

from fastrnn._checks import choice
from fastrnn.errors import ArgumentError
from fastrnn.ops._spatial import Geometry, Three
from fastrnn.ops._winograd import supported, tiles_and_products

__all__ = ["ALGORITHMS", "check_algorithm", "prefers_winograd"]

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
