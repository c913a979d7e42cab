from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def rows_forward(
    x: _Array, weight: _Array, bias: _Array, eps: float, y: _Array, xhat: _Array | None, scale: _Array | None
) -> None: ...
def rows_backward(
    dy: _Array, xhat: _Array, scale: _Array, weight: _Array, dx: _Array, sums: _Array, chunk: int
) -> None: ...
def maps_given(x: _Array, center: _Array, var: _Array, eps: float, weight: _Array, bias: _Array, y: _Array) -> None: ...
def maps_forward(
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
def maps_backward(
    dy: _Array,
    xhat: _Array,
    scale: _Array,
    weight: _Array,
    groups: int,
    dx: _Array,
    dbias: _Array,
    dweight: _Array,
) -> None: ...
