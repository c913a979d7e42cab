"""Dropout: elements, or whole stretches of them, set to zero at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ._common import Array, called_once, quietly

Pullback = Callable[[Array], Array]


def keep_mask(shape: tuple[int, ...], p: float, rng: np.random.Generator) -> Array:
    """Return an array of bools, each False with probability p: 32 random bits that are below 2**32 p."""
    size = int(np.prod(shape))
    bits = rng.integers(0, 2**64, (size + 1) // 2, np.uint64)  # two elements of each
    return np.asarray(bits.view(np.uint32)[:size].reshape(shape) >= min(round(p * 2.0**32), 2**32 - 1))


@quietly
def dropout_vjp(
    x: Array, p: float, *, rng: np.random.Generator | int | None = None, shared: Sequence[int] = ()
) -> tuple[Array, Pullback]:
    """Set elements to zero with probability p, and scale the others so that means stay.

        m = 0 with probability p, else 1        y = m x / (1 - p)        dx = m dy / (1 - p)

    Parameters
    ----------
    x : ndarray of any shape, float32 or float64
    p : float in [0, 1]. With p = 1 all of y is zero.
    rng : numpy.random.Generator, int or None
        Where m comes from.
    shared : axes along which m does not change

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``
    """
    alike = {axis % x.ndim for axis in shared}
    form = tuple(1 if axis in alike else size for axis, size in enumerate(x.shape))
    keep = keep_mask(form, p, np.random.default_rng(rng)) if 0 < p < 1 else np.full(form, p == 0)
    factor = (keep * (1 / (1 - p) if p < 1 else 0.0)).astype(x.dtype)
    return np.asarray(x * factor), called_once("dropout_vjp", lambda dy: np.asarray(dy * factor))
