"""Learn tunes written in ABC notation, then compose some, as ABC and as MIDI.

    python examples/music.py                                about a minute on Aird's Airs, as shipped in music21
    python examples/music.py --cell lstm --layers 2 --epochs 20     or gru-cho, lstmp: variants
    python examples/music.py --data FILE.abc --out DIR      tunes of your own
    python examples/music.py --peer torch                   the same model and batches in PyTorch, side by side

The model reads the fields (meter, unit, key) and then one note, bar line or other sign after another, and predicts the next:

    x_t = embedding[token_t]        h_t = GRU(x_t, h_{t-1})        p(token_{t+1}) = softmax(W h_t + b)

Each tune is one sequence with its own length, and begins and ends with the token END. Tunes of like length share a batch.
Every tenth tune is kept for validation; the figure is the perplexity, which says among how many equally likely tokens
the model hesitates. Beside it stand those of n-gram models with Witten-Bell interpolation: expect the network to end well
below the trigrams.

Then it composes. A tune counts as valid if the model ended it itself and music21 parses it. The last lines say which
part of all tunes was valid and which part of their bars is exactly as long as the meter says, beside that of real
tunes. The directory --out has tunes.abc, tune_1.mid and so on, and the weights for fastrnn.load.

Recurrent networks for music: Mozer 1994, Neural network music composition by prediction; Eck & Schmidhuber 2002, Finding
temporal structure in music: blues improvisation with LSTM; Sturm et al. 2016, Music transcription modelling (ABC tokens).
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from _command_line import (
    INTERRUPTED,
    InputError,
    Parser,
    above_zero,
    count,
    make_directory,
    probability,
    require,
    run_command,
)
from _music_abc import Tune, abc_text, full_bars, is_field, parse, read_tunes, write_midi
from _music_data import END, UNKNOWN, Batch, Codes, batches, ngram_perplexity
from _training import train

import fastrnn as fr

Recurrent: TypeAlias = "fr.GRU | fr.LSTM"


def projected_lstm(C: int, H: int, layers: int, **options: Any) -> fr.LSTM:
    """Return an LSTM whose output and state h have half as many numbers as its cells: fewer weights."""
    return fr.LSTM(C, H, layers, proj_size=(H + 1) // 2, **options)


CELLS: dict[str, Callable[..., Recurrent]] = {
    "gru": fr.GRU,
    "gru-cho": functools.partial(fr.GRU, reset_after=False),  # resets the state before the product with R
    "lstm": fr.LSTM,
    "lstmp": projected_lstm,
}
EMBEDDING = 64
CLIP = 1.0  # largest norm of the gradient
LONGEST = 600  # tokens of a tune composed
ATTEMPTS = 10  # for each tune wanted
COMPARED = 20  # real tunes whose bars are measured


# The model


def build_model(options: argparse.Namespace, vocabulary: int) -> fr.Sequential:
    """Return a model with new weights."""
    rng = np.random.default_rng(options.seed)
    embedding = fr.Embedding(vocabulary, EMBEDDING, rng=rng)
    recurrent = CELLS[options.cell](EMBEDDING, options.hidden, options.layers, dropout=options.dropout, rng=rng)
    outputs = recurrent.proj_size or options.hidden
    return fr.Sequential(
        embedding, recurrent, fr.Dropout(options.dropout, rng=rng), fr.Linear(outputs, vocabulary, rng=rng)
    )


class Trainer:
    """A model and its optimizer."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model = model
        self.optimizer = fr.Adam(model)

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its mean loss."""
        logits, backward = self.model.forward(batch.tokens, lengths=batch.lengths, input_gradient=False)
        loss, dlogits = fr.cross_entropy(logits, batch.targets, lengths=batch.lengths)
        backward(dlogits)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


def perplexity(model: fr.Layer, tunes: Sequence[Codes]) -> float:
    """Return exp of the mean loss over all tokens."""
    total = tokens = 0.0
    for batch in batches(tunes, 32, np.random.default_rng(0)):
        logits = model(batch.tokens, lengths=batch.lengths)
        loss, _ = fr.cross_entropy(logits, batch.targets, lengths=batch.lengths, reduction="sum")
        total += float(loss)
        tokens += batch.lengths.sum()
    return math.exp(total / tokens)


# Composing


def compose(
    model: fr.Sequential, vocabulary: Sequence[str], temperature: float, rng: np.random.Generator
) -> Tune | None:
    """Return a tune that the model brought to its end, or None."""
    embedding, recurrent, _, linear = model
    assert isinstance(recurrent, (fr.GRU, fr.LSTM))
    stream = recurrent.stream()
    # A tune must begin with a meter, a unit and a key; nothing else is prescribed.
    firsts = [np.array([is_field(name, field) for name in vocabulary]) for field in ("M:", "L:", "K:")]
    tune: Tune = []
    token = END
    while len(tune) < LONGEST:
        logits = linear(stream.step(embedding(np.array(token)))).astype(np.float64) / temperature
        logits[UNKNOWN] = -np.inf
        if len(tune) < len(firsts):
            logits[~firsts[len(tune)]] = -np.inf
        weights = np.exp(logits - logits.max())
        token = int(rng.choice(len(weights), p=weights / weights.sum()))
        if token == END:
            return tune
        tune.append(vocabulary[token])
    return None


def publish(model: fr.Sequential, vocabulary: Sequence[str], real: Sequence[Tune], options: argparse.Namespace) -> str:
    """Compose until there are enough valid tunes, write them as ABC and MIDI; return lines about them."""
    rng, out = np.random.default_rng(options.seed), Path(options.out)
    texts: list[str] = []
    bars, attempts = [], 0
    while len(texts) < options.tunes and attempts < ATTEMPTS * options.tunes:
        attempts += 1
        tune = compose(model, vocabulary, options.temperature, rng)
        text = abc_text(tune, len(texts) + 1) if tune else ""
        score = parse(text) if tune else None
        if score is None:
            continue
        texts.append(text)
        bars.append(full_bars(score))
        write_midi(score, out / f"tune_{len(texts)}.mid")
    (out / "tunes.abc").write_text("\n".join(texts), encoding="utf-8")
    scores = [score for tune in real[:COMPARED] if (score := parse(abc_text(tune, 1))) is not None]
    theirs = float(np.mean([full_bars(score) for score in scores])) if scores else math.nan
    return (
        f"{texts[0] if texts else ''}\n"
        f"{len(texts)} of {attempts} tunes composed are valid ABC; {np.mean(bars or [0]):.0%} of their bars are full, "
        f"of real tunes {theirs:.0%}\n"
        f"{out / 'tunes.abc'}, {out / 'tune_1.mid'} and so on"
    )


# The run


def epochs(training: Sequence[Codes], size: int, rng: np.random.Generator) -> Iterator[tuple[Batch]]:
    """Yield batches without end, each epoch in a new order."""
    while True:
        for batch in batches(training, size, rng):
            yield (batch,)


def run(options: argparse.Namespace) -> int:
    """Train, compare, compose; return the exit code."""
    require("safetensors")
    if options.peer:
        options.dropout = 0.0  # two libraries would draw different masks
        if options.cell == "gru-cho":
            raise InputError("PyTorch has no GRU that resets the state before the product: leave out --peer")
    out = make_directory(options.out)
    tunes = read_tunes(options.data)
    order = np.random.default_rng(0).permutation(len(tunes))  # books are in order of time
    tunes = [tunes[index] for index in order]
    held, rest = tunes[::10], [tune for index, tune in enumerate(tunes) if index % 10]
    vocabulary = ["END", "UNKNOWN", *sorted({token for tune in rest for token in tune})]
    codes = {token: code for code, token in enumerate(vocabulary)}
    training, validation = ([[codes.get(token, UNKNOWN) for token in tune] for tune in part] for part in (rest, held))
    model = build_model(options, len(vocabulary))
    print(f"{len(rest)} tunes, {sum(map(len, rest)):,} tokens of {len(vocabulary)} kinds; {len(held)} for validation")
    print(f"{options.layers} x {options.cell.upper()} {options.hidden}, {model.num_parameters():,} parameters")
    for n, name in enumerate(("unigrams", "bigrams", "trigrams"), 1):
        print(f"validation perplexity of {name}: {ngram_perplexity(n, training, validation):.2f}")

    learners: dict[str, Any] = {"fastrnn": Trainer(model)}
    if options.peer:
        from _music_torch import TorchTrainer

        learners["PyTorch"] = TorchTrainer(model, CLIP)
    every = math.ceil(len(training) / options.batch)
    feed = epochs(training, options.batch, np.random.default_rng(options.seed))

    def report(done: int) -> str:
        return f"epoch {done // every}: validation perplexity {perplexity(model, validation):.2f}"

    seconds, stopped = train(learners, feed, options.epochs * every, options.lr, every=every, report=report)
    for name, learner in learners.items():
        if name != "fastrnn":
            model.load_state_dict(learner.state_dict())
        print(f"{name}: validation perplexity {perplexity(model, validation):.2f}, {seconds[name]:.1f} s of training")
    if not options.peer:
        fr.save(model, out / "music.safetensors")
        print(f"\n{publish(model, vocabulary, held, options)}")
    return INTERRUPTED if stopped else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = functools.partial(parser.add_argument, metavar="N", type=count)
    parser.add_argument("--data", metavar="FILE", help="tunes in ABC notation instead of music21's Aird's Airs")
    parser.add_argument("--cell", choices=list(CELLS), default="gru", help="(default: %(default)s)")
    add("--layers", default=1, help="(default: %(default)s)")
    add("--hidden", default=256, help="units in each layer (default: %(default)s)")
    add("--batch", default=16, help="tunes in a batch (default: %(default)s)")
    add("--epochs", default=12, help="(default: %(default)s)")
    add("--tunes", default=4, help="to compose (default: %(default)s)")
    add = functools.partial(parser.add_argument, metavar="R", type=above_zero)
    add("--lr", default=4e-3, help="highest learning rate (default: %(default)s)")
    add("--temperature", default=0.8, help="below 1 composes what is likelier (default: %(default)s)")
    add("--dropout", type=probability, default=0.3, help="before the last layer and between layers; 0 with --peer")
    parser.add_common("music_run")
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
