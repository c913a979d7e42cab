from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def cross_entropy(
    logits: _Array,
    targets: _Array,
    scale: float,
    dlogits: _Array,
    losses: _Array,
    weight: _Array | None = None,
    smoothing: float = 0.0,
    total: float = 0.0,
) -> None: ...
