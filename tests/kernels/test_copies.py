"""Copies of what a pullback keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastrnn import ops
from fastrnn._kernels._copies import copied


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (15,), (16,), (17, 31), (3, 5, 70_001)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_equals_what_it_was_made_of(shape: tuple[int, ...], dtype: Any, threads: int, rng: np.random.Generator) -> None:
    x = np.asarray(rng.integers(0, 250, shape)).astype(dtype)
    x.flags.writeable = False
    before = ops.get_num_threads()
    try:
        ops.set_num_threads(threads)
        y = copied(x)
    finally:
        ops.set_num_threads(before)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert y.flags.writeable
    assert not np.shares_memory(x, y)
    assert np.array_equal(x, y)
