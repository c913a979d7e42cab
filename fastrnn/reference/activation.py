"""Elementwise functions."""

from __future__ import annotations

import numpy as np

from ._common import Array, quietly


@quietly
def exp(x: Array) -> Array:
    """Return e**x, elementwise; infinity where it overflows."""
    return np.asarray(np.exp(x))


@quietly
def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e**-x), elementwise.

    Both branches take the exponential of -abs(x), which cannot overflow:

        x >= 0    1 / (1 + e**-x)
        x <  0    e**x / (1 + e**x)
    """
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


@quietly
def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent of x, elementwise."""
    return np.asarray(np.tanh(x))
