"""The command line of the character language model."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from typing import NoReturn

from _char_lm_run import Settings

__all__ = ["Parser", "make_parser"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def make_parser(description: str, cells: Sequence[str]) -> Parser:
    """Return the parser. Of the settings of a run only those that are on the command line will be in its result."""
    usual = Settings()
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--text", metavar="FILE", type=os.path.abspath, help="UTF-8 text instead of Python's help topics")
    run.add_argument("--out", metavar="DIR", default="char_lm_run", help="directory of the run (default: %(default)s)")
    run.add_argument("--fresh", action="store_true", default=False, help="start over instead of going on in --out")
    length = run.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", metavar="S", type=above_zero, help=f"time for training and validation (default: {usual.seconds:g})"
    )
    length.add_argument(
        "--max-steps", metavar="N", type=count, help="train for so many batches instead: the result is then repeatable"
    )
    run.add_argument("--seed", metavar="N", type=whole, help=f"of the weights and the text written ({usual.seed})")

    model = parser.add_argument_group("the model and its training, fixed once a run has begun")
    model.add_argument("--level", choices=["char", "word"], help=f"what a token is (default: {usual.level})")
    model.add_argument("--cell", choices=cells, help=f"recurrent layer (default: {usual.cell})")
    model.add_argument("--layers", metavar="N", type=count, help=f"how many (default: {usual.layers})")
    model.add_argument("--hidden", metavar="N", type=count, help=f"units in each (default: {usual.hidden})")
    model.add_argument("--batch", metavar="N", type=count, help=f"readers side by side (default: {usual.batch})")
    model.add_argument("--steps", metavar="N", type=count, help=f"characters or words a batch (default: {usual.steps})")
    model.add_argument("--lr", metavar="R", type=above_zero, help=f"highest learning rate (default: {usual.lr:g})")

    text = parser.add_argument_group("the text written")
    text.add_argument("--prompt", metavar="TEXT", default="The ", help="its beginning (default: %(default)r)")
    text.add_argument(
        "--length", metavar="N", type=whole, default=500, help="characters or words (default: %(default)s)"
    )
    text.add_argument(
        "--temperature",
        metavar="T",
        type=from_zero,
        default=0.7,
        help="0 always takes the likeliest character, 1 draws as the model predicts, more dares more "
        "(default: %(default)s)",
    )

    peer = parser.add_argument_group("comparison: nothing is saved but the curves")
    peer.add_argument("--peer", choices=["torch"], default=None, help="train the identical model with PyTorch too")
    peer.add_argument("--peer-steps", metavar="N", type=count, default=300, help="batches (default: %(default)s)")
    return parser


def whole(text: str) -> int:
    """Return a whole number from 0 on."""
    return _integer(text, 0)


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    return _integer(text, 1)


def above_zero(text: str) -> float:
    """Return a number above 0."""
    value = from_zero(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def from_zero(text: str) -> float:
    """Return a number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, got {text!r}")
    return value


def _integer(text: str, least: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to 999999999, got {text!r}")
    return value
