"""The results: what is kept of a run, as a table for people and as JSON for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.case import OURS
from bench.measure import Timing

__all__ = ["SCHEMA", "Report", "Result", "format_table"]

#: Number of the JSON layout; a reader refuses any other.
SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """One case with one number of threads.

    `timings` and `errors` go by contender, a library or one of its variants ("torch packed"); errors are the largest of
    each against the reference, relative to the largest right value. A result with a `problem` has no timings.
    """

    case: str
    threads: int
    flops: float
    roof_seconds: float | None = None
    goal: float | None = None
    timings: dict[str, Timing] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    problem: str = ""

    def seconds(self, library: str) -> float | None:
        """Return the median of a library's best contender."""
        medians = [timing.median for name, timing in self.timings.items() if name.split(" ")[0] == library]
        return min(medians, default=None)

    @property
    def best_peer(self) -> str | None:
        """Return the name of the fastest contender that is not ours."""
        peers = {name: timing.median for name, timing in self.timings.items() if name != OURS}
        return min(peers, key=peers.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """Return the best peer's time divided by ours."""
        if self.best_peer is None:
            return None
        return self.timings[self.best_peer].median / self.timings[OURS].median


@dataclass(frozen=True)
class Report:
    """A run of one suite."""

    suite: str
    machine: dict[str, str]
    settings: dict[str, Any]
    roofs: dict[str, float]
    results: list[Result]

    @property
    def failed(self) -> bool:
        """Return whether any case has a problem."""
        return any(result.problem for result in self.results)

    def libraries(self) -> list[str]:
        """Return the peers that were measured, in the order of the settings."""
        measured = {name.split(" ")[0] for result in self.results for name in result.timings}
        return [name for name in self.settings["peers"] if name in measured]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report that `to_json` wrote.

        Raises
        ------
        ValueError
            Not JSON, or of another layout.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a report of layout {SCHEMA}")
        results = []
        for result in values.pop("results"):
            timings = {name: Timing(**timing) for name, timing in result.pop("timings").items()}
            results.append(Result(**result, timings=timings))
        return cls(**values, results=results)

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(self.to_json() + "\n")

    def text(self) -> str:
        """Return everything as text: the machine, the roofs, and a Markdown table for each number of threads."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (f"{key}: {value}" for key, value in self.machine.items())
        yield from (f"roof, {name}: {value / 1e9:.1f} {_unit(name)}" for name, value in self.roofs.items())
        libraries = self.libraries()
        ours = ["ours ms", "+-%", "GFLOP/s", "% of roof"]
        header = ["case", *ours, *(f"{name} ms" for name in libraries), "ratio", "goal"]
        for threads in sorted({result.threads for result in self.results}):
            yield f"\n{threads} thread{'s' * (threads > 1)}; ratio = best peer / ours\n"
            good = [result for result in self.results if result.threads == threads and not result.problem]
            yield format_table(header, [_cells(result, libraries) for result in good])
        for result in self.results:
            if result.problem:
                yield f"\nERROR {result.case}, {result.threads} thread{'s' * (result.threads > 1)}: {result.problem}"


def _unit(roof: str) -> str:
    return "GFLOP/s per core" if roof == "multiply-add" else "GB/s per core"


def _cells(result: Result, libraries: Iterable[str]) -> list[str]:
    ours = result.timings[OURS]
    roof = "" if result.roof_seconds is None else f"{100 * result.roof_seconds / ours.median:.0f}"
    goal = ""
    if result.goal is not None and result.ratio is not None:
        goal = f"{result.goal:g} {'met' if result.ratio >= result.goal else 'missed'}"
    return [
        result.case,
        _milliseconds(ours.median),
        f"{100 * ours.spread:.0f}",
        f"{result.flops / ours.median / 1e9:.1f}",
        roof,
        *(_milliseconds(result.seconds(library)) for library in libraries),
        "" if result.ratio is None else f"{result.ratio:.2f}",
        goal,
    ]


def _milliseconds(seconds: float | None) -> str:
    """Return four significant digits, as far as they are before the point or up to four places after it."""
    if seconds is None:
        return ""
    value = 1e3 * seconds
    places = next((places for places, limit in ((4, 1), (3, 10), (2, 100)) if value < limit), 1)
    return f"{value:.{places}f}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns, the first to the left and all others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])
