"""The two tasks of the long memory example: batches of sequences, and a loss that looks at the end of the output."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastrnn as fr

__all__ = ["Adding", "Array", "Copying", "Task"]

Array: TypeAlias = NDArray[Any]
Loss: TypeAlias = tuple[float, Array]

SYMBOLS, COPIED = 8, 5  # of the copy task: how many there are, and how many are to be repeated


class Adding:
    """Add the two numbers that are marked, one in each half of a sequence."""

    name, inputs, outputs, baseline = "adding problem", 2, 1, 1 / 6
    stated = "Le et al. 2015: an IRNN is comparable to an LSTM"

    def __init__(self, length: int) -> None:
        self.length = length

    def batch(self, rng: np.random.Generator, N: int) -> tuple[Array, Array]:
        """Return sequences (T, N, 2) of numbers and marks, and the sums (N, 1)."""
        T, columns = self.length, np.arange(N)
        numbers, marks = rng.random((T, N), np.float32), np.zeros((T, N), np.float32)
        places = rng.integers(0, T // 2, N), rng.integers(T // 2, T, N)
        for place in places:
            marks[place, columns] = 1
        return np.stack([numbers, marks], axis=2), (numbers * marks).sum(axis=0)[:, None]

    def loss(self, y: Array, sums: Array) -> Loss:
        """Return the mean squared error of the last output (of T, N, 1), and its gradient."""
        dy = np.zeros_like(y)
        loss, dy[-1] = fr.mse_loss(y[-1], sums)
        return loss, dy


class Copying:
    """Repeat the symbols that stood at the beginning, once a sign comes at the end."""

    name, inputs, outputs, baseline = "copy task", SYMBOLS + 2, SYMBOLS, math.log(SYMBOLS)
    stated = "no memory is 1; nothing lost is 0"

    def __init__(self, delay: int) -> None:
        self.length = COPIED + delay + COPIED

    def batch(self, rng: np.random.Generator, N: int) -> tuple[Array, Array]:
        """Return one-hot sequences (T, N, 10) of symbols, pause and sign, and the symbols (5, N)."""
        pause, sign = SYMBOLS, SYMBOLS + 1
        symbols = rng.integers(0, SYMBOLS, (COPIED, N))
        tokens = np.full((self.length, N), pause)
        tokens[:COPIED] = symbols
        tokens[-COPIED] = sign
        return np.eye(self.inputs, dtype=np.float32)[tokens], symbols

    def loss(self, y: Array, symbols: Array) -> Loss:
        """Return the cross entropy of the last five outputs (of T, N, 8), and its gradient."""
        dy = np.zeros_like(y)
        loss, dy[-COPIED:] = fr.cross_entropy(y[-COPIED:], symbols)
        return loss, dy


Task: TypeAlias = "Adding | Copying"
