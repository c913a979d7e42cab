from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]

@final
class DenseWeights:
    inputs: int
    outputs: int
    dtype: np.dtype[Any]
    def __init__(self, weight: _Array, bias: _Array | None, backward: bool) -> None: ...
    def forward(self, x: _Array, y: _Array) -> None: ...
    def backward(self, dy: _Array, dx: _Array) -> None: ...

def add_weight_gradient(dy: _Array, x: _Array, grad: _Array, bias_grad: _Array | None) -> None: ...
