"""The long short-term memory layer, with optional projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

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
from .activation import sigmoid

State: TypeAlias = tuple[Array, Array]
PartialState: TypeAlias = tuple[Array | None, Array | None]
Pullback = Callable[..., tuple[Array, State, Grads]]


class _Saved(NamedTuple):
    """What one step leaves for the backward pass; arrays hold the rows that were running."""

    step: Step
    x: Array
    h: Array
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c_next: Array


def _run(
    x: Array, params: Params, state: State | None, lengths: ArrayLike | None, reverse: bool, out: Array | None
) -> tuple[Array, State, list[_Saved]]:
    T, N, _ = x.shape
    G_H, P = params["weight_hh"].shape  # P is H when there is no projection
    y = zeros_or_out((T, N, P), x.dtype, out)
    h0, c0 = (None, None) if state is None else state
    h = copy_or_zeros(h0, (N, P), x.dtype)
    c = copy_or_zeros(c0, (N, G_H // 4), x.dtype)
    tape = []
    for step in steps(T, N, lengths, reverse):
        rows, times = step
        x_t, h_t, c_t = x[times, rows], h[rows], c[rows]
        pre = affine(x_t, params["weight_ih"], params.get("bias_ih"))
        pre = pre + affine(h_t, params["weight_hh"], params.get("bias_hh"))
        a_i, a_f, a_g, a_o = np.split(pre, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c_next = f * c_t + i * g
        h_next = o * np.tanh(c_next)
        if "weight_hr" in params:
            h_next = h_next @ params["weight_hr"].T
        c[rows] = c_next
        y[times, rows] = h[rows] = h_next
        tape.append(_Saved(step, x_t, h_t, c_t, i, f, g, o, c_next))
    return y, (h, c), tape


@quietly
def lstm_forward(
    x: Array,
    params: Params,
    state: State | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[Array, State]:
    """Run one LSTM layer over a sequence, in one direction.

        i, f, o = sigmoid(W x_t + b_ih + R h_{t-1} + b_hh)          g = tanh(...)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)             with projection: h_t = W_hr (o * tanh(c_t))

    Parameters
    ----------
    x : ndarray (T, N, C), float32 or float64
    params : mapping with weight_ih (4*H, C), weight_hh (4*H, H), and optionally bias_ih (4*H,), bias_hh (4*H,)
        With projection, weight_hr (P, H) and weight_hh (4*H, P).
    state : (h, c), ndarrays (N, H), optional. With projection h is (N, P). Zeros if None.
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    reverse : bool. Read each sequence from its own end to its start.
    out : ndarray (T, N, H or P), optional. Receives y.

    Returns
    -------
    y : ndarray (T, N, H or P), zero past the length of a sequence
    (h, c) : states after the last step of each sequence, new arrays

    References
    ----------
    Hochreiter & Schmidhuber 1997, Long short-term memory; forget gate: Gers, Schmidhuber & Cummins 2000, Learning to
    forget; projection: Sak, Senior & Beaufays 2014, Long short-term memory recurrent neural network architectures for
    large scale acoustic modeling.
    """
    y, final, _ = _run(x, params, state, lengths, reverse, out)
    return y, final


def _cell_vjp(saved: _Saved, dm: Array, dc_next: Array) -> tuple[Array, Array]:
    """Return the gradients of the pre-activations (n, 4*H) and of c_{t-1}.

    dm is the gradient of m = o * tanh(c_t), dc_next the one that reaches c_t from later steps:

        dc = dc_next + dm * o * (1 - tanh(c_t)**2)
        da_i = dc * g * i (1 - i)       da_f = dc * c_{t-1} * f (1 - f)
        da_g = dc * i * (1 - g**2)      da_o = dm * tanh(c_t) * o (1 - o)
        dc_{t-1} = dc * f
    """
    i, f, g, o = saved.i, saved.f, saved.g, saved.o
    tanh_c = np.tanh(saved.c_next)
    dc = dc_next + dm * o * (1 - tanh_c * tanh_c)
    da_i = dc * g * i * (1 - i)
    da_f = dc * saved.c * f * (1 - f)
    da_g = dc * i * (1 - g * g)
    da_o = dm * tanh_c * o * (1 - o)
    return np.concatenate([da_i, da_f, da_g, da_o], axis=1), dc * f


@quietly
def lstm_vjp(
    x: Array,
    params: Params,
    state: State | None = None,
    *,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, State], Pullback]:
    """Run one LSTM layer and return its pullback. Arguments are those of `lstm_forward`.

    Backward through time, from the last step to the first, with da the gradient of the four pre-activations:

        dh += dy_t              dm = dh, or with projection dm = W_hr^T dh and dW_hr += dh m^T
        dx_t = W^T da           dW += da x_t^T          db_ih += da
        dh = R^T da             dR += da h_{t-1}^T      db_hh += da

    Returns
    -------
    (y, (h, c)) : as from `lstm_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, (dh, dc), grads)``
        dy (T, N, H or P) or None for zeros; dstate is a pair, the gradients of h and c, each an array or None. Returns
        dx (T, N, C), the gradients of the initial states, and those of params, added into the arrays of the mapping
        `grads` where it has them.

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y, final, tape = _run(x, params, state, lengths, reverse, out)
    weights = {name: np.array(value) for name, value in params.items()}
    x_shape, h_shape, c_shape, dtype = x.shape, final[0].shape, final[1].shape, x.dtype

    def pullback(
        dy: Array | None, dstate: PartialState | None = None, *, grads: Grads | None = None
    ) -> tuple[Array, State, Grads]:
        dx = np.zeros(x_shape, dtype)
        dh_final, dc_final = (None, None) if dstate is None else dstate
        dh = copy_or_zeros(dh_final, h_shape, dtype)
        dc = copy_or_zeros(dc_final, c_shape, dtype)
        sums = zeros_like_params(weights)
        for saved in reversed(tape):
            rows, times = saved.step
            dm = dh[rows] if dy is None else dh[rows] + dy[times, rows]
            if "weight_hr" in weights:
                add_affine_grads(sums, "_hr", dm, saved.o * np.tanh(saved.c_next))
                dm = dm @ weights["weight_hr"]
            da, dc[rows] = _cell_vjp(saved, dm, dc[rows])
            add_affine_grads(sums, "_ih", da, saved.x)
            add_affine_grads(sums, "_hh", da, saved.h)
            dx[times, rows] = da @ weights["weight_ih"]
            dh[rows] = da @ weights["weight_hh"]
        return dx, (dh, dc), add_into(grads, sums)

    return (y, final), called_once("lstm_vjp", pullback)
