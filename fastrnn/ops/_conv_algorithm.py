"""Which algorithm a convolution runs by: the one place that decides.

Every convolution can run directly. A provider of another algorithm says where it applies and where it is faster.
"""

from __future__ import annotations

from typing import Protocol

from fastrnn._checks import choice
from fastrnn.errors import ArgumentError
from fastrnn.ops._spatial import Geometry

__all__ = ["ALGORITHMS", "Provider", "choose", "register"]

ALGORITHMS = ("auto", "direct", "winograd")


class Provider(Protocol):
    """An algorithm beside the direct one."""

    def refuses(self, geometry: Geometry) -> str:
        """Return why it cannot run convolutions of this geometry, for a message, or ""."""

    def is_faster(self, geometry: Geometry) -> bool:
        """Return whether to use it where the caller has no wish; only asked where it can run."""


_providers: dict[str, Provider] = {}


def register(algorithm: str, provider: Provider) -> None:
    """Make an algorithm known under its name in `ALGORITHMS`."""
    _providers[algorithm] = provider


def choose(name: str, algorithm: object, geometry: Geometry) -> str:
    """Return "direct" or the name of a registered algorithm.

    Raises
    ------
    ArgumentError : unknown, or asked for where it does not apply
    """
    wish = choice(name, "algorithm", algorithm, ALGORITHMS)
    if wish == "direct":
        return wish
    provider = _providers.get("winograd")
    refusal = "it is not part of this build" if provider is None else provider.refuses(geometry)
    if wish == "winograd" and refusal:
        raise ArgumentError(f"{name}: 'algorithm' cannot be 'winograd' here, since {refusal}")
    if wish == "winograd" or (provider is not None and not refusal and provider.is_faster(geometry)):
        return "winograd"
    return "direct"
