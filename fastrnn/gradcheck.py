"""Numerical check of gradients: pullbacks against differences of results."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import as_generator, finite_float, flag, positive_int
from fastrnn.errors import ArgumentError, DTypeError, GradientError
from fastrnn.init import RandomSource
from fastrnn.layers.layer import Layer
from fastrnn.layers.parameter import Parameter

__all__ = ["CheckedArray", "GradcheckReport", "gradcheck"]

Array: TypeAlias = NDArray[Any]

# Cube root of the float64 roundoff: truncation and rounding errors of central differences are then alike.
STEP = 6e-6
# Entries that are off are tried with shorter steps too: a kink (of a ReLU, of a maximum) within a step is then passed.
SHORTER = (1.0, 1 / 16, 1 / 256)


@dataclass(frozen=True)
class CheckedArray:
    """The gradient of one array, and its entry that is off most.

    Attributes
    ----------
    name : str
        "x", "state[0]", or the name of a parameter.
    shape : tuple of int
    checked, wrong : int
        Entries that were checked, and those of them that are off.
    index : tuple of int
        The worst entry; empty if none was checked.
    pulled, numeric : float
        Its gradient by the pullback, and by differences.
    excess : float
        How far these differ, in units of what is allowed: up to 1 is right.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    wrong: int
    index: tuple[int, ...]
    pulled: float
    numeric: float
    excess: float


@dataclass(frozen=True)
class GradcheckReport:
    """What `gradcheck` found: one `CheckedArray` for each input and parameter, in the order of `arrays`."""

    layer: str
    arrays: tuple[CheckedArray, ...]

    @property
    def ok(self) -> bool:
        """Return whether all gradients are right."""
        return not any(array.wrong for array in self.arrays)

    @property
    def worst(self) -> CheckedArray:
        """Return the array with the entry that is off most."""
        return max(self.arrays, key=lambda array: array.excess)

    def __str__(self) -> str:
        """Return a table."""
        width = max(len(array.name) for array in self.arrays)
        lines = [f"gradcheck of {self.layer}: {'right' if self.ok else 'WRONG'}"]
        for array in self.arrays:
            where = f"{array.name}[{', '.join(map(str, array.index))}]" if array.index else array.name
            lines.append(
                f"  {array.name:{width}}  {array.wrong} of {array.checked} wrong; worst {where}: "
                f"{array.pulled:.9g} pulled, {array.numeric:.9g} numeric ({array.excess:.2g} of what is allowed)"
            )
        return "\n".join(lines)


def gradcheck(
    layer: Layer,
    *inputs: Any,
    step: float = STEP,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    samples: int | None = None,
    rng: RandomSource = 0,
    raises: bool = True,
    **options: Any,
) -> GradcheckReport:
    """Compare a layer's pullback with central differences of what its `forward` returns, in float64.

        f = sum of w * result, for random w         df/da = (f(a + step) - f(a - step)) / (2 step)

    An entry a is right if both gradients differ by at most ``rtol |df/da| + atol max(1, largest gradient of its array)``.
    Entries that are off are tried again with shorter steps, since a kink may lie within the step. The training pass is
    checked, with statistics of the batch and one dropout mask. The layer itself stays untouched: a copy is used.

    Parameters
    ----------
    layer : Layer
        Its parameters are float64.
    *inputs : arrays, or tuples of arrays
        What `forward` takes: x, and for a recurrent layer its state. Gradients of whole numbers, such as tokens, are not
        checked. The pullback takes one gradient for each result that is no array of whole numbers, and returns one for each
        input.
    step, rtol, atol : float
    samples : int, optional
        Check so many random entries of each array; all if None.
    rng : int, numpy.random.Generator or None
        Source of w and of the entries.
    raises : bool
        Whether a wrong gradient is an error.
    **options
        Passed on to `forward`, such as ``lengths=``.

    Returns
    -------
    GradcheckReport
        Prints as a table.

    Raises
    ------
    GradientError
        A gradient is wrong; the message names the worst entry, and its attribute `report` has all.
    DTypeError
        The layer or an input is not float64.
    ArgumentError
    """
    name = "gradcheck"
    if not isinstance(layer, Layer):
        raise ArgumentError(f"{name}: 'layer' must be a Layer, got {type(layer).__name__}")
    step, rtol, atol = (finite_float(name, *pair, 0) for pair in (("step", step), ("rtol", rtol), ("atol", atol)))
    if samples is not None:
        positive_int(name, "samples", samples)
    problem = _Problem(layer, inputs, options, as_generator(name, rng))
    pulled = problem.pulled()
    report = GradcheckReport(
        type(layer).__name__,
        tuple(
            _checked(key, values, pulled[key], problem, (step, rtol, atol), samples)
            for key, values in problem.arrays.items()
        ),
    )
    if not report.ok and flag(name, "raises", raises):
        raise GradientError(_complaint(report), report)
    return report


def _complaint(report: GradcheckReport) -> str:
    worst = report.worst
    where = f"{worst.name}[{', '.join(map(str, worst.index))}]" if worst.index else worst.name
    return (
        f"gradcheck: {report.layer}: the gradient of {where} is {worst.pulled:.9g} by the pullback, {worst.numeric:.9g} by "
        f"differences\n{report}"
    )


class _Entries:
    """One array whose entries can be moved: an input, or a parameter."""

    def __init__(self, source: Array | Parameter) -> None:
        self._source = source
        self.shape: tuple[int, ...] = source.shape

    def move(self, index: tuple[int, ...], amount: float | None, start: float) -> None:
        """Set an entry to ``start + amount``."""
        value = start if amount is None else start + amount
        if isinstance(self._source, Parameter):
            with self._source.edit() as values:
                values[index] = value
        else:
            self._source[index] = value

    def at(self, index: tuple[int, ...]) -> float:
        """Return an entry."""
        values = self._source.data if isinstance(self._source, Parameter) else self._source
        return float(values[index])


class _Problem:
    """A copy of the layer with copies of its inputs, and the scalar f of its results."""

    def __init__(self, layer: Layer, inputs: Sequence[Any], options: dict[str, Any], rng: np.random.Generator) -> None:
        self.rng, self.options = rng, options
        self.layer = copy.deepcopy(layer)
        self.layer.zero_grad()
        self.inputs = [_copied(value) for value in inputs]
        self.random = [(source, source.bit_generator.state) for source in _generators(self.layer)]
        self.arrays: dict[str, _Entries] = {}
        names = ("x", "state") if layer.returns_state else ("x", *(f"input {i}" for i in range(1, len(inputs))))
        for key, value in zip(names, self.inputs, strict=False):
            for path, array in _leaves(key, value):
                if array.dtype.kind == "f":
                    self.arrays[path] = _Entries(_double(path, array))
        self.parameters = self.layer.parameters()
        for key, parameter in self.parameters.items():
            _double(key, parameter.data)
            self.arrays[key] = _Entries(parameter)
        self.names = names
        self.weights: list[Array] = [rng.standard_normal(y.shape) for _, y in _results(self._forward()[0])]

    def _forward(self) -> tuple[Any, Callable[..., Any]]:
        for source, state in self.random:
            source.bit_generator.state = state
        result, pull = self.layer.forward(*self.inputs, **self.options)
        return result, pull

    def value(self) -> float:
        """Return f."""
        results = _results(self._forward()[0])
        return float(sum((w * y).sum() for w, (_, y) in zip(self.weights, results, strict=True)))

    def pulled(self) -> dict[str, Array]:
        """Return the gradients of f by the pullback, under the names of `arrays`."""
        result, pull = self._forward()
        cotangents = iter(self.weights)
        if self.layer.returns_state:
            gradients = pull(next(cotangents), _like(result[1], cotangents))
        else:
            gradients = pull(*cotangents)  # one for each result
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        found = {key: np.array(parameter.grad) for key, parameter in self.parameters.items()}
        for key, value, gradient in zip(self.names, self.inputs, gradients, strict=False):
            wanted = [path for path, array in _leaves(key, value) if array.dtype.kind == "f"]
            found.update(zip(wanted, (array for _, array in _leaves(key, gradient)), strict=False))
        for key, entries in self.arrays.items():
            if key not in found or found[key].shape != entries.shape:
                raise GradientError(f"gradcheck: {type(self.layer).__name__}: the pullback gives no gradient of {key}")
        return found


def _checked(
    name: str,
    entries: _Entries,
    pulled: Array,
    problem: _Problem,
    bounds: tuple[float, float, float],
    samples: int | None,
) -> CheckedArray:
    """Compare the gradient of one array."""
    step, rtol, atol = bounds
    flat: Sequence[int] = range(pulled.size)
    if samples is not None and samples < pulled.size:
        flat = np.sort(problem.rng.choice(pulled.size, samples, replace=False)).tolist()
    scale = float(np.abs(pulled[np.isfinite(pulled)]).max(initial=1.0))
    worst = CheckedArray(name, entries.shape, 0, 0, (), math.nan, math.nan, 0.0)
    wrong = 0
    for place in flat:
        index = tuple(int(i) for i in np.unravel_index(place, pulled.shape))
        ours, best = float(pulled[index]), (math.inf, math.nan)
        for factor in SHORTER:
            numeric = _difference(problem, entries, index, step * factor)
            off = abs(ours - numeric) / (rtol * abs(numeric) + atol * scale)
            if off < best[0] or math.isnan(best[1]):
                best = (math.inf if math.isnan(off) else off, numeric)
            if best[0] <= 1:
                break
        wrong += not best[0] <= 1
        if best[0] >= worst.excess:
            worst = CheckedArray(name, entries.shape, 0, 0, index, ours, best[1], best[0])
    return CheckedArray(name, entries.shape, len(flat), wrong, worst.index, worst.pulled, worst.numeric, worst.excess)


def _difference(problem: _Problem, entries: _Entries, index: tuple[int, ...], step: float) -> float:
    """Return the central difference of f for one entry."""
    start = entries.at(index)
    try:
        entries.move(index, step, start)
        above, high = problem.value(), entries.at(index)
        entries.move(index, -step, start)
        below, low = problem.value(), entries.at(index)
    finally:
        entries.move(index, None, start)
    return (above - below) / (high - low)  # the steps as they were rounded


def _double(name: str, array: Array) -> Array:
    if array.dtype != np.float64:
        raise DTypeError(f"gradcheck: '{name}' must have dtype float64, got {array.dtype}")
    return array


def _copied(value: Any) -> Any:
    """Return copies of the arrays of an input, which may be nested in tuples."""
    if isinstance(value, (tuple, list)) and any(isinstance(part, np.ndarray) for part in value):
        return tuple(_copied(part) for part in value)
    return None if value is None else np.array(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of an input or a result with names such as "state[0]"."""
    if isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from _leaves(f"{name}[{index}]", part)
    elif value is not None:
        yield name, np.asarray(value)


def _results(result: Any) -> list[tuple[str, Array]]:
    """Return the results that have gradients."""
    return [(name, array) for name, array in _leaves("y", result) if array.dtype.kind == "f"]


def _like(state: Any, values: Iterator[Array]) -> Any:
    """Return the next values in the form of a state."""
    return tuple(_like(part, values) for part in state) if isinstance(state, tuple) else next(values)


def _generators(layer: Layer) -> Iterator[np.random.Generator]:
    """Yield the sources of random numbers of a layer and of those inside it."""
    for _, one in layer._all_layers():
        yield from (value for value in vars(one).values() if isinstance(value, np.random.Generator))
