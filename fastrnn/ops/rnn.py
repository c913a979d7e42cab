"""The plain recurrent layer of one layer and direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fastrnn._checks import choice
from fastrnn._kernels._rnn import RNNWeights
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


def pack_rnn(params: Params, nonlinearity: str = "tanh", *, backward: bool = True) -> Packed:
    """Return a snapshot of `params` in the layout of the kernels, accepted by the other RNN operations in their place.

    With ``backward=False`` it serves `rnn_forward` and `rnn_stream` only, and costs half.
    """
    return _packed("pack_rnn", params, nonlinearity, backward)


def _packed(name: str, params: Params | Packed, nonlinearity: str, backward: bool) -> Packed:
    choice(name, "nonlinearity", nonlinearity, ("tanh", "relu"))
    if isinstance(params, Packed):
        return params.checked(name, "rnn", backward, nonlinearity)
    arrays = check_params(name, params, 1)
    return Packed("rnn", RNNWeights(arrays, nonlinearity, backward), shapes_of(arrays), backward, nonlinearity)


def rnn_forward(
    x: Array,
    params: Params | Packed,
    state: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Array | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """Run one RNN layer over a sequence, in one direction.

        h_t = tanh(W x_t + b_ih + R h_{t-1} + b_hh)         or relu(...)

    Parameters
    ----------
    x : ndarray (T, N, C), float32 or float64
    params : mapping with weight_ih (H, C), weight_hh (H, H), and optionally bias_ih (H,), bias_hh (H,)
        Or what `pack_rnn` made of it.
    state : ndarray (N, H), optional. Zeros if None.
    nonlinearity : "tanh" or "relu"
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
    Elman 1990, Finding structure in time; Le, Jaitly & Hinton 2015 (relu).
    """
    packed = _packed("rnn_forward", params, nonlinearity, False)
    y, (h,) = run_forward("rnn_forward", packed, x, as_parts(state), lengths, reverse, out)
    return y, h


def rnn_vjp(
    x: Array,
    params: Params | Packed,
    state: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Array | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, Array], Callable[..., tuple[Array, Array, Grads]]]:
    """Run `rnn_forward` and return its result with its pullback.

    Returns
    -------
    y, h : as `rnn_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, dh0, grads)``
        dy (T, N, H) and dstate (N, H), each may be None. Gradients of the parameters are added into the arrays of the mapping
        `grads` where it has them. May succeed once; a second call raises RuntimeError.
    """
    packed = _packed("rnn_vjp", params, nonlinearity, True)
    problem = Problem("rnn_vjp", packed, x, as_parts(state), lengths, reverse, out)
    y, (h,) = problem.run(keep=True)

    def pullback(
        dy: Array | None, dstate: Array | None = None, *, grads: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array, Grads]:
        dx, (dh0,), sums = problem.pull_back(dy, as_parts(dstate), grads)
        return dx, dh0, sums

    return (y, h), once("rnn_vjp", pullback)


def rnn_stream(layers: Sequence[Params | Packed], batch_size: int, nonlinearity: str = "tanh") -> RecurrentStream:
    """Return a stream through a stack of RNN layers: ``h_t = stream.step(x_t)``, the state kept in between."""
    return RecurrentStream(
        "rnn_stream", [_packed("rnn_stream", layer, nonlinearity, False) for layer in layers], batch_size
    )


__all__ = ["pack_rnn", "rnn_forward", "rnn_stream", "rnn_vjp"]
