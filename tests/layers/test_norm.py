"""Normalising layers as in PyTorch: statistics, state dicts, options, errors; buffers and their door."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, ShapeError, StateDictError

SHAPES = {"BatchNorm1d": (6, 4, 5), "BatchNorm2d": (3, 4, 2, 5), "BatchNorm3d": (2, 4, 2, 3, 2)}


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("kind", SHAPES)
def test_batch_norm_as_in_torch(kind: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(4, **options, dtype=torch.float64)
    ours = getattr(fr, kind)(4, **options, dtype=float)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(3):
        x, dy = rng.standard_normal((2, *SHAPES[kind]))
        tensor = torch.tensor(x, requires_grad=True)
        wanted = theirs(tensor)
        wanted.backward(torch.tensor(dy))
        y, backward = ours.forward(x)
        assert_close("norm_forward", y, wanted.detach().numpy())
        assert_close("norm_vjp", backward(dy), tensor.grad.numpy())
    for name, value in theirs.state_dict().items():
        assert_close("norm_forward", np.asarray(ours.state_dict()[name], float), value.numpy().astype(float))
    for name, value in theirs.named_parameters():
        assert_close("norm_vjp", ours.parameters()[name].grad, value.grad.numpy())
    theirs.eval()
    assert_close("norm_forward", ours(x), theirs(torch.tensor(x)).detach().numpy())
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})


def test_vectors_and_signals(rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 4))
    for layout in (None, "NLC"):
        norm = fr.BatchNorm1d(4, layout=layout, dtype=float)
        y, _ = norm.forward(x)
        np.testing.assert_allclose(y.var(0), 1, rtol=1e-4)
        signals = x[:, None] if layout else x[..., None]
        np.testing.assert_allclose(norm.forward(signals)[0].reshape(6, 4), y, rtol=1e-12)


def test_statistics_do_not_depend_on_the_layout(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5, 6, 4))
    last, first = fr.BatchNorm2d(4, layout="NHWC", dtype=float), fr.BatchNorm2d(4, dtype=float)
    y = np.moveaxis(first.forward(np.moveaxis(x, -1, 1))[0], 1, -1)
    assert_close("norm_forward", last.forward(x)[0], y)
    assert_close("norm_forward", last.state_dict()["running_var"], first.state_dict()["running_var"])


def test_one_value_for_each_channel_is_refused_and_changes_nothing() -> None:
    norm = fr.BatchNorm1d(3)
    before = norm.state_dict()
    with pytest.raises(ShapeError, match="BatchNorm1d: 'x' must have at least two values for each channel, got"):
        norm.forward(np.ones((1, 3), np.float32))
    assert all(np.array_equal(value, before[name]) for name, value in norm.state_dict().items())
    assert norm(np.ones((1, 3), np.float32)).shape == (1, 3)


def test_buffers_have_one_door() -> None:
    norm: Any = fr.BatchNorm1d(3)
    assert list(norm.buffers()) == ["running_mean", "running_var", "num_batches_tracked"]
    assert list(norm.parameters()) == ["weight", "bias"]
    with pytest.raises(ValueError, match="read-only"):
        norm.running_mean[0] = 1
    norm.running_mean = np.arange(3, dtype=np.float32)
    assert_array_equal(norm.running_mean, [0, 1, 2])
    assert norm.buffers()["running_mean"].version == 1
    with norm.buffers()["num_batches_tracked"].edit() as count:
        count += 2
    assert norm.num_batches_tracked == 2
    assert norm.num_parameters() == 6
    with pytest.raises(ShapeError, match="BatchNorm1d: 'running_mean' must have shape"):
        norm.running_mean = np.zeros(4, np.float32)
    with pytest.raises(DTypeError, match="BatchNorm1d: 'num_batches_tracked' must have dtype int64"):
        norm.num_batches_tracked = np.float32(3)
    with pytest.raises(ShapeError, match="must be like Buffer"):
        norm.running_mean = fr.Parameter(np.zeros(3, np.float32))
    with pytest.raises(DTypeError, match="Buffer: 'value' must have dtype float32, float64 or int64, got"):
        fr.Buffer(np.zeros(3, np.int8))
    assert {"weight", "running_mean"} <= set(dir(norm))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_have_buffers_of_their_own(duplicate: Any, rng: np.random.Generator) -> None:
    norm: Any = fr.BatchNorm1d(3, dtype=float)
    norm.forward(rng.standard_normal((5, 3)))
    other = duplicate(norm)
    assert_array_equal(other.running_mean, norm.running_mean)
    assert other.num_batches_tracked == 1
    other.forward(rng.standard_normal((5, 3)))
    assert (other.num_batches_tracked, norm.num_batches_tracked) == (2, 1)
    assert (other.running_mean != norm.running_mean).all()


def test_state_dicts_say_what_does_not_fit() -> None:
    norm = fr.BatchNorm1d(3)
    state = norm.state_dict()
    state["num_batches_tracked"] = np.array(1.5)
    del state["running_var"]
    with pytest.raises(
        StateDictError, match=r"(?s)'num_batches_tracked' must have an integer dtype.*missing: running_var"
    ):
        norm.load_state_dict(state)


def test_a_layer_used_twice_shares_its_statistics(rng: np.random.Generator, tmp_path: Any) -> None:
    norm = fr.BatchNorm1d(3, dtype=float)
    model: Any = fr.Sequential(norm, fr.Linear(3, 3, dtype=float), norm)
    model.forward(rng.standard_normal((5, 3)))
    assert norm.num_batches_tracked == 2
    assert [name for name in model.state_dict() if "running" in name] == ["0.running_mean", "0.running_var"]
    pytest.importorskip("safetensors")
    fr.save(model, tmp_path / "model.safetensors")
    loaded: Any = fr.load(tmp_path / "model.safetensors")
    assert_array_equal(loaded[2].running_mean, norm.running_mean)
    loaded[0].running_mean = np.zeros(3)
    assert not loaded[2].running_mean.any()


def test_layer_and_group_norm_take_pytorchs_options() -> None:
    torch = pytest.importorskip("torch")
    for ours, theirs in (
        (fr.LayerNorm((3, 4)), torch.nn.LayerNorm((3, 4))),
        (fr.LayerNorm(4, bias=False), torch.nn.LayerNorm(4, bias=False)),
        (fr.LayerNorm([4], 0.1, elementwise_affine=False), torch.nn.LayerNorm([4], 0.1, elementwise_affine=False)),
        (fr.GroupNorm(2, 4), torch.nn.GroupNorm(2, 4)),
        (fr.GroupNorm(2, 4, 0.1, affine=False), torch.nn.GroupNorm(2, 4, 0.1, affine=False)),
    ):
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert ours.eps == theirs.eps
        ours.load_state_dict(theirs.state_dict())


def test_bad_options() -> None:
    for build, message in (
        (lambda: fr.BatchNorm1d(0), "BatchNorm1d: 'num_features' must be a positive int, got 0"),
        (lambda: fr.BatchNorm2d(3, momentum=2), r"BatchNorm2d: 'momentum' must be a finite number in \[0, 1\], got 2"),
        (lambda: fr.BatchNorm2d(3, eps=-1), "BatchNorm2d: 'eps' must be a finite number >= 0, got -1"),
        (lambda: fr.BatchNorm3d(3, layout="NHWC"), "BatchNorm3d: 'layout' must be one of 'NCDHW', 'NDHWC', got 'NHWC'"),
        (lambda: fr.LayerNorm(0), "LayerNorm: 'normalized_shape' must be a positive int, got 0"),
        (lambda: fr.GroupNorm(3, 4), "GroupNorm: 'num_groups' must divide 'num_channels'=4, got 3"),
        (lambda: fr.GroupNorm(2, 4, layout="CN"), "GroupNorm: 'layout' must be one of"),
    ):
        with pytest.raises(ArgumentError, match=message):
            build()


def test_bad_input() -> None:
    x = np.zeros((2, 4, 3), np.float32)
    for layer, message in (
        (fr.BatchNorm1d(5), r"BatchNorm1d: 'x' must have shape \(N, C=5, L\) or \(N, C=5\), got \(2, 4, 3\)"),
        (fr.BatchNorm2d(4), r"BatchNorm2d: 'x' must have shape \(N, C=4, H, W\), got \(2, 4, 3\)"),
        (fr.BatchNorm1d(4, layout="NLC"), r"BatchNorm1d: 'x' must have shape \(N, L, C=4\) or \(N, C=4\), got"),
        (fr.LayerNorm(4), r"LayerNorm: 'x' must have shape \(..., 4\), got \(2, 4, 3\)"),
        (fr.GroupNorm(1, 5), r"GroupNorm: 'x' must have shape \(N, C=5, ...\), got \(2, 4, 3\)"),
        (fr.GroupNorm(1, 4, layout="NHWC"), r"GroupNorm: 'x' must have shape \(N, H, W, C=4\), got \(2, 4, 3\)"),
    ):
        for call in (layer, layer.forward):
            with pytest.raises(ShapeError, match=message):
                call(x)
