"""The gated recurrent unit of one layer and direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fastrnn._checks import flag
from fastrnn._kernels._gru import GRUWeights
from fastrnn.ops._recurrent import (
    Array,
    Grads,
    Packed,
    Params,
    Problem,
    as_parts,
    check_params,
    once,
    run_forward,
    shapes_of,
)
from fastrnn.ops._stream import RecurrentStream


def pack_gru(params: Params, reset_after: bool = True, *, backward: bool = True) -> Packed:
    """Return a snapshot of `params` in the layout of the kernels, accepted by the other GRU operations in their place.

    With ``backward=False`` it serves `gru_forward` and `gru_stream` only, and costs half.
    """
    return _packed("pack_gru", params, reset_after, backward)


def _packed(name: str, params: Params | Packed, reset_after: bool, backward: bool) -> Packed:
    flag(name, "reset_after", reset_after)
    if isinstance(params, Packed):
        return params.checked(name, "gru", backward, reset_after)
    arrays = check_params(name, params, 3)
    return Packed("gru", GRUWeights(arrays, reset_after, backward), shapes_of(arrays), backward, reset_after)


def gru_forward(
    x: Array,
    params: Params | Packed,
    state: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """Run one GRU layer over a sequence, in one direction.

        r, z = sigmoid(W x_t + b_ih + R h_{t-1} + b_hh)
        n = tanh(W_n x_t + b_in + r * (R_n h_{t-1} + b_hn))         reset_after, PyTorch's form
        n = tanh(W_n x_t + b_in + R_n (r * h_{t-1}) + b_hn)         otherwise, the original form
        h_t = (1 - z) * n + z * h_{t-1}

    Parameters
    ----------
    x : ndarray (T, N, C), float32 or float64
    params : mapping with weight_ih (3*H, C), weight_hh (3*H, H), and optionally bias_ih (3*H,), bias_hh (3*H,)
        Or what `pack_gru` made of it.
    state : ndarray (N, H), optional. Zeros if None.
    reset_after : bool. Apply the reset gate after the product with R_n, or before it.
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    reverse : bool. Read each sequence from its own end to its start.
    out : ndarray (T, N, H), optional. Receives y.

    Returns
    -------
    y : ndarray (T, N, H), zero past the length of a sequence
    h : ndarray (N, H), the state after the last step of each sequence, a new array

    Raises
    ------
    ShapeError, DTypeError, LengthsError, ArgumentError

    References
    ----------
    Cho et al. 2014, Learning phrase representations using RNN encoder-decoder.
    """
    packed = _packed("gru_forward", params, reset_after, False)
    y, (h,) = run_forward("gru_forward", packed, x, as_parts(state), lengths, reverse, out)
    return y, h


def gru_vjp(
    x: Array,
    params: Params | Packed,
    state: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, Array], Callable[..., tuple[Array, Array, Grads]]]:
    """Run `gru_forward` and return its result with its pullback.

    Returns
    -------
    y, h : as `gru_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, dh0, grads)``
        dy (T, N, H) and dstate (N, H), each may be None. Gradients of the parameters are added into the arrays of the mapping
        `grads` where it has them. May succeed once; a second call raises RuntimeError.
    """
    packed = _packed("gru_vjp", params, reset_after, True)
    problem = Problem("gru_vjp", packed, x, as_parts(state), lengths, reverse, out)
    y, (h,) = problem.run(keep=True)

    def pullback(
        dy: Array | None, dstate: Array | None = None, *, grads: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array, Grads]:
        dx, (dh0,), sums = problem.pull_back(dy, as_parts(dstate), grads)
        return dx, dh0, sums

    return (y, h), once("gru_vjp", pullback)


def gru_stream(layers: Sequence[Params | Packed], batch_size: int, reset_after: bool = True) -> RecurrentStream:
    """Return a stream through a stack of GRU layers: ``h_t = stream.step(x_t)``, the state kept in between."""
    return RecurrentStream(
        "gru_stream", [_packed("gru_stream", layer, reset_after, False) for layer in layers], batch_size
    )


__all__ = ["gru_forward", "gru_stream", "gru_vjp", "pack_gru"]
