"""Layers with a way around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, as_fitting, as_numbers, choice
from fastrnn.errors import ArgumentError, DTypeError
from fastrnn.layers.containers import (
    Pullback,
    as_layers,
    check_alike,
    check_lengths_taken,
    common_lengths,
    forward_one,
    input_gradient,
    merge_parts,
    optional_config,
    optional_layer,
    predict_one,
)
from fastrnn.layers.layer import Layer, layer_from_config, registered
from fastrnn.layers.pullback import Once
from fastrnn.layers.sequential import Sequential
from fastrnn.ops.activation import Activation, as_activation

__all__ = ["Residual"]

ACTIVATIONS = ("relu", "tanh", "sigmoid")


@registered
class Residual(Layer):
    """Layers with a shortcut around them.

        y = act(body(x) + shortcut(x))

    Parameters
    ----------
    *body : Layer
        At least one, run one after another.
    shortcut : Layer, optional
        What takes x to the form of the body's result where that differs, such as a convolution with kernel 1 and the
        body's stride; None passes x on as it is.
    activation : None, "relu", "tanh" or "sigmoid"
        Applied to the sum.

    Attributes
    ----------
    body : Sequential
    shortcut : Layer or None

    References
    ----------
    He, Zhang, Ren & Sun 2016, Deep residual learning for image recognition, equations 1 and 2.
    """

    body: Sequential
    shortcut: Layer | None

    def __init__(self, *body: Layer, shortcut: Layer | None = None, activation: str | None = None) -> None:
        name = self._name
        self.body = Sequential(*as_layers(name, "body", body))
        if shortcut is not None and not isinstance(shortcut, Layer):
            raise ArgumentError(f"{name}: 'shortcut' must be a Layer or None, got {type(shortcut).__name__}")
        self.shortcut = shortcut
        self.activation = None if activation is None else choice(name, "activation", activation, ACTIVATIONS)
        self.takes_lengths = self.body.takes_lengths or (shortcut is not None and shortcut.takes_lengths)

    def __call__(self, x: Any, *, lengths: Any = None) -> FloatArray:
        """Predict.

        Parameters
        ----------
        x : what the body takes
        lengths : int array (N,), optional
            Goes to all layers that take it.

        Raises
        ------
        ShapeError
            Body and shortcut give different shapes.
        DTypeError, ArgumentError, LengthsError
        """
        self._check(lengths)
        inner = predict_one(self.body, x, lengths)
        around = self._as_is(x, inner) if self.shortcut is None else predict_one(self.shortcut, x, lengths)
        function = self._function()
        if function is None:
            return merge_parts(self._name, (inner, around), "sum", 0)
        y = self._result(inner, around)
        function.apply(np.ascontiguousarray(inner), y, np.ascontiguousarray(around))
        return y

    def forward(self, x: Any, *, lengths: Any = None) -> tuple[FloatArray, Pullback]:
        """Train.

        Returns
        -------
        y : ndarray
        backward : ``backward(dy) -> dx``
            Adds to the gradients of all parameters; dx is None if x were tokens. May be called once.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError, LengthsError
        """
        name = self._name
        self._check(lengths)
        inner, pull_body = forward_one(self.body, x, lengths)
        pull_around: Pullback | None = None
        if self.shortcut is None:
            around = self._as_is(x, inner)
        else:
            around, pull_around = forward_one(self.shortcut, x, lengths)
        function = self._function()
        if function is None:
            y, saved = merge_parts(name, (inner, around), "sum", 0), None
        else:
            y = self._result(inner, around)
            saved = function.apply_keeping(np.ascontiguousarray(inner), y, np.ascontiguousarray(around))
        once = Once(name, saved)
        shape, dtype = y.shape, y.dtype

        def backward(dy: FloatArray) -> Any:
            once.require()
            gradient, saved = as_fitting(name, "dy", dy, shape, dtype), once.take()
            if function is not None and saved is not None:
                gradient = function.pull(saved, np.ascontiguousarray(gradient))
            return input_gradient([pull_body(gradient), gradient if pull_around is None else pull_around(gradient)])

        return y, backward

    def out_lengths(self, lengths: Any) -> Any:
        """Return the lengths after the body; a shortcut must map them alike."""
        around = lengths if self.shortcut is None else self.shortcut.out_lengths(lengths)
        return common_lengths(self._name, (self.body.out_lengths(lengths), around))

    def _check(self, lengths: object) -> None:
        check_lengths_taken(self, lengths)
        self.out_lengths(lengths)

    def _as_is(self, x: object, like: FloatArray) -> FloatArray:
        """Return x as an array to be added."""
        array = as_numbers(self._name, "x", x, like.dtype)
        if array.dtype.newbyteorder("=") != like.dtype:
            raise DTypeError(f"{self._name}: 'x' must have dtype {like.dtype} as the body's result, got {array.dtype}")
        return array.astype(like.dtype, copy=False)

    def _function(self) -> Activation | None:
        return None if self.activation is None else as_activation(self._name, self.activation, {})

    def _result(self, inner: FloatArray, around: FloatArray) -> FloatArray:
        """Return a new array for the sum of the two, which must be alike."""
        check_alike(self._name, (inner, around))
        return ops.empty(inner.shape, inner.dtype)

    def config(self) -> dict[str, Any]:
        """Return the configs of all layers, and the activation."""
        inside = {"body": [layer.config() for layer in self.body], "shortcut": optional_config(self.shortcut)}
        return {**super().config(), **inside, "activation": self.activation}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Build all layers from what `config` returned."""
        body = map(layer_from_config, config["body"])
        return cls(*body, shortcut=optional_layer(config["shortcut"]), activation=config["activation"])

    def __repr__(self) -> str:
        """Return the layers, and the activation in the last line."""
        text = super().__repr__()
        return text if self.activation is None else f"{text[:-1]}  activation={self.activation!r}\n)"
