"""The translator at reduced size: it learns, decodes as it was trained, draws, and refuses nonsense."""

from __future__ import annotations

import importlib
import importlib.util
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

dates = importlib.import_module("dates")
data = importlib.import_module("_dates_data")

pytestmark = pytest.mark.filterwarnings("error")

SMALL = ("--hidden", "40", "--batch", "32", "--threads", "1")
needs_babel = pytest.mark.skipif(importlib.util.find_spec("babel") is None, reason="Babel is not installed")


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Leave the number of threads as it was, and test on fewer dates."""
    before = fr.get_num_threads()
    monkeypatch.setattr(dates, "TESTED", 200)
    yield
    fr.set_num_threads(before)


@pytest.fixture
def main(tmp_path, capsys):
    """Return a function that runs the command line and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = dates.main([*SMALL, "--out", str(tmp_path / "run"), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def file(tmp_path):
    """Return the path of a file with words to be reversed."""
    rng, path = np.random.default_rng(0), tmp_path / "pairs.tsv"
    words = {"".join(rng.choice(list("abcdefg"), rng.integers(1, 6))) for _ in range(60)}
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in sorted(words)), encoding="utf-8")
    return str(path)


def percent(stdout, label):
    return float(re.search(rf"{label}.*?([\d.]+)%", stdout)[1])


@needs_babel
def test_it_reads_days_it_has_never_seen(main, tmp_path):
    code, stdout, _ = main("--languages", "en", "--pairs", "2400", "--epochs", "3", "--lr", "0.01")
    assert code == 0
    assert percent(stdout, "copying the source") == 0
    assert percent(stdout, "exact matches") > 80  # by chance one in 73,000
    if importlib.util.find_spec("matplotlib") is None:
        assert "not drawn" in stdout
    else:
        assert (tmp_path / "run" / "attention.png").read_bytes().startswith(b"\x89PNG")


@needs_babel
def test_tested_days_are_not_trained_on():
    texts = data.date_pairs(["en", "ja"], 3000, 500, np.random.default_rng(0))
    assert {pair.target for pair in texts.test}.isdisjoint(pair.target for pair in texts.training)
    assert all(re.fullmatch(r"(19|20)\d\d-\d\d-\d\d", pair.target) for pair in texts.training + texts.test)
    assert len({pair.source for pair in texts.training}) > 2500


@needs_babel
def test_tested_names_are_not_trained_on():
    texts = data.name_pairs(["de", "fr", "en"], "en", np.random.default_rng(0))
    trained = dict(texts.training)
    assert len(trained) == len(texts.training) > 500
    assert all(pair.source not in trained for pair in texts.test)
    assert ("Frankreich", "France") in texts.training + texts.test


@needs_babel
def test_names(main):
    code, stdout, _ = main("--task", "names", "--languages", "nb", "--to", "da", "--epochs", "1")
    assert code == 0
    assert percent(stdout, "copying the source") > 30


def test_pairs_of_a_file(main, file):
    code, stdout, _ = main("--data", file, "--epochs", "1")
    assert code == 0
    assert "exact matches" in stdout


def test_the_same_seed_gives_the_same_result(main, file):
    first, second = (main("--data", file, "--epochs", "2")[1].split("training:")[0] for _ in range(2))
    assert first == second


def test_ctrl_c_shows_what_was_reached(main, file, monkeypatch):
    step = dates.Trainer.step

    def pressed(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(dates.Trainer, "step", pressed)
    code, stdout, stderr = main("--data", file, "--epochs", "1000")
    assert code == 0
    assert "interrupted" in stderr
    assert "exact matches" in stdout


def test_texts_become_tokens_and_texts_again():
    vocabulary = data.Vocabulary(["abc", "d"])
    tokens, lengths = vocabulary.encode(["cab", "", "dz"], end=True)
    np.testing.assert_array_equal(lengths, [4, 1, 3])
    np.testing.assert_array_equal(tokens.T, [[3, 1, 2, 0], [0, 0, 0, 0], [4, 0, 0, 0]])
    assert vocabulary.decode(tokens) == ["cab", "", "d"]


def test_it_decodes_as_it_was_trained():
    rng = np.random.default_rng(0)
    model = dates.Translator(9, 7, 8, rng)
    source, lengths = rng.integers(1, 9, (6, 5)), np.array([6, 2, 4, 1, 6])
    tokens, weights = model(source, lengths, 4)
    logits, _ = model.forward(source, lengths, dates.shifted(tokens))
    np.testing.assert_array_equal(logits.argmax(-1), tokens)
    assert len(np.unique(tokens)) > 1
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not weights[:, 3, 1:].any()


def test_torch_twin_learns_alike(file):
    pytest.importorskip("torch")
    peer = importlib.import_module("_dates_torch")
    rng = np.random.default_rng(0)
    texts = data.read_pairs(file, rng)
    model = dates.Translator(texts.sources.size, texts.targets.size, 12, rng)
    ours, theirs = dates.Trainer(model), peer.TorchTrainer(model.state_dict(), dates.EMBEDDING, 12, dates.CLIP)
    batches = [batch for _ in range(5) for batch in texts.batches(texts.training, 10)]
    losses = np.array([[learner.step(batch, 0.01) for learner in (ours, theirs)] for batch in batches])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-3)
    assert losses[-1, 0] < 0.9 * losses[0, 0]


def test_torch_peer(main, file):
    pytest.importorskip("torch")
    code, stdout, _ = main("--data", file, "--epochs", "1", "--peer", "torch")
    assert code == 0
    assert "the same model in PyTorch:" in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "no such file"), "cannot read no such file"),
        (("--epochs", "0"), "must be a whole number from 1"),
        (("--task", "poems"), "invalid choice"),
        pytest.param(("--languages", "xx"), "knows no language 'xx'", marks=needs_babel),
        pytest.param(("--languages", "not a language"), "knows no language", marks=needs_babel),
        pytest.param(("--task", "names", "--to", "xx"), "knows no language 'xx'", marks=needs_babel),
        pytest.param(("--task", "names", "--languages", "en"), "0 pairs are too few", marks=needs_babel),
    ],
)
def test_bad_options(main, arguments, message):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\tb\n" * 30, "1 pairs are too few"), (b"a\tb\nc\n", "line 2"), (b"\xff", "cannot read")],
)
def test_bad_files(main, tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    code, _, stderr = main("--data", str(path))
    assert code == 2
    assert message in stderr


def test_without_babel(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    monkeypatch.setitem(sys.modules, "babel.dates", None)
    code, _, stderr = main()
    assert code == 2
    assert 'pip install "fastrnn[examples]"' in stderr
