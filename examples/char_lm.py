"""Train a language model of characters or words, then let it write.

    python examples/char_lm.py                              one minute on the text of Python's own help topics
    python examples/char_lm.py --prompt "The class "        again: what was trained writes another text
    python examples/char_lm.py --data FILE --out DIR --seconds 600 --cell gru --layers 2 --hidden 512
    python examples/char_lm.py --level word --layers 2 --batch 8 --steps 32 --lr 0.003 --seconds 90     with words
    python examples/char_lm.py --peer torch                 the same model step by step in PyTorch, side by side

The model reads one character after another and predicts the next:

    x_t = embedding[character_t]        h_t = LSTM(x_t, state_{t-1})        p(character_{t+1}) = softmax(W h_t + b)

It is trained by truncated back-propagation through time: `batch` readers each take `steps` characters of the text, the
gradient goes back to the beginning of those, and the state is carried over to the next ones. The loss is the number of
bits the model needs for a character: log2(number of characters) if it knows nothing, 0 if it knows the text by heart.
What it needs if it knows how frequent each character is, and no more, is printed for comparison. The last tenth of the
text is kept for validation. With ``--level word`` the tokens are words, signs and white space instead; words that the
text has once are all one token.

The directory --out (char_lm_run) then holds

    best.safetensors    the weights that were best in validation: model = fastrnn.load(...)
    vocabulary.json     the characters or words in the order of the model's tokens; one more stands for all others
    checkpoint.npz      all that is needed to go on: weights, optimizer, states, position, best figure
    curve.png           the loss curves, if matplotlib is installed

Stop it with Ctrl-C whenever you like: it finishes the step and saves. The same command goes on from there, and once
the time is used up it only writes text. A larger --seconds trains on, --fresh starts over.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from _char_lm_data import Batches, Corpus, IntArray, Vocabulary
from _char_lm_options import make_parser
from _char_lm_plot import plot_curves
from _char_lm_run import Arrays, Run, Settings
from _command_line import INTERRUPTED, InputError, make_directory, require, run_command
from _progress import ProgressBar
from _texts import read_text
from _training import learning_rate
from numpy.typing import NDArray

import fastrnn as fr

Recurrent: TypeAlias = "fr.LSTM | fr.GRU | fr.RNN"

CELLS: dict[str, type[Recurrent]] = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}
CALLED = {"char": "character", "word": "word"}  # what a token is, by level
EMBEDDING = 64  # width of the vectors that stand for tokens
CLIP = 1.0  # largest norm of the gradient
READERS, CHUNK = 16, 256  # of a validation: parts of its text read side by side, characters at a time


# The model


def build_model(settings: Settings, vocabulary: Vocabulary) -> fr.Sequential:
    """Return a model with new weights."""
    rng = np.random.default_rng(settings.seed)
    return fr.Sequential(
        fr.Embedding(vocabulary.size, EMBEDDING, rng=rng),
        CELLS[settings.cell](EMBEDDING, settings.hidden, settings.layers, rng=rng),
        fr.Linear(settings.hidden, vocabulary.size, rng=rng),
    )


def layers_of(model: fr.Layer) -> tuple[fr.Embedding, Recurrent, fr.Linear]:
    """Return the three layers of a model."""
    assert isinstance(model, fr.Sequential)
    embedding, recurrent, linear = model
    assert isinstance(embedding, fr.Embedding)
    assert isinstance(recurrent, (fr.LSTM, fr.GRU, fr.RNN))
    assert isinstance(linear, fr.Linear)
    return embedding, recurrent, linear


class Trainer:
    """A model, its optimizer, and the state that its recurrent layer carries from batch to batch."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model = model
        self.optimizer = fr.Adam(model)
        self.state: Any = None

    def step(self, tokens: IntArray, targets: IntArray, lr: float) -> float:
        """Learn from one batch (T, N); return its loss in bits per character."""
        embedding, recurrent, linear = layers_of(self.model)
        x, embedding_backward = embedding.forward(tokens)
        (h, self.state), recurrent_backward = recurrent.forward(x, self.state)
        logits, linear_backward = linear.forward(h)
        loss, dlogits = fr.cross_entropy(logits, targets)

        dh = linear_backward(dlogits)
        dx, _ = recurrent_backward(dh)  # the gradient of the state carried over is dropped here: truncated
        embedding_backward(dx)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss) / math.log(2)

    def validate(self, text: IntArray) -> float:
        """Return the bits per character on a text."""
        return validation_bits(self.model, text)

    def arrays(self) -> Arrays:
        """Return everything that changes in training, for a checkpoint."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        states = {f"state.{index}": part for index, part in enumerate(parts) if part is not None}
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return weights | states | {f"adam.{name}": value for name, value in self.optimizer.state_dict().items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` returned."""
        model, adam, state = (
            {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
            for prefix in ("model.", "adam.", "state.")
        )
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(adam)
        parts = tuple(state[name] for name in sorted(state))
        self.state = parts if len(parts) > 1 else parts[0] if parts else None


def validation_bits(model: fr.Layer, text: IntArray) -> float:
    """Return the bits per character of a model on a text, each character but the first predicted once.

    READERS parts of the text are read side by side; each reader carries its state along and begins without one.
    """
    embedding, recurrent, linear = layers_of(model)
    count = len(text) - 1
    length = math.ceil(count / READERS)
    tokens, targets = np.zeros((READERS, length), np.int64), np.full((READERS, length), -1)
    tokens.flat[:count], targets.flat[:count] = text[:-1], text[1:]
    tokens, targets = tokens.T, targets.T
    state, total = None, 0.0
    for start in range(0, length, CHUNK):
        h, state = recurrent(embedding(tokens[start : start + CHUNK]), state)
        wanted = targets[start : start + CHUNK]
        loss, _ = fr.cross_entropy(linear(h), wanted, ignore_index=-1)
        total += loss * np.count_nonzero(wanted >= 0)
    return float(total) / count / math.log(2)


def generate(
    model: fr.Layer,
    vocabulary: Vocabulary,
    prompt: str,
    *,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Yield tokens that go on from the prompt, each drawn from softmax(logits / temperature)."""
    embedding, recurrent, linear = layers_of(model)
    stream = recurrent.stream(batch_size=1)
    h: NDArray[Any] = np.zeros(recurrent.hidden_size, np.float32)
    for token in vocabulary.encode(prompt):
        h = stream.step(embedding(token))
    for _ in range(length):
        logits = linear(h)[: vocabulary.unknown]  # the token after these stands for no text
        token = draw(logits, temperature, rng)
        yield vocabulary.tokens[token]
        h = stream.step(embedding(token))


def draw(logits: NDArray[Any], temperature: float, rng: np.random.Generator) -> int:
    """Return an index drawn from softmax(logits / temperature), at temperature 0 the likeliest one."""
    if temperature == 0:
        return int(np.argmax(logits))
    with np.errstate(over="ignore"):
        weights = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


# The run


def prepare(settings: Settings) -> tuple[Corpus, Batches, Trainer]:
    """Return the text, its batches and a new model, and say what they are."""
    corpus = Corpus(read_text(settings.text), settings.level)
    batches = Batches(corpus.training, settings.batch, settings.steps)
    model = build_model(settings, corpus.vocabulary)
    print(
        f"text: {settings.text or 'pydoc_data.topics'}, {corpus.characters:,} characters; {CALLED[settings.level]}s: "
        f"{len(corpus.training):,} to train on, {len(corpus.validation):,} to validate"
    )
    if corpus.unknown:
        print(f"in the validation text only, all read as one unknown {CALLED[settings.level]}: {corpus.unknown!r}")
    print(
        f"model: {settings.layers} x {settings.cell.upper()} {settings.hidden}, {model.num_parameters():,} parameters, "
        f"{fr.get_isa()}, threads: {fr.get_num_threads()}"
    )
    print(f"frequencies alone: validation {corpus.frequency_bits():.3f} bits/{settings.level}")
    return corpus, batches, Trainer(model)


def train_and_write(options: argparse.Namespace) -> int:
    """Train, or go on, then let the best model write; return the exit code."""
    require("safetensors")
    run = Run(options, prepare)
    over = run.is_over() or run.train()
    print(run.summary())
    if not over:
        print(f"interrupted, everything is saved in {run.out}: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(plot_curves(run.out / "curve.png", run.progress.curves(), run.settings.level))
    vocabulary = run.corpus.vocabulary
    words = run.settings.level == "word"
    prompt = options.prompt.rstrip(" ") if words else options.prompt  # a word has the space before it
    unknown = vocabulary.lacks(prompt)
    if unknown:
        what = CALLED[run.settings.level]
        print(f"not in the vocabulary, all read as one unknown {what}: {unknown!r}", file=sys.stderr)
    try:
        model = fr.load(run.best)
    except OSError as error:
        raise InputError(f"cannot read {run.best}: start over with --fresh") from error
    rng = np.random.default_rng(run.settings.seed)
    text = generate(model, vocabulary, prompt, length=options.length, temperature=options.temperature, rng=rng)
    print(f"\n{prompt}", end="", flush=True)
    for token in text:
        print(token, end="", flush=True)
    print()
    return 0


def compare(options: argparse.Namespace) -> int:
    """Train beside PyTorch; return the exit code: 1 if the losses differ by more than rounding explains."""
    import _char_lm_torch as peer

    settings, count = Settings().merged(vars(options)), options.peer_steps
    level, unit = settings.level, CALLED[settings.level]
    corpus, batches, ours = prepare(settings)
    theirs = peer.TorchTrainer(ours.model, CLIP)
    rates = [learning_rate(settings.lr, step, step / count) for step in range(count)]
    with ProgressBar() as bar:
        race = peer.race({"fastrnn": ours, "PyTorch": theirs}, batches, rates, bar.show)
    twin = build_model(settings, corpus.vocabulary)
    twin.load_state_dict(theirs.state_dict())
    for name, model in {"fastrnn": ours.model, "PyTorch": twin}.items():
        bits = validation_bits(model, corpus.validation)
        print(f"{name}: {race.speed(name):,.0f} {unit}s/s, validation {bits:.3f} bits/{level} after {count} steps")
    print(f"fastrnn / PyTorch: {race.speed('fastrnn') / race.speed('PyTorch'):.2f} times the {unit}s/s")
    first, later = peer.differences(race)
    print(f"largest difference in the first {peer.EXACT} steps: {first:.1e} bits/{level}")
    print(f"largest difference of means over {peer.BLOCK} steps: {later:.1e} bits/{level}")
    print(plot_curves(make_directory(options.out) / "peer_curve.png", race.curves, settings.level))
    coincide = first <= peer.EXACT_TOLERANCE and later <= peer.LATER_TOLERANCE
    print("the curves coincide" if coincide else "THE CURVES DIFFER")
    return 0 if coincide else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = make_parser(__doc__, list(CELLS))
    return run_command(parser, lambda options: (compare if options.peer else train_and_write)(options), arguments)


if __name__ == "__main__":
    raise SystemExit(main())
