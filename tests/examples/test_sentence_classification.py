"""Sentence classification at reduced size: every model learns, as its PyTorch twin does, and nonsense is refused."""

from __future__ import annotations

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

script = importlib.import_module("sentence_classification")
data = importlib.import_module("_sentence_classification_data")

pytestmark = pytest.mark.filterwarnings("error")

SMALL = ("--epochs", "5", "--embedding", "24", "--hidden", "24", "--batch", "16", "--lr", "8e-3")


@pytest.fixture(autouse=True)
def one_thread():
    """Leave the other cores alone: models this small do not need them."""
    before = fr.get_num_threads()
    fr.set_num_threads(1)
    yield
    fr.set_num_threads(before)


@pytest.fixture(scope="module")
def sentences():
    """Return sentences of the default data, of two subjects, equally many of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "SUBJECTS", ["logging", "numbers"])
        found = data.library_sentences()
    return [pair for label in ("numbers", "logging") for pair in [pair for pair in found if pair[0] == label][:300]]


@pytest.fixture(scope="module")
def file(sentences, tmp_path_factory):
    """Return the path of a file with those sentences."""
    path = tmp_path_factory.mktemp("data") / "sentences.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in sentences), encoding="utf-8")
    return str(path)


@pytest.fixture
def main(file, tmp_path, capsys, monkeypatch):
    """Return a function that runs the command line, without pictures, and returns (exit code, stdout, stderr)."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(script, "MAPS", 20)

    def run(*arguments, path=file):
        try:
            code = script.main(["--data", str(path), "--out", str(tmp_path / "run"), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


def test_all_models_learn(main, tmp_path):
    code, stdout, stderr = main(*SMALL)
    assert code == 0
    assert "labels logging, numbers; the most frequent: " in stdout
    assert "Kim 2014 reports 76.1%" in stdout
    assert "mean: epoch 1" in stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results) == list(script.MODELS)
    for name, result in results.items():
        assert len(result["development"]) == 5
        assert result["test"] > 0.65, name  # naming one subject always comes to about half
        assert result["development"][result["epoch"] - 1] == max(result["development"])


@pytest.mark.parametrize("name", script.MODELS)
def test_twin_predicts_and_learns_the_same(name, sentences):
    pytest.importorskip("torch")
    from _sentence_classification_torch import TorchTrainer

    corpus = data.Corpus(sentences[::5], np.random.default_rng(0))
    model = script.build_model(name, corpus, 10, 6, 0)
    dropout = [layer for _, layer in model._all_layers() if isinstance(layer, fr.Dropout)]
    assert dropout
    for layer in dropout:
        layer.p = 0.0
    ours, theirs = script.Trainer(model, 1e-3), TorchTrainer(model, 1e-3, script.CLIP)
    losses = []
    for batch in corpus.batches(corpus.training, 16, np.random.default_rng(1)):
        logits = model(batch.tokens, lengths=batch.lengths)
        np.testing.assert_allclose(logits, theirs.logits(batch), rtol=1e-3, atol=1e-3)
        losses.append((ours.step(batch), theirs.step(batch)))
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-3)
    assert losses[0][0] != losses[-1][0]


@pytest.mark.parametrize("name", script.MODELS)
def test_padding_does_not_matter(name, sentences):
    corpus = data.Corpus(sentences[::5], np.random.default_rng(0))
    model = script.build_model(name, corpus, 10, 6, 0)
    batch = corpus.batches(corpus.test, 200)[0]
    assert len(set(batch.lengths)) > 1
    for n, length in enumerate(batch.lengths):
        alone = model(batch.tokens[n : n + 1, :length], lengths=[length])
        np.testing.assert_allclose(alone[0], model(batch.tokens, lengths=batch.lengths)[n], rtol=1e-4, atol=1e-5)


def test_peer_and_repeatability(main, tmp_path):
    pytest.importorskip("torch")
    how = ("--models", "mean,cnn", "--limit", "200", "--epochs", "1", "--embedding", "8", "--threads", "1")
    records = []
    for _ in range(2):
        code, stdout, _ = main(*how, "--peer", "torch")
        assert code == 0
        assert "cnn (PyTorch)" in stdout
        records.append(json.loads((tmp_path / "run" / "results.json").read_text()))
    assert list(records[0]) == ["mean", "mean (PyTorch)", "cnn", "cnn (PyTorch)"]
    assert [records[k]["cnn"]["development"] for k in (0, 1)] == [records[0]["cnn"]["development"]] * 2


def test_draws_curves(main, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    pytest.importorskip("matplotlib.figure")
    main("--models", "mean", "--limit", "100", "--epochs", "1")
    assert (tmp_path / "run" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_reports_what_is_done(main, monkeypatch, tmp_path):
    step = script.Trainer.step

    def pressed(self, batch):
        if "Conv1d" in repr(self.model):
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(script.Trainer, "step", pressed)
    code, stdout, stderr = main("--models", "mean,cnn", "--limit", "200", "--epochs", "1")
    assert code == 130
    assert stderr.endswith("interrupted\n")
    assert "best epoch" in stdout
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())) == ["mean"]


def test_words():
    assert data.split_words("It isn't Kim's film: 9/10!") == [
        "it",
        "is",
        "n't",
        "kim",
        "'s",
        "film",
        ":",
        "9",
        "/",
        "10",
        "!",
    ]


def test_corpus(sentences):
    corpus = data.Corpus(sentences, np.random.default_rng(0))
    parts = (corpus.test, corpus.development, corpus.training)
    assert sorted(np.concatenate(parts)) == list(range(600))
    for part in parts:
        batches = corpus.batches(part, 16, np.random.default_rng(0))
        assert sum(len(batch.labels) for batch in batches) == len(part)
    number, table = corpus.characters, corpus.spelling
    assert table.shape == (len(corpus.words), data.LETTERS)
    assert table.max() == number - 1
    assert not table[0].any()
    assert corpus.idf.argmin() in [corpus.words.index(word) for word in (".", "the")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be a whole number from 1"),
        (["--models", "cnn,cmn"], "must be out of mean,sum,tfidf,rnn,lstm,bilstm,cnn,charcnn, got 'cnn,cmn'"),
        (["--lr", "-1"], "argument --lr: must be a number"),
        (["--limit", "99"], "too little data: 99 sentences, 2 different labels; at least 100 sentences and 2 labels"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too little data: 0 sentences"),
        (b"pos\tgood\nbad\n", "line 2 must be label<TAB>sentence, got 'bad'"),
        (b"pos\t \n", "line 1 must be label<TAB>sentence"),
        (b"pos\tcaf\xe9\n", "is not UTF-8 text: invalid continuation byte at byte 7"),
    ],
)
def test_bad_files(main, content, message, tmp_path):
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    code, _, stderr = main(path=path)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
