"""Text for the language model: numbering its characters or words, cutting it into batches."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from _command_line import InputError
from numpy.typing import NDArray

__all__ = ["Batches", "Corpus", "IntArray", "Vocabulary", "WordVocabulary"]

IntArray: TypeAlias = NDArray[Any]

VALIDATION_PART = 10  # the last 1/10 of the text
VALIDATION_LIMIT = 500_000  # characters: a validation on more of a very long text would eat up the time for training


# A word or a run of signs, with the space before it, or other white space: together they are the whole text.
WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?= \S)|\s+")
REPEATED = 2  # times that a word must be there to be one of the vocabulary


class Vocabulary:
    """The characters a model knows, numbered in sorted order, and one more token for all it does not know."""

    def __init__(self, text: str) -> None:
        self.tokens: Sequence[str] = "".join(sorted(set(text)))
        self.unknown = len(self.tokens)
        self.size = self.unknown + 1
        self._codes = _codes("".join(self.tokens))

    def encode(self, text: str) -> IntArray:
        """Return the tokens of a text."""
        codes = _codes(text)
        places = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(places, self.unknown - 1)] == codes
        return np.where(known, places, self.unknown).astype(np.int32)

    def lacks(self, text: str) -> str:
        """Return the characters of a text that are not in the vocabulary, each once."""
        return "".join(sorted(set(text) - set(self.tokens)))


class WordVocabulary(Vocabulary):
    """The words a model knows, those that a text has more than once, and one more token for all it does not know."""

    def __init__(self, text: str) -> None:
        self.tokens = sorted(word for word, times in Counter(WORD.findall(text)).items() if times >= REPEATED)
        self.unknown = len(self.tokens)
        self.size = self.unknown + 1
        self._numbers = {word: number for number, word in enumerate(self.tokens)}

    def encode(self, text: str) -> IntArray:
        """Return the tokens of a text."""
        return np.array([self._numbers.get(word, self.unknown) for word in WORD.findall(text)], np.int32)

    def lacks(self, text: str) -> str:
        """Return some of the words of a text that are not in the vocabulary."""
        words = sorted({word.strip() for word in WORD.findall(text) if word not in self._numbers})
        return " ".join(words[:10]) + (f" and {len(words) - 10:,} more" if len(words) > 10 else "")


VOCABULARIES = {"char": Vocabulary, "word": WordVocabulary}


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Corpus:
    """A text as tokens, its last tenth apart for validation; the vocabulary is that of the training part."""

    def __init__(self, text: str, level: str = "char") -> None:
        split = len(text) - len(text) // VALIDATION_PART
        validation = text[split : split + VALIDATION_LIMIT]
        if len(validation) < 2:
            needed = 2 * VALIDATION_PART
            raise InputError(f"the text is too short: {len(text)} characters, at least {needed} are needed")
        self.characters = len(text)
        self.digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.vocabulary = VOCABULARIES[level](text[:split])
        self.training = self.vocabulary.encode(text[:split])
        self.validation = self.vocabulary.encode(validation)
        if len(self.validation) < 2:
            raise InputError(f"the text is too short: a tenth of it has {len(self.validation)} words")
        self.unknown = self.vocabulary.lacks(validation)

    def frequency_bits(self) -> float:
        """Return the bits per token of the validation text for a model that knows only how frequent each token is."""
        counts = np.bincount(self.training, minlength=self.vocabulary.size) + 1  # what was never seen is not impossible
        return float(-np.log2(counts / counts.sum())[self.validation].mean())


class Batches:
    """Batch number `step` of a text for truncated back-propagation through time.

    The text is a ring on which `batch` readers start at equal distances. Each batch takes every reader `steps` further,
    so column n of one batch goes on exactly where column n of the batch before ended, and a state carried over fits.
    """

    def __init__(self, tokens: IntArray, batch: int, steps: int) -> None:
        if batch * steps > len(tokens):
            raise InputError(
                f"batch x steps = {batch} x {steps} = {batch * steps} is more than "
                f"the {len(tokens)} tokens of the training text"
            )
        self._tokens = tokens
        self._starts = np.arange(batch) * len(tokens) // batch
        self._steps = steps
        self.characters = batch * steps

    def __getitem__(self, step: int) -> tuple[IntArray, IntArray]:
        """Return the tokens (T, N) of batch number `step`, and the tokens that follow each of them."""
        offsets = step * self._steps + np.arange(self._steps + 1)
        tokens = self._tokens[(self._starts + offsets[:, None]) % len(self._tokens)].astype(np.int64)
        return tokens[:-1], tokens[1:]
