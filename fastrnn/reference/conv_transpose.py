"""Transposed convolution over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from ._common import Array, Grads, add_into, called_once, quietly
from ._spatial import (
    Pairs,
    PerAxis,
    Windows,
    channels_first,
    correlate,
    correlate_taps,
    correlate_transpose,
    crop,
    in_layout,
    pad,
    padding_pairs,
    per_axis,
    per_map,
    taps_of,
    weight_of,
)
from .conv import activate, activation_grad

Padding: TypeAlias = PerAxis | Sequence[tuple[int, int]]
Pullback = Callable[..., tuple[Array, Grads]]


class _Saved(NamedTuple):
    """What the forward pass leaves for the pullback."""

    x: Array
    taps: Array
    windows: Windows
    pairs: Pairs
    h: Array


def _run(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: PerAxis,
    padding: Padding,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: int,
    layout: str | None,
    activation: str | None,
) -> tuple[Array, _Saved]:
    kernel = weight.shape[2:]
    S = len(kernel)
    windows = Windows(kernel, per_axis(stride, S), per_axis(dilation, S))
    pairs = padding_pairs(padding, windows)
    maps = np.array(channels_first(x, layout))
    taps = taps_of(weight, groups)
    reach = windows.reach(maps.shape[2:])
    sizes = tuple(size + more for size, more in zip(reach, per_axis(output_padding, S), strict=True))
    a = crop(correlate_transpose(maps, taps, windows, sizes), pairs)
    h = activate(a if bias is None else a + per_map(bias, a), activation)
    return in_layout(np.array(h), layout), _Saved(maps, taps, windows, pairs, h)


@quietly
def conv_transpose_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str | None = None,
    activation: str | None = None,
) -> Array:
    """Lay K kernels down at each place of maps, and sum where they overlap.

        y_k = act(bias_k + a_k)         a_k[o * stride + t * dilation - low] += weight_ck[t] * x_c[o]

    over all places o of x, taps t of the kernel and channels c of k's group. Without bias and activation it is the
    transpose of the convolution with the same weight, stride, padding and dilation from K to C maps. `padding` takes
    places away from both ends of y, `low` of them before; `output_padding` leaves or adds some at the far end.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), or as `layout` says; float32 or float64
    weight : ndarray (C, K/groups, *kernel), in every layout
    bias : ndarray (K,), optional
    stride, dilation : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after)
    output_padding : int, or one per spatial axis
    groups : int. Divides C and K.
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC" for channels last, of x and y alike
    activation : None, "relu", "tanh" or "sigmoid"

    Returns
    -------
    y : ndarray (N, K, *sizes), or as `layout` says, where a size becomes
        ``(size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``

    Raises
    ------
    ValueError : unknown activation

    References
    ----------
    Zeiler, Krishnan, Taylor & Fergus 2010, Deconvolutional networks; Dumoulin & Visin 2016, A guide to convolution
    arithmetic for deep learning, section 4.
    """
    return _run(x, weight, bias, stride, padding, output_padding, dilation, groups, layout, activation)[0]


@quietly
def conv_transpose_vjp(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str | None = None,
    activation: str | None = None,
) -> tuple[Array, Pullback]:
    """Apply a transposed convolution and return its pullback. Arguments are those of `conv_transpose_forward`.

    With y = act(a), and i = o * stride + t * dilation - low a place of y; da is zero outside of y:

        da = dy * act'(a)                                       dbias_k = sum over N, i of da_k[i]
        dx_c[o] = sum over k, t of weight_ck[t] da_k[i]         dweight_ck[t] = sum over N, o of x_c[o] da_k[i]

    Returns
    -------
    y : ndarray (N, K, *sizes), or as `layout` says
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        dy as y. Returns dx as x, and the gradients of weight and, if given, bias, added into the arrays of the mapping
        `grads` where it has them.

    Raises
    ------
    ValueError : unknown activation
    RuntimeError : from the pullback, when it is called again
    """
    args = (stride, padding, output_padding, dilation, groups, layout, activation)
    y, (maps, taps, windows, pairs, h) = _run(x, weight, bias, *args)
    has_bias = bias is not None

    def pullback(dy: Array, *, grads: Grads | None = None) -> tuple[Array, Grads]:
        da = activation_grad(channels_first(dy, layout), h, activation)
        da_padded = pad(da, pairs)
        sums = {"weight": weight_of(correlate_taps(maps, da_padded, windows, groups))}
        if has_bias:
            sums["bias"] = da.sum(axis=(0, *range(2, da.ndim)))
        dx = correlate(da_padded, taps, windows, maps.shape[2:])
        return in_layout(dx, layout), add_into(grads, sums)

    return y, called_once("conv_transpose_vjp", pullback)
