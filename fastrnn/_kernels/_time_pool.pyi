from typing import Any

from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Array = NDArray[Any]
_Triple = tuple[int, int, int]

KMAX: int
MAX: int
MIN: int
SUM: int

@disjoint_base
class Sequence:
    def __init__(
        self,
        sizes: _Triple,
        strides: _Triple,
        y_strides: _Triple,
        mode: int,
        mean: bool,
        k: int,
        lengths: _Array | None,
    ) -> None: ...
    def forward(self, x: _Array, y: _Array, times: _Array | None) -> None: ...
    def backward(self, dy: _Array, times: _Array | None, dx: _Array) -> None: ...
