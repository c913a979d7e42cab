"""Time several contestants so that they can be compared: interleaved rounds, medians, quartiles.

Every round takes one sample of each, in an order that rotates from round to round, so that a machine that warms up,
throttles or is disturbed treats all alike. A sample is as many calls as it takes to fill `LEAST_SAMPLE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

__all__ = ["GAP", "LEAST_SAMPLE", "Timing", "measure", "repeats_for", "rotated", "summarize"]

#: Seconds of a sample at least: a thousand times the resolution and the jitter of the clock.
LEAST_SAMPLE = 0.02
#: Seconds of idleness before each sample when several threads are used: the pools of the libraries go on spinning after
#: a call and would take cores from the next one.
GAP = 0.15

Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, quartiles and minimum of the samples."""

    median: float
    low: float
    high: float
    best: float
    samples: int
    repeats: int

    @property
    def spread(self) -> float:
        """Return half the distance between the quartiles, relative to the median."""
        return (self.high - self.low) / (2 * self.median)


def summarize(samples: Sequence[float], repeats: int) -> Timing:
    """Return the statistics of samples, each the seconds of one call averaged over `repeats` calls."""
    low, median, high = (float(q) for q in np.quantile(samples, (0.25, 0.5, 0.75)))
    return Timing(median, low, high, float(min(samples)), len(samples), repeats)


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return the order of round `turn`: the one before, with its first moved to the end."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def sample(call: Call, repeats: int, clock: Clock) -> float:
    """Return the seconds of one call, averaged over `repeats`."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def repeats_for(call: Call, least: float, clock: Clock = time.perf_counter) -> int:
    """Return how many calls fill a sample of `least` seconds. The calls made to find out also warm up."""
    call()
    repeats = 1
    while (seconds := sample(call, repeats, clock)) * repeats < least:
        # A zero means that the clock saw nothing; growth is bounded, since the first calls can be untypical.
        wanted = ceil(1.1 * least / seconds) if seconds > 0 else 100 * repeats
        repeats = min(max(wanted, repeats + 1), 100 * repeats)
    return repeats


def measure(
    contestants: Mapping[str, Call],
    rounds: int,
    *,
    least: float = LEAST_SAMPLE,
    gap: float = 0.0,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Timing]:
    """Time contestants against each other.

    Parameters
    ----------
    contestants : mapping of names to functions without arguments
    rounds : int
        Samples of each.
    least : float
        Seconds of a sample at least.
    gap : float
        Seconds of idleness before each sample; one call that does not count follows it and wakes the threads.
    clock, sleep : callable
        Where the time comes from.

    Returns
    -------
    dict of name -> Timing
    """
    repeats: dict[str, int] = {}
    for name, call in contestants.items():
        sleep(gap)
        repeats[name] = repeats_for(call, least, clock)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name in rotated(list(contestants), turn):
            sleep(gap)
            contestants[name]()
            samples[name].append(sample(contestants[name], repeats[name], clock))
    return {name: summarize(samples[name], repeats[name]) for name in contestants}
