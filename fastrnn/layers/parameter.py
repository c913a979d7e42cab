"""Parameters and buffers: arrays that change only through a versioned door; parameters with the sums of their gradients."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastrnn._checks import FloatArray, IntArray, as_fitting, flag
from fastrnn.errors import DTypeError, ShapeError

__all__ = ["Buffer", "Parameter", "adding_to", "changes", "summing_into"]


class _Locks:
    """What guards parameters between threads; a forked child starts with fresh locks, so it can never hang on one."""

    def __init__(self) -> None:
        self.reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        self.version = threading.Lock()
        self.book = threading.Lock()  # guards what follows
        self.adding: set[int] = set()  # ids of the parameters whose gradient some pullback is adding to
        self.waiting = 0
        self.turn = threading.Condition(self.book)  # for those that wait


_locks = _Locks()


class _Changes:
    """Counts every change of values of any buffer, and of which buffers layers have: while it stands, nothing has changed."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, changed: Buffer | None = None) -> None:
        """Count a change that has happened, in the version of a buffer too."""
        with _locks.version:
            self.count += 1
            if changed is not None:
                changed._version += 1


changes = _Changes()


class _TouchedRows:
    """Which rows of a gradient may differ from zero. Cost follows the rows that are touched, not those there are."""

    __slots__ = ("_found", "_seen", "everywhere")

    def __init__(self, count: int) -> None:
        self._seen = np.zeros(count, bool)
        self._found: list[IntArray] = []
        self.everywhere = False

    def add(self, rows: IntArray) -> None:
        fresh = np.unique(rows[~self._seen[rows]])
        if fresh.size:
            self._seen[fresh] = True
            self._found.append(fresh)

    def numbers(self) -> IntArray:
        if len(self._found) != 1:
            self._found = [np.sort(np.concatenate([np.empty(0, np.int64), *self._found]))]
        return self._found[0]

    def clear(self) -> None:
        for rows in self._found:
            self._seen[rows] = False
        self._found, self.everywhere = [], False


class Buffer:
    """An array that a layer keeps and does not train, such as running statistics; a `Parameter` is one that is trained.

    Packed copies are cached by `version`, so every change has to be counted: `data` is read-only, and changes go through
    `assign` or `edit`.

    Parameters
    ----------
    value : array of float32, float64 or int64
        Copied.

    Raises
    ------
    DTypeError
        Any other dtype.
    """

    __slots__ = ("__weakref__", "_data", "_store", "_version")

    _dtypes: ClassVar[tuple[type[Any], ...]] = (np.float32, np.float64, np.int64)

    def __init__(self, value: NDArray[Any]) -> None:
        array = np.asarray(value)
        native = array.dtype.newbyteorder("=")
        if native not in self._dtypes:
            names = [np.dtype(known).name for known in self._dtypes]
            kinds = f"{', '.join(names[:-1])} or {names[-1]}"
            raise DTypeError(f"{type(self).__name__}: 'value' must have dtype {kinds}, got {array.dtype}")
        self._version = 0
        self._live_in(np.array(array, native, order="C"))

    def _live_in(self, store: NDArray[Any]) -> None:
        """Make `store` the memory of the values."""
        self._store = store
        # A view of a read-only buffer cannot be made writable again, unlike one with its flag cleared.
        self._data: NDArray[Any] = np.asarray(memoryview(store).toreadonly())  # type: ignore[arg-type]

    @property
    def data(self) -> NDArray[Any]:
        """The values, a read-only view that follows every change."""
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the values."""
        return self._data.dtype

    @property
    def size(self) -> int:
        """Number of values."""
        return self._data.size

    @property
    def version(self) -> int:
        """How often the values were changed."""
        return self._version

    def assign(self, value: NDArray[Any]) -> None:
        """Copy `value` into the array.

        Raises
        ------
        ShapeError, DTypeError
            Not its shape and dtype; nothing has changed.
        """
        self._assign(type(self).__name__, "value", value)

    def _assign(self, name: str, arg: str, value: object) -> None:
        np.copyto(self._store, as_fitting(name, arg, value, self.shape, self.dtype))
        self._bump()

    def edit(self) -> AbstractContextManager[NDArray[Any]]:
        """Give the values as a writable array for the length of a ``with`` block.

        The change counts from the end of the block, also when the block raises; the array is read-only from then on.
        Keep no slice of it: writes through one would not be counted.
        """
        return _Edit(self)

    def _bump(self) -> None:
        changes.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the values, not the gradient."""
        return type(self), (np.array(self._store),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, version={self.version})"


class _Edit:
    """What `Buffer.edit` returns, for one ``with`` block."""

    __slots__ = ("_buffer", "_values")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __enter__(self) -> NDArray[Any]:
        self._values: NDArray[Any] = self._buffer._store.view()
        return self._values

    def __exit__(self, *_: object) -> None:
        self._values.flags.writeable = False
        self._buffer._bump()


class Parameter(Buffer):
    """An array of weights with its gradient.

    Of a sparse parameter, a table, each pullback uses few rows. `rows` tells which; `zero_grad`, clipping and
    optimizers then read and write these rows only, and the others stay as they are: weights, and what an optimizer
    keeps for them.

    Parameters
    ----------
    value : array of float32 or float64
        Copied.
    sparse : bool
        Whether to keep book of the rows whose gradient is touched.

    Raises
    ------
    DTypeError
        Any other dtype.
    ShapeError
        Sparse, but without rows.
    """

    __slots__ = ("_grad", "_home", "_shown", "_stale", "_touched")

    _dtypes = (np.float32, np.float64)

    def __init__(self, value: FloatArray, sparse: bool = False) -> None:
        super().__init__(value)
        if flag("Parameter", "sparse", sparse) and not self.shape:
            raise ShapeError(f"Parameter: 'value' must have rows to be sparse, got shape {self.shape}")
        self._touched = _TouchedRows(self.shape[0]) if sparse else None
        self._home: Any = None  # the Arena that it lies in
        self._grad: FloatArray | None = None
        # Whether `grad` was read: from then on somebody may look at the array at any time. If not, `zero_grad` only says
        # that the gradient is zero whatever the array holds: it is then cleared, or written, when it is needed.
        self._shown = self._stale = False

    @property
    def has_grad(self) -> bool:
        """Whether `grad` exists yet: no pullback has added to it before, and nobody has read it."""
        return self._grad is not None

    @property
    def grad(self) -> FloatArray:
        """Sum of the gradients since `zero_grad`: a writable array, zeros at first.

        Setting it, also by ``p.grad += 1``, touches all rows of a sparse parameter; what is written into single rows
        has to be told to `touch`.
        """
        self._shown = True
        return self._sum()

    @grad.setter
    def grad(self, value: FloatArray) -> None:
        if value is not self._grad:  # `p.grad *= 2` assigns the same array again
            self.grad[...] = as_fitting("Parameter", "grad", value, self.shape, self.dtype)
        self.touch(None)

    def _sum(self) -> FloatArray:
        """Return the array of `grad` for a use that ends before the next `zero_grad`."""
        if self._grad is None or self._stale:
            with _locks.version:
                if self._grad is None:
                    self._grad = np.zeros(self.shape, self.dtype) if self._home is None else self._home._grad_of(self)
                if self._stale:
                    self._grad.fill(0)
                    self._stale = False
        return self._grad

    @property
    def sparse(self) -> bool:
        """Whether the rows whose gradient is touched are known."""
        return self._touched is not None

    @property
    def rows(self) -> IntArray | None:
        """The rows whose gradient was touched since `zero_grad`, in increasing order; None: any may have been."""
        return None if self._touched is None or self._touched.everywhere else self._touched.numbers()

    def touch(self, rows: IntArray | None) -> None:
        """Count rows as touched: row numbers in range, of any shape and as often as they come; None means all.

        Whoever adds to single rows of `grad` calls this first. Nothing happens unless the parameter is sparse.
        """
        if self._touched is not None:
            if rows is None:
                self._touched.everywhere = True
            else:
                self._touched.add(np.asarray(rows, np.int64).reshape(-1))

    def zero_grad(self) -> None:
        """Set the gradient to zero; of a sparse parameter, the touched rows."""
        rows = self.rows
        if self._grad is not None:
            if rows is not None:
                self._sum()[rows] = 0
            elif self._shown:
                self._grad.fill(0)
            else:
                self._stale = True
        if self._touched is not None:
            self._touched.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the values, not the gradient."""
        return type(self), (np.array(self._store), self.sparse)


class summing_into:  # noqa: N801 - read as a phrase, "with summing_into(parameters)"
    """Give the arrays of gradients by name, and the names of those that are to be written, since they count as zero.

    If the block raises, these count as zero again. The parameters are held by `adding_to` meanwhile.
    """

    __slots__ = ("_fresh", "_parameters")

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters

    def __enter__(self) -> tuple[dict[str, FloatArray], list[str]]:
        self._fresh: list[str] = []
        sums: dict[str, FloatArray] = {}
        for name, parameter in self._parameters.items():
            if parameter._stale and parameter._grad is not None:
                sums[name] = parameter._grad
                self._fresh.append(name)
            else:
                sums[name] = parameter._sum()
        for name in self._fresh:  # after all arrays are there: what fails before has changed nothing
            self._parameters[name]._stale = False
        return sums, self._fresh

    def __exit__(self, failure: object, *_: object) -> None:
        if failure is not None:
            for name in self._fresh:
                self._parameters[name]._stale = True


class adding_to:  # noqa: N801 - read as a phrase, "with adding_to(parameters)"
    """Hold the gradients of `parameters` for one pullback, so that pullbacks in several threads add one by one.

    Buffers are held in the same way for a change that depends on their values.

    All are taken at once, hence no order of taking them can dead-lock.
    """

    __slots__ = ("_wanted",)

    def __init__(self, parameters: Sequence[Buffer]) -> None:
        self._wanted = frozenset(map(id, parameters))

    def __enter__(self) -> None:
        with _locks.book:
            while not _locks.adding.isdisjoint(self._wanted):
                _locks.waiting += 1
                try:
                    _locks.turn.wait()
                finally:
                    _locks.waiting -= 1
            _locks.adding.update(self._wanted)

    def __exit__(self, *_: object) -> None:
        with _locks.book:
            _locks.adding.difference_update(self._wanted)
            if _locks.waiting:
                _locks.turn.notify_all()
