from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._pool import Windows
from fastrnn._kernels._time_pool import Sequence

_Array = NDArray[Any]
_Sizes = tuple[int, ...]

@final
class Placed:
    def __init__(
        self,
        way: Windows | Sequence,
        mode: int,
        shape: _Sizes,
        out: _Sizes,
        dtype: np.dtype[Any],
        taken: np.dtype[Any] | None,
        always: bool = False,
    ) -> None: ...
    def predict(self, x: _Array) -> _Array: ...
    def train(self, x: _Array, pooling: Pooling) -> tuple[_Array, PoolPullback]: ...

@final
class PoolPullback:
    def __call__(self, dy: _Array) -> _Array: ...

@final
class Pooling:
    def __init__(
        self, name: str, as_gradient: Callable[[str, _Array, tuple[_Sizes, np.dtype[Any]]], _Array]
    ) -> None: ...
    def keep(self, placed: Placed) -> None: ...
    def predict(self, x: object) -> _Array | None: ...
    def train(self, x: object) -> tuple[_Array, PoolPullback] | None: ...
