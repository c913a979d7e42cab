"""Text for word-level language models: paragraphs to words, words to numbers, numbers to n-grams."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from _command_line import InputError
from _texts import SUBJECTS, docstrings, read_text
from numpy.typing import NDArray

__all__ = ["BOUNDARY", "RARE", "Corpus", "IntArray", "ngrams", "paragraphs", "read_paragraphs"]

IntArray: TypeAlias = NDArray[np.int64]

BOUNDARY, RARE = 0, 1  # tokens for the two ends of a paragraph and for rare words
WORDS = re.compile(r"\w+|[^\w\s]")
COPY = 4
STRETCHES = 100  # of text, which go to one side or the other whole: neighbours are about the same things
TENTH = 10  # a tenth of the paragraphs is for testing, another for the choices that are made on held-out text


def read_paragraphs(path: str | None) -> list[str]:
    """Return the paragraphs of a UTF-8 file, or without a path those of Python's help topics and docstrings."""
    if path is not None:
        return paragraphs(read_text(path))
    return paragraphs("\n\n".join([read_text(None), *(text for subject in SUBJECTS for text in docstrings(subject))]))


def paragraphs(text: str) -> list[str]:
    """Return the parts of a text between empty lines, but for those more than half of whose COPY-grams came before.

    Documentation repeats itself; copies on both sides of the split would make a test of memory alone.
    """
    seen: set[tuple[str, ...]] = set()
    found = []
    for part in re.split(r"\n\s*\n", text):
        words = WORDS.findall(part.lower())
        grams = [tuple(words[start : start + COPY]) for start in range(max(1, len(words) - COPY + 1))]
        if words and 2 * sum(gram in seen for gram in grams) <= len(grams):
            found.append(" ".join(part.split()))
        seen.update(grams)
    return found


class Corpus:
    """Paragraphs as tokens: 8 tenths of them to learn from, one to make choices on, one to test on.

    Words are in lower case. Those seen less than `least` times in the training part are all the same word RARE.
    """

    def __init__(self, texts: Sequence[str], least: int, rng: np.random.Generator) -> None:
        if len(texts) < 2 * TENTH:
            raise InputError(f"too little text: {len(texts)} paragraphs, at least {2 * TENTH} are needed")
        stretches = np.array_split(np.arange(len(texts)), min(STRETCHES, len(texts)))
        order = np.concatenate([stretches[index] for index in rng.permutation(len(stretches))])
        split = [WORDS.findall(texts[index].lower()) for index in order]
        held = len(split) // TENTH
        counts = Counter(word for words in split[2 * held :] for word in words)
        self.words = ["</s>", "<rare>", *(word for word, count in counts.most_common() if count >= least)]
        self._number = {word: number for number, word in enumerate(self.words)}
        self.test, self.development, self.training = (
            self._tokens(part) for part in (split[:held], split[held : 2 * held], split[2 * held :])
        )

    def number(self, word: str) -> int:
        """Return the token of a word."""
        return self._number.get(word, RARE)

    def _tokens(self, part: list[list[str]]) -> IntArray:
        """Return paragraphs one after another, with a boundary before, between and after them."""
        tokens = [BOUNDARY]
        for words in part:
            tokens += [*(self._number.get(word, RARE) for word in words), BOUNDARY]
        return np.array(tokens)


def ngrams(tokens: IntArray, n: int) -> IntArray:
    """Return the windows (tokens - 1, n): each token but the first, last in its row after the n - 1 before it.

    A context ends at the beginning of a paragraph: what would be before is BOUNDARY.
    """
    padded = np.concatenate([np.full(n - 2, BOUNDARY), tokens]) if n > 1 else tokens[1:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, n).copy()
    for column in range(n - 3, -1, -1):  # a boundary reaches back to the start of the window
        windows[windows[:, column + 1] == BOUNDARY, column] = BOUNDARY
    return windows
