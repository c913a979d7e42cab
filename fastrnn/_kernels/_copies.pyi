from typing import Any

from numpy.typing import NDArray

def copied(x: NDArray[Any]) -> NDArray[Any]: ...
