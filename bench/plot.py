"""A report as a picture: for each case how many times faster than the best peer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from bench.report import Report, Result

__all__ = ["plot_report"]


def plot_report(report: Report, path: Path) -> None:
    """Draw the ratios of all cases as bars, one panel for each number of threads, the goals as marks.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    figure_module: Any = importlib.import_module("matplotlib.figure")
    by_threads: dict[int, list[Result]] = {}
    for result in report.results:
        if result.ratio is not None:
            by_threads.setdefault(result.threads, []).append(result)
    rows = max((len(results) for results in by_threads.values()), default=1)
    panels = max(1, len(by_threads))
    figure = figure_module.Figure(figsize=(4 + 4 * panels, 1.5 + 0.25 * rows), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axis, (threads, results) in zip(axes, sorted(by_threads.items()), strict=False):
        _panel(axis, results)
        axis.set_title(f"{threads} thread{'s' * (threads > 1)}")
    axes[0].invert_yaxis()  # shared by all panels: the first row on top
    machine = f"{report.machine['cpu']}, {report.machine['isa']}"
    figure.suptitle(f"{report.suite}: best peer's time / ours, goals as marks ({machine})")
    figure.savefig(path, dpi=150)


def _panel(axis: Any, results: list[Result]) -> None:
    ratios = {result.case: result.ratio for result in results if result.ratio is not None}
    colors = ["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios.values()]
    axis.barh(list(ratios), [ratio - 1 for ratio in ratios.values()], left=1, color=colors)
    goals = [(result.goal, result.case) for result in results if result.goal is not None]
    if goals:
        axis.plot(*zip(*goals, strict=True), "k|", markersize=9)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
