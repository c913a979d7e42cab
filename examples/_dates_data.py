"""Pairs of texts to translate, from Babel's locale data or a file; texts to arrays of tokens and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from _command_line import InputError, require
from _texts import read_file
from numpy.typing import NDArray

__all__ = [
    "END",
    "LANGUAGES",
    "Batch",
    "Pair",
    "Texts",
    "Vocabulary",
    "all_languages",
    "date_pairs",
    "name_pairs",
    "read_pairs",
]

IntArray: TypeAlias = NDArray[Any]

END = 0  # the token that ends a target, that precedes its first character, and that stands for unknown ones in a source
LANGUAGES = [  # of both tasks, unless others are named
    *("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi", "pl", "cs", "hu", "ro"),
    *("tr", "el", "ru", "uk", "bg", "ar", "he", "fa", "hi", "th", "vi", "id", "ja", "ko", "zh"),
]
STYLES = ("medium", "long", "full")  # "short" is left out: 3/4/05 is another day in every country
FIRST, LAST = dt.date(1900, 1, 1), dt.date(2099, 12, 31)
HELD_OUT = 10  # every tenth day or name is never trained on


class Pair(NamedTuple):
    """A text and its translation."""

    source: str
    target: str


class Batch(NamedTuple):
    """Sources (T, N) and targets (L, N) as tokens, END after each one's length; END counts into that of a target."""

    source: IntArray
    source_lengths: IntArray
    target: IntArray
    target_lengths: IntArray


class Vocabulary:
    """The characters of some texts, numbered from 1 on in sorted order."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = "".join(sorted(set("".join(texts))))
        self.size = 1 + len(self.characters)
        self._tokens = {character: token for token, character in enumerate(self.characters, 1)}

    def encode(self, texts: Sequence[str], *, end: bool = False) -> tuple[IntArray, IntArray]:
        """Return tokens (T, N) and lengths (N,); with `end` each text is one END longer."""
        lengths = np.array([len(text) + end for text in texts])
        tokens = np.full((lengths.max(), len(texts)), END)
        for column, text in enumerate(texts):
            tokens[: len(text), column] = [self._tokens.get(character, END) for character in text]
        return tokens, lengths

    def decode(self, tokens: IntArray) -> list[str]:
        """Return the texts that tokens (L, N) stand for, each up to its first END."""
        texts = ("".join("\0"[token:] or self.characters[token - 1] for token in column) for column in tokens.T)
        return [text.partition("\0")[0] for text in texts]


class Texts:
    """Pairs to train and to test on, and their vocabularies, which know the first only.

    Attributes
    ----------
    limit : int
        Length of the longest target with its END.
    """

    def __init__(self, training: Sequence[Pair], test: Sequence[Pair]) -> None:
        self.training, self.test = training, test
        self.sources = Vocabulary(pair.source for pair in training)
        self.targets = Vocabulary(pair.target for pair in training)
        self.limit = 1 + max(len(pair.target) for pair in training)

    def batches(self, pairs: Sequence[Pair], size: int, order: IntArray | None = None) -> Iterator[Batch]:
        """Yield all pairs in batches of `size`, the last one may be smaller."""
        places = range(len(pairs)) if order is None else order
        for start in range(0, len(pairs), size):
            chosen = [pairs[place] for place in places[start : start + size]]
            source = self.sources.encode([pair.source for pair in chosen])
            yield Batch(*source, *self.targets.encode([pair.target for pair in chosen], end=True))


def all_languages() -> list[str]:
    """Return the languages of which Babel has more than beginnings: names of at least 200 countries and regions."""
    languages = [
        name for name in require("babel.localedata").locale_identifiers() if "_" not in name and name != "root"
    ]
    return sorted(name for name in languages if len(_locale(name).territories) >= 200)


def date_pairs(languages: Sequence[str], count: int, held_out: int, rng: np.random.Generator) -> Texts:
    """Return written dates and their ISO form; the days that are tested do not occur in training."""
    days = rng.permutation((LAST - FIRST).days + 1)
    tested = len(days) // HELD_OUT

    format_date = require("babel.dates").format_date

    def draw(days: IntArray, count: int) -> list[Pair]:
        pairs = []
        for offset, language, style in zip(
            rng.choice(days, count), rng.choice(languages, count), rng.choice(STYLES, count), strict=True
        ):
            day = FIRST + dt.timedelta(days=int(offset))
            text = format_date(day, str(style), locale=_locale(str(language)))
            pairs.append(Pair(text, day.isoformat()))
        return pairs

    return Texts(draw(days[tested:], count), draw(days[:tested], held_out))


def name_pairs(languages: Sequence[str], to: str, rng: np.random.Generator) -> Texts:
    """Return names of countries and languages in `languages`, and those in `to`.

    No name that is tested occurs in training; the same country's name in another language may.
    """
    known: dict[str, str] = {}
    target = _locale(to)
    for language in languages:
        source = _locale(language)
        for names, wanted in ((source.territories, target.territories), (source.languages, target.languages)):
            if language != to:
                known |= {name: wanted[code] for code, name in names.items() if code in wanted and name not in known}
    return _split([Pair(*pair) for pair in known.items()], rng)


def read_pairs(path: str, rng: np.random.Generator) -> Texts:
    """Return what is in a UTF-8 file with a text, a tab and its translation on each line."""
    lines = [line.split("\t") for line in read_file(path).splitlines()]
    for number, line in enumerate(lines, 1):
        if len(line) != 2 or not all(line):
            raise InputError(f"{path}, line {number}: must be a text, a tab and its translation")
    return _split([Pair(*line) for line in dict(lines).items()], rng)


def _split(pairs: list[Pair], rng: np.random.Generator) -> Texts:
    if len(pairs) < 2 * HELD_OUT:
        raise InputError(f"{len(pairs)} pairs are too few, at least {2 * HELD_OUT} are needed")
    mixed = [pairs[place] for place in rng.permutation(len(pairs))]
    tested = len(pairs) // HELD_OUT
    return Texts(mixed[tested:], mixed[:tested])


def _locale(language: str) -> Any:
    babel = require("babel")
    try:
        return babel.Locale.parse(language.replace("-", "_"))
    except (ValueError, babel.UnknownLocaleError) as error:
        raise InputError(f"Babel knows no language {language!r}") from error
