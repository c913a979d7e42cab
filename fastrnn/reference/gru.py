"""The gated recurrent unit, with the reset gate after or before the recurrent product."""

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
from .activation import sigmoid

Pullback = Callable[..., tuple[Array, Array, Grads]]


class _Saved(NamedTuple):
    """What one step leaves for the backward pass; arrays hold the rows that were running."""

    step: Step
    x: Array
    h: Array
    r: Array
    z: Array
    n: Array
    candidate_h: Array  # the recurrent part of the candidate: R_n h + b_hn, or R_n (r * h) + b_hn


def _cell(step: Step, x: Array, h: Array, params: Params, reset_after: bool) -> _Saved:
    a_r, a_z, a_n = np.split(affine(x, params["weight_ih"], params.get("bias_ih")), 3, axis=1)
    H = h.shape[1]
    weight_rz, weight_n = np.split(params["weight_hh"], [2 * H])
    bias_rz, bias_n = np.split(params["bias_hh"], [2 * H]) if "bias_hh" in params else (None, None)
    h_r, h_z = np.split(affine(h, weight_rz, bias_rz), 2, axis=1)
    r, z = sigmoid(a_r + h_r), sigmoid(a_z + h_z)
    if reset_after:
        candidate_h = affine(h, weight_n, bias_n)
        n = np.tanh(a_n + r * candidate_h)
    else:
        candidate_h = affine(r * h, weight_n, bias_n)
        n = np.tanh(a_n + candidate_h)
    return _Saved(step, x, h, r, z, n, candidate_h)


def _run(
    x: Array,
    params: Params,
    state: Array | None,
    reset_after: bool,
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
        saved = _cell(step, x[times, rows], h[rows], params, reset_after)
        y[times, rows] = h[rows] = (1 - saved.z) * saved.n + saved.z * saved.h
        tape.append(saved)
    return y, h, tape


@quietly
def gru_forward(
    x: Array,
    params: Params,
    state: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """Run one GRU layer over a sequence, in one direction.

        r, z = sigmoid(W x_t + b_ih + R h_{t-1} + b_hh)
        n = tanh(W_n x_t + b_in + r * (R_n h_{t-1} + b_hn))         reset_after=True, PyTorch's
        n = tanh(W_n x_t + b_in + R_n (r * h_{t-1}) + b_hn)         reset_after=False, the original
        h_t = (1 - z) * n + z * h_{t-1}

    Parameters
    ----------
    x : ndarray (T, N, C), float32 or float64
    params : mapping with weight_ih (3*H, C), weight_hh (3*H, H), and optionally bias_ih (3*H,), bias_hh (3*H,)
    state : ndarray (N, H), optional. Zeros if None.
    reset_after : bool. Apply the reset gate after or before the recurrent product.
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    reverse : bool. Read each sequence from its own end to its start.
    out : ndarray (T, N, H), optional. Receives y.

    Returns
    -------
    y : ndarray (T, N, H), zero past the length of a sequence
    h : ndarray (N, H), state after the last step of each sequence, new array

    References
    ----------
    Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, equations 5-8 (z and 1 - z keep the
    roles they have there); reset_after: the form that cuDNN and PyTorch compute.
    """
    y, h, _ = _run(x, params, state, reset_after, lengths, reverse, out)
    return y, h


def _cell_vjp(saved: _Saved, dh_next: Array, weights: Params, sums: Grads, reset_after: bool) -> tuple[Array, Array]:
    """Return the gradients of the input pre-activations (n, 3*H) and of h_{t-1}; add those of weight_hh, bias_hh.

    With u the recurrent part of the candidate (`candidate_h`):

        da_n = dh_next * (1 - z) * (1 - n**2)       da_z = dh_next * (h - n) * z (1 - z)
        reset after     du = da_n * r               dr = da_n * u               dh = R_n^T du
        reset before    du = da_n                   dr = (R_n^T du) * h         dh = (R_n^T du) * r
        da_r = dr * r (1 - r)                       dh += dh_next * z + [R_r R_z]^T [da_r da_z]
    """
    h, r, z, n = saved.h, saved.r, saved.z, saved.n
    weight_rz, weight_n = np.split(weights["weight_hh"], [2 * h.shape[1]])
    da_n = dh_next * (1 - z) * (1 - n * n)
    da_z = dh_next * (h - n) * z * (1 - z)
    du = da_n * r if reset_after else da_n
    d_product_input = du @ weight_n
    if reset_after:
        dr, dh, product_input = da_n * saved.candidate_h, d_product_input, h
    else:
        dr, dh, product_input = d_product_input * h, d_product_input * r, r * h
    da_r = dr * r * (1 - r)
    da_rz = np.concatenate([da_r, da_z], axis=1)
    dh = dh + dh_next * z + da_rz @ weight_rz
    sums["weight_hh"] += np.concatenate([da_rz.T @ h, du.T @ product_input])
    if "bias_hh" in sums:
        sums["bias_hh"] += np.concatenate([da_rz.sum(axis=0), du.sum(axis=0)])
    return np.concatenate([da_rz, da_n], axis=1), dh


@quietly
def gru_vjp(
    x: Array,
    params: Params,
    state: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, Array], Pullback]:
    """Run one GRU layer and return its pullback. Arguments are those of `gru_forward`.

    Backward through time, from the last step to the first, with da the gradient of the three input pre-activations;
    the recurrent part differs between the two forms and stands in `_cell_vjp`:

        dh += dy_t
        dx_t = W^T da           dW += da x_t^T          db_ih += da

    Returns
    -------
    (y, h) : as from `gru_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, dstate, grads)``
        dy (T, N, H) or None for zeros; dstate (N, H), the gradient of h. Returns dx (T, N, C), dstate (N, H) and the
        gradients of params, added into the arrays of the mapping `grads` where it has them.

    Raises
    ------
    RuntimeError : from the pullback, when it is called again
    """
    y, h, tape = _run(x, params, state, reset_after, lengths, reverse, out)
    weights = {name: np.array(value) for name, value in params.items()}
    x_shape, state_shape, dtype = x.shape, h.shape, x.dtype

    def pullback(
        dy: Array | None, dstate: Array | None = None, *, grads: Grads | None = None
    ) -> tuple[Array, Array, Grads]:
        dx = np.zeros(x_shape, dtype)
        dh = copy_or_zeros(dstate, state_shape, dtype)
        sums = zeros_like_params(weights)
        for saved in reversed(tape):
            rows, times = saved.step
            dh_next = dh[rows] if dy is None else dh[rows] + dy[times, rows]
            da, dh[rows] = _cell_vjp(saved, dh_next, weights, sums, reset_after)
            add_affine_grads(sums, "_ih", da, saved.x)
            dx[times, rows] = da @ weights["weight_ih"]
        return dx, dh, add_into(grads, sums)

    return (y, h), called_once("gru_vjp", pullback)
