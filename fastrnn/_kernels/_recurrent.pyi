from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from fastrnn._kernels._plan import Plan

_Array = NDArray[Any]

@disjoint_base
class Weights:
    inputs: int
    units: int
    width: int
    dtype: np.dtype[Any]

@final
class Call:
    def __init__(
        self,
        weights: Weights,
        x: _Array,
        y: _Array,
        plan: Plan,
        h0: _Array | None,
        c0: _Array | None,
        keep: bool,
    ) -> None: ...
    def last(self) -> tuple[_Array, ...]: ...
    def backward(
        self,
        dy: _Array | None,
        dh: _Array | None,
        dc: _Array | None,
        dx: _Array,
        grads: dict[str, _Array],
    ) -> tuple[_Array, ...]: ...
