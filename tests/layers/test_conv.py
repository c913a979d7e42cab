"""Convolutional layers: like PyTorch's, and what they have beyond them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close, assert_same_bits

import fastrnn as fr
from fastrnn.errors import ArgumentError, ShapeError

LIKE_TORCH: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2}, (2, 4, 9)),
    ("Conv1d", (4, 6, 5, 2, 3), {"padding_mode": "reflect"}, (2, 4, 9)),
    ("Conv2d", (4, 6, 3), {}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, False), {}, (2, 4, 7, 8)),
    ("Conv2d", (4, 8, 3), {"groups": 4, "padding": 1, "padding_mode": "circular"}, (2, 4, 7, 8)),
    ("Conv2d", (4, 6, 3), {"padding": 2, "padding_mode": "replicate", "stride": 2}, (4, 7, 8)),
    ("Conv3d", (4, 6, 3), {"padding": 1, "stride": (1, 2, 1)}, (2, 4, 3, 4, 5)),
    ("ConvTranspose1d", (4, 6, 3, 2, 1, 1), {}, (2, 4, 5)),
    ("ConvTranspose2d", (4, 6, 4, 2, 1), {}, (2, 4, 5, 6)),
    ("ConvTranspose2d", (4, 4, 3, 2, 1, 1, 4), {}, (4, 5, 6)),
    ("ConvTranspose3d", (4, 6, 2, 2), {"groups": 2, "bias": False}, (2, 4, 2, 3, 2)),
]


@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), LIKE_TORCH, ids=str)
def test_like_torch(kind: str, arguments: Any, options: Any, shape: Any, dtype: type, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(*arguments, **options, dtype=getattr(torch, np.dtype(dtype).name))
    ours = getattr(fr, kind)(*arguments, **options, dtype=dtype)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    x = rng.standard_normal(shape).astype(dtype)
    inputs = torch.from_numpy(x).requires_grad_()
    wanted = theirs(inputs)
    dy = rng.standard_normal(tuple(wanted.shape)).astype(dtype)
    wanted.backward(torch.from_numpy(dy))
    y, backward = ours.forward(x)
    assert_close("conv_vjp", y, wanted.detach().numpy())
    assert_close("conv_vjp", backward(dy), inputs.grad.numpy())
    for name, parameter in theirs.named_parameters():
        assert_close("conv_vjp", ours.parameters()[name].grad, parameter.grad.numpy())


def _step(layer: Any, x: Any, dy: Any) -> dict[str, Any]:
    """Return what a call and a step of training give."""
    layer.zero_grad()
    before = layer(x)
    y, backward = layer.forward(x)
    results = {"before": before, "y": y, "dx": backward(dy), "after": layer(x)}
    return results | {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}


@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), LIKE_TORCH, ids=str)
def test_changed_weights_are_seen(
    kind: str, arguments: Any, options: Any, shape: Any, rng: np.random.Generator
) -> None:
    """Step after step like a layer that never had other weights or options; a pullback keeps those of its call."""
    layer = getattr(fr, kind)(*arguments, **options, dtype=np.float64)
    x = rng.standard_normal(shape)
    y, backward = layer.forward(x)
    dy = rng.standard_normal(y.shape)
    kept = type(layer).from_config(layer.config())
    kept.load_state_dict(layer.state_dict())
    for step in range(4):
        for parameter in layer.parameters().values():
            with parameter.edit() as values:
                values *= rng.uniform(0.5, 1.5, values.shape)
        if step == 2:
            layer.padding = 0
        fresh = type(layer).from_config(layer.config())
        fresh.load_state_dict(layer.state_dict())
        if step >= 2:
            dy = rng.standard_normal(fresh(x).shape)
        results, wanted = _step(layer, x, dy), _step(fresh, x, dy)
        for name, value in wanted.items():
            assert_same_bits(results[name], value, f" of {name} in step {step}")
    dy = rng.standard_normal(y.shape)
    assert_same_bits(backward(dy), kept.forward(x)[1](dy))


WRITTEN: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv2d", (20, 24, 3), {"padding": 1}, (20, 15, 17)),
    ("Conv2d", (20, 24, 3), {"padding": 1, "flip": True, "layout": "NHWC"}, (15, 17, 20)),
    ("Conv2d", (32, 48, 3), {"padding": 1, "groups": 2, "bias": False}, (32, 34, 33)),
    ("Conv2d", (3, 64, 7, 2, 3), {}, (3, 112, 112)),
    ("Conv1d", (20, 24, 9), {}, (20, 200)),
    ("ConvTranspose2d", (20, 24, 3), {}, (20, 15, 17)),
    ("ConvTranspose2d", (20, 24, 4, 2, 1), {}, (20, 15, 17)),
    ("Conv2d", (20, 24, (5, 6)), {"gain": True}, (20, 5, 6)),
    ("Conv2d", (20, 24, 1), {"activation": "tanh"}, (20, 5, 6)),
    ("Conv2d", (70, 90, 1), {}, (70, 45, 46)),
    ("Conv2d", (70, 90, 1, 2, 1), {"layout": "NHWC"}, (15, 17, 70)),
    ("Conv2d", (3, 20, 1), {}, (3, 15, 17)),
    ("Conv2d", (70, 90, 3, 2, 1), {}, (70, 5, 6)),
    ("Conv2d", (70, 90, 3, 2, 1), {}, (70, 45, 46)),
    ("Conv2d", (6, 9, (3, 5), 2), {"groups": 3}, (6, 45, 46)),
    ("Conv2d", (20, 24, 3), {"padding": 1, "algorithm": "direct", "flip": True}, (20, 15, 17)),
    ("Conv3d", (20, 24, 3), {"padding": 1, "stride": (1, 2, 1)}, (20, 5, 6, 7)),
    ("Conv3d", (70, 90, 1), {}, (70, 2, 5, 6)),
    ("Conv2d", (20, 20, 3), {"groups": 20}, (20, 15, 17)),
]


@pytest.mark.parametrize(("kind", "arguments", "options", "shape"), WRITTEN, ids=str)
def test_gradients_written_and_added(
    kind: str, arguments: Any, options: Any, shape: Any, rng: np.random.Generator
) -> None:
    """What the arrays held before `zero_grad` is nowhere in the gradients after it, whether they are cleared or written."""
    layer = getattr(fr, kind)(*arguments, **options)
    seen = copy.deepcopy(layer)  # whose gradients are cleared at once, since they are read
    for N in (1, 0, 3, 3):
        layer.zero_grad(), seen.zero_grad()
        for _ in range(2):
            x = rng.standard_normal((N, *shape)).astype(np.float32)
            y, backward = layer.forward(x)
            dy = rng.standard_normal(y.shape).astype(np.float32)
            backward(dy), seen.forward(x)[1](dy)
            for name, parameter in seen.parameters().items():
                assert_same_bits(layer.parameters()[name]._sum(), parameter.grad)


@pytest.mark.parametrize("N", [1, 3])
def test_a_gradient_of_the_border_alone_is_zero(N: int, rng: np.random.Generator) -> None:
    """Whatever its array held: no product reaches it."""
    layer = fr.Conv3d(70, 90, 1, stride=(2, 1, 1), padding=(1, 0, 0))
    for depth in (3, 1):
        layer.zero_grad()
        y, backward = layer.forward(rng.standard_normal((N, 70, depth, 5, 6)).astype(np.float32))
        backward(np.ones_like(y))
        assert layer.parameters()["weight"]._sum().any() == (depth == 3)


@pytest.mark.parametrize(
    "kind", ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
)
def test_initial_weights_are_like_torch(kind: str) -> None:
    layer = getattr(fr, kind)(8, 12, 3, groups=2, rng=1)
    fan_in = np.prod(layer.weight.shape[1:])
    for values in (layer.weight, layer.bias):
        assert np.abs(values).max() <= 1 / np.sqrt(fan_in)
    assert np.abs(layer.weight).max() > 0.9 / np.sqrt(fan_in)
    assert not getattr(fr, kind)(8, 12, 3, weight_init="he").bias.any()


@pytest.mark.parametrize(("dilation", "groups", "kernel"), [(1, 1, 3), (3, 2, 2), (2, 6, 4), (1, 3, 1), (1, 1, 20)])
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_a_stream_equals_the_whole_sequence(
    dilation: int, groups: int, kernel: int, layout: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    for multiplier, batch in ((1, 1), (3, 2)):
        layer = fr.Conv1d(
            6, 6 * multiplier, kernel, padding="causal", dilation=dilation, groups=groups, layout=layout,
            activation="tanh", gain=True, dtype=dtype,
        )  # fmt: skip
        x = rng.standard_normal((batch, 6, 50)).astype(dtype)
        y = layer(x if layout == "NCL" else np.ascontiguousarray(x.transpose(0, 2, 1)))
        y = y if layout == "NCL" else y.transpose(0, 2, 1)
        stream = layer.stream(batch)
        layer.weight = np.zeros_like(layer.weight)  # the stream holds a snapshot
        assert_same_bits(np.stack([stream.step(x[:, :, t]).copy() for t in range(50)], axis=-1), y.copy())
        stream.reset()
        assert_same_bits(stream.step(np.ascontiguousarray(x[:, :, 0])).copy(), y[:, :, 0].copy())


def test_the_state_of_a_stream(rng: np.random.Generator) -> None:
    layer = fr.Conv1d(3, 4, 3, padding="causal", rng=1)
    x = rng.standard_normal((3, 20)).astype(np.float32)
    y = layer(x)
    stream = layer.stream()
    for t in range(19):
        assert stream.step(x[:, t]).shape == (4,)
    state = stream.state
    assert_same_bits(state, x[:, 17:19].T[None].copy())
    last = stream.step(x[:, 19]).copy()
    assert_same_bits(last, y[:, 19].copy())
    stream.reset(state)
    assert_same_bits(stream.step(x[:, 19]).copy(), last)
    with pytest.raises(ValueError, match="read-only"):
        stream.step(x[:, 19])[0] = 0
    with pytest.raises(ShapeError, match="'state' must have shape"):
        stream.reset(state[:, :1])
    with pytest.raises(ShapeError, match="'x' must have shape"):
        stream.step(x[:2, 0])


def test_only_causal_layers_stream() -> None:
    with pytest.raises(ArgumentError, match="Conv1d: a stream needs padding='causal'"):
        fr.Conv1d(3, 4, 3, padding=2).stream()
    with pytest.raises(ArgumentError, match="Conv1d: .* stride 1"):
        fr.Conv1d(3, 4, 3, 2, padding="causal").stream()


def test_layouts_agree(rng: np.random.Generator) -> None:
    first = fr.Conv2d(5, 7, 3, padding=1, rng=1)
    last = fr.Conv2d(5, 7, 3, padding=1, rng=1, layout="NHWC")
    x = rng.standard_normal((2, 5, 6, 7)).astype(np.float32)
    assert_same_bits(
        last(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), np.ascontiguousarray(first(x).transpose(0, 2, 3, 1))
    )


def test_errors_name_the_layer() -> None:
    for build, text in [
        (lambda: fr.Conv2d(3, 4, 3, groups=2), "Conv2d: 'groups' must divide 'in_channels'=3, got 2"),
        (lambda: fr.Conv2d(3, 4, (3, 3, 3)), "Conv2d: 'kernel_size' must be an int or 2 of them"),
        (lambda: fr.Conv2d(3, 4, 3, padding="causal"), "Conv2d: 'padding' can be 'causal' only"),
        (lambda: fr.Conv1d(3, 4, 3, activation="gelu"), "Conv1d: 'activation' must be one of"),
        (lambda: fr.Conv3d(3, 4, 3, layout="NHWC"), "Conv3d: 'layout' must be one of 'NCDHW', 'NDHWC'"),
        (lambda: fr.ConvTranspose2d(3, 4, 3, output_padding=2), "ConvTranspose2d: 'output_padding' must be less"),
        (lambda: fr.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "ConvTranspose2d: 'padding_mode' must be one of"),
    ]:
        with pytest.raises(ArgumentError) as caught:
            build()
        assert str(caught.value).startswith(text)
    with pytest.raises(ShapeError, match="Conv2d: 'x' must be at least as large as the kernel, which spans 3 x 3"):
        fr.Conv2d(3, 4, 3)(np.zeros((1, 3, 2, 9), np.float32))
    with pytest.raises(ShapeError, match=r"Conv2d: 'x' must have shape \(N, C=3, H, W\) or without N"):
        fr.Conv2d(3, 4, 3)(np.zeros((1, 9, 3, 9), np.float32))


def test_repr_shows_what_is_not_the_default() -> None:
    layer = fr.Conv2d(3, 4, 3, padding=1, activation="relu")
    assert repr(layer) == "Conv2d(in_channels=3, out_channels=4, kernel_size=(3, 3), padding=1, activation='relu')"
