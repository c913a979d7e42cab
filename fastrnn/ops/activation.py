"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_float_array
from fastrnn._kernels import _activation
from fastrnn._kernels._memory import empty

Array = NDArray[Any]

__all__ = ["exp", "sigmoid", "tanh"]


def _mapped(name: str, kernel: Callable[[Array, Array], None], x: Array) -> Array:
    array = np.asarray(as_float_array(name, "x", x), order="C")
    y = empty(array.shape, array.dtype)
    kernel(array, y)
    return y


def exp(x: Array) -> Array:
    """Return e**x, elementwise; the largest error stands in src_c/kernels/vmath_f32.h and vmath_f64.h."""
    return _mapped("exp", _activation.exp, x)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e**-x), elementwise."""
    return _mapped("sigmoid", _activation.sigmoid, x)


def tanh(x: Array) -> Array:
    """Return tanh(x), elementwise."""
    return _mapped("tanh", _activation.tanh, x)
