from typing import Any, final

from numpy.typing import NDArray

_Array = NDArray[Any]
_Tables = tuple[_Array, _Array, _Array]

BYTE_PLACES: int
MAX: int
MIN: int
SUM: int

@final
class Windows:
    def __init__(
        self, axes: _Array, channels: int, first: _Array, divisors: _Tables, factors: _Tables, exact: bool
    ) -> None: ...
    def forward(self, mode: int, x: _Array, y: _Array, taps: _Array | None) -> None: ...
    def backward(self, mode: int, dy: _Array, taps: _Array | None, dx: _Array) -> None: ...
    def positions(self, taps: _Array, indices: _Array) -> None: ...
