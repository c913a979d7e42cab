"""Normalisation by what is near: over neighbouring channels, or over a window of space and all channels.

The sums are convolutions; the rest is NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_fitting, as_float_array, check_shape, finite_float, positive_int
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._recurrent import once
from fastrnn.ops.conv import conv_forward

Array = NDArray[Any]
Pullback = Callable[[Array], Array]

__all__ = [
    "local_contrast_norm_forward",
    "local_contrast_norm_vjp",
    "local_response_norm_forward",
    "local_response_norm_vjp",
]


def _window_sums(x: Array, size: int, flipped: bool = False) -> Array:
    """Return the sums over channels c - size//2 .. c + (size-1)//2 of x (N, C, ...); `flipped` swaps the two ends."""
    N, C, *places = x.shape
    around = (size // 2, (size - 1) // 2)
    images = x.reshape(N, 1, C, math.prod(places))  # a column of taps slides over the channels
    padding = (around[::-1] if flipped else around, (0, 0))
    return conv_forward(images, np.ones((1, 1, size, 1), x.dtype), padding=padding, algorithm="direct").reshape(x.shape)


def local_response_norm_forward(
    x: Array, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide each value by a power of the squares in the channels around it.

        y_c = x_c / (k + alpha / size * sum of x_j**2 over j = c - size//2 .. c + (size-1)//2) ** beta

    Channels that are not there count as zeros.

    Parameters
    ----------
    x : ndarray (N, C, ...), float32 or float64
    size : int
    alpha, beta, k : float

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return local_response_norm_vjp(x, size, alpha=alpha, beta=beta, k=k)[0]


def local_response_norm_vjp(
    x: Array, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, Pullback]:
    """Normalise over neighbouring channels and return the pullback. Arguments are those of `local_response_norm_forward`.

        d_c = k + alpha / size * sum of x_j**2          y_c = x_c d_c**-beta
        dx_j = dy_j d_j**-beta - 2 alpha beta / size * x_j * sum of dy_c x_c d_c**(-beta - 1) over the c whose window has j

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural networks, 3.3.
    """
    name = "local_response_norm_vjp"
    x, size = np.array(as_float_array(name, "x", x)), positive_int(name, "size", size)
    if x.ndim < 3:
        raise ShapeError(f"{name}: 'x' must have shape (N, C, ...) with at least one more axis, got {x.shape}")
    numbers = [finite_float(name, arg, value) for arg, value in (("alpha", alpha), ("beta", beta), ("k", k))]
    share, beta, k = (x.dtype.type(number) for number in (numbers[0] / size, *numbers[1:]))
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        divisor = k + share * _window_sums(np.square(x), size)
        y = x * divisor**-beta

    def pullback(dy: Array) -> Array:
        dy = as_fitting(name, "dy", dy, x.shape, x.dtype)
        with np.errstate(all="ignore"):
            inner = dy * x * divisor ** (-beta - 1)
            result: Array = dy * divisor**-beta - 2 * share * beta * x * _window_sums(inner, size, flipped=True)
            return result

    return y, once(name, pullback)


def _gaussian_window(size: int, sigma: float) -> Array:
    """Return size x size weights of a Gaussian about their middle, of sum 1."""
    places = np.arange(size) - (size - 1) / 2
    line = np.exp(-np.square(places / sigma) / 2)
    weights: Array = np.outer(line, line) / line.sum() ** 2
    return weights


def _weighted(x: Array, window: Array) -> Array:
    """Return the weighted sums of x (N, 1, H, W) over a centred window; what is outside counts as zero."""
    return conv_forward(x, window.astype(x.dtype)[None, None], padding="same", algorithm="direct")


def local_contrast_norm_forward(x: Array, size: int = 9, *, sigma: float | None = None, eps: float = 1e-5) -> Array:
    """Subtract the weighted mean around each place, then divide by the weighted standard deviation around it.

        v = x - W x                                     subtractive
        s = sqrt(W v**2)
        y = v / max(mean over places of s, s, eps)      divisive

    W is the mean over all channels and over a window of size x size places with Gaussian weights, places outside the map left
    out and the weights of the others scaled to a sum of 1.

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
    size : int, odd
    sigma : float
        Standard deviation of the window, in places. size / 4 if None.
    eps : float

    Returns
    -------
    y : ndarray, shape of x

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    return local_contrast_norm_vjp(x, size, sigma=sigma, eps=eps)[0]


def local_contrast_norm_vjp(
    x: Array, size: int = 9, *, sigma: float | None = None, eps: float = 1e-5
) -> tuple[Array, Pullback]:
    """Normalise local contrast and return the pullback. Arguments are those of `local_contrast_norm_forward`.

    With d = max(mean(s), s, eps), W^T the transpose of W, and ds the gradient of s,

        ds = -sum over channels of dy v / d**2          where d is s; spread evenly over all places where d is their mean
        dv = dy / d + v * W^T (ds / s)                  dx = dv - W^T dv

    and nothing comes from s where s is zero.

    Returns
    -------
    y : ndarray, shape of x
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.

    References
    ----------
    Jarrett, Kavukcuoglu, Ranzato & LeCun 2009, What is the best multi-stage architecture for object recognition?, 2.
    """
    name = "local_contrast_norm_vjp"
    x = as_float_array(name, "x", x)
    check_shape(name, "x", x, "(N, C, H, W)")
    if positive_int(name, "size", size) % 2 == 0:
        raise ArgumentError(f"{name}: 'size' must be odd, got {size}")
    width = size / 4 if sigma is None else finite_float(name, "sigma", sigma, 0)
    least = x.dtype.type(finite_float(name, "eps", eps, 0))
    if not width:
        raise ArgumentError(f"{name}: 'sigma' must be positive, got {sigma!r}")
    if not x.size:
        raise ShapeError(f"{name}: 'x' must have no empty axis, got {x.shape}")
    around = _Neighbourhood(x, _gaussian_window(size, width))
    with np.errstate(all="ignore"):  # infinities and NaN are answers here, not accidents
        v = x - around.mean(x)
        s = np.sqrt(around.mean(np.square(v)))
        mean = s.mean((2, 3), keepdims=True)
        divisor = np.maximum(np.maximum(mean, s), least)
        y = v / divisor

    def pullback(dy: Array) -> Array:
        dy = as_fitting(name, "dy", dy, v.shape, v.dtype)
        with np.errstate(all="ignore"):
            dd = -(dy * v / np.square(divisor)).sum(1, keepdims=True)
            even = np.where((mean >= s) & (mean >= least), dd, 0).mean((2, 3), keepdims=True)
            ds = np.where((s > mean) & (s >= least), dd, 0) + even
            dv = dy / divisor + v * around.back(np.divide(ds, s, out=np.zeros_like(ds), where=s != 0))
            result: Array = dv - around.back(dv.sum(1, keepdims=True))
            return result

    return y, once(name, pullback)


class _Neighbourhood:
    """The weighted mean around each place of maps, over all channels."""

    def __init__(self, x: Array, window: Array) -> None:
        self.window = window
        self.weights = _weighted(np.ones((1, 1, *x.shape[2:]), x.dtype), window) * x.dtype.type(x.shape[1])

    def mean(self, maps: Array) -> Array:
        """Return the means (N, 1, H, W) of maps (N, C, H, W)."""
        result: Array = _weighted(maps.sum(1, keepdims=True), self.window) / self.weights
        return result

    def back(self, gradient: Array) -> Array:
        """Return the gradient of maps, the same for each channel, from that of the means."""
        return _weighted(gradient / self.weights, self.window)
