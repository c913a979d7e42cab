"""Which algorithm a convolution runs by: the one place that decides.

Every convolution can run directly. Winograd's algorithm needs a quarter of the products (3x3), and adds transforms of maps and
weights, which are paid for by the number of channels that share them.
"""

from __future__ import annotations

import math

from fastrnn._checks import choice
from fastrnn.errors import ArgumentError
from fastrnn.ops._spatial import Geometry, Three
from fastrnn.ops._winograd import supported

__all__ = ["ALGORITHMS", "check_algorithm", "prefers_winograd"]

ALGORITHMS = ("auto", "direct", "winograd")
#: Below these a transform is not paid for; docs/performance.md has the measurements.
LEAST_CHANNELS, LEAST_UNITS, LEAST_OUTPUTS = 16, 16, 3


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
    least = min(counts[3 - geometry.S :])
    return C >= LEAST_CHANNELS and K >= LEAST_UNITS and least >= LEAST_OUTPUTS and math.prod(counts) >= 9
