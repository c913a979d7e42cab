"""The correctness gate: every library's results against the float64 reference, before any time is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.case import Arrays

__all__ = ["GRADIENT_TOLERANCE", "largest_error", "relative_error", "wrong_results"]

# Largest error allowed, relative to the largest value of the right result. A float32 sum of up to 3000 products is off
# by about 1e-6; a recurrent layer carries that over its steps, libraries approximate sigmoid and tanh to about 1e-6 as
# well, and a weight gradient is once more a sum over all steps and sequences. A gate in the wrong place gives about 1.
OUTPUT_TOLERANCE = 5e-5
GRADIENT_TOLERANCE = 2e-4
OUTPUTS = {"y", "h_n", "c_n"}


def relative_error(actual: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the largest error relative to the largest right value; infinite for a wrong shape, NaN or infinity."""
    if actual.shape != truth.shape or not np.isfinite(actual).all():
        return float("inf")
    scale = float(np.abs(truth).max(initial=0.0)) or 1.0
    return float(np.abs(actual - truth).max(initial=0.0)) / scale


def largest_error(results: Arrays, truth: Arrays) -> float:
    """Return the largest relative error over all results."""
    return max(relative_error(array, truth[name]) for name, array in results.items())


def wrong_results(results: Arrays, truth: Arrays, gradients: float = GRADIENT_TOLERANCE) -> list[str]:
    """Say what is wrong: one short text for each result that is out of tolerance; `gradients` is that of all gradients."""
    problems = []
    for name, array in results.items():
        allowed = OUTPUT_TOLERANCE if name in OUTPUTS else gradients
        error = relative_error(array, truth[name])
        if not error <= allowed:
            problems.append(f"{name} is wrong by {error:.1e} (shape {array.shape}, right {truth[name].shape})")
    return problems
