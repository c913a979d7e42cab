from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

KINDS: dict[str, int]

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
def elementwise(
    kind: int,
    x: _Array,
    target: _Array,
    weight: _Array | None,
    positive: _Array | None,
    limit: float,
    scale: float,
    dx: _Array,
    losses: _Array | None,
) -> tuple[_Array, bool]: ...
