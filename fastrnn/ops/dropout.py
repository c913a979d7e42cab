"""Dropout: elements, or whole stretches of them, set to zero at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_float_array, as_generator, finite_float, plain_int
from fastrnn._kernels._activation import masked_scale
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError
from fastrnn.ops._pooling import as_gradient
from fastrnn.ops._recurrent import once

Array = NDArray[Any]
Pullback = Callable[[Array], Array]

__all__ = ["dropout_vjp"]


def _keep_mask(shape: tuple[int, ...], p: float, rng: np.random.Generator) -> Array:
    """Return an array of bools, each False with probability p: 32 random bits that are below 2**32 p."""
    size = int(np.prod(shape))
    bits = rng.integers(0, 2**64, (size + 1) // 2, np.uint64)  # two elements of each
    keep = empty(shape, np.bool_)
    limit = np.uint32(min(round(p * 2.0**32), 2**32 - 1))
    np.greater_equal(bits.view(np.uint32)[:size].reshape(shape), limit, out=keep)
    return keep


def _scaled(x: Array, keep: Array | None, scale: float) -> Array:
    """Return x times the factors that the mask, one byte each, stands for; None: all of them are `scale`."""
    y = empty(x.shape, x.dtype)
    if keep is None:
        np.multiply(x, x.dtype.type(scale), out=y)
    elif keep.shape == x.shape:
        masked_scale(x, keep, y, scale, 0.0, False)
    else:
        np.multiply(x, keep * x.dtype.type(scale), out=y)
    return y


def dropout_vjp(
    x: Array, p: float, *, rng: np.random.Generator | int | None = None, shared: Sequence[int] = ()
) -> tuple[Array, Pullback]:
    """Set elements to zero with probability p, and scale the others so that means stay.

        m = 0 with probability p, else 1        y = m x / (1 - p)        dx = m dy / (1 - p)

    Infinities and NaN give NaN where they are dropped, as in PyTorch.

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
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.

    Raises
    ------
    DTypeError, ArgumentError

    References
    ----------
    Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.
    """
    name = "dropout_vjp"
    array = np.asarray(as_float_array(name, "x", x), order="C")
    rate = finite_float(name, "p", p, 0, 1)
    axes = [plain_int(name, "shared", axis) for axis in shared]
    if any(not -array.ndim <= axis < array.ndim for axis in axes):
        raise ArgumentError(f"{name}: 'shared' must be axes of x {array.shape}, got {shared!r}")
    source = as_generator(name, rng)
    alike = {axis % array.ndim for axis in axes}
    form = tuple(1 if axis in alike else size for axis, size in enumerate(array.shape))
    keep = _keep_mask(form, rate, source) if 0 < rate < 1 else None
    scale = 1 / (1 - rate) if rate < 1 else 0.0
    target = array.shape, array.dtype
    with np.errstate(all="ignore"):
        y = _scaled(array, keep, scale)

    def pullback(dy: Array) -> Array:
        with np.errstate(all="ignore"):
            return _scaled(as_gradient(name, dy, target), keep, scale)

    return y, once(name, pullback)
