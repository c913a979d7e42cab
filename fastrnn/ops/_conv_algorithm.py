"""Which algorithm a convolution runs by: the one place that decides.

Every convolution can run directly: as products over maps that are turned to channels last, or, with the channels first, with the
pixels in the lanes, which turns nothing but wastes lanes on short rows; both give the same bits. A transpose to few maps can
multiply first and add afterwards, shifted planes or stretches, in another order. Winograd's algorithm
needs a quarter of the products (3x3), and adds transforms of maps and weights, which are paid for by the number of channels that
share them.
"""

from __future__ import annotations

import math
from functools import lru_cache

from fastrnn._checks import choice
from fastrnn.errors import ArgumentError
from fastrnn.ops._dilated import counts_of_phases
from fastrnn.ops._polyphase import kernel_of_phases
from fastrnn.ops._spatial import Geometry, Three
from fastrnn.ops._winograd import is_cut, supported, tiles_and_products, values_of_weight

__all__ = [
    "ALGORITHMS",
    "check_algorithm",
    "direct_way",
    "is_dense",
    "is_depthwise",
    "least_batch",
    "pays_by_columns",
    "prefers_winograd",
]

ALGORITHMS = ("auto", "direct", "winograd")
#: What pays for the transforms, measured on 170 sizes (docs/performance.md): products saved, maps of a group on each side, and
#: pairs of maps, on two axes each with the tiles of a map. There fewer maps will do on one side if there are more on the other.
LEAST_SAVING, LEAST_MAPS, LEAST_PAIRS = 1.9, 16, 1024
FEWER_MAPS, PAIRS_OF_FEWER, SAVING_OF_FEWER = 8, 128, 3.0
#: With a stride, over the phases of two axes: products saved, products of one output, output maps, and their places. Below, taking
#: the maps apart, sums of few products and larger weights cost what is saved. Less will do where maps are many on both sides, and
#: pairs of them not too many; but not for gradients, for whose single call weights would be transformed.
PHASES_SAVING, PHASES_PRODUCTS, PHASES_MAPS, PHASES_PLACES = 2.75, 128, 64, 3000
MANY_MAPS, MANY_OF_TRANSPOSE, WIDE_MAPS, MOST_PAIRS, MANY_SAVING, MANY_PLACES = 16, 32, 32, 4096, 2.3, 150
#: With dilation, over the phases of two axes: products saved, pairs of maps times tiles, and tiles of a phase.
DILATED_SAVING, DILATED_PAIRS, DILATED_TILES = 2.5, 1 << 18, 4
#: Products that the gradient of a weight must save over a batch, for each value that it is transformed back from; of 280 sizes.
SAVED_OF_VALUE = 16
#: Of a single sample y and dx must save so many for each value of the weight, if these are more than FAR_VALUES: one tile does not.
SAVED_OF_FAR_VALUE, FAR_VALUES = 5, 1 << 18
#: And so many where kernels of two axes are cut into pieces, each with a transform of its own.
SAVED_OF_CUT_VALUE = 100
#: Of the gradient of a weight by columns, measured on 90 sizes: places of a batch, and weights of a row of the kernel and a channel
#: for each. They pay for laying columns out; less will do for what would else be gathered, rows of few channels.
MOST_PLACES, MANY_OF_PLACE, FEW_OF_PLACE, NARROW_ROW = 1024, 3.5, 0.5, 32


def check_algorithm(name: str, algorithm: object, geometry: Geometry) -> str:
    """Return one of `ALGORITHMS`; "auto" only where there is a choice.

    Raises
    ------
    ArgumentError : unknown, or asked for where it does not apply
    """
    wish = choice(name, "algorithm", algorithm, ALGORITHMS)
    refusal = _refusal(geometry)
    if wish == "winograd" and refusal:
        raise ArgumentError(f"{name}: 'algorithm' cannot be 'winograd' here, since {refusal}")
    return wish if not refusal or (wish == "auto" and _runs_by_groups(geometry)) else "direct"


@lru_cache(maxsize=256)
def _refusal(geometry: Geometry) -> str:
    """Return why Winograd's algorithm cannot run convolutions of this geometry, or ""."""
    if geometry.border != "zeros":
        return f"padding_mode is {geometry.border!r}, not 'zeros'"
    dilated = math.prod(geometry.dilation) > 1
    mixed = dilated and (geometry.channels_last or math.prod(geometry.stride) > 1)
    if geometry.S == 3 or geometry.groups > 1 or mixed or not supported(_kernel(geometry)):
        return (
            "it takes groups 1, kernels 2 to 11 strides long, rounded up, on two axes, or 3 to 16 on one, "
            "and dilation with stride 1 and the channels first"
        )
    return ""


def _runs_by_groups(geometry: Geometry) -> bool:
    """Return whether Winograd's algorithm can run group by group, as they lie."""
    plain = geometry.border == "zeros" and geometry.S == 2 and not geometry.channels_last
    steps = math.prod(geometry.stride) * math.prod(geometry.dilation)
    return plain and geometry.groups > 1 and steps == 1 and supported(geometry.kernel[1:])


def prefers_winograd(
    algorithm: str, geometry: Geometry, C: int, K: int, counts: Three, *, backward: bool = False, gradient: bool = False
) -> bool:
    """Return whether C maps go to K of these sizes, or back, by Winograd's algorithm, each group by itself.

    Never depends on the batch. Of a `gradient` the weights serve one call.
    """
    if algorithm != "auto":
        return algorithm == "winograd"
    saving, saved, tiles = _saving(geometry, counts)
    C, K = C // geometry.groups, K // geometry.groups
    if math.prod(geometry.stride) > 1:
        many = not gradient and _pays_over_phases(geometry, C, K, counts, saving, backward)
        return geometry.S == 2 and (many or _is_first_layer(geometry, C, K, counts, saving))
    values = _values(geometry)
    if is_cut(_kernel(geometry)) and saved < SAVED_OF_CUT_VALUE * values:
        return False
    if C * K * values > FAR_VALUES and saved < SAVED_OF_FAR_VALUE * values:
        return False
    if math.prod(geometry.dilation) > 1:
        enough = saving >= DILATED_SAVING and tiles >= DILATED_TILES * math.prod(geometry.dilation)
        return geometry.S == 2 and min(C, K) >= LEAST_MAPS and enough and C * K * tiles >= DILATED_PAIRS
    pairs = C * K * (tiles if geometry.S == 2 else 1)
    fewer = geometry.S == 2 and min(C, K) >= FEWER_MAPS and C * K >= PAIRS_OF_FEWER and saving >= SAVING_OF_FEWER
    return (fewer or (saving >= LEAST_SAVING and min(C, K) >= LEAST_MAPS)) and pairs >= LEAST_PAIRS


def least_batch(algorithm: str, geometry: Geometry, C: int, K: int, counts: Three) -> int | None:
    """Return from how many samples on the gradient of the weight of what `prefers_winograd` runs by Winograd's algorithm too.

    It alone may depend on the batch; None: never.
    """
    if algorithm != "auto":
        return 0
    saving, saved, _ = _saving(geometry, counts)
    if math.prod(geometry.stride) > 1 and not _is_first_layer(geometry, C, K, counts, saving):
        return None
    return -(-SAVED_OF_VALUE * _values(geometry) // saved) if saved > 0 else None


def _kernel(geometry: Geometry) -> tuple[int, ...]:
    """Return the kernel that Winograd's algorithm slides."""
    first = 3 - geometry.S
    return kernel_of_phases(geometry.kernel[first:], geometry.stride[first:])


def _saving(geometry: Geometry, counts: Three) -> tuple[float, int, int]:
    """Return how many times fewer products Winograd's algorithm has, how many fewer, and its tiles."""
    first, kernel = 3 - geometry.S, _kernel(geometry)
    phases, of_phase = math.prod(geometry.dilation), counts_of_phases(counts[first:], geometry.dilation[first:])
    tiles, products = tiles_and_products(kernel, of_phase)
    tiles, products = tiles * phases, products * phases * math.prod(geometry.stride)
    direct = math.prod(counts) * math.prod(geometry.kernel)
    return direct / max(products, 1), direct - products, tiles


def _values(geometry: Geometry) -> int:
    """Return into how many values the kernel of a pair of maps is transformed."""
    return values_of_weight(_kernel(geometry)) * math.prod(geometry.stride)


def _pays_over_phases(geometry: Geometry, C: int, K: int, counts: Three, saving: float, backward: bool) -> bool:
    many = min(C, K) >= (MANY_OF_TRANSPOSE if backward else MANY_MAPS) and K >= WIDE_MAPS and C * K <= MOST_PAIRS
    return many and not is_cut(_kernel(geometry)) and saving >= MANY_SAVING and math.prod(counts) >= MANY_PLACES


def _is_first_layer(geometry: Geometry, C: int, K: int, counts: Three, saving: float) -> bool:
    enough = saving >= PHASES_SAVING and C * math.prod(geometry.kernel) >= PHASES_PRODUCTS
    enough &= not is_cut(_kernel(geometry))
    return enough and K >= PHASES_MAPS and math.prod(counts) >= PHASES_PLACES


def pays_by_columns(geometry: Geometry, dy: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Return whether the gradient of a weight is computed by columns, in arrays of five axes; may depend on the batch."""
    if geometry.border != "zeros" or geometry.groups > 1 or geometry.channels_last or geometry.dilation[2] > 1:
        return False
    (K, C), width, places = weight[:2], geometry.kernel[2], dy[0] * math.prod(dy[2:])
    least = FEW_OF_PLACE if C * width <= NARROW_ROW else MANY_OF_PLACE
    return math.prod(geometry.kernel) > 1 and places <= MOST_PLACES and K * width >= least * places


def is_dense(algorithm: str, geometry: Geometry, sizes: Three) -> bool:
    """Return whether the kernels are as large as maps of these sizes: each output is then a sum over all values."""
    plain = geometry.groups == 1 and not geometry.channels_last and not any(map(any, geometry.pads))
    return algorithm != "winograd" and plain and sizes == geometry.kernel and geometry.dilation == (1, 1, 1)


#: So many maps of one channel fill the vectors of the general kernels.
MAPS_OF_CHANNEL = 16


def is_depthwise(inputs: int, groups: int, K: int) -> bool:
    """Return whether the kernels for one channel a group serve."""
    return inputs == 1 and groups > 1 and K // groups < MAPS_OF_CHANNEL


#: What a value turned, copied to a band of planes, or woven from phases costs, in products; and what a plane costs whatever its
#: size. Bands of planes larger than BAND_VALUES are made piece by piece, and rows that two pieces read are copied twice.
TURN_COST, COPY_COST, WEAVE_COST, PLANE_COST, BAND_VALUES = 16, 15, 20, 1000, 128 << 10
#: Products of turned maps for one vector of units; of planes for one map more than a quarter of them, for each line of five that a
#: tap reads of a channel and that does not stay in NEAR_BYTES of the first-level cache.
NARROW_COST, LOAD_COST, FAR_COST, NEAR_BYTES, TAP_BYTES = 1.25, 2, 0.07, 40 << 10, 320
#: Units that may be made by adding products up; what adding a stretch costs, of whole vectors or not.
MOST_ADDED, EVEN_COST, RAGGED_COST = 16, 150, 800
#: What storing a product to a plane and adding it costs, weaving a value from so many phases (0: others), and a plane; what
#: copying a pixel's value costs, which is done for more rows of products than FEW_ROWS.
TAP_COST, WOVEN_COST, TAP_PLANE_COST, SIDE_COST, FEW_ROWS = 10, {1: 2, 2: 4, 3: 5, 4: 4, 8: 5, 0: 12}, 600, 8, 18
#: Of a volume, what is kept of the planes at a time.
TAP_VALUES = 192 << 10


@lru_cache(maxsize=256)
def direct_way(geometry: Geometry, C: int, K: int, counts: Three, lanes: int, *, backward: bool = False) -> str:
    """Return how the products run where C maps go to K, or back; `counts` are those of what is made.

    "turned": maps turned to channels last, units in the lanes. "planes": pixels in the lanes. Only back, each pixel by all taps and
    units at once, and what comes of it added to where it belongs: "taps" with the pixels in the lanes, "stretches" with the units.
    """
    inputs, units = C // geometry.groups, K // geometry.groups
    if backward:
        inputs, units = units, inputs
    costs = {"turned": _turned_cost(geometry, inputs, units, counts, lanes, backward=backward)}
    if backward and units <= MOST_ADDED and geometry.groups == 1:
        if geometry.dilation[2] == 1 and inputs >= units and geometry.S < 3:
            costs["stretches"] = _stretches_cost(geometry, inputs, units, counts, lanes)
        if not geometry.channels_last:
            costs["taps"] = _taps_cost(geometry, inputs, units, counts, lanes)
    if not geometry.channels_last:
        costs["planes"] = _planes_cost(geometry, inputs, units, counts, lanes, backward=backward)
    return min(costs, key=lambda way: costs[way])


def _phases_and_read(geometry: Geometry, backward: bool) -> tuple[int, float]:
    """Return the phases of what is made, and the places read for each of them."""
    steps = math.prod(geometry.stride)
    if backward:
        return steps, 1 / steps
    if geometry.kernel == (1, 1, 1) and not any(map(any, geometry.pads)):
        return 1, min(2, geometry.stride[2])  # two loads make a vector of what is read
    depth, rows = (min(k, s) for k, s in zip(geometry.kernel[:2], geometry.stride[:2], strict=True))
    return 1, depth * rows * geometry.stride[2]


def _turned_cost(geometry: Geometry, inputs: int, units: int, counts: Three, lanes: int, *, backward: bool) -> float:
    phases, read = _phases_and_read(geometry, backward)
    taps = inputs * math.prod(geometry.kernel) / phases
    products = taps * _up(units, lanes) * (NARROW_COST if units <= lanes else 1)
    return math.prod(counts) * (products + (0 if geometry.channels_last else TURN_COST * (units + inputs * read)))


def _stretches_cost(geometry: Geometry, inputs: int, units: int, counts: Three, lanes: int) -> float:
    outputs, kernel = math.prod(counts), geometry.kernel
    stretch = EVEN_COST if kernel[2] * units % lanes == 0 else RAGGED_COST
    turn = 0 if geometry.channels_last else TURN_COST
    of_pixel = inputs * (_up(math.prod(kernel) * units, lanes) + turn) + math.prod(kernel[:2]) * stretch
    return outputs / math.prod(geometry.stride) * of_pixel + outputs * units * TURN_COST


def _taps_cost(geometry: Geometry, inputs: int, units: int, counts: Three, lanes: int) -> float:
    products = units * math.prod(geometry.kernel)
    sizes = tuple(-(-n // s) for n, s in zip(counts, geometry.stride, strict=True))
    extra = tuple((geometry.span(a) - 1) // geometry.stride[a] for a in range(3))
    depth, height, width = (size + more for size, more in zip(sizes, extra, strict=True))
    of_pixel = inputs * (max(products, products / 4 + LOAD_COST) + (SIDE_COST if products > FEW_ROWS else 0))
    woven = math.prod(counts) * units * WOVEN_COST.get(geometry.stride[2], WOVEN_COST[0])
    of_volume = _up(math.prod(sizes), lanes) * of_pixel + products * depth * (
        height * width * TAP_COST + TAP_PLANE_COST
    )
    if geometry.S == 3:  # blocks multiply what lies between them twice
        side = max(math.sqrt(TAP_VALUES / (products * width)), 1 + max(extra[:2]))
        of_volume *= math.prod(
            max(1, side / (side - more)) for more, size in zip(extra[:2], (depth, height), strict=True) if size > side
        )
    return of_volume + woven


def _planes_cost(geometry: Geometry, inputs: int, units: int, counts: Three, lanes: int, *, backward: bool) -> float:
    phases, read = _phases_and_read(geometry, backward)
    taps = inputs * math.prod(geometry.kernel) / phases
    stride, outputs = geometry.stride, math.prod(counts)
    if math.prod(geometry.kernel) == 1 and math.prod(stride) == 1 and not any(map(any, geometry.pads)):
        long_rows = _up(outputs, lanes)
        mixed_up = outputs % (4 * lanes) == 0  # by the sets of the caches: such maps are copied
        moved = 0.7 * COPY_COST * inputs * outputs if mixed_up else 0.0
    else:
        depth, rows, columns = (-(-n // (s if backward else 1)) for n, s in zip(counts, stride, strict=True))
        above, before = ((geometry.span(a) - 1) // stride[a] for a in (1, 2))
        long_rows = depth * phases * _up((rows - 1) * (columns + before) + columns, lanes)
        planes = geometry.kernel[0] * inputs
        if backward:
            moved = outputs * (COPY_COST * planes * read + (WEAVE_COST * units if phases > 1 else 0))
        else:
            planes *= math.prod(min(k, s) for k, s in zip(geometry.kernel[1:], stride[1:], strict=True))
            row = planes * (columns + before)
            pieces = -(-rows // min(rows, max(1, BAND_VALUES // row - above)))
            moved = COPY_COST * depth * planes * (rows + pieces * above) * _up(columns + before, lanes)
        moved += PLANE_COST * depth * planes
    slower = 1 + FAR_COST * _far_lines(geometry, inputs, backward=backward)
    return long_rows * taps * max(units, units / 4 + LOAD_COST) * slower + moved


def _far_lines(geometry: Geometry, inputs: int, *, backward: bool) -> float:
    """Return how many lines of the second-level cache a tile of planes reads for each tap and channel."""
    stride = geometry.stride if backward else (1, 1, 1)
    depth, rows, columns = (-(-k // s) for k, s in zip(geometry.kernel, stride, strict=True))
    parts = 1 if backward else min(columns, geometry.stride[2])
    row = inputs * parts * TAP_BYTES
    return 0.0 if row * rows * depth <= NEAR_BYTES else 5 * parts / columns if row <= NEAR_BYTES else 5.0


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
