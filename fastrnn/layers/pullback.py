"""What the pullbacks of all layers share: each owns what its forward pass saved, and may be called once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastrnn._checks import FloatArray, as_fitting
from fastrnn.layers.parameter import Parameter, adding_to

__all__ = ["Once", "simple_pullback"]

_Saved = TypeVar("_Saved")
_Result = TypeVar("_Result")


class Once(Generic[_Saved]):
    """What a forward pass saved, to be taken once.

    `require` refuses a second call before its arguments are looked at; `take` decides between two threads.
    """

    __slots__ = ("_held", "_name")

    def __init__(self, name: str, saved: _Saved) -> None:
        self._name = name
        self._held = [saved]

    def require(self) -> None:
        """Raise RuntimeError if it was taken."""
        if not self._held:
            raise RuntimeError(f"{self._name}: this pullback was called before; each may be called once")

    def take(self) -> _Saved:
        """Hand out what was saved and let go of it."""
        try:
            return self._held.pop()
        except IndexError:
            self.require()
            raise


def simple_pullback(
    name: str, parameters: Sequence[Parameter], y: FloatArray, run: Callable[[FloatArray], _Result]
) -> Callable[[FloatArray], _Result]:
    """Return the pullback of a layer that maps one array to the array `y`.

    `run` takes dy, checked against `y`, and adds to the gradients of `parameters`, which are held for it.
    """
    shape, dtype = y.shape, y.dtype
    once = Once(name, run)

    def backward(dy: FloatArray) -> _Result:
        once.require()
        gradient = as_fitting(name, "dy", dy, shape, dtype)
        if not parameters:
            return once.take()(gradient)
        with adding_to(parameters):
            return once.take()(gradient)

    return backward
