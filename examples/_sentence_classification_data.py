"""Labelled sentences: reading or collecting them, numbering their words, cutting them into batches."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from _command_line import InputError
from _texts import SUBJECTS, docstrings, read_file
from numpy.typing import NDArray

__all__ = ["Batch", "Corpus", "Sentence", "library_sentences", "read_sentences", "split_words"]

IntArray: TypeAlias = NDArray[np.int64]
Sentence: TypeAlias = tuple[str, str]  # label and text

WORDS = re.compile(r"\w+?(?=n't\b)|n't\b|'\w+|\w+|[^\w\s]")
SENTENCE = re.compile(r"[A-Z][^<>=|]*[.!?]")  # without formulas, tables and sessions
LONGEST = 60  # words of a sentence that are read
LETTERS = 16  # of a word
TENTH = 10  # a tenth of the sentences is for testing, another for choosing the best epoch


def split_words(text: str) -> list[str]:
    """Return the words and punctuation marks of a sentence in lower case; "isn't" becomes "is", "n't"."""
    return WORDS.findall(text.lower())


def read_sentences(path: str) -> list[Sentence]:
    """Return what a UTF-8 file with a label, a tab and a sentence in each line holds."""
    sentences = []
    for number, line in enumerate(read_file(path).splitlines(), 1):
        label, tab, text = line.partition("\t")
        if line.strip() and not (tab and label and split_words(text)):
            raise InputError(f"{path}: line {number} must be label<TAB>sentence, got {line[:40]!r}")
        if line.strip():
            sentences.append((label, text))
    return sentences


def library_sentences() -> list[Sentence]:
    """Return the sentences of the standard library's docstrings, each once, labelled by their subject."""
    found: dict[str, str] = {}
    for subject in SUBJECTS:
        for text in (text for docstring in docstrings(subject) for text in _sentences(docstring)):
            found.setdefault(text, subject)
    if not found:
        raise InputError("this Python comes without the sources of its library: name sentences with --data FILE")
    return [(label, text) for text, label in found.items()]


def _sentences(docstring: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", docstring):
        for text in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            if SENTENCE.fullmatch(text) and 4 <= len(split_words(text)) <= LONGEST:
                yield text


class Batch(NamedTuple):
    """Sentences of similar lengths: words (N, L), padded with 0; their lengths (N,) and labels (N,)."""

    tokens: IntArray
    lengths: IntArray
    labels: IntArray


class Corpus:
    """Labelled sentences as numbers: 8 tenths to learn from, one to choose the epoch by, one to test on.

    Word 0 is padding. As in Kim 2014 every word of the data has its row in the tables: one that is not in the training
    part keeps the random vector it started with.
    """

    def __init__(self, sentences: Sequence[Sentence], rng: np.random.Generator, limit: int | None = None) -> None:
        order = rng.permutation(len(sentences))[:limit]
        sentences = [sentences[index] for index in order]
        self.size = len(sentences)
        self.labels = sorted({label for label, _ in sentences})
        if len(self.labels) < 2 or len(sentences) < 10 * TENTH:
            found = f"{len(sentences)} sentences, {len(self.labels)} different labels"
            raise InputError(f"too little data: {found}; at least {10 * TENTH} sentences and 2 labels are needed")
        texts = [split_words(text)[:LONGEST] for _, text in sentences]
        self.words = ["", *sorted({word for text in texts for word in text})]
        number = {word: index for index, word in enumerate(self.words)}
        self._tokens = [np.array([number[word] for word in text]) for text in texts]
        self._labels = np.array([self.labels.index(label) for label, _ in sentences])
        held = len(sentences) // TENTH
        self.test, self.development = np.arange(held), np.arange(held, 2 * held)
        self.training = np.arange(2 * held, len(sentences))
        self.idf = self._inverse_document_frequencies()
        self.characters, self.spelling = _spell(self.words)

    def batches(self, part: IntArray, size: int, rng: np.random.Generator | None = None) -> list[Batch]:
        """Return the batches of a part of the sentences, by chance if there is an `rng`."""
        lengths = np.array([len(self._tokens[index]) for index in part])
        order = part[np.argsort(lengths + (rng.uniform(0, 4, len(part)) if rng else 0), kind="stable")]
        starts = np.arange(0, len(part), size)
        return [self._batch(order[start : start + size]) for start in (rng.permutation(starts) if rng else starts)]

    def majority(self) -> float:
        """Return the accuracy on the test part of the most frequent label of the training part."""
        most = np.bincount(self._labels[self.training]).argmax()
        return float(np.mean(self._labels[self.test] == most))

    def _batch(self, chosen: IntArray) -> Batch:
        lengths = np.array([len(self._tokens[index]) for index in chosen])
        tokens = np.zeros((len(chosen), lengths.max()), np.int64)
        for row, index in zip(tokens, chosen, strict=True):
            row[: len(self._tokens[index])] = self._tokens[index]
        return Batch(tokens, lengths, self._labels[chosen])

    def _inverse_document_frequencies(self) -> NDArray[np.float32]:
        """Return log((1 + sentences) / (1 + sentences with the word)) + 1 for each word, from the training part."""
        counts = Counter(word for index in self.training for word in set(self._tokens[index].tolist()))
        n = len(self.training)
        return np.array([math.log((1 + n) / (1 + counts[word])) + 1 for word in range(len(self.words))], np.float32)


def _spell(words: Sequence[str]) -> tuple[int, IntArray]:
    """Return the number of characters, 0 standing for none, and the spelling (words, LETTERS) of each word."""
    number = {character: index for index, character in enumerate(sorted(set("".join(words))), 1)}
    spelling = np.zeros((len(words), LETTERS), np.int64)
    for row, word in zip(spelling, words, strict=True):
        row[: len(word)] = [number[character] for character in word[:LETTERS]]
    return len(number) + 1, spelling
