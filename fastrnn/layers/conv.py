"""Convolutions over one, two and three spatial axes."""

from __future__ import annotations

import math
from inspect import cleandoc
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, choice, flag
from fastrnn.errors import ArgumentError, LengthsError
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.conv_stream import ConvStream
from fastrnn.layers.convolution import AddGradients, Convolution, Sizes, as_tuple
from fastrnn.layers.layer import registered
from fastrnn.layers.lengths import slid_lengths
from fastrnn.ops._spatial import padding_pairs, per_axis
from fastrnn.ops.conv import activation_number, convolve, convolve_keeping, prepare

__all__ = ["Conv1d", "Conv2d", "Conv3d"]


class _Conv(Convolution):
    """Convolution: K kernels slide over maps.

        y_k[o] = gain_k * act(bias_k + sum over c, t of weight_kc[t] * x_c[o * stride + t * dilation - before])

    A correlation as everywhere in deep learning; with `flip` the convolution of mathematics.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size, stride, dilation : int, or one per spatial axis
    padding : int, or for each spatial axis an int or a pair (before, after); or "valid", "same" (stride 1), "causal" (one
        axis: y at a time depends on x up to that time)
    groups : int
        Divides C and K; groups = C is depthwise.
    bias : bool
    padding_mode : "zeros", "reflect", "replicate" or "circular"
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC"
        How x and y lie; the weight always has PyTorch's shape.
    activation : None, "relu", "tanh" or "sigmoid"
    gain : bool
        Whether each output map has a trained factor after the activation, at first 1.
    flip : bool
        Reverse the kernels along all spatial axes.
    algorithm : "auto", "direct" or "winograd"
        A causal convolution runs directly unless told otherwise, so that a stream gives the same bits.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init, bias_init : str or callable
        See `fastrnn.init`. "torch", the default, is uniform in +-1/sqrt(fan_in) for both.

    Attributes
    ----------
    weight : (K, C/groups, *kernel_size)
    bias : (K,), or None
    gain : (K,), if there is one
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        layout: str | None = None,
        activation: str | None = None,
        gain: bool = False,
        flip: bool = False,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "torch",
        bias_init: Initializer | None = None,
    ) -> None:
        kernel = self._channels(in_channels, out_channels, kernel_size, groups)
        self.stride, self.padding, self.dilation = as_tuple(stride), as_tuple(padding), as_tuple(dilation)
        self.padding_mode = padding_mode
        self.activation = activation
        self.flip = flag(self._name, "flip", flip)
        self.algorithm = choice(self._name, "algorithm", algorithm, ("auto", "direct", "winograd"))
        shape = (self.out_channels, self.in_channels // self.groups, *kernel)
        self._set_up(shape, bias, gain, layout, dtype, rng, weight_init, bias_init)

    def _pack_options(self) -> dict[str, Any]:
        causal = self.padding == "causal" and self.algorithm == "auto"
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
            "layout": self.layout,
            "flip": self.flip,
            "algorithm": "direct" if causal else self.algorithm,
        }

    def _pack_anew(self, params: dict[str, FloatArray], training: bool, options: dict[str, Any]) -> Any:
        weight, bias, gain = params["weight"], params.get("bias"), params.get("gain")
        return self._named(ops.pack_conv, weight, bias, gain=gain, backward=training, **options)

    def _check_options(self) -> None:
        if self.activation is not None:
            choice(self._name, "activation", self.activation, ("relu", "tanh", "sigmoid"))
        self._cache.get(self._parameters, self._pack, training=False)

    def _predict(self, maps: FloatArray, packed: Any) -> FloatArray:
        return convolve(self._name, maps, packed, activation_number(self._name, self.activation))

    def _prepare(self, x: FloatArray, maps: FloatArray, y: FloatArray, packed: Any) -> None:
        prepare(self._name, x, maps, y, packed, self.activation)

    def _train(self, maps: FloatArray, packed: Any) -> tuple[FloatArray, AddGradients]:
        number = activation_number(self._name, self.activation)
        y, gradients = convolve_keeping(self._name, maps, packed, number)
        return y, gradients.add

    def out_lengths(self, lengths: Any) -> Any:
        """Return how many windows sequences of these lengths, along the last spatial axis, have.

            out = floor((length + before + after - dilation (kernel - 1) - 1) / stride) + 1

        Raises
        ------
        LengthsError
            A sequence has not one window, or the border is no zeros and so would come after the longest one only.
        """
        name, S = self._name, self.S
        stride, dilation = per_axis(name, "stride", self.stride, S, 1), per_axis(name, "dilation", self.dilation, S, 1)
        before, after = padding_pairs(name, self.padding, self.kernel_size, stride, dilation)[-1]
        if lengths is not None and self.padding_mode != "zeros" and before + after:
            raise LengthsError(
                f"{name}: 'lengths' must be None with padding_mode={self.padding_mode!r}, got {lengths!r}"
            )
        missing = before + after - dilation[-1] * (self.kernel_size[-1] - 1) - 1

        def count(given: IntArray) -> IntArray:
            return (given + missing) // stride[-1] + 1

        return slid_lengths(self, lengths, count)

    def _places(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        return math.prod(y_shape)

    def _values(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": "bias" in self._parameters,
            "padding_mode": self.padding_mode,
            "layout": self.layout,
            "activation": self.activation,
            "gain": "gain" in self._parameters,
            "flip": self.flip,
            "algorithm": self.algorithm,
        }


@registered
class Conv1d(_Conv):
    """Convolution over signals (N, C, L)."""

    S = 1

    def stream(self, batch_size: int = 1) -> ConvStream:
        """Return the layer to be fed step by step; it has ``padding="causal"``, stride 1 and a border of zeros.

        ``y_t = stream.step(x_t)`` takes (N, C), or (C,) if `batch_size` is 1, and gives the same bits as a call on the whole
        sequence. The weights are a snapshot.

        Raises
        ------
        ArgumentError : the layer is not causal
        """
        if self.padding != "causal" or self.algorithm == "winograd":
            raise ArgumentError(
                f"{self._name}: a stream needs padding='causal' and algorithm 'auto' or 'direct', got "
                f"{self.padding!r} and {self.algorithm!r}"
            )
        params = {name: parameter.data for name, parameter in self._parameters.items()}
        packed = self._pack_anew(params, False, self._pack_options() | {"layout": "NLC"})
        stream = self._named(ops.conv_stream, packed, batch_size, activation=self.activation)
        return ConvStream(stream, batch_size)


@registered
class Conv2d(_Conv):
    """Convolution over images (N, C, H, W)."""

    S = 2


@registered
class Conv3d(_Conv):
    """Convolution over volumes (N, C, D, H, W)."""

    S = 3


for _kind in (Conv1d, Conv2d, Conv3d):
    _kind.__doc__ = f"{_kind.__doc__}\n\n{cleandoc(_Conv.__doc__ or '')}"
