"""Normalisation over the last axes, over groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn import ops
from fastrnn._checks import (
    FloatArray,
    IntArray,
    as_array,
    as_dtype,
    as_lengths,
    choice,
    finite_float,
    flag,
    positive_int,
)
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.lengths import forward_alone, predict_alone
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops.norm import as_sizes, given_rows

__all__ = ["GroupNorm", "LayerNorm", "Norm"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]

LAYOUTS = ("NCL", "NCHW", "NCDHW", "NLC", "NHWC", "NDHWC")


class Norm(Layer):
    """What normalising layers share: options by name, weight and bias at first ones and zeros, the pullback."""

    weight: FloatArray | None
    bias: FloatArray | None
    dtype: np.dtype[Any]

    def _affine(self, shape: tuple[int, ...], weight: bool, bias: bool) -> None:
        if weight:
            self._own("weight", np.ones(shape, self.dtype))
        else:
            self.weight = None
        if bias:
            self._own("bias", np.zeros(shape, self.dtype))
        else:
            self.bias = None

    def _affine_values(self, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """Return weight and bias, or what stands for none: ones and zeros."""
        own = self._parameters
        weight = own["weight"].data if "weight" in own else np.ones(shape, self.dtype)
        bias = own["bias"].data if "bias" in own else np.zeros(shape, self.dtype)
        return weight, bias

    def _named(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call an operation; its errors name this layer instead."""
        try:
            return operation(*args, **options)
        except (ArgumentError, DTypeError, ShapeError) as error:
            text = str(error).partition(": ")[2]
            raise type(error)(f"{self._name}: {text}") from None

    def _trained(self, y: FloatArray, pull: Callable[..., Any]) -> tuple[FloatArray, Pullback]:
        """Return y and the pullback of this layer from that of the operation."""
        own = dict(self._parameters)

        def run(dy: FloatArray) -> FloatArray:
            dx: FloatArray = pull(dy, grads={name: parameter.grad for name, parameter in own.items()})[0]
            return dx

        return y, simple_pullback(self._name, tuple(own.values()), y, run)

    def _lengths_of_maps(self, x: FloatArray, lengths: object, axis: int) -> IntArray:
        """Return the lengths of maps (N, ...) along an axis, checked."""
        if x.ndim < 3:
            raise LengthsError(f"{self._name}: 'lengths' must be None for an x without steps, got x {x.shape}")
        return as_lengths(self._name, lengths, x.shape[0], x.shape[axis])

    def _values(self) -> dict[str, Any]:
        """Return all options by name."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the options of the layer."""
        return {**super().config(), **self._values(), "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer from what `config` returned."""
        return cls(**{name: value for name, value in config.items() if name != "type"})

    def _options(self) -> str:
        values = self._values()
        if self.dtype != np.float32:
            values["dtype"] = self.dtype.name
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if (name, value) != ("layout", None))


@registered
class LayerNorm(Norm):
    """Normalise over the last axes, each position of the others by itself.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Parameters
    ----------
    normalized_shape : int, or tuple of int
        Sizes of the last axes.
    eps : float, at least 0
    elementwise_affine : bool
        Whether there are a weight and, with `bias`, a bias.
    bias : bool
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : normalized_shape, or None

    References
    ----------
    Ba, Kiros & Hinton 2016, Layer normalization.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = self._name
        self.normalized_shape = as_sizes(name, normalized_shape)
        self.eps = finite_float(name, "eps", eps, 0)
        self.elementwise_affine = flag(name, "elementwise_affine", elementwise_affine)
        self.dtype = as_dtype(name, dtype)
        self._has_bias = flag(name, "bias", bias)
        self._affine(self.normalized_shape, self.elementwise_affine, self.elementwise_affine and self._has_bias)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y, shape of x (..., *normalized_shape).

        Raises
        ------
        ShapeError, DTypeError
        """
        array, sizes = as_array(self._name, "x", x, self.dtype), self.normalized_shape
        if array.shape[-len(sizes) :] != sizes:
            spec = ", ".join(map(str, sizes))
            raise ShapeError(f"{self._name}: 'x' must have shape (..., {spec}), got {array.shape}")
        return given_rows(array, *self._affine_values(sizes), self.eps)

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return what calling returns, and the pullback.

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``
            Adds to the gradients of weight and bias. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        array = as_array(self._name, "x", x, self.dtype)
        operands = array, self.normalized_shape, self.weight, self.bias
        return self._trained(*self._named(ops.layer_norm_vjp, *operands, eps=self.eps))

    def _values(self) -> dict[str, Any]:
        return {
            "normalized_shape": self.normalized_shape,
            "eps": self.eps,
            "elementwise_affine": self.elementwise_affine,
            "bias": self._has_bias,
        }


@registered
class GroupNorm(Norm):
    """Normalise each sample over space and over groups of channels that follow each other.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    One group normalises over all channels; as many groups as channels normalise each map by itself ("instance
    normalisation").

    Parameters
    ----------
    num_groups, num_channels : int
        The first divides the second, C.
    eps : float, at least 0
    affine : bool
        Whether there are a weight and a bias.
    layout : "NCL", "NCHW", "NCDHW" or None, which stands for all of them; "NLC", "NHWC", "NDHWC"
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : (C,), or None

    References
    ----------
    Wu & He 2018, Group normalization.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = self._name
        self.num_groups = positive_int(name, "num_groups", num_groups)
        C = self.num_channels = positive_int(name, "num_channels", num_channels)
        if C % self.num_groups:
            raise ArgumentError(f"{name}: 'num_groups' must divide 'num_channels'={C}, got {num_groups}")
        self.eps = finite_float(name, "eps", eps, 0)
        self.affine = flag(name, "affine", affine)
        self.layout = None if layout is None else choice(name, "layout", layout, LAYOUTS)
        self.dtype = as_dtype(name, dtype)
        self._affine((C,), self.affine, self.affine)

    takes_lengths = True

    def __call__(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> FloatArray:
        """Return y, shape of x (N, C), (N, C, *sizes) or as the layout says.

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid steps of each sample along the last spatial axis. Those past them do not count, and y is
            zero there.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        operands = self._operands(x)
        if lengths is not None:
            ends = self._lengths_of_maps(operands[0], lengths, self._time)
            return predict_alone(self, operands[0], ends, 0, self._time)
        y: FloatArray = self._named(ops.group_norm_forward, *operands, eps=self.eps, layout=self.layout)
        return y

    def forward(self, x: FloatArray, *, lengths: ArrayLike | None = None) -> tuple[FloatArray, Pullback]:
        """Return what calling returns, and the pullback. Arguments are those of a call.

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``
            Adds to the gradients of weight and bias. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        operands = self._operands(x)
        if lengths is not None:
            ends = self._lengths_of_maps(operands[0], lengths, self._time)
            return forward_alone(self, operands[0], ends, 0, self._time)
        return self._trained(*self._named(ops.group_norm_vjp, *operands, eps=self.eps, layout=self.layout))

    @property
    def _time(self) -> int:
        """The last spatial axis."""
        return -2 if self.layout is not None and self.layout.endswith("C") else -1

    def _operands(self, x: object) -> tuple[Any, ...]:
        array = as_array(self._name, "x", x, self.dtype)
        last = self.layout is not None and self.layout.endswith("C")
        axes = range(2, 6) if self.layout is None else [len(self.layout)]
        if array.ndim not in axes or array.shape[-1 if last else 1] != self.num_channels:
            letters = [
                f"C={self.num_channels}" if letter == "C" else letter for letter in self.layout or ("N", "C", "...")
            ]
            raise ShapeError(f"{self._name}: 'x' must have shape ({', '.join(letters)}), got {array.shape}")
        return array, self.num_groups, self.weight, self.bias

    def _values(self) -> dict[str, Any]:
        return {
            "num_groups": self.num_groups,
            "num_channels": self.num_channels,
            "eps": self.eps,
            "affine": self.affine,
            "layout": self.layout,
        }
