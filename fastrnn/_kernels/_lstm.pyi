from typing import Any, final

from numpy.typing import NDArray

from fastrnn._kernels._recurrent import Weights

@final
class LSTMWeights(Weights):
    def __init__(self, params: dict[str, NDArray[Any]], backward: bool) -> None: ...
