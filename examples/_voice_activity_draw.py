"""Picture of a sound and of what was heard in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _voice_activity_signal import HOP, RATE, FloatArray

__all__ = ["draw_speech"]

LONGEST = 30  # seconds in the picture


def draw_speech(path: Path, signal: FloatArray, probabilities: FloatArray, truth: FloatArray | None) -> str:
    """Draw the beginning of a signal, its spectrum, the probabilities and the truth; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "speech not drawn: matplotlib is not installed"
    frames = min(len(probabilities), LONGEST * RATE // HOP)
    signal, seconds = signal[: frames * HOP], [frame * HOP / RATE for frame in range(frames)]
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes: Any = figure.subplots(3, sharex=True)
    wave, spectrum, speech = axes
    wave.plot([sample / RATE for sample in range(len(signal))], signal, linewidth=0.4)
    wave.set(ylabel="sound")
    spectrum.specgram(signal + 1e-6, NFFT=256, Fs=RATE, noverlap=128, cmap="magma")  # silence has no logarithm
    spectrum.set(ylabel="Hz")
    if truth is not None:
        speech.fill_between(seconds, truth[:frames], step="post", alpha=0.3, label="somebody speaks")
    speech.plot(seconds, probabilities[:frames], linewidth=1, label="probability")
    speech.set(xlabel="seconds", ylim=(-0.05, 1.05), xlim=(0, frames * HOP / RATE))
    speech.legend(loc="upper right")
    figure.savefig(path, dpi=100)
    return f"picture: {path}"
