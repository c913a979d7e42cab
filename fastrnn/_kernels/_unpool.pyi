from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def gather(maps: _Array, indices: _Array, values: _Array, channels: int) -> None: ...
def scatter(values: _Array, indices: _Array, maps: _Array, channels: int, kept: _Array | None = None) -> bool: ...
