"""Train a feed-forward neural language model on n-grams of words, beside an interpolated n-gram model.

    python examples/neural_lm.py                         Python's help topics and docstrings, one to two minutes
    python examples/neural_lm.py --data FILE --epochs 10 --features 60
    python examples/neural_lm.py --peer torch            the same model in PyTorch, too

The model is that of Bengio, Ducharme, Vincent & Jauvin 2003, A neural probabilistic language model, without direct
connections. A word is predicted from the n - 1 before it, whose vectors come from one table:

    x = [C(w_{t-n+1}), ..., C(w_{t-1})]        p(w_t | those) = softmax(U tanh(H x + d) + b)

Of the table C a step touches the few rows of its words: `sparse=True` has the optimizer read and write only those.

The result is a perplexity, 2 to the power of the bits per word: so many equally likely words would be as hard to choose
from. It stands beside that of a trigram model with weights fitted on held-out text, and of the mean of both models,
which is better than either. On the Brown corpus the paper reports 336 for the interpolated trigram, 276 for the network
and 252 for the mean of both: 18% and 25% less than the trigram (its table 1). Here too the network wins, and the mean by
more.

The directory --out (neural_lm_run) then holds best.safetensors (model = fastrnn.load(...)), words.json, results.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from _command_line import Parser, above_zero, at_least, count, make_directory, probability, require, run_command
from _neural_lm_data import Corpus, IntArray, ngrams, read_paragraphs
from _neural_lm_ngrams import Interpolated
from _progress import ProgressBar
from numpy.typing import NDArray

import fastrnn as fr

CHUNK = 2048  # n-grams that are predicted at a time
NEIGHBOURS, STRIDE = 6, 12  # shown of each word; every so many frequent words are shown


# The model


def build_model(V: int, options: argparse.Namespace) -> fr.Sequential:
    """Return a model with new weights, words (N, n - 1) to logits (N, V)."""
    rng = np.random.default_rng(options.seed)
    E, H, context = options.features, options.hidden, options.order - 1
    return fr.Sequential(
        fr.Embedding(V, E, sparse=True, rng=rng, weight_init=partial(fr.init.normal, std=0.1)),
        fr.Flatten(),
        fr.Linear(context * E, H, activation="tanh", rng=rng),
        fr.Dropout(options.dropout, rng=rng),
        fr.Linear(H, V, rng=rng),
    )


class Learner(Protocol):
    """What is trained: the model here or in PyTorch."""

    def step(self, windows: IntArray, lr: float) -> float:
        """Learn from n-grams (N, n); return the loss."""

    def logits(self, contexts: IntArray) -> NDArray[Any]:
        """Return logits (N, V) for contexts (N, n - 1)."""


class Trainer:
    """A model and its optimizer."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model, self.optimizer = model, fr.Adam(model)
        self.touched: list[int] = []  # rows of the table in each step

    def step(self, windows: IntArray, lr: float) -> float:
        """Learn from n-grams (N, n); return the loss."""
        logits, backward = self.model.forward(windows[:, :-1])
        loss, dlogits = fr.cross_entropy(logits, windows[:, -1])
        backward(dlogits)
        rows = self.model.parameters()["0.weight"].rows
        assert rows is not None
        self.touched.append(len(rows))
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def logits(self, contexts: IntArray) -> NDArray[Any]:
        """Return logits (N, V) for contexts (N, n - 1)."""
        logits: NDArray[Any] = self.model(contexts)
        return logits


def probabilities(learner: Learner, windows: IntArray) -> NDArray[np.float64]:
    """Return the probability of the last word of each n-gram after the words before it."""
    found = []
    for start in range(0, len(windows), CHUNK):
        chunk = windows[start : start + CHUNK]
        logits = learner.logits(chunk[:, :-1]).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        found.append(np.exp(logits[np.arange(len(chunk)), chunk[:, -1]]) / np.exp(logits).sum(1))
    return np.concatenate(found)


def perplexity(probability: NDArray[np.float64]) -> float:
    """Return how many equally likely words would be as hard to predict."""
    return float(np.exp(-np.log(probability).mean()))


class Result(NamedTuple):
    """What training came to: held-out perplexity by epoch, the test probabilities in the best one, and seconds learning."""

    held_out: list[float]
    test: NDArray[np.float64]
    seconds: float


def train(learner: Learner, corpus: Corpus, options: argparse.Namespace, out: Path | None, bar: ProgressBar) -> Result:
    """Train for some epochs, the learning rate falling to 0; write the model that is best on held-out text to `out`."""
    rng = np.random.default_rng(options.seed)
    training, held_out, test = (
        ngrams(part, options.order) for part in (corpus.training, corpus.development, corpus.test)
    )
    curve: list[float] = []
    best, seconds, steps = np.empty(0), 0.0, math.ceil(len(training) / options.batch)
    for epoch in range(options.epochs):
        start = time.perf_counter()
        for number, chosen in enumerate(np.array_split(rng.permutation(len(training)), steps)):
            done = (epoch + number / steps) / options.epochs
            loss = learner.step(training[chosen], options.lr * (1 - done))
            bar.show(done, f"epoch {epoch + 1}  loss {loss / math.log(2):.2f} bits")
        seconds += time.perf_counter() - start
        curve.append(perplexity(probabilities(learner, held_out)))
        bar.say(f"epoch {epoch + 1}: held-out perplexity {curve[-1]:.1f}")
        if curve[-1] == min(curve):
            best = probabilities(learner, test)
            if out is not None and isinstance(learner, Trainer):
                fr.save(learner.model, out)
    return Result(curve, best, seconds)


def nearest(table: NDArray[Any], word: int) -> IntArray:
    """Return the words whose vectors are at the smallest angles to that of a word, the nearest first."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return np.argsort(-(unit @ unit[word]))[1 : NEIGHBOURS + 1]


# The run


def run(options: argparse.Namespace) -> None:
    """Train, compare, and show the neighbours of some words."""
    require("safetensors")
    corpus = Corpus(read_paragraphs(options.data)[: options.limit], options.least, np.random.default_rng(options.seed))
    V, out = len(corpus.words), make_directory(options.out)
    (out / "words.json").write_text(json.dumps(corpus.words), encoding="utf-8")
    print(
        f"text: {options.data or 'help topics and docstrings of Python'}, {len(corpus.training):,} words to learn from, "
        f"{len(corpus.test):,} to test on, {V:,} different ones"
    )
    baseline = Interpolated(corpus.training, corpus.development, V, options.baseline).probabilities(corpus.test)
    model = build_model(V, options)
    ours, learners = Trainer(model), dict[str, Learner]()
    learners["network"] = ours
    if options.peer:
        from _neural_lm_torch import TorchTrainer

        learners["network (PyTorch)"] = TorchTrainer(model)
    with ProgressBar() as bar:
        results = {
            name: train(learner, corpus, options, out / "best.safetensors", bar) for name, learner in learners.items()
        }
    report(results, baseline, options)
    print(f"rows of the table touched in a step: {np.mean(ours.touched):,.0f} of {V:,}")
    best = fr.load(out / "best.safetensors").parameters()["0.weight"].data
    frequent = [word for word in corpus.words[2:] if word.isalpha() and len(word) > 2]
    for name in options.words or frequent[: 10 * STRIDE : STRIDE]:
        word = corpus.number(name)
        print(f"near {corpus.words[word]!r}: {', '.join(corpus.words[other] for other in nearest(best, word))}")


def report(results: dict[str, Result], baseline: NDArray[np.float64], options: argparse.Namespace) -> None:
    """Print the perplexities side by side, and write them to a file."""
    base = perplexity(baseline)
    record: dict[str, Any] = {"ngram": base}
    print(f"interpolated {options.baseline}-grams: test perplexity {base:.1f}")
    for name, result in results.items():
        alone, mixed = perplexity(result.test), perplexity((result.test + baseline) / 2)
        record[name] = {"test": alone, "mixed": mixed, "held_out": result.held_out, "seconds": result.seconds}
        print(
            f"{name}: test perplexity {alone:.1f} ({alone / base - 1:+.0%}), mean with n-grams {mixed:.1f} "
            f"({mixed / base - 1:+.0%}), {result.seconds:.1f} s of training"
        )
    print("Bengio et al. 2003, Brown corpus: trigrams 336, network 276 (-18%), mean of both 252 (-25%)")
    (Path(options.out) / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add: Callable[..., Any] = partial(parser.add_argument, metavar="N", type=count)
    add("--data", metavar="FILE", type=str, help="UTF-8 text with empty lines between its paragraphs")
    add("--order", type=at_least(2), default=5, help="n: a word and those it is predicted from (default: %(default)s)")
    add("--features", default=60, help="width of a word vector (default: %(default)s)")
    add("--hidden", default=100, help="tanh units (default: %(default)s)")
    add("--dropout", metavar="P", type=probability, default=0.3, help="of the tanh units (default: %(default)s)")
    add("--epochs", default=6, help="passes over the text (default: %(default)s)")
    add("--batch", default=256, help="n-grams (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=4e-3, help="learning rate at first (default: %(default)s)")
    add("--least", default=3, help="words seen less often are one and the same (default: %(default)s)")
    add("--baseline", default=3, help="order of the n-gram model (default: %(default)s)")
    add("--words", metavar="A,B", type=lambda text: text.split(","), help="whose neighbours to show")
    add("--limit", help="read so many paragraphs only")
    parser.add_common("neural_lm_run")
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
