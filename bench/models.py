"""The whole models of the bench, and the batches they are measured on.

Sizes of a row: `T` is the side of images, or the number of steps; `C` the features of a step, or the maps of the first
stage; `H` the units; `depth` the blocks of a stage, or the recurrent layers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastrnn as fr
from bench.shapes import ModelRow

__all__ = ["BUILD", "STAGES", "Batch", "build", "make_batch", "our_loss"]

Array = NDArray[Any]

#: Widths of the convolutions over words.
WIDTHS = (3, 4, 5)
#: Maps of the stages of a residual net, in units of the first.
STAGES = (1, 2, 4)


@dataclass(frozen=True)
class Batch:
    """What a model is fed with, and what it is to give: `targets` of `target_lengths` for CTC, else classes."""

    x: Array
    targets: Array
    lengths: Array | None = None
    target_lengths: Array | None = None


def _lenet(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """LeCun et al. 1998, Gradient-based learning applied to document recognition, with dense connections in C3."""
    del dropout
    return fr.Sequential(
        fr.Conv2d(1, 6, 5, activation="tanh", **common),
        fr.AvgPool2d(2),
        fr.Conv2d(6, 16, 5, activation="tanh", **common),
        fr.AvgPool2d(2),
        fr.Conv2d(16, 120, 5, activation="tanh", **common),
        fr.Flatten(),
        fr.Linear(120, 84, **common),
        fr.Tanh(),
        fr.Linear(84, row.classes, **common),
    )


def _resnet(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """He et al. 2016, Deep residual learning for image recognition, section 4.2, with projections (option B)."""
    del dropout

    def norm(K: int) -> fr.Layer:
        return fr.BatchNorm2d(K, dtype=common["dtype"])

    def conv(C: int, K: int, kernel: int, stride: int) -> fr.Layer:
        return fr.Conv2d(C, K, kernel, stride, padding=kernel // 2, bias=False, **common)

    layers: list[fr.Layer] = [conv(3, row.C, 3, 1), norm(row.C), fr.ReLU()]
    C = row.C
    for stage, width in enumerate(STAGES):
        for block in range(row.depth):
            K, stride = width * row.C, 2 if stage and not block else 1
            around = fr.Sequential(conv(C, K, 1, stride), norm(K)) if stride == 2 else None
            body = (conv(C, K, 3, stride), norm(K), fr.ReLU(), conv(K, K, 3, 1), norm(K))
            layers.append(fr.Residual(*body, shortcut=around, activation="relu"))
            C = K
    return fr.Sequential(*layers, fr.GlobalAvgPool(), fr.Linear(C, row.classes, **common))


def _text_cnn(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """Kim 2014, Convolutional neural networks for sentence classification."""
    branches = [
        fr.Sequential(
            fr.Conv1d(row.C, row.H, width, layout="NLC", activation="relu", **common), fr.TimePool("max", layout="NTC")
        )
        for width in WIDTHS
    ]
    return fr.Sequential(
        fr.Embedding(row.vocabulary, row.C, **common),
        fr.Parallel(*branches),
        fr.Dropout(dropout, rng=0),
        fr.Linear(len(WIDTHS) * row.H, row.classes, **common),
    )


def _language_model(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """Zaremba, Sutskever & Vinyals 2014, Recurrent neural network regularization, at small size and without dropout."""
    del dropout
    lstm = fr.LSTM(row.C, row.H, row.depth, **common)
    return fr.Sequential(fr.Embedding(row.vocabulary, row.C, **common), lstm, fr.Linear(row.H, row.classes, **common))


def _tagger(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """Return a tagger over sentences of different lengths, in both directions."""
    del dropout
    gru = fr.GRU(row.C, row.H, bidirectional=True, **common)
    return fr.Sequential(
        fr.Embedding(row.vocabulary, row.C, **common), gru, fr.Linear(2 * row.H, row.classes, **common)
    )


def _line_recogniser(row: ModelRow, dropout: float, **common: Any) -> fr.Layer:
    """Graves et al. 2009, A novel connectionist system for unconstrained handwriting recognition: columns of pixels."""
    del dropout
    lstm = fr.LSTM(row.C, row.H, row.depth, bidirectional=True, **common)
    return fr.Sequential(lstm, fr.Linear(2 * row.H, row.classes, **common))


#: kind of row -> (row, dropout, dtype=, rng=) -> model
BUILD: Mapping[str, Callable[..., fr.Layer]] = MappingProxyType(
    {
        "LeNet-5": _lenet,
        "ResNet-20": _resnet,
        "text CNN": _text_cnn,
        "LSTM language model": _language_model,
        "GRU tagger": _tagger,
        "CTC line recogniser": _line_recogniser,
    }
)


def build(row: ModelRow, dropout: float = 0.0, dtype: DTypeLike = np.float32) -> fr.Layer:
    """Return the model of a row; the same for the same row, whatever the dtype."""
    return BUILD[row.kind](row, dropout, dtype=dtype, rng=np.random.default_rng(0))


def make_batch(row: ModelRow) -> Batch:
    """Draw a batch; the same for the same row."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    N, T = row.N, row.T
    if row.kind in ("LeNet-5", "ResNet-20"):
        x = rng.standard_normal((N, 1 if row.kind == "LeNet-5" else 3, T, T), np.float32)
        return Batch(x, rng.integers(0, row.classes, N))
    if row.kind == "text CNN":
        return Batch(rng.integers(0, row.vocabulary, (N, T)), rng.integers(0, row.classes, N))
    if row.kind == "LSTM language model":
        text = rng.integers(0, row.vocabulary, (T + 1, N))
        return Batch(text[:-1], text[1:])
    lengths = np.maximum(rng.integers(T // 4, T + 1, N), 5)
    if row.kind == "GRU tagger":
        tags = rng.integers(0, row.classes, (T, N))
        tags[np.arange(T)[:, None] >= lengths] = IGNORED
        return Batch(rng.integers(0, row.vocabulary, (T, N)), tags, lengths)
    signs = np.maximum(lengths // 8, 1)
    x = rng.standard_normal((T, N, row.C), np.float32)
    return Batch(x, rng.integers(1, row.classes, (N, int(signs.max()))), lengths, signs)


#: Class of steps that do not count.
IGNORED = -100


def our_loss(batch: Batch, y: Any) -> tuple[float, Any]:
    """Return the loss of a model's results and their gradient."""
    if batch.target_lengths is not None:
        loss, dy = fr.ctc_loss(y, batch.targets, batch.lengths, batch.target_lengths)
        return float(loss), dy
    loss, dy = fr.cross_entropy(y, batch.targets, ignore_index=IGNORED)
    return float(loss), dy
