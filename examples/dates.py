"""Read dates as people write them in thirty languages, or translate names: sequence to sequence with attention.

    python examples/dates.py                            "14 de marzo de 1987", "samedi 14 mars 1987", ... -> 1987-03-14
    python examples/dates.py --languages all --pairs 40000 --epochs 4
    python examples/dates.py --task names --to en       countries and languages: "Deutschland", "Allemagne" -> "Germany"
    python examples/dates.py --data FILE                pairs of your own, a tab between text and translation
    python examples/dates.py --peer torch               the same model step by step in PyTorch, side by side

An encoder reads the text in both directions; a decoder writes the translation character by character. For each it
looks back at the text: attention weighs all of its places by how well they fit what the decoder has in mind,

    e = GRU(text), both ways             c_i = sum_t softmax_t(score(s_{i-1}, e_t)) e_t
    s_i = GRU([y_{i-1}, c_i], s_{i-1})   p(y_i) = softmax(W [s_i, c_i])

as in Bahdanau, Cho & Bengio 2015, Neural machine translation by jointly learning to align and translate. Nothing tells
the model which language it reads. It is tested on days that it has never seen in any language: after a minute it
should get more than 99.5% of them right to the last digit. Names it knows from other languages, as far as it recognises
them: it should get about half of them right. The directory --out (dates_run) then holds attention.png: where
the decoder looked while it wrote. Ctrl-C ends the training early and shows what was reached.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from _command_line import Parser, above_zero, count, make_directory, run_command
from _dates_data import END, LANGUAGES, Batch, Pair, Texts, all_languages, date_pairs, name_pairs, read_pairs
from _dates_draw import draw_attention
from _training import train

import fastrnn as fr

EMBEDDING = 48  # width of the vectors that stand for characters
CLIP = 1.0  # largest norm of the gradient
TESTED = 3000  # dates
READ_AT_ONCE = 500  # texts
SHOWN = 5  # translations


class Translator(fr.Layer):
    """Encoder, attention and decoder, from tokens of one vocabulary to those of another."""

    def __init__(self, sources: int, targets: int, hidden: int, rng: np.random.Generator) -> None:
        H = self.hidden = hidden
        self.source = fr.Embedding(sources, EMBEDDING, rng=rng)
        self.encoder = fr.GRU(EMBEDDING, H, bidirectional=True, rng=rng)
        self.bridge = fr.Linear(H, H, activation="tanh", rng=rng)
        self.target = fr.Embedding(targets, EMBEDDING, rng=rng)
        self.attention = fr.Attention(H, 2 * H, "additive", units=H, rng=rng)
        self.decoder = fr.GRU(EMBEDDING + 2 * H, H, rng=rng)
        self.head = fr.Linear(3 * H, targets, rng=rng)

    def forward(self, source: Any, lengths: Any, previous: Any) -> Any:
        """Return logits (L, N, targets) of what follows each token of `previous` (L, N), and the pullback."""
        x, back_source = self.source.forward(source)
        (encoded, ends), back_encoder = self.encoder.forward(x, lengths=lengths)
        h, back_bridge = self.bridge.forward(ends[1])  # what the reverse direction knows at the beginning
        memory = self.attention.memory(encoded, lengths=lengths)
        y, back_target = self.target.forward(previous)
        outputs, pullbacks = [], []
        for y_i in y:
            (context, _), back_attention = memory.forward(h)
            (_, state), back_decoder = self.decoder.forward(np.concatenate([y_i, context], -1)[None], h[None])
            h = state[0]
            outputs.append(np.concatenate([h, context], -1))
            pullbacks.append((back_attention, back_decoder))
        logits, back_head = self.head.forward(np.stack(outputs))

        def backward(dlogits: Any) -> None:
            H, doutputs = self.hidden, back_head(dlogits)
            dy, dh = np.empty_like(y), np.zeros_like(h)
            for i, (back_attention, back_decoder) in reversed(list(enumerate(pullbacks))):
                dx, dstate = back_decoder(None, (dh + doutputs[i, :, :H])[None])
                dy[i] = dx[0, :, :EMBEDDING]
                dcontext = dx[0, :, EMBEDDING:] + doutputs[i, :, H:]
                dh = dstate[0] + back_attention(dcontext)
            back_target(dy)
            dends = np.zeros_like(ends)
            dends[1] = back_bridge(dh)
            dx, _ = back_encoder(memory.backward(), dends)
            back_source(dx)

        return logits, backward

    def __call__(self, source: Any, lengths: Any, limit: int) -> Any:
        """Return the likeliest tokens one by one (L, N), L up to `limit`, and where each looked (L, N, T)."""
        encoded, ends = self.encoder(self.source(source), lengths=lengths)
        h, memory = self.bridge(ends[1]), self.attention.memory(encoded, lengths=lengths)
        stream = self.decoder.stream(batch_size=len(h))
        stream.reset(h[None])
        token = np.full(len(h), END)
        ended = np.zeros(len(h), bool)
        tokens: list[Any] = []
        weights: list[Any] = []
        while not ended.all() and len(tokens) < limit:
            context, looked = memory(h)
            h = stream.step(np.concatenate([self.target(token), context], -1))
            token = self.head(np.concatenate([h, context], -1)).argmax(-1)
            ended |= token == END
            tokens.append(token)
            weights.append(looked)
        return np.stack(tokens), np.stack(weights)


class Trainer:
    """A model and its optimizer."""

    def __init__(self, model: Translator) -> None:
        self.model = model
        self.optimizer = fr.Adam(model)

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its loss per character."""
        logits, backward = self.model.forward(batch.source, batch.source_lengths, shifted(batch.target))
        loss, dlogits = fr.cross_entropy(logits, batch.target, lengths=batch.target_lengths)
        backward(dlogits)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


def shifted(target: Any) -> Any:
    """Return what the decoder reads while it is to write `target` (L, N): one END, then all but the last token."""
    return np.concatenate([np.full_like(target[:1], END), target[:-1]])


def batches(texts: Texts, size: int, rng: np.random.Generator) -> Iterator[tuple[Batch]]:
    """Yield batches without end, each epoch in a new order."""
    while True:
        for batch in texts.batches(texts.training, size, rng.permutation(len(texts.training))):
            yield (batch,)


def translate(model: Translator, texts: Texts, pairs: Sequence[Pair]) -> list[str]:
    """Return what a model makes of the sources."""
    batches = texts.batches(pairs, READ_AT_ONCE)
    tokens = (model(batch.source, batch.source_lengths, texts.limit)[0] for batch in batches)
    return [text for batch in tokens for text in texts.targets.decode(batch)]


def exact_matches(texts: Texts, translations: Sequence[str]) -> float:
    """Return the part of the test that is right to the last character."""
    return sum(pair.target == text for pair, text in zip(texts.test, translations, strict=True)) / len(texts.test)


def read_texts(options: argparse.Namespace, rng: np.random.Generator) -> Texts:
    """Return the pairs of the task."""
    if options.data:
        return read_pairs(options.data, rng)
    languages = all_languages() if "all" in options.languages else options.languages
    if options.task == "names":
        return name_pairs(languages, options.to, rng)
    return date_pairs(languages, options.pairs, TESTED, rng)


def run(options: argparse.Namespace) -> None:
    """Train, test and draw."""
    rng = np.random.default_rng(options.seed)
    out, texts = make_directory(options.out), read_texts(options, rng)
    sizes = texts.sources.size, texts.targets.size, options.hidden
    model = Translator(*sizes, rng)
    print(f"{len(texts.training):,} pairs to train on, {len(texts.test):,} to test on")
    print(f"{model.num_parameters():,} parameters, {fr.get_isa()}, threads: {fr.get_num_threads()}")
    learners: dict[str, Any] = {"fastrnn": Trainer(model)}
    if options.peer:
        from _dates_torch import TorchTrainer

        learners["PyTorch"] = TorchTrainer(model.state_dict(), EMBEDDING, model.hidden, CLIP)
    epochs = options.epochs or (5 if options.task == "dates" and not options.data else 10)
    steps = epochs * math.ceil(len(texts.training) / options.batch)
    seconds, _ = train(learners, batches(texts, options.batch, rng), steps, options.lr)

    translations = translate(model, texts, texts.test)
    for pair, text in list(zip(texts.test, translations, strict=True))[:SHOWN]:
        print(f"    {pair.source} -> {text}{f', but right is {pair.target}' if text != pair.target else ''}")
    copied = exact_matches(texts, [pair.source for pair in texts.test])
    right = exact_matches(texts, translations)
    print(f"exact matches: {right:.2%} of the test; copying the source would have {copied:.2%}")
    if options.peer:
        twin = Translator(*sizes, rng)
        twin.load_state_dict(learners["PyTorch"].state_dict())
        print(f"the same model in PyTorch: {exact_matches(texts, translate(twin, texts, texts.test)):.2%}")
    print("training: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items()))
    print(draw_attention(out / "attention.png", model, texts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--task", choices=["dates", "names"], default="dates", help="what to translate (default: %(default)s)")
    add("--languages", metavar="CODE", nargs="+", default=LANGUAGES, help="to read, or all (default: thirty)")
    add("--to", metavar="CODE", default="en", help="language of the names written (default: %(default)s)")
    add("--data", metavar="FILE", help="lines with a text, a tab and its translation, instead of a task")
    add("--pairs", metavar="N", type=count, default=20_000, help="dates to train on (default: %(default)s)")
    add("--epochs", metavar="N", type=count, help="passes over the pairs (default: 5 of dates, 10 of others)")
    add("--hidden", metavar="N", type=count, default=96, help="units of encoder and decoder (default: %(default)s)")
    add("--batch", metavar="N", type=count, default=64, help="pairs in a step (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=3e-3, help="highest learning rate (default: %(default)s)")
    parser.add_common("dates_run", seed=1)
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
