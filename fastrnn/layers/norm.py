"""Normalisation over a batch, over the last axes, over groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn import ops
from fastrnn._checks import FloatArray, as_array, as_dtype, choice, finite_float, flag, positive_int
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.parameter import adding_to
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops._spatial import is_channels_last, maps_spec
from fastrnn.ops.norm import as_sizes

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]

LAYOUTS = ("NCL", "NCHW", "NCDHW", "NLC", "NHWC", "NDHWC")


class _Norm(Layer):
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


class _BatchNorm(_Norm):
    """Normalise each channel over batch and space.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    ``layer.forward(x)`` takes mean and (biased) variance from x, and moves the running ones towards them:

        running = (1 - momentum) * running + momentum * new         the new variance is the unbiased one

    ``layer(x)`` takes the running ones, so that no sample depends on another. A layer that keeps none
    (``track_running_stats=False``) takes those of x there too.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, at least 0
    momentum : float in [0, 1], or None
        None: running statistics are the plain means over all batches so far.
    affine : bool
        Whether there are a weight and a bias.
    track_running_stats : bool
    layout : "NCL", "NCHW", "NCDHW" or None; "NLC", "NHWC", "NDHWC"
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : (C,), or None
    running_mean, running_var : (C,), buffers, or None
    num_batches_tracked : (), buffer of int64, or None

    References
    ----------
    Ioffe & Szegedy 2015, Batch normalization.
    """

    #: Number of spatial axes.
    S: ClassVar[int]

    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: NDArray[np.int64] | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = self._name
        C = self.num_features = positive_int(name, "num_features", num_features)
        self.eps = finite_float(name, "eps", eps, 0)
        self.momentum = None if momentum is None else finite_float(name, "momentum", momentum, 0, 1)
        self.affine = flag(name, "affine", affine)
        self.track_running_stats = flag(name, "track_running_stats", track_running_stats)
        self._last = is_channels_last(name, layout, self.S)
        self.layout = layout
        self.dtype = as_dtype(name, dtype)
        self._affine((C,), self.affine, self.affine)
        if self.track_running_stats:
            self._keep("running_mean", np.zeros(C, self.dtype))
            self._keep("running_var", np.ones(C, self.dtype))
            self._keep("num_batches_tracked", np.zeros((), np.int64))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y, shape of x (N, C, *sizes) or as the layout says; `BatchNorm1d` also takes (N, C).

        Raises
        ------
        ShapeError, DTypeError
        """
        array = self._input(x)
        if not self.track_running_stats:
            result: FloatArray = self._with_own_statistics(array)[0][0]
            return result
        statistics = self.running_mean, self.running_var
        y: FloatArray = self._named(
            ops.batch_norm_forward, array, *statistics, self.weight, self.bias, eps=self.eps, layout=self._layout(array)
        )
        return y

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return y by the statistics of x, and the pullback; change the running statistics.

        Returns
        -------
        y : ndarray, shape of x
        backward : ``backward(dy) -> dx``
            Adds to the gradients of weight and bias. May be called once.

        Raises
        ------
        ShapeError
            Also for a single value in each channel, which has no variance.
        DTypeError
        """
        array = self._input(x)
        (y, mean, var), pull = self._with_own_statistics(array)
        if self.track_running_stats:
            count = array.size // self.num_features
            self._move(mean, var * self.dtype.type(count / (count - 1)))
        return self._trained(y, pull)

    def _with_own_statistics(self, x: FloatArray) -> Any:
        return self._named(ops.batch_norm_vjp, x, self.weight, self.bias, eps=self.eps, layout=self._layout(x))

    def _move(self, mean: FloatArray, var: FloatArray) -> None:
        """Move the running statistics, which other threads may do too."""
        own = self._buffers
        with adding_to(tuple(own.values())):
            with own["num_batches_tracked"].edit() as count:
                count += 1
                share = 1 / float(count) if self.momentum is None else self.momentum
            for name, new in (("running_mean", mean), ("running_var", var)):
                with own[name].edit() as running:
                    running *= 1 - share
                    running += share * new

    def _layout(self, x: FloatArray) -> str | None:
        return self.layout if x.ndim == self.S + 2 else None

    def _input(self, x: object) -> FloatArray:
        array = as_array(self._name, "x", x, self.dtype)
        vectors = self.S == 1 and array.ndim == 2
        fits = vectors or array.ndim == self.S + 2
        if not fits or array.shape[-1 if self._last else 1] != self.num_features:
            spec = maps_spec(self.S, self._last, f"C={self.num_features}")
            vector = f" or (N, C={self.num_features})" if self.S == 1 else ""
            raise ShapeError(f"{self._name}: 'x' must have shape {spec}{vector}, got {array.shape}")
        return array

    def _values(self) -> dict[str, Any]:
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
            "track_running_stats": self.track_running_stats,
            "layout": self.layout,
        }


@registered
class BatchNorm1d(_BatchNorm):
    """Batch normalisation of vectors (N, C) or signals (N, C, L)."""

    S = 1


@registered
class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W)."""

    S = 2


@registered
class BatchNorm3d(_BatchNorm):
    """Batch normalisation of volumes (N, C, D, H, W)."""

    S = 3


for _kind in (BatchNorm1d, BatchNorm2d, BatchNorm3d):
    _kind.__doc__ = f"{_kind.__doc__}\n\n{cleandoc(_BatchNorm.__doc__ or '')}"


@registered
class LayerNorm(_Norm):
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
        array = as_array(self._name, "x", x, self.dtype)
        operands = array, self.normalized_shape, self.weight, self.bias
        y: FloatArray = self._named(ops.layer_norm_forward, *operands, eps=self.eps)
        return y

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
class GroupNorm(_Norm):
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

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y, shape of x (N, C), (N, C, *sizes) or as the layout says.

        Raises
        ------
        ShapeError, DTypeError
        """
        y: FloatArray = self._named(ops.group_norm_forward, *self._operands(x), eps=self.eps, layout=self.layout)
        return y

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
        return self._trained(*self._named(ops.group_norm_vjp, *self._operands(x), eps=self.eps, layout=self.layout))

    def _operands(self, x: object) -> tuple[Any, ...]:
        array = as_array(self._name, "x", x, self.dtype)
        last = self.layout is not None and self.layout.endswith("C")
        axes = (2, 3, 4, 5) if self.layout is None else (len(self.layout),)
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
