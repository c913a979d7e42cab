"""What is measured and the goals: the one table of rows, which the documentation quotes too.

A goal is the best peer's time divided by ours, for 1 and for 2 threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = [
    "CONV",
    "GATES",
    "KIT",
    "MODELS",
    "POOLING",
    "RECURRENT",
    "SMOKE_CONV",
    "SMOKE_KIT",
    "SMOKE_MODELS",
    "SMOKE_POOLING",
    "SMOKE_RECURRENT",
    "ConvRow",
    "KitRow",
    "ModelRow",
    "PoolRow",
    "RecurrentRow",
]

#: Number of gates of each cell.
GATES = MappingProxyType({"lstm": 4, "gru": 3, "rnn": 1})

#: One goal for each number of threads, from 1 on.
Goals = tuple[float, ...]
AHEAD: Goals = (1.0, 1.0)


@dataclass(frozen=True)
class RecurrentRow:
    """One recurrent layer on one input size: T time steps, N batch, C input features, H hidden units.

    It is measured in each mode that has goals: inference, training (forward and backward, with the gradients of the
    input and of all weights), or streaming (one step with the state carried, called from Python). With `lengths`,
    those of the sequences are uniform in 1..T.
    """

    cell: str
    T: int
    N: int
    C: int
    H: int
    infer: Goals = AHEAD
    train: Goals = AHEAD
    stream: Goals = ()
    bidirectional: bool = False
    lengths: bool = False
    quick: bool = False  # also part of a quick run

    @property
    def name(self) -> str:
        """Return the name of the row, which `--rows` searches."""
        kind = " bidirectional" * self.bidirectional + " lengths" * self.lengths
        if self.stream:
            return f"{self.cell.upper()} N{self.N} C{self.C} H{self.H}"
        return f"{self.cell.upper()}{kind} T{self.T} N{self.N} C{self.C} H{self.H}"

    @property
    def goals(self) -> dict[str, Goals]:
        """Return the goals of each mode that is measured."""
        return {mode: goals for mode in ("infer", "train", "stream") if (goals := getattr(self, mode))}

    @property
    def directions(self) -> int:
        """Return D, 1 or 2."""
        return 2 if self.bidirectional else 1


def _stream(cell: str, H: int, goal: float, *, quick: bool = False) -> RecurrentRow:
    return RecurrentRow(cell, 4, 1, H, H, (), (), (goal,), quick=quick)


RECURRENT = (
    RecurrentRow("lstm", 100, 1, 128, 128, (1.3, 1.7), (1.7, 2.6), quick=True),
    RecurrentRow("lstm", 100, 1, 512, 512, (1.3, 1.3), (1.5, 1.9)),
    RecurrentRow("lstm", 50, 16, 128, 256, (1.12, 1.15), (1.17, 1.25), quick=True),
    RecurrentRow("lstm", 50, 32, 256, 512, (1.07, 1.08), (1.18, 1.28), quick=True),
    RecurrentRow("lstm", 50, 64, 512, 1024, (1.07, 1.08), (1.15, 1.25)),
    RecurrentRow("lstm", 100, 32, 128, 256, (1.1, 1.2), (1.25, 1.35), bidirectional=True),
    RecurrentRow("gru", 100, 1, 128, 128, (1.4, 1.5), (12, 20), quick=True),
    RecurrentRow("gru", 50, 16, 128, 256, (1.25, 1.55), (2.0, 2.8), quick=True),
    RecurrentRow("gru", 50, 32, 256, 512, (1.13, 1.25), (1.5, 1.95), quick=True),
    RecurrentRow("rnn", 50, 32, 256, 512, (1.1, 1.3), (1.4, 1.7)),
    RecurrentRow("lstm", 200, 32, 64, 256, (1.9, 1.9), (2.2, 2.2), lengths=True),
    _stream("lstm", 24, 4),
    _stream("lstm", 64, 6, quick=True),
    _stream("lstm", 128, 4),
    _stream("lstm", 256, 2),
    _stream("gru", 64, 1),
    # Sizes off the beaten track, where the goal is to be ahead.
    RecurrentRow("lstm", 37, 3, 13, 100),
    RecurrentRow("lstm", 1, 8, 64, 64),
    RecurrentRow("lstm", 1000, 1, 1, 16),
    RecurrentRow("lstm", 20, 4, 128, 2048),
    RecurrentRow("gru", 41, 7, 31, 127),
    RecurrentRow("gru", 20, 64, 1024, 32),
    RecurrentRow("rnn", 100, 1, 64, 64),
    RecurrentRow("lstm", 200, 32, 512, 512, infer=()),  # the one whose memory is compared
)

# Small enough for continuous integration; between them they reach every branch of every suite's code.
SMOKE_RECURRENT = (
    RecurrentRow("lstm", 5, 3, 4, 7),
    RecurrentRow("gru", 4, 2, 3, 5),
    RecurrentRow("rnn", 4, 2, 3, 5),
    RecurrentRow("lstm", 5, 2, 4, 6, bidirectional=True),
    RecurrentRow("lstm", 6, 4, 3, 5, lengths=True),
    *(_stream(cell, 6, 1) for cell in GATES),
)


@dataclass(frozen=True)
class ConvRow:
    """One convolution on one input size: N maps of C channels and `sizes` places, K kernels with `kernel` taps on each axis.

    It is measured in each mode that has goals: inference, and training with the gradients of the input, the weight and the bias.
    """

    N: int
    C: int
    sizes: tuple[int, ...]
    K: int
    kernel: int
    infer: Goals = AHEAD
    train: Goals = AHEAD
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    quick: bool = False  # also part of a quick run

    @property
    def name(self) -> str:
        """Return the name of the row, which `--rows` searches."""
        options = {"s": self.stride, "d": self.dilation, "g": self.groups}
        more = "".join(f" {letter}{value}" for letter, value in options.items() if value != 1)
        kind = "ConvTranspose" if self.transposed else "depthwise Conv" if self.depthwise else "Conv"
        sizes = "x".join(map(str, self.sizes))
        return f"{kind}{self.S}d N{self.N} C{self.C} {sizes} K{self.K} k{self.kernel}{more}"

    @property
    def goals(self) -> dict[str, Goals]:
        """Return the goals of each mode that is measured."""
        return {mode: goals for mode in ("infer", "train") if (goals := getattr(self, mode))}

    @property
    def S(self) -> int:  # noqa: N802 - the project's letter
        """Return the number of spatial axes."""
        return len(self.sizes)

    @property
    def depthwise(self) -> bool:
        """Return whether each group has one channel."""
        return self.groups == self.C > 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the sizes of the output."""
        span = self.dilation * (self.kernel - 1) + 1
        if self.transposed:
            return tuple((size - 1) * self.stride - 2 * self.padding + span for size in self.sizes)
        return tuple((size + 2 * self.padding - span) // self.stride + 1 for size in self.sizes)


def _goals(infer: float, train: float) -> dict[str, Any]:
    """Return the same goals for one and two threads."""
    return {"infer": (infer, infer), "train": (train, train)}


def _same(N: int, C: int, size: int, K: int, kernel: int, *, quick: bool = False, **options: Any) -> ConvRow:
    """Return a row over square maps that keep their size, but for the stride."""
    return ConvRow(N, C, (size, size), K, kernel, padding=kernel // 2, quick=quick, **options)


CONV = (
    _same(8, 64, 56, 64, 3, **_goals(2.8, 2.9), quick=True),
    _same(8, 128, 28, 128, 3, **_goals(2.8, 2.9)),
    _same(1, 64, 56, 64, 3, **_goals(2.8, 2.9)),
    _same(8, 256, 14, 256, 3, **_goals(2.8, 2.6), quick=True),
    _same(8, 512, 7, 512, 3, **_goals(2.6, 2.3)),
    _same(8, 64, 28, 64, 5, **_goals(2.0, 2.0)),
    _same(1, 3, 224, 64, 7, stride=2, **_goals(1.7, 2.2), quick=True),
    _same(8, 64, 56, 128, 3, stride=2, **_goals(1.05, 1.1), quick=True),
    _same(8, 256, 14, 1024, 1, **_goals(1.1, 1.12), quick=True),
    _same(64, 1, 28, 32, 5, **_goals(1.15, 4)),
    _same(8, 128, 56, 128, 3, groups=128, **_goals(1.9, 3), quick=True),
    _same(8, 256, 28, 256, 5, groups=256, **_goals(1.9, 3)),
    ConvRow(4, 64, (28, 28), 32, 4, stride=2, padding=1, transposed=True, **_goals(1.05, 1.3), quick=True),
    ConvRow(32, 128, (64,), 128, 3, padding=1, **_goals(2.0, 1.8)),
    ConvRow(32, 300, (50,), 100, 5, padding=2, **_goals(2.0, 1.8), quick=True),
    ConvRow(1, 64, (16000,), 64, 9, padding=4, **_goals(2.0, 1.8)),
    ConvRow(1, 64, (8000,), 64, 3, padding=8, dilation=8, **_goals(1.3, 1.3)),
    # Sizes off the beaten track, where the goal is to be ahead.
    _same(1, 1, 32, 6, 5),
    _same(3, 13, 37, 29, 3),
    _same(2, 64, 28, 128, 1, stride=2),
    _same(4, 96, 14, 96, 3, groups=6),
    ConvRow(2, 16, (8, 24, 24), 32, 3, padding=1),
    ConvRow(16, 40, (98,), 64, 9, stride=2, padding=4),
    ConvRow(2, 24, (9, 11), 7, 3, stride=3, padding=1, transposed=True),
)

SMOKE_CONV = (
    ConvRow(2, 3, (9,), 4, 3, padding=1),
    _same(2, 3, 6, 5, 3, stride=2),
    _same(1, 4, 5, 4, 3, groups=4),
    ConvRow(1, 2, (3, 4, 5), 3, 2),
    ConvRow(2, 4, (4, 5), 3, 3, stride=2, padding=1, transposed=True),
)


@dataclass(frozen=True)
class PoolRow:
    """One pooling layer on one input size: N batch, C channels, spatial sizes, square windows; "time" is the maximum over all.

    With `channels_last` our maps lie (N, *sizes, C); PyTorch's lie both ways in any row.
    """

    kind: str
    N: int
    C: int
    sizes: tuple[int, ...]
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    infer: Goals = AHEAD
    train: Goals = AHEAD
    channels_last: bool = False
    quick: bool = False  # also part of a quick run

    @property
    def name(self) -> str:
        """Return the name of the row, which `--rows` searches."""
        if self.kind == "time":
            return f"max over time N{self.N} C{self.C} L{self.sizes[0]}"
        window = f"k{self.kernel} s{self.stride}" + (f" p{self.padding}" if self.padding else "")
        kind = {"max": "MaxPool", "avg": "AvgPool"}[self.kind]
        return f"{kind} N{self.N} C{self.C} {'x'.join(map(str, self.sizes))} {window}{' NHWC' * self.channels_last}"

    @property
    def goals(self) -> dict[str, Goals]:
        """Return the goals of each mode that is measured."""
        return {mode: goals for mode in ("infer", "train") if (goals := getattr(self, mode))}

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Return the shape of y."""
        if self.kind == "time":
            return (self.N, self.C)
        return (self.N, self.C, *((L + 2 * self.padding - self.kernel) // self.stride + 1 for L in self.sizes))

    @property
    def places(self) -> int:
        """Return the number of places of a window."""
        return self.sizes[0] if self.kind == "time" else self.kernel ** len(self.sizes)


_GOAL: Goals = (2.5, 2.5)

POOLING = (
    PoolRow("max", 8, 64, (112, 112), 3, 2, 0, _GOAL, _GOAL, quick=True),
    PoolRow("max", 8, 64, (112, 112), 3, 2, 0, _GOAL, _GOAL, channels_last=True, quick=True),
    PoolRow("max", 8, 64, (56, 56), 2, 2, 0, _GOAL, _GOAL, quick=True),
    PoolRow("max", 8, 64, (56, 56), 2, 2, 0, _GOAL, _GOAL, channels_last=True, quick=True),
    PoolRow("avg", 8, 64, (56, 56), 2, 2, 0, _GOAL, _GOAL, quick=True),
    PoolRow("avg", 8, 64, (56, 56), 2, 2, 0, _GOAL, _GOAL, channels_last=True, quick=True),
    PoolRow("time", 32, 256, (500,), infer=(1.8, 1.8), train=(3, 3), quick=True),
    # Sizes off the beaten track, where the goal is to be ahead.
    PoolRow("max", 1, 64, (112, 112), 3, 2, 1),
    PoolRow("max", 8, 64, (28, 28), 3, 1, 1),
    PoolRow("max", 8, 256, (13, 13), 3, 2),
    PoolRow("max", 8, 64, (60, 60), 3, 3),
    PoolRow("avg", 8, 192, (28, 28), 3, 1, 1),
    PoolRow("max", 1, 16, (28, 28), 2, 2),
    PoolRow("time", 32, 100, (50,)),
)

SMOKE_POOLING = (
    PoolRow("max", 2, 3, (7, 9), 3, 2, 1),
    PoolRow("max", 2, 3, (6, 8), 2, 2, channels_last=True),
    PoolRow("avg", 2, 3, (6, 8), 2, 2),
    PoolRow("time", 2, 3, (20,)),
)


@dataclass(frozen=True)
class ModelRow:
    """One whole model on one batch, named by `kind`; what the sizes mean stands in `bench/models.py`.

    It is measured in each mode that has goals: inference, and one training step: forward, loss, backward, clipping, Adam.
    """

    kind: str
    N: int
    T: int = 0
    C: int = 0
    H: int = 0
    vocabulary: int = 0
    classes: int = 10
    depth: int = 0
    infer: Goals = AHEAD
    train: Goals = AHEAD
    quick: bool = True  # also part of a quick run

    @property
    def name(self) -> str:
        """Return the name of the row, which `--rows` searches."""
        sizes = {"T": self.T, "C": self.C, "H": self.H, "V": self.vocabulary}
        return " ".join([self.kind, f"N{self.N}", *(f"{letter}{size}" for letter, size in sizes.items() if size)])

    @property
    def goals(self) -> dict[str, Goals]:
        """Return the goals of each mode that is measured."""
        return {mode: goals for mode in ("infer", "train") if (goals := getattr(self, mode))}


MODELS = (
    ModelRow("LeNet-5", 64, T=32),
    ModelRow("ResNet-20", 16, T=32, C=16, depth=3),
    ModelRow("text CNN", 50, T=56, C=300, H=100, vocabulary=18765, classes=2),
    ModelRow("LSTM language model", 20, T=35, C=256, H=256, vocabulary=10000, classes=10000, depth=2),
    ModelRow("GRU tagger", 32, T=60, C=100, H=128, vocabulary=20000, classes=45),
    ModelRow("CTC line recogniser", 16, T=300, C=48, H=100, classes=81, depth=1),
)

SMOKE_MODELS = (
    ModelRow("LeNet-5", 2, T=32),
    ModelRow("ResNet-20", 2, T=8, C=2, depth=1),
    ModelRow("text CNN", 3, T=9, C=6, H=4, vocabulary=30, classes=2),
    ModelRow("LSTM language model", 3, T=4, C=5, H=6, vocabulary=20, classes=20, depth=2),
    ModelRow("GRU tagger", 4, T=6, C=5, H=4, vocabulary=20, classes=5),
    ModelRow("CTC line recogniser", 3, T=20, C=4, H=5, classes=6, depth=1),
)


#: The rows of the kit that are layers, with an inference of their own; the others are losses and optimisers.
LAYERS = ("LayerNorm", "BatchNorm", "softmax", "embedding")


@dataclass(frozen=True)
class KitRow:
    """A layer, loss or optimiser step that moves memory rather than computes.

    `sizes` are those of its input: (N, C, H, W) maps, (N, C) rows, (n,) parameters; for the embedding (N, V, E): tokens, rows of
    the table, their width. A loss and a step have the one mode in which they are used.
    """

    kind: str
    sizes: tuple[int, ...]
    quick: bool = False  # also part of a quick run

    @property
    def name(self) -> str:
        """Return the name of the row, which `--rows` searches."""
        return f"{self.kind} {'x'.join(map(str, self.sizes))}"

    @property
    def goals(self) -> dict[str, Goals]:
        """Return the goals of each mode that is measured."""
        modes = ("infer", "train") if self.kind in LAYERS else ("train",)
        return dict.fromkeys(modes, (1.2, 1.2))


KIT = (
    KitRow("LayerNorm", (8192, 768), quick=True),
    KitRow("LayerNorm", (512, 1024)),
    KitRow("BatchNorm", (16, 64, 56, 56), quick=True),
    KitRow("BatchNorm", (8, 256, 14, 14)),
    KitRow("softmax", (4096, 1000), quick=True),
    KitRow("softmax", (12288, 128)),
    KitRow("cross entropy", (1024, 10000), quick=True),
    KitRow("cross entropy", (4096, 1000)),
    KitRow("binary cross entropy", (1024, 1000)),
    KitRow("binary cross entropy with logits", (1024, 1000)),
    KitRow("MSE", (1024, 1000)),
    KitRow("L1", (1024, 1000)),
    KitRow("Huber", (1024, 1000)),
    KitRow("smooth L1", (64, 1000)),
    KitRow("Adam step", (1_000_000,), quick=True),
    KitRow("Adam step", (20_000_000,)),
    KitRow("embedding", (4096, 100_000, 128), quick=True),
    KitRow("embedding", (512, 100_000, 300)),
)

SMOKE_KIT = (
    KitRow("LayerNorm", (5, 19)),
    KitRow("BatchNorm", (2, 3, 4, 5), quick=True),
    KitRow("softmax", (4, 7)),
    KitRow("cross entropy", (4, 7)),
    KitRow("binary cross entropy", (4, 7)),
    KitRow("binary cross entropy with logits", (4, 7)),
    KitRow("MSE", (4, 7)),
    KitRow("L1", (4, 7)),
    KitRow("Huber", (4, 7)),
    KitRow("smooth L1", (4, 7)),
    KitRow("Adam step", (37,)),
    KitRow("embedding", (6, 11, 5)),
)
