from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def columns_given(
    x: _Array, center: _Array, var: _Array, eps: float, weight: _Array, bias: _Array, y: _Array
) -> None: ...
def columns_forward(
    x: _Array,
    weight: _Array,
    bias: _Array,
    eps: float,
    groups: int,
    y: _Array,
    xhat: _Array | None,
    scale: _Array,
    mean: _Array,
    var: _Array,
) -> None: ...
def columns_backward(
    dy: _Array,
    xhat: _Array,
    scale: _Array,
    weight: _Array,
    groups: int,
    dx: _Array,
    dbias: _Array,
    dweight: _Array,
) -> None: ...
