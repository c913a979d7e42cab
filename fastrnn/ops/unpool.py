"""The undoing of maximum pooling."""

from __future__ import annotations

import math

import numpy as np

from fastrnn._checks import as_fitting, as_integers, as_tokens
from fastrnn._kernels._memory import empty
from fastrnn._kernels._unpool import gather, scatter
from fastrnn.errors import ArgumentError, ShapeError, TokenError
from fastrnn.ops._pooling import Array, Pullback, Sizes, as_maps, per_axis
from fastrnn.ops._recurrent import once

__all__ = ["max_unpool_forward", "max_unpool_vjp"]


def _unpooling(
    name: str, x: Array, indices: Array, output_size: Sizes, layout: str | None
) -> tuple[Array, Array, Sizes, int]:
    """Return x, indices, the shape of y with one axis of positions, and the number of channels that lie last, or 1."""
    out = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
    S = len(out)
    if not 1 <= S <= 3:
        raise ArgumentError(f"{name}: 'output_size' must be 1 to 3 sizes, got {output_size!r}")
    out = per_axis(name, "output_size", out, S, 1)
    maps = as_maps(name, x, layout, S)
    places = as_integers(name, "indices", indices).astype(np.int64, order="C", copy=False)
    if places.shape != maps.x.shape:
        raise ShapeError(f"{name}: 'indices' must have shape {maps.x.shape}, got {places.shape}")
    return maps.x, places, maps.shape(out), maps.channels if maps.last else 1


def _as_samples(maps: Array, channels_last: int) -> Array:
    """Return maps with one first axis of all that has positions of its own."""
    shape = maps.shape
    return maps.reshape(shape[0] if channels_last else shape[0] * shape[1], -1 if maps.size else 0)


def max_unpool_forward(x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None) -> Array:
    """Return maps with each x at its index, and zeros elsewhere.

        y[index_o] = x_o

    Where an index occurs several times, the last of its values stays.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), float32 or float64
    indices : int array (N, C, *sizes)
        Flat positions in the maps of y, as from `max_pool_forward`; none is -1.
    output_size : S ints, the sizes of the maps of y
    layout : str, optional. Of x, indices and y.

    Returns
    -------
    y : ndarray (N, C, *output_size)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, TokenError
    """
    return _unpool("max_unpool_forward", x, indices, output_size, layout, keep=False)[0]


def max_unpool_vjp(
    x: Array, indices: Array, output_size: Sizes, *, layout: str | None = None
) -> tuple[Array, Pullback]:
    """Undo a maximum pooling and return the pullback. Arguments are those of `max_unpool_forward`.

        dx_o = dy[index_o]

    Where an index occurs several times, each of its places has the whole gradient, as in PyTorch.

    Returns
    -------
    y : ndarray (N, C, *output_size)
    pullback : ``pullback(dy) -> dx``. May succeed once; a second call raises RuntimeError.
    """
    name = "max_unpool_vjp"
    y, pullback = _unpool(name, x, indices, output_size, layout, keep=True)
    return y, once(name, pullback)


def _unpool(
    name: str, x: Array, indices: Array, output_size: Sizes, layout: str | None, *, keep: bool
) -> tuple[Array, Pullback]:
    values, places, shape, channels = _unpooling(name, x, indices, output_size, layout)
    last = layout is not None and layout.endswith("C")
    y = empty(shape, values.dtype)
    saved = empty(places.shape, np.int64) if keep else places
    if not scatter(values, places, _as_samples(y, last), channels, saved if keep else None):
        limit = math.prod(shape[1:-1] if last else shape[2:])
        as_tokens(name, "indices", indices, limit)  # tells which one
        raise TokenError(f"{name}: 'indices' must be in 0..{limit - 1} and not change meanwhile")
    x_shape, form = values.shape, (shape, values.dtype)

    def pullback(dy: Array) -> Array:
        gradient = np.asarray(as_fitting(name, "dy", dy, *form), order="C")
        dx = empty(x_shape, form[1])
        gather(_as_samples(gradient, last), saved, dx, channels)
        return dx

    return y, pullback
