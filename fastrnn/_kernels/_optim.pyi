from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def update(
    kind: str,
    param: _Array,
    grad: _Array,
    slots: tuple[_Array | None, ...],
    rows: _Array | None = None,
    *,
    lr: float,
    beta1: float = 0.0,
    beta2: float = 0.0,
    eps: float = 0.0,
    weight_decay: float = 0.0,
    dampening: float = 0.0,
    correction1: float = 1.0,
    correction2: float = 1.0,
    decoupled: bool = False,
    nesterov: bool = False,
    first: bool = False,
) -> None: ...
def chunk_size() -> int: ...
def sum_squares(x: _Array, sums: _Array) -> None: ...
def scale(x: _Array, factor: float) -> None: ...
def limit(x: _Array, limit: float) -> None: ...
