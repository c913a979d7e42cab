"""Frames of sound for training, their features scaled; the classic detector; what was heard as spans of time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from _voice_activity_signal import HOP, RATE, FeatureStream, FloatArray, features, recording

__all__ = ["Ears", "Frames", "Scale", "energy_accuracy", "make_frames", "spans"]


class Frames(NamedTuple):
    """Features (N, T, BANDS) of recordings, and whether somebody speaks (N, T)."""

    x: FloatArray
    speaks: FloatArray


class Scale(NamedTuple):
    """Mean and spread of each feature in training."""

    mean: FloatArray
    spread: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return features with mean 0 and spread 1."""
        return (x - self.mean) / self.spread


class Ears:
    """The features of a live signal, scaled."""

    def __init__(self, scale: Scale) -> None:
        self._stream, self._scale = FeatureStream(), scale

    def __call__(self, frame: FloatArray) -> FloatArray:
        """Return the features (BANDS,) of the next frame, HOP samples."""
        return self._scale(self._stream.step(frame))


def make_frames(recordings: int, rng: np.random.Generator, seconds: float = 10.0) -> Frames:
    """Return made recordings as features."""
    made = [recording(seconds, rng) for _ in range(recordings)]
    return Frames(np.stack([features(signal) for signal, _ in made]), np.stack([speaks for _, speaks in made]))


def energy_accuracy(training: Frames, test: Frames) -> float:
    """Return the part of all frames that the best threshold on the energy labels rightly."""
    heard, tested = (np.logaddexp.reduce(data.x, axis=-1) for data in (training, test))
    thresholds = np.quantile(heard, np.linspace(0, 1, 200))
    best = max(thresholds, key=lambda threshold: np.mean((heard > threshold) == training.speaks))
    return float(np.mean((tested > best) == test.speaks))


def spans(speaks: FloatArray) -> list[tuple[float, float]]:
    """Return from when to when somebody speaks, in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], speaks, [0]])))
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2) * (HOP / RATE)]
