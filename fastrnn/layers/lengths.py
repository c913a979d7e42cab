"""Lengths of sequences on their way through layers that slide windows over time, and what lies past them.

Time is the last spatial axis: L of signals, W of images. A batch of signals of different lengths gives what each would
give alone: steps past a length are taken as the border of zeros that would be there (or as what a maximum never
takes), and steps of the result past its own length are zero. Gradients past a length are neither read nor other than
zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from fastrnn._checks import FloatArray, IntArray, as_array, as_fitting, as_float_array, as_lengths, as_whole_numbers
from fastrnn.errors import LengthsError
from fastrnn.layers.layer import Layer

__all__ = ["forward_within", "predict_within", "slid_lengths"]

Pullback: TypeAlias = Callable[[FloatArray], FloatArray]


def slid_lengths(layer: Layer, lengths: Any, count: Callable[[IntArray], IntArray]) -> IntArray | None:
    """Return how many windows sequences of `lengths` have, by the formula `count`; None stays None.

    Raises
    ------
    LengthsError
        A sequence has not even one window.
    """
    if lengths is None:
        return None
    given = as_whole_numbers(layer._name, "lengths", lengths)
    mapped = count(given)
    if mapped.size and mapped.min() < 1:
        short = int(given[mapped < 1].max())
        raise LengthsError(f"{layer._name}: 'lengths' must be long enough for one window each, got {short}")
    return mapped


class _Within:
    """The lengths of one call, before and after the layer."""

    def __init__(self, layer: Any, x: object, lengths: object, axes: int) -> None:
        name = layer._name
        dtype = getattr(layer, "dtype", None)
        self.x = as_float_array(name, "x", x) if dtype is None else as_array(name, "x", x, dtype)
        self.axis = -2 if layer.layout is not None and layer.layout.endswith("C") else -1
        if self.x.ndim != axes + 2:
            layer._input(self.x)  # complains of any shape but that of one sample
            raise LengthsError(f"{name}: 'lengths' must be None for an x without a batch axis, got {lengths!r}")
        self.before = as_lengths(name, lengths, self.x.shape[0], self.x.shape[self.axis])
        self.after: IntArray = layer.out_lengths(self.before)
        self.fill: float | None = layer._past_lengths

    def visible(self) -> FloatArray:
        """Return x as the layer may see it."""
        return self.x if self.fill is None else _filled(self.x, self.before, self.axis, self.fill)


def _tails(maps: FloatArray, lengths: IntArray, axis: int) -> list[FloatArray]:
    """Return what lies past the lengths, one view for each sample that has such steps."""
    steps = np.moveaxis(maps, axis, 1)
    return [steps[n, length:] for n, length in enumerate(lengths.tolist()) if length < steps.shape[1]]


def _filled(maps: FloatArray, lengths: IntArray, axis: int, fill: float) -> FloatArray:
    """Return maps with `fill` past the lengths: themselves if they are so already, else a copy."""
    if all((tail == fill).all() for tail in _tails(maps, lengths, axis)):
        return maps
    filled = maps.copy()
    for tail in _tails(filled, lengths, axis):
        tail[...] = fill
    return filled


def _clear(maps: FloatArray, lengths: IntArray, axis: int) -> FloatArray:
    """Set what lies past the lengths to zero, in place."""
    for tail in _tails(maps, lengths, axis):
        tail[...] = 0
    return maps


def predict_within(layer: Any, x: object, lengths: object, axes: int) -> Any:
    """Return ``layer(x)`` for signals of these lengths; `axes` is the number of spatial axes."""
    within = _Within(layer, x, lengths, axes)
    result = layer(within.visible())
    _clear(result[0] if isinstance(result, tuple) else result, within.after, within.axis)
    return result


def forward_within(layer: Any, x: object, lengths: object, axes: int) -> tuple[Any, Pullback]:
    """Return ``layer.forward(x)`` for signals of these lengths."""
    within = _Within(layer, x, lengths, axes)
    result, pull = layer.forward(within.visible())
    y = result[0] if isinstance(result, tuple) else result
    _clear(y, within.after, within.axis)
    shape, dtype, before, after, axis = y.shape, y.dtype, within.before, within.after, within.axis

    def backward(dy: FloatArray) -> FloatArray:
        gradient = as_fitting(layer._name, "dy", dy, shape, dtype)
        return _clear(pull(_filled(gradient, after, axis, 0.0)), before, axis)

    return result, backward
