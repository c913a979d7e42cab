"""Softmax and its logarithm along any axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_float_array, plain_int
from fastrnn._kernels import _activation
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._pooling import as_gradient
from fastrnn.ops._recurrent import once

Array = NDArray[Any]
Pullback = Callable[[Array], Array]

__all__ = ["log_softmax_forward", "log_softmax_vjp", "softmax_forward", "softmax_vjp"]


def _as_rows(array: Array, axis: int) -> Array:
    """Return a contiguous array with the axis last, as a matrix of rows along it."""
    last = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    return last.reshape(last.size // max(last.shape[-1], 1), last.shape[-1])


def _whole(rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Undo `_as_rows`: a contiguous array of the shape."""
    if axis == len(shape) - 1:
        return rows.reshape(shape)
    order = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    array = empty(shape, rows.dtype)
    array[...] = np.moveaxis(rows.reshape(order), -1, axis)
    return array


def _checked(name: str, x: Array, axis: int) -> tuple[Array, int]:
    array = as_float_array(name, "x", x)
    if array.ndim == 0:
        raise ShapeError(f"{name}: 'x' must have at least one axis, got ()")
    index = plain_int(name, "axis", axis)
    if not -array.ndim <= index < array.ndim:
        raise ArgumentError(f"{name}: 'axis' must be in {-array.ndim}..{array.ndim - 1}, got {index}")
    return array, index % array.ndim


def _forward(name: str, x: Array, axis: int, log: bool) -> Array:
    array, place = _checked(name, x, axis)
    rows = _as_rows(array, place)
    y = empty(rows.shape, rows.dtype)
    _activation.softmax(rows, y, None, log)
    return _whole(y, array.shape, place)


def _vjp(name: str, x: Array, axis: int, log: bool) -> tuple[Array, Pullback]:
    array, place = _checked(name, x, axis)
    rows = _as_rows(array, place)
    y, p = empty(rows.shape, rows.dtype), empty(rows.shape, rows.dtype)
    _activation.softmax(rows, y, p, log)
    form = array.shape, array.dtype

    def pullback(dy: Array) -> Array:
        gradient = _as_rows(as_gradient(name, dy, form), place)
        _activation.softmax_backward(gradient, p, p, log)  # dx takes the place of p, which is in the cache
        return _whole(p, form[0], place)

    return _whole(y, array.shape, place), once(name, pullback)


def softmax_forward(x: Array, axis: int = -1) -> Array:
    """Return e**x over its sum along an axis.

        y = exp(x - max(x)) / sum(exp(x - max(x)))

    Parameters
    ----------
    x : ndarray of at least one axis, float32 or float64
    axis : int

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return _forward("softmax_forward", x, axis, False)


def softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return softmax(x) and the pullback. Arguments are those of `softmax_forward`.

        dx = y (dy - sum(y dy))

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    return _vjp("softmax_vjp", x, axis, False)


def log_softmax_forward(x: Array, axis: int = -1) -> Array:
    """Return log(softmax(x)) along an axis.

        y = x - max(x) - log(sum(exp(x - max(x))))

    Parameters
    ----------
    x : ndarray of at least one axis, float32 or float64
    axis : int

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return _forward("log_softmax_forward", x, axis, True)


def log_softmax_vjp(x: Array, axis: int = -1) -> tuple[Array, Pullback]:
    """Return log(softmax(x)) and the pullback. Arguments are those of `log_softmax_forward`.

        dx = dy - softmax(x) sum(dy)

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    return _vjp("log_softmax_vjp", x, axis, True)
