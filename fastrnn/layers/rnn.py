"""The simple (Elman) recurrent layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray, choice
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import registered
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.recurrent_pullback import CellPullback

__all__ = ["RNN"]


@registered
class RNN(Recurrent):
    """Simple recurrent layers.

        h_t = tanh(W x_t + b_ih + R h_{t-1} + b_hh)         or relu(...)

    Parameters
    ----------
    input_size, hidden_size : int
        C and H.
    num_layers : int
        Layers on top of each other.
    nonlinearity : "tanh" or "relu"
    bias : bool
        Whether there are biases.
    batch_first : bool
        Sequences are (N, T, C) instead of (T, N, C).
    dropout : float in [0, 1]
        Probability with which `forward` zeroes each output of every layer but the last.
    bidirectional : bool
        A second direction reads each sequence from its end; outputs are (T, N, 2*H).
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights and the dropout masks.
    bias_hh : bool
        Whether the second bias, redundant here, is there too.
    weight_init, recurrent_init, bias_init : str or callable
        See `fastrnn.init`. By default Glorot uniform input weights, orthogonal recurrent weights (identity for "relu"),
        and zero biases; ``weight_init="torch"`` makes "torch", uniform in +-1/sqrt(H), the default of all.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ..., with suffix _reverse for the second direction :
        shapes (H, C), (H, H), (H,), (H,); higher layers read D*H features.

    References
    ----------
    Elman 1990, Finding structure in time. Le, Jaitly & Hinton 2015, A simple way to initialize recurrent networks of
    rectified linear units.
    """

    GATES = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        bias_hh: bool = True,
        weight_init: Initializer = "glorot",
        recurrent_init: Initializer | None = None,
        bias_init: Initializer | None = None,
    ) -> None:
        self.nonlinearity = choice(self._name, "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
            rng=rng,
            bias_hh=bias_hh,
            initial={
                "weight_init": weight_init,
                "recurrent_init": recurrent_init,
                "bias_init": bias_init,
                "usual_recurrent": "identity" if nonlinearity == "relu" else "orthogonal",
            },
        )

    def _pack(self, params: dict[str, FloatArray], training: bool) -> object:
        return ops.pack_rnn(params, self.nonlinearity)

    def _run_forward(self, x: FloatArray, params: Any, state: Any, **options: Any) -> tuple[FloatArray, Any]:
        return ops.rnn_forward(x, params, state, nonlinearity=self.nonlinearity, **options)

    def _run_vjp(
        self, x: FloatArray, params: Any, state: Any, **options: Any
    ) -> tuple[tuple[FloatArray, Any], CellPullback]:
        return ops.rnn_vjp(x, params, state, nonlinearity=self.nonlinearity, **options)

    def _open_stream(self, packs: Sequence[Any], batch_size: int) -> Any:
        return ops.rnn_stream(packs, batch_size, self.nonlinearity)

    def _option_values(self) -> Iterator[tuple[str, Any]]:
        yield from super()._option_values()
        yield "nonlinearity", self.nonlinearity
