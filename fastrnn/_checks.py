"""Checks of user input, shared by `fastrnn.layers` and `fastrnn.ops`.

Each takes first ``name``, who complains in the message ("LSTM", "lstm_forward"), and, where there may be a choice,
``arg``, the argument's name. Valid input takes a short path: these run on every call.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError

__all__ = [
    "FloatArray",
    "IntArray",
    "as_array",
    "as_dtype",
    "as_fitting",
    "as_float_array",
    "as_generator",
    "as_integers",
    "as_lengths",
    "as_numbers",
    "as_tokens",
    "as_whole_numbers",
    "check_shape",
    "choice",
    "describe_shape",
    "finite_float",
    "flag",
    "plain_int",
    "positive_int",
]

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_array(name: str, arg: str, value: Any, dtype: DTypeLike) -> FloatArray:
    """Return `value` as an array of exactly `dtype` whose last axis is contiguous, copying only if it must.

    Strided, read-only, unaligned and foreign-byte-order arrays are accepted and never written to. Arrays of another
    type are refused; Python lists and tuples of real numbers are converted.

    Raises
    ------
    DTypeError
        Another element type (no silent float64 -> float32), or nothing NumPy can view as numbers.
    ShapeError
        Nested lists of unequal lengths.
    """
    array: FloatArray = value
    if type(value) is not np.ndarray or value.dtype != dtype:
        array = _convert(name, arg, value, np.dtype(dtype))
    if array.ndim and array.strides[-1] != array.itemsize and array.shape[-1] > 1:
        return np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


def as_float_array(name: str, arg: str, value: object) -> FloatArray:
    """Return `value` as `as_array` does, of the dtype it has, float32 or float64 in any byte order."""
    if type(value) is np.ndarray and value.dtype in FLOATS:
        return as_array(name, arg, value, value.dtype)
    array = _view(name, arg, value)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in (np.float32, np.float64):
        raise DTypeError(f"{name}: '{arg}' must have dtype float32 or float64, got {_dtype_of(value, array)}")
    return as_array(name, arg, array, dtype)


def _convert(name: str, arg: str, value: object, dtype: np.dtype[Any]) -> FloatArray:
    array = _view(name, arg, value)
    literal = isinstance(value, (list, tuple)) and array.dtype.kind in "fiu"
    if not literal and array.dtype.newbyteorder("=") != dtype:
        raise DTypeError(f"{name}: '{arg}' must have dtype {dtype}, got {_dtype_of(value, array)}")
    return array.astype(dtype, copy=False)


def _view(name: str, arg: str, value: object) -> NDArray[Any]:
    """`np.asarray` with this package's errors."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: '{arg}' must be a rectangular array, got {type(value).__name__} ({error})") from None
    except (TypeError, RuntimeError) as error:
        raise DTypeError(f"{name}: '{arg}' must be an array, got {type(value).__name__} ({error})") from None


def _dtype_of(value: object, array: NDArray[Any]) -> str:
    """What came, for a message: the dtype, or the Python type of something that is no array of numbers."""
    return type(value).__name__ if array.dtype.kind == "O" else str(array.dtype)


def as_fitting(name: str, arg: str, value: object, shape: tuple[int, ...], dtype: DTypeLike) -> FloatArray:
    """Return `value` as `as_array` does, or raise `ShapeError` unless it has exactly this `shape`."""
    array = as_array(name, arg, value, dtype)
    if array.shape != shape:
        raise ShapeError(f"{name}: '{arg}' must have shape {shape}, got {array.shape}")
    return array


@lru_cache(maxsize=256)
def _letters(spec: str) -> tuple[bool, tuple[str, ...]]:
    """Split "(..., N, C)" into (leading axes free, letters)."""
    letters = tuple(part.strip() for part in spec.strip("()").split(",") if part.strip())
    return letters[:1] == ("...",), letters


def check_shape(name: str, arg: str, array: NDArray[Any], spec: str, **sizes: int) -> None:
    """Raise `ShapeError` unless the shape of `array` fits `spec`.

    Parameters
    ----------
    spec : str
        Letters in parentheses, such as "(T, N, C)"; "..." in front stands for any number of axes.
    **sizes : int
        The sizes of some of the letters; the others are free.
    """
    shape = array.shape
    open_front, letters = _letters(spec)
    tail: Sequence[str] = letters[1:] if open_front else letters
    offset = len(shape) - len(tail)
    if offset == 0 or (open_front and offset > 0):
        for axis, letter in enumerate(tail, offset):
            if letter in sizes and sizes[letter] != shape[axis]:
                break
        else:
            return
    raise ShapeError(f"{name}: '{arg}' must have shape {describe_shape(spec, **sizes)}, got {shape}")


def describe_shape(spec: str, **sizes: int) -> str:
    """Write `spec` with its known sizes: "(T, N, C)", C=64 -> "(T, N, C=64)"."""
    letters = [f"{letter}={sizes[letter]}" if letter in sizes else letter for letter in _letters(spec)[1]]
    return f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"


def as_lengths(name: str, lengths: object, N: int, T: int) -> IntArray:
    """Return `lengths` as an int64 array (N,), each in 1..T.

    Raises
    ------
    DTypeError
        Not integers.
    ShapeError
        Not one per sequence.
    LengthsError
        Outside 1..T.
    """
    array = as_integers(name, "lengths", lengths)
    check_shape(name, "lengths", array, "(N)", N=N)
    if N:
        low, high = int(array.min()), int(array.max())
        if low < 1 or high > T:
            raise LengthsError(f"{name}: 'lengths' must be in 1..T={T}, got {low if low < 1 else high}")
    return array.astype(np.int64, copy=False)


def as_tokens(
    name: str,
    arg: str,
    value: object,
    limit: int,
    besides: int | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> IntArray:
    """Return `value` as a C-contiguous int64 array of numbers in 0..limit-1, or equal to `besides`.

    With `counted`, a mask of its shape, only the numbers there are looked at; the others become 0.

    Raises
    ------
    DTypeError
        Not integers.
    ShapeError
        Not the shape of `counted`.
    TokenError
        Outside 0..limit-1.
    """
    array = as_integers(name, arg, value)
    if counted is not None:
        if array.shape != counted.shape:
            raise ShapeError(f"{name}: '{arg}' must have shape {counted.shape}, got {array.shape}")
        array = np.where(counted, array, array.dtype.type(0))
    checked = array if besides is None else array[array != besides]
    if checked.size and not _all_below(checked, limit):
        low, high = int(checked.min()), int(checked.max())
        if low < 0 or high >= limit:
            allowed = f"in 0..{limit - 1}" + ("" if besides is None else f" or {besides}")
            raise TokenError(f"{name}: '{arg}' must be {allowed}, got {low if low < 0 else high}")
    return array.astype(np.int64, order="C", copy=False)


def _all_below(array: NDArray[np.integer[Any]], limit: int) -> bool:
    """Whether all numbers are in 0..limit-1, by one pass where that is possible: as unsigned, negative ones are large."""
    if array.dtype == np.int64:
        return bool(np.maximum.reduce(array.view(np.uint64), axis=None) < limit)
    return False


def as_whole_numbers(name: str, arg: str, value: object) -> IntArray:
    """Return `value` as an int64 array (N,), or raise `DTypeError` or `ShapeError`."""
    array = as_integers(name, arg, value)
    check_shape(name, arg, array, "(N)")
    return array.astype(np.int64, copy=False)


def as_numbers(name: str, arg: str, value: object, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Return `value` as an array of real numbers of any type; lists of fractions become `dtype`.

    Raises
    ------
    DTypeError
        No numbers, such as strings or bools.
    ShapeError
        Nested lists of unequal lengths.
    """
    array = _view(name, arg, value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name}: '{arg}' must have a dtype of real numbers, got {_dtype_of(value, array)}")
    if dtype is not None and isinstance(value, (list, tuple)) and array.dtype.kind == "f":
        return array.astype(dtype)
    return array


def as_integers(name: str, arg: str, value: object) -> NDArray[np.integer[Any]]:
    """Return `value` as an array of some integer type, or raise `DTypeError`."""
    array = value if type(value) is np.ndarray else _view(name, arg, value)
    if array.dtype.kind not in "iu":
        if array.size == 0 and isinstance(value, (list, tuple)):
            return array.astype(np.int64)
        raise DTypeError(f"{name}: '{arg}' must have an integer dtype, got {_dtype_of(value, array)}")
    return array


def plain_int(name: str, arg: str, value: object, low: int | None = None) -> int:
    """Return `value` as an int >= `low`; raise `ArgumentError` for anything else, bool included."""
    if not isinstance(value, (bool, np.ndarray)) and hasattr(value, "__index__"):
        number = operator.index(value)
        if low is None or number >= low:
            return number
    kind = {None: "an", 0: "a non-negative", 1: "a positive"}.get(low, f"an at least {low}")
    raise ArgumentError(f"{name}: '{arg}' must be {kind} int, got {value!r}")


def positive_int(name: str, arg: str, value: object) -> int:
    """Return `value` as an int >= 1; raise `ArgumentError` for anything else, bool included."""
    return plain_int(name, arg, value, 1)


def finite_float(name: str, arg: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as a finite float in [low, high], or raise `ArgumentError`."""
    if not isinstance(value, (bool, str, bytes)):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number) and low <= number <= high:
            return number
    bounds = f" in [{low:g}, {high:g}]" if high < math.inf else f" >= {low:g}" if low > -math.inf else ""
    raise ArgumentError(f"{name}: '{arg}' must be a finite number{bounds}, got {value!r}")


def flag(name: str, arg: str, value: object) -> bool:
    """Return `value` as a bool; raise `ArgumentError` unless it is one."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ArgumentError(f"{name}: '{arg}' must be True or False, got {value!r}")


def choice(name: str, arg: str, value: object, options: Sequence[str]) -> str:
    """Return `value` if it is one of `options`, or raise `ArgumentError` that lists them."""
    if isinstance(value, str) and value in options:
        return value
    raise ArgumentError(f"{name}: '{arg}' must be one of {', '.join(map(repr, options))}, got {value!r}")


def as_dtype(name: str, value: object) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype; raise `DTypeError` for anything else."""
    if isinstance(value, (str, type, np.dtype)):
        for known in (np.dtype(np.float32), np.dtype(np.float64)):
            with suppress(TypeError):  # raised for what is no name of a dtype
                if known == value:
                    return known
    raise DTypeError(f"{name}: 'dtype' must be float32 or float64, got {value!r}")


def as_generator(name: str, rng: object) -> np.random.Generator:
    """Return a `Generator`: the one given, one seeded with the int given, or a fresh one for None."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, (bool, np.ndarray)) and hasattr(rng, "__index__"):
        seed = operator.index(rng)
        if seed >= 0:
            return np.random.default_rng(seed)
    raise ArgumentError(f"{name}: 'rng' must be None, a non-negative int or a numpy.random.Generator, got {rng!r}")
