from typing import Any

from numpy.typing import NDArray

from fastrnn._kernels._recurrent import Weights

_Array = NDArray[Any]

def run_layers(
    weights: tuple[Weights, ...], directions: int, x: object, lengths: object, batch_first: bool
) -> tuple[_Array, tuple[_Array, ...]] | None: ...
