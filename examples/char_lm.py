"""Train a language model of characters or words, then let it write.

    python examples/char_lm.py                              one minute on the text of Python's own help topics
    python examples/char_lm.py --prompt "The class "        again: what was trained writes another text
    python examples/char_lm.py --text FILE --out DIR --seconds 600 --cell gru --layers 2 --hidden 512
    python examples/char_lm.py --level word --layers 2 --batch 8 --steps 32 --lr 0.003 --seconds 90     with words
    python examples/char_lm.py --peer torch                 the same model step by step in PyTorch, side by side

The model reads one character after another and predicts the next:

    x_t = embedding[character_t]        h_t = LSTM(x_t, state_{t-1})        p(character_{t+1}) = softmax(W h_t + b)

It is trained by truncated back-propagation through time: `batch` readers each take `steps` characters of the text, the
gradient goes back to the beginning of those, and the state is carried over to the next ones. The loss is the number of
bits the model needs for a character: log2(number of characters) if it knows nothing, about 4.7 for English if it knows
how frequent each character is, and 0 if it knows the text by heart. The last tenth of the text is kept for validation.
With ``--level word`` the tokens are words, signs and white space instead; words that the text has once are all one token.

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
import importlib.util
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from _char_lm_data import Batches, Corpus, InputError, IntArray, Vocabulary, read_text
from _char_lm_options import make_parser
from _char_lm_report import ProgressBar, clock, plot_curves
from _char_lm_run import (
    Arrays,
    Progress,
    Saved,
    Settings,
    StopRequest,
    make_directory,
    read_checkpoint,
    write_checkpoint,
    write_whole,
)
from numpy.typing import NDArray

import fastrnn as fr

Recurrent: TypeAlias = "fr.LSTM | fr.GRU | fr.RNN"

CELLS: dict[str, type[Recurrent]] = {"lstm": fr.LSTM, "gru": fr.GRU, "rnn": fr.RNN}
CALLED = {"char": "character", "word": "word"}  # what a token is, by level
EMBEDDING = 64  # width of the vectors that stand for tokens
CLIP = 1.0  # largest norm of the gradient
WARM_UP = 50  # steps during which the learning rate rises
VALIDATIONS = 10  # in a run
SAVE_EVERY = 60  # seconds, and whenever there was a validation
READERS, CHUNK = 16, 256  # of a validation: parts of its text read side by side, characters at a time
INTERRUPTED = 130  # exit code after Ctrl-C


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


def learning_rate(peak: float, step: int, fraction: float) -> float:
    """Rise to the peak in the first steps, then fall along half a cosine to 0 at the end of the run."""
    return peak * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * fraction)) / 2


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


class Run:
    """A training run in its directory, new or going on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out = Path(options.out)
        self.checkpoint, self.best = self.out / "checkpoint.npz", self.out / "best.safetensors"
        saved = None if options.fresh else read_checkpoint(self.checkpoint)
        self.settings = saved.settings.changed(vars(options), self.out) if saved else Settings().merged(vars(options))
        self.progress = saved.progress if saved else Progress()
        self.corpus, self.batches, self.trainer = prepare(self.settings)
        if saved and saved.digest != self.corpus.digest:
            raise InputError(f"the text is not the one {self.out} was trained on: start over with --fresh")
        if saved:
            try:
                self.trainer.restore(saved.arrays)
            except fr.errors.StateDictError as error:
                raise InputError(f"{self.checkpoint} does not fit this version: start over with --fresh") from error
        if importlib.util.find_spec("safetensors") is None:
            raise InputError("saving the weights needs safetensors: pip install fastrnn[examples]")
        make_directory(options.out)
        tokens = json.dumps(list(self.corpus.vocabulary.tokens))
        write_whole(self.out / "vocabulary.json", lambda file: file.write(tokens.encode()))
        self._begin = 0.0

    def is_over(self) -> bool:
        """Return whether a run that goes on has nothing left to do."""
        return min(self.progress.fraction, self.progress.measure(self.settings)) == 1

    def train(self) -> bool:
        """Train until the run is over or Ctrl-C is pressed, save, and return whether it is over."""
        progress, settings = self.progress, self.settings
        first_step, busy, speed = progress.step, 0.0, 0.0
        saved = time.perf_counter()
        self._begin = saved - progress.seconds
        with StopRequest() as stop, ProgressBar() as bar:
            while not stop.made:
                fraction = progress.measure(settings)
                if int(VALIDATIONS * fraction) > int(VALIDATIONS * min(progress.fraction, fraction)):
                    bar.say(self.validate())
                progress.fraction = fraction
                if fraction == 1:
                    bar.show(1.0, self._line(speed))
                    break
                tokens, targets = self.batches[progress.step]
                start = time.perf_counter()
                bits = self.trainer.step(tokens, targets, learning_rate(settings.lr, progress.step, fraction))
                now = time.perf_counter()
                if not math.isfinite(bits):
                    sys.exit(
                        f"the loss became {bits} at step {progress.step}: start over with --fresh and a lower --lr"
                    )
                busy += now - start
                progress.finish_step(bits, now - self._begin, self.batches.characters)
                speed = (progress.step - first_step) * self.batches.characters / busy
                bar.show(fraction, self._line(speed))
                if now - saved > SAVE_EVERY:
                    self.save()
                    saved = now
            self.save()
        return not stop.made

    def validate(self) -> str:
        """Measure the model on the validation text, save it if it is the best so far, and return a line about it."""
        progress, start = self.progress, time.perf_counter()
        bits = validation_bits(self.trainer.model, self.corpus.validation)
        best = progress.best is None or bits < progress.best
        if best:
            fr.save(self.trainer.model, self.best)
            progress.best = bits
        progress.seconds = time.perf_counter() - self._begin
        progress.validation.append((progress.seconds, progress.step * self.batches.characters, bits))
        self.save()
        progress.validation_seconds = time.perf_counter() - start
        return f"validation {bits:.3f} bits/{self.settings.level} after {clock(progress.seconds)}{', the best so far' * best}"

    def save(self) -> None:
        """Write the checkpoint."""
        saved = Saved(self.settings, self.progress, self.corpus.digest, self.trainer.arrays())
        write_checkpoint(self.checkpoint, saved)

    def _line(self, speed: float) -> str:
        """Return what the progress bar says; `speed` is in characters per second."""
        progress, settings, level = self.progress, self.settings, self.settings.level
        left = settings.seconds - progress.seconds
        if settings.max_steps is not None:
            left = (settings.max_steps - progress.step) * self.batches.characters / max(speed, 1)
        return f"{progress.bits:.3f} bits/{level}  {speed / 1000:.1f}k {level}/s  {clock(max(left, 0))} left"

    def summary(self) -> str:
        """Return a line about what was reached."""
        progress, level = self.progress, self.settings.level
        read = progress.step * self.batches.characters
        best = "not validated yet" if progress.best is None else f"best validation {progress.best:.3f} bits/{level}"
        return f"{best}; {progress.step:,} steps, {read:,} {CALLED[level]}s in {progress.seconds:.1f} s"

    def plot(self) -> str:
        """Draw the loss curves; return a line about it."""
        curves = {"training, smoothed": self.progress.training, "validation": self.progress.validation}
        return plot_curves(self.out / "curve.png", curves, self.settings.level)


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
    return corpus, batches, Trainer(model)


def train_and_write(options: argparse.Namespace) -> int:
    """Train, or go on, then let the best model write; return the exit code."""
    run = Run(options)
    over = run.is_over() or run.train()
    print(run.summary())
    if not over:
        print(f"interrupted, everything is saved in {run.out}: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(run.plot())
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
    if importlib.util.find_spec("torch") is None:
        raise InputError("--peer torch needs PyTorch: pip install torch")
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
    parser = make_parser(__doc__ or "", list(CELLS))
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character gets "?"
    try:
        return compare(options) if options.peer else train_and_write(options)
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the text has enough of it, as `head` may; exit without a second error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
