from collections.abc import Sequence

BORDERS: tuple[str, ...]

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
