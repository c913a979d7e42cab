"""Layers that only change how an array is read: its shape or the order of its axes.

Their results, and the gradients that they return, may be views of what they were given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn._checks import FloatArray, as_float_array, plain_int
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.pooling import Optioned, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = ["Flatten", "Identity", "Permute", "Reshape", "Transpose", "Unflatten"]

Sizes = tuple[int, ...]


class _Reshaping(Optioned):
    """Common part of the layers that change the shape."""

    def _new_shape(self, shape: Sizes) -> Sizes:
        """Return the shape of y, or raise `ShapeError`."""
        raise NotImplementedError

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return x in its new shape.

        Raises
        ------
        ShapeError, DTypeError
        """
        array = as_float_array(self._name, "x", x)
        return array.reshape(self._new_shape(array.shape))

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return x in its new shape, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        y, shape = self(x), np.shape(x)
        return y, simple_pullback(self._name, (), y, lambda dy: dy.reshape(shape))

    def _axis(self, arg: str, axis: int, shape: Sizes) -> int:
        if not -len(shape) <= axis < len(shape):
            raise ShapeError(f"{self._name}: 'x' must have an axis {axis} ('{arg}'), got shape {shape}")
        return axis % len(shape)


def _with_rest(name: str, sizes: Sizes, size: int, shape: Sizes) -> Sizes:
    """Return sizes whose product is `size`, the one that is -1 worked out."""
    known = math.prod(n for n in sizes if n != -1)
    if -1 in sizes:
        if known and size % known == 0:
            return tuple(size // known if n == -1 else n for n in sizes)
    elif known == size:
        return sizes
    raise ShapeError(f"{name}: 'x' must have {size} elements per sample that fit {sizes}, got shape {shape}")


def _checked_sizes(name: str, arg: str, sizes: Sequence[int]) -> Sizes:
    checked = tuple(plain_int(name, arg, size, -1) for size in sizes)
    if checked.count(-1) > 1:
        raise ArgumentError(f"{name}: '{arg}' must have at most one -1, got {checked}")
    return checked


@registered
class Identity(_Reshaping):
    """Return x as it is: a branch of `Parallel`, or the place of a layer that another model has."""

    def _option_values(self) -> dict[str, Any]:
        return {}

    def _new_shape(self, shape: Sizes) -> Sizes:
        return shape


@registered
class Flatten(_Reshaping):
    """Make one axis out of the axes from start_dim to end_dim; the batch axis stays by default.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of these axes.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = plain_int(self._name, "start_dim", start_dim)
        self.end_dim = plain_int(self._name, "end_dim", end_dim)

    def _option_values(self) -> dict[str, Any]:
        return {"start_dim": self.start_dim, "end_dim": self.end_dim}

    def _new_shape(self, shape: Sizes) -> Sizes:
        if not shape:
            return (1,)
        start, end = self._axis("start_dim", self.start_dim, shape), self._axis("end_dim", self.end_dim, shape)
        if start > end:
            raise ShapeError(
                f"{self._name}: 'x' must have axis {self.end_dim} after {self.start_dim}, got shape {shape}"
            )
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@registered
class Unflatten(_Reshaping):
    """Make several axes out of one.

    Parameters
    ----------
    dim : int
        Which axis.
    unflattened_size : sequence of int
        Its new sizes; one of them may be -1, whatever is left.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = plain_int(self._name, "dim", dim)
        if not isinstance(unflattened_size, (tuple, list)) or not unflattened_size:
            raise ArgumentError(f"{self._name}: 'unflattened_size' must be a tuple of ints, got {unflattened_size!r}")
        self.unflattened_size = _checked_sizes(self._name, "unflattened_size", unflattened_size)

    def _option_values(self) -> dict[str, Any]:
        return {"dim": self.dim, "unflattened_size": self.unflattened_size}

    def _new_shape(self, shape: Sizes) -> Sizes:
        axis = self._axis("dim", self.dim, shape)
        return (*shape[:axis], *_with_rest(self._name, self.unflattened_size, shape[axis], shape), *shape[axis + 1 :])


@registered
class Reshape(_Reshaping):
    """Give each sample another shape: (N, ...) becomes (N, *shape).

    Parameters
    ----------
    *shape : int
        Without the batch axis; one of them may be -1, whatever is left.
    """

    def __init__(self, *shape: int) -> None:
        self.shape = _checked_sizes(self._name, "shape", shape)

    def _option_values(self) -> dict[str, Any]:
        return {"shape": self.shape}

    @classmethod
    def from_config(cls, config: Any) -> Layer:
        """Build the layer from what `config` returned."""
        return cls(*config["shape"])

    def _options(self) -> str:
        return ", ".join(map(str, self.shape))

    def _new_shape(self, shape: Sizes) -> Sizes:
        if not shape:
            raise ShapeError(f"{self._name}: 'x' must have shape (N, ...), got ()")
        return (shape[0], *_with_rest(self._name, self.shape, math.prod(shape[1:]), shape))


class _Reordering(Optioned):
    """Common part of the layers that change the order of the axes."""

    def _order(self, shape: Sizes) -> Sizes:
        """Return which axis of x each axis of y is, or raise `ShapeError`."""
        raise NotImplementedError

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return x with its axes in their new order, as a view.

        Raises
        ------
        ShapeError, DTypeError
        """
        array = as_float_array(self._name, "x", x)
        return array.transpose(self._order(array.shape))

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return x with its axes in their new order, as a view, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        array = as_float_array(self._name, "x", x)
        order = self._order(array.shape)
        y, back = array.transpose(order), tuple(int(axis) for axis in np.argsort(order))
        return y, simple_pullback(self._name, (), y, lambda dy: dy.transpose(back))


@registered
class Permute(_Reordering):
    """Put all axes in a new order, the batch axis among them: ``Permute(2, 0, 1)`` makes (L, N, C) of (N, C, L).

    Parameters
    ----------
    *dims : int
        Which axis of x comes first, second and so on.
    """

    def __init__(self, *dims: int) -> None:
        self.dims = tuple(plain_int(self._name, "dims", dim) for dim in dims)
        count = len(self.dims)
        if not count or sorted(dim % count for dim in self.dims if -count <= dim < count) != list(range(count)):
            raise ArgumentError(f"{self._name}: 'dims' must be each axis once, got {self.dims}")

    def _option_values(self) -> dict[str, Any]:
        return {"dims": self.dims}

    @classmethod
    def from_config(cls, config: Any) -> Layer:
        """Build the layer from what `config` returned."""
        return cls(*config["dims"])

    def _options(self) -> str:
        return ", ".join(map(str, self.dims))

    def _order(self, shape: Sizes) -> Sizes:
        if len(shape) != len(self.dims):
            raise ShapeError(f"{self._name}: 'x' must have {len(self.dims)} axes, got shape {shape}")
        return tuple(dim % len(shape) for dim in self.dims)


@registered
class Transpose(_Reordering):
    """Exchange two axes: ``Transpose(0, 1)`` makes (N, T, C) of (T, N, C).

    Parameters
    ----------
    dim0, dim1 : int
    """

    def __init__(self, dim0: int, dim1: int) -> None:
        self.dim0 = plain_int(self._name, "dim0", dim0)
        self.dim1 = plain_int(self._name, "dim1", dim1)

    def _option_values(self) -> dict[str, Any]:
        return {"dim0": self.dim0, "dim1": self.dim1}

    def _order(self, shape: Sizes) -> Sizes:
        order = list(range(len(shape)))
        for dim in (self.dim0, self.dim1):
            if not -len(shape) <= dim < len(shape):
                raise ShapeError(f"{self._name}: 'x' must have an axis {dim}, got shape {shape}")
        order[self.dim0], order[self.dim1] = order[self.dim1], order[self.dim0]
        return tuple(order)
