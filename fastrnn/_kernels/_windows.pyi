from collections.abc import Sequence

from typing_extensions import disjoint_base

BORDERS: tuple[str, ...]

@disjoint_base
class Windows:
    def __init__(
        self,
        sizes: Sequence[int],
        counts: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        low: Sequence[int],
        border: str,
        flip: bool,
        transposed: bool,
    ) -> None: ...
