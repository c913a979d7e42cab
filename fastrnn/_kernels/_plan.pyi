from typing import Any, final

from numpy.typing import NDArray

_Array = NDArray[Any]

@final
class Plan:
    row: _Array
    active: _Array
    last: _Array
    order: _Array | None
    place: _Array | None
    lengths: _Array | None
    rows: int
    reverse: bool
    def gathered(self, steps: _Array) -> _Array: ...
    def scatter(self, rows: _Array, steps: _Array) -> None: ...

def uniform(T: int, N: int, reverse: bool) -> Plan: ...
def new_uniform(T: int, N: int, reverse: bool) -> Plan: ...
def kept_uniform(T: int, N: int, reverse: bool) -> Plan: ...
def ragged(lengths: _Array, reverse: bool) -> Plan: ...
