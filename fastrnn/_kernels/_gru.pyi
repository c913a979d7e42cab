from typing import Any, final

from numpy.typing import NDArray

from fastrnn._kernels._recurrent import Weights

@final
class GRUWeights(Weights):
    reset_after: bool
    def __init__(self, params: dict[str, NDArray[Any]], reset_after: bool, backward: bool) -> None: ...
