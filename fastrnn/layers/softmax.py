"""Softmax and its logarithm as layers."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, ClassVar

from numpy.typing import ArrayLike

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, as_float_array, as_lengths, plain_int
from fastrnn.errors import ArgumentError, LengthsError, ShapeError
from fastrnn.layers.layer import registered
from fastrnn.layers.lengths import forward_alone, predict_alone
from fastrnn.layers.pooling import Optioned, Pullback
from fastrnn.layers.pullback import simple_pullback

__all__ = ["LogSoftmax", "Softmax"]


class _OverAxis(Optioned):
    """Along one axis.

    Parameters
    ----------
    axis : int
        What PyTorch calls `dim`; the last one unless given.
    batch_axis : int, optional
        The axis of the samples, if `axis` runs over the steps of sequences. Lengths then count: steps past them have no
        part in the sums, and y is zero there.
    """

    _forward_op: ClassVar[Callable[..., FloatArray]]
    _vjp_op: ClassVar[Callable[..., tuple[FloatArray, Pullback]]]

    def __init__(self, axis: int = -1, batch_axis: int | None = None) -> None:
        self.axis = plain_int(self._name, "axis", axis)
        self.batch_axis = None if batch_axis is None else plain_int(self._name, "batch_axis", batch_axis)
        self.takes_lengths = batch_axis is not None

    def _option_values(self) -> dict[str, Any]:
        return {"axis": self.axis, "batch_axis": self.batch_axis}

    def _options(self) -> str:
        return f"axis={self.axis}" + ("" if self.batch_axis is None else f", batch_axis={self.batch_axis}")

    def _input(self, x: object) -> FloatArray:
        array = as_float_array(self._name, "x", x)
        for axis in (self.axis, self.batch_axis):
            if axis is not None and not -array.ndim <= axis < array.ndim:
                raise ShapeError(f"{self._name}: 'x' must have an axis {axis}, got shape {array.shape}")
        return array

    def _sequences(self, x: FloatArray, lengths: object) -> tuple[IntArray, int, int]:
        """Return the lengths, checked, and the axes of samples and steps."""
        if self.batch_axis is None:
            raise LengthsError(f"{self._name}: 'lengths' must be None without a 'batch_axis', got {lengths!r}")
        batch, time = self.batch_axis % x.ndim, self.axis % x.ndim
        if batch == time:
            raise ArgumentError(f"{self._name}: 'batch_axis' must be another axis than 'axis', got {self.batch_axis}")
        return as_lengths(self._name, lengths, x.shape[batch], x.shape[time]), batch, time

    def __call__(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> FloatArray:
        """Return y, of the shape of x.

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid steps of each sample; needs a `batch_axis`.

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        array = self._input(x)
        if lengths is not None:
            return predict_alone(self, array, *self._sequences(array, lengths))
        return type(self)._forward_op(array, self.axis)

    def forward(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> tuple[FloatArray, Pullback]:
        """Return y, of the shape of x, and the pullback. Arguments are those of a call.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError, ArgumentError
        """
        array = self._input(x)
        if lengths is not None:
            return forward_alone(self, array, *self._sequences(array, lengths))
        y, pull = type(self)._vjp_op(array, self.axis)
        return y, simple_pullback(self._name, (), y, pull)


@registered
class Softmax(_OverAxis):
    """y = exp(x) / sum(exp(x))."""

    _forward_op = staticmethod(ops.softmax_forward)
    _vjp_op = staticmethod(ops.softmax_vjp)


@registered
class LogSoftmax(_OverAxis):
    """y = x - log(sum(exp(x))): the logarithm of `Softmax`, without its rounding and underflow."""

    _forward_op = staticmethod(ops.log_softmax_forward)
    _vjp_op = staticmethod(ops.log_softmax_vjp)


for _kind in (Softmax, LogSoftmax):
    _kind.__doc__ = f"{_kind.__doc__}\n\n{cleandoc(_OverAxis.__doc__ or '')}"
