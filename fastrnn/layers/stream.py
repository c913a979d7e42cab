"""A recurrent layer fed step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._checks import FloatArray

__all__ = ["Stream"]


class Stream:
    """What `stream` of a recurrent layer returns: ``h_t = stream.step(x_t)`` with the state kept in between.

    It holds the weights as they were when it was made. Not for several threads at a time.

    Attributes
    ----------
    batch_size : int
    step : callable
        Takes x_t (N, C) and returns the last layer's h_t (N, H), or (C,) and (H,) if `batch_size` is 1. The result is
        a view, valid until the next step.
    """

    __slots__ = ("_check_state", "_stream", "batch_size", "step")

    def __init__(self, stream: Any, batch_size: int, check_state: Callable[[object, int, bool], Any]) -> None:
        self._stream = stream
        self._check_state = check_state
        self.batch_size = batch_size
        self.step: Callable[[FloatArray], FloatArray] = _either_form(stream.step) if batch_size == 1 else stream.step

    def reset(self, state: Any = None) -> None:
        """Start again from `state`, or from zeros.

        Parameters
        ----------
        state : ndarray (num_layers, N, H), or (num_layers, H) if `batch_size` is 1; for LSTM a pair (h, c). Copied.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            An unfit state; the stream goes on with the one it has.
        """
        if state is not None:
            first = state[0] if isinstance(state, (tuple, list)) and len(state) else state
            batched = not (self.batch_size == 1 and np.ndim(first) == 2)
            state = self._check_state(state, self.batch_size, batched)
        self._stream.reset(state)

    @property
    def state(self) -> Any:
        """The state now, (num_layers, N, H), for LSTM a pair; a copy."""
        return self._stream.state


def _either_form(step: Callable[[Any], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """Let a step of batch size 1 take and return vectors too."""

    def step_one(x: Any) -> FloatArray:
        array = isinstance(x, np.ndarray)
        if (x.ndim if array else np.ndim(x)) != 1:
            return step(x)
        h: FloatArray = step(x[None] if array else [x])[0]
        return h

    return step_one
