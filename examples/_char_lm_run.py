"""A training run on disk: its settings, how far it is, and the file that lets it go on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeAlias, final

import numpy as np
from _char_lm_data import InputError
from numpy.typing import NDArray

__all__ = [
    "Arrays",
    "Point",
    "Progress",
    "Saved",
    "Settings",
    "StopRequest",
    "make_directory",
    "read_checkpoint",
    "write_checkpoint",
    "write_whole",
]

Arrays: TypeAlias = dict[str, NDArray[Any]]
# Seconds, characters and bits per character: a point of the loss curve.
Point: TypeAlias = tuple[float, int, float]


@dataclass(frozen=True)
class Settings:
    """What a run is; with `max_steps` its length is that number of steps instead of `seconds`."""

    level: str = "char"
    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    batch: int = 32
    steps: int = 64
    lr: float = 8e-3
    text: str | None = None
    seed: int = 0
    seconds: float = 60.0
    max_steps: int | None = None

    def changed(self, given: Mapping[str, Any], where: Path) -> Settings:
        """Return these settings with the given ones, of which only the length and the seed may differ."""
        for name in ("level", "cell", "layers", "hidden", "batch", "steps", "lr", "text"):
            if name in given and given[name] != getattr(self, name):
                raise InputError(
                    f"{where} holds a run with --{name} {getattr(self, name) or 'left out'}: "
                    "choose another --out, or start over with --fresh"
                )
        return self.merged(given)

    def merged(self, given: Mapping[str, Any]) -> Settings:
        """Return these settings with the given ones; a length in seconds replaces one in steps."""
        known = {entry.name for entry in fields(self)}
        values = asdict(self) | ({"max_steps": None} if "seconds" in given else {})
        return Settings(**(values | {name: value for name, value in given.items() if name in known}))


@dataclass
class Progress:
    """How far a run is. `fraction` is the part of it that was done when it was last looked at, 1 at its end."""

    step: int = 0
    seconds: float = 0.0
    fraction: float = 0.0
    validation_seconds: float = 0.0
    bits: float = 0.0
    best: float | None = None
    training: list[Point] = field(default_factory=list)
    validation: list[Point] = field(default_factory=list)

    def measure(self, settings: Settings) -> float:
        """Return the part of the run that is done; time for a last validation is kept back."""
        if settings.max_steps is not None:
            return min(1.0, self.step / settings.max_steps)
        return min(1.0, (self.seconds + self.validation_seconds) / settings.seconds)

    def finish_step(self, bits: float, seconds: float, characters: int) -> None:
        """Count a step over so many characters, and smooth its loss into `bits`.

        That is the mean of the first 20 steps, and from then on moves by a 20th of the way with each step.
        """
        self.step += 1
        self.seconds = seconds
        self.bits = self.bits + (bits - self.bits) * max(1 / self.step, 0.05)
        if self.step % 10 == 0:
            self.training.append((seconds, self.step * characters, self.bits))


class Saved(NamedTuple):
    """Everything a run needs to go on: `arrays` are its trainer's, `digest` is that of its text."""

    settings: Settings
    progress: Progress
    digest: str
    arrays: Arrays


def write_checkpoint(path: Path, saved: Saved) -> None:
    """Write what a run needs to go on."""
    record = {"settings": asdict(saved.settings), "progress": asdict(saved.progress), "digest": saved.digest}
    text = np.frombuffer(json.dumps(record).encode(), np.uint8)
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, record=text, **saved.arrays))


def read_checkpoint(path: Path) -> Saved | None:
    """Return what `write_checkpoint` wrote, or None if there is no such file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        record = json.loads(arrays.pop("record").tobytes())
        return Saved(Settings(**record["settings"]), Progress(**record["progress"]), record["digest"], arrays)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be used ({error}): start over with --fresh") from error


def make_directory(path: str) -> Path:
    """Make a directory unless it is there; fail now if nothing can be written in it."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from error
    return directory


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file in one step: whatever happens, either the old one or the whole new one is there."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@final
class StopRequest:
    """Within a ``with`` block Ctrl-C only sets `made`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> StopRequest:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)
