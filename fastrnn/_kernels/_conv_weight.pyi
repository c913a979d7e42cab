from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._windows import Windows

_Array = NDArray[Any]

def add_weight_gradient(
    dy: _Array,
    x: _Array,
    grad: _Array,
    windows: Windows,
    groups: int,
    channels_last: bool,
    fresh: bool = False,
) -> None: ...
def add_map_sums(dy: _Array, grad: _Array, channels_last: bool) -> None: ...
def activation_gradient(h: _Array, dh: _Array, da: _Array, activation: int) -> None: ...
