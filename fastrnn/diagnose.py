"""How gradients fare on their way back through time: vanishing, exploding, or arriving."""

from __future__ import annotations

import copy
import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import FloatArray, IntArray
from fastrnn.errors import ArgumentError
from fastrnn.layers.layer import Layer
from fastrnn.layers.recurrent import Recurrent

__all__ = ["Diagnosis", "HiddenGradients", "diagnose"]

Array: TypeAlias = NDArray[Any]
Loss: TypeAlias = "Callable[[Any], tuple[float, Any]] | Array | None"


@dataclass(frozen=True, eq=False)
class HiddenGradients:
    """Norms of the gradient with respect to the hidden state of one cell, a layer in one direction.

    Attributes
    ----------
    name : str
        The layer in the model and the cell in the layer, such as "1.l0_reverse"; "#1" and so on for further calls.
    reverse : bool
        Whether the cell reads backwards: its gradients then travel from the first step to the last.
    by_sequence : ndarray (T, N)
        ``|dL/dh_t|`` of each sequence, zero past its length. What counts is the whole influence of h_t on L: by y_t, and
        by all steps after it.
    """

    name: str
    reverse: bool
    by_sequence: NDArray[np.float64]

    @property
    def norms(self) -> NDArray[np.float64]:
        """Return the norms (T,) over all sequences together."""
        norms: NDArray[np.float64] = np.sqrt(np.square(self.by_sequence).sum(axis=1))
        return norms

    @property
    def factor(self) -> float:
        """Return by what a gradient is multiplied at each step back, as a geometric mean over all steps.

        Below 1 it vanishes, above 1 it explodes. NaN if there is one step, or no gradient at either end.
        """
        norms = self.norms if not self.reverse else self.norms[::-1]
        steps = len(norms) - 1
        if steps < 1 or not norms[0] > 0 or not norms[-1] > 0:
            return math.nan
        return float((norms[0] / norms[-1]) ** (1 / steps))


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found; prints as a table.

    Attributes
    ----------
    loss : float
    cells : tuple of HiddenGradients
        In the order of their calls.
    """

    loss: float
    cells: tuple[HiddenGradients, ...]

    def __str__(self) -> str:
        """Return a table of the norms at the ends of time and in between, and of the factors."""
        width = max(len(cell.name) for cell in self.cells)
        lines = [f"{'cell':{width}}  {'first step':>10}  {'middle':>10}  {'last step':>10}  per step back"]
        for cell in self.cells:
            norms = cell.norms
            shown = "  ".join(f"{norms[t]:10.3g}" for t in (0, len(norms) // 2, -1)) if len(norms) else ""
            lines.append(f"{cell.name:{width}}  {shown}  x {cell.factor:.3g}")
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the norms of all cells over time on a logarithmic scale, into a file.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        try:
            figure_module: Any = importlib.import_module("matplotlib.figure")
        except ImportError as error:
            raise ImportError("plot needs the package matplotlib: pip install matplotlib") from error
        figure = figure_module.Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for cell in self.cells:
            norms = np.where(cell.norms > 0, cell.norms, np.nan)  # a logarithm has no place for zeros
            axes.plot(
                norms, "--" if cell.reverse else "-", marker=".", label=f"{cell.name} (x {cell.factor:.3g} per step)"
            )
        axes.set_yscale("log")
        axes.set_xlabel("time step")
        axes.set_ylabel("norm of dL/dh")
        axes.legend()
        figure.savefig(path, dpi=120)


def diagnose(model: Layer, x: Any, loss: Loss = None, **options: Any) -> Diagnosis:
    """Measure how large the gradient with respect to the hidden state is at each time step.

        |dL/dh_t|,      dL/dh_t = dy_t + dL/dh_{t+1} dh_{t+1}/dh_t

    for every RNN, LSTM and GRU in the model, in every layer and direction of it. A training pass is run on a copy of the
    model, one step after the other, which gives the same results; the model and its gradients stay untouched.

    Parameters
    ----------
    model : Layer
    x : what the model takes
    loss : callable, array or None
        ``loss(y)`` returns L and dL/dy, as the losses of this package do: ``lambda y: fr.cross_entropy(y, targets)``. Or
        dL/dy itself; None stands for half the sum of squares of y. How far gradients reach is seen best with a loss
        that looks at the last step alone.
    **options
        Passed on to `forward`, such as ``lengths=``.

    Returns
    -------
    Diagnosis
        ``.cells`` has the data, ``.plot(path)`` draws them, ``print`` shows a table.

    Raises
    ------
    ArgumentError
        The model has no recurrent layer. Further errors come from the model.

    References
    ----------
    Bengio, Simard & Frasconi 1994, Learning long-term dependencies with gradient descent is difficult; Pascanu, Mikolov &
    Bengio 2013, On the difficulty of training recurrent neural networks, section 2.
    """
    if not isinstance(model, Layer):
        raise ArgumentError(f"diagnose: 'model' must be a Layer, got {type(model).__name__}")
    twin = copy.deepcopy(model)
    records: list[_Record] = []
    seen: set[int] = set()
    for prefix, layer in twin._all_layers():
        if isinstance(layer, Recurrent) and id(layer) not in seen:
            seen.add(id(layer))
            layer.__class__ = _stepwise(type(layer), prefix.rstrip("."), records)
    if not seen:
        raise ArgumentError(f"diagnose: 'model' must have a recurrent layer, got {model!r}")
    result, backward = twin.forward(x, **options)
    y = result[0] if twin.returns_state else result
    value, dy = _gradient(loss, y)
    backward(dy)
    return Diagnosis(value, tuple(_named(records)))


def _gradient(loss: Loss, y: Any) -> tuple[float, Any]:
    """Return L and dL/dy."""
    if loss is None:
        return float(np.square(y).sum() / 2), y.copy()
    if callable(loss):
        value, dy = loss(y)
        return float(value), dy
    return math.nan, loss


def _named(records: Sequence[_Record]) -> Iterator[HiddenGradients]:
    """Yield the gradients of all cells, those of further calls of a cell with their number."""
    calls: dict[str, int] = {}
    for record in records:
        number = calls[record.name] = calls.get(record.name, -1) + 1
        yield HiddenGradients(f"{record.name}#{number}" if number else record.name, record.reverse, record.norms)


class _Record:
    """The norms of one call of one cell."""

    def __init__(self, name: str, reverse: bool, T: int, N: int) -> None:
        self.name, self.reverse = name, reverse
        self.norms = np.zeros((T, N))


def _stepwise(kind: type[Recurrent], name: str, records: list[_Record]) -> type[Recurrent]:
    """Return a subclass of `kind` that trains each cell one step at a time and records its gradients."""

    class Stepwise(kind):  # type: ignore[valid-type, misc]
        _at = 0

        def _packed(self, k: int, training: bool) -> object:
            object.__setattr__(self, "_at", k)
            return super()._packed(k, training)

        def _run_vjp(self, x: Any, params: Any, state: Any, **options: Any) -> Any:
            cell = self._cells[self._at].suffix[1:]
            reverse = bool(options.get("reverse"))
            record = _Record(f"{name}.{cell}".lstrip("."), reverse, *x.shape[:2])
            records.append(record)

            def step(x_t: Array, h: Any) -> Any:
                return super(Stepwise, self)._run_vjp(x_t, params, h)

            widths = [width for *_, width in self._split("dstate", self._join((None, None)))]
            return _Cell(step, record, self._join, widths).forward(x, state, **options)

    Stepwise.__name__ = kind.__name__
    return Stepwise


class _Cell:
    """One call of a cell in single steps: forward, and back with the gradient of the state from step to step."""

    def __init__(
        self,
        step: Callable[[Array, Any], Any],
        record: _Record,
        join: Callable[[Sequence[Any]], Any],
        widths: Sequence[int],
    ) -> None:
        self.step, self.record, self.join, self.widths = step, record, join, widths
        self.pulls: list[tuple[int, NDArray[np.bool_], Callable[..., Any]]] = []

    def forward(
        self,
        x: FloatArray,
        state: Any,
        *,
        lengths: IntArray | None = None,
        out: FloatArray | None = None,
        reverse: bool = False,
    ) -> tuple[tuple[FloatArray, Any], Callable[..., Any]]:
        """Return what the operation returns: (y, final state), and the pullback."""
        T, N, _ = x.shape
        self.shape, self.dtype = x.shape, x.dtype
        given = (state if isinstance(state, tuple) else (state,)) if state is not None else ()
        parts = [np.array(part) for part in given] or [np.zeros((N, width), x.dtype) for width in self.widths]
        y = np.zeros((T, N, self.widths[0]), x.dtype) if out is None else out
        y[...] = 0
        ends = np.full(N, T) if lengths is None else np.asarray(lengths)
        for t in reversed(range(T)) if reverse else range(T):
            rows = ends > t
            (y_t, after), pull = self.step(x[t : t + 1, rows], self.join([part[rows] for part in parts]))
            y[t, rows] = y_t[0]
            for part, new in zip(parts, after if isinstance(after, tuple) else (after,), strict=True):
                part[rows] = new
            self.pulls.append((t, rows, pull))
        return (y, self.join(parts)), self.backward

    def backward(
        self, dy: FloatArray | None, dstate: Any, *, grads: Mapping[str, FloatArray]
    ) -> tuple[FloatArray, Any, Any]:
        """Return (dx, gradient of the initial state, grads), and record what arrives at each step."""
        given = dstate if isinstance(dstate, tuple) else (dstate,) * len(self.widths)
        N = self.shape[1]
        parts = [
            np.zeros((N, width), self.dtype) if part is None else np.array(part)
            for part, width in zip(given, self.widths, strict=True)
        ]
        dx = np.zeros(self.shape, self.dtype)
        while self.pulls:
            t, rows, pull = self.pulls.pop()
            dy_t = None if dy is None else dy[t : t + 1, rows]
            carried = [part[rows] for part in parts]
            whole = carried[0] if dy_t is None else carried[0] + dy_t[0]
            self.record.norms[t, rows] = np.sqrt(np.square(whole, dtype=np.float64).sum(axis=1))
            dx_t, before, _ = pull(dy_t, self.join(carried), grads=grads)
            dx[t, rows] = dx_t[0]
            for part, new in zip(parts, before if isinstance(before, tuple) else (before,), strict=True):
                part[rows] = new
        return dx, self.join(parts), grads
