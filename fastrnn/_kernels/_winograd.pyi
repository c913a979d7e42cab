from collections.abc import Sequence
from typing import Any, final

from numpy.typing import NDArray

_Array = NDArray[Any]

@final
class WinogradKernel:
    inputs: int
    outputs: int
    groups: int
    def __init__(
        self, weight: _Array, points: Sequence[int], outputs: Sequence[int], backward: bool, groups: int = 1
    ) -> None: ...
    def forward(
        self, x: _Array, y: _Array, top: int, left: int, bias: _Array | None, activation: int, channels_last: bool
    ) -> None: ...
    def backward_input(
        self, dy: _Array, dx: _Array, top: int, left: int, bias: _Array | None, activation: int, channels_last: bool
    ) -> None: ...
    def add_weight_gradient(
        self, x: _Array, dy: _Array, grad: _Array, top: int, left: int, channels_last: bool, fresh: bool = False
    ) -> None: ...
