from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def gather(tokens: _Array, weight: _Array, out: _Array) -> None: ...
def scatter_add(tokens: _Array, dy: _Array, grad: _Array) -> None: ...
def bags(
    tokens: _Array,
    start: _Array,
    weight: _Array,
    factors: _Array | None,
    scale: _Array | None,
    out: _Array,
    places: _Array | None,
) -> None: ...
def bags_backward(
    tokens: _Array,
    start: _Array,
    grad: _Array,
    factors: _Array | None,
    scale: _Array | None,
    dy: _Array,
    places: _Array | None,
) -> None: ...
