"""Pooling over time: one vector from each sequence of a padded batch, whatever its length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastrnn import ops
from fastrnn._checks import FloatArray, as_float_array, choice, positive_int
from fastrnn.errors import LengthsError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.pooling import Optioned, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = ["TimePool"]

MODES = ("max", "min", "mean", "sum", "kmax")
LAYOUTS = ("TNC", "NTC", "NCT")


@registered
class TimePool(Optioned):
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
        steps, batch = self._input(x, lengths)
        y = ops.time_pool_forward(steps, self.mode, lengths=lengths, k=self.k, layout=self.layout)
        return y if batch is None else y.squeeze(batch)

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
        steps, batch = self._input(x, lengths)
        y, pull = ops.time_pool_vjp(steps, self.mode, lengths=lengths, k=self.k, layout=self.layout)
        shape, x_shape = y.shape, np.shape(x)
        if batch is not None:
            y = y.squeeze(batch)
        return y, simple_pullback(self._name, (), y, lambda dy: pull(dy.reshape(shape)).reshape(x_shape))

    def out_lengths(self, lengths: Any) -> Any:
        """Return None, as no time axis is left; for "kmax" at most k steps."""
        return None if lengths is None or self.mode != "kmax" else np.minimum(lengths, self.k)

    def _input(self, x: object, lengths: object) -> tuple[FloatArray, int | None]:
        """Return x with a batch axis, and the place of that in y if x had none."""
        name, array = self._name, as_float_array(self._name, "x", x)
        if array.ndim == 3:
            return array, None
        if array.ndim != 2:
            batched, single = ", ".join(self.layout), ", ".join(self.layout.replace("N", ""))
            raise ShapeError(f"{name}: 'x' must have shape ({batched}) or ({single}), got {array.shape}")
        if lengths is not None:
            raise LengthsError(f"{name}: 'lengths' must be None for one sequence, got {lengths!r}")
        axis = self.layout.index("N")
        return np.expand_dims(array, axis), axis if self.mode == "kmax" else 0
