"""Fused models predict what their originals do, with fewer layers, and share nothing with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array
from tolerances import assert_same_bits

import fastrnn as fr

SHAPES = {1: (2, 4, 9), 2: (2, 4, 7, 6), 3: (1, 4, 4, 5, 3)}
CONVS = {1: fr.Conv1d, 2: fr.Conv2d, 3: fr.Conv3d}
TRANSPOSED = {1: fr.ConvTranspose1d, 2: fr.ConvTranspose2d, 3: fr.ConvTranspose3d}
NORMS = {1: fr.BatchNorm1d, 2: fr.BatchNorm2d, 3: fr.BatchNorm3d}


class Rectifier(fr.Layer):
    """A layer that does what an activation of other layers does."""

    fused_activation = "relu"

    def __call__(self, x: Any) -> Any:
        """Return max(x, 0)."""
        return np.maximum(x, 0)


def stirred(model: Any, rng: np.random.Generator) -> Any:
    """Return the model with random parameters and statistics."""
    for values in (model.parameters(), model.buffers()):
        for value in values.values():
            if value.dtype.kind == "f":
                value.assign(rng.uniform(0.3, 1.5, value.shape).astype(value.dtype))
    return model


def assert_fuses(model: Any, x: Array, layers: int, rng: np.random.Generator) -> Any:
    """Assert that a fused model predicts the same from so many layers; return it."""
    state = stirred(model, rng).state_dict()
    wanted = model(x)
    fused = model.fuse()
    assert type(fused) is type(model)
    assert len(list(fused)) == layers
    np.testing.assert_allclose(fused(x), wanted, rtol=1e-11, atol=1e-11)
    stirred(fused, rng)
    assert_same_bits(model.state_dict(), state)
    return fused


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("S", [1, 2, 3])
def test_convolutions(S: int, bias: bool, affine: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPES[S])
    for conv in (
        CONVS[S](4, 6, 3, padding=1, groups=2, bias=bias, flip=True, dtype=float),
        TRANSPOSED[S](4, 6, 3, stride=2, groups=2, bias=bias, dtype=float),
    ):
        norm = NORMS[S](6, eps=0.1, affine=affine, dtype=float)
        fused = assert_fuses(fr.Sequential(conv, norm, Rectifier()), x, 1, rng)
        assert fused[0].activation == "relu"


def test_dense_and_channels_last(rng: np.random.Generator) -> None:
    dense = fr.Sequential(fr.Linear(4, 5, dtype=float), fr.BatchNorm1d(5, dtype=float), fr.Linear(5, 2, dtype=float))
    assert_fuses(dense, rng.standard_normal((6, 4)), 2, rng)
    last = fr.Sequential(fr.Conv2d(4, 3, 2, layout="NHWC", dtype=float), fr.BatchNorm2d(3, layout="NHWC", dtype=float))
    assert_fuses(last, rng.standard_normal((2, 5, 4, 4)), 1, rng)


def test_what_cannot_be_fused_stays(rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPES[2])

    def norm(**options: Any) -> fr.Layer:
        return fr.BatchNorm2d(4, **{"dtype": float, **options})

    def conv(**options: Any) -> fr.Layer:
        return fr.Conv2d(4, 4, 1, **{"dtype": float, **options})

    for layers in (
        [conv(activation="tanh"), norm()],
        [conv(gain=True), norm()],
        [conv(), norm(track_running_stats=False)],
        [conv(activation="tanh"), Rectifier()],
        [conv(gain=True), Rectifier()],
        [norm(), conv()],
        [norm(), norm()],
        [Rectifier(), norm()],
    ):
        assert_fuses(fr.Sequential(*layers), x, 2, rng)
    assert_fuses(fr.Sequential(fr.BatchNorm2d(4, dtype=float)), x, 1, rng)


def test_chains_and_shared_layers(rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPES[2])
    conv, norm = fr.Conv2d(4, 4, 1, dtype=float), fr.BatchNorm2d(4, dtype=float)
    model = fr.Sequential(conv, norm, fr.BatchNorm2d(4, dtype=float), Rectifier(), conv, conv, norm, norm)
    assert_fuses(model, x, 3, rng)


class Branches(fr.Layer):
    """Layers in attributes, lists and dicts of a model of the user's own."""

    def __init__(self) -> None:
        self.whole = fr.Sequential(fr.Conv2d(4, 3, 1, dtype=float), fr.BatchNorm2d(3, dtype=float))
        self.parts = {
            "a": [fr.Sequential(fr.Sequential(fr.Conv2d(3, 3, 1, dtype=float)), fr.BatchNorm2d(3, dtype=float))]
        }
        self.conv, self.norm = fr.Conv2d(3, 2, 1, dtype=float), fr.BatchNorm2d(2, dtype=float)
        self.sizes = [1, 2]

    def __call__(self, x: Any) -> Any:
        """Run all of them."""
        return self.norm(self.conv(self.parts["a"][0](self.whole(x))))


def test_models_of_the_users_own(rng: np.random.Generator) -> None:
    model, x = stirred(Branches(), rng), rng.standard_normal(SHAPES[2])
    fused: Any = model.fuse()
    np.testing.assert_allclose(fused(x), model(x), rtol=1e-11)
    assert len(fused.whole) == 1
    assert len(model.whole) == len(fused.parts["a"][0]) == 2  # a layer and the last one of a Sequential stay apart
    assert isinstance(fused.norm, fr.BatchNorm2d)
    assert fused.sizes == [1, 2]


def test_fused_models_are_written_to_files(rng: np.random.Generator, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    model = stirred(fr.Sequential(fr.Conv2d(4, 3, 3), fr.BatchNorm2d(3)), rng)
    x = rng.standard_normal(SHAPES[2]).astype(np.float32)
    fused = model.fuse()
    np.testing.assert_allclose(fused(x), model(x), rtol=2e-5, atol=2e-5)
    fr.save(fused, tmp_path / "fused.safetensors")
    assert_same_bits(fr.load(tmp_path / "fused.safetensors")(x), fused(x))
