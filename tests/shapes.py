"""The one place for the sizes, variants and parameter shapes that tests use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Vector widths that exist: 4 (NEON float32, AVX2 float64), 8 (AVX2 float32, AVX-512 float64), 16 (AVX-512 float32).
WIDTHS = (4, 8, 16)
AROUND_WIDTHS = tuple(sorted({width + offset for width in WIDTHS for offset in (-1, 0, 1)}))

# Lengths of flat arrays for elementwise kernels: nothing, one, tails around one and two vectors, a prime, many.
FLAT_SIZES = (0, 1, 2, *AROUND_WIDTHS, 31, 32, 33, 101, 1000)


class RecurrentSizes(NamedTuple):
    """T time steps, N batch, C input features, H hidden units."""

    T: int
    N: int
    C: int
    H: int

    def __str__(self) -> str:
        return "-".join(f"{letter}{size}" for letter, size in zip(self._fields, self, strict=True))


EMPTY_RECURRENT = (RecurrentSizes(0, 2, 3, 4), RecurrentSizes(3, 0, 3, 4), RecurrentSizes(0, 0, 3, 4))
SMALL_RECURRENT = RecurrentSizes(4, 3, 2, 3)
LARGE_RECURRENT = RecurrentSizes(6, 18, 40, 80)
RECURRENT = (
    *EMPTY_RECURRENT,
    RecurrentSizes(1, 1, 1, 1),
    RecurrentSizes(2, 2, 1, 3),
    RecurrentSizes(3, 1, 3, 4),
    RecurrentSizes(2, 3, 4, 5),
    RecurrentSizes(3, 4, 5, 7),
    RecurrentSizes(2, 5, 7, 8),
    RecurrentSizes(3, 2, 8, 9),
    RecurrentSizes(2, 6, 9, 15),
    RecurrentSizes(3, 1, 15, 16),
    RecurrentSizes(2, 7, 16, 17),
    RecurrentSizes(7, 5, 13, 11),
    RecurrentSizes(5, 17, 17, 31),
    LARGE_RECURRENT,
)


class GemmSizes(NamedTuple):
    """A product (M, K) x (K, N)."""

    M: int
    N: int
    K: int

    def __str__(self) -> str:
        return "-".join(f"{letter}{size}" for letter, size in zip(self._fields, self, strict=True))


# M runs over every tile height and its tails, N over vectors and their tails, K over nothing, one and long sums.
GEMM = (
    GemmSizes(0, 5, 3),
    GemmSizes(3, 0, 5),
    GemmSizes(3, 5, 0),
    GemmSizes(1, 1, 1),
    *(GemmSizes(M, 17, 5) for M in range(1, 10)),
    *(GemmSizes(5, N, 7) for N in (1, *AROUND_WIDTHS, 31, 32, 33, 47, 48, 49, 63, 64, 65)),
    *(GemmSizes(6, 16, K) for K in (1, 2, 3, *AROUND_WIDTHS, 255, 256, 257)),
    GemmSizes(13, 67, 31),
    GemmSizes(64, 64, 64),
    GemmSizes(101, 130, 127),
)


@dataclass(frozen=True)
class Variant:
    """A recurrent cell with the options that change its equations."""

    name: str
    cell: str
    gates: int
    options: dict[str, Any] = field(default_factory=dict)
    projected: bool = False

    def __str__(self) -> str:
        return self.name

    def outputs(self, H: int) -> int:
        """Return the width of y: H, or with projection a P that is smaller than H wherever it can be."""
        return max(1, H // 2) if self.projected else H

    def param_shapes(
        self, C: int, H: int, biases: Iterable[str] = ("bias_ih", "bias_hh")
    ) -> dict[str, tuple[int, ...]]:
        """Return name -> shape of the parameters of one layer in one direction."""
        G_H, P = self.gates * H, self.outputs(H)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (G_H, C), "weight_hh": (G_H, P)}
        shapes |= dict.fromkeys(biases, (G_H,))
        return shapes | ({"weight_hr": (P, H)} if self.projected else {})

    def state_shapes(self, N: int, H: int) -> tuple[tuple[int, int], ...]:
        """Return the shapes of the state arrays: h, and for LSTM c."""
        h = (N, self.outputs(H))
        return (h, (N, H)) if self.cell == "lstm" else (h,)


RNN_TANH = Variant("rnn_tanh", "rnn", 1, {"nonlinearity": "tanh"})
RNN_RELU = Variant("rnn_relu", "rnn", 1, {"nonlinearity": "relu"})
LSTM = Variant("lstm", "lstm", 4)
LSTM_PROJECTED = Variant("lstm_projected", "lstm", 4, projected=True)
GRU = Variant("gru", "gru", 3, {"reset_after": True})
GRU_RESET_BEFORE = Variant("gru_reset_before", "gru", 3, {"reset_after": False})
VARIANTS = (RNN_TANH, RNN_RELU, LSTM, LSTM_PROJECTED, GRU, GRU_RESET_BEFORE)

BIASES = (("bias_ih", "bias_hh"), ("bias_ih",), ("bias_hh",), ())


class ConvSizes(NamedTuple):
    """A convolution: N maps of C channels, `sizes` on the spatial axes, K kernels of size `kernel`, and its options."""

    N: int
    C: int
    K: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        options = "-".join(f"{name}{value}" for name, value in self.options.items()).replace(" ", "")
        return f"N{self.N}-C{self.C}-K{self.K}-{'x'.join(map(str, self.sizes))}-k{'x'.join(map(str, self.kernel))}-{options}"

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return int(self.options.get("groups", 1))


# Between them: one to three axes, every option, tails of vectors and panels in channels, maps and pixels, few and many channels,
# depthwise with and without a multiplier, several boxes of outputs, kernels as large as the padded map.
CONV = (
    ConvSizes(1, 1, 1, (1,), (1,), {}),
    ConvSizes(2, 3, 5, (7,), (3,), {"padding": 1}),
    ConvSizes(2, 17, 33, (9,), (4,), {"stride": 3, "padding": ((2, 3),), "dilation": 2}),
    ConvSizes(1, 16, 65, (700,), (5,), {"padding": "causal"}),
    ConvSizes(3, 4, 6, (8,), (3,), {"groups": 2, "padding": "same", "dilation": 2}),
    ConvSizes(2, 3, 64, (11, 13), (7, 7), {"stride": 2, "padding": 3}),
    ConvSizes(2, 1, 7, (9, 8), (5, 5), {"padding": 2}),
    ConvSizes(5, 20, 70, (7, 7), (3, 3), {"padding": 1}),
    ConvSizes(2, 65, 15, (5, 6), (1, 1), {}),
    ConvSizes(1, 9, 130, (6, 5), (1, 1), {"stride": 2}),
    ConvSizes(1, 5, 4, (33, 31), (3, 2), {"padding": ((1, 0), (0, 2)), "stride": (2, 1)}),
    ConvSizes(2, 8, 8, (2, 3), (4, 5), {"padding": (1, 1)}),
    ConvSizes(1, 6, 9, (5, 9), (2, 3), {"groups": 3, "stride": (1, 3), "dilation": (2, 1)}),
    ConvSizes(2, 19, 19, (10, 37), (3, 3), {"groups": 19, "padding": 1}),
    ConvSizes(2, 16, 16, (9, 17), (5, 5), {"groups": 16, "padding": 2, "stride": 2}),
    ConvSizes(1, 5, 10, (8, 6), (3, 2), {"groups": 5, "dilation": 2, "padding": 1}),
    ConvSizes(1, 4, 4, (70, 150), (7, 3), {"groups": 4, "padding": 3}),
    ConvSizes(2, 3, 5, (6, 5), (3, 3), {"padding": (2, 1), "padding_mode": "reflect"}),
    ConvSizes(2, 3, 5, (6, 5), (3, 3), {"padding": 3, "padding_mode": "replicate", "stride": 2}),
    ConvSizes(2, 4, 4, (6, 5), (3, 3), {"padding": 2, "padding_mode": "circular", "groups": 4}),
    ConvSizes(2, 3, 5, (6, 5), (2, 3), {"flip": True, "padding": 1}),
    ConvSizes(2, 3, 18, (4, 5, 6), (3, 2, 3), {"padding": 1, "stride": (1, 2, 2)}),
    ConvSizes(1, 4, 4, (4, 3, 5), (3, 3, 3), {"padding": 1, "groups": 4}),
    ConvSizes(2, 90, 210, (6, 5), (3, 3), {"padding": 1, "stride": 2}),  # sums of a weight gradient in parts
    ConvSizes(2, 33, 5, (4, 4, 5), (3, 3, 3), {"padding": 1}),  # planes of taps that meet nothing but the border
    ConvSizes(2, 24, 4, (5, 4, 4), (3, 1, 3), {"padding": (4, 0, 1), "stride": (2, 1, 1)}),
    ConvSizes(1, 24, 3, (3, 33, 34), (3, 2, 3), {"padding": 1, "dilation": (2, 1, 1)}),
    ConvSizes(2, 20, 40, (8, 34), (2, 2), {"stride": 3, "padding": (1, 0)}),  # rows and planes that no tap meets
    ConvSizes(1, 18, 40, (7, 8, 20), (2, 2, 1), {"stride": 3, "padding": (1, 1, 0)}),
)
EMPTY_CONV = (ConvSizes(0, 3, 5, (7,), (3,), {}), ConvSizes(0, 4, 4, (5, 6), (3, 3), {"groups": 4}))

# Options of transposed convolutions, from C to K maps.
CONV_TRANSPOSE = (
    ConvSizes(1, 1, 1, (1,), (1,), {}),
    ConvSizes(2, 3, 5, (7,), (3,), {"stride": 2, "padding": 1, "output_padding": 1}),
    ConvSizes(2, 17, 66, (9,), (4,), {"stride": 3, "padding": ((2, 3),), "dilation": 2}),
    ConvSizes(2, 20, 35, (6, 7), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(1, 5, 3, (5, 4), (2, 2), {"stride": 3}),
    ConvSizes(2, 6, 4, (5, 4), (3, 3), {"groups": 2, "padding": 1}),
    ConvSizes(2, 17, 17, (5, 14), (3, 3), {"groups": 17, "stride": 2, "padding": 1, "output_padding": 1}),
    ConvSizes(1, 8, 4, (5, 4), (3, 2), {"groups": 4, "stride": (1, 2)}),
    ConvSizes(
        2, 120, 7, (6, 7), (4, 4), {"stride": 2, "padding": 1, "output_padding": 1}
    ),  # to few maps: products first
    ConvSizes(1, 20, 2, (9, 21), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(2, 33, 5, (9,), (6,), {"stride": 2, "padding": ((2, 1),)}),
    ConvSizes(1, 48, 8, (5, 4), (3, 3), {"dilation": (2, 1), "padding": 1}),
    ConvSizes(1, 3, 4, (2, 3, 4), (3, 2, 3), {"stride": (1, 2, 2), "output_padding": (0, 1, 0)}),
    ConvSizes(1, 20, 17, (15, 14), (3, 3), {"padding": 1}),  # by Winograd's algorithm, and over phases
    ConvSizes(1, 64, 32, (14, 15), (4, 4), {"stride": 2, "padding": 1}),
    ConvSizes(1, 64, 33, (14, 15), (5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
    ConvSizes(
        1, 64, 32, (14, 15), (4, 4), {"stride": 2, "padding": 1, "output_padding": 1}
    ),  # places that no phase has
)


class PoolProblem(NamedTuple):
    """Maps (N, C, *sizes) and the options of a pooling over windows of them."""

    shape: tuple[int, ...]
    kernel_size: int | tuple[int, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        options = "-".join(f"{name}{value}" for name, value in self.options.items())
        return f"{'x'.join(map(str, self.shape))}-k{self.kernel_size}-{options}".replace(" ", "")


# Sizes around the vectors' widths, strides with and without code of their own, windows over both borders, rows longer than the
# kernels' buffer, windows wider than it, more than 255 places.
POOLS = (
    PoolProblem((2, 3, 1), 1, {}),
    PoolProblem((2, 16, 90, 5), 3, {"stride": 2, "padding": 1}),
    PoolProblem((1, 9, 150, 3), 2, {"stride": 3}),
    PoolProblem((2, 17, 61, 7), 5, {"stride": 1, "padding": 2}),
    PoolProblem((2, 5, 9, 37), 2, {}),
    PoolProblem((1, 20, 24, 36), 12, {}),
    PoolProblem((2, 3, 17), 3, {"stride": 1, "padding": 1}),
    PoolProblem((1, 1, 2100), 3, {"stride": 1}),
    PoolProblem((1, 2, 4200), 2, {"ceil_mode": True}),
    PoolProblem((1, 1, 2500), 2200, {"stride": 50, "padding": 900}),
    PoolProblem((3, 17, 8), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    PoolProblem((1, 2, 33), 5, {"stride": 3, "padding": 2}),
    PoolProblem((2, 3, 4, 4), 2, {}),
    PoolProblem((3, 37, 7, 7), 2, {}),  # rows of windows of at most half a vector, with a rest of each map and without
    PoolProblem((2, 11, 8, 16), 2, {}),
    PoolProblem((1, 5, 7, 31), 2, {"ceil_mode": True}),
    PoolProblem((1, 65, 9, 67), 3, {"stride": 2}),
    PoolProblem((2, 2, 14, 34), 3, {"stride": 2, "padding": 1}),
    PoolProblem((1, 16, 6, 35), 3, {"stride": 1, "padding": 1}),
    PoolProblem((2, 33, 5, 16), (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    PoolProblem((1, 3, 12, 64), 4, {"stride": 2, "padding": 2}),
    PoolProblem((1, 2, 20, 33), 17, {"stride": 1, "padding": 8}),
    PoolProblem((1, 2, 11, 37), 3, {"stride": 3, "padding": 1}),
    PoolProblem((2, 3, 13, 21), (5, 2), {"stride": 2}),  # more rows than are joined at once, then those of borders
    PoolProblem((1, 2, 9, 20), (5, 3), {"stride": 1, "padding": (2, 1)}),
    PoolProblem((1, 2, 3, 5000), 3, {"stride": 3, "padding": 1}),  # rows that no buffer holds at once
    PoolProblem((1, 1, 2, 9000), (2, 3), {"stride": 1, "padding": 1}),
    PoolProblem((1, 2, 10, 40), (9, 11), {"stride": 11, "padding": (4, 5)}),
    PoolProblem((2, 3, 3, 5, 18), 2, {"stride": 1, "padding": 1}),
    PoolProblem((2, 17, 13, 13), 3, {"stride": 2}),  # small maps of many channels, then bands of large ones
    PoolProblem((3, 9, 5, 7), 3, {"stride": 1, "padding": 1}),
    PoolProblem((1, 19, 20, 20), 2, {}),
    PoolProblem((1, 17, 26, 61), 3, {"padding": 1, "ceil_mode": True}),
    PoolProblem((2, 8, 44, 33), (2, 4), {"stride": 5, "padding": (0, 2)}),
    PoolProblem((2, 18, 30), 4, {"stride": 4}),
    PoolProblem((1, 17, 5, 4, 6), (2, 3, 3), {"stride": (2, 1, 3), "padding": (1, 1, 0), "ceil_mode": True}),
    PoolProblem((1, 70, 5, 80), 5, {"stride": 1, "padding": 2}),  # joined rows of some of the channels that lie last
    PoolProblem(
        (2, 70, 7, 7), 7, {"stride": 2}
    ),  # one window that is all of a map, then one of many places, and of a line
    PoolProblem((1, 3, 19, 21), (19, 21), {}),
    PoolProblem((3, 5, 11), 11, {}),
    PoolProblem((1, 25, 12, 15), 3, {"stride": 1, "padding": 1}),  # neighbours by fours, and lanes without a map
)
DILATED_POOLS = (
    PoolProblem((2, 3, 40), 3, {"stride": 1, "dilation": 2, "padding": 1}),
    PoolProblem((1, 3, 2), 2, {"dilation": 3, "padding": 1, "stride": 1}),  # a window between the places of the map
    PoolProblem((1, 18, 9, 35), (2, 3), {"stride": 2, "dilation": (3, 2), "padding": (1, 1), "ceil_mode": True}),
    PoolProblem((1, 2, 6, 5, 9), 2, {"stride": 2, "dilation": (1, 3, 2)}),
    PoolProblem((1, 17, 11, 12), 2, {"stride": 3, "dilation": 2, "padding": 1}),
    PoolProblem((1, 17, 45, 40), 2, {"stride": 4, "dilation": 3, "padding": 1}),
)
# Maps and the sizes to pool them to.
ADAPTIVE_POOLS = (
    ((2, 3, 7), 1),
    ((1, 17, 8), 4),
    ((2, 3, 5), 7),
    ((1, 5, 7, 34), (3, None)),
    ((2, 33, 6, 35), 1),
    ((1, 3, 12, 64), (6, 32)),
    ((2, 2, 3, 4, 5), (2, None, 5)),
    # Unequal windows of turned maps, of maps too large or too few for that, and of rows too long.
    ((2, 17, 7, 9), (4, 5)),
    ((2, 3, 33, 21), (4, 5)),
    ((1, 9, 40, 70), (3, 7)),
    ((1, 2, 9, 10, 21), (2, 3, 4)),
    ((1, 2, 3, 2100), (2, 5)),
    # Equal windows of many columns, and of more places than a byte counts.
    ((2, 2, 48, 48), 2),
    ((3, 1, 64), 4),
)
# T, N, C
TIME_POOLS = (
    (1, 1, 1),
    (5, 3, 4),
    (17, 2, 33),
    (40, 1, 1),
    (1100, 1, 3),
    (33, 3, 70),
    (20, 2, 1),
    (90, 3, 12),
    (250, 1, 21),
)

# Maps to normalise, (N, C, *sizes), with groups of their channels. Channels and places around the vectors' widths, more places than
# a block of the kernels has, more rows than a chunk.
NORMS = (
    ((2, 1), 1),
    ((5, 4), 2),
    ((130, 18), 3),
    ((2, 3, 1), 3),
    ((7, 17, 5), 1),
    ((3, 16, 7, 9), 4),
    ((1, 6, 1, 2), 2),
    ((2, 15, 4, 16), 5),
    ((2, 70, 3, 2, 4), 7),
    ((2, 4, 20, 33), 2),
    ((1, 3, 9001), 3),
    ((300, 33, 2), 11),
)
# Rows to normalise, and the last axes that make a row.
ROW_NORMS = (
    *(((3, width), (width,)) for width in (1, 2, *AROUND_WIDTHS, 31, 32, 33, 64, 65, 101)),
    ((9, 130), (130,)),
    ((2, 9001), (9001,)),
    ((3, 5, 7, 6), (7, 6)),
    ((4, 3, 5), (4, 3, 5)),
    ((300, 20), (20,)),
)
