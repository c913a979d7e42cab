"""ABC notation for the music example: tunes to tokens and back, and music21 to check and to play what was written.

A token is a note with its length (``^f'3/2``), a chord, a bar line, a tuplet or broken rhythm sign, a tie, or a field
(``M:6/8``, ``L:1/8``, ``K:D``). Titles, words, grace notes, slurs and ornaments are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _command_line import InputError, require
from _texts import read_text

__all__ = ["Tune", "abc_text", "full_bars", "is_field", "parse", "read_tunes", "write_midi"]

Tune = list[str]

FIELDS = ("M:", "L:", "K:")  # meter, unit of length, key: in this order every tune begins
LEFT_OUT = re.compile(r'"[^"\n]*"|![^!\n]*!|\{[^}\n]*\}|%.*$|^(?![KLM]:)[A-Za-z]:.*$', re.MULTILINE)
TOKEN = re.compile(
    r"^[KLM]:.*$"  # field
    r"|\|:|:\|[12]?|::|\|\]|\|\||\|[12]?|\[[12]"  # bar line, beginning of an ending
    r"|\[(?:[_^=]*[A-Ga-g][,']*\d*/*\d*)+\]\d*/*\d*"  # chord
    r"|[_^=]*[A-Ga-gz][,']*\d*/*\d*"  # note or rest
    r"|\([2-9](?::\d?){0,2}|[<>]+|-",  # tuplet, broken rhythm, tie
    re.MULTILINE,
)
BARS_IN_LINE = 4


def read_tunes(path: str | None) -> list[Tune]:
    """Return the tunes of an ABC file, or without a path those of Aird's Airs (Glasgow 1778-1801) in music21's corpus."""
    if path is None:
        folder = sorted(str(book) for book in require("music21").corpus.getComposer("airdsAirs"))
        text = "\n\n".join(read_text(book) for book in folder if book.endswith(".abc"))
    else:
        text = read_text(path)
    tunes = [list(_tokens(part)) for part in re.split(r"^X:.*$", text, flags=re.MULTILINE)[1:]]
    tunes = [tune for tune in tunes if tuple(token[:2] for token in tune[:3]) == FIELDS and len(tune) > 3]
    if len(tunes) < 10:
        raise InputError(f"{path} has {len(tunes)} tunes that begin with M:, L: and K:, at least 10 are needed")
    return tunes


def _tokens(tune: str) -> Iterator[str]:
    for match in TOKEN.finditer(LEFT_OUT.sub("", tune)):
        yield " ".join(match[0].split())


def is_field(token: str, name: str = "") -> bool:
    """Return whether a token is a field, and of that name."""
    return token[:2] in FIELDS and token.startswith(name)


def abc_text(tune: Sequence[str], number: int) -> str:
    """Return a tune as ABC text, a few bars in a line."""
    lines, line = [f"X:{number}", f"T:Tune {number}"], ""
    for token in tune:
        field = is_field(token)
        if line and (field or line.count("|") >= BARS_IN_LINE):
            lines.append(line)
            line = ""
        if field:
            lines.append(token)
        else:
            line += token
    return "\n".join([*lines, line]).rstrip() + "\n"


def parse(text: str) -> Any:
    """Return one tune as a music21 score, or None if it is not ABC with notes and bars that music21 can read and play."""
    package = require("music21")
    errors = (
        package.exceptions21.Music21Exception,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    )
    try:
        score = package.converter.parseData(text, format="abc")
        package.midi.translate.streamToMidiFile(score)
    except errors:
        return None
    return score if score.recurse().notes and score.recurse().getElementsByClass("Measure") else None


def full_bars(score: Any) -> float:
    """Return the part of a score's bars that are as long as its meter says; upbeats and repeats split some."""
    bars = list(score.recurse().getElementsByClass("Measure"))
    full, meter = 0, None
    for bar in bars:
        meter = bar.timeSignature or meter
        full += meter is not None and bar.duration.quarterLength == meter.barDuration.quarterLength
    return full / max(1, len(bars))


def write_midi(score: Any, path: Path) -> None:
    """Render a score to a MIDI file."""
    score.write("midi", fp=str(path))
