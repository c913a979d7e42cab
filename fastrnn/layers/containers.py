"""What containers share: layers run alike whether they take lengths or return states, and results that are merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError
from fastrnn.layers.layer import Layer, layer_from_config
from fastrnn.ops.activation import add

__all__ = [
    "MERGES",
    "Pullback",
    "as_layers",
    "check_alike",
    "check_lengths_taken",
    "common_lengths",
    "dtype_of",
    "forward_one",
    "input_gradient",
    "merge_gradients",
    "merge_parts",
    "optional_config",
    "optional_layer",
    "predict_one",
    "without_values",
]

Pullback: TypeAlias = Callable[[Any], Any]

#: How results of several layers become one.
MERGES = ("concat", "sum", "mean", "mul")


def as_layers(name: str, arg: str, layers: Sequence[object]) -> tuple[Layer, ...]:
    """Return `layers` if they are at least one `Layer`, or raise `ArgumentError`."""
    if not layers:
        raise ArgumentError(f"{name}: '{arg}' must be at least one layer, got none")
    known: list[Layer] = []
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise ArgumentError(f"{name}: '{arg}[{index}]' must be a Layer, got {type(layer).__name__}")
        known.append(layer)
    return tuple(known)


def check_lengths_taken(container: Layer, lengths: object) -> None:
    """Raise `ArgumentError` if there are lengths, and no layer of the container takes them."""
    if lengths is not None and not container.takes_lengths:
        raise ArgumentError(f"{container._name}: 'lengths' must be None, as no layer takes it, got {lengths!r}")


def predict_one(layer: Layer, x: Any, lengths: Any) -> Any:
    """Call a layer with the lengths, if it takes them; return its result without a state."""
    result = layer(x, lengths=lengths) if layer.takes_lengths else layer(x)
    return result[0] if layer.returns_state else result


def forward_one(layer: Layer, x: Any, lengths: Any) -> tuple[Any, Pullback]:
    """Run a layer's `forward` in the same way; the pullback maps the gradient of that result to that of x."""
    result, pull = layer.forward(x, lengths=lengths) if layer.takes_lengths else layer.forward(x)
    if not layer.returns_state:
        return result, pull
    return result[0], lambda dy: pull(dy)[0]


def common_lengths(name: str, lengths: Sequence[Any]) -> Any:
    """Return the lengths after layers that stand side by side, which must agree."""
    first, *others = lengths
    for other in others:
        if (first is None) != (other is None) or (first is not None and not np.array_equal(first, other)):
            raise LengthsError(f"{name}: branches must map 'lengths' alike, got {first} and {other}")
    return first


def dtype_of(layer: Layer) -> np.dtype[Any] | None:
    """Return the dtype of a layer's parameters; None if it has none."""
    return next((parameter.dtype for parameter in layer.parameters().values()), None)


def optional_layer(config: Any) -> Layer | None:
    """Build a layer from its config, or None from None."""
    return None if config is None else layer_from_config(config)


def optional_config(layer: Layer | None) -> Mapping[str, Any] | None:
    """Return the config of a layer, or None for None."""
    return None if layer is None else layer.config()


def input_gradient(gradients: Sequence[Any]) -> Any:
    """Return the sum of the gradients of one input; None, as of tokens, if all are None."""
    total, fresh = None, False
    for gradient in gradients:
        if gradient is None:
            continue
        if total is None:
            total = gradient
        elif fresh:
            add(total, gradient, total)
        else:
            total, fresh = add(total, gradient, ops.empty(total.shape, total.dtype)), True
    return total


def merge_parts(name: str, parts: Sequence[FloatArray], merge: str, axis: int) -> FloatArray:
    """Return the merged results of several layers as a new array.

    Raises
    ------
    ShapeError
        Their shapes differ, for "concat" but along `axis`.
    DTypeError
        Their dtypes differ.
    """
    first = parts[0]
    if merge == "concat":
        if not -first.ndim <= axis < first.ndim:
            raise ShapeError(f"{name}: 'axis' must be one of the axes of {first.shape}, got {axis}")
        check_alike(name, parts, axis)
        shape = list(first.shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return np.concatenate(parts, axis, out=ops.empty(tuple(shape), first.dtype))
    check_alike(name, parts)
    y: FloatArray = ops.empty(first.shape, first.dtype)
    if len(parts) == 1:
        y[...] = first
        return y
    operation = np.multiply if merge == "mul" else add
    operation(first, parts[1], y)
    for part in parts[2:]:
        operation(y, part, y)
    if merge == "mean":
        y /= len(parts)
    return y


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return a shape with 0 in place of the size of an axis; as it is if it has no such axis."""
    sizes = list(shape)
    if -len(sizes) <= axis < len(sizes):
        sizes[axis] = 0
    return tuple(sizes)


def check_alike(name: str, parts: Sequence[FloatArray], axis: int | None = None) -> None:
    """Raise `DTypeError` or `ShapeError` unless all have one dtype, and one shape but for `axis`."""
    if any(part.dtype != parts[0].dtype for part in parts):
        raise DTypeError(f"{name}: branches must give one dtype, got {', '.join(str(part.dtype) for part in parts)}")
    keys = [part.shape if axis is None else _without(part.shape, axis) for part in parts]
    if any(key != keys[0] for key in keys):
        shapes = " and ".join(str(part.shape) for part in parts)
        raise ShapeError(f"{name}: results must have shapes that fit together, got {shapes}")


def merge_gradients(dy: FloatArray, parts: Sequence[FloatArray], merge: str, axis: int) -> list[FloatArray]:
    """Return the gradients of `parts` for the gradient of what `merge_parts` gave.

    Those of a concatenation are views of dy. Of `parts`, values are read for "mul" only; the gradient of a factor is
    dy times all others, without a division that a zero would break.
    """
    if merge == "concat":
        ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
        return list(np.split(dy, ends, axis))
    if merge == "sum" or len(parts) == 1:
        return [dy] * len(parts)
    if merge == "mean":
        return [dy / dy.dtype.type(len(parts))] * len(parts)
    before = [dy]
    for part in parts[:-1]:
        before.append(before[-1] * part)
    after, gradients = None, []
    for part, lead in zip(reversed(parts), reversed(before), strict=True):
        gradients.append(lead if after is None else lead * after)
        after = part if after is None else after * part
    return gradients[::-1]


def without_values(parts: Sequence[FloatArray]) -> list[FloatArray]:
    """Return arrays of the same shapes without memory of their own, for gradients that need no more."""
    return [np.broadcast_to(part.dtype.type(0), part.shape) for part in parts]
