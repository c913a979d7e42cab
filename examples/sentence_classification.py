"""Classify sentences by eight models side by side: bags of words, recurrent and convolutional networks.

    python examples/sentence_classification.py                      which part of Python's library is a sentence about?
    python examples/sentence_classification.py --models cnn,bilstm --data FILE      lines of label<TAB>sentence
    python examples/sentence_classification.py --models cnn --peer torch            the same models in PyTorch, too

Every model is a `Sequential` that reads a batch of sentences, words (N, L) of different lengths, and ends in a linear
layer over a vector that stands for the sentence:

    mean, sum, tfidf     the average of the word vectors, their sum, the average weighted by tf-idf
    rnn, lstm            the state after the last word                              Hochreiter & Schmidhuber 1997
    bilstm               the states after the last word and, from the other end, after the first
    cnn                  windows of 3, 4, 5 words, 100 maps each, max over time     Kim 2014, CNN-rand
    charcnn              characters to words to a sentence by convolutions          dos Santos & Gatti 2014

All word vectors start at random. A tenth of the sentences is kept for testing; another tenth decides which epoch counts.
Without --data the sentences are those of the docstrings of Python's standard library, in nine subjects. In a minute
or two all models but the plain RNN come to 75 to 81% there; always naming the most frequent subject comes to 19%.

On movie reviews (MR: sentences, positive or negative) Kim reports 76.1% for the network with random vectors (table 2).

The directory --out (sentence_classification_run) then holds results.json and, if matplotlib is installed, accuracy.png.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from _command_line import Parser, above_zero, count, make_directory, run_command
from _progress import ProgressBar
from _sentence_classification_data import Batch, Corpus, library_sentences, read_sentences
from _sentence_classification_layers import LastState, Spelling, Tfidf
from _sentence_classification_report import Result, report
from numpy.typing import NDArray

import fastrnn as fr

WINDOWS, MAPS = (3, 4, 5), 100  # of the convolutional network
CLIP = 5.0  # largest norm of the gradient
CHARACTER, SPELLED = 16, 50  # widths of the vectors of a character and of a spelled word


# The models. E: width of a word vector, H: of a state, rng: source of the initial weights and of dropout.


def bag(mode: str, corpus: Corpus, E: int, H: int, rng: np.random.Generator) -> list[fr.Layer]:
    """Return the layers from words to a sentence that average or add up word vectors."""
    if mode == "tfidf":
        return [Tfidf(fr.EmbeddingBag(len(corpus.words), E, "mean", 0, rng=rng, weight_init=small), corpus.idf)]
    return [fr.EmbeddingBag(len(corpus.words), E, mode, 0, rng=rng, weight_init=small)]


def recurrent(cell: Any, both: bool, corpus: Corpus, E: int, H: int, rng: np.random.Generator) -> list[fr.Layer]:
    """Return the layers of a recurrent network, in one or both directions."""
    layer = cell(E, H, batch_first=True, bidirectional=both, rng=rng)
    return [words(corpus, E, rng), fr.Dropout(0.5, rng=rng), LastState(layer)]


def cnn(corpus: Corpus, E: int, H: int, rng: np.random.Generator) -> list[fr.Layer]:
    """Return the layers of Kim's network."""
    return [words(corpus, E, rng), fr.Parallel(*(window(E, MAPS, width, rng) for width in WINDOWS))]


def charcnn(corpus: Corpus, E: int, H: int, rng: np.random.Generator) -> list[fr.Layer]:
    """Return the layers of a network that spells: each word's vector goes on with what its characters say."""
    letters = fr.Embedding(corpus.characters, CHARACTER, padding_idx=0, rng=rng)
    spelled = fr.TimeDistributed(fr.Sequential(letters, window(CHARACTER, SPELLED, 3, rng)), batch_first=True)
    both = fr.Parallel(words(corpus, E, rng), fr.Sequential(Spelling(corpus.spelling), spelled))
    return [both, window(E + SPELLED, len(WINDOWS) * MAPS, 3, rng)]


def window(C: int, K: int, width: int, rng: np.random.Generator) -> fr.Layer:
    """Return K maps over windows of so many steps, and the maximum over time of each."""
    conv = fr.Conv1d(C, K, width, padding="same", layout="NLC", activation="relu", rng=rng)
    return fr.Sequential(conv, fr.TimePool("max", layout="NTC"))


def words(corpus: Corpus, E: int, rng: np.random.Generator) -> fr.Layer:
    """Return the table of word vectors."""
    return fr.Embedding(len(corpus.words), E, padding_idx=0, rng=rng, weight_init=small)


small = partial(fr.init.uniform, bound=0.25)  # as in Kim 2014

MODELS: dict[str, Callable[..., list[fr.Layer]]] = {
    "mean": partial(bag, "mean"),
    "sum": partial(bag, "sum"),
    "tfidf": partial(bag, "tfidf"),
    "rnn": partial(recurrent, fr.RNN, False),
    "lstm": partial(recurrent, fr.LSTM, False),
    "bilstm": partial(recurrent, fr.LSTM, True),
    "cnn": cnn,
    "charcnn": charcnn,
}


def build_model(name: str, corpus: Corpus, E: int, H: int, seed: int) -> fr.Sequential:
    """Return a model with new weights, words (N, L) to logits (N, labels)."""
    rng = np.random.default_rng(seed)
    layers = MODELS[name](corpus, E, H, rng)
    width = {"rnn": H, "lstm": H, "bilstm": 2 * H, "cnn": MAPS * len(WINDOWS), "charcnn": MAPS * len(WINDOWS)}
    return fr.Sequential(*layers, fr.Dropout(0.5, rng=rng), fr.Linear(width.get(name, E), len(corpus.labels), rng=rng))


# Training


class Learner(Protocol):
    """What is trained: a model here or in PyTorch."""

    def step(self, batch: Batch) -> float:
        """Learn from a batch; return its loss."""

    def predict(self, batch: Batch) -> NDArray[Any]:
        """Return the label of each sentence."""


class Trainer:
    """A model and its optimizer."""

    def __init__(self, model: fr.Sequential, lr: float) -> None:
        self.model, self.optimizer = model, fr.Adam(model, lr)

    def step(self, batch: Batch) -> float:
        """Learn from a batch; return its loss."""
        logits, backward = self.model.forward(batch.tokens, lengths=batch.lengths)
        loss, dlogits = fr.cross_entropy(logits, batch.labels)
        backward(dlogits)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def predict(self, batch: Batch) -> NDArray[Any]:
        """Return the label of each sentence."""
        labels: NDArray[Any] = np.argmax(self.model(batch.tokens, lengths=batch.lengths), axis=-1)
        return labels


def accuracy(learner: Learner, batches: Sequence[Batch]) -> float:
    """Return the part of the sentences whose label is found."""
    return float(np.mean(np.concatenate([learner.predict(batch) == batch.labels for batch in batches])))


def train(learner: Learner, corpus: Corpus, options: argparse.Namespace, show: Callable[[float, str], None]) -> Result:
    """Train for some epochs; return how it went. `seconds` is the time for learning, without the evaluations."""
    rng = np.random.default_rng(options.seed)
    held, test = (corpus.batches(part, 200) for part in (corpus.development, corpus.test))
    development, chosen, seconds = [], 0.0, 0.0
    for epoch in range(options.epochs):
        batches = corpus.batches(corpus.training, options.batch, rng)
        start = time.perf_counter()
        for number, batch in enumerate(batches):
            loss = learner.step(batch)
            show((epoch + number / len(batches)) / options.epochs, f"epoch {epoch + 1}  loss {loss:.3f}")
        seconds += time.perf_counter() - start
        development.append(accuracy(learner, held))
        if development[-1] > max(development[:-1], default=-1):
            chosen = accuracy(learner, test)
    return Result(development, chosen, seconds)


# The command line


def learners(name: str, corpus: Corpus, options: argparse.Namespace) -> dict[str, Learner]:
    """Return a model to train, and with --peer its twin with the same weights."""
    model = build_model(name, corpus, options.embedding, options.hidden, options.seed)
    found: dict[str, Learner] = {name: Trainer(model, options.lr)}
    if options.peer:
        from _sentence_classification_torch import TorchTrainer

        found[f"{name} (PyTorch)"] = TorchTrainer(model, options.lr, CLIP)
    return found


def run(options: argparse.Namespace) -> None:
    """Train the models that were asked for; report those that are done, also after Ctrl-C."""
    sentences = read_sentences(options.data) if options.data else library_sentences()
    corpus = Corpus(sentences, np.random.default_rng(options.seed), options.limit)
    make_directory(options.out)
    print(
        f"data: {options.data or 'docstrings of the standard library'}, {corpus.size:,} sentences, "
        f"{len(corpus.words):,} words, labels {', '.join(corpus.labels)}; the most frequent: {corpus.majority():.1%}"
    )
    results: dict[str, Result] = {}
    try:
        train_all(corpus, options, results)
    finally:
        if results:
            report(results, options.out)


def train_all(corpus: Corpus, options: argparse.Namespace, results: dict[str, Result]) -> None:
    """Train the models one after another, and fill in the results as they come."""
    with ProgressBar() as bar:
        for name in options.models:
            for title, learner in learners(name, corpus, options).items():
                show = partial(show_progress, bar, title)
                results[title] = result = train(learner, corpus, options, show)
                bar.say(f"{title}: {result.test:.1%} after {result.seconds:.1f} s")


def show_progress(bar: ProgressBar, title: str, part: float, text: str) -> None:
    """Draw the progress bar of a model."""
    bar.show(part, f"{title}: {text}")


def model_names(text: str) -> list[str]:
    """Return the models of a list with commas."""
    names = text.split(",")
    if not set(names) <= set(MODELS):
        raise argparse.ArgumentTypeError(f"must be out of {','.join(MODELS)}, got {text!r}")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = partial(parser.add_argument, metavar="N", type=count)
    add("--data", metavar="FILE", type=str, help="lines of label<TAB>sentence instead of docstrings")
    add("--models", metavar="A,B", type=model_names, default=list(MODELS), help=f"out of {','.join(MODELS)} (all)")
    add("--epochs", default=6, help="passes over the sentences (default: %(default)s)")
    add("--embedding", default=100, help="width of a word vector; Kim has 300 (default: %(default)s)")
    add("--hidden", default=100, help="units of the recurrent layers (default: %(default)s)")
    add("--batch", default=50, help="sentences (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=2e-3, help="learning rate of Adam (default: %(default)s)")
    add("--limit", help="use so many of the sentences only")
    parser.add_common("sentence_classification_run")
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
