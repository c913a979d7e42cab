"""A training run on disk: its settings, how far it is, and the file that lets it go on after an interruption."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeAlias

import numpy as np
from _char_lm_data import Batches, Corpus, IntArray
from _command_line import InputError, make_directory
from _progress import ProgressBar, StopRequest, clock
from _training import learning_rate
from numpy.typing import NDArray

import fastrnn as fr

__all__ = [
    "Arrays",
    "Point",
    "Progress",
    "Run",
    "Saved",
    "Settings",
    "read_checkpoint",
    "write_checkpoint",
    "write_whole",
]

VALIDATIONS = 10  # in a run
SAVE_EVERY = 60  # seconds, and whenever there was a validation

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

    def curves(self) -> dict[str, list[Point]]:
        """Return the loss curves."""
        return {"training, smoothed": self.training, "validation": self.validation}

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


class Trainer(Protocol):
    """A model, what it takes to train it, and the state that it carries from batch to batch."""

    model: fr.Sequential

    def step(self, tokens: IntArray, targets: IntArray, lr: float) -> float:
        """Learn from one batch (T, N); return its loss in bits per character."""

    def validate(self, text: IntArray) -> float:
        """Return the bits per character on a text."""

    def arrays(self) -> Arrays:
        """Return everything that changes in training, for a checkpoint."""

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` returned."""


Prepare: TypeAlias = Callable[[Settings], tuple[Corpus, Batches, Trainer]]


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


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file in one step: whatever happens, either the old one or the whole new one is there."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class Run:
    """A training run in its directory, new or going on."""

    def __init__(self, options: argparse.Namespace, prepare: Prepare) -> None:
        self.out = Path(options.out)
        self.checkpoint, self.best = self.out / "checkpoint.npz", self.out / "best.safetensors"
        saved = None if options.fresh else read_checkpoint(self.checkpoint)
        self.settings = saved.settings.changed(vars(options), self.out) if saved else Settings().merged(vars(options))
        self.progress = saved.progress if saved else Progress()
        self.corpus, self.batches, self.trainer = prepare(self.settings)
        if saved and saved.digest != self.corpus.digest:
            raise InputError(f"the text is not the one {self.out} was trained on: start over with --fresh")
        if saved:
            try:
                self.trainer.restore(saved.arrays)
            except fr.errors.StateDictError as error:
                raise InputError(f"{self.checkpoint} does not fit this version: start over with --fresh") from error
        make_directory(options.out)
        tokens = json.dumps(list(self.corpus.vocabulary.tokens))
        write_whole(self.out / "vocabulary.json", lambda file: file.write(tokens.encode()))
        self._begin = 0.0

    def is_over(self) -> bool:
        """Return whether a run that goes on has nothing left to do."""
        return min(self.progress.fraction, self.progress.measure(self.settings)) == 1

    def train(self) -> bool:
        """Train until the run is over or Ctrl-C is pressed, save, and return whether it is over."""
        progress, settings = self.progress, self.settings
        first_step, busy, speed = progress.step, 0.0, 0.0
        saved = time.perf_counter()
        self._begin = saved - progress.seconds
        with StopRequest() as stop, ProgressBar() as bar:
            while not stop.made:
                fraction = progress.measure(settings)
                if int(VALIDATIONS * fraction) > int(VALIDATIONS * min(progress.fraction, fraction)):
                    bar.say(self.validate())
                progress.fraction = fraction
                if fraction == 1:
                    bar.show(1.0, self._line(speed))
                    break
                tokens, targets = self.batches[progress.step]
                start = time.perf_counter()
                bits = self.trainer.step(tokens, targets, learning_rate(settings.lr, progress.step, fraction))
                now = time.perf_counter()
                if not math.isfinite(bits):
                    sys.exit(
                        f"the loss became {bits} at step {progress.step}: start over with --fresh and a lower --lr"
                    )
                busy += now - start
                progress.finish_step(bits, now - self._begin, self.batches.characters)
                speed = (progress.step - first_step) * self.batches.characters / busy
                bar.show(fraction, self._line(speed))
                if now - saved > SAVE_EVERY:
                    self.save()
                    saved = now
            self.save()
        return not stop.made

    def validate(self) -> str:
        """Measure the model on the validation text, save it if it is the best so far, and return a line about it."""
        progress, start = self.progress, time.perf_counter()
        bits = self.trainer.validate(self.corpus.validation)
        best = progress.best is None or bits < progress.best
        if best:
            fr.save(self.trainer.model, self.best)
            progress.best = bits
        progress.seconds = time.perf_counter() - self._begin
        progress.validation.append((progress.seconds, progress.step * self.batches.characters, bits))
        self.save()
        progress.validation_seconds = time.perf_counter() - start
        return f"validation {bits:.3f} bits/{self.settings.level} after {clock(progress.seconds)}{', the best so far' * best}"

    def save(self) -> None:
        """Write the checkpoint."""
        saved = Saved(self.settings, self.progress, self.corpus.digest, self.trainer.arrays())
        write_checkpoint(self.checkpoint, saved)

    def _line(self, speed: float) -> str:
        """Return what the progress bar says; `speed` is in characters per second."""
        progress, settings, level = self.progress, self.settings, self.settings.level
        left = settings.seconds - progress.seconds
        if settings.max_steps is not None:
            left = (settings.max_steps - progress.step) * self.batches.characters / max(speed, 1)
        return f"{progress.bits:.3f} bits/{level}  {speed / 1000:.1f}k {level}/s  {clock(max(left, 0))} left"

    def summary(self) -> str:
        """Return a line about what was reached."""
        progress, level = self.progress, self.settings.level
        read = progress.step * self.batches.characters
        best = "not validated yet" if progress.best is None else f"best validation {progress.best:.3f} bits/{level}"
        return f"{best}; {progress.step:,} steps, {read:,} {level}s in {progress.seconds:.1f} s"
