"""Pooling over time: one vector from each sequence of a padded batch, whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, choice, positive_int
from fastrnn.errors import LengthsError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import Pullback, Remembering, Sizes
from fastrnn.ops.time_pool import place_time

__all__ = ["TimePool"]

MODES = ("max", "min", "mean", "sum", "kmax")
LAYOUTS = ("TNC", "NTC", "NCT")


@registered
class TimePool(Remembering):
    """Pool each feature of each sequence over its own steps: text of any length gives a vector of fixed size.

    Parameters
    ----------
    mode : "max", "min", "mean", "sum" or "kmax"
        "kmax" keeps the k largest values in their order of time; a shorter sequence leaves zeros at the end.
    k : int
        How many values "kmax" keeps.
    layout : "TNC", "NTC" or "NCT"
        How sequences lie: as recurrent layers have them, the same with ``batch_first=True``, or as `Conv1d` has them.
        Without N they are taken as one sequence.

    Steps past a length do not count, and are not read.

    References
    ----------
    k-max pooling: Kalchbrenner, Grefenstette & Blunsom 2014, A convolutional neural network for modelling sentences.
    """

    takes_lengths = True

    def __init__(self, mode: str, k: int = 1, *, layout: str = "TNC") -> None:
        name = self._name
        self.mode = choice(name, "mode", mode, MODES)
        self.k = positive_int(name, "k", k)
        self.layout = choice(name, "layout", layout, LAYOUTS)

    def _option_values(self) -> dict[str, Any]:
        return {"mode": self.mode, "k": self.k, "layout": self.layout}

    def __call__(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> FloatArray:
        """Return (N, C), or for "kmax" the layout of x with k in place of T.

        Parameters
        ----------
        x : ndarray (T, N, C) by the layout, or without N
        lengths : int array (N,), optional
            Number of valid steps of each sequence; all of them if None.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        if lengths is None:
            y: FloatArray = self._predict(x)
            return y
        steps = self._sequences(x, lengths)
        return ops.time_pool_forward(steps, self.mode, lengths=lengths, k=self.k, layout=self.layout)

    def forward(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> tuple[FloatArray, Pullback]:
        """Return what a call returns, and the pullback. Arguments are those of a call.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once; dx is zero past a length.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        if lengths is None:
            return self._train(x)
        steps = self._sequences(x, lengths)
        y, pull = ops.time_pool_vjp(steps, self.mode, lengths=lengths, k=self.k, layout=self.layout)
        return self._with_pullback(y, y.shape, pull, steps.shape)

    def out_lengths(self, lengths: Any) -> Any:
        """Return None, as no time axis is left; for "kmax" at most k steps."""
        return None if lengths is None or self.mode != "kmax" else np.minimum(lengths, self.k)

    def _place(self, shape: Sizes, dtype: np.dtype[Any]) -> Any:
        return place_time(self._name, shape, dtype, self.mode, self.k, self.layout)

    def _sequences(self, x: object, lengths: object) -> FloatArray:
        """Return x, which must be a batch."""
        steps, _ = self._input(x)
        if np.ndim(x) == 2:  # type: ignore[arg-type]
            raise LengthsError(f"{self._name}: 'lengths' must be None for one sequence, got {lengths!r}")
        return steps

    def _input(self, x: object) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
        name, array = self._name, as_float_array(self._name, "x", x)
        if array.ndim == 3:
            return array, lambda y: y
        if array.ndim != 2:
            batched, single = ", ".join(self.layout), ", ".join(self.layout.replace("N", ""))
            raise ShapeError(f"{name}: 'x' must have shape ({batched}) or ({single}), got {array.shape}")
        axis = self.layout.index("N")
        return np.expand_dims(array, axis), lambda y: y.squeeze(axis if self.mode == "kmax" else 0)
