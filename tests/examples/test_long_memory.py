"""The long memory example at reduced size: gated networks learn, clipping and forget bias are what they say, files are valid."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

long_memory = importlib.import_module("long_memory")

SMALL = ("--steps", "200", "--hidden", "24", "--length", "10", "--delay", "2")


@pytest.fixture
def main(tmp_path, capsys):
    """Return a function that runs the command line and returns (exit code, stdout, stderr)."""
    threads = fr.get_num_threads()

    def run(*arguments):
        try:
            code = long_memory.main([*SMALL, "--out", str(tmp_path), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    yield run
    fr.set_num_threads(threads)


def figures(stdout):
    """Return the losses in the tables, by (network, "clipped" or "not") and in the order of the tasks."""
    result = {}
    for line in stdout.splitlines():
        words = line.replace("not clipped", "not").split()
        if len(words) > 2 and words[0] in long_memory.KINDS:
            result.setdefault((words[0], words[1]), []).append(float(words[2]))
    return result


def test_remembers(main, tmp_path):
    pytest.importorskip("matplotlib")
    code, stdout, _ = main("--models", "gru", "irnn")
    assert code == 0
    losses = figures(stdout)
    assert len(losses) == 4
    for both in losses.values():
        assert len(both) == 2
    assert losses["gru", "clipped"][0] < 0.3  # 1 is what can be had without memory
    assert losses["gru", "clipped"][1] < 0.8
    assert (tmp_path / "long_memory.png").read_bytes().startswith(b"\x89PNG")
    again = main("--models", "gru", "--task", "adding")[1]
    assert figures(again)["gru", "clipped"] == losses["gru", "clipped"][:1]


def test_torch_peer_learns_alike(main):
    pytest.importorskip("torch")
    code, stdout, _ = main("--peer", "torch", "--steps", "15")
    assert code == 0
    assert len(figures(stdout)) == 6 * 2
    theirs = [float(loss) for loss in re.findall(r"in PyTorch +([0-9.]+)", stdout)]
    ours = [losses[task] for task in (0, 1) for losses in figures(stdout).values()]
    assert ours == pytest.approx(theirs, abs=0.02)


def test_a_perfect_answer_has_no_loss(rng):
    adding = long_memory.Adding(9)
    x, sums = adding.batch(rng, 50)
    assert x.shape == (9, 50, 2)
    np.testing.assert_array_equal(x[:4, :, 1].sum(axis=0), 1)
    np.testing.assert_array_equal(x[4:, :, 1].sum(axis=0), 1)
    y = np.zeros((9, 50, 1), np.float32)
    y[-1] = (x[..., 0] * x[..., 1]).sum(axis=0)[:, None]
    assert adding.loss(y, sums)[0] == pytest.approx(0, abs=1e-12)
    y[-1] = 1
    _, many = adding.batch(rng, 20_000)
    assert adding.loss(np.ones((1, 20_000, 1), np.float32), many)[0] == pytest.approx(adding.baseline, rel=0.05)

    copying = long_memory.Copying(4)
    x, symbols = copying.batch(rng, 50)
    assert x.shape == (14, 50, 10)
    np.testing.assert_array_equal(x.sum(axis=2), 1)
    np.testing.assert_array_equal(x[:5].argmax(axis=2), symbols)
    y = np.zeros((14, 50, 8), np.float32)
    assert copying.loss(y, symbols)[0] == pytest.approx(copying.baseline)
    y[-5:] = 100 * np.eye(8, dtype=np.float32)[symbols]
    loss, dy = copying.loss(y, symbols)
    assert loss == pytest.approx(0, abs=1e-12)
    assert not dy[:-5].any()


def test_gradients_start_as_the_docstring_says():
    task = long_memory.Adding(60)

    def left(kind):
        rng = np.random.default_rng(0)
        model = fr.Sequential(long_memory.KINDS[kind].make(2, 32, rng), fr.Linear(32, 1, rng=rng))
        norms = long_memory.gradient_norms(model, task, 0)
        return norms[0] / norms[-1]

    assert left("tanh") < 1e-9 < left("lstm-0") < 1e-5 < left("lstm") < 0.1 < left("irnn")


def test_a_loss_that_is_not_finite_ends_a_network(main, monkeypatch):
    monkeypatch.setattr(long_memory.Adding, "loss", lambda self, y, sums: (math.inf, np.ones_like(y)))
    code, stdout, _ = main("--models", "gru", "--task", "adding")
    assert code == 0
    assert stdout.count("diverged") == 2


def test_ctrl_c_shows_what_there_is(main, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    train = long_memory.train

    def pressed(result, task, options):
        if not result.clipped:
            raise KeyboardInterrupt
        return train(result, task, options)

    monkeypatch.setattr(long_memory, "train", pressed)
    code, stdout, stderr = main("--models", "gru", "--task", "adding", "--steps", "20")
    assert code == 130
    assert "interrupted" in stderr
    assert list(figures(stdout)) == [("gru", "clipped")]
    assert (tmp_path / "long_memory.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "1"], "argument --length: must be at least 2"),
        (["--clip", "0"], "argument --clip: must be a number above 0"),
        (["--models", "transformer"], "invalid choice: 'transformer'"),
        (["--out", "/dev/null/run"], "cannot write to"),
    ],
)
def test_bad_arguments(main, arguments, message):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
