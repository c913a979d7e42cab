"""Transposed convolutions over one, two and three spatial axes."""

from __future__ import annotations

import math
from inspect import cleandoc
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, choice
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.convolution import AddGradients, Convolution, Sizes, as_tuple
from fastrnn.layers.layer import registered
from fastrnn.layers.lengths import slid_lengths
from fastrnn.ops._spatial import padding_pairs, per_axis
from fastrnn.ops.conv import activation_number
from fastrnn.ops.conv_transpose import convolve_transposed, convolve_transposed_keeping, prepare_transposed

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(Convolution):
    """Transposed convolution: K kernels are laid down at each place of the maps, and summed where they overlap.

        y_k = act(bias_k + a_k)         a_k[o * stride + t * dilation - before] += weight_ck[t] * x_c[o]

    A size becomes ``(size - 1) * stride - before - after + dilation * (kernel_size - 1) + output_padding + 1``.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size, stride : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after)
        Places taken away from y.
    output_padding : int, or one per spatial axis
        Places left or added at the far end; less than stride or dilation.
    groups : int
        Divides C and K.
    bias : bool
    dilation : int, or one per spatial axis
    padding_mode : "zeros"
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC"
        How x and y lie; the weight always has PyTorch's shape.
    activation : None, "relu", "tanh" or "sigmoid"
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init, bias_init : str or callable
        See `fastrnn.init`. "torch", the default, is uniform in +-1/sqrt(K/groups * kernel) for both.

    Attributes
    ----------
    weight : (C, K/groups, *kernel_size)
    bias : (K,), or None
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Any = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        *,
        layout: str | None = None,
        activation: str | None = None,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "torch",
        bias_init: Initializer | None = None,
    ) -> None:
        kernel = self._channels(in_channels, out_channels, kernel_size, groups)
        self.stride, self.padding, self.dilation = as_tuple(stride), as_tuple(padding), as_tuple(dilation)
        self.output_padding, self.activation = as_tuple(output_padding), activation
        self.padding_mode = choice(self._name, "padding_mode", padding_mode, ("zeros",))
        shape = (self.in_channels, self.out_channels // self.groups, *kernel)
        self._set_up(shape, bias, False, layout, dtype, rng, weight_init, bias_init)

    def _pack_options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": self.layout,
        }

    def _pack_anew(self, params: dict[str, FloatArray], training: bool, options: dict[str, Any]) -> Any:
        weight, bias = params["weight"], params.get("bias")
        return self._named(ops.pack_conv_transpose, weight, bias, backward=training, **options)

    def _check_options(self) -> None:
        if self.activation is not None:
            choice(self._name, "activation", self.activation, ("relu", "tanh", "sigmoid"))
        self._cache.get(self._parameters, self._pack, training=False)

    def _predict(self, maps: FloatArray, packed: Any) -> FloatArray:
        return convolve_transposed(self._name, maps, packed, activation_number(self._name, self.activation))

    def _prepare(self, x: FloatArray, maps: FloatArray, y: FloatArray, packed: Any) -> None:
        prepare_transposed(self._name, x, maps, y, packed, self.activation)

    def _train(self, maps: FloatArray, packed: Any) -> tuple[FloatArray, AddGradients]:
        number = activation_number(self._name, self.activation)
        y, gradients = convolve_transposed_keeping(self._name, maps, packed, number)
        return y, gradients.add

    def out_lengths(self, lengths: Any) -> Any:
        """Return how far results reach for sequences of these lengths, along the last spatial axis.

            out = (length - 1) stride - before - after + dilation (kernel - 1) + output_padding + 1

        Raises
        ------
        LengthsError
            Of a sequence nothing is left.
        """
        name, S = self._name, self.S
        stride, dilation = per_axis(name, "stride", self.stride, S, 1), per_axis(name, "dilation", self.dilation, S, 1)
        before, after = padding_pairs(name, self.padding, self.kernel_size, stride, dilation)[-1]
        extra = per_axis(name, "output_padding", self.output_padding, S, 0)[-1]
        more = dilation[-1] * (self.kernel_size[-1] - 1) + extra + 1 - before - after

        def count(given: IntArray) -> IntArray:
            return (given - 1) * stride[-1] + more

        return slid_lengths(self, lengths, count)

    def _places(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        return math.prod(x_shape)

    def _values(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "bias": "bias" in self._parameters,
            "dilation": self.dilation,
            "padding_mode": self.padding_mode,
            "layout": self.layout,
            "activation": self.activation,
        }


@registered
class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over signals (N, C, L)."""

    S = 1


@registered
class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over images (N, C, H, W)."""

    S = 2


@registered
class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over volumes (N, C, D, H, W)."""

    S = 3


for _kind in (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d):
    _kind.__doc__ = f"{_kind.__doc__}\n\n{cleandoc(_ConvTranspose.__doc__ or '')}"
