"""What the convolutional layers share: options, parameters, calls and pullbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import init
from fastrnn._checks import FloatArray, as_array, as_dtype, as_fitting, as_generator, flag, positive_int
from fastrnn.errors import ArgumentError, DTypeError, ShapeError
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import Layer
from fastrnn.layers.lengths import forward_within, predict_within
from fastrnn.layers.packing import PackCache
from fastrnn.layers.parameter import summing_into
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops import isa_generation
from fastrnn.ops._spatial import is_channels_last, maps_spec, per_axis, with_axes

__all__ = ["AddGradients", "Convolution", "Sizes", "as_tuple"]

#: An int for all spatial axes, or one for each.
Sizes: TypeAlias = "int | tuple[int, ...]"
Pullback: TypeAlias = Callable[[FloatArray], FloatArray]
#: ``add(dy, grads, input_gradient, fresh) -> dx``: adds to the gradients of the parameters, writes those of `fresh` names; dx is
#: None if it is not asked for.
AddGradients: TypeAlias = Callable[[FloatArray, dict[str, FloatArray], bool, Sequence[str]], Any]


def as_tuple(value: Any) -> Any:
    """Return lists, as a file has them, as tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


class Convolution(Layer):
    """Base class of convolutions and transposed ones over `S` spatial axes."""

    takes_lengths = True
    skips_input_gradient = True

    #: Number of spatial axes.
    S: ClassVar[int]
    #: What stands for steps past a length.
    _past_lengths = 0.0

    weight: FloatArray
    bias: FloatArray | None
    gain: FloatArray | None
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: str | None
    activation: str | None

    def _set_up(
        self,
        weight_shape: tuple[int, ...],
        bias: bool,
        gain: bool,
        layout: str | None,
        dtype: DTypeLike,
        rng: RandomSource,
        weight_init: Initializer,
        bias_init: Initializer | None,
    ) -> None:
        """Make the parameters and try the options out on them."""
        name = self._name
        self.layout = layout
        self._last = is_channels_last(name, layout, self.S)
        self.dtype = as_dtype(name, dtype)
        self._cache = PackCache()
        has_bias, has_gain = flag(name, "bias", bias), flag(name, "gain", gain)
        K = self.out_channels
        options: Any = {"dtype": self.dtype, "rng": as_generator(name, rng)}
        bound = 1 / math.sqrt(math.prod(weight_shape[1:]))
        draw = init.initializer(name, "weight_init", weight_init, bound)
        if bias_init is None:
            bias_init = "torch" if isinstance(weight_init, str) and weight_init == "torch" else "zeros"
        draw_bias = init.initializer(name, "bias_init", bias_init, bound)
        weight = as_fitting(name, "initial weight", draw(weight_shape, **options), weight_shape, self.dtype)
        self._own("weight", weight)
        if has_bias:
            self._own("bias", as_fitting(name, "initial bias", draw_bias((K,), **options), (K,), self.dtype))
        else:
            self.bias = None
        if has_gain:
            self._own("gain", np.ones(K, self.dtype))
        else:
            self.gain = None
        self._check_options()

    def _channels(self, in_channels: int, out_channels: int, kernel_size: Sizes, groups: int) -> tuple[int, ...]:
        """Check and keep the sizes; return the kernel."""
        name = self._name
        self.in_channels = positive_int(name, "in_channels", in_channels)
        self.out_channels = positive_int(name, "out_channels", out_channels)
        self.groups = positive_int(name, "groups", groups)
        for arg, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ArgumentError(f"{name}: 'groups' must divide '{arg}'={channels}, got {self.groups}")
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self.S, 1)
        return self.kernel_size

    def _named(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call an operation; its errors name this layer instead."""
        try:
            return operation(*args, **options)
        except (ArgumentError, DTypeError, ShapeError) as error:
            text = str(error).partition(": ")[2]
            raise type(error)(f"{self._name}: {text}") from None

    def _check_options(self) -> None:
        """Raise an error of this layer's name for unfit options."""
        raise NotImplementedError

    def _predict(self, maps: FloatArray, packed: Any) -> FloatArray:
        """Return the output maps of maps with three spatial axes."""
        raise NotImplementedError

    def _prepare(self, x: FloatArray, maps: FloatArray, y: FloatArray, packed: Any) -> None:
        """Remember in ``packed.calls`` how y came out of x, which is `maps` as `_predict` has it, if that can be."""
        raise NotImplementedError

    def _train(self, maps: FloatArray, packed: Any) -> tuple[FloatArray, AddGradients]:
        """Return the output maps of maps with three spatial axes, and what adds the gradients."""
        raise NotImplementedError

    def _pack_options(self) -> dict[str, Any]:
        """Return the options that the packed weights depend on."""
        raise NotImplementedError

    def _pack_anew(self, params: dict[str, FloatArray], training: bool, options: dict[str, Any]) -> Any:
        """Return packed weights by `ops`, which checks everything."""
        raise NotImplementedError

    def _pack(self, params: dict[str, FloatArray], training: bool) -> Any:
        """Return packed weights: like those before, if only the values are others."""
        options, pattern = self._pack_options(), self._cache.pattern
        key = isa_generation(), options, {name: (values.shape, values.dtype) for name, values in params.items()}
        if pattern is not None and key == pattern[0]:
            return pattern[1].renewed(params, training)
        packed = self._pack_anew(params, training, options)
        self._cache.pattern = key, packed.renewed({}, False)
        return packed

    def __call__(self, x: FloatArray, *, lengths: Any = None) -> FloatArray:
        """Return the output maps, (N, K, *counts) for x (N, C, *sizes), or without N for both; or as the layout says.

        Parameters
        ----------
        x : ndarray
        lengths : int array (N,), optional
            Number of valid places of each sample along the last spatial axis. Each sample gives what it would give
            alone: x counts as zero past them, and y is zero past ``out_lengths(lengths)``.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        if lengths is not None:
            y_within: FloatArray = predict_within(self, x, lengths, self.S)
            return y_within
        packed = self._cache.get(self._parameters, self._pack, training=False)
        y: FloatArray | None = packed.calls.predict(x, self.activation)
        if y is None:
            maps, batched = self._input(x)
            y = self._predict(maps, packed)
            y = y if batched else y[0]
            if type(x) is np.ndarray:
                self._prepare(x, maps, y, packed)
        return y

    def forward(
        self, x: FloatArray, *, lengths: Any = None, input_gradient: bool = True
    ) -> tuple[FloatArray, Callable[[FloatArray], Any]]:
        """Return what calling returns, and the pullback.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``
            Adds to the gradients of the parameters; dx is None without `input_gradient`. May be called once.

        Raises
        ------
        ShapeError, DTypeError, LengthsError
        """
        if lengths is not None:
            y, pull = forward_within(self, x, lengths, self.S)
            return y, pull if input_gradient else _without_result(pull)
        own = dict(self._parameters)
        maps, batched = self._input(x)
        y, add_gradients = self._train(maps, self._cache.get(own, self._pack, training=True))

        def run(dy: FloatArray) -> Any:
            with summing_into(own) as (sums, fresh):
                dx = add_gradients(dy if batched else dy[None], sums, input_gradient, fresh)
            return dx if batched or dx is None else dx[0]

        result = y if batched else y[0]
        return result, simple_pullback(self._name, tuple(own.values()), result, run)

    def _input(self, x: object) -> tuple[FloatArray, bool]:
        """Return x with a batch and three spatial axes, and whether it had a batch."""
        name, S, last = self._name, self.S, self._last
        array = as_array(name, "x", x, self.dtype)
        batched = array.ndim == S + 2
        channel = -1 if last else 1 - (not batched)
        if array.ndim not in (S + 1, S + 2) or array.shape[channel] != self.in_channels:
            spec = maps_spec(S, last, f"C={self.in_channels}")
            raise ShapeError(f"{name}: 'x' must have shape {spec} or without N, got {array.shape}")
        return with_axes(np.ascontiguousarray(array if batched else array[None]), S, last), batched

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return those of the sums as they are defined, without what an algorithm saves."""
        return self._places(x_shape, y_shape) * math.prod(self.weight.shape[1:])

    def _places(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return how often one row of the weight is used."""
        raise NotImplementedError

    def _values(self) -> dict[str, Any]:
        """Return all options by name, without how the weights were initialised."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        return {**super().config(), **self._values(), "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options: dict[str, Any] = {name: value for name, value in config.items() if name != "type"}
        return cls(**options, weight_init="zeros")  # type: ignore[call-arg]

    def _options(self) -> str:
        values = self._values()
        if self.dtype != np.float32:
            values["dtype"] = self.dtype.name
        always = ("in_channels", "out_channels", "kernel_size")
        shown = {k: v for k, v in values.items() if k in always or v != _DEFAULTS.get(k, v)}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _without_result(pull: Pullback) -> Callable[[FloatArray], None]:
    """Return a pullback that calls `pull` for what it adds alone."""

    def backward(dy: FloatArray) -> None:
        pull(dy)

    return backward


#: What `repr` leaves out.
_DEFAULTS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "layout": None,
    "activation": None,
    "gain": False,
    "flip": False,
    "algorithm": "auto",
    "dtype": "float32",
}
