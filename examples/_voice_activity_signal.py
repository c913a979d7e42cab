"""Sound for voice activity detection: speech-like sound in noise made from scratch, WAV files, and features of frames."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from _command_line import InputError
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

__all__ = ["BANDS", "HOP", "RATE", "FeatureStream", "features", "read_wav", "recording", "write_wav"]

FloatArray: TypeAlias = NDArray[Any]

RATE = 8000  # samples a second, as on the telephone
HOP = RATE // 100  # samples of a frame: 10 ms
WINDOW = 256  # samples that a frame's features look back on
BANDS = 24

# Resonances of the throat in Hz for a, e, i, o, u: textbook values, rounded. Speakers differ by a factor.
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
BANDWIDTHS = (60, 90, 150)  # of these resonances in Hz


# Features


def _mel_filters() -> FloatArray:
    """Return the triangles (WINDOW // 2 + 1, BANDS) that add up a spectrum in bands as wide as the ear's."""
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)  # O'Shaughnessy's formula
    edges = 700 * (10 ** (mels / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    x = frequencies[:, None]
    rising, falling = (x - low) / (middle - low), (high - x) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


_FILTERS = _mel_filters()
_HANN = np.hanning(WINDOW).astype(np.float32)


def _log_energies(windows: FloatArray) -> FloatArray:
    """Return the logarithm of the energy in each band (..., BANDS) of windows (..., WINDOW)."""
    spectra = np.abs(np.fft.rfft(windows * _HANN)).astype(np.float32)
    energies: FloatArray = np.log(spectra**2 @ _FILTERS + 1e-6)  # the constant: far below what 16 bits can tell from 0
    return energies


def features(signal: FloatArray) -> FloatArray:
    """Return the features (T, BANDS) of all whole frames of a signal, each of the WINDOW samples up to its end."""
    T = len(signal) // HOP
    padded = np.concatenate([np.zeros(WINDOW - HOP, np.float32), signal[: T * HOP]])
    return _log_energies(np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP])


class FeatureStream:
    """The same features frame by frame."""

    def __init__(self) -> None:
        self._window = np.zeros(WINDOW, np.float32)

    def step(self, frame: FloatArray) -> FloatArray:
        """Return the features (BANDS,) of the next HOP samples."""
        self._window[:-HOP] = self._window[HOP:]
        self._window[-HOP:] = frame
        return _log_energies(self._window)


# Made sound


def recording(seconds: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return a signal in -1..1 and for each frame of HOP samples whether somebody speaks, 0 or 1."""
    T = max(1, round(seconds * RATE / HOP))
    speech, speaks = np.zeros(T * HOP), np.zeros(T, np.float32)
    end = int(rng.integers(0, 150))
    while end < T:
        spoken = _utterance(rng)
        frames = min(len(spoken) // HOP, T - end)
        speech[end * HOP : (end + frames) * HOP] = spoken[: frames * HOP]
        speaks[end : end + frames] = 1
        end += frames + int(rng.integers(30, 300))
    loudness = np.sqrt(np.mean(speech**2) / max(speaks.mean(), 1e-3)) or 1.0
    noise = _noise(T * HOP, rng)
    ratio = 10 ** (rng.uniform(0, 20) / 20)  # speech over noise: 0 to 20 decibels
    mixed = speech / loudness + noise / np.sqrt(np.mean(noise**2)) / ratio
    peak = 10 ** (rng.uniform(-20, -1) / 20)
    return (mixed * (peak / np.abs(mixed).max())).astype(np.float32), speaks


def _utterance(rng: np.random.Generator) -> FloatArray:
    """Return some syllables of one voice."""
    pitch, size = rng.uniform(85, 260), rng.uniform(0.9, 1.2)
    syllables = []
    for _ in range(rng.integers(2, 12)):
        if rng.random() < 0.6:
            syllables.append(_hiss(rng))
        syllables.append(_vowel(pitch * rng.uniform(0.85, 1.15), size, rng))
        pitch *= 0.98  # the voice falls towards the end of a sentence
    return np.concatenate(syllables)


def _vowel(pitch: float, size: float, rng: np.random.Generator) -> FloatArray:
    """Return a buzz as from vocal cords, filtered by the resonances of a vowel."""
    count = int(rng.uniform(0.08, 0.22) * RATE)
    glide = pitch * np.linspace(1, rng.uniform(0.9, 1.1), count)
    sound = np.cumsum(glide) / RATE % 1 - 0.5 + 0.02 * rng.standard_normal(count)
    for frequency, width in zip(VOWELS[rng.integers(len(VOWELS))], BANDWIDTHS, strict=True):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * min(frequency * size, 0.45 * RATE) / RATE
        sound = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
    sound *= np.sin(np.linspace(0, np.pi, count)) ** 0.5
    return np.asarray(sound / np.sqrt(np.mean(sound**2)) * rng.uniform(0.6, 1))


def _hiss(rng: np.random.Generator) -> FloatArray:
    """Return a consonant such as s or f: noise without its low frequencies."""
    count = int(rng.uniform(0.04, 0.1) * RATE)
    return np.diff(rng.standard_normal(count + 1)) * np.hanning(count) * rng.uniform(0.05, 0.3)


def _noise(count: int, rng: np.random.Generator) -> FloatArray:
    """Return rushing, humming, beeps and knocks, each now and then."""
    time = np.arange(count) / RATE
    rush = lfilter([1], [1, -rng.uniform(0, 0.97)], rng.standard_normal(count))
    swell = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.05, 0.5) * time + rng.uniform(0, 6))
    noise: FloatArray = rush / rush.std() * swell
    if rng.random() < 0.5:
        hum = sum(np.sin(2 * np.pi * 50 * k * time + rng.uniform(0, 6)) / k for k in range(1, 8))
        noise += rng.uniform(0, 1.5) * hum
    for _ in range(rng.poisson(count / RATE / 4)):  # one in four seconds
        start, length = rng.integers(count), int(rng.uniform(0.05, 0.8) * RATE)
        span = time[: min(length, count - start)]
        beep = np.sin(2 * np.pi * rng.uniform(300, 3000) * span)
        knock = rng.standard_normal(len(span)) * np.exp(-span / 0.03) * 3
        noise[start : start + len(span)] += rng.uniform(1, 4) * (beep if rng.random() < 0.5 else knock)
    return noise


# Files


def read_wav(path: str) -> FloatArray:
    """Return the sound of a 16-bit WAV file, all channels mixed, at RATE."""
    try:
        with wave.open(path, "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            content = file.readframes(file.getnframes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (EOFError, wave.Error) as error:
        raise InputError(f"cannot read {path}: it is not a WAV file{f', {error}' if str(error) else ''}") from error
    if width != 2:
        raise InputError(f"{path} must have 16 bits a sample, it has {8 * width}")
    sound = np.frombuffer(content[: len(content) // (2 * channels) * (2 * channels)], "<i2").reshape(-1, channels)
    signal = resample_poly(sound.mean(1) / 2**15, RATE, rate).astype(np.float32)
    if len(signal) < HOP:
        raise InputError(f"{path} is shorter than a frame of {1000 * HOP // RATE} ms")
    return np.asarray(signal)


def write_wav(path: Path, signal: FloatArray) -> None:
    """Write a signal in -1..1 as a 16-bit WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((signal * (2**15 - 1)).astype("<i2").tobytes())
