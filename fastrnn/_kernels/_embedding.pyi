from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def gather(tokens: _Array, weight: _Array, out: _Array) -> None: ...
def scatter_add(tokens: _Array, dy: _Array, grad: _Array) -> None: ...
