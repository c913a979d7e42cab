"""Step-by-step use of a causal convolution over time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn._checks import as_array, as_fitting, check_shape, positive_int
from fastrnn.errors import ArgumentError
from fastrnn.ops._spatial import Array
from fastrnn.ops.conv import PackedConv, activation_number

__all__ = ["ConvStream", "conv_stream"]

#: Windows that the buffer of the past holds at least before its last one is moved to the front.
ROOM = 16


class ConvStream:
    """A causal convolution that keeps what it needs of the past.

    The past lies in a buffer (N, time, C) along which the window moves; its end reached, it starts again from the front.

    Attributes
    ----------
    step : callable
        ``y = step(x)``: x (N, C) in, y (N, K) out, a read-only view that is valid until the next step.
    """

    def __init__(self, name: str, packed: PackedConv, batch_size: int, activation: str | None) -> None:
        N = positive_int(name, "batch_size", batch_size)
        geometry = packed.geometry
        span = geometry.span(2)
        if geometry.S != 1 or geometry.stride[2] != 1 or geometry.pads[2] != (span - 1, 0):
            raise ArgumentError(f"{name}: 'weight' must be packed for one axis, stride 1 and padding 'causal'")
        if geometry.border != "zeros":
            raise ArgumentError(f"{name}: 'padding_mode' must be 'zeros', got {geometry.border!r}")
        if not geometry.channels_last or packed.algorithm != "direct":
            raise ArgumentError(f"{name}: 'weight' must be packed with layout 'NLC' and algorithm 'direct'")
        C, K = packed.channels
        self._name, self._kernels, self._span = name, packed.direct(False, "turned"), span
        self._activation = activation_number(name, activation)
        windows = max(ROOM, span)
        self._buffer = np.zeros((N, windows + span - 1, C), packed.dtype)
        self._views = [self._buffer[:, None, None, at : at + span] for at in range(windows)]
        self._newest = [self._buffer[:, at + span - 1] for at in range(windows)]
        self._at = 0
        self._windows = replace(geometry, pads=((0, 0),) * 3).windows((1, 1, span), (1, 1, 1))
        self._y = np.zeros((N, 1, 1, 1, K), packed.dtype)
        self._result = self._y.reshape(N, K)
        self._result.flags.writeable = False

    def step(self, x: Any) -> Array:
        """Return y (N, K) at the time of x (N, C), which comes after all that came before."""
        newest = self._newest[self._at]
        if type(x) is not np.ndarray or x.shape != newest.shape or x.dtype is not newest.dtype:
            x = as_array(self._name, "x", x, self._kernels.dtype)
            check_shape(self._name, "x", x, "(N, C)", N=newest.shape[0], C=newest.shape[1])
        newest[...] = x
        self._kernels.run(self._views[self._at], self._y, self._windows, True, self._activation, True)
        self._at += 1
        if self._at == len(self._views):
            past = self._span - 1
            self._buffer[:, :past] = self._buffer[:, self._at : self._at + past].copy()
            self._at = 0
        return self._result

    def reset(self, state: Any = None) -> None:
        """Start again from a past (N, span - 1, C), the latest last; zeros if None."""
        if state is not None:
            state = as_fitting(self._name, "state", state, self.state.shape, self._kernels.dtype)
        self._at = 0
        self._buffer[:, : self._span - 1] = 0 if state is None else state

    @property
    def state(self) -> Array:
        """A copy of the past that the next step reads, (N, span - 1, C)."""
        return self._buffer[:, self._at : self._at + self._span - 1].copy()


def conv_stream(weight: PackedConv, batch_size: int, *, activation: str | None = None) -> ConvStream:
    """Return a causal convolution to be fed step by step, equal to `conv_forward` of the whole sequence bit for bit.

    Parameters
    ----------
    weight : what `pack_conv` made with ``padding="causal"``, ``layout="NLC"`` and ``algorithm="direct"``
    batch_size : int, N
    activation : None, "relu", "tanh" or "sigmoid"
    """
    if not isinstance(weight, PackedConv):
        raise ArgumentError(f"conv_stream: 'weight' must come from pack_conv, got {type(weight).__name__}")
    return ConvStream("conv_stream", weight, batch_size, activation)
