from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def take_places(x: _Array, taken: _Array, step: tuple[int, int, int], channels_last: bool) -> None: ...
def put_places(taken: _Array, x: _Array, step: tuple[int, int, int], channels_last: bool) -> None: ...
