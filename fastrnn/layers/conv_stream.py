"""A causal convolution fed step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._checks import FloatArray

__all__ = ["ConvStream"]


class ConvStream:
    """What `Conv1d.stream` returns: ``y_t = stream.step(x_t)`` with what is needed of the past kept in between.

    It holds the weights as they were when it was made. Not for several threads at a time.

    Attributes
    ----------
    batch_size : int
    step : callable
        Takes x_t (N, C) and returns y_t (N, K), or (C,) and (K,) if `batch_size` is 1. The result is a read-only view,
        valid until the next step.
    """

    __slots__ = ("_stream", "batch_size", "step")

    def __init__(self, stream: Any, batch_size: int) -> None:
        self._stream = stream
        self.batch_size = batch_size
        self.step: Callable[[Any], FloatArray] = self._step_one if batch_size == 1 else stream.step

    def _step_one(self, x: Any) -> FloatArray:
        if np.ndim(x) != 1:
            y: FloatArray = self._stream.step(x)
            return y
        one: FloatArray = self._stream.step(np.asarray(x)[None])[0]
        return one

    def reset(self, state: Any = None) -> None:
        """Start again from a past (N, dilation * (kernel_size - 1), C), the latest last, copied; from zeros if None.

        Raises
        ------
        ShapeError, DTypeError : an unfit state; the stream goes on with the one it has
        """
        self._stream.reset(state)

    @property
    def state(self) -> FloatArray:
        """The past that the next step reads; a copy."""
        state: FloatArray = self._stream.state
        return state
