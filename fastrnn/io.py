"""Models in files: safetensors, with the architecture as JSON in the metadata.

Reading a file never runs code from it. The format is read and written by the package safetensors, an optional extra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, TypeAlias

from numpy.typing import NDArray

from fastrnn.errors import ArgumentError, FileFormatError
from fastrnn.layers.layer import Layer, layer_from_config
from fastrnn.layers.parameter import Buffer

__all__ = ["load", "read_state_dict", "save"]

Path: TypeAlias = "str | os.PathLike[str]"

# The config of a model that a file cannot build.
NO_CONFIG = "null"


def save(model: Layer, path: Path) -> None:
    """Write a model's parameters, buffers and architecture to a file, which is complete or not there at all.

    Equal models give equal bytes.

    Models of classes of your own are written too; read them with `read_state_dict`.

    Parameters
    ----------
    model : Layer
    path : str or path

    Raises
    ------
    ArgumentError
        Not a layer.
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be written; one that was there before is unchanged.
    """
    safetensors = _safetensors()
    if not isinstance(model, Layer):
        raise ArgumentError(f"save: 'model' must be a Layer, got {type(model).__name__}")
    metadata = {"class": type(model).__name__, "config": NO_CONFIG}
    with suppress(ArgumentError):  # raised for classes of the user's own: their parameters alone are written
        metadata["config"] = json.dumps(model.config())
    shared = _shared_names(model)
    if shared:
        metadata["shared"] = json.dumps(shared)
    _write_whole(path, _ordered(safetensors.numpy.save(model.state_dict(), metadata)))


def load(path: Path) -> Layer:
    """Build the model that `save` wrote.

    Raises
    ------
    FileFormatError
        The file is truncated, damaged, or not from `save`.
    ArgumentError
        The model is of a class of your own, which a file cannot build.
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be read; FileNotFoundError if there is none.
    """
    arrays, metadata = _read(path)
    if not {"class", "config"} <= metadata.keys():
        raise FileFormatError(f"load: {os.fspath(path)!r} was not written by fastrnn.save")
    if metadata["config"] == NO_CONFIG:
        raise ArgumentError(
            f"load: {os.fspath(path)!r} holds a {metadata['class']} that only its own code can build: "
            "build it and call load_state_dict(fastrnn.io.read_state_dict(path))"
        )
    try:
        model = layer_from_config(json.loads(metadata["config"]))
        for alias, name in json.loads(metadata.get("shared", "{}")).items():
            _share(model, alias, model._state()[name])
        model.load_state_dict(arrays)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(f"load: {os.fspath(path)!r} does not describe a model: {error}") from error
    return model


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in a safetensors file by name, for `load_state_dict`.

    Raises
    ------
    FileFormatError
        The file is truncated, damaged, or no safetensors file of NumPy's types.
    ImportError
        safetensors is not installed.
    OSError
        The file cannot be read; FileNotFoundError if there is none.
    """
    return _read(path)[0]


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("saving and loading needs the package safetensors: pip install fastrnn[io]") from error
    return safetensors


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], Mapping[str, str]]:
    """Return the arrays and the metadata of a safetensors file."""
    safetensors = _safetensors()
    with open(path, "rb") as file:
        content = file.read()
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
        # The header, which safetensors has accepted, is JSON after its length in 8 bytes.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"load: {os.fspath(path)!r} is truncated, damaged, or no safetensors file: {error}"
        raise FileFormatError(message) from error
    return arrays, header.get("__metadata__", {})


def _ordered(content: bytes) -> bytes:
    """Return a safetensors file with the metadata, which come in any order, in that of their names."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def _write_whole(path: Path, content: bytes) -> None:
    """Replace the file at `path` in one step, once `content` is on disk."""
    target = os.path.realpath(path)
    draft = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def _shared_names(model: Layer) -> dict[str, str]:
    """Return the further names of shared parameters and buffers, with the first name of each."""
    first = {value: name for name, value in model._state().items()}
    return {name: first[value] for name, value in model._all_names() if first[value] != name}


def _share(model: Layer, alias: str, parameter: Buffer) -> None:
    """Make `parameter` also the one called `alias`."""
    *way, last = alias.split(".")
    layer = model
    for name in way:
        layer = dict(layer._children())[name]
    setattr(layer, last, parameter)
