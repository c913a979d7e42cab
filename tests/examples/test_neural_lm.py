"""The feed-forward language model at reduced size: it beats n-grams, trains like its twin, and refuses nonsense."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

script = importlib.import_module("neural_lm")
data = importlib.import_module("_neural_lm_data")
Interpolated = importlib.import_module("_neural_lm_ngrams").Interpolated

pytest.importorskip("safetensors")
pytestmark = pytest.mark.filterwarnings("error")

SMALL = ("--order", "3", "--features", "16", "--hidden", "24", "--batch", "32", "--dropout", "0", "--least", "1")


@pytest.fixture(autouse=True)
def one_thread():
    """Leave the other cores alone: models this small do not need them."""
    before = fr.get_num_threads()
    fr.set_num_threads(1)
    yield
    fr.set_num_threads(before)


@pytest.fixture(scope="module")
def texts():
    """Return paragraphs of made-up English in which words of a kind stand in the same places: few n-grams are seen twice."""
    rng = np.random.default_rng(0)
    kinds = [[f"{kind}{number}" for number in range(40)] for kind in ("the", "big", "cat", "sees", "here")]
    return [" ".join(rng.choice(kind) for kind in kinds) + "." for _ in range(600)]


@pytest.fixture(scope="module")
def file(texts, tmp_path_factory):
    """Return the path of a file with them."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return str(path)


@pytest.fixture
def main(file, tmp_path, capsys):
    """Return a function that runs the command line and returns (exit code, stdout, stderr)."""

    def run(*arguments, path=file):
        try:
            code = script.main(["--data", str(path), "--out", str(tmp_path / "run"), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


def test_beats_ngrams_and_knows_kinds_of_words(main, tmp_path):
    code, stdout, stderr = main(*SMALL, "--epochs", "10", "--lr", "1e-2", "--words", "cat7,sees1")
    assert code == 0
    assert "held-out perplexity" in stderr
    assert "Bengio et al. 2003, Brown corpus: trigrams 336" in stdout
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    best = 40 ** (5 / 7)  # the words are even draws; full stop and end are sure
    assert best < record["network"]["test"] < record["ngram"] < 60
    assert record["network"]["mixed"] < record["ngram"]
    for word in ("cat7", "sees1"):
        line = next(line for line in stdout.splitlines() if line.startswith(f"near '{word}'"))
        neighbours = line.split(": ")[1].split(", ")
        assert sum(word[:3] == other[:3] for other in neighbours) > len(neighbours) / 2

    words = json.loads((tmp_path / "run" / "words.json").read_text())
    model = fr.load(tmp_path / "run" / "best.safetensors")
    assert model(np.zeros((1, 2), int)).shape == (1, len(words))
    touched, rows = stdout.split("touched in a step: ")[1].split()[0:3:2]
    assert 30 < int(touched) < int(rows.rstrip("\n")) / 2 < 150


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ngrams_stay_in_their_paragraph(n):
    tokens = np.array([0, 5, 6, 7, 0, 8, 0])
    windows = data.ngrams(tokens, n)
    full = [[0, 0, 0, 5], [0, 0, 5, 6], [0, 5, 6, 7], [5, 6, 7, 0], [0, 0, 0, 8], [0, 0, 8, 0]]
    np.testing.assert_array_equal(windows, np.array(full)[:, 4 - n :])


def test_interpolation_is_a_distribution_by_hand():
    training, held_out = np.array([0, 2, 3, 0, 2, 2, 0]), np.array([0, 2, 3, 0, 3, 0])
    model = Interpolated(training, held_out, 5, 2)
    np.testing.assert_allclose(model.weights.sum(1), 1)
    for context in range(5):  # 4 was never seen
        found = [model.probabilities(np.array([context, word]))[0] for word in range(5)]
        assert sum(found) == pytest.approx(1)
        assert min(found) > 0
    # After 0, which was seen twice, comes 2 each time; it is half of all six words.
    weights = model.weights[2]
    assert model.probabilities(np.array([0, 2]))[0] == pytest.approx(weights @ [1 / 5, 1 / 2, 1])


def test_weights_are_the_best_on_held_out_text(texts):
    corpus = data.Corpus(texts, 1, np.random.default_rng(0))
    size = len(corpus.words)
    model = Interpolated(corpus.training, corpus.development, size, 2)
    best = script.perplexity(model.probabilities(corpus.development))
    assert best < size / 2
    for weights in ([1, 0, 0], [0.1, 0.9, 0], [0.1, 0.1, 0.8]):
        model.weights[:] = weights
        assert script.perplexity(model.probabilities(corpus.development)) > best


def test_default_text():
    texts = data.read_paragraphs(None)
    assert len(texts) == len(set(texts)) > 3000
    corpus = data.Corpus(texts[:500], 3, np.random.default_rng(0))
    assert (corpus.training == data.RARE).any()
    assert corpus.number("no such word") == data.RARE
    assert corpus.words[corpus.number("the")] == "the"


def test_trains_like_its_twin(texts):
    pytest.importorskip("torch")
    from _neural_lm_torch import TorchTrainer

    options = argparse.Namespace(seed=0, features=8, hidden=12, order=4, dropout=0.0)
    corpus = data.Corpus(texts, 1, np.random.default_rng(0))
    model = script.build_model(len(corpus.words), options)
    ours, theirs = script.Trainer(model), TorchTrainer(model)
    windows = data.ngrams(corpus.training, 4)
    batches = np.split(windows[:640], 10) * 2
    losses = [(ours.step(batch, 2e-2), theirs.step(batch, 2e-2)) for batch in batches]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-3)
    assert losses[-1][0] < 0.9 * losses[0][0]
    np.testing.assert_allclose(*(script.probabilities(learner, windows) for learner in (ours, theirs)), rtol=0.02)
    assert model.parameters()["0.weight"].sparse


def test_peer_and_repeatability(main, tmp_path):
    pytest.importorskip("torch")
    perplexities = []
    for _ in range(2):
        code, stdout, _ = main(*SMALL, "--limit", "60", "--epochs", "1", "--threads", "1", "--peer", "torch")
        assert code == 0
        assert "network (PyTorch): test perplexity" in stdout
        perplexities.append(json.loads((tmp_path / "run" / "results.json").read_text())["network"]["test"])
    assert perplexities[0] == perplexities[1]


def test_ctrl_c_keeps_the_best_model(main, monkeypatch, tmp_path):
    monkeypatch.setattr(script.ProgressBar, "say", lambda *arguments: signal.raise_signal(signal.SIGINT))
    code, _, stderr = main(*SMALL, "--limit", "60", "--epochs", "3")
    assert code == 130
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--order", "1"], "argument --order: must be at least 2, got 1"),
        (["--hidden", "0"], "argument --hidden: must be a whole number from 1"),
        (["--dropout", "1"], "argument --dropout: must be below 1, got 1"),
        (["--lr", "0"], "argument --lr: must be a number above 0"),
        (["--limit", "19"], "too little text: 19 paragraphs, at least 20 are needed"),
        (["--data", "no/such/file"], "cannot read no/such/file"),
        (["--peer", "keras"], "argument --peer: invalid choice"),
    ],
)
def test_bad_arguments(main, arguments, message, tmp_path):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
