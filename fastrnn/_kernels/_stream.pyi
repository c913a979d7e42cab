from collections.abc import Callable
from typing import Any, final

from numpy.typing import NDArray

from fastrnn._kernels._recurrent import Weights

_Array = NDArray[Any]

@final
class Layer:
    def __init__(self, weights: Weights, batch: int) -> None: ...

@final
class Stream:
    def __init__(self, layers: list[Weights], batch: int, convert: Callable[[Any], _Array]) -> None: ...
    def step(self, x: _Array) -> _Array: ...
    def reset(self, h: _Array | None, c: _Array | None) -> None: ...
    def state(self) -> tuple[_Array, _Array | None]: ...
