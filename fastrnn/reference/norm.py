"""Normalisation: subtract a mean, divide by a standard deviation, then scale and shift.

    xhat = (x - mean) / sqrt(var + eps)             y = weight * xhat + bias

What differs is over which elements mean and (biased) variance are taken: over a batch, over the last axes, or over groups of
channels. With g = weight * dy, and means over those same elements,

    dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)
    dweight = sum dy * xhat                         dbias = sum dy
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._common import Array, Grads, add_into, called_once, quietly

Pullback = Callable[..., tuple[Array, Grads]]


class _Normal(NamedTuple):
    """Maps after normalisation over some axes."""

    xhat: Array
    mean: Array
    var: Array
    scale: Array  # 1 / sqrt(var + eps)
    axes: tuple[int, ...]

    @classmethod
    def of(cls, x: Array, axes: tuple[int, ...], eps: float) -> _Normal:
        mean = x.mean(axes, keepdims=True)
        var = np.square(x - mean).mean(axes, keepdims=True)
        scale = 1 / np.sqrt(var + x.dtype.type(eps))
        return cls((x - mean) * scale, mean, var, scale, axes)

    def pull(self, g: Array) -> Array:
        """Return dx from the gradient of xhat."""
        mean = g.mean(self.axes, keepdims=True)
        slope = (g * self.xhat).mean(self.axes, keepdims=True)
        result: Array = self.scale * (g - mean - self.xhat * slope)
        return result


def _affine(xhat: Array, weight: Array | None, bias: Array | None, along: Callable[[Array], Array]) -> Array:
    y = xhat if weight is None else xhat * along(weight)
    return y.copy() if bias is None else y + along(bias)


def _sums(dy: Array, xhat: Array, weight: Array | None, bias: Array | None, axes: tuple[int, ...]) -> Grads:
    """Return the gradients of weight and bias, those that are there."""
    sums: Grads = {}
    if weight is not None:
        sums["weight"] = (dy * xhat).sum(axes)
    if bias is not None:
        sums["bias"] = dy.sum(axes)
    return sums


def _channels(x: Array, layout: str | None) -> tuple[int, Callable[[Array], Array]]:
    """Return the axis of channels, and how a value for each of them lies along it."""
    last = layout is not None and layout.endswith("C")
    axis = x.ndim - 1 if last else 1
    return axis, lambda values: values.reshape(-1, *(1,) * (x.ndim - 1 - axis))


@quietly
def batch_norm_forward(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
) -> Array:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias`` with given statistics for each channel.

    Parameters
    ----------
    x : ndarray (N, C) or (N, C, *sizes), with channels last if `layout` says so; float32 or float64
    mean, var : ndarrays (C,)
    weight, bias : ndarrays (C,), optional
    eps : float
    layout : None, or "NCHW", "NHWC" and the like

    Returns
    -------
    y : ndarray, shape of x
    """
    _, along = _channels(x, layout)
    xhat = (x - along(mean)) / np.sqrt(along(var) + x.dtype.type(eps))
    return _affine(xhat, weight, bias, along)


@quietly
def batch_norm_vjp(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
) -> tuple[tuple[Array, Array, Array], Pullback]:
    """Normalise each channel over batch and space by its own statistics, and return the pullback.

    Arguments are those of `batch_norm_forward`; the equations are at the top of this file.

    Returns
    -------
    y, mean, var : ndarrays (shape of x), (C,), (C,). The variance is the biased one.
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        Adds the gradients of weight and bias into the arrays of the mapping `grads` where it has them. May succeed once; a
        second call raises RuntimeError.

    References
    ----------
    Ioffe & Szegedy 2015, Batch normalization, algorithm 1.
    """
    axis, along = _channels(x, layout)
    axes = tuple(other for other in range(x.ndim) if other != axis)
    normal = _Normal.of(x, axes, eps)
    scale = None if weight is None else np.array(weight)

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        dx = normal.pull(dy if scale is None else dy * along(scale))
        return dx, add_into(grads, _sums(dy, normal.xhat, scale, bias, axes))

    y = _affine(normal.xhat, weight, bias, along)
    return (y, normal.mean.reshape(-1), normal.var.reshape(-1)), called_once("batch_norm_vjp", pullback)


@quietly
def layer_norm_forward(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    """Normalise over the last axes, which have the shape `normalized_shape`.

    Parameters
    ----------
    x : ndarray (..., *normalized_shape), float32 or float64
    normalized_shape : int or tuple of int
    weight, bias : ndarrays of the shape normalized_shape, optional
    eps : float

    Returns
    -------
    y : ndarray, shape of x
    """
    return layer_norm_vjp(x, normalized_shape, weight, bias, eps=eps)[0]


@quietly
def layer_norm_vjp(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Array, Pullback]:
    """Normalise over the last axes and return the pullback. Arguments are those of `layer_norm_forward`.

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``, as that of `batch_norm_vjp`

    References
    ----------
    Ba, Kiros & Hinton 2016, Layer normalization, equation 4.
    """
    count = len(normalized_shape) if isinstance(normalized_shape, tuple) else 1
    axes = tuple(range(x.ndim - count, x.ndim))
    normal = _Normal.of(x, axes, eps)
    scale = None if weight is None else np.array(weight)

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        dx = normal.pull(dy if scale is None else dy * scale)
        return dx, add_into(grads, _sums(dy, normal.xhat, scale, bias, tuple(range(x.ndim - count))))

    return _affine(normal.xhat, weight, bias, lambda values: values), called_once("layer_norm_vjp", pullback)


@quietly
def group_norm_forward(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
) -> Array:
    """Normalise each sample over space and over groups of C / num_groups channels that follow each other.

    Parameters
    ----------
    x : ndarray (N, C) or (N, C, *sizes), with channels last if `layout` says so; float32 or float64
    num_groups : int that divides C
    weight, bias : ndarrays (C,), optional
    eps : float
    layout : None, or "NCHW", "NHWC" and the like

    Returns
    -------
    y : ndarray, shape of x
    """
    return group_norm_vjp(x, num_groups, weight, bias, eps=eps, layout=layout)[0]


@quietly
def group_norm_vjp(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
) -> tuple[Array, Pullback]:
    """Normalise over groups of channels and return the pullback. Arguments are those of `group_norm_forward`.

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``, as that of `batch_norm_vjp`

    References
    ----------
    Wu & He 2018, Group normalization, equations 1, 2 and 7.
    """
    axis, _ = _channels(x, layout)
    C = x.shape[axis]
    first = np.moveaxis(x, axis, 1)
    grouped = (len(x), num_groups, C // num_groups, *first.shape[2:])
    normal = _Normal.of(first.reshape(grouped), tuple(range(2, len(grouped))), eps)
    xhat = normal.xhat.reshape(first.shape)
    scale = None if weight is None else np.array(weight)
    axes = tuple(other for other in range(x.ndim) if other != 1)

    def along(values: Array) -> Array:
        return values.reshape(-1, *(1,) * (x.ndim - 2))

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        dy_first = np.moveaxis(dy, axis, 1)
        g = dy_first if scale is None else dy_first * along(scale)
        dx = normal.pull(g.reshape(grouped)).reshape(first.shape)
        return np.moveaxis(dx, 1, axis), add_into(grads, _sums(dy_first, xhat, scale, bias, axes))

    y = np.moveaxis(_affine(xhat, weight, bias, along), 1, axis)
    return y, called_once("group_norm_vjp", pullback)
