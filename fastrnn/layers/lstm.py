"""The long short-term memory layer, with optional projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray
from fastrnn.errors import ArgumentError
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import registered
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.recurrent_pullback import CellPullback

__all__ = ["LSTM"]


@registered
class LSTM(Recurrent):
    """Long short-term memory layers.

        i, f, o = sigmoid(W x_t + b_ih + R h_{t-1} + b_hh)          g = tanh(...)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)             with projection: h_t = W_hr (o * tanh(c_t))

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
    proj_size : int
        P, the width h is projected to; 0 for none.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights and the dropout masks.
    bias_hh : bool
        Whether the second bias, redundant here, is there too. Without it a layer has 4 (C H + H H + H) parameters.
    weight_init, recurrent_init, bias_init : str or callable
        See `fastrnn.init`. By default Glorot uniform input weights, orthogonal recurrent weights per gate, and zero
        biases; ``weight_init="torch"`` makes "torch", uniform in +-1/sqrt(H), the default of all.
    forget_bias : float
        Added to the forget gate's part of bias_ih: 1 by default, 0 with ``weight_init="torch"``.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0, ..., with suffix _reverse for the second one :
        shapes (4*H, C), (4*H, H or P), (4*H,), (4*H,), (P, H); higher layers read D*H or D*P features.

    References
    ----------
    Hochreiter & Schmidhuber 1997, Long short-term memory; forget gate: Gers, Schmidhuber & Cummins 2000, Learning to
    forget; projection: Sak, Senior & Beaufays 2014; forget bias: Jozefowicz, Zaremba & Sutskever 2015, An empirical
    exploration of recurrent network architectures.
    """

    GATES = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        bias_hh: bool = True,
        weight_init: Initializer = "glorot",
        recurrent_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size=proj_size,
            dtype=dtype,
            rng=rng,
            bias_hh=bias_hh,
            initial={
                "weight_init": weight_init,
                "recurrent_init": recurrent_init,
                "bias_init": bias_init,
                "forget_bias": forget_bias,
            },
        )

    def _pack(self, params: dict[str, FloatArray], training: bool) -> object:
        return ops.pack_lstm(params, backward=training)

    def _run_forward(self, x: FloatArray, params: Any, state: Any, **options: Any) -> tuple[FloatArray, Any]:
        return ops.lstm_forward(x, params, state, **options)

    def _run_vjp(
        self, x: FloatArray, params: Any, state: Any, **options: Any
    ) -> tuple[tuple[FloatArray, Any], CellPullback]:
        return ops.lstm_vjp(x, params, state, **options)

    def _open_stream(self, packs: Sequence[Any], batch_size: int) -> Any:
        return ops.lstm_stream(packs, batch_size)

    def _join(self, parts: Sequence[Any]) -> Any:
        return tuple(parts)

    def _split(self, arg: str, state: Any) -> tuple[tuple[str, Any, str, int], ...]:
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            got = f"{len(state)} parts" if isinstance(state, (tuple, list)) else type(state).__name__
            raise ArgumentError(f"{self._name}: '{arg}' must be a pair (h, c), got {got}")
        h_letter = "P" if self.proj_size else "H"
        h, c = state
        return (f"{arg}[0]", h, h_letter, self._width), (f"{arg}[1]", c, "H", self.hidden_size)

    def _option_values(self) -> Iterator[tuple[str, Any]]:
        yield from super()._option_values()
        yield "proj_size", self.proj_size
