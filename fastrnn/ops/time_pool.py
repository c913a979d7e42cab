"""Pooling over time: one vector from each sequence of a padded batch, whatever its length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn._checks import as_float_array, as_lengths, check_shape, choice, positive_int
from fastrnn._kernels._memory import empty
from fastrnn._kernels._time_pool import KMAX, MAX, MIN, SUM, Sequence
from fastrnn.errors import ShapeError
from fastrnn.ops._pooling import Array, Pullback, Sizes, as_gradient
from fastrnn.ops._recurrent import once

__all__ = ["time_pool_forward", "time_pool_vjp"]

MODES = {"max": MAX, "min": MIN, "mean": SUM, "sum": SUM, "kmax": KMAX}
LAYOUTS = ("TNC", "NTC", "NCT")
MOST_STEPS = 1 << 31


def _steps(layout: str, sizes: dict[str, int]) -> tuple[int, int, int]:
    """Return the distances of times, sequences and features in a contiguous array that lies in `layout`."""
    distance, steps = 1, {}
    for letter in reversed(layout):
        steps[letter] = distance
        distance *= sizes[letter]
    return steps["T"], steps["N"], steps["C"]


class TimePooling:
    """One pooling over time that ran: y, and what its times and its gradient are made of."""

    __slots__ = ("_form", "_sequence", "_x_shape", "times", "y")

    def __init__(
        self, name: str, x: Array, mode: str, lengths: ArrayLike | None, k: int, layout: str, train: bool
    ) -> None:
        kind = MODES[choice(name, "mode", mode, tuple(MODES))]
        order = choice(name, "layout", layout, LAYOUTS)
        count = positive_int(name, "k", k)
        x = np.asarray(as_float_array(name, "x", x), order="C")
        check_shape(name, "x", x, f"({', '.join(order)})")
        sizes = dict(zip(order, x.shape, strict=True))
        T, N, C = (sizes[letter] for letter in "TNC")
        if not 1 <= T < MOST_STEPS:
            raise ShapeError(f"{name}: 'x' must have from 1 to 2**31 - 1 steps, got {x.shape}")
        ends = None if lengths is None else as_lengths(name, lengths, N, T).copy()
        shape = tuple({**sizes, "T": count}[letter] for letter in order) if kind == KMAX else (N, C)
        places = _steps(order, {**sizes, "T": count}) if kind == KMAX else (0, C, 1)
        if ends is None and order == "TNC":  # all features of all sequences side by side
            sizes, places = {"T": T, "N": 1, "C": N * C}, (places[0], 0, 1)
        self._sequence = Sequence(
            (T, sizes["N"], sizes["C"]), _steps(order, sizes), places, kind, mode == "mean", count, ends
        )
        self._x_shape: Sizes = x.shape
        self._form = shape, x.dtype
        self.y = empty(shape, x.dtype)
        self.times = empty(shape, np.int32) if kind == KMAX or (train and kind != SUM) else None
        self._sequence.forward(x, self.y, self.times)

    def pullback(self, name: str) -> Pullback:
        """Return the function from dy to dx."""
        sequence, times, shape, form = self._sequence, self.times, self._x_shape, self._form

        def pull_back(dy: Array) -> Array:
            gradient = as_gradient(name, dy, form)
            dx = empty(shape, form[1])
            sequence.backward(gradient, times, dx)
            return dx

        return pull_back


def time_pool_forward(
    x: Array, mode: str, *, lengths: ArrayLike | None = None, k: int = 1, layout: str = "TNC"
) -> Array:
    """Pool each feature of each sequence over its own steps.

        max, min    y = max over t < length of x_t          min likewise
        sum, mean   y = sum over t < length of x_t          divided by the length for the mean
        kmax        y = the k largest of x_t with t < length, in their order of time

    The earlier of equal values counts. For "max", "min" and "kmax" the last NaN comes before any number. A sequence
    shorter than k leaves the last places of "kmax" at zero. Steps past a length are never read.

    Parameters
    ----------
    x : ndarray (T, N, C), (N, T, C) or (N, C, T) by the layout, T >= 1, float32 or float64
    mode : "max", "min", "mean", "sum" or "kmax"
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    k : int. How many values "kmax" keeps; the other modes do not use it.
    layout : "TNC", "NTC" or "NCT"

    Returns
    -------
    y : ndarray (N, C); for "kmax" as x, with k in place of T

    Raises
    ------
    ShapeError, DTypeError, LengthsError, ArgumentError

    References
    ----------
    k-max pooling: Kalchbrenner, Grefenstette & Blunsom 2014, A convolutional neural network for modelling sentences.
    """
    return TimePooling("time_pool_forward", x, mode, lengths, k, layout, False).y


def time_pool_vjp(
    x: Array, mode: str, *, lengths: ArrayLike | None = None, k: int = 1, layout: str = "TNC"
) -> tuple[Array, Pullback]:
    """Pool over time and return the pullback. Arguments are those of `time_pool_forward`.

        max, min, kmax      dx_t = dy at the times t whose values were taken
        sum, mean           dx_t = dy for t < length        divided by the length for the mean

    All other dx are zero, those past a length among them.

    Returns
    -------
    y : as from `time_pool_forward`
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "time_pool_vjp"
    pooling: Any = TimePooling(name, x, mode, lengths, k, layout, True)
    return pooling.y, once(name, pooling.pullback(name))
