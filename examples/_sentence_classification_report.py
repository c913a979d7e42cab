"""What a comparison of classifiers came to: a table, a file, a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Result", "report"]


class Result(NamedTuple):
    """What training came to: accuracies on the development part by epoch, on the test part in the best, and the time."""

    development: list[float]
    test: float
    seconds: float

    @property
    def epoch(self) -> int:
        """The epoch that was best on the development part, from 1."""
        return self.development.index(max(self.development)) + 1


def report(results: Mapping[str, Result], out: str) -> None:
    """Print a table of the results, and write them to files in `out`."""
    print(f"{'model':20}{'test':>8}{'best epoch':>12}{'training':>12}")
    for title, result in results.items():
        print(f"{title:20}{result.test:>8.1%}{result.epoch:>12}{result.seconds:>10.1f} s")
    if "cnn" in results:
        print(f"cnn: {results['cnn'].test:.1%}; Kim 2014 reports 76.1% for random vectors on movie reviews (MR)")
    record = {title: {**result._asdict(), "epoch": result.epoch} for title, result in results.items()}
    (Path(out) / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(plot(Path(out) / "accuracy.png", {title: result.development for title, result in results.items()}))


def plot(path: Path, curves: Mapping[str, Sequence[float]]) -> str:
    """Draw accuracies by epoch; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return "curves skipped: matplotlib is not installed"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(name.split()[0] for name in curves))
    for name, values in curves.items():
        colour, style = f"C{models.index(name.split()[0])}", "--" if "PyTorch" in name else "-"
        axes.plot(range(1, len(values) + 1), values, style, color=colour, label=name, marker=".")
    axes.set(xlabel="epoch", ylabel="accuracy on the development part")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)
    return f"accuracy by epoch: {path}"
