"""The picture of the character language model: its loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from _char_lm_run import Point

__all__ = ["plot_curves"]


def plot_curves(path: Path, curves: Mapping[str, Sequence[Point]], token: str) -> str:
    """Draw curves of bits per token against seconds and tokens; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "loss curve skipped: matplotlib is not installed"
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_time, by_tokens = figure.subplots(1, 2, sharey=True)
    for name, points in curves.items():
        marker = "o" if len(points) < 20 else ""
        bits = [point[2] for point in points]
        by_time.plot([point[0] for point in points], bits, label=name, marker=marker)
        by_tokens.plot([point[1] / 1e6 for point in points], bits, label=name, marker=marker)
    by_time.set(xlabel="seconds", ylabel=f"bits per {token}")
    by_tokens.set(xlabel=f"million {token}s")
    for axes in (by_time, by_tokens):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    return f"loss curve: {path}"
