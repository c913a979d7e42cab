"""See gradients vanish and explode, and what helps: two tasks that need a long memory, six networks, with and without clipping.

    python examples/long_memory.py                              both tasks, about four minutes on one core
    python examples/long_memory.py --task adding --length 150 --steps 4000      a longer sequence
    python examples/long_memory.py --models gru lstm --steps 4000
    python examples/long_memory.py --peer torch                 the same networks and batches in PyTorch, side by side

The adding problem: T random numbers go by, one in each half is marked, and at the end their sum is asked for. Whoever
forgets the marked ones does best by saying 1, with a mean squared error of 1/6.

The copy task: five symbols out of eight, then a long pause, then a sign at which they must be repeated in order. Whoever
forgets them does best by guessing, with a cross entropy of ln 8.

    tanh    h_t = tanh(W x_t + R h_{t-1} + b), R uniform in +-1/sqrt(H)      dL/dh_t vanishes: |R| < 1, tanh' <= 1
    orth    the same, R an orthogonal matrix at first                        |R v| = |v|: only tanh' makes it vanish
    irnn    h_t = relu(W x_t + R h_{t-1} + b), R the identity at first       dL/dh_t arrives, but R must not grow: clip
    lstm-0  LSTM whose forget gates start half open (bias 0)                 dL/dc_t halves with each step at first
    lstm    LSTM with forget bias 1                                          it keeps 0.73 instead
    gru     GRU

Every figure is the loss as a part of the loss without memory: 1 for nothing remembered, 0 for solved. Expect the gated
networks to solve the adding problem, the clipped IRNN too, which Le et al. find comparable to LSTMs on such tasks, and
the tanh networks to stay at 1: a hundred steps are too many for them. The copy task is shorter: expect orth to solve it
first, then gru and lstm, and lstm-0 to stay at 1, for there the forget bias decides. The directory --out holds
long_memory.png: for each task the learning curves, and the norm of the loss's gradient with respect to the hidden state
at each step, before and after training.

References: Hochreiter & Schmidhuber 1997, Long short-term memory (both tasks' ancestors); Le, Jaitly & Hinton 2015, A simple
way to initialize recurrent networks of rectified linear units; Pascanu, Mikolov & Bengio 2013, On the difficulty of
training recurrent neural networks (clipping); Jozefowicz, Zaremba & Sutskever 2015 (forget bias).
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from _command_line import INTERRUPTED, Parser, above_zero, at_least, count, make_directory, run_command
from _long_memory_plot import plot
from _long_memory_tasks import Adding, Array, Copying, Task
from _progress import ProgressBar

import fastrnn as fr

POINTS = 40  # of a learning curve
TESTS = 1000  # sequences
SOLVED = 0.1  # of the loss without memory


# The networks


class Kind(NamedTuple):
    """How a recurrent layer (C, H, rng) is made, and the learning rate that suits it."""

    make: Callable[[int, int, np.random.Generator], fr.Layer]
    lr: float


def irnn(C: int, H: int, rng: np.random.Generator) -> fr.RNN:
    """Return a ReLU network that starts by keeping its state."""
    return fr.RNN(C, H, nonlinearity="relu", recurrent_init="identity", rng=rng)


KINDS = {
    "tanh": Kind(lambda C, H, rng: fr.RNN(C, H, weight_init="torch", rng=rng), 1e-3),
    "orth": Kind(lambda C, H, rng: fr.RNN(C, H, recurrent_init="orthogonal", rng=rng), 1e-3),
    "irnn": Kind(irnn, 1e-3),
    "lstm-0": Kind(lambda C, H, rng: fr.LSTM(C, H, forget_bias=0, rng=rng), 5e-3),
    "lstm": Kind(lambda C, H, rng: fr.LSTM(C, H, forget_bias=1, rng=rng), 5e-3),
    "gru": Kind(lambda C, H, rng: fr.GRU(C, H, rng=rng), 5e-3),
}


@dataclass
class Result:
    """One network on one task: its curve of (step, loss), and its gradient norms (T,) before and after training."""

    kind: str
    clipped: bool
    curve: list[tuple[int, float]] = field(default_factory=list)
    before: Array = field(default_factory=lambda: np.empty(0))
    after: Array = field(default_factory=lambda: np.empty(0))
    final: float = math.nan
    seconds: float = 0.0
    peer: tuple[float, float] | None = None  # final loss and seconds of PyTorch

    @property
    def solved(self) -> int | None:
        """Return the step by which the loss had fallen below SOLVED, or None."""
        return next((step for step, loss in self.curve if loss < SOLVED), None)


def gradient_norms(model: fr.Layer, task: Task, seed: int) -> Array:
    """Return |dL/dh_t| for each step t, on one batch."""
    x, target = task.batch(np.random.default_rng(seed), 32)
    (cell,) = fr.diagnose(model, x, lambda y: task.loss(y, target)).cells
    return cell.norms


def train(result: Result, task: Task, options: argparse.Namespace) -> Iterator[tuple[int, float]]:
    """Train a network and fill in its result, yielding (step, loss); ends early if the loss is no longer finite."""
    kind, rng = KINDS[result.kind], np.random.default_rng(options.seed)
    recurrent = kind.make(task.inputs, options.hidden, rng)
    model = fr.Sequential(recurrent, fr.Linear(options.hidden, task.outputs, rng=rng))
    optimizer = fr.Adam(model, lr=kind.lr)
    twin = torch_twin(model, kind.lr, options.clip if result.clipped else None) if options.peer else None
    result.before = gradient_norms(model, task, options.seed)
    every, total = max(1, options.steps // POINTS), 0.0
    for step in range(1, options.steps + 1):
        x, target = task.batch(rng, options.batch)
        if twin:
            twin.step(x, target)
        start = time.perf_counter()
        y, backward = model.forward(x, input_gradient=False)
        loss, dy = task.loss(y, target)
        if not math.isfinite(loss):
            return
        backward(dy)
        if result.clipped:
            fr.clip_grad_norm(model, options.clip)
        optimizer.step()
        optimizer.zero_grad()
        result.seconds += time.perf_counter() - start
        total += loss / task.baseline
        if step % every == 0:
            result.curve.append((step, total / every))
            total = 0.0
        yield step, loss / task.baseline
    result.after = gradient_norms(model, task, options.seed)
    x, target = task.batch(np.random.default_rng(options.seed + 1), TESTS)
    result.final = float(task.loss(model(x), target)[0]) / task.baseline
    if twin:
        result.peer = twin.test(x, target) / task.baseline, twin.seconds


def torch_twin(model: fr.Sequential, lr: float, clip: float | None) -> Any:
    """Return the same model in PyTorch."""
    from _long_memory_torch import TorchTwin

    return TorchTwin(model, lr, clip)


# The run


def table(task: Task, results: Sequence[Result]) -> str:
    """Return what came out on a task, a line for each network."""
    lines = [
        f"{task.name}, {task.length} steps",
        "                      loss / loss without memory       gradient at the first step / at the last",
        "                      (1 nothing learned, 0 solved)    before training    after",
    ]
    for result in results:
        clipped = "clipped" if result.clipped else "not clipped"
        solved = f"solved at {result.solved}" if result.solved else "" if math.isfinite(result.final) else "diverged"
        ratios = [f"{norms[0] / norms[-1]:.0e}" if len(norms) else "" for norms in (result.before, result.after)]
        lines.append(f"  {result.kind:8}{clipped:12}{result.final:7.3f}  {solved:24}{ratios[0]:19}{ratios[1]}")
        if result.peer:
            lines.append(
                f"    in PyTorch        {result.peer[0]:7.3f}  {result.peer[1]:.1f} s, here {result.seconds:.1f} s"
            )
    lines.append(f"  stated: {task.stated}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Train every network on every task, draw, and print the tables; return the exit code."""
    path = make_directory(options.out) / "long_memory.png"
    tasks: list[Task] = []
    if options.task != "copy":
        tasks.append(Adding(options.length))
    if options.task != "adding":
        tasks.append(Copying(options.delay))
    plan = [(task, Result(kind, clipped)) for task in tasks for clipped in (True, False) for kind in options.models]
    code, done = 0, 0
    try:
        with ProgressBar() as bar:
            for task, result in plan:
                clipped = "clipped" if result.clipped else "not clipped"
                for step, loss in train(result, task, options):
                    fraction = (done + step / options.steps) / len(plan)
                    bar.show(fraction, f"{task.name}, {result.kind} {clipped}: {loss:.2f} of the loss without memory")
                done += 1
    except KeyboardInterrupt:
        print("interrupted: this is how far it came", file=sys.stderr)
        code = INTERRUPTED
    by_task = {task.name: [result for owner, result in plan[:done] if owner is task] for task in tasks}
    for task in tasks:
        print(f"\n{table(task, by_task[task.name])}")
    print(f"\n{plot(path, by_task)}")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = functools.partial(parser.add_argument, metavar="N", type=count)
    parser.add_argument("--task", choices=["both", "adding", "copy"], default="both", help="(default: %(default)s)")
    parser.add_argument("--models", choices=list(KINDS), nargs="+", default=list(KINDS), help="(default: all)")
    add("--length", type=at_least(2), default=100, help="steps of the adding problem (default: %(default)s)")
    add("--delay", default=20, help="pause in the copy task (default: %(default)s)")
    add("--steps", default=2000, help="batches to train on (default: %(default)s)")
    add("--batch", default=32, help="sequences in a batch (default: %(default)s)")
    add("--hidden", default=64, help="units (default: %(default)s)")
    add("--clip", metavar="NORM", type=above_zero, default=1.0, help="largest gradient (default: %(default)s)")
    parser.add_common("long_memory_run", threads=1)  # more do not help networks this small
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
