"""What the machine can do at best, measured: multiply-adds, reads and copies, on one core.

No single program reaches a roof everywhere, so each roof is the best that any of several programs reached:

- multiply-adds: square products of several sizes by NumPy's BLAS and by `fastrnn.Linear`;
- copies between two buffers, by NumPy;
- reads of a buffer that lies in one level of the memory: BLAS dot products of its two halves, a search for a byte that
  is not there (the C library's vectorised memchr), and `fastrnn.Linear` applied to one row, which reads every weight
  once. Small buffers are read many times in one call of the first, so that the call costs nothing.

Such a roof can be too low, never too high: a fraction near 100% says that nothing better is known here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import fastrnn as fr
from bench.measure import repeats_for, sample

__all__ = ["Roofs", "cache_sizes"]

KB, MB = 1024, 1024**2
SQUARES = (192, 256, 384, 512, 768)
LEVELS = ("L1", "L2", "L3", "DRAM")
# Where the system does not tell: small enough to be inside the level almost everywhere.
USUAL_CACHES = {"L1": 32 * KB, "L2": 512 * KB, "L3": 16 * MB}
LARGEST_BUFFER = 512 * MB
ONE_CALL = 4 * MB  # bytes to read in one call, at some 100 GB/s a hundred times what the call costs


class Roofs:
    """Roofs of one core, measured when they are first asked for.

    Parameters
    ----------
    least : float
        Seconds of one sample.
    rounds : int
        Samples, of which the best counts.
    """

    def __init__(self, least: float = 0.01, rounds: int = 7) -> None:
        self._least = least
        self._rounds = rounds
        self._flops: float | None = None
        self._reads: dict[int, float] = {}
        self._copies: dict[int, float] = {}

    @property
    def flops(self) -> float:
        """Return the peak of one core in floating-point operations per second; a multiply-add is two."""
        if self._flops is None:
            with _one_thread():
                self._flops = max(2 * n**3 / self._seconds(call) for n in SQUARES for call in _products(n))
        return self._flops

    def read(self, size: float) -> float:
        """Return the bytes per second at which one core reads a buffer again and again.

        Measured for the power of two nearest to `size` bytes, from 4 KB to 512 MB.
        """
        whole = max(4 * KB, min(LARGEST_BUFFER, 1 << round(math.log2(max(size, 1)))))
        if whole not in self._reads:
            with _one_thread():
                self._reads[whole] = max(self._read_rates(whole))
        return self._reads[whole]

    def copy(self, size: float) -> float:
        """Return the bytes per second, those read and those written, at which one core copies `size` bytes again and again.

        Measured for the power of two nearest to `size` bytes, from 4 KB to 512 MB.
        """
        whole = max(4 * KB, min(LARGEST_BUFFER, 1 << round(math.log2(max(size, 1)))))
        if whole not in self._copies:
            source, target = np.ones(whole, np.uint8), np.ones(whole, np.uint8)
            with _one_thread():
                self._copies[whole] = 2 * whole / self._seconds(partial(np.copyto, target, source))
        return self._copies[whole]

    def levels(self) -> dict[str, float]:
        """Return the read roof of each level of the memory, in bytes per second."""
        caches = cache_sizes()
        sizes = {
            "L1": caches["L1"] // 2,
            "L2": caches["L2"] // 2,
            "L3": max(4 * caches["L2"], min(caches["L3"] // 2, 16 * MB)),
            "DRAM": max(256 * MB, 4 * caches["L3"]),
        }
        return {level: self.read(sizes[level]) for level in LEVELS}

    def _seconds(self, call: Callable[[], object]) -> float:
        repeats = repeats_for(call, self._least)
        return min(sample(call, repeats, time.perf_counter) for _ in range(self._rounds))

    def _read_rates(self, size: int) -> Iterator[float]:
        for call, total in _readers(size):
            yield total / self._seconds(call)


def _products(n: int) -> Iterator[Callable[[], object]]:
    """Yield products of n x n matrices."""
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n), np.float32)
    yield partial(np.dot, a, a.copy(), out=np.empty_like(a))
    yield partial(fr.Linear(n, n), a)


def _readers(size: int) -> Iterator[tuple[Callable[[], object], int]]:
    """Yield calls that read a buffer of `size` bytes, and how many bytes they read."""
    buffer = bytearray(b"\x3f") * (size + 64)  # as float32 an ordinary number; written, so that it has pages of its own
    yield partial(buffer.find, b"\x00", 0, size), size
    offset = -np.frombuffer(buffer, np.uint8).ctypes.data % 64
    values: NDArray[Any] = np.frombuffer(buffer, np.float32, size // 4, offset)
    half, times = size // 8, max(1, ONE_CALL // size)
    again = np.broadcast_to(values[:half], (times, 1, half))
    yield partial(np.matmul, again, values[half:, None], out=np.empty((times, 1, 1), np.float32)), times * size
    features = 512
    yield partial(fr.Linear(features, size // (4 * features)), np.ones((1, features), np.float32)), size


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit BLAS and fastrnn to one thread for the length of a ``with`` block."""
    threads = fr.get_num_threads()
    fr.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        fr.set_num_threads(threads)


def cache_sizes() -> dict[str, int]:
    """Return the sizes of the data caches in bytes, as Linux tells them, or usual ones."""
    sizes = dict(USUAL_CACHES)
    units = {"K": KB, "M": MB}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction" and f"L{level}" in sizes:
            sizes[f"L{level}"] = int(size[:-1]) * units.get(size[-1], 1)
    return sizes
