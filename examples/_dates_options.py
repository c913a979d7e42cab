"""The command line of the translator."""

from __future__ import annotations

import argparse

from _char_lm_options import Parser, above_zero, count, whole

import fastrnn as fr

__all__ = ["make_parser"]

LANGUAGES = [  # of both tasks, unless others are named
    *("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi", "pl", "cs", "hu", "ro"),
    *("tr", "el", "ru", "uk", "bg", "ar", "he", "fa", "hi", "th", "vi", "id", "ja", "ko", "zh"),
]


def make_parser(description: str) -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--task", choices=["dates", "names"], default="dates", help="what to translate (default: %(default)s)")
    add(
        "--languages", metavar="CODE", nargs="+", default=LANGUAGES, help="to read; all for every one (default: thirty)"
    )
    add("--to", metavar="CODE", default="en", help="language of the names written (default: %(default)s)")
    add("--data", metavar="FILE", help="lines with a text, a tab and its translation, instead of a task")
    add("--pairs", metavar="N", type=count, default=20_000, help="dates to train on (default: %(default)s)")
    add("--epochs", metavar="N", type=count, help="passes over the pairs (default: 5 of dates, 10 of others)")
    add("--hidden", metavar="N", type=count, default=96, help="units of encoder and decoder (default: %(default)s)")
    add("--batch", metavar="N", type=count, default=64, help="pairs in a step (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=3e-3, help="highest learning rate (default: %(default)s)")
    add("--seed", metavar="N", type=whole, default=1, help="of weights and pairs (default: %(default)s)")
    add("--threads", metavar="N", type=count, default=fr.get_num_threads(), help="default here: %(default)s")
    add("--out", metavar="DIR", default="dates_run", help="directory of the picture (default: %(default)s)")
    add("--peer", choices=["torch"], help="train the identical model with PyTorch too")
    return parser
