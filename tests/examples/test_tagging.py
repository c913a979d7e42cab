"""The tagger at reduced size: context helps, it is written and drawn, agrees with PyTorch, and refuses nonsense."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

app = importlib.import_module("tagging")
data = importlib.import_module("_tagging_data")

pytest.importorskip("safetensors")


@pytest.fixture
def main(tmp_path, capsys, monkeypatch):
    """Return a function that runs the command line in one thread and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    before = fr.get_num_threads()

    def run(*arguments):
        try:
            code = app.main(["--out", "run", "--threads", "1", *arguments])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    fr.set_num_threads(before)


def test_learns_and_context_helps(main, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(app, "TESTED", 30)
    code, stdout, _ = main("--steps", "80", "--utterances", "100", "--batch", "8", "--hidden", "48")
    assert code == 0
    lines = [line.split("%")[0].rsplit(None, 1) for line in stdout.splitlines() if "%" in line]
    always, framewise, forward, bidirectional = (float(value) / 100 for _, value in lines)
    assert always < 0.25
    assert framewise > always + 0.2
    assert forward > always + 0.25
    assert bidirectional > framewise

    assert (tmp_path / "run" / "tagging.png").read_bytes().startswith(b"\x89PNG")
    test = data.pad([data.speak(np.random.default_rng(5)) for _ in range(10)])
    for name in app.NETS:
        trainer = app.Trainer(fr.load(tmp_path / "run" / f"{name}.safetensors"))
        assert app.accuracy(trainer, test) > always + 0.1


@pytest.mark.parametrize("net", ["framewise", "forward", "bidirectional"])
def test_learns_as_its_twin(net, rng):
    pytest.importorskip("torch")
    peer = importlib.import_module("_tagging_torch")
    model = app.NETS[net](16, np.random.default_rng(0))
    theirs, ours = peer.TorchTagger(model, app.CLIP), app.Trainer(model)
    batches = [data.pad([data.speak(rng) for _ in range(4)]) for _ in range(10)]
    losses = [[learner.step(batch, 1e-2) for batch in batches] for learner in (ours, theirs)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][-1] < 0.95 * losses[0][0]
    assert app.accuracy(ours, batches[0]) == pytest.approx(app.accuracy(theirs, batches[0]), abs=0.01)


def test_utterances():
    rng = np.random.default_rng(0)
    utterances = [data.speak(rng) for _ in range(40)]
    for x, y in utterances:
        assert x.shape == (len(y), data.BANDS)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert y[-1] >= data.LABELS.index("a")  # a syllable ends in a vowel
    assert len({len(y) for _, y in utterances}) > 10
    x, y = np.concatenate([x for x, _ in utterances]), np.concatenate([y for _, y in utterances])
    assert set(y) == set(range(len(data.LABELS)))
    assert 0.2 < x.std() < 2
    mean = {name: x[y == label].mean(0) for label, name in enumerate(data.LABELS)}
    assert mean["s"][-1] > mean["pause"][-1] + 0.2
    assert mean["a"].mean() > mean["pause"].mean() + 0.2
    assert mean["i"].argmax() != mean["a"].argmax()


def test_padding():
    rng = np.random.default_rng(0)
    utterances = [data.speak(rng) for _ in range(3)]
    batch = data.pad(utterances)
    assert batch.x.shape == (max(map(len, (y for _, y in utterances))), 3, data.BANDS)
    for n, (x, y) in enumerate(utterances):
        np.testing.assert_array_equal(batch.x[: len(y), n], x)
        np.testing.assert_array_equal(batch.y[: len(y), n], y)
        assert (batch.y[len(y) :, n] == -1).all()
        assert batch.lengths[n] == len(y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "argument --steps: must be a whole number from 1"),
        (["--hidden", "many"], "argument --hidden: must be a whole number from 1"),
        (["--lr", "0"], "argument --lr: must be a number above 0"),
        (["--peer", "keras"], "argument --peer: invalid choice"),
    ],
)
def test_bad_arguments(main, arguments, message):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


def test_ctrl_c(main, monkeypatch):
    def pressed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "TESTED", 2)
    monkeypatch.setattr(app.Trainer, "step", pressed)
    code, _, stderr = main("--utterances", "2")
    assert code == 130
    assert stderr.endswith("interrupted\n")


@pytest.mark.parametrize(("module", "message"), [("safetensors", "fastrnn[examples]"), ("torch", "pip install torch")])
def test_says_what_is_missing(main, monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, stderr = main(*(["--peer", "torch"] if module == "torch" else []))
    assert code == 2
    assert f"{module} is not installed" in stderr
    assert message in stderr
