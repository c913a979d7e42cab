"""The LSTM of one layer and direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fastrnn._kernels._lstm import LSTMWeights
from fastrnn.ops._recurrent import Array, Grads, Packed, Params, Problem, check_params, once, run_forward, shapes_of
from fastrnn.ops._stream import RecurrentStream

State = tuple[Array, Array]


def pack_lstm(params: Params, *, backward: bool = True) -> Packed:
    """Return a snapshot of `params` in the layout of the kernels, accepted by the other LSTM operations in their place.

    With ``backward=False`` it serves `lstm_forward` and `lstm_stream` only, and costs half.
    """
    arrays = check_params("pack_lstm", params, 4, projected=True)
    return Packed("lstm", LSTMWeights(arrays, backward), shapes_of(arrays), backward)


def _packed(name: str, params: Params | Packed, backward: bool) -> Packed:
    if isinstance(params, Packed):
        return params.checked(name, "lstm", backward)
    arrays = check_params(name, params, 4, projected=True)
    return Packed("lstm", LSTMWeights(arrays, backward), shapes_of(arrays), backward)


def lstm_forward(
    x: Array,
    params: Params | Packed,
    state: State | None = None,
    *,
    lengths: Array | None = None,
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
        With projection, weight_hr (P, H) and weight_hh (4*H, P). Or what `pack_lstm` made of it.
    state : (h, c), ndarrays (N, H), optional. With projection h is (N, P). Zeros if None.
    lengths : int array (N,), optional. Number of valid steps of each sequence, 1..T; all T if None.
    reverse : bool. Read each sequence from its own end to its start.
    out : ndarray (T, N, H or P), optional. Receives y.

    Returns
    -------
    y : ndarray (T, N, H or P), zero past the length of a sequence
    (h, c) : states after the last step of each sequence, new arrays

    Raises
    ------
    ShapeError, DTypeError, LengthsError, ArgumentError

    References
    ----------
    Hochreiter & Schmidhuber 1997, Long short-term memory; Gers, Schmidhuber & Cummins 2000, Learning to forget;
    Sak, Senior & Beaufays 2014 (projection).
    """
    packed = _packed("lstm_forward", params, False)
    y, (h, c) = run_forward("lstm_forward", packed, x, state, lengths, reverse, out)
    return y, (h, c)


def lstm_vjp(
    x: Array,
    params: Params | Packed,
    state: State | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    out: Array | None = None,
) -> tuple[tuple[Array, State], Callable[..., tuple[Array, State, Grads]]]:
    """Run `lstm_forward` and return its result with its pullback.

    Returns
    -------
    y, (h, c) : as `lstm_forward`
    pullback : ``pullback(dy, dstate=None, *, grads=None) -> (dx, (dh0, dc0), grads)``
        dy (T, N, H or P) or None; dstate (dh, dc), each may be None. Gradients of the parameters are added into the arrays of
        the mapping `grads` where it has them. May succeed once; a second call raises RuntimeError.
    """
    packed = _packed("lstm_vjp", params, True)
    problem = Problem("lstm_vjp", packed, x, state, lengths, reverse, out)
    y, (h, c) = problem.run(keep=True)

    def pullback(
        dy: Array | None,
        dstate: tuple[Array | None, Array | None] | None = None,
        *,
        grads: Mapping[str, Array] | None = None,
    ) -> tuple[Array, State, Grads]:
        dx, (dh0, dc0), sums = problem.pull_back(dy, dstate, grads)
        return dx, (dh0, dc0), sums

    return (y, (h, c)), once("lstm_vjp", pullback)


def lstm_stream(layers: Sequence[Params | Packed], batch_size: int) -> RecurrentStream:
    """Return a stream through a stack of LSTM layers: ``h_t = stream.step(x_t)``, the state kept in between."""
    return RecurrentStream("lstm_stream", [_packed("lstm_stream", layer, False) for layer in layers], batch_size)


__all__ = ["lstm_forward", "lstm_stream", "lstm_vjp", "pack_lstm"]
