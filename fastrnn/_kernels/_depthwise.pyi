from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._windows import Windows

_Array = NDArray[Any]

@final
class DepthwiseKernels:
    dtype: np.dtype[Any]
    channels_last: bool
    def __init__(self, weight: _Array, bias: _Array | None, gain: _Array | None, channels_last: bool) -> None: ...
    def run(
        self,
        x: _Array,
        y: _Array,
        windows: Windows,
        channels_last: bool,
        activation: int,
        scaled: bool,
        kept: _Array | None = None,
        training: bool = False,
    ) -> None: ...

def add_depthwise_gradient(
    dy: _Array,
    x: _Array,
    grad: _Array,
    windows: Windows,
    channels_last: bool,
    bias_grad: _Array | None = None,
    back: DepthwiseKernels | None = None,
    dx: _Array | None = None,
    windows_back: Windows | None = None,
) -> None: ...
