"""Convolution with the pixels in the lanes has the bits of the kernels that turn the maps, at every size and option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from shapes import ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn.ops._packed_conv import PackedConv
from fastrnn.ops._spatial import maps_shape, sizes_of, with_axes

# Rows shorter than a vector and of several, one with more vectors than a table holds; bands of one row and of several.
SIZES = (
    ConvSizes(2, 3, 5, (9, 11), (3, 3), {"padding": 1}),
    ConvSizes(1, 4, 6, (7,), (3,), {"padding": ((2, 0),)}),
    ConvSizes(2, 6, 7, (5, 33), (3, 2), {"stride": (3, 2), "padding": ((1, 2), (0, 3))}),
    ConvSizes(2, 8, 4, (4, 5, 19), (3, 2, 3), {"padding": 1, "groups": 2}),
    ConvSizes(3, 4, 9, (8, 8), (1, 1), {}),
    ConvSizes(2, 20, 13, (30, 8), (1, 1), {}),
    ConvSizes(1, 6, 9, (17, 40), (1, 1), {"stride": 2, "padding": 1}),
    ConvSizes(1, 2, 3, (6, 40), (3, 3), {"dilation": (1, 2), "padding": 2, "flip": True}),
    ConvSizes(2, 3, 4, (9, 30), (3, 3), {"padding": 2, "padding_mode": "reflect"}),
    ConvSizes(2, 3, 4, (9, 30), (3, 3), {"padding": 1, "padding_mode": "circular", "stride": 2}),
    ConvSizes(1, 64, 2, (40, 90), (3, 3), {"padding": 1}),
    ConvSizes(1, 2, 3, (9000,), (5,), {"padding": 2}),
    # Maps of more than a megabyte, of which blocks are fetched ahead.
    ConvSizes(2, 40, 5, (70, 71), (3, 3), {"padding": 1}),
    ConvSizes(2, 96, 12, (40, 40), (3, 3), {"padding": 1, "groups": 6}),
    ConvSizes(3, 64, 70, (43, 44), (1, 1), {}),
    # The same for few maps, read in streams; long rows of which a team takes parts.
    ConvSizes(1, 70, 5, (80, 81), (1, 1), {}),
    ConvSizes(3, 40, 10, (6700,), (1,), {}),
    ConvSizes(1, 5, 4, (70, 71), (1, 1), {}),
    ConvSizes(1, 20, 4, (9, 40, 41), (3, 3, 3), {"padding": 1}),
    # Phases: kernels larger and smaller than the stride, outputs that do not fill the last of them, cut into blocks.
    ConvSizes(2, 5, 8, (33, 38), (7, 7), {"stride": 2, "padding": 3}),
    ConvSizes(2, 3, 5, (10, 11), (2, 1), {"stride": 3}),
    # Rows and planes that no tap meets.
    ConvSizes(2, 20, 6, (13, 40), (2, 2), {"stride": 3}),
    ConvSizes(1, 5, 18, (7, 8, 20), (2, 2, 1), {"stride": 3, "padding": (1, 1, 0)}),
    ConvSizes(1, 18, 3, (9, 14, 18), (2, 3, 2), {"stride": (5, 4, 2), "dilation": (2, 3, 1)}),
    ConvSizes(1, 4, 6, (7, 9, 8), (3, 2, 3), {"stride": (2, 3, 2), "padding": 1, "groups": 2}),
    ConvSizes(1, 40, 36, (70, 71), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(1, 2, 3, (6000,), (4,), {"stride": 3, "dilation": 2}),
    ConvSizes(1, 30, 3, (5000,), (3,), {"dilation": 8, "padding": 8}),
    ConvSizes(2, 3, 4, (12, 40), (3, 4), {"stride": (2, 4), "dilation": (3, 2), "padding": 2}),
)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_same_bits_as_turned_maps(
    sizes: ConvSizes, threads: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    problem = ConvProblem.random(rng, sizes, dtype, params=("bias", "gain"), activation="relu")
    options: dict[str, Any] = {k: v for k, v in problem.options.items() if k != "activation"}
    packed = ops.pack_conv(**problem.params, **options)
    geometry = packed.geometry
    x = with_axes(problem.x, geometry.S, False)
    counts, windows, _, back, *_ = packed.plan("test", sizes_of(x, False))
    wanted = problem.exact()
    for backward in (False, True):
        if backward and geometry.border != "zeros":
            continue
        maps = with_axes(problem.dy, geometry.S, False) if backward else x
        over = back if backward else windows
        shape = x.shape if backward else maps_shape(len(x), packed.channels[1], counts, False)
        results = {way: np.full(shape, np.nan, dtype) for way in ("turned", "planes")}
        for way, result in results.items():
            packed.direct(backward, way).run(maps, result, over, False, 0 if backward else 1, not backward)
        assert_same_bits(results["planes"], results["turned"])
        if not backward:
            assert_close("conv_forward", results["planes"].reshape(wanted["y"].shape), wanted["y"])


def test_small_problems_take_it(rng: np.random.Generator) -> None:
    """Few channels and long rows: nothing is turned. Short rows, or channels last: the other way."""
    for sizes, layout, way in (
        (ConvSizes(1, 1, 6, (32, 32), (5, 5), {}), None, "planes"),
        (ConvSizes(1, 64, 64, (6, 6), (5, 5), {}), None, "turned"),
        (ConvSizes(1, 1, 6, (32, 32), (5, 5), {}), "NHWC", "turned"),
    ):
        problem = ConvProblem.random(rng, sizes, np.float32)
        packed: PackedConv = ops.pack_conv(problem.params["weight"], layout=layout, algorithm="direct")
        assert packed.plan("test", (1, *sizes[3])).way == way
