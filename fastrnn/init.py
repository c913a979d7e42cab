"""Initial values of parameters.

Each function returns a new array of `shape`, drawn from `rng`. A weight is (fan_out, fan_in); further axes belong to a
filter window, so (K, C, R, S) has fan_in C*R*S and fan_out K*R*S. Values are drawn in float64 and then rounded: one
seed gives the same weights in either dtype.

Layers take these by name ("glorot", "orthogonal", ...) or as functions ``f(shape, *, dtype, rng)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn._checks import FloatArray, as_generator, choice
from fastrnn.errors import ArgumentError

__all__ = [
    "Initializer",
    "RandomSource",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "normal",
    "orthogonal",
    "uniform",
    "zeros",
]

RandomSource: TypeAlias = "int | np.random.Generator | None"
Initializer: TypeAlias = "str | Callable[..., FloatArray]"


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight."""
    if len(shape) < 2:
        raise ArgumentError(f"init: 'shape' must have at least 2 axes (fan_out, fan_in), got {tuple(shape)}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def zeros(shape: Sequence[int], *, dtype: DTypeLike = np.float32, rng: RandomSource = None) -> FloatArray:
    """Return zeros; `rng` is not used."""
    return np.zeros(shape, dtype)


def identity(
    shape: Sequence[int], *, gain: float = 1.0, dtype: DTypeLike = np.float32, rng: RandomSource = None
) -> FloatArray:
    """Return `gain` times the (rectangular) identity; `rng` is not used.

    For the recurrent weights of a ReLU network, which then starts by keeping its state.

    References
    ----------
    Le, Jaitly & Hinton 2015, A simple way to initialize recurrent networks of rectified linear units, section 3.
    """
    rows, columns = _matrix(shape)
    return np.asarray(gain * np.eye(rows, columns), dtype).reshape(shape)


def uniform(
    shape: Sequence[int], *, bound: float = 0.05, dtype: DTypeLike = np.float32, rng: RandomSource = None
) -> FloatArray:
    """Return values uniform in [-bound, bound), variance bound**2 / 3."""
    return np.asarray(as_generator("uniform", rng).uniform(-bound, bound, shape), dtype)


def normal(
    shape: Sequence[int], *, std: float = 1.0, dtype: DTypeLike = np.float32, rng: RandomSource = None
) -> FloatArray:
    """Return normal values of mean 0 and standard deviation `std`."""
    return np.asarray(as_generator("normal", rng).normal(0.0, std, shape), dtype)


def glorot_uniform(shape: Sequence[int], *, dtype: DTypeLike = np.float32, rng: RandomSource = None) -> FloatArray:
    """Return values uniform in +-sqrt(6 / (fan_in + fan_out)), variance 2 / (fan_in + fan_out).

    References
    ----------
    Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, equation 16.
    """
    return uniform(shape, bound=math.sqrt(6 / max(sum(_fans(shape)), 1)), dtype=dtype, rng=rng)


def glorot_normal(shape: Sequence[int], *, dtype: DTypeLike = np.float32, rng: RandomSource = None) -> FloatArray:
    """Return normal values of variance 2 / (fan_in + fan_out).

    References
    ----------
    Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, equation 12.
    """
    return normal(shape, std=math.sqrt(2 / max(sum(_fans(shape)), 1)), dtype=dtype, rng=rng)


def he_uniform(shape: Sequence[int], *, dtype: DTypeLike = np.float32, rng: RandomSource = None) -> FloatArray:
    """Return values uniform in +-sqrt(6 / fan_in), variance 2 / fan_in, for layers followed by a ReLU.

    References
    ----------
    He, Zhang, Ren & Sun 2015, Delving deep into rectifiers, equation 10.
    """
    return uniform(shape, bound=math.sqrt(6 / max(_fans(shape)[0], 1)), dtype=dtype, rng=rng)


def he_normal(shape: Sequence[int], *, dtype: DTypeLike = np.float32, rng: RandomSource = None) -> FloatArray:
    """Return normal values of variance 2 / fan_in, for layers followed by a ReLU.

    References
    ----------
    He, Zhang, Ren & Sun 2015, Delving deep into rectifiers, equation 10.
    """
    return normal(shape, std=math.sqrt(2 / max(_fans(shape)[0], 1)), dtype=dtype, rng=rng)


def orthogonal(
    shape: Sequence[int], *, gain: float = 1.0, dtype: DTypeLike = np.float32, rng: RandomSource = None
) -> FloatArray:
    """Return `gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    Q of the QR decomposition of a normal matrix, with the signs of R's diagonal moved into it, is uniform over the
    orthogonal group.

    References
    ----------
    Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep linear networks.
    Mezzadri 2007, How to generate random matrices from the classical compact groups, section 5.
    """
    rows, columns = _matrix(shape)
    tall = as_generator("orthogonal", rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r) < 0, -gain, gain)
    return np.asarray(q if rows >= columns else q.T, dtype, order="C").reshape(shape)


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Return the shape as that of a matrix: the axes after the first become one."""
    _fans(shape)
    return shape[0], math.prod(shape[1:])


_BY_NAME: dict[str, Callable[..., FloatArray]] = {
    "glorot": glorot_uniform,
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he": he_uniform,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "identity": identity,
    "normal": normal,
    "orthogonal": orthogonal,
    "uniform": uniform,
    "zeros": zeros,
}


def initializer(name: str, arg: str, value: Initializer, torch_bound: float) -> Callable[..., FloatArray]:
    """Return the function that `value`, an option of the layer `name`, stands for.

    "torch" is PyTorch's own choice, uniform in +-`torch_bound`.
    """
    if callable(value):
        return value
    if choice(name, arg, value, (*_BY_NAME, "torch")) != "torch":
        return _BY_NAME[value]

    def torch_uniform(shape: Sequence[int], *, dtype: DTypeLike, rng: RandomSource) -> FloatArray:
        return uniform(shape, bound=torch_bound, dtype=dtype, rng=rng)

    return torch_uniform
