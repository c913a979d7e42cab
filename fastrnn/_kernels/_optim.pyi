from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def adam(
    param: _Array,
    grad: _Array,
    m: _Array,
    v: _Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
    decoupled: bool,
) -> None: ...
def sgd(
    param: _Array,
    grad: _Array,
    momentum_buffer: _Array | None,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None: ...
