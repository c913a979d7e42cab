"""The picture of the long memory example: learning curves, and gradient norms by time step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["plot"]


STYLES = {"clipped": "-", "not clipped": ":"}


class Drawn(Protocol):
    """What is drawn of one network."""

    kind: str
    clipped: bool
    curve: list[tuple[int, float]]
    before: Any
    after: Any


def plot(path: Path, results: Mapping[str, Sequence[Drawn]]) -> str:
    """Draw a row for each task; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError:
        return "picture skipped: matplotlib is not installed"
    figure = Figure(figsize=(15, 4.5 * len(results)), layout="constrained")
    rows = figure.subplots(len(results), 3, squeeze=False)
    colours: dict[str, str] = {}
    for (learning, before, after), (task, networks) in zip(rows, results.items(), strict=True):
        learning.axhline(1, color="grey", linewidth=0.8)
        for network in networks:
            colour = colours.setdefault(network.kind, f"C{len(colours)}")
            style = {"color": colour, "linestyle": STYLES["clipped" if network.clipped else "not clipped"]}
            if network.curve:
                learning.plot(*zip(*network.curve, strict=True), **style)
            draw_norms(after, network.after, style)
            if network.clipped:  # without clipping it starts the same
                draw_norms(before, network.before, style)
        learning.set(
            title=f"{task}: learning", xlabel="batches", ylabel="loss / loss without memory", ylim=(-0.05, 1.5)
        )
        before.set(title=f"{task}: gradient before training", ylabel="|dL/dh| / its largest")
        after.set(title=f"{task}: gradient after training", ylabel="|dL/dh| / its largest")
        for axes in (before, after):
            axes.set(xlabel="time step", yscale="log", ylim=(1e-12, 3))
        for axes in (learning, before, after):
            axes.grid(alpha=0.3)
    lines = [Line2D([], [], color=colour, label=kind) for kind, colour in colours.items()]
    lines += [Line2D([], [], color="grey", linestyle=style, label=label) for label, style in STYLES.items()]
    figure.legend(handles=lines, loc="outside right center")
    figure.savefig(path, dpi=110)
    return f"curves and gradients: {path}"


def draw_norms(axes: Any, norms: Any, style: Mapping[str, str]) -> None:
    """Draw the norms of one network as parts of the largest; zeros have no place on a logarithmic scale."""
    if len(norms):
        axes.plot(np.where(norms > 0, norms / norms.max(), np.nan), **style)
