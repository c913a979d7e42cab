"""The command line of the examples: options that all of them have, kinds of numbers, errors in one line."""

from __future__ import annotations

import argparse
import importlib
import io
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import fastrnn as fr

__all__ = [
    "INTERRUPTED",
    "InputError",
    "Parser",
    "above_zero",
    "at_least",
    "count",
    "from_zero",
    "make_directory",
    "probability",
    "require",
    "run_command",
    "whole",
]

INTERRUPTED = 130  # exit code after Ctrl-C

NAMES = {"PIL": "pillow", "babel": "Babel", "sklearn": "scikit-learn"}  # of packages that are imported by another one
EXTRA = 'pip install "fastrnn[examples]"'


class InputError(Exception):
    """What the user gave cannot be used; the message is one line for them."""


class Parser(argparse.ArgumentParser):
    """A parser that prints a script's docstring as help, and errors as one line."""

    def __init__(self, description: str | None, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")

    def add_common(self, out: str, *, seed: int = 0, threads: int | None = None) -> None:
        """Add the options that all examples have, with these defaults."""
        add = self.add_argument
        add("--out", metavar="DIR", default=out, help="directory for the results (default: %(default)s)")
        add("--seed", metavar="N", type=whole, default=seed, help="of all that is random (default: %(default)s)")
        usual = "as OMP_NUM_THREADS says, or all cores" if threads is None else "%(default)s"
        add("--threads", metavar="N", type=count, default=threads, help=f"(default: {usual})")
        add("--peer", choices=["torch"], help="train the same model in PyTorch too: same weights, same batches")


def run_command(
    parser: Parser, run: Callable[[argparse.Namespace], int | None], arguments: Sequence[str] | None
) -> int:
    """Run a script with the arguments of its command line; return the exit code."""
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character gets "?"
    try:
        _set_threads(options)
        return run(options) or 0
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has enough of it, as `head` may; exit without a second error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _set_threads(options: argparse.Namespace) -> None:
    """Let fastrnn, and with --peer PyTorch, use as many threads as were asked for."""
    if options.threads:
        fr.set_num_threads(options.threads)
    if options.peer:
        require("torch").set_num_threads(fr.get_num_threads())


def require(module: str) -> Any:
    """Return a module, imported now; if it is not installed, say how to do that."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".", maxsplit=1)[0]
        how = "pip install torch" if package == "torch" else EXTRA
        raise InputError(f"{NAMES.get(package, package)} is not installed: {how}") from error


def make_directory(path: str) -> Path:
    """Make a directory unless it is there; fail now if nothing can be written in it."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from error
    return directory


def whole(text: str) -> int:
    """Return a whole number from 0 on."""
    return _integer(text, 0)


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    return _integer(text, 1)


def at_least(least: int) -> Callable[[str], int]:
    """Return a function that returns a whole number from `least` on."""

    def number(text: str) -> int:
        value = whole(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def from_zero(text: str) -> float:
    """Return a number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, got {text!r}")
    return value


def above_zero(text: str) -> float:
    """Return a number above 0."""
    value = from_zero(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def probability(text: str) -> float:
    """Return a number from 0 to below 1."""
    value = from_zero(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"must be below 1, got {text}")
    return value


def _integer(text: str, least: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to 999999999, got {text!r}")
    return value
