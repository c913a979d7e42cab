"""Pooling by the p-norm of windows that slide over one, two or three spatial axes."""

from __future__ import annotations

import math

import numpy as np

from fastrnn._checks import finite_float
from fastrnn._kernels._pool import MAX, MIN
from fastrnn.errors import ArgumentError
from fastrnn.ops._pooling import (
    Array,
    PerAxis,
    Pullback,
    Selection,
    as_gradient,
    contiguous,
    counting_plan,
    per_axis,
    place,
    selecting_plan,
    spread,
    sums,
)
from fastrnn.ops._recurrent import once

__all__ = ["lp_pool_forward", "lp_pool_vjp"]


def lp_pool_forward(
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    """Return the p-norm of each window, p = norm_type, as PyTorch takes it.

        mean_o = (sum over i of x[o * stride + i]**p) / count_o     y_o = (k mean_o)**(1 / p)

    with k the size of the kernel over all axes, and count_o the places of window o in the map, fewer only by ceil_mode.
    Without absolute values, an odd p lets negative values cancel positive ones, and a negative mean has no root unless
    p = 1: y is NaN. Infinite p: y is the largest absolute value, and the smallest one for -infinity.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    norm_type : float, not 0
    kernel_size, stride : int, or S of them
    ceil_mode : bool
    layout : str, optional

    Returns
    -------
    y : ndarray (N, C, *out)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return _lp_pool("lp_pool_forward", x, norm_type, kernel_size, stride, ceil_mode, layout, train=False)[0]


def lp_pool_vjp(
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> tuple[Array, Pullback]:
    """Pool by the p-norm and return the pullback. Arguments are those of `lp_pool_forward`.

        u_o = k mean_o          du_o = dy_o / p * u_o**(1 / p - 1)      0 where u_o = 0
        dx[j] = p x[j]**(p - 1) * (sum over the windows o that meet j of k du_o / count_o)

    Returns
    -------
    y : ndarray (N, C, *out)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "lp_pool_vjp"
    y, pullback = _lp_pool(name, x, norm_type, kernel_size, stride, ceil_mode, layout, train=True)
    return y, once(name, pullback)


def _lp_pool(
    name: str,
    x: Array,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None,
    ceil_mode: bool,
    layout: str | None,
    *,
    train: bool,
) -> tuple[Array, Pullback]:
    p = norm_type if norm_type in {math.inf, -math.inf} else finite_float(name, "norm_type", norm_type)
    if p == 0:
        raise ArgumentError(f"{name}: 'norm_type' must not be 0, got {norm_type!r}")
    maps = contiguous(name, x)
    axes, channels, y_shape = place(name, maps.shape, layout, kernel_size, stride, 0, 1, ceil_mode)
    dtype = maps.dtype
    if math.isinf(p):
        plan = selecting_plan(axes, channels, dtype)
        chosen = Selection(MAX if p > 0 else MIN, np.abs(maps), plan, y_shape, train)
        select = chosen.pullback(name)
        saved = _sign(maps) if train else maps
        return chosen.y, lambda dy: np.multiply(saved, select(dy))
    kernel = per_axis(name, "kernel_size", kernel_size, len(axes), 1)
    plan = counting_plan(axes, channels, dtype, False, kernel)
    with np.errstate(all="ignore"):
        u = sums(_power(maps, p), plan, y_shape)
        y = _power(u, 1 / p)
    slope = _lp_slopes(maps, u, p) if train else None
    form, shape = (y.shape, dtype), maps.shape

    def pullback(dy: Array) -> Array:
        assert slope is not None
        du_dy, dx_du = slope
        gradient = as_gradient(name, dy, form)
        with np.errstate(all="ignore"):
            du = np.where(u == 0, 0, gradient * du_dy).astype(dtype, copy=False)
            dx: Array = spread(du, plan, shape) * dx_du
        return dx

    return y, pullback


def _power(x: Array, p: float) -> Array:
    """Return x**p, for usual p without the general power, which takes twenty times as long as a root."""
    if p in {1.0, 2.0}:
        return x if p == 1 else np.square(x)
    if abs(p) == 0.5:
        root: Array = np.sqrt(x)
        return root if p > 0 else np.divide(1, root, out=root)
    result: Array = x**p
    return result


def _sign(x: Array) -> Array:
    """Return -1, 0 or 1; 0 for NaN, as in PyTorch."""
    return (x > 0).astype(x.dtype) - (x < 0)


def _lp_slopes(x: Array, u: Array, p: float) -> tuple[Array, Array]:
    """Return dy/du and d(x**p)/dx; the first has the square of PyTorch's sign(u) as a factor, which matters for NaN**0 alone."""
    with np.errstate(all="ignore"):
        if p == 1:
            return np.square(_sign(u)), np.ones((1,) * x.ndim, x.dtype)
        return _power(u, 1 / p - 1) / p, p * _power(x, p - 1)
