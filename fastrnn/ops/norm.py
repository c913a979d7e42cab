"""Normalisation over a batch, over the last axes, over groups of channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_fitting, as_float_array, finite_float, plain_int, positive_int
from fastrnn._kernels._memory import empty
from fastrnn._kernels._norm import maps_backward, maps_forward, maps_given, rows_backward, rows_forward
from fastrnn._kernels._norm_columns import columns_backward, columns_forward, columns_given
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._recurrent import check_grads, once
from fastrnn.ops._spatial import is_channels_last

Array = NDArray[Any]
Grads = dict[str, Array]
Pullback = Callable[..., tuple[Array, Grads]]

__all__ = [
    "batch_norm_forward",
    "batch_norm_vjp",
    "group_norm_forward",
    "group_norm_vjp",
    "layer_norm_forward",
    "layer_norm_vjp",
]

# The gradients of weight and bias are sums over chunks of rows, whose number depends on that of the rows alone.
MOST_CHUNKS, LEAST_ROWS = 64, 16


class _Affine(NamedTuple):
    """Weight and bias, ones and zeros where there are none, and which there are."""

    weight: Array
    bias: Array
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def checked(cls, name: str, weight: Any, bias: Any, shape: tuple[int, ...], dtype: Any) -> _Affine:
        arrays = {
            arg: np.ascontiguousarray(as_fitting(name, arg, value, shape, dtype))
            for arg, value in (("weight", weight), ("bias", bias))
            if value is not None
        }
        weight = arrays["weight"] if "weight" in arrays else np.ones(shape, dtype)
        bias = arrays["bias"] if "bias" in arrays else np.zeros(shape, dtype)
        return cls(weight, bias, dict.fromkeys(arrays, shape))


class _Maps:
    """Maps in the layout of the kernels; `groups` 0 stands for moments over the batch."""

    def __init__(self, name: str, x: Any, weight: Any, bias: Any, eps: Any, layout: Any, groups: Any) -> None:
        array = as_float_array(name, "x", x)
        if not 2 <= array.ndim <= 5:
            raise ShapeError(f"{name}: 'x' must have shape (N, C) or (N, C, ...) with 1 to 3 more, got {array.shape}")
        last = is_channels_last(name, layout, max(1, array.ndim - 2))
        # A batch of vectors has its channels both first and last; the statistics of columns come faster.
        self.last = last if array.ndim > 2 else not groups
        C = self.channels = array.shape[-1 if last else 1]
        if groups and C % groups:
            raise ArgumentError(f"{name}: 'num_groups' must divide C={C}, got {groups}")
        self.name, self.shape, self.dtype, self.groups = name, array.shape, array.dtype, groups
        self.eps = finite_float(name, "eps", eps, 0)
        self.affine = _Affine.checked(name, weight, bias, (C,), self.dtype)
        N = len(array)
        places = math.prod(array.shape) // max(N * C, 1)
        self.kernel_shape = (N, places, C) if self.last else (N, C, places)
        self.x = np.ascontiguousarray(array).reshape(self.kernel_shape)
        self.sets = N * groups if groups else C

    def given(self, mean: Array, var: Array) -> Array:
        """Return y with these statistics of each channel."""
        weight, bias, _ = self.affine
        statistics = np.ascontiguousarray(mean), np.ascontiguousarray(var)
        return given_maps(self.x, self.last, *statistics, weight, bias, self.eps).reshape(self.shape)

    def forward(self, mean: Array, var: Array, keep: bool) -> tuple[Array, Array | None, Array]:
        """Return y, xhat if it is kept, and the factor of each set; fill mean and var."""
        y, scale = empty(self.kernel_shape, self.dtype), np.empty(self.sets, self.dtype)
        xhat = empty(self.kernel_shape, self.dtype) if keep else None
        if y.size:
            run = columns_forward if self.last else maps_forward
            weight, bias, _ = self.affine
            run(self.x, weight, bias, self.eps, self.groups, y, xhat, scale, mean, var)
        return y.reshape(self.shape), xhat, scale

    def normalise(self) -> Array:
        """Return y."""
        return self.forward(np.empty(self.sets), np.empty(self.sets), keep=False)[0]

    def trained(self, mean: Array, var: Array) -> tuple[Array, Pullback]:
        """Return y and the pullback; fill mean and var."""
        y, xhat, scale = self.forward(mean, var, keep=True)
        name, shape, kernel_shape, dtype = self.name, self.shape, self.kernel_shape, self.dtype
        groups, shapes, weight = self.groups, self.affine.shapes, self.affine.weight.copy()
        run: Any = columns_backward if self.last else maps_backward
        C = self.channels

        def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> tuple[Array, Grads]:
            gradient = np.ascontiguousarray(as_fitting(name, "dy", dy, shape, dtype)).reshape(kernel_shape)
            sums = check_grads(name, shapes, grads, dtype)
            dbias, dweight = (
                np.zeros((len(gradient) if groups else 1, C)),
                np.zeros((len(gradient) if groups else 1, C)),
            )
            assert xhat is not None
            if xhat.size:
                run(gradient, xhat, scale, weight, groups, xhat, dbias, dweight)  # dx takes the place of xhat
            for key, parts in (("weight", dweight), ("bias", dbias)):
                if key in sums:
                    sums[key] += parts.sum(0).astype(dtype)
            return xhat.reshape(shape), sums

        return y, once(name, pullback)


def given_maps(x: Array, last: bool, mean: Array, var: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Return x normalised by given statistics; all is checked already, and each array of channels contiguous."""
    N, C = len(x), len(mean)
    places = x.size // max(N * C, 1)
    maps = np.ascontiguousarray(x).reshape((N, places, C) if last else (N, C, places))
    y = empty(maps.shape, x.dtype)
    if y.size:
        (columns_given if last else maps_given)(maps, mean, var, eps, weight, bias, y)
    return y.reshape(x.shape)


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
    eps : float, at least 0
    layout : None, "NCL", "NCHW", "NCDHW", or "NLC", "NHWC", "NDHWC"

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "batch_norm_forward"
    maps = _Maps(name, x, weight, bias, eps, layout, 0)
    C = (maps.channels,)
    return maps.given(as_fitting(name, "mean", mean, C, maps.dtype), as_fitting(name, "var", var, C, maps.dtype))


def batch_norm_vjp(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    layout: str | None = None,
) -> tuple[tuple[Array, Array, Array], Pullback]:
    """Normalise each channel over batch and space by its own statistics, and return the pullback.

        xhat = (x - mean) / sqrt(var + eps)             y = weight * xhat + bias
        dx = weight * (dy - mean(dy) - xhat * mean(dy * xhat)) / sqrt(var + eps)
        dweight = sum dy * xhat                         dbias = sum dy

    Arguments are those of `batch_norm_forward`. A channel must have at least two values.

    Returns
    -------
    y, mean, var : ndarrays (shape of x), (C,), (C,). The variance is the biased one.
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        Gradients of weight and bias are added into the arrays of the mapping `grads` where it has them. May succeed once; a
        second call raises RuntimeError.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Ioffe & Szegedy 2015, Batch normalization, algorithm 1.
    """
    name = "batch_norm_vjp"
    maps = _Maps(name, x, weight, bias, eps, layout, 0)
    if maps.x.size < 2 * maps.channels or not maps.channels:
        raise ShapeError(f"{name}: 'x' must have at least two values for each channel, got shape {maps.shape}")
    mean, var = np.empty(maps.channels), np.empty(maps.channels)
    y, pullback = maps.trained(mean, var)
    return (y, mean.astype(maps.dtype), var.astype(maps.dtype)), pullback


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

        xhat = (x - mean) / sqrt(var + eps)             y = weight * xhat + bias

    with mean and (biased) variance over one group of one sample.

    Parameters
    ----------
    x : ndarray (N, C) or (N, C, *sizes), with channels last if `layout` says so; float32 or float64
    num_groups : int that divides C
    weight, bias : ndarrays (C,), optional
    eps : float, at least 0
    layout : None, "NCL", "NCHW", "NCDHW", or "NLC", "NHWC", "NDHWC"

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Wu & He 2018, Group normalization, equations 1, 2 and 7.
    """
    name = "group_norm_forward"
    groups = positive_int(name, "num_groups", num_groups)
    return _Maps(name, x, weight, bias, eps, layout, groups).normalise()


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

        g = weight * dy         dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)
        dweight = sum dy * xhat                         dbias = sum dy

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``, as that of `batch_norm_vjp`
    """
    name = "group_norm_vjp"
    groups = positive_int(name, "num_groups", num_groups)
    maps = _Maps(name, x, weight, bias, eps, layout, groups)
    return maps.trained(np.empty(maps.sets), np.empty(maps.sets))


class _Rows:
    """The rows of x, each normalised by itself."""

    def __init__(self, name: str, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any) -> None:
        self.name = name
        sizes = as_sizes(name, normalized_shape)
        array = as_float_array(name, "x", x)
        if array.shape[max(0, array.ndim - len(sizes)) :] != sizes:
            spec = ", ".join(map(str, sizes))
            raise ShapeError(f"{name}: 'x' must have shape (..., {spec}), got {array.shape}")
        self.sizes, self.shape, self.dtype = sizes, array.shape, array.dtype
        self.eps = finite_float(name, "eps", eps, 0)
        self.affine = _Affine.checked(name, weight, bias, sizes, self.dtype)
        self.x = np.ascontiguousarray(array).reshape(-1, math.prod(sizes))

    def forward(self, keep: bool) -> tuple[Array, Array | None, Array | None]:
        """Return y and, if they are kept, xhat and the factor of each row."""
        y = empty(self.x.shape, self.dtype)
        xhat = empty(self.x.shape, self.dtype) if keep else None
        scale = np.empty(len(self.x), self.dtype) if keep else None
        rows_forward(self.x, self.affine.weight, self.affine.bias, self.eps, y, xhat, scale)
        return y.reshape(self.shape), xhat, scale

    def trained(self) -> tuple[Array, Pullback]:
        """Return y and the pullback."""
        y, xhat, scale = self.forward(keep=True)
        name, shape, sizes, dtype = self.name, self.shape, self.sizes, self.dtype
        shapes, weight = self.affine.shapes, self.affine.weight.copy()

        def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> tuple[Array, Grads]:
            gradient = np.ascontiguousarray(as_fitting(name, "dy", dy, shape, dtype))
            sums = check_grads(name, shapes, grads, dtype)
            assert xhat is not None and scale is not None
            rows, length = xhat.shape
            chunk = 4 * -(-max(LEAST_ROWS, -(-rows // MOST_CHUNKS)) // 4)
            parts = empty((-(-rows // chunk), 2, length), dtype)
            parts.fill(0)
            rows_backward(gradient.reshape(rows, length), xhat, scale, weight, xhat, parts, chunk)
            for index, key in enumerate(("weight", "bias")):
                if key in sums:
                    sums[key] += parts[:, index].sum(0).reshape(sizes)
            return xhat.reshape(shape), sums  # dx has taken the place of xhat

        return y, once(name, pullback)


def given_rows(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Return x normalised over the axes of weight; all is checked already, and weight and bias contiguous."""
    rows = np.ascontiguousarray(x).reshape(-1, weight.size)
    y = empty(rows.shape, x.dtype)
    rows_forward(rows, weight, bias, eps, y, None, None)
    return y.reshape(x.shape)


def as_sizes(name: str, normalized_shape: Any) -> tuple[int, ...]:
    """Return the shape that `LayerNorm` takes as an int or a sequence."""
    if isinstance(normalized_shape, (tuple, list)) and normalized_shape:
        return tuple(plain_int(name, "normalized_shape", size, 1) for size in normalized_shape)
    return (plain_int(name, "normalized_shape", normalized_shape, 1),)


def layer_norm_forward(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    """Normalise over the last axes, which have the shape `normalized_shape`.

        xhat = (x - mean) / sqrt(var + eps)             y = weight * xhat + bias

    with mean and (biased) variance over those axes.

    Parameters
    ----------
    x : ndarray (..., *normalized_shape), float32 or float64
    normalized_shape : int or tuple of int, at least 1
    weight, bias : ndarrays of the shape normalized_shape, optional
    eps : float, at least 0

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Ba, Kiros & Hinton 2016, Layer normalization, equation 4.
    """
    return _Rows("layer_norm_forward", x, normalized_shape, weight, bias, eps).forward(keep=False)[0]


def layer_norm_vjp(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Array, Pullback]:
    """Normalise over the last axes and return the pullback. Arguments are those of `layer_norm_forward`.

        g = weight * dy         dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)
        dweight = sum dy * xhat                         dbias = sum dy

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``, as that of `batch_norm_vjp`
    """
    return _Rows("layer_norm_vjp", x, normalized_shape, weight, bias, eps).trained()
