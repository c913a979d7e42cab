"""Optimizer steps on one parameter, in place.

Each takes ``rows``: only these rows of `param`, `grad` and what is kept are read or written, as if the others were not
there ("lazy" updates, for the gradients of embeddings).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._common import Array, quietly

Step = Callable[..., None]


def _by_rows(step: Step) -> Step:
    """Let `step` take `rows`: it then works on copies of them."""

    @quietly
    @functools.wraps(step)
    def run(*arrays: Array | None, rows: Array | None = None, **options: Any) -> None:
        if rows is None:
            step(*arrays, **options)
            return
        given = {str(index): array for index, array in enumerate(arrays)}
        kept = {name: value for name, value in options.items() if isinstance(value, np.ndarray)}
        copies = {name: None if array is None else array[rows] for name, array in (given | kept).items()}
        step(*(copies[name] for name in given), **(options | {name: copies[name] for name in kept}))
        for name, array in (given | kept).items():
            if array is not None and name != "1":
                array[rows] = copies[name]

    return run


@_by_rows
def sgd_step(
    param: Array,
    grad: Array,
    buf: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    first: bool = False,
) -> None:
    """Stochastic gradient descent with momentum, as PyTorch defines it.

        g = grad + weight_decay * param
        buf = momentum * buf + (1 - dampening) * g              on the first step: buf = g
        g = g + momentum * buf if nesterov, else buf            without momentum: g stays
        param -= lr * g

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    buf : ndarray, shape of param, updated in place; may be None when momentum is 0
    first : bool. This is the first step of `buf`.

    References
    ----------
    Sutskever et al. 2013, On the importance of initialization and momentum in deep learning.
    """
    g = grad + weight_decay * param if weight_decay != 0 else grad
    if buf is not None and momentum != 0:
        buf[...] = g if first else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    param -= lr * g


@_by_rows
def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    most: Array | None = None,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Adam, and AdamW with ``decoupled=True``, as PyTorch defines them.

        param *= 1 - lr * weight_decay                          if decoupled, else g = grad + weight_decay * param
        m = beta1 * m + (1 - beta1) * g                         v = beta2 * v + (1 - beta2) * g**2
        param -= lr * (m / (1 - beta1**step)) / (sqrt(v / (1 - beta2**step)) + eps)

    With `most` (AMSGrad) the last line has ``most = max(most, v)`` in place of v.

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    m, v : ndarrays, shape of param, zeros before the first step; updated in place
    most : as v, optional
    step : int, 1 for the first step

    References
    ----------
    Kingma & Ba 2015, Adam, algorithm 1; Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2;
    Reddi, Kale & Kumar 2018, On the convergence of Adam and beyond, algorithm 2.
    """
    g = grad
    if decoupled:
        param *= 1 - lr * weight_decay
    elif weight_decay != 0:
        g = grad + weight_decay * param
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    m_unbiased = m / (1 - beta1**step)
    if most is not None:
        most[...] = np.maximum(most, v)
    root = np.sqrt(v if most is None else most) / math.sqrt(1 - beta2**step)
    param -= lr * m_unbiased / (root + eps)


@_by_rows
def rmsprop_step(
    param: Array,
    grad: Array,
    square: Array,
    mean: Array | None = None,
    buf: Array | None = None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """RMSprop, as PyTorch defines it.

        g = grad + weight_decay * param
        square = alpha * square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g                   centered; without `mean` it is zero
        buf = momentum * buf + g / (sqrt(square - mean**2) + eps)
        param -= lr * buf

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    square : ndarray, shape of param, zeros before the first step; updated in place
    mean : as square, optional. Centered.
    buf : as square; needed for momentum

    References
    ----------
    Tieleman & Hinton 2012, Lecture 6.5: rmsprop; Graves 2013, Generating sequences with recurrent neural networks, (38)-(45).
    """
    g = grad + weight_decay * param if weight_decay != 0 else grad
    square[...] = alpha * square + (1 - alpha) * g * g
    spread = square
    if mean is not None:
        mean[...] = alpha * mean + (1 - alpha) * g
        spread = np.maximum(square - mean * mean, 0)  # rounding may leave a little less than zero
    step = g / (np.sqrt(spread) + eps)
    if buf is not None and momentum != 0:
        buf[...] = momentum * buf + step
        step = buf
    param -= lr * step


@_by_rows
def adagrad_step(param: Array, grad: Array, total: Array, *, lr: float, eps: float, weight_decay: float = 0.0) -> None:
    """Adagrad, as PyTorch defines it.

        g = grad + weight_decay * param
        total = total + g**2                                    param -= lr * g / (sqrt(total) + eps)

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    total : ndarray, shape of param, updated in place

    References
    ----------
    Duchi, Hazan & Singer 2011, Adaptive subgradient methods for online learning and stochastic optimization.
    """
    g = grad + weight_decay * param if weight_decay != 0 else grad
    total += g * g
    param -= lr * g / (np.sqrt(total) + eps)


@_by_rows
def adadelta_step(
    param: Array,
    grad: Array,
    square: Array,
    moved: Array,
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """Adadelta, as PyTorch defines it.

        g = grad + weight_decay * param
        square = rho * square + (1 - rho) * g**2                d = sqrt(moved + eps) / sqrt(square + eps) * g
        moved = rho * moved + (1 - rho) * d**2                  param -= lr * d

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    square, moved : ndarrays, shape of param, zeros before the first step; updated in place

    References
    ----------
    Zeiler 2012, ADADELTA: an adaptive learning rate method, algorithm 1.
    """
    g = grad + weight_decay * param if weight_decay != 0 else grad
    square[...] = rho * square + (1 - rho) * g * g
    d = np.sqrt(moved + eps) / np.sqrt(square + eps) * g
    moved[...] = rho * moved + (1 - rho) * d * d
    param -= lr * d
