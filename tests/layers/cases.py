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


def _maps(**common: Any) -> fr.Layer:
    """A block with a projection around it, in two widths side by side."""
    conv = fr.Conv2d(C, 3, 3, 2, padding=1, activation="tanh", **common)
    block = fr.Residual(conv, fr.Conv2d(3, 3, 1, **common), shortcut=fr.Conv2d(C, 3, 1, 2, **common), activation="relu")
    return fr.Parallel(block, fr.Sequential(fr.Conv2d(C, 2, 3, 2, padding=1, **common)), axis=1)


def _sentence(**common: Any) -> fr.Layer:
    """Kim's network in small: every branch shortens the sentences in its own way, and ends their time."""

    def branch(width: int) -> fr.Layer:
        return fr.Sequential(fr.Conv1d(C, 2, width, activation="relu", **common), fr.TimePool("max", layout="NCT"))

    return fr.Sequential(fr.Parallel(branch(1), branch(2), branch(3)), fr.Linear(6, 2, **common))


def _frames(**common: Any) -> fr.Layer:
    """Convolutions and pooling that change the time axis before a recurrent layer."""
    return fr.Sequential(
        fr.Conv1d(C, 3, 3, padding=1, layout="NLC", **common),
        fr.Residual(fr.Conv1d(3, 3, 3, padding="same", layout="NLC", activation="tanh", **common)),
        fr.MaxPool1d(2, 2, 1, layout="NLC"),
        fr.Bidirectional(fr.GRU(3, 2, batch_first=True, **common), merge="mean"),
        fr.TimeDistributed(fr.Linear(2, 2, **common), batch_first=True),
    )


def _both(merge: str, **common: Any) -> fr.Layer:
    return fr.Bidirectional(fr.LSTM(C, 3, **common), fr.GRU(C, 3, **common), merge)


def _wrapped(merge: str) -> Callable[..., fr.Layer]:
    def build(**common: Any) -> fr.Layer:
        linear = fr.Linear(C, 3, **common)
        return fr.Parallel(linear, fr.Sequential(fr.Linear(C, 3, **common)), linear, merge=merge)

    return build


def _stack(**common: Any) -> fr.Layer:
    """Containers as the layers of a `Bidirectional`: no states."""
    return fr.Bidirectional(fr.Sequential(fr.GRU(C, 2, **common)), fr.Sequential(fr.RNN(C, 3, **common)))


def _twice(**common: Any) -> fr.Layer:
    """One block at two depths: its parameters are shared."""
    block = fr.Residual(fr.Linear(C, C, **common), activation="tanh")
    return fr.Sequential(block, fr.Residual(block, fr.Linear(C, C, **common), activation="sigmoid"))


FRAMES = (N, 7, C)
CONTAINERS = (
    Case("residual", _twice),
    Case("residual_maps", _maps, x_shape=(2, C, 5, 4)),
    Case("residual_lengths", lambda **common: fr.Residual(fr.GRU(C, C, **common)), options={"lengths": LENGTHS}),
    *(Case(f"parallel_{merge}", _wrapped(merge)) for merge in ("concat", "sum", "mean", "mul")),
    Case("parallel_sentence", _sentence, x_shape=(N, C, 7), options={"lengths": [3, 7, 5]}),
    Case("time_distributed", lambda **c: fr.TimeDistributed(fr.Conv1d(C, 2, 2, **c)), x_shape=(T, N, C, 3)),
    Case(
        "time_distributed_lengths", lambda **c: fr.TimeDistributed(fr.Linear(C, 2, **c)), options={"lengths": LENGTHS}
    ),
    Case("time_distributed_tokens", lambda **c: fr.TimeDistributed(fr.Embedding(V, 2, **c)), (T, N), tokens=True),
    Case("frames", _frames, x_shape=FRAMES, options={"lengths": [4, 7, 1]}),
    Case("conv1d_lengths", _conv(fr.Conv1d, 3, 3, 2, padding=2), x_shape=(N, C, 8), options={"lengths": [8, 2, 5]}),
    Case(
        "conv_transpose1d_lengths",
        _conv(fr.ConvTranspose1d, 3, 3, 2),
        x_shape=(N, C, 4),
        options={"lengths": [1, 4, 2]},
    ),
    Case("conv2d_lengths", _conv(fr.Conv2d, 3, 3, padding=1, layout="NHWC"), (2, 3, 5, C), options={"lengths": [2, 5]}),
    Case("avg_pool_1d_lengths", _pool(fr.AvgPool1d, 3, 2, 1), x_shape=(2, 3, 8), options={"lengths": [3, 8]}),
    Case("min_pool_1d_lengths", _pool(fr.MinPool1d, 3, 2, 1, ceil_mode=True), (2, 3, 8), options={"lengths": [3, 8]}),
    Case("global_max_pool_lengths", _pool(fr.GlobalMaxPool), x_shape=(2, 3, 8), options={"lengths": [3, 8]}),
    Case("bidirectional", lambda **common: fr.Bidirectional(fr.LSTM(C, 3, 2, **common))),
    Case("bidirectional_sum", lambda **common: _both("sum", **common), options={"lengths": LENGTHS}),
    Case("bidirectional_mul", lambda **common: _both("mul", **common), options={"lengths": LENGTHS}),
    Case("bidirectional_unbatched", lambda **common: fr.Bidirectional(fr.RNN(C, 3, **common), merge="mean"), (T, C)),
    Case("bidirectional_stack", _stack, options={"lengths": LENGTHS}),
)


def _activations() -> tuple[Case, ...]:
    """Every activation, with its options if it has some."""
    options: dict[Any, tuple[Any, ...]] = {
        fr.ELU: (0.7,),
        fr.GELU: ("tanh",),
        fr.Hardtanh: (-0.5, 0.75),
        fr.LeakyReLU: (0.3,),
        fr.Softplus: (2.0, 1.5),
    }
    kinds = (fr.ELU, fr.GELU, fr.Hardsigmoid, fr.Hardswish, fr.Hardtanh, fr.LeakyReLU, fr.LogSoftmax, fr.Mish, fr.ReLU)
    kinds += (fr.ReLU6, fr.SELU, fr.SiLU, fr.Sigmoid, fr.Softmax, fr.Softplus, fr.Softsign, fr.Tanh)
    usual = tuple(Case(kind.__name__.lower(), _pool(kind)) for kind in kinds)
    return usual + tuple(Case(f"{kind.__name__.lower()}_options", _pool(kind, *args)) for kind, args in options.items())


ELEMENTWISE = (
    *_activations(),
    Case("softmax_axis", _pool(fr.Softmax, 1), x_shape=(3, 5, 2, 2)),
    Case("log_softmax_axis", _pool(fr.LogSoftmax, 0)),
    Case("softmax_times", _pool(fr.Softmax, 0, 1), options={"lengths": LENGTHS}),
    Case("log_softmax_times", _pool(fr.LogSoftmax, -1, 0), x_shape=(N, C, 5), options={"lengths": LENGTHS}),
    Case("dropout_of_nothing", _pool(fr.Dropout, 0.0)),
    Case("dropout_2d_of_nothing", _pool(fr.Dropout2d, 0, layout="NHWC"), x_shape=MAPS),
    Case("locked_dropout_of_nothing", _pool(fr.LockedDropout, 0.0, batch_first=True)),
)
SHAPES = (
    Case("identity", _pool(fr.Identity), x_shape=MAPS),
    Case("flatten", _pool(fr.Flatten), x_shape=MAPS),
    Case("flatten_some", _pool(fr.Flatten, 0, -2), x_shape=MAPS),
    Case("unflatten", _pool(fr.Unflatten, -1, (2, -1))),
    Case("reshape", _pool(fr.Reshape, 2, -1, 3), x_shape=(2, 3, 8)),
    Case("permute", _pool(fr.Permute, 2, 0, -2), x_shape=(2, 3, 8)),
    Case("transpose", _pool(fr.Transpose, 0, -1)),
)
NORMS = (
    Case("batch_norm_1d", _norm(fr.BatchNorm1d, C), x_shape=(5, C), trains_apart=True),
    Case("batch_norm_1d_signals", _norm(fr.BatchNorm1d, C, momentum=None), x_shape=(N, C, 5), trains_apart=True),
    Case(
        "batch_norm_1d_lengths",
        _norm(fr.BatchNorm1d, C),
        x_shape=(N, C, 5),
        trains_apart=True,
        options={"lengths": LENGTHS},
    ),
    Case("batch_norm_2d", _norm(fr.BatchNorm2d, C, eps=1e-3), x_shape=(2, C, 3, 4), trains_apart=True),
    Case("batch_norm_2d_last", _norm(fr.BatchNorm2d, C, layout="NHWC"), x_shape=(2, 3, 4, C), trains_apart=True),
    Case("batch_norm_2d_untracked", _norm(fr.BatchNorm2d, C, track_running_stats=False), x_shape=(2, C, 3, 4)),
    Case("batch_norm_3d_plain", _norm(fr.BatchNorm3d, C, affine=False), x_shape=(2, C, 2, 3, 2), trains_apart=True),
    Case("batch_norm_model", _normalised_convolutions, x_shape=(2, C, 5, 4), trains_apart=True),
    Case("layer_norm", _norm(fr.LayerNorm, C)),
    Case("layer_norm_two_axes", _norm(fr.LayerNorm, (N, C), bias=False)),
    Case("layer_norm_plain", _norm(fr.LayerNorm, C, elementwise_affine=False)),
    Case("group_norm", _norm(fr.GroupNorm, 2, C), x_shape=(2, C, 3, 4)),
    Case("group_norm_lengths", _norm(fr.GroupNorm, 2, C), x_shape=(N, C, 5), options={"lengths": LENGTHS}),
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
    Case("linear_relu", lambda **common: fr.Linear(C, 2, activation="relu", **common)),
    Case("linear_gelu", lambda **common: fr.Linear(C, 2, bias=False, activation="gelu", **common)),
    Case("embedding", lambda **common: fr.Embedding(V, 2, **common), x_shape=(T, N), tokens=True),
    Case(
        "embedding_sparse",
        lambda **common: fr.Embedding(V, 2, sparse=True, **common),
        x_shape=(T, N),
        tokens=True,
    ),
    Case("embedding_bag", lambda **common: fr.EmbeddingBag(V, 2, **common), x_shape=(N, T), tokens=True),
    Case(
        "embedding_bag_max",
        lambda **common: fr.EmbeddingBag(V, 2, "max", 1, sparse=True, **common),
        x_shape=(N, T),
        tokens=True,
        options={"lengths": LENGTHS},
    ),
    Case(
        "embedding_bag_offsets",
        lambda **common: fr.EmbeddingBag(V, 2, "sum", **common),
        x_shape=(T,),
        tokens=True,
        options={"offsets": [0, 2, 2]},
    ),
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
    *CONTAINERS,
    *ELEMENTWISE,
    *SHAPES,
    *NORMS,
)
