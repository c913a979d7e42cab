from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def split_phases(
    maps: _Array, phases: _Array, step: Sequence[int], low: Sequence[int], channels_last: bool
) -> None: ...
def join_phases(phases: _Array, maps: _Array, step: Sequence[int], low: Sequence[int], channels_last: bool) -> None: ...
