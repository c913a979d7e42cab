"""The simple (Elman) recurrent layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._common import (
    Array,
    Grads,
    Params,
    Step,
    add_affine_grads,
    add_into,
    affine,
    called_once,
    copy_or_zeros,
    quietly,
    steps,
    zeros_like_params,
    zeros_or_out,
)

Pullback = Callable[..., tuple[Array, Array, Grads]]


class _Saved(NamedTuple):
    """What one step leaves for the backward pass; arrays hold the rows that were running."""

    step: Step
    x: Array
    h: Array
    h_next: Array


def _activation(a: Array, nonlinearity: str) -> Array:
    if nonlinearity == "tanh":
        return np.tanh(a)
    if nonlinearity == "relu":
        return np.maximum(a, 0)
    raise ValueError(f"RNN: 'nonlinearity' must be 'tanh' or 'relu', got {nonlinearity!r}")


def _activation_grad(dh: Array, h: Array, nonlinearity: str) -> Array:
    """Return the gradient before the nonlinearity, from its output h.

    tanh' = 1 - h**2;  relu' = 0 where h <= 0, and dh passes where h is NaN.
    """
    if nonlinearity == "tanh":
        da: Array = dh * (1 - h * h)
        return da
    return np.where(h <= 0, np.zeros_like(dh), dh)


def _run(
    x: Array,
    params: Params,
    state: Array | None,
    nonlinearity: str,
    lengths: ArrayLike | None,
    reverse: bool,
    out: Array | None,
) -> tuple[Array, Array, list[_Saved]]:
    T, N, _ = x.shape
    H = params["weight_hh"].shape[1]
    y = zeros_or_out((T, N, H), x.dtype, out)
    h = copy_or_zeros(state, (N, H), x.dtype)
    tape = []
    for step in steps(T, N, lengths, reverse):
        rows, times = step
        x_t, h_t = x[times, rows], h[rows]
        pre = affine(x_t, params["weight_ih"], params.get("bias_ih"))
        pre = pre + affine(h_t, params["weight_hh"], params.get("bias_hh"))
        h_next = _activation(pre, nonlinearity)
        y[times, rows] = h[rows] = h_next
        tape.append(_Saved(step, x_t, h_t, h_next))
    return y, h, tape


@quietly
def rnn_forward(
    x: Array,
    params: Params,
    state: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """Run one simple recurrent layer over a sequence, in one direction.

        h_t = tanh(W x_t + b_ih + R h_{t-1} + b_hh)         or relu(...)

    Parameters
    ----------
    x : ndarray (T, N, C), float32 or float64
    params : mapping with weight_ih (H, C), weight_hh (H, H), and optionally bias_ih (H,), bias_hh (H,)
    state : ndarray (N, H), optional. Zeros if None.
    nonlinearity : "tanh" or "relu"
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    reverse : bool. Read each sequence from its own end to its start.
    out : ndarray (T, N, H), optional. Receives y.

    Returns
    -------
    y : ndarray (T, N, H), zero past the length of a sequence
    h : ndarray (N, H), state after the last step of each sequence, new array

    Raises
    ------
    ValueError : unknown nonlinearity

    References
    ----------
    Elman 1990, Finding structure in time.
    """
    y, h, _ = _run(x, params, state, nonlinearity, lengths, reverse, out)
    return y, h


@quietly
def rnn_vjp(
    x: Array,
    params: Params,
    state: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, Array], Pullback]:
    """Run one simple recurrent layer and return its pullback. Arguments are those of `rnn_forward`.

    Backward through time, from the last step to the first, with dh the gradient of h_t:

        dh += dy_t              da = dh * tanh'(a)
        dx_t = W^T da           dW += da x_t^T          db_ih += da
        dh = R^T da             dR += da h_{t-1}^T      db_hh += da

    Returns
    -------
    (y, h) : as from `rnn_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, dstate, grads)``
        dy (T, N, H) or None for zeros; dstate (N, H), the gradient of h. Returns dx (T, N, C), dstate (N, H) and the
        gradients of params, added into the arrays of the mapping `grads` where it has them.

    Raises
    ------
    ValueError : unknown nonlinearity
    RuntimeError : from the pullback, when it is called again
    """
    y, h, tape = _run(x, params, state, nonlinearity, lengths, reverse, out)
    weights = {name: np.array(value) for name, value in params.items()}
    x_shape, state_shape, dtype = x.shape, h.shape, x.dtype

    def pullback(
        dy: Array | None, dstate: Array | None = None, *, grads: Grads | None = None
    ) -> tuple[Array, Array, Grads]:
        dx = np.zeros(x_shape, dtype)
        dh = copy_or_zeros(dstate, state_shape, dtype)
        sums = zeros_like_params(weights)
        for (rows, times), x_t, h_t, h_next in reversed(tape):
            dh_next = dh[rows] if dy is None else dh[rows] + dy[times, rows]
            da = _activation_grad(dh_next, h_next, nonlinearity)
            add_affine_grads(sums, "_ih", da, x_t)
            add_affine_grads(sums, "_hh", da, h_t)
            dx[times, rows] = da @ weights["weight_ih"]
            dh[rows] = da @ weights["weight_hh"]
        return dx, dh, add_into(grads, sums)

    return (y, h), called_once("rnn_vjp", pullback)
