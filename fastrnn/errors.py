"""The exceptions fastrnn raises for bad input, each a subclass of the built-in one a caller would expect.

Every message names who complains, the argument, what was expected and what came:
``LSTM: 'x' must have shape (T, N, C=64), got (10, 32, 63)``. Whatever was called has changed nothing by then.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "DTypeError",
    "FileFormatError",
    "GradientError",
    "LengthsError",
    "ShapeError",
    "StateDictError",
    "TokenError",
]


class ShapeError(ValueError):
    """An array has the wrong number of axes or a wrong size along one."""


class DTypeError(TypeError):
    """An array has another element type than the one needed; values are never cast silently."""


class LengthsError(ValueError):
    """Sequence lengths are outside 1..T, or were given where there is no batch."""


class ArgumentError(ValueError):
    """A size, an option or a combination of options that cannot be."""


class TokenError(IndexError):
    """A token (row number, class number) is outside the table it indexes."""


class StateDictError(KeyError):
    """Names or arrays of a state dict do not fit; the message lists every problem at once."""

    def __str__(self) -> str:
        """Return the message as it is (`KeyError` alone would print its repr, newlines escaped)."""
        return str(self.args[0]) if self.args else ""


class GradientError(AssertionError):
    """A pullback does not give the gradient of what its layer computes; `report` is what the check found, if it came so far."""

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class FileFormatError(OSError):
    """A file is truncated, damaged, or was not written by `fastrnn.save`."""
