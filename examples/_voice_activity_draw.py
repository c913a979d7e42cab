"""Picture of a sound and of what was heard in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _voice_activity_signal import BANDS, HOP, RATE, FloatArray, features

__all__ = ["draw_speech"]

LONGEST = 30  # seconds in the picture


def draw_speech(path: Path, signal: FloatArray, probabilities: FloatArray, truth: FloatArray | None) -> str:
    """Draw the beginning of a signal, its features, the probabilities and the truth; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "speech not drawn: matplotlib is not installed"
    frames = min(len(probabilities), LONGEST * RATE // HOP)
    signal, seconds = signal[: frames * HOP], [frame * HOP / RATE for frame in range(frames)]
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes: Any = figure.subplots(3, sharex=True)
    wave, energies, speech = axes
    wave.plot([sample / RATE for sample in range(len(signal))], signal, linewidth=0.4)
    wave.set(ylabel="sound")
    extent = (0, frames * HOP / RATE, 0, BANDS)
    energies.imshow(features(signal).T, cmap="magma", origin="lower", aspect="auto", extent=extent)
    energies.set(ylabel="log energy by mel band")
    if truth is not None:
        speech.fill_between(seconds, truth[:frames], step="post", alpha=0.3, label="somebody speaks")
    speech.plot(seconds, probabilities[:frames], "C1", linewidth=1.2, label="probability")
    speech.set(xlabel="seconds", ylim=(-0.05, 1.05), xlim=(0, frames * HOP / RATE))
    figure.legend(loc="outside lower right", ncols=2)
    figure.savefig(path, dpi=100)
    return f"picture: {path}"
