from typing import Any

from numpy.typing import NDArray

_Array = NDArray[Any]

def ctc(
    logits: _Array,
    targets: _Array,
    target_starts: _Array,
    input_lengths: _Array,
    blank: int,
    zero_infinity: bool,
    from_logits: bool,
    scales: _Array,
    gradient: _Array,
    losses: _Array,
) -> None: ...
