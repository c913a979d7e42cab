"""Pooling over time: one vector from each sequence of a padded batch, whatever its length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn._checks import as_float_array, as_lengths, check_shape, choice, positive_int
from fastrnn._kernels._memory import empty
from fastrnn._kernels._pooled import Placed
from fastrnn._kernels._time_pool import KMAX, MAX, MIN, SUM, Sequence
from fastrnn.errors import ShapeError
from fastrnn.ops._pooling import Array, Pullback, Sizes, as_gradient
from fastrnn.ops._recurrent import once

__all__ = ["time_pool_forward", "time_pool_vjp"]

MODES = {"max": MAX, "min": MIN, "mean": SUM, "sum": SUM, "kmax": KMAX}
LAYOUTS = ("TNC", "NTC", "NCT")
MOST_STEPS = 1 << 31
TIMES = np.dtype(np.int32)


def _steps(layout: str, sizes: dict[str, int]) -> tuple[int, int, int]:
    """Return the distances of times, sequences and features in a contiguous array that lies in `layout`."""
    distance, steps = 1, {}
    for letter in reversed(layout):
        steps[letter] = distance
        distance *= sizes[letter]
    return steps["T"], steps["N"], steps["C"]


def _sequence(
    name: str, shape: Sizes, mode: str, lengths: ArrayLike | None, k: int, order: str
) -> tuple[Sequence, int, Sizes]:
    """Return how sequences of that shape lie, what is done with them, and the shape of y."""
    kind = MODES[choice(name, "mode", mode, tuple(MODES))]
    count = positive_int(name, "k", k)
    sizes = dict(zip(order, shape, strict=True))
    T, N, C = (sizes[letter] for letter in "TNC")
    if not 1 <= T < MOST_STEPS:
        raise ShapeError(f"{name}: 'x' must have from 1 to 2**31 - 1 steps, got {shape}")
    ends = None if lengths is None else as_lengths(name, lengths, N, T).copy()
    y_shape = tuple({**sizes, "T": count}[letter] for letter in order) if kind == KMAX else (N, C)
    places = _steps(order, {**sizes, "T": count}) if kind == KMAX else (0, C, 1)
    if ends is None and order == "TNC":  # all features of all sequences side by side
        sizes, places = {"T": T, "N": 1, "C": N * C}, (places[0], 0, 1)
    lying = (T, sizes["N"], sizes["C"]), _steps(order, sizes), places
    return Sequence(*lying, kind, mode == "mean", count, ends), kind, y_shape


def place_time(name: str, shape: Sizes, dtype: np.dtype[Any], mode: str, k: int, layout: str) -> Placed:
    """Return the pooling over all times of sequences of a shape, for the layer that keeps it."""
    sequence, kind, out = _sequence(name, shape, mode, None, k, layout)
    return Placed(sequence, 0, shape, out, dtype, None if kind == SUM else TIMES, kind == KMAX)


def place_over_maps(mode: str, shape: Sizes, out: Sizes, last: bool, dtype: np.dtype[Any]) -> Placed:
    """Return the pooling of each of the maps of `shape` to one value."""
    N, C = shape[0], shape[-1 if last else 1]
    positions = math.prod(shape[1:-1] if last else shape[2:])
    flat, layout = ((N, positions, C), "NTC") if last else ((N, C, positions), "NCT")
    sequence, kind, _ = _sequence("pooling", flat, mode, None, 1, layout)
    return Placed(sequence, 0, shape, out, dtype, None if kind == SUM else TIMES)


class TimePooling:
    """One pooling over time that ran: y, and what its times and its gradient are made of."""

    __slots__ = ("_form", "_sequence", "_x_shape", "times", "y")

    def __init__(
        self, name: str, x: Array, mode: str, lengths: ArrayLike | None, k: int, layout: str, train: bool
    ) -> None:
        order = choice(name, "layout", layout, LAYOUTS)
        x = np.asarray(as_float_array(name, "x", x), order="C")
        check_shape(name, "x", x, f"({', '.join(order)})")
        self._sequence, kind, shape = _sequence(name, x.shape, mode, lengths, k, order)
        self._x_shape: Sizes = x.shape
        self._form = shape, x.dtype
        self.y = empty(shape, x.dtype)
        self.times = empty(shape, TIMES) if kind == KMAX or (train and kind != SUM) else None
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
