"""Tell frame by frame whether somebody speaks, as the sound comes in: a causal convolution and a GRU, streaming.

    python examples/voice_activity.py                   train on synthetic sound, then label 60 s of it as if it came live
    python examples/voice_activity.py --data FILE.wav   label a recording of yours instead (16-bit WAV)
    python examples/voice_activity.py --peer torch      the same model trained and streamed in PyTorch, side by side

Every 10 ms a frame of sound becomes 24 log energies, and these a probability that somebody speaks:

    x_t = log energies of the last 32 ms          z_t = relu(conv(x_{t-4}, ..., x_t))
    h_t = GRU(z_t, h_{t-1})                       p_t = sigmoid(w h_t + b)

Nothing looks into the future, so the model that was trained on whole recordings runs on a live signal: `conv.stream()`
keeps the last four frames, `gru.stream()` the state, and each `step` costs a few microseconds. The script checks that both
ways give the same probabilities and prints the real-time factor, the time it takes to label a second of sound.

The sound is speech-like: a buzz through the resonances of five vowels, hissed consonants, many voices; behind it rush, hum,
beeps and knocks from 0 to 20 decibels below. A threshold on the energy, the classic detector, gets about three
quarters of the frames right, the network should get 95%.

The directory --out (voice_activity_run) then holds speech.csv (from, to, in seconds), sound.wav (what was labelled)
and speech.png. Ctrl-C ends the training early and goes on with what was learned.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from _command_line import Parser, above_zero, count, make_directory, run_command
from _training import train
from _voice_activity_data import Ears, Frames, Scale, energy_accuracy, make_frames, spans
from _voice_activity_draw import draw_speech
from _voice_activity_signal import BANDS, HOP, RATE, FloatArray, features, read_wav, recording, write_wav

import fastrnn as fr

KERNEL = 5  # frames that the convolution sees
CLIP = 1.0  # largest norm of the gradient
BATCH = 8  # recordings in a step
TESTED = 20  # recordings
SAME = 1e-5  # largest difference of probabilities: rounding of float32


def build_model(hidden: int, rng: np.random.Generator) -> fr.Sequential:
    """Return a model from features (N, T, BANDS) to logits (N, T, 1)."""
    return fr.Sequential(
        fr.Conv1d(BANDS, hidden, KERNEL, padding="causal", layout="NLC", activation="relu", rng=rng),
        fr.GRU(hidden, hidden, batch_first=True, rng=rng),
        fr.Linear(hidden, 1, rng=rng),
    )


class Detector:
    """A model on a live signal; `features` turns a frame into scaled features."""

    def __init__(self, model: fr.Sequential, features: Callable[[FloatArray], FloatArray]) -> None:
        conv, gru, self._linear = model
        assert isinstance(conv, fr.Conv1d)
        assert isinstance(gru, fr.GRU)
        self._features, self._conv, self._gru = features, conv.stream(), gru.stream()

    def step(self, frame: FloatArray) -> float:
        """Return the probability that somebody speaks in the next frame."""
        h = self._gru.step(self._conv.step(self._features(frame)))
        return float(sigmoid(self._linear(h)[0]))


def sigmoid(x: Any) -> Any:
    """Return the logistic function, computed so that nothing overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


class Trainer:
    """A model and its optimizer."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model = model
        self.optimizer = fr.Adam(model)

    def step(self, batch: Frames, lr: float) -> float:
        """Learn from one batch; return its loss per frame."""
        logits, backward = self.model.forward(batch.x, input_gradient=False)
        loss, dlogits = fr.binary_cross_entropy_with_logits(logits, batch.speaks[..., None])
        backward(dlogits)
        fr.clip_grad_norm(self.model, CLIP)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


def batches(data: Frames, rng: np.random.Generator) -> Iterator[tuple[Frames]]:
    """Yield batches without end, each epoch in a new order."""
    while True:
        order = rng.permutation(len(data.x))
        for chosen in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            yield (Frames(data.x[chosen], data.speaks[chosen]),)


def accuracy(model: fr.Sequential, data: Frames) -> float:
    """Return the part of all frames that a model labels rightly."""
    return float(np.mean((model(data.x)[..., 0] > 0) == data.speaks))


def stream(detector: Any, signal: FloatArray) -> tuple[FloatArray, float]:
    """Feed a signal frame by frame; return the probabilities and the real-time factor."""
    frames = signal[: len(signal) // HOP * HOP].reshape(-1, HOP)
    start = time.perf_counter()
    probabilities = np.array([detector.step(frame) for frame in frames])
    return probabilities, (time.perf_counter() - start) / (frames.size / RATE)


def run(options: argparse.Namespace) -> int:
    """Train, test, stream; return the exit code: 1 if streaming gives something else than the whole sequence."""
    rng, truth = np.random.default_rng(options.seed), None
    out = make_directory(options.out)
    if options.data:
        sound = read_wav(options.data)
    else:
        sound, truth = recording(options.length, rng)
    training, test = make_frames(options.recordings, rng), make_frames(TESTED, rng)
    by_energy = energy_accuracy(training, test)
    scale = Scale(training.x.mean((0, 1)), training.x.std((0, 1)))
    training, test = training._replace(x=scale(training.x)), test._replace(x=scale(test.x))

    model, twin = build_model(options.hidden, rng), build_model(options.hidden, rng)
    learners: dict[str, Any] = {"fastrnn": Trainer(model)}
    print(f"{training.speaks.size:,} frames to train on, {test.speaks.size:,} to test on")
    print(f"{model.num_parameters():,} parameters, {fr.get_isa()}, threads: {fr.get_num_threads()}")
    if options.peer:
        from _voice_activity_torch import TorchDetector, TorchTrainer

        learners["PyTorch"] = peer = TorchTrainer(model.state_dict(), CLIP)
    steps = options.epochs * math.ceil(len(training.x) / BATCH)
    seconds, _ = train(learners, batches(training, rng), steps, options.lr)
    print("training: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items()))
    print(f"accuracy: {accuracy(model, test):.2%} of the frames; the best threshold on the energy: {by_energy:.2%}")
    if options.peer:
        twin.load_state_dict(peer.state_dict())
        print(f"the same model in PyTorch: {accuracy(twin, test):.2%}")

    live, factor = stream(Detector(model, Ears(scale)), sound)
    print(f"{len(sound) / RATE:.1f} s streamed, real-time factor {factor:.5f}: {1 / factor:,.0f} times real time")
    if options.peer:
        _, factor = stream(TorchDetector(peer, Ears(scale)), sound)
        print(f"PyTorch: real-time factor {factor:.5f}")
    at_once = sigmoid(model(scale(features(sound))[None])[0, :, 0])
    difference = float(np.abs(live - at_once).max())
    print(f"largest difference between streamed and whole: {difference:.1e}")
    write_wav(out / "sound.wav", sound)
    with open(out / "speech.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("from", "to"), *((f"{a:.2f}", f"{b:.2f}") for a, b in spans(live > 0.5))])
    print(draw_speech(out / "speech.png", sound, live, truth))
    return 0 if difference < SAME else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", metavar="FILE", help="16-bit WAV file to label instead of synthetic sound")
    add("--length", metavar="S", type=above_zero, default=60.0, help="of the synthetic sound (default: %(default)s)")
    add("--recordings", metavar="N", type=count, default=200, help="of 10 s to train on (default: %(default)s)")
    add("--epochs", metavar="N", type=count, default=30, help="passes over them (default: %(default)s)")
    add("--hidden", metavar="N", type=count, default=48, help="channels and units (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=5e-3, help="highest learning rate (default: %(default)s)")
    parser.add_common("voice_activity_run", seed=1)
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
