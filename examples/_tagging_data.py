"""Syllables spoken by a synthetic voice: the sound, its spectrum in frames, and what is spoken in each frame."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BANDS", "LABELS", "Array", "Batch", "Utterance", "pad", "speak"]

Array: TypeAlias = NDArray[Any]

RATE, HOP, WINDOW = 8000, 80, 256  # samples a second, from frame to frame (10 ms), in a frame
BANDS = 20  # of the spectrum
LABELS = ("pause", "s", "m", "a", "e", "i", "o", "u")
VOWELS = "aeiou"

# Resonances of the vocal tract in Hz, rounded from the men's means of Peterson & Barney 1952; m is a murmur.
FORMANTS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "m": (250, 1100, 2200),
}
BANDWIDTH = 110.0  # of a resonance, Hz
GLIDE = 9  # frames over which the tract moves from one sound to the next
VOICING = {"pause": 0.0, "s": 0.0, "m": 0.5}  # loudness of the voice; of vowels 1
NOISE = 0.15  # standard deviation of the noise of the room


class Utterance(NamedTuple):
    """Features (T, BANDS) and labels (T,) of the frames of a few syllables."""

    x: Array
    y: Array


class Batch(NamedTuple):
    """Utterances side by side: features (T, N, BANDS), labels (T, N) with -1 after the end, lengths (N,)."""

    x: Array
    y: Array
    lengths: Array


def speak(rng: np.random.Generator) -> Utterance:
    """Return three to six syllables by a voice of its own, such as "sa mi pause o", each a vowel and what is before it.

    The size of the speaker shifts all resonances, and the tract glides from sound to sound: what a frame is depends on
    the frames before and after it.
    """
    sounds: list[str] = []
    for _ in range(rng.integers(3, 7)):
        before = rng.choice(["", "pause", "s", "m"])
        sounds += [before] * int(rng.integers(4, 10)) if before else []
        sounds += [str(rng.choice(list(VOWELS)))] * int(rng.integers(6, 16))
    y = np.array([LABELS.index(sound) for sound in sounds])
    spectrum = _frames(_sound(sounds, rng))
    return Utterance(((spectrum - 1.0) / 2.0).astype(np.float32), y)


def _sound(sounds: list[str], rng: np.random.Generator) -> Array:
    """Return samples, HOP for each frame: harmonics of a voice, shaped by resonances, and noise."""
    T, size, pitch = len(sounds), rng.uniform(0.82, 1.22), rng.uniform(90, 240)
    tract = np.array([FORMANTS.get(sound, (500, 1500, 2500)) for sound in sounds]) * size
    tract = np.stack([_smooth(track, GLIDE) for track in tract.T], 1)
    voice = _smooth(np.array([VOICING.get(sound, 1.0) for sound in sounds]), 3)
    hiss = _smooth(np.array([float(sound == "s") for sound in sounds]), 3)

    harmonics = np.arange(1, int(RATE / 2 / pitch))
    distance = (harmonics * pitch)[:, None, None] - tract
    loudness = voice * (1 / (1 + (distance / BANDWIDTH) ** 2)).sum(-1) / np.sqrt(harmonics)[:, None]
    time = np.arange(T * HOP) / RATE
    wobble = pitch * (time + 0.002 * np.sin(2 * np.pi * rng.uniform(3, 6) * time))
    voiced = (np.repeat(loudness, HOP, axis=1) * np.sin(2 * np.pi * harmonics[:, None] * wobble)).sum(0)
    noise = rng.standard_normal(T * HOP + 1)
    return np.asarray(voiced + np.repeat(hiss, HOP) * np.diff(noise) * 0.5 + NOISE * noise[1:])


def _smooth(track: Array, frames: int) -> Array:
    """Return the mean over `frames` around each frame."""
    padded = np.pad(track, frames // 2, mode="edge")
    return np.convolve(padded, np.full(frames, 1 / frames), mode="valid")


def _frames(samples: Array) -> Array:
    """Return the logarithm of the energy in BANDS bands, which grow wider towards high frequencies, of each frame."""
    padded = np.pad(samples, (WINDOW - HOP) // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    edges = np.geomspace(8, power.shape[1] + 8, BANDS + 1).astype(int) - 8
    return np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-3)


def pad(utterances: list[Utterance]) -> Batch:
    """Return utterances of different lengths side by side."""
    lengths = np.array([len(each.y) for each in utterances])
    shape = (lengths.max(), len(utterances))
    x, y = np.zeros((*shape, BANDS), np.float32), np.full(shape, -1)
    for n, each in enumerate(utterances):
        x[: lengths[n], n], y[: lengths[n], n] = each
    return Batch(x, y, lengths)
