from typing import Any, final

from numpy.typing import NDArray

_Array = NDArray[Any]

@final
class Memory:
    def __init__(self, keys: _Array, values: _Array, lengths: _Array, score: _Array | None, scale: float) -> None: ...
    def attend(self, query: _Array, weights: _Array, context: _Array) -> None: ...
    def attend_backward(
        self,
        query: _Array,
        weights: _Array,
        dcontext: _Array,
        dweights: _Array | None,
        dquery: _Array,
        dkeys: _Array,
        dvalues: _Array,
        dscore: _Array | None,
    ) -> None: ...
