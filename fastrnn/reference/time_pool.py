"""Pooling over time: one vector from each sequence of a padded batch, whatever its length.

Letters: T time steps, N batch, C features. In here sequences lie (T, N, C), and T also names a time that is missing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ._common import Array, called_once, quietly
from ._windows import Pullback


def _arrange(array: Array, layout: str, target: str) -> Array:
    """Return a view of an array that lies in `layout`, with its axes in the order of `target`."""
    return array.transpose([layout.index(letter) for letter in target])


def _times_of_largest(x: Array, lengths: Array, k: int) -> Array:
    """Return the times of the k largest values of each sequence (k, N, C), in ascending order.

    The earlier of equal values counts as the larger one, NaN as larger than any number, and a later NaN as larger than
    an earlier one. Places that a short sequence cannot fill have time T.
    """
    T = len(x)
    time = np.arange(T)[:, None, None]
    nan, outside = np.isnan(x), np.broadcast_to(time >= lengths[:, None], x.shape)
    ranking = np.lexsort((np.where(nan, -time, time), -x, ~nan, outside), axis=0)[:k]
    times = np.full((k, *x.shape[1:]), T)
    times[: len(ranking)] = np.where(ranking < lengths[:, None], ranking, T)
    return np.sort(times, axis=0)


def _select(x: Array, times: Array) -> tuple[Array, Pullback]:
    """Return x at `times` (k, N, C), zeros where these are T, and the pullback dx[times] = dy."""
    T, shape = len(x), (len(x) + 1, *x.shape[1:])
    places = np.zeros(shape, x.dtype)
    places[:T] = x

    def pullback(dy: Array) -> Array:
        dx = np.zeros(shape, dy.dtype)
        np.put_along_axis(dx, times, dy, axis=0)
        return dx[:T]

    return np.take_along_axis(places, times, axis=0), pullback


def _sum(x: Array, lengths: Array, divisor: Array) -> tuple[Array, Pullback]:
    """Return the sums (N, C) of the steps before `lengths` divided by `divisor` (N, 1), and the pullback."""
    inside = (np.arange(len(x))[:, None] < lengths)[..., None]

    def pullback(dy: Array) -> Array:
        return np.where(inside, dy / divisor, 0)

    return np.where(inside, x, 0).sum(axis=0) / divisor, pullback


def _pool(x: Array, mode: str, lengths: Array, k: int) -> tuple[Array, Pullback]:
    """Pool x (T, N, C) to (N, C), or (k, N, C) for "kmax"."""
    if mode == "kmax":
        return _select(x, _times_of_largest(x, lengths, k))
    if mode in {"max", "min"}:
        y, pullback = _select(x, _times_of_largest(x if mode == "max" else -x, lengths, 1))
        return y[0], lambda dy: pullback(dy[None])
    divisor = {"mean": lengths, "sum": np.ones_like(lengths)}[mode]
    return _sum(x, lengths, divisor.astype(x.dtype)[:, None])


@quietly
def time_pool_forward(
    x: Array, mode: str, *, lengths: ArrayLike | None = None, k: int = 1, layout: str = "TNC"
) -> Array:
    """Pool each feature of each sequence over its own steps.

        max, min    y = max over t < length of x_t          min likewise
        sum, mean   y = sum over t < length of x_t          divided by the length for the mean
        kmax        y = the k largest of x_t with t < length, in their order of time

    The earlier of equal values counts. For "max", "min" and "kmax" the last NaN comes before any number. A sequence
    shorter than k leaves the last places of "kmax" at zero. Steps past a length do not count.

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

    References
    ----------
    k-max pooling: Kalchbrenner, Grefenstette & Blunsom 2014, A convolutional neural network for modelling sentences.
    """
    y, _ = time_pool_vjp(x, mode, lengths=lengths, k=k, layout=layout)
    return y


@quietly
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
    pullback : ``pullback(dy) -> dx``, dx of the shape of x

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    steps = _arrange(x, layout, "TNC")
    T, N, _ = steps.shape
    y, pull = _pool(steps, mode, np.full(N, T) if lengths is None else np.array(lengths), k)
    inside, outside = ("TNC", layout) if mode == "kmax" else ("NC", "NC")  # how y lies in here and for the caller

    def pullback(dy: Array) -> Array:
        return _arrange(pull(_arrange(dy, outside, inside)), "TNC", layout)

    return _arrange(y, inside, outside), called_once("time_pool_vjp", pullback)
