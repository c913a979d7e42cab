"""Optimizer steps on one parameter, in place: one fused pass each.

Each takes ``rows``: only these rows of `param`, `grad` and what is kept are read or written, as if the others were not
there ("lazy" updates, for the gradients of embeddings). They are an int array of row numbers, each at most once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import IntArray, as_float_array, as_tokens, finite_float, flag, positive_int
from fastrnn._kernels import _optim
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.ops._recurrent import check_writable

Array = NDArray[Any]

__all__ = [
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "clip_values",
    "rmsprop_step",
    "scale_values",
    "sgd_step",
    "sum_of_squares",
]


def _check(name: str, param: Array, **others: Array | None) -> None:
    dtype = as_float_array(name, "param", param).dtype
    for arg, array in {"param": param, **others}.items():
        if array is None and arg != "grad":
            continue
        if arg != "grad":
            check_writable(name, arg, array, dtype)
        elif not isinstance(array, np.ndarray) or array.dtype != dtype:
            raise DTypeError(
                f"{name}: 'grad' must have dtype {dtype}, got {getattr(array, 'dtype', type(array).__name__)}"
            )
        assert array is not None  # for mypy; None was refused above
        if array.shape != param.shape:
            raise ShapeError(f"{name}: '{arg}' must have shape {param.shape}, got {array.shape}")
        if not array.flags.c_contiguous or not array.flags.aligned:
            raise ArgumentError(f"{name}: '{arg}' must be C-contiguous, got strides {array.strides}")


def _check_kept(name: str, **arrays: Array | None) -> None:
    for arg, array in arrays.items():
        if array is None:
            raise DTypeError(f"{name}: '{arg}' must be a writable array, got None")


def _check_numbers(name: str, **numbers: float) -> None:
    for arg, value in numbers.items():
        finite_float(name, arg, value)


def _checked_rows(name: str, rows: object, param: Array) -> IntArray | None:
    if rows is None:
        return None
    if param.ndim == 0:
        raise ShapeError(f"{name}: 'rows' must be None for a parameter without axes, got {rows!r}")
    numbers = as_tokens(name, "rows", rows, len(param)).reshape(-1)
    if numbers.size > 1 and (np.diff(numbers) <= 0).any() and len(np.unique(numbers)) < numbers.size:
        raise ArgumentError(f"{name}: 'rows' must name each row once, got repeated ones")
    return numbers


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
    rows: Sequence[int] | IntArray | None = None,
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
    rows : int array (n,), optional

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError

    References
    ----------
    Sutskever et al. 2013, On the importance of initialization and momentum in deep learning.
    """
    name = "sgd_step"
    _check_numbers(name, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    if momentum != 0:
        _check_kept(name, buf=buf)
    used = buf if momentum != 0 else None
    _check(name, param, grad=grad, buf=used)
    _optim.update(
        "sgd",
        param,
        grad,
        (used,),
        _checked_rows(name, rows, param),
        lr=lr,
        beta1=momentum,
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
    most: Array | None = None,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    rows: Sequence[int] | IntArray | None = None,
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
    rows : int array (n,), optional

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError

    References
    ----------
    Kingma & Ba 2015, Adam, algorithm 1; Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2;
    Reddi, Kale & Kumar 2018, On the convergence of Adam and beyond, algorithm 2.
    """
    name = "adam_step"
    _check_numbers(name, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    _check_kept(name, m=m, v=v)
    _check(name, param, grad=grad, m=m, v=v, most=most)
    count = positive_int(name, "step", step)
    _optim.update(
        "adam",
        param,
        grad,
        (m, v, most),
        _checked_rows(name, rows, param),
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        correction1=1 - beta1**count,
        correction2=1 - beta2**count,
        decoupled=flag(name, "decoupled", decoupled),
    )


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
    rows: Sequence[int] | IntArray | None = None,
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
    rows : int array (n,), optional

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError

    References
    ----------
    Tieleman & Hinton 2012, Lecture 6.5: rmsprop; Graves 2013, Generating sequences with recurrent neural networks, (38)-(45).
    """
    name = "rmsprop_step"
    _check_numbers(name, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)
    if momentum != 0:
        _check_kept(name, buf=buf)
    used = buf if momentum != 0 else None
    _check_kept(name, square=square)
    _check(name, param, grad=grad, square=square, mean=mean, buf=used)
    _optim.update(
        "rmsprop",
        param,
        grad,
        (square, mean, used),
        _checked_rows(name, rows, param),
        lr=lr,
        beta1=momentum,
        beta2=alpha,
        eps=eps,
        weight_decay=weight_decay,
    )


def adagrad_step(
    param: Array,
    grad: Array,
    total: Array,
    *,
    lr: float,
    eps: float,
    weight_decay: float = 0.0,
    rows: Sequence[int] | IntArray | None = None,
) -> None:
    """Adagrad, as PyTorch defines it.

        g = grad + weight_decay * param
        total = total + g**2                                    param -= lr * g / (sqrt(total) + eps)

    Parameters
    ----------
    param : ndarray, updated in place
    grad : ndarray, shape of param
    total : ndarray, shape of param, updated in place
    rows : int array (n,), optional

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError

    References
    ----------
    Duchi, Hazan & Singer 2011, Adaptive subgradient methods for online learning and stochastic optimization.
    """
    name = "adagrad_step"
    _check_numbers(name, lr=lr, eps=eps, weight_decay=weight_decay)
    _check_kept(name, total=total)
    _check(name, param, grad=grad, total=total)
    found = _checked_rows(name, rows, param)
    _optim.update("adagrad", param, grad, (total,), found, lr=lr, eps=eps, weight_decay=weight_decay)


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
    rows: Sequence[int] | IntArray | None = None,
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
    rows : int array (n,), optional

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError

    References
    ----------
    Zeiler 2012, ADADELTA: an adaptive learning rate method, algorithm 1.
    """
    name = "adadelta_step"
    _check_numbers(name, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
    _check_kept(name, square=square, moved=moved)
    _check(name, param, grad=grad, square=square, moved=moved)
    found = _checked_rows(name, rows, param)
    _optim.update("adadelta", param, grad, (square, moved), found, lr=lr, beta2=rho, eps=eps, weight_decay=weight_decay)


def _flat(name: str, array: Array) -> Array:
    check_writable(name, "array", array, as_float_array(name, "array", array).dtype)
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ArgumentError(f"{name}: 'array' must be C-contiguous, got strides {array.strides}")
    return array


def sum_of_squares(array: Array) -> float:
    """Return the sum of squares, in float64 over pieces of 1024 elements that are summed in the array's dtype.

    Parameters
    ----------
    array : ndarray, float32 or float64

    Raises
    ------
    DTypeError
    """
    flat = np.ascontiguousarray(as_float_array("sum_of_squares", "array", array)).reshape(-1)
    sums = np.empty(-(-flat.size // _optim.chunk_size()))
    _optim.sum_squares(flat, sums)
    return float(sums.sum())


def scale_values(array: Array, factor: float) -> None:
    """Multiply a C-contiguous array by a number, in place.

    Raises
    ------
    DTypeError, ArgumentError
    """
    _optim.scale(_flat("scale_values", array), float(factor))


def clip_values(array: Array, limit: float) -> None:
    """Limit the elements of a C-contiguous array to -limit..limit, in place; NaN stays.

    Raises
    ------
    DTypeError, ArgumentError
    """
    _optim.limit(_flat("clip_values", array), float(limit))
