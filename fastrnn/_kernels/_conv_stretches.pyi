from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._windows import Windows

_Array = NDArray[Any]

@final
class StretchKernels:
    dtype: np.dtype[Any]
    def __init__(
        self, weight: _Array, bias: _Array | None, stride: Sequence[int], dilation: Sequence[int], low: Sequence[int]
    ) -> None: ...
    def run(
        self, da: _Array, dx: _Array, windows: Windows, channels_last: bool, activation: int, scaled: bool
    ) -> None: ...
