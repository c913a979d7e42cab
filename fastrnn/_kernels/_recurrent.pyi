from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Array = NDArray[Any]

@disjoint_base
class Weights:
    inputs: int
    units: int
    width: int
    dtype: np.dtype[Any]
    def run_plain(
        self, x: object, uniform: Callable[[int, int, bool], Any], reverse: bool, out: _Array | None, column: int
    ) -> tuple[_Array, tuple[_Array, ...]] | None: ...

@final
class Call:
    def __init__(
        self,
        weights: Weights,
        x: _Array,
        y: _Array,
        row: _Array,
        active: _Array,
        h0: _Array | None,
        c0: _Array | None,
        keep: bool,
    ) -> None: ...
    def last(self, rows: _Array) -> tuple[_Array, ...]: ...
    def backward(
        self,
        dy: _Array | None,
        dh: _Array | None,
        dc: _Array | None,
        previous: _Array,
        dx: _Array,
        grads: dict[str, _Array],
    ) -> tuple[_Array, ...]: ...
