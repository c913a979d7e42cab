"""Every layer class with its options: what the common suite runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numeric import Array, random_arrays
from numpy.typing import DTypeLike

import fastrnn as fr

T, N, C, V = 5, 3, 4, 7
LENGTHS = np.array([3, 5, 1])


class Tagger(fr.Layer):
    """A model as users write them: layers as attributes, and weights of its own."""

    def __init__(self, dtype: DTypeLike, rng: Any) -> None:
        self.lstm = fr.LSTM(C, 3, bidirectional=True, dtype=dtype, rng=rng)
        self.heads = [fr.Linear(6, 2, dtype=dtype, rng=rng), fr.Linear(6, 3, bias=False, dtype=dtype, rng=rng)]

    def __call__(self, x: Any) -> Any:
        """Return both heads' outputs side by side."""
        y, _ = self.lstm(x)
        return np.concatenate([head(y) for head in self.heads], axis=-1)

    def forward(self, x: Any) -> Any:
        """Return both heads' outputs side by side, and the pullback."""
        (y, _), back_lstm = self.lstm.forward(x)
        (left, back_left), (right, back_right) = (head.forward(y) for head in self.heads)

        def backward(dy: Any) -> Any:
            if np.shape(dy) != (*y.shape[:-1], 5):
                raise fr.errors.ShapeError("Tagger: 'dy' must have 5 features")
            dx, _ = back_lstm(back_left(dy[..., :2]) + back_right(dy[..., 2:]))
            return dx

        return np.concatenate([left, right], axis=-1), backward


@dataclass(frozen=True)
class Case:
    """A layer to build, and the input it takes."""

    name: str
    build: Callable[..., fr.Layer]
    x_shape: tuple[int, ...] = (T, N, C)
    tokens: bool = False
    #: Whether `forward` computes something else than calling does, such as statistics of its own.
    trains_apart: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def layer(self, dtype: DTypeLike = np.float64, seed: int = 0) -> Any:
        """Return a new layer; the same for the same seed. Biases and gains become random."""
        layer = self.build(dtype=dtype, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed + 1)
        for name, parameter in layer.parameters().items():
            if "bias" in name or "gain" in name:
                parameter.assign(0.5 * rng.standard_normal(parameter.shape).astype(dtype))
        return layer

    @property
    def trained(self) -> bool:
        """Return whether the layer has parameters, which also fix its dtype."""
        return bool(self.layer().parameters())

    def x(self, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
        """Return random input."""
        if self.tokens:
            return rng.integers(0, V, self.x_shape)
        return random_arrays(rng, {"x": self.x_shape}, dtype)["x"]

    def predict(self, layer: Any, x: Any) -> Any:
        """Call the layer; return its output without its state."""
        result = layer(x, **self.options)
        return result[0] if layer.returns_state else result

    def forward(self, layer: Any, x: Any) -> tuple[Array, Callable[[Any], Any]]:
        """Call forward; return the output and a pullback from its gradient to that of x."""
        result, backward = layer.forward(x, **self.options)
        if not layer.returns_state:
            return result, backward
        return result[0], lambda dy: backward(dy)[0]


def _norm(kind: Any, *sizes: Any, **options: Any) -> Callable[..., fr.Layer]:
    """Normalising layers, which draw nothing themselves: random weights and running statistics."""

    def build(*, dtype: DTypeLike, rng: np.random.Generator) -> fr.Layer:
        layer: fr.Layer = kind(*sizes, **options, dtype=dtype)
        for parameter in layer.parameters().values():
            parameter.assign(rng.uniform(0.5, 2, parameter.shape).astype(dtype))
        return layer

    return build


def _normalised_convolutions(**common: Any) -> fr.Layer:
    norm = _norm(fr.BatchNorm2d, 3)(**common)
    return fr.Sequential(fr.Conv2d(C, 3, 3, bias=False, **common), norm, fr.Conv2d(3, 2, 1, **common))


def _recurrent(kind: Any, H: int = 3, **options: Any) -> Callable[..., fr.Layer]:
    def build(**common: Any) -> fr.Layer:
        layer: fr.Layer = kind(C, H, **options, **common)
        return layer

    return build


def _conv(kind: Any, *sizes: Any, **options: Any) -> Callable[..., fr.Layer]:
    def build(**common: Any) -> fr.Layer:
        layer: fr.Layer = kind(C, *sizes, **options, **common)
        return layer

    return build


def _language_model(**common: Any) -> fr.Layer:
    embedding = fr.Embedding(V, C, **common)
    return fr.Sequential(embedding, fr.GRU(C, 3, 2, **common), fr.Linear(3, V, **common))


def _with_lengths(**common: Any) -> fr.Layer:
    return fr.Sequential(
        fr.Linear(C, 2, **common), fr.Sequential(fr.LSTM(2, 3, bidirectional=True, **common)), fr.RNN(6, 2, **common)
    )


def _pool(kind: Any, *args: Any, **options: Any) -> Callable[..., fr.Layer]:
    """Pooling layers have no parameters, and take either dtype."""

    def build(**_: Any) -> fr.Layer:
        layer: fr.Layer = kind(*args, **options)
        return layer

    return build


def _sentence_model(**common: Any) -> fr.Layer:
    return fr.Sequential(fr.LSTM(C, 3, bidirectional=True, **common), fr.TimePool("max"), fr.Linear(6, 2, **common))


MAPS = (2, 3, 7, 6)
POOLS = (
    Case("max_pool_1d", _pool(fr.MaxPool1d, 3, stride=2, padding=1, ceil_mode=True), x_shape=(2, 3, 8)),
    Case("max_pool_2d", _pool(fr.MaxPool2d, (3, 2), 2, (1, 0)), x_shape=MAPS),
    Case("max_pool_2d_last", _pool(fr.MaxPool2d, 2, 1, dilation=2, layout="NHWC"), x_shape=MAPS),
    Case("max_pool_2d_unbatched", _pool(fr.MaxPool2d, 2), x_shape=MAPS[1:]),
    Case("max_pool_3d", _pool(fr.MaxPool3d, 2, padding=1), x_shape=(2, 2, 3, 4, 5)),
    Case("min_pool_1d", _pool(fr.MinPool1d, 2, layout="NLC"), x_shape=(2, 8, 3)),
    Case("min_pool_2d", _pool(fr.MinPool2d, 3, 3), x_shape=MAPS),
    Case("min_pool_3d", _pool(fr.MinPool3d, (1, 2, 2)), x_shape=(1, 2, 3, 4, 5)),
    Case("avg_pool_1d", _pool(fr.AvgPool1d, 3, 2, 1, ceil_mode=True), x_shape=(2, 3, 8)),
    Case("avg_pool_2d", _pool(fr.AvgPool2d, 3, 2, 1, count_include_pad=False), x_shape=MAPS),
    Case("avg_pool_2d_last", _pool(fr.AvgPool2d, 2, divisor_override=3, layout="NHWC"), x_shape=MAPS),
    Case("avg_pool_3d", _pool(fr.AvgPool3d, 2, 1), x_shape=(2, 2, 3, 4, 5)),
    Case("lp_pool_1d", _pool(fr.LPPool1d, 2, 3), x_shape=(2, 3, 8)),
    Case("lp_pool_2d", _pool(fr.LPPool2d, 4, 2, ceil_mode=True), x_shape=MAPS),
    Case("lp_pool_3d", _pool(fr.LPPool3d, float("inf"), 2), x_shape=(2, 2, 3, 4, 5)),
    Case("adaptive_avg_pool_1d", _pool(fr.AdaptiveAvgPool1d, 3), x_shape=(2, 3, 8)),
    Case("adaptive_avg_pool_2d", _pool(fr.AdaptiveAvgPool2d, (None, 4)), x_shape=MAPS),
    Case("adaptive_avg_pool_3d", _pool(fr.AdaptiveAvgPool3d, 1, layout="NDHWC"), x_shape=(2, 2, 3, 4, 5)),
    Case("adaptive_max_pool_1d", _pool(fr.AdaptiveMaxPool1d, 4), x_shape=(2, 3, 8)),
    Case("adaptive_max_pool_2d", _pool(fr.AdaptiveMaxPool2d, (3, 4), layout="NHWC"), x_shape=MAPS),
    Case("adaptive_max_pool_3d", _pool(fr.AdaptiveMaxPool3d, 2), x_shape=(2, 2, 3, 4, 5)),
    Case("global_max_pool", _pool(fr.GlobalMaxPool), x_shape=MAPS),
    Case("global_avg_pool", _pool(fr.GlobalAvgPool, keepdims=True, layout="NHWC"), x_shape=MAPS),
    Case("global_avg_pool_unbatched", _pool(fr.GlobalAvgPool, layout="NCL"), x_shape=(3, 8)),
    Case("time_pool", _pool(fr.TimePool, "max")),
    Case("time_pool_lengths", _pool(fr.TimePool, "mean"), options={"lengths": LENGTHS}),
    Case("time_pool_kmax", _pool(fr.TimePool, "kmax", 2, layout="NTC"), options={"lengths": [2, 3, 1, 3, 3]}),
    Case("time_pool_unbatched", _pool(fr.TimePool, "kmax", 2, layout="NCT"), x_shape=(C, T)),
    Case("sentence", _sentence_model, options={"lengths": LENGTHS}),
)

NORMS = (
    Case("batch_norm_1d", _norm(fr.BatchNorm1d, C), x_shape=(5, C), trains_apart=True),
    Case("batch_norm_1d_signals", _norm(fr.BatchNorm1d, C, momentum=None), x_shape=(N, C, 5), trains_apart=True),
    Case("batch_norm_2d", _norm(fr.BatchNorm2d, C, eps=1e-3), x_shape=(2, C, 3, 4), trains_apart=True),
    Case("batch_norm_2d_last", _norm(fr.BatchNorm2d, C, layout="NHWC"), x_shape=(2, 3, 4, C), trains_apart=True),
    Case("batch_norm_2d_untracked", _norm(fr.BatchNorm2d, C, track_running_stats=False), x_shape=(2, C, 3, 4)),
    Case("batch_norm_3d_plain", _norm(fr.BatchNorm3d, C, affine=False), x_shape=(2, C, 2, 3, 2), trains_apart=True),
    Case("batch_norm_model", _normalised_convolutions, x_shape=(2, C, 5, 4), trains_apart=True),
    Case("layer_norm", _norm(fr.LayerNorm, C)),
    Case("layer_norm_two_axes", _norm(fr.LayerNorm, (N, C), bias=False)),
    Case("layer_norm_plain", _norm(fr.LayerNorm, C, elementwise_affine=False)),
    Case("group_norm", _norm(fr.GroupNorm, 2, C), x_shape=(2, C, 3, 4)),
    Case("group_norm_last", _norm(fr.GroupNorm, 2, C, layout="NLC"), x_shape=(2, 5, C)),
    Case("local_response_norm", _pool(fr.LocalResponseNorm, 3, alpha=0.3, k=2), x_shape=MAPS),
    Case("local_contrast_norm", _pool(fr.LocalContrastNorm, 3), x_shape=MAPS),
    Case("group_norm_vectors", _norm(fr.GroupNorm, 1, C), x_shape=(N, C)),
)

CASES = (
    Case("rnn", _recurrent(fr.RNN)),
    Case("rnn_relu", _recurrent(fr.RNN, nonlinearity="relu")),
    Case("rnn_unbatched", _recurrent(fr.RNN), x_shape=(T, C)),
    Case("lstm", _recurrent(fr.LSTM)),
    Case("lstm_without_bias", _recurrent(fr.LSTM, bias=False)),
    Case("lstm_one_bias", _recurrent(fr.LSTM, bias_hh=False)),
    Case("lstm_stacked", _recurrent(fr.LSTM, num_layers=2, bidirectional=True, batch_first=True)),
    Case("lstm_projected", _recurrent(fr.LSTM, proj_size=2, num_layers=2)),
    Case("lstm_lengths", _recurrent(fr.LSTM, bidirectional=True), options={"lengths": LENGTHS}),
    Case("gru", _recurrent(fr.GRU)),
    Case("gru_reset_before", _recurrent(fr.GRU, reset_after=False)),
    Case("gru_stacked", _recurrent(fr.GRU, num_layers=2, bidirectional=True), options={"lengths": LENGTHS}),
    Case("linear", lambda **common: fr.Linear(C, 2, **common)),
    Case("linear_vector", lambda **common: fr.Linear(C, 2, bias=False, **common), x_shape=(C,)),
    Case("embedding", lambda **common: fr.Embedding(V, 2, **common), x_shape=(T, N), tokens=True),
    Case("conv1d", _conv(fr.Conv1d, 3, 3, padding=1), x_shape=(N, C, 5)),
    Case("conv1d_causal", _conv(fr.Conv1d, 6, 2, padding="causal", dilation=2, groups=2), x_shape=(N, C, 6)),
    Case("conv1d_unbatched_last", _conv(fr.Conv1d, 3, 3, layout="NLC", activation="tanh"), x_shape=(5, C)),
    Case("conv2d", _conv(fr.Conv2d, 3, 3, 2, padding=((1, 0), (0, 2))), x_shape=(2, C, 5, 6)),
    Case("conv2d_gain", _conv(fr.Conv2d, 3, (2, 3), activation="tanh", gain=True, flip=True), x_shape=(2, C, 3, 4)),
    Case(
        "conv2d_circular", _conv(fr.Conv2d, 3, 3, padding=1, padding_mode="circular", bias=False), x_shape=(2, C, 4, 3)
    ),
    Case("conv2d_depthwise", _conv(fr.Conv2d, 8, 3, groups=C, padding="same"), x_shape=(2, C, 4, 3)),
    Case("conv2d_depthwise_last", _conv(fr.Conv2d, C, 2, groups=C, layout="NHWC"), x_shape=(2, 4, 3, C)),
    Case("conv2d_unbatched", _conv(fr.Conv2d, 2, 2, activation="sigmoid"), x_shape=(C, 4, 3)),
    Case("conv3d", _conv(fr.Conv3d, 2, 2, padding=1, stride=(1, 2, 1)), x_shape=(1, C, 2, 3, 2)),
    Case("conv_transpose1d", _conv(fr.ConvTranspose1d, 3, 3, 2, padding=1, output_padding=1), x_shape=(N, C, 4)),
    Case("conv_transpose2d", _conv(fr.ConvTranspose2d, 2, 3, 2, groups=2, activation="tanh"), x_shape=(2, C, 2, 3)),
    Case("conv_transpose2d_depthwise", _conv(fr.ConvTranspose2d, C, 2, 2, groups=C), x_shape=(2, C, 2, 3)),
    Case("conv_transpose3d", _conv(fr.ConvTranspose3d, 2, 2, layout="NDHWC"), x_shape=(1, 2, 1, 3, C)),
    Case("sequential", _language_model, x_shape=(T, N), tokens=True),
    Case("sequential_lengths", _with_lengths, options={"lengths": LENGTHS}),
    Case("composite", Tagger),
    *POOLS,
    *NORMS,
)
