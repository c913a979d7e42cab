from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Sizes = tuple[int, ...]

MOST_AXES: int

@final
class Prepared:
    def __init__(
        self,
        shape: _Sizes,
        out: _Sizes,
        shape_seen: _Sizes,
        out_seen: _Sizes,
        dtype: np.dtype[Any],
        activation: str | None,
        run: Callable[..., object],
        rest: tuple[Any, ...],
        then: Callable[[_Array, _Array], object] | None = None,
    ) -> None: ...

@final
class Calls:
    def keep(self, prepared: Prepared) -> None: ...
    def predict(self, x: object, activation: str | None) -> _Array | None: ...
