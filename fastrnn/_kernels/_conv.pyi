from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fastrnn._kernels._windows import Windows

_Array = NDArray[Any]

ACTIVATIONS: tuple[str | None, ...]

@final
class Kernels:
    dtype: np.dtype[Any]
    def __init__(
        self,
        weight: _Array,
        bias: _Array | None,
        gain: _Array | None,
        groups: int,
        turned: bool,
        windows: Windows,
        later: bool = False,
    ) -> None: ...
    def run(
        self, x: _Array, y: _Array, windows: Windows, channels_last: bool, activation: int, scaled: bool
    ) -> None: ...
