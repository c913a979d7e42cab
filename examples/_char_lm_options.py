"""The command line of the character language model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from _char_lm_run import Settings
from _command_line import Parser, above_zero, count, from_zero, whole

__all__ = ["make_parser"]


def make_parser(description: str | None, cells: Sequence[str]) -> Parser:
    """Return the parser. Of the settings of a run only those that are on the command line will be in its result."""
    usual = Settings()
    parser = Parser(description, argument_default=argparse.SUPPRESS)
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--data",
        "--text",
        dest="text",
        metavar="FILE",
        type=os.path.abspath,
        help="UTF-8 text instead of Python's help topics",
    )
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
    run.add_argument(
        "--threads", metavar="N", type=count, default=None, help="(default: OMP_NUM_THREADS, or all cores)"
    )

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
