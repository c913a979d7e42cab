from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._windows import Windows

_Array = NDArray[Any]

def add_weight_by_columns(dy: _Array, x: _Array, grad: _Array, windows: Windows, fresh: bool = False) -> None: ...
