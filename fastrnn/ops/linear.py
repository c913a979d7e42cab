"""The dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_array, as_float_array, check_shape
from fastrnn._kernels._calls import MOST_AXES, Calls, Prepared
from fastrnn._kernels._gemm import DenseWeights, add_weight_gradient
from fastrnn._kernels._memory import empty
from fastrnn.errors import ArgumentError, ShapeError
from fastrnn.ops._recurrent import check_grads, once, shapes_of
from fastrnn.ops.activation import Activation, as_activation

Array = NDArray[Any]
Grads = dict[str, Array]

__all__ = ["linear_forward", "linear_vjp", "pack_linear"]


class PackedLinear:
    """The weights of a dense layer as the kernels read them: a snapshot, accepted in place of `weight`."""

    __slots__ = ("calls", "shapes", "trainable", "weights")

    def __init__(self, name: str, weight: Array, bias: Array | None, backward: bool) -> None:
        weight = np.asarray(as_float_array(name, "weight", weight), order="C")
        check_shape(name, "weight", weight, "(K, C)")
        arrays = {"weight": weight}
        if bias is not None:
            arrays["bias"] = np.asarray(as_array(name, "bias", bias, weight.dtype), order="C")
            check_shape(name, "bias", arrays["bias"], "(K)", K=len(weight))
        self.weights = DenseWeights(weight, arrays.get("bias"), backward)
        self.shapes = shapes_of(arrays)
        self.trainable = backward
        self.calls = Calls()


def pack_linear(weight: Array, bias: Array | None = None, *, backward: bool = True) -> PackedLinear:
    """Return a snapshot of weight and bias in the layout of the kernels, accepted in place of `weight`.

    With ``backward=False`` it serves `linear_forward` only, and costs half.
    """
    return PackedLinear("pack_linear", weight, bias, backward)


def _packed(name: str, weight: Array | PackedLinear, bias: Array | None, backward: bool) -> PackedLinear:
    if not isinstance(weight, PackedLinear):
        return PackedLinear(name, weight, bias, backward)
    if bias is not None:
        raise ArgumentError(
            f"{name}: 'bias' must be None beside a packed weight, which holds its own, got {type(bias).__name__}"
        )
    if backward and not weight.trainable:
        raise ArgumentError(f"{name}: 'weight' must be packed with backward=True, got backward=False")
    return weight


def _as_matrix(name: str, arg: str, value: Array, dtype: Any, width: int, letter: str) -> tuple[tuple[int, ...], Array]:
    """Return the leading shape, and the array as rows."""
    array = as_array(name, arg, value, dtype)
    check_shape(name, arg, array, f"(..., {letter})", **{letter: width})
    flat = array if array.ndim == 2 else np.ascontiguousarray(array)
    flat = flat.reshape(math.prod(array.shape[:-1]), width)
    if len(flat) > 1 and flat.strides[0] < width * flat.itemsize:  # rows that overlap or run backwards
        flat = np.ascontiguousarray(flat)
    return array.shape[:-1], flat


def _activation(name: str, activation: object) -> Activation | None:
    return None if activation is None else as_activation(name, activation, {}, "activation")


def linear_forward(
    x: Array, weight: Array | PackedLinear, bias: Array | None = None, *, activation: str | None = None
) -> Array:
    """Return ``y = act(x weight^T + bias)``.

    Parameters
    ----------
    x : ndarray (..., C), float32 or float64
    weight : ndarray (K, C), or what `pack_linear` made of it and the bias
    bias : ndarray (K,), optional
    activation : str, optional
        One of those of `activation_forward`, with its usual parameters.

    Returns
    -------
    y : ndarray (..., K)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    name = "linear_forward"
    function = _activation(name, activation)
    y = _forward(name, x, _packed(name, weight, bias, False))[0]
    if function is not None:
        function.apply(y, y)
    return y


def prepare(x: Array, y: Array, packed: PackedLinear, activation: str | None) -> None:
    """Remember in ``packed.calls`` how y was computed from x."""
    function, weights = _activation("prepare", activation), packed.weights
    rows = math.prod(x.shape[:-1])
    seen, out_seen = (rows, weights.inputs), (rows, weights.outputs)
    then = None if function is None else function.apply
    if x.ndim <= MOST_AXES:
        packed.calls.keep(
            Prepared(x.shape, y.shape, seen, out_seen, weights.dtype, activation, weights.forward, (), then)
        )


def _forward(name: str, x: Array, packed: PackedLinear) -> tuple[Array, Array]:
    weights = packed.weights
    lead, rows = _as_matrix(name, "x", x, weights.dtype, weights.inputs, "C")
    y = empty((len(rows), weights.outputs), weights.dtype)
    weights.forward(rows, y)
    return y.reshape(*lead, weights.outputs), rows


def linear_vjp(
    x: Array, weight: Array | PackedLinear, bias: Array | None = None, *, activation: str | None = None
) -> tuple[Array, Callable[..., tuple[Array, Grads]]]:
    """Apply a dense layer and return its pullback. Arguments are those of `linear_forward`.

        dz = act'(z) dy for z = x weight^T + bias
        dx = dz weight          dweight = sum dz x^T            dbias = sum dz

    Returns
    -------
    y : ndarray (..., K)
    pullback : ``pullback(dy, *, grads=None) -> (dx, grads)``
        dy (..., K). Gradients of weight and bias are added into the arrays of the mapping `grads` where it has them. May succeed
        once; a second call raises RuntimeError.
    """
    name = "linear_vjp"
    function = _activation(name, activation)
    packed = _packed(name, weight, bias, True)
    weights = packed.weights
    y, rows = _forward(name, x, packed)
    saved = None if function is None else function.apply_keeping(y, y)
    kept, y_shape = empty(rows.shape, rows.dtype), y.shape
    kept[...] = rows

    def pullback(dy: Array, *, grads: Mapping[str, Array] | None = None) -> tuple[Array, Grads]:
        lead, dy_rows = _as_matrix(name, "dy", dy, weights.dtype, weights.outputs, "K")
        if lead != y_shape[:-1]:
            raise ShapeError(f"{name}: 'dy' must have shape {y_shape}, got {(*lead, weights.outputs)}")
        sums = check_grads(name, packed.shapes, grads, weights.dtype)
        if function is not None and saved is not None:
            dy_rows = function.pull(saved, np.ascontiguousarray(dy_rows))
        work = {
            key: value if value.flags.c_contiguous else np.zeros(value.shape, value.dtype)
            for key, value in sums.items()
        }
        add_weight_gradient(dy_rows, kept, work["weight"], work.get("bias"))
        for key, value in work.items():
            if value is not sums[key]:
                sums[key] += value
        dx = kept  # which is not needed any more
        weights.backward(dy_rows, dx)
        return dx.reshape(*lead, weights.inputs), sums

    return y, once(name, pullback, overwrites=True)
