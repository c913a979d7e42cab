"""Normalisation by what is near: over neighbouring channels, or over a window of space and all channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._common import Array, called_once, quietly

Pullback = Callable[[Array], Array]


def _window_sums(x: Array, size: int, flipped: bool = False) -> Array:
    """Return the sums over channels c - size//2 .. c + (size-1)//2 of x (N, C, ...); `flipped` swaps the two ends."""
    before, after = size // 2, (size - 1) // 2
    if flipped:
        before, after = after, before
    padded = np.pad(x, ((0, 0), (before, after), *((0, 0),) * (x.ndim - 2)))
    return sum((padded[:, tap : tap + x.shape[1]] for tap in range(size)), np.zeros_like(x))


@quietly
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
    """
    return local_response_norm_vjp(x, size, alpha=alpha, beta=beta, k=k)[0]


@quietly
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
    x = np.array(x)
    share, k, beta = x.dtype.type(alpha / size), x.dtype.type(k), x.dtype.type(beta)
    divisor = k + share * _window_sums(np.square(x), size)

    def pullback(dy: Array) -> Array:
        inner = dy * x * divisor ** (-beta - 1)
        result: Array = dy * divisor**-beta - 2 * share * beta * x * _window_sums(inner, size, flipped=True)
        return result

    return x * divisor**-beta, called_once("local_response_norm_vjp", pullback)


def gaussian_window(size: int, sigma: float) -> Array:
    """Return `size` weights of a Gaussian about their middle, of sum 1."""
    places = np.arange(size) - (size - 1) / 2
    weights: Array = np.exp(-np.square(places / sigma) / 2)
    result: Array = weights / weights.sum()
    return result


def _weighted(x: Array, window: Array) -> Array:
    """Return the weighted sums over a centred window of the last two axes; what is outside counts as zero."""
    for axis in (-2, -1):
        half = len(window) // 2
        pads = [(0, 0)] * x.ndim
        pads[axis] = (half, half)
        padded = np.moveaxis(np.pad(x, pads), axis, 0)
        size = x.shape[axis]
        parts = (weight * padded[tap : tap + size] for tap, weight in enumerate(window.astype(x.dtype)))
        x = np.moveaxis(sum(parts, np.zeros_like(padded[:size])), 0, axis)
    return x


@quietly
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
    """
    return local_contrast_norm_vjp(x, size, sigma=sigma, eps=eps)[0]


@quietly
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
    window = gaussian_window(size, size / 4 if sigma is None else sigma)
    C = x.shape[1]
    weights = _weighted(np.ones((1, 1, *x.shape[2:]), x.dtype), window) * C

    def mean_around(maps: Array) -> Array:  # (N, C, H, W) -> (N, 1, H, W)
        result: Array = _weighted(maps.sum(1, keepdims=True), window) / weights
        return result

    def back(gradient: Array) -> Array:  # its transpose; the same for every channel
        return _weighted(gradient / weights, window)

    v = x - mean_around(x)
    s = np.sqrt(mean_around(np.square(v)))
    mean = s.mean((2, 3), keepdims=True)
    divisor = np.maximum(np.maximum(mean, s), x.dtype.type(eps))

    def pullback(dy: Array) -> Array:
        dd = -(dy * v / np.square(divisor)).sum(1, keepdims=True)
        from_mean = np.where((mean >= s) & (mean >= eps), dd, 0).sum((2, 3), keepdims=True) / (s.shape[2] * s.shape[3])
        ds = np.where((s > mean) & (s >= eps), dd, 0) + from_mean
        dv = dy / divisor + v * back(np.divide(ds, s, out=np.zeros_like(ds), where=s != 0))
        result: Array = dv - back(dv.sum(1, keepdims=True))
        return result

    return v / divisor, called_once("local_contrast_norm_vjp", pullback)
