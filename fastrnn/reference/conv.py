"""Convolution over one, two or three spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._common import Array, Grads, add_into, called_once, quietly
from ._spatial import (
    Padding,
    Pairs,
    PerAxis,
    Windows,
    channels_first,
    correlate,
    correlate_taps,
    correlate_transpose,
    in_layout,
    pad,
    pad_transpose,
    padding_pairs,
    per_axis,
    per_map,
    taps_of,
    weight_of,
)
from .activation import sigmoid

Pullback = Callable[..., tuple[Array, Grads]]


class _Saved(NamedTuple):
    """What the forward pass leaves for the pullback; `maps` are the padded ones, h comes before the gain."""

    maps: Array
    taps: Array
    windows: Windows
    pairs: Pairs
    h: Array


def flipped(weight: Array) -> Array:
    """Return a weight (K, C/groups, *kernel) with its kernels reversed along every spatial axis, as a view."""
    return np.flip(weight, tuple(range(2, weight.ndim)))


def activate(a: Array, activation: str | None) -> Array:
    """Return the activation of a, elementwise."""
    if activation is None:
        return a
    if activation == "relu":
        return np.maximum(a, 0)
    if activation == "tanh":
        return np.tanh(a)
    if activation == "sigmoid":
        return sigmoid(a)
    raise ValueError(f"conv: 'activation' must be None, 'relu', 'tanh' or 'sigmoid', got {activation!r}")


def activation_grad(dh: Array, h: Array, activation: str | None) -> Array:
    """Return the gradient before the activation, from its output h.

    relu' = 0 where h <= 0, and dh passes where h is NaN;  tanh' = 1 - h**2;  sigmoid' = h (1 - h)
    """
    if activation == "relu":
        return np.where(h <= 0, np.zeros_like(dh), dh)
    if activation == "tanh":
        return np.asarray(dh * (1 - h * h))
    if activation == "sigmoid":
        return np.asarray(dh * h * (1 - h))
    return dh


def _run(
    x: Array,
    weight: Array,
    bias: Array | None,
    gain: Array | None,
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
    groups: int,
    padding_mode: str,
    layout: str | None,
    activation: str | None,
    flip: bool,
) -> tuple[Array, _Saved]:
    kernel = weight.shape[2:]
    windows = Windows(kernel, per_axis(stride, len(kernel)), per_axis(dilation, len(kernel)))
    pairs = padding_pairs(padding, windows)
    maps = pad(channels_first(x, layout), pairs, padding_mode)
    taps = taps_of(flipped(weight) if flip else weight, groups)
    a = correlate(maps, taps, windows, windows.counts(maps.shape[2:]))
    h = activate(a if bias is None else a + per_map(bias, a), activation)
    y = np.array(h) if gain is None else per_map(gain, h) * h
    return in_layout(y, layout), _Saved(maps, taps, windows, pairs, h)


@quietly
def conv_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    gain: Array | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    activation: str | None = None,
    flip: bool = False,
) -> Array:
    """Slide K kernels over maps.

        y_k[o] = gain_k * act(bias_k + sum over c, t of weight_kc[t] * x_c[o * stride + t * dilation - low])

    where o and t run over the S spatial axes, c over the channels of k's group, and x is padded, `low` places before.
    This is a correlation; with `flip` it is a convolution, ``weight_kc[kernel - 1 - t]`` in place of ``weight_kc[t]``.
    With groups the first K/groups maps see the first C/groups channels only, and so on; groups = C is depthwise.

    Parameters
    ----------
    x : ndarray (N, C, *sizes), or as `layout` says; float32 or float64
    weight : ndarray (K, C/groups, *kernel), in every layout
    bias : ndarray (K,), optional
    gain : ndarray (K,), optional. Factor of each map after the activation.
    stride, dilation : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after); or "valid" (none), "same" (keeps the size
        at stride 1; of an odd number the larger half comes after), "causal" (as much, all of it before; S = 1)
    groups : int. Divides C and K.
    padding_mode : "zeros", "reflect" (without the edge itself), "replicate" or "circular"
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC" for channels last, of x and y alike
    activation : None, "relu", "tanh" or "sigmoid"
    flip : bool. Reverse the kernels along all spatial axes.

    Returns
    -------
    y : ndarray (N, K, *counts), or as `layout` says, with
        ``count = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1``

    Raises
    ------
    ValueError : unknown activation

    References
    ----------
    LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition; the gain: Jarrett,
    Kavukcuoglu, Ranzato & LeCun 2009, What is the best multi-stage architecture for object recognition?
    """
    args = (stride, padding, dilation, groups, padding_mode, layout, activation, flip)
    return _run(x, weight, bias, gain, *args)[0]


@quietly
def conv_vjp(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    gain: Array | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    activation: str | None = None,
    flip: bool = False,
) -> tuple[Array, Pullback]:
    """Slide K kernels over maps and return the pullback. Arguments are those of `conv_forward`.

    With h = act(a), y = gain * h, and i = o * stride + t * dilation a place in the padded x:

        dh = gain * dy                  dgain_k = sum over N, o of dy_k[o] h_k[o]
        da = dh * act'(a)               dbias_k = sum over N, o of da_k[o]
        dx_c[i] += weight_kc[t] da_k[o] over k, t, o; then what came from a border goes back to where it was taken
        dweight_kc[t] = sum over N, o of da_k[o] x_c[i]

    Returns
    -------
    y : ndarray (N, K, *counts), or as `layout` says
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        dy as y. Returns dx as x, and the gradients of weight and, if given, bias and gain, added into the arrays of the
        mapping `grads` where it has them.

    Raises
    ------
    ValueError : unknown activation
    RuntimeError : from the pullback, when it is called again
    """
    args = (stride, padding, dilation, groups, padding_mode, layout, activation, flip)
    y, (maps, taps, windows, pairs, h) = _run(x, weight, bias, gain, *args)
    has_bias, gain = bias is not None, None if gain is None else np.array(gain)

    def pullback(dy: Array, *, grads: Grads | None = None, input_gradient: bool = True) -> tuple[Any, Grads]:
        sums: Grads = {}
        dh = channels_first(dy, layout)
        over_map = (0, *range(2, dh.ndim))
        if gain is not None:
            sums["gain"] = (dh * h).sum(axis=over_map)
            dh = per_map(gain, h) * dh
        da = activation_grad(dh, h, activation)
        if has_bias:
            sums["bias"] = da.sum(axis=over_map)
        dweight = weight_of(correlate_taps(da, maps, windows, groups))
        sums["weight"] = flipped(dweight) if flip else dweight
        if not input_gradient:
            return None, add_into(grads, sums)
        dx = pad_transpose(correlate_transpose(da, taps, windows, maps.shape[2:]), pairs, padding_mode)
        return in_layout(dx, layout), add_into(grads, sums)

    return y, called_once("conv_vjp", pullback)
