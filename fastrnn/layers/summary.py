"""What a model is made of: shapes, parameters, multiply-adds and memory, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn._checks import plain_int
from fastrnn.errors import ArgumentError, DTypeError
from fastrnn.layers.layer import Layer

__all__ = ["Row", "Summary", "summarize"]


@dataclass(frozen=True)
class Row:
    """One call of one layer.

    Attributes
    ----------
    name, kind : str
        Its name in the model, such as "body.0", and its class.
    depth : int
        How many containers it is in.
    output : tuple of int, or None
        Shape of the result, without states; None if it is no array.
    parameters : int
        Trained values of the layer and of those inside it; those of a layer called before count no more.
    multiply_adds : int
        Of the layer and of those inside it.
    bytes : int
        Memory of the result; of a container, of the results inside it.
    """

    name: str
    kind: str
    depth: int
    output: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class Summary:
    """The rows of a model in the order of its calls, the model itself first; prints as a table.

    Attributes
    ----------
    rows : tuple of Row
    parameters : int
        Trained values; shared ones count once.
    multiply_adds : int
        Of one inference on this input. A training step has about three times as many.
    parameter_bytes, activation_bytes : int
        Memory of the parameters, and of the results of all layers that are no containers.
    """

    rows: tuple[Row, ...]
    parameters: int
    parameter_bytes: int

    @property
    def multiply_adds(self) -> int:
        """Return the multiply-adds of one inference."""
        return self.rows[0].multiply_adds

    @property
    def flops(self) -> int:
        """Return two operations for each multiply-add."""
        return 2 * self.multiply_adds

    @property
    def activation_bytes(self) -> int:
        """Return the memory of the results of all layers that are no containers."""
        return self.rows[0].bytes

    def __str__(self) -> str:
        """Return a table and the totals."""
        head = ("layer", "output", "parameters", "multiply-adds", "memory")
        lines = [head, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for line in lines:
            left, right = zip(line[:2], widths[:2], strict=True), zip(line[2:], widths[2:], strict=True)
            text.append("  ".join([f"{cell:{w}}" for cell, w in left] + [f"{cell:>{w}}" for cell, w in right]).rstrip())
        rule = "-" * max(map(len, text))
        totals = (
            f"parameters {self.parameters:,} ({_memory(self.parameter_bytes)}), activations "
            f"{_memory(self.activation_bytes)}, {self.multiply_adds:,} multiply-adds ({self.flops:,} FLOPs)"
        )
        return "\n".join([text[0], rule, *text[1:], rule, totals])


def _cells(row: Row) -> tuple[str, ...]:
    label = "  " * row.depth + (f"{row.name.rpartition('.')[2]}: {row.kind}" if row.name else row.kind)
    shape = "" if row.output is None else "x".join(map(str, row.output)) or "scalar"
    return label, shape, f"{row.parameters:,}", f"{row.multiply_adds:,}", _memory(row.bytes)


def _memory(count: int) -> str:
    """Write a number of bytes."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KB" if count < 1024**2 else f"{count / 1024**2:.1f} MB"


def summarize(model: Layer, x: Any, options: dict[str, Any]) -> Summary:
    """Return the summary of a model called on `x`; see `Layer.summary`."""
    tracer = _Tracer(model)
    tracer.run(_input_of(model, x, tracer, options), options)
    parameters = model.parameters().values()
    return Summary(
        tuple(tracer.rows),
        model.num_parameters(),
        sum(parameter.size * parameter.dtype.itemsize for parameter in parameters),
    )


def _input_of(model: Layer, x: Any, tracer: _Tracer, options: dict[str, Any]) -> Any:
    """Return x if it is an array, else zeros of that shape: tokens where the model wants whole numbers."""
    name = f"{type(model).__name__}.summary"
    if hasattr(x, "__array__"):
        return np.asarray(x)
    if not isinstance(x, (tuple, list)):
        raise ArgumentError(f"{name}: 'x' must be an array or a shape, got {type(x).__name__}")
    shape = tuple(plain_int(name, "x", size, 0) for size in x)
    dtypes = [parameter.dtype for parameter in model.parameters().values()]
    zeros = np.zeros(shape, dtypes[0] if dtypes else np.float32)
    try:
        tracer.run(zeros, options)
    except DTypeError:
        return zeros.astype(np.int64)
    return zeros


class _Tracer:
    """Calls a copy of a model, which shares its parameters, and keeps a row for each call of each layer."""

    def __init__(self, model: Layer) -> None:
        shared = {id(parameter): parameter for parameter in model.parameters().values()}
        self.model: Any = copy.deepcopy(model, shared)
        self.rows: list[Row] = []
        self._depth = 0
        self._counted: set[int] = set()
        self._running: set[int] = set()
        self._names: dict[int, str] = {}
        for prefix, layer in self.model._all_layers():
            if id(layer) not in self._names:
                self._names[id(layer)] = prefix.rstrip(".")
                layer.__class__ = _traced(type(layer), self)

    def run(self, x: Any, options: dict[str, Any]) -> None:
        """Call the model."""
        self.rows, self._depth = [], 0
        self._counted.clear()
        self.model(x, **options)

    def call(self, kind: type[Layer], layer: Layer, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Call a layer and keep its row. Some call themselves, on what lies within the lengths: that is no row of its own."""
        if id(layer) in self._running:
            return kind.__call__(layer, *args, **options)
        place, depth = len(self.rows), self._depth
        own = [p for p in layer.parameters().values() if id(p) not in self._counted]
        self.rows.append(Row("", "", 0, None, 0, 0, 0))  # comes before those inside it
        self._depth += 1
        self._running.add(id(layer))
        try:
            result = kind.__call__(layer, *args, **options)
        finally:
            self._depth = depth
            self._running.discard(id(layer))
        self._counted.update(map(id, own))
        y = result[0] if isinstance(result, tuple) else result
        inside = [row for row in self.rows[place + 1 :] if row.depth == depth + 1]
        container = bool(inside)
        shape = tuple(np.shape(y))
        products = sum(row.multiply_adds for row in inside) + layer.multiply_adds(np.shape(args[0]), shape)
        memory = sum(row.bytes for row in inside) if container else np.asarray(y).nbytes
        size = sum(parameter.size for parameter in own)
        self.rows[place] = Row(self._names[id(layer)], kind.__name__, depth, shape, size, products, memory)
        return result


def _traced(kind: type[Layer], tracer: _Tracer) -> type[Layer]:
    """Return a subclass of `kind` whose calls the tracer sees."""

    def call(self: Layer, *args: Any, **options: Any) -> Any:
        return tracer.call(kind, self, args, options)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
