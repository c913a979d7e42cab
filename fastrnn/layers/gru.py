"""The gated recurrent unit, with the reset gate after or before the recurrent product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray, flag
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import registered
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.recurrent_pullback import CellPullback

__all__ = ["GRU"]


@registered
class GRU(Recurrent):
    """Gated recurrent unit layers.

        r, z = sigmoid(W x_t + b_ih + R h_{t-1} + b_hh)
        n = tanh(W_n x_t + b_in + r * (R_n h_{t-1} + b_hn))         reset_after=True, PyTorch's
        n = tanh(W_n x_t + b_in + R_n (r * h_{t-1}) + b_hn)         reset_after=False, the original
        h_t = (1 - z) * n + z * h_{t-1}

    Parameters
    ----------
    input_size, hidden_size : int
        C and H.
    num_layers : int
        Layers on top of each other.
    bias : bool
        Whether there are biases.
    batch_first : bool
        Sequences are (N, T, C) instead of (T, N, C).
    dropout : float in [0, 1]
        Probability with which `forward` zeroes each output of every layer but the last.
    bidirectional : bool
        A second direction reads each sequence from its end; outputs are (T, N, 2*H).
    reset_after : bool
        Apply the reset gate after the recurrent product, or before it.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights and the dropout masks.
    bias_hh : bool
        Whether there is a second bias; with `reset_after` only the candidate's part of it is not redundant.
    weight_init, recurrent_init, bias_init : str or callable
        See `fastrnn.init`. By default Glorot uniform input weights, orthogonal recurrent weights per gate, and zero
        biases; ``weight_init="torch"`` makes "torch", uniform in +-1/sqrt(H), the default of all.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, ..., with suffix _reverse for the second direction :
        shapes (3*H, C), (3*H, H), (3*H,), (3*H,); higher layers read D*H features.

    References
    ----------
    Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, equations 5-8.
    """

    GATES = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        bias_hh: bool = True,
        weight_init: Initializer = "glorot",
        recurrent_init: Initializer | None = None,
        bias_init: Initializer | None = None,
    ) -> None:
        self.reset_after = flag(self._name, "reset_after", reset_after)
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
            initial={"weight_init": weight_init, "recurrent_init": recurrent_init, "bias_init": bias_init},
        )

    def _pack(self, params: dict[str, FloatArray], training: bool) -> object:
        return ops.pack_gru(params, self.reset_after, backward=training)

    def _run_forward(self, x: FloatArray, params: Any, state: Any, **options: Any) -> tuple[FloatArray, Any]:
        return ops.gru_forward(x, params, state, reset_after=self.reset_after, **options)

    def _run_vjp(
        self, x: FloatArray, params: Any, state: Any, **options: Any
    ) -> tuple[tuple[FloatArray, Any], CellPullback]:
        return ops.gru_vjp(x, params, state, reset_after=self.reset_after, **options)

    def _open_stream(self, packs: Sequence[Any], batch_size: int) -> Any:
        return ops.gru_stream(packs, batch_size, self.reset_after)

    def _option_values(self) -> Iterator[tuple[str, Any]]:
        yield from super()._option_values()
        yield "reset_after", self.reset_after
