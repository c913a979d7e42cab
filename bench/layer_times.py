"""Where the time of a training step goes: forward and backward of each layer, and the other parts of the step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import fastrnn as fr
from bench.bench_models import DROPOUT, ModelProblem, our_step
from bench.report import format_table

__all__ = ["layer_times"]

Clock = Callable[[], float]


class _Watch:
    """Seconds of one step by (row, column)."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: dict[tuple[str, str], float] = {}

    def timed(self, row: str, column: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call, and add the time it takes."""
        start = self.clock()
        try:
            return call(*args, **options)
        finally:
            key = row, column
            self.seconds[key] = self.seconds.get(key, 0.0) + self.clock() - start


def layer_times(problem: ModelProblem, rounds: int, clock: Clock = time.perf_counter) -> str:
    """Return a table of the milliseconds of each layer in a training step, medians over rounds.

    What the containers do themselves, such as adding up the gradients of branches, stands under "containers".
    """
    model, watch = problem.model(DROPOUT), _Watch(clock)
    kinds: dict[str, str] = {}
    for prefix, layer in list(model._all_layers()):
        name = prefix.rstrip(".")
        if not any(layer._children()) and name not in kinds:
            kinds[name] = type(layer).__name__
            layer.__class__ = _watched(type(layer), name, watch)
    parts = our_step(problem, model)
    steps: list[dict[tuple[str, str], float]] = []
    for _ in range(rounds + 1):
        watch.seconds = {}
        for part, call in parts:
            watch.timed(part, "step", call)
        steps.append(watch.seconds)
    return _table(kinds, steps[1:])  # the first one warms up


def _watched(kind: type[fr.Layer], name: str, watch: _Watch) -> type[fr.Layer]:
    """Return a subclass of `kind` whose `forward` and pullbacks are timed."""

    def forward(self: fr.Layer, *args: Any, **options: Any) -> Any:
        result, pull = watch.timed(name, "forward", kind.forward, self, *args, **options)
        return result, lambda *gradients: watch.timed(name, "backward", pull, *gradients)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _table(kinds: dict[str, str], steps: Sequence[dict[tuple[str, str], float]]) -> str:
    def middle(row: str, column: str) -> float:
        return median(step.get((row, column), 0.0) for step in steps)

    whole = median(sum(seconds for (_, column), seconds in step.items() if column == "step") for step in steps)
    rows = [(f"{name} {kind}", middle(name, "forward"), middle(name, "backward")) for name, kind in kinds.items()]
    inside = [sum(row[1] for row in rows), sum(row[2] for row in rows)]
    rows.append(("containers", middle("forward", "step") - inside[0], middle("backward", "step") - inside[1]))
    rows += [(part, middle(part, "step"), 0.0) for part in ("loss", "clip", "Adam", "zero_grad")]
    rows.append(("step", whole, 0.0))
    cells = [
        (name, f"{1e3 * forth:.3f}", f"{1e3 * back:.3f}" if back else "", f"{100 * (forth + back) / whole:.0f}")
        for name, forth, back in rows
    ]
    return format_table(("layer or part", "forward ms", "backward ms", "% of step"), cells)
