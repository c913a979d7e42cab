"""Models in files: what comes back, and what happens to files that are broken."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, FileFormatError

safetensors = pytest.importorskip("safetensors.numpy")


def model() -> fr.Sequential:
    return fr.Sequential(fr.Embedding(7, 4, rng=0), fr.LSTM(4, 3, 2, dropout=0.25, rng=1), fr.Linear(3, 7, rng=2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a saved model."""
    path = tmp_path / "model.safetensors"
    fr.save(model(), path)
    return path


def test_round_trip(path: Path) -> None:
    loaded = fr.load(path)
    assert repr(loaded) == repr(model())
    state = model().state_dict()
    for name, array in loaded.state_dict().items():
        assert_array_equal(array, state[name])


def test_equal_models_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    tied = fr.Sequential(fr.Linear(3, 3), fr.BatchNorm1d(3), fr.Linear(3, 3))
    tied[2].weight = tied[0].parameters()["weight"]  # type: ignore[index]
    for one, kind in ((model(), "plain"), (tied, "shared")):
        files = [tmp_path / f"{kind} {number}" for number in range(8)]
        for file in files:
            fr.save(one, file)
        assert len({file.read_bytes() for file in files}) == 1, kind
    fr.save(fr.load(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_paths_may_be_text(path: Path) -> None:
    fr.save(model(), str(path))
    assert repr(fr.load(str(path))) == repr(model())


def test_a_loaded_model_trains(path: Path) -> None:
    loaded: Any = fr.load(path)
    logits, backward = loaded.forward([[1, 2], [3, 4]])
    backward(fr.cross_entropy(logits, np.array([[2, 3], [4, 5]]))[1])
    fr.Adam(loaded).step()
    assert not np.array_equal(loaded.state_dict()["0.weight"], model().state_dict()["0.weight"])


def test_other_programs_can_read_it(path: Path) -> None:
    arrays = safetensors.load_file(path)
    assert arrays.keys() == model().state_dict().keys()


def test_arrays_alone(path: Path) -> None:
    other = fr.Sequential(fr.Embedding(7, 4), fr.LSTM(4, 3, 2), fr.Linear(3, 7))
    other.load_state_dict(fr.io.read_state_dict(path))
    assert_array_equal(other.state_dict()["2.weight"], model().state_dict()["2.weight"])


def test_foreign_arrays_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.save_file({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}, path)
    layer = fr.Linear(3, 2)
    layer.load_state_dict(fr.io.read_state_dict(path))
    assert (layer.weight == 1).all()
    with pytest.raises(FileFormatError, match=r"was not written by fastrnn\.save"):
        fr.load(path)


def test_shared_parameters_stay_shared(tmp_path: Path) -> None:
    tied = fr.Sequential(fr.Embedding(7, 4), fr.Sequential(fr.GRU(4, 4), fr.Linear(4, 7)))
    tied[1][1].weight = tied[0].parameters()["weight"]  # type: ignore[index]
    fr.save(tied, tmp_path / "tied")
    loaded: Any = fr.load(tmp_path / "tied")
    assert list(loaded.parameters()) == list(tied.parameters())
    loaded[0].weight = np.zeros((7, 4), np.float32)
    assert not loaded[1][1].weight.any()


def test_models_of_ones_own(tmp_path: Path) -> None:
    class Encoder(fr.GRU):
        """A layer that only its own code can build."""

    path = tmp_path / "model"
    for layer in (Encoder(2, 3, rng=0), fr.Sequential(fr.Linear(2, 2), Encoder(2, 3))):
        fr.save(layer, path)
        with pytest.raises(ArgumentError, match=f"holds a {type(layer).__name__} that only its own code can build"):
            fr.load(path)
        arrays = fr.io.read_state_dict(path)
        assert arrays.keys() == layer.state_dict().keys()
        layer.load_state_dict(arrays)


def test_saving_replaces_in_one_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        fr.save(fr.Linear(2, 2), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_saving_through_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    fr.save(fr.Linear(2, 2), link)
    assert link.is_symlink()
    assert repr(fr.load(path)).startswith("Linear")


def test_files_have_the_usual_permissions(path: Path) -> None:
    plain = path.with_name("plain")
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 20, 0.3, 0.6, 0.99, -1])
def test_truncated_files(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    for read in (fr.load, fr.io.read_state_dict):
        with pytest.raises(FileFormatError, match=r"model\.safetensors' is truncated, damaged, or no safetensors file"):
            read(path)


@pytest.mark.parametrize(
    "content", [b"text", b"\x80\x04K\x01.", b"\xff" * 100, b"\x00" * 100, b"PK\x03\x04" + b"0" * 50]
)
def test_other_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        fr.load(path)


def test_damaged_headers(path: Path) -> None:
    """Whatever byte of the header is lost, the answer is a model or a `FileFormatError`."""
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    for position in range(0, 8 + header, 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x15]) + content[position + 1 :])
        with suppress(FileFormatError):
            fr.load(path)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"class": "Linear"}, {"config": "{}"}])
def test_metadata_of_others(metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "file"
    safetensors.save_file({"weight": np.ones((2, 2), np.float32)}, path, metadata)
    with pytest.raises(FileFormatError, match=r"was not written by fastrnn\.save"):
        fr.load(path)


LINEAR = fr.Linear(2, 2, bias=False).config()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("{", "Expecting property name"),
        ("[]", "'config' must have a type"),
        ({"type": "os.system"}, "'config' must have a type out of .*LSTM.*, got 'os.system'"),
        ({"type": "Linear"}, "in_features"),
        ({"type": "Sequential"}, "layers"),
        ({"type": "Sequential", "layers": 3}, "not iterable"),
        ({**LINEAR, "bias": True}, "missing: bias"),
        ({**LINEAR, "in_features": 3}, r"must have shape \(2, 3\), got \(2, 2\)"),
        ({**LINEAR, "in_features": -3}, "'in_features' must be a positive int, got -3"),
        ({**LINEAR, "more": 1}, "more"),
    ],
)
def test_configs_that_do_not_fit(config: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    metadata = {"class": "Linear", "config": config if isinstance(config, str) else json.dumps(config)}
    safetensors.save_file({"weight": np.ones((2, 2), np.float32)}, path, metadata)
    with pytest.raises(FileFormatError, match=f"(?s)does not describe a model: .*{text}"):
        fr.load(path)


def test_shared_names_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    metadata = {"class": "Linear", "config": json.dumps(LINEAR), "shared": '{"x": "y"}'}
    safetensors.save_file({"weight": np.ones((2, 2), np.float32)}, path, metadata)
    with pytest.raises(FileFormatError, match="does not describe a model"):
        fr.load(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fr.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        fr.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fr.save(model(), tmp_path / "nowhere" / "file")


def test_only_layers_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="save: 'model' must be a Layer, got dict"):
        fr.save({}, tmp_path / "file")  # type: ignore[arg-type]
    assert not os.listdir(tmp_path)


def test_without_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: fr.save(model(), path), lambda: fr.load(path)):
        with pytest.raises(ImportError, match=r"pip install fastrnn\[io\]"):
            call()
