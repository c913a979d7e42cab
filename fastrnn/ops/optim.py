"""Optimizer steps on one parameter, in place: one fused pass each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_float_array, finite_float, positive_int
from fastrnn._kernels import _optim
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.ops._recurrent import check_writable

Array = NDArray[Any]

__all__ = ["adam_step", "sgd_step"]


def _check(name: str, param: Array, **others: Array) -> None:
    dtype = as_float_array(name, "param", param).dtype
    for arg, array in {"param": param, **others}.items():
        if arg != "grad":
            check_writable(name, arg, array, dtype)
        elif not isinstance(array, np.ndarray) or array.dtype != dtype:
            raise DTypeError(
                f"{name}: 'grad' must have dtype {dtype}, got {getattr(array, 'dtype', type(array).__name__)}"
            )
        if array.shape != param.shape:
            raise ShapeError(f"{name}: '{arg}' must have shape {param.shape}, got {array.shape}")
        if not array.flags.c_contiguous or not array.flags.aligned:
            raise ArgumentError(f"{name}: '{arg}' must be C-contiguous, got strides {array.strides}")


def _check_numbers(name: str, **numbers: float) -> None:
    for arg, value in numbers.items():
        finite_float(name, arg, value)


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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Sutskever et al. 2013, On the importance of initialization and momentum in deep learning.
    """
    _check_numbers("sgd_step", lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    used = buf if momentum != 0 else None
    _check("sgd_step", param, grad=grad, **({} if used is None else {"buf": used}))
    _optim.sgd(
        param,
        grad,
        used,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        first=first,
    )


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

    Raises
    ------
    ShapeError, DTypeError, ArgumentError

    References
    ----------
    Kingma & Ba 2015, Adam, algorithm 1; Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2.
    """
    _check_numbers("adam_step", lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    _check("adam_step", param, grad=grad, m=m, v=v)
    count = positive_int("adam_step", "step", step)
    _optim.adam(
        param,
        grad,
        m,
        v,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        correction1=1 - beta1**count,
        correction2=1 - beta2**count,
        decoupled=decoupled,
    )
