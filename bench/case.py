"""What the suites hand to the runner: cases, and for each case who computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

from numpy.typing import NDArray

from bench.roofs import Roofs

__all__ = ["OURS", "Arrays", "Case", "Contender"]

#: The name under which our own results and times stand.
OURS = "fastrnn"

#: Results by name.
Arrays: TypeAlias = dict[str, NDArray[Any]]


class Contender(NamedTuple):
    """One library's way to compute a case.

    `call` is what is timed; `results` computes the same once and returns what the gate compares. A library may have
    several ways, told apart by `variant`; the best of them counts.
    """

    library: str
    call: Callable[[], object]
    results: Callable[[], Arrays]
    variant: str = ""

    @property
    def name(self) -> str:
        """Return library and variant."""
        return f"{self.library} {self.variant}".rstrip()


class Case(Protocol):
    """One line of a table, for any number of threads."""

    @property
    def name(self) -> str:
        """Return the name, which `--rows` searches."""

    @property
    def flops(self) -> float:
        """Return the number of floating-point operations in the products."""

    def goal(self, threads: int) -> float | None:
        """Return the ratio to reach, if one is set."""

    def roof_seconds(self, roofs: Roofs, threads: int) -> float:
        """Return the least time in which this machine could do it."""

    def truth(self) -> Arrays:
        """Return the right results, in float64."""

    def contenders(self, libraries: Iterable[str], threads: int) -> Iterator[Contender]:
        """Yield our contender and those of the given libraries."""
