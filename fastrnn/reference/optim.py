"""Optimizer steps on one parameter, in place."""

from __future__ import annotations

import math

import numpy as np

from ._common import Array, quietly


@quietly
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


@quietly
def adam_step(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
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

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    m, v : ndarrays, shape of param, zeros before the first step; updated in place
    step : int, 1 for the first step

    References
    ----------
    Kingma & Ba 2015, Adam, algorithm 1; Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2.
    """
    g = grad
    if decoupled:
        param *= 1 - lr * weight_decay
    elif weight_decay != 0:
        g = grad + weight_decay * param
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    m_unbiased = m / (1 - beta1**step)
    root = np.sqrt(v) / math.sqrt(1 - beta2**step)
    param -= lr * m_unbiased / (root + eps)
