"""Lengths of sequences on their way through layers that look at several steps, and what lies past them.

Time is the last spatial axis: L of signals, W of images. A batch of signals of different lengths gives what each would
give alone: steps past a length are taken as the border of zeros that would be there (or as what a maximum never
takes), and steps of the result past its own length are zero. Gradients past a length are neither read nor other than
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fastrnn import ops
from fastrnn._checks import FloatArray, IntArray, as_array, as_fitting, as_float_array, as_lengths, as_whole_numbers
from fastrnn.errors import LengthsError
from fastrnn.layers.layer import Layer
from fastrnn.layers.pullback import Once

__all__ = ["Joined", "clear_past", "forward_alone", "forward_within", "predict_alone", "predict_within", "slid_lengths"]

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


def clear_past(maps: FloatArray, lengths: IntArray, axis: int) -> FloatArray:
    """Set what lies past the lengths to zero, in place."""
    for tail in _tails(maps, lengths, axis):
        tail[...] = 0
    return maps


def predict_within(layer: Any, x: object, lengths: object, axes: int) -> Any:
    """Return ``layer(x)`` for signals of these lengths; `axes` is the number of spatial axes."""
    within = _Within(layer, x, lengths, axes)
    result = layer(within.visible())
    clear_past(result[0] if isinstance(result, tuple) else result, within.after, within.axis)
    return result


def forward_within(layer: Any, x: object, lengths: object, axes: int) -> tuple[Any, Pullback]:
    """Return ``layer.forward(x)`` for signals of these lengths."""
    within = _Within(layer, x, lengths, axes)
    result, pull = layer.forward(within.visible())
    y = result[0] if isinstance(result, tuple) else result
    clear_past(y, within.after, within.axis)
    shape, dtype, before, after, axis = y.shape, y.dtype, within.before, within.after, within.axis

    def backward(dy: FloatArray) -> FloatArray:
        gradient = as_fitting(layer._name, "dy", dy, shape, dtype)
        return clear_past(pull(_filled(gradient, after, axis, 0.0)), before, axis)

    return result, backward


class Joined:
    """The steps within the lengths of all samples as one sample, for what is computed over a whole batch.

    `axis` is that of time in maps (N, ...), negative.
    """

    def __init__(self, lengths: IntArray, axis: int) -> None:
        self._lengths, self._axis = lengths.tolist(), axis

    def _pairs(self, maps: FloatArray, joined: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield the steps of each sample in both arrays."""
        steps, together, at = np.moveaxis(maps, self._axis, 1), np.moveaxis(joined, self._axis, 1)[0], 0
        for n, length in enumerate(self._lengths):
            yield steps[n, :length], together[at : at + length]
            at += length

    def join(self, maps: FloatArray) -> FloatArray:
        """Return maps (1, ...) of all steps, one sample after another."""
        shape = [1, *maps.shape[1:]]
        shape[self._axis] = sum(self._lengths)
        joined: FloatArray = ops.empty(tuple(shape), maps.dtype)
        for steps, place in self._pairs(maps, joined):
            place[...] = steps
        return joined

    def part(self, joined: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """Undo `join`, with zeros past the lengths."""
        maps: FloatArray = np.zeros(shape, joined.dtype)
        for place, steps in self._pairs(maps, joined):
            place[...] = steps
        return maps


def _sample(array: FloatArray, n: int, length: int, batch: int, time: int) -> FloatArray:
    """Return the steps of one sample, a view that still has a batch axis."""
    index = [slice(None)] * array.ndim
    index[batch], index[time] = slice(n, n + 1), slice(length)
    return array[tuple(index)]


def predict_alone(
    layer: Callable[[FloatArray], FloatArray], x: FloatArray, lengths: IntArray, batch: int, time: int
) -> FloatArray:
    """Return what `layer` gives for each sample without the steps past its length, and zeros there."""
    y: FloatArray = np.zeros(x.shape, x.dtype)
    for n, length in enumerate(lengths.tolist()):
        _sample(y, n, length, batch, time)[...] = layer(_sample(x, n, length, batch, time))
    return y


def forward_alone(layer: Layer, x: FloatArray, lengths: IntArray, batch: int, time: int) -> tuple[FloatArray, Pullback]:
    """Return the same for `layer.forward`, and the pullback."""
    y: FloatArray = np.zeros(x.shape, x.dtype)
    pulls: list[Pullback] = []
    for n, length in enumerate(lengths.tolist()):
        part, pull = layer.forward(_sample(x, n, length, batch, time))
        _sample(y, n, length, batch, time)[...] = part
        pulls.append(pull)
    shape, dtype, once = y.shape, y.dtype, Once(layer._name, pulls)

    def backward(dy: FloatArray) -> FloatArray:
        once.require()
        gradient = as_fitting(layer._name, "dy", dy, shape, dtype)
        dx: FloatArray = np.zeros(shape, dtype)
        for n, (length, pull) in enumerate(zip(lengths.tolist(), once.take(), strict=True)):
            _sample(dx, n, length, batch, time)[...] = pull(_sample(gradient, n, length, batch, time))
        return dx

    return y, backward
