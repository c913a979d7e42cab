"""Say what is spoken in each frame of a sound: a label for every step, by nets that see the past, the future, or neither.

    python examples/tagging.py                 three nets one after another, about a minute
    python examples/tagging.py --peer torch    the same nets beside PyTorch: same weights, same batches

The script speaks syllables in a synthetic voice: vowels are harmonics of a voice shaped by the resonances of the vocal
tract, m is a murmur, s a hiss. Every speaker has a tract of another size and another pitch, the tract glides from sound to
sound, and there is noise. A net reads the spectrum of every 10 ms and labels it: pause, s, m, a, e, i, o or u.

    framewise       one frame alone, by a dense net
    forward         an LSTM, which knows what was before
    bidirectional   two LSTMs, one of which reads from the end: it knows what was before and what will come

Graves & Schmidhuber 2005, Framewise phoneme classification with bidirectional LSTM and other neural network architectures,
found on real speech that networks in both directions are better than those in one, and LSTM better than dense nets; the
same order should come out here. The utterances of the test are by other voices. Always saying the most frequent label is
printed for comparison.

The directory --out (tagging_run) then holds the weights of each net for fastrnn.load, and tagging.png: the spectrum of one
utterance of the test, what is spoken, and what each net heard.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from _command_line import INTERRUPTED, Parser, above_zero, count, make_directory, require, run_command
from _tagging_data import BANDS, LABELS, Array, Batch, Utterance, pad, speak
from _training import train

import fastrnn as fr

CLIP = 1.0  # largest norm of the gradient
TESTED = 200  # utterances


# The nets


def framewise(hidden: int, rng: np.random.Generator) -> fr.Sequential:
    """Return a dense net for single frames."""
    return fr.Sequential(fr.Linear(BANDS, hidden, rng=rng), fr.ReLU(), fr.Linear(hidden, len(LABELS), rng=rng))


def forward(hidden: int, rng: np.random.Generator) -> fr.Sequential:
    """Return an LSTM that reads from the beginning."""
    return fr.Sequential(fr.LSTM(BANDS, hidden, rng=rng), fr.Linear(hidden, len(LABELS), rng=rng))


def bidirectional(hidden: int, rng: np.random.Generator) -> fr.Sequential:
    """Return two LSTMs, one for each direction, of half the size, so that both nets have about as many units."""
    half = (hidden + 1) // 2
    lstm = fr.LSTM(BANDS, half, bidirectional=True, rng=rng)
    return fr.Sequential(lstm, fr.Linear(2 * half, len(LABELS), rng=rng))


NETS: dict[str, Callable[[int, np.random.Generator], fr.Sequential]] = {
    "framewise": framewise,
    "forward": forward,
    "bidirectional": bidirectional,
}


# Training


class Learner(Protocol):
    """What is trained: a net of ours or its twin."""

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch; return its loss."""

    def tag(self, batch: Batch) -> Array:
        """Return the likeliest label of each frame (T, N)."""


class Trainer:
    """A net and its optimizer."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model = model
        self.optimizer = fr.Adam(model)

    def step(self, batch: Batch, lr: float) -> float:
        """Learn from one batch of utterances of different lengths; return its loss."""
        lengths = batch.lengths if self.model.takes_lengths else None
        logits, backward = self.model.forward(batch.x, lengths=lengths)
        loss, dlogits = fr.cross_entropy(logits, batch.y, ignore_index=-1)
        backward(dlogits)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def tag(self, batch: Batch) -> Array:
        """Return the likeliest label of each frame (T, N)."""
        lengths = batch.lengths if self.model.takes_lengths else None
        return np.asarray(self.model(batch.x, lengths=lengths).argmax(-1))


def batches(utterances: list[Utterance], size: int, seed: int) -> Iterator[tuple[Batch]]:
    """Yield random batches without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield (pad([utterances[index] for index in rng.integers(0, len(utterances), size)]),)


def accuracy(learner: Learner, batch: Batch) -> float:
    """Return the part of the frames that get the right label."""
    return float((learner.tag(batch) == batch.y)[batch.y >= 0].mean())


def show(utterance: Utterance, heard: Mapping[str, Array], path: Path) -> str:
    """Draw a spectrum above what is spoken and what was heard; return a line that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "spectrum not drawn: matplotlib is not installed"
    rows = {"spoken": utterance.y, **heard}
    figure = Figure(figsize=(11, 5), layout="constrained")
    spectrum, tags = figure.subplots(2, 1, sharex=True)
    spectrum.imshow(utterance.x.T, aspect="auto", origin="lower", interpolation="nearest")
    spectrum.set(ylabel="band", title=f"spoken: {' '.join(_spoken(utterance.y))}")
    tags.imshow(np.stack(list(rows.values())), aspect="auto", cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
    tags.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel="frame of 10 ms")
    for row, labels in enumerate(rows.values()):
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
            if end - start > 2:
                tags.text((start + end - 1) / 2, row, LABELS[labels[start]], ha="center", va="center", fontsize=8)
    figure.savefig(path, dpi=100)
    return f"an utterance and its labels: {path}"


def _spoken(labels: Array) -> list[str]:
    """Return the labels, each run of equal ones as one."""
    return [LABELS[label] for label in labels[np.flatnonzero(np.diff(labels, prepend=-1))]]


def run(options: argparse.Namespace) -> int:
    """Train the nets and show what came out; return the exit code."""
    require("safetensors")
    out, voices = make_directory(options.out), np.random.default_rng([options.seed, 1])
    utterances = [speak(voices) for _ in range(options.utterances)]
    others = np.random.default_rng(12345)  # the test is the same for every seed
    test = pad([speak(others) for _ in range(TESTED)])
    frames = np.bincount(test.y[test.y >= 0])
    lines, heard = [f"{'always ' + LABELS[frames.argmax()]:26} {frames.max() / frames.sum():7.1%}"], {}
    for name, net in NETS.items():
        model = net(options.hidden, np.random.default_rng(options.seed))
        ours = Trainer(model)
        learners: dict[str, Learner] = {"fastrnn": ours}
        if options.peer:
            from _tagging_torch import TorchTagger

            learners["PyTorch"] = TorchTagger(model, CLIP)
        feed = batches(utterances, options.batch, options.seed)
        seconds, stopped = train(learners, feed, options.steps, options.lr, title=f"{name}: ")
        for library, learner in learners.items():
            right = accuracy(learner, test)
            lines.append(f"{name + ', ' + library:26} {right:7.1%}   {seconds[library]:6.1f} s of training steps")
        fr.save(model, out / f"{name}.safetensors")
        heard[name] = ours.tag(test)[: test.lengths[0], 0]
        if stopped:
            break
    first = Utterance(*(part[: test.lengths[0], 0] for part in (test.x, test.y)))
    print("\n".join(["frames with the right label (bidirectional should be best, framewise worst)", *lines]))
    print(show(first, heard, out / "tagging.png"))
    return INTERRUPTED if stopped else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--steps", metavar="N", type=count, default=600, help="batches (default: %(default)s)")
    add("--batch", metavar="N", type=count, default=16, help="utterances in one (default: %(default)s)")
    add("--utterances", metavar="N", type=count, default=1000, help="to learn from (default: %(default)s)")
    add("--hidden", metavar="N", type=count, default=96, help="units (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=1e-2, help="highest learning rate (default: %(default)s)")
    parser.add_common("tagging_run")
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
