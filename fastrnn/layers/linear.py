"""The dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from fastrnn import init, ops
from fastrnn._checks import (
    FloatArray,
    as_array,
    as_dtype,
    as_fitting,
    as_generator,
    check_shape,
    choice,
    flag,
    positive_int,
)
from fastrnn.init import Initializer, RandomSource
from fastrnn.layers.layer import Layer, registered
from fastrnn.layers.packing import PackCache
from fastrnn.layers.pullback import simple_pullback
from fastrnn.ops.linear import prepare

__all__ = ["Linear"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]


def _pack(params: dict[str, FloatArray], training: bool) -> Any:
    return ops.pack_linear(params["weight"], params.get("bias"), backward=training)


@registered
class Linear(Layer):
    """Dense layer, ``y = act(weight x + bias)`` at each position.

    Parameters
    ----------
    in_features, out_features : int
        C and K.
    bias : bool
        Whether there is a bias.
    activation : str, optional
        "relu", "tanh", "sigmoid", "gelu" or any other of `ops.activation_forward`, with its usual parameters; it saves a pass
        over y against a layer of its own.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Source of the initial weights.
    weight_init, bias_init : str or callable
        See `fastrnn.init`. By default Glorot uniform weights and a zero bias; ``weight_init="torch"`` makes "torch",
        uniform in +-1/sqrt(C), the default of both.

    Attributes
    ----------
    weight : (K, C)
    bias : (K,), or None
    """

    weight: FloatArray
    bias: FloatArray | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: str | None = None,
        dtype: DTypeLike = np.float32,
        rng: RandomSource = None,
        weight_init: Initializer = "glorot",
        bias_init: Initializer | None = None,
    ) -> None:
        name = self._name
        C = self.in_features = positive_int(name, "in_features", in_features)
        K = self.out_features = positive_int(name, "out_features", out_features)
        self.activation = None if activation is None else choice(name, "activation", activation, ops.ACTIVATIONS)
        self.dtype = as_dtype(name, dtype)
        self._cache = PackCache()
        has_bias = flag(name, "bias", bias)
        options: Any = {"dtype": self.dtype, "rng": as_generator(name, rng)}
        if bias_init is None:
            bias_init = "torch" if isinstance(weight_init, str) and weight_init == "torch" else "zeros"
        draw_weight = init.initializer(name, "weight_init", weight_init, 1 / math.sqrt(C))
        draw_bias = init.initializer(name, "bias_init", bias_init, 1 / math.sqrt(C))
        self._own("weight", as_fitting(name, "initial weight", draw_weight((K, C), **options), (K, C), self.dtype))
        if has_bias:
            self._own("bias", as_fitting(name, "initial bias", draw_bias((K,), **options), (K,), self.dtype))
        else:
            self.bias = None

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return y (..., K) for x (..., C).

        Raises
        ------
        ShapeError, DTypeError
        """
        packed = self._cache.get(self._parameters, _pack, training=False)
        y: FloatArray | None = packed.calls.predict(x, self.activation)
        if y is None:
            y = ops.linear_forward(self._input(x), packed, activation=self.activation)
            if type(x) is np.ndarray:
                prepare(x, y, packed, self.activation)
        return y

    def forward(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Return y (..., K) for x (..., C), and the pullback.

        Returns
        -------
        y : ndarray (..., K)
        backward : ``backward(dy) -> dx``
            Adds to the gradients of weight and bias. May be called once.

        Raises
        ------
        ShapeError, DTypeError
        """
        own = dict(self._parameters)
        packed = self._cache.get(own, _pack, training=True)
        y, pull = ops.linear_vjp(self._input(x), packed, activation=self.activation)

        def run(dy: FloatArray) -> FloatArray:
            dx, _ = pull(dy, grads={name: parameter.grad for name, parameter in own.items()})
            return dx

        return y, simple_pullback(self._name, tuple(own.values()), y, run)

    def _input(self, x: object) -> FloatArray:
        array = as_array(self._name, "x", x, self.dtype)
        if array.ndim == 0 or array.shape[-1] != self.in_features:
            check_shape(self._name, "x", array, "(..., C)", C=self.in_features)
        return array

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return C for each output."""
        return math.prod(y_shape) * self.in_features

    def config(self) -> dict[str, Any]:
        """Return the options of the layer, without how its weights were initialised."""
        has_bias = "bias" in self._parameters
        sizes = {"in_features": self.in_features, "out_features": self.out_features}
        return {**super().config(), **sizes, "bias": has_bias, "activation": self.activation, "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build a layer with zero weights from what `config` returned."""
        options = {name: value for name, value in config.items() if name != "type"}
        return cls(**options, weight_init="zeros")

    def _options(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype.name!r}"
        activation = "" if self.activation is None else f", activation={self.activation!r}"
        return f"{sizes}, bias={'bias' in self._parameters}{activation}{dtype}"
