"""Parameters side by side in one piece of memory, so that one pass can go over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from fastrnn._checks import FloatArray
from fastrnn.errors import ArgumentError
from fastrnn.layers.layer import Layer
from fastrnn.layers.parameter import Parameter

__all__ = ["Arena", "Trained", "arena", "named_parameters", "runs"]

Trained: TypeAlias = "Layer | Mapping[str, Parameter] | Iterable[Parameter]"

# Every parameter starts on a cache line of its own.
LINE = 64


def named_parameters(name: str, params: Trained) -> dict[str, Parameter]:
    """Return the parameters meant by `params` by name, each once; those of a plain iterable are named by number."""
    if isinstance(params, Layer):
        return params.parameters()
    if isinstance(params, Parameter) or not isinstance(params, Iterable):
        kind = type(params).__name__
        raise ArgumentError(f"{name}: 'params' must be a layer, or several parameters, got {kind}")
    pairs = params.items() if isinstance(params, Mapping) else ((str(i), p) for i, p in enumerate(params))
    first_names: dict[Parameter, str] = {}
    for key, parameter in pairs:
        if not isinstance(parameter, Parameter):
            raise ArgumentError(f"{name}: 'params' must hold Parameters, got {type(parameter).__name__}")
        first_names.setdefault(parameter, key)
    return {key: parameter for parameter, key in first_names.items()}


class Arena:
    """Parameters of one dtype, one after another in one array, and their gradients in another. Made by `arena`.

    Gaps of less than 64 bytes between them hold zeros.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.dtype = parameters[0].dtype
        step = LINE // self.dtype.itemsize
        sizes = [-(-parameter.size // step) * step for parameter in parameters]
        ends = np.cumsum([0, *sizes]).tolist()
        self._index = {parameter: index for index, parameter in enumerate(parameters)}
        self._first = ends[:-1]
        self.size: int = ends[-1]
        self._store = _aligned(self.size, self.dtype)
        self._grad = _aligned(self.size, self.dtype)
        for parameter in parameters:
            self.view(self._store, parameter)[...] = parameter.data
            if parameter.has_grad:
                self.view(self._grad, parameter)[...] = parameter._sum()
        for parameter in parameters:
            parameter._live_in(self.view(self._store, parameter))
            parameter._grad = self.view(self._grad, parameter) if parameter.has_grad else None
            parameter._home = self

    @property
    def grad(self) -> FloatArray:
        """All gradients, a writable array (size,); those that no pullback has added to yet are zero."""
        for parameter in self.parameters:
            parameter._shown = True
        self._sums(self.parameters)
        return self._grad

    def _sums(self, run: Sequence[Parameter]) -> FloatArray:
        """Return the gradients of a run of parameters for a use that ends before the next `zero_grad`."""
        for parameter in run:
            if parameter._stale:
                parameter._sum()
        return self._grad[self.span(run)]

    @property
    def data(self) -> FloatArray:
        """All values, a read-only array (size,)."""
        return np.asarray(memoryview(self._store).toreadonly())  # type: ignore[arg-type]

    def view(self, flat: FloatArray, parameter: Parameter) -> FloatArray:
        """Return the part of `flat`, an array (size,), that belongs to a parameter, in its shape."""
        first = self._first[self._index[parameter]]
        return flat[first : first + parameter.size].reshape(parameter.shape)

    def span(self, run: Sequence[Parameter]) -> slice:
        """Return where parameters lie that `runs` found."""
        return slice(self._first[self._index[run[0]]], self._first[self._index[run[-1]]] + run[-1].size)

    @contextmanager
    def edit(self, run: Sequence[Parameter]) -> Iterator[FloatArray]:
        """Give the values of a run of parameters as one writable array, as `Parameter.edit` does for one."""
        values = self._store[self.span(run)]
        try:
            yield values
        finally:
            values.flags.writeable = False
            for parameter in run:
                parameter._bump()

    def follows(self, before: Parameter, parameter: Parameter) -> bool:
        """Whether `parameter` is the next one after `before`."""
        return self._index[before] + 1 == self._index[parameter]

    def _grad_of(self, parameter: Parameter) -> FloatArray:
        return self.view(self._grad, parameter)

    def __repr__(self) -> str:
        return f"Arena({len(self.parameters)} parameters, size={self.size}, dtype={self.dtype.name})"


def _aligned(size: int, dtype: np.dtype[Any]) -> FloatArray:
    """Return zeros that begin on a cache line."""
    memory = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    flat: FloatArray = memory[start : start + size * dtype.itemsize].view(dtype)
    return flat


def arena(params: Trained) -> tuple[Arena, ...]:
    """Lay out all parameters of a model in one contiguous array for each dtype, and their gradients in another.

    Optimizers and clipping then take one pass over them all instead of one for each. Values, gradients and versions
    stay as they are, and so do all other uses. Arrays that were taken from a parameter before (``data``, ``grad``) no
    longer follow it. Sparse parameters stay where they are. Copies and pickles of a model have no arena.

    Parameters
    ----------
    params : Layer, mapping of names to Parameters, or iterable of Parameters

    Returns
    -------
    arenas : tuple of Arena
        One for each dtype; those there are, if the parameters lie in them already.

    Raises
    ------
    ArgumentError
    """
    by_type: dict[np.dtype[Any], list[Parameter]] = {}
    for parameter in named_parameters("arena", params).values():
        if not parameter.sparse:
            by_type.setdefault(parameter.dtype, []).append(parameter)
    return tuple(_arena_of(parameters) for parameters in by_type.values())


def _arena_of(parameters: list[Parameter]) -> Arena:
    home = parameters[0]._home
    if isinstance(home, Arena) and home.parameters == tuple(parameters):
        return home
    return Arena(parameters)


def runs(parameters: Iterable[Parameter]) -> Iterator[list[Parameter]]:
    """Split parameters, in their order, into runs that lie side by side in one arena; others are alone."""
    run: list[Parameter] = []
    for parameter in parameters:
        home = parameter._home
        if run and home is not None and run[-1]._home is home and home.follows(run[-1], parameter):
            run.append(parameter)
            continue
        if run:
            yield run
        run = [parameter]
    if run:
        yield run
