"""The character language model at reduced size: it learns, goes on where it stopped, writes, and refuses nonsense."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

char_lm = importlib.import_module("char_lm")
data = importlib.import_module("_char_lm_data")
texts = importlib.import_module("_texts")
runs = importlib.import_module("_char_lm_run")

pytest.importorskip("safetensors")
pytestmark = pytest.mark.filterwarnings("error")

SMALL = ("--hidden", "24", "--batch", "8", "--steps", "16")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Leave the other cores alone: models this small do not need them."""
    before = fr.get_num_threads()
    fr.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    fr.set_num_threads(before)


@pytest.fixture(scope="module")
def text():
    """Return the beginning of the default text."""
    return texts.read_text(None)[:20_000]


@pytest.fixture
def file(text, tmp_path):
    """Return the path of a file with that text."""
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def main(file, tmp_path, capsys, monkeypatch):
    """Return a function that runs the command line, without curves, and returns (exit code, stdout, stderr)."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def run(*arguments, out="run", text=file):
        try:
            code = char_lm.main(["--text", str(text), "--out", str(tmp_path / out), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that has Ctrl-C pressed in that step of the next run, counted from 1; 0 for never."""
    step = char_lm.Trainer.step

    def press(number):
        calls = iter(range(1, number + 1))

        def pressed(self, *arguments):
            if next(calls, None) == number:
                signal.raise_signal(signal.SIGINT)
            return step(self, *arguments)

        monkeypatch.setattr(char_lm.Trainer, "step", pressed)

    return press


def written(stdout):
    """Return the text that was generated, with its prompt."""
    return stdout.split("\n\n", 1)[1].removesuffix("\n")


def test_learns(main, text, tmp_path):
    code, stdout, stderr = main(
        "--max-steps", "250", "--hidden", "48", "--batch", "8", "--steps", "32", "--length", "0"
    )
    assert code == 0
    assert "best validation" in stdout
    assert "validation" in stderr
    saved = runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz")
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    assert saved.progress.best < entropy - 1
    assert saved.progress.bits < entropy - 1
    assert saved.progress.step == 250
    assert [point[1] for point in saved.progress.validation] == [25 * 8 * 32 * (k + 1) for k in range(10)]

    best = fr.load(tmp_path / "run" / "best.safetensors")
    characters = json.loads((tmp_path / "run" / "vocabulary.json").read_text())
    assert characters == sorted(set(text[:18_000]))
    bits = char_lm.validation_bits(best, data.Corpus(text).validation)
    assert bits == pytest.approx(saved.progress.best, abs=1e-12)


def test_time_budget_includes_everything(main, tmp_path):
    code, _, _ = main(*SMALL, "--seconds", "0.3", "--length", "0")
    progress = runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz").progress
    assert code == 0
    assert progress.fraction == 1
    assert progress.validation[-1][1] == progress.step * 8 * 16  # the last weights were validated


@pytest.mark.parametrize(
    "model", [["--cell", "lstm"], ["--cell", "gru", "--layers", "2"], ["--cell", "rnn"]], ids=lambda model: model[1]
)
def test_resumed_run_equals_uninterrupted(main, interrupt, model, tmp_path):
    how = (*SMALL, *model, "--max-steps", "30", "--length", "0")
    assert main(*how, out="whole")[0] == 0
    for stop in (1, 12, 8):
        interrupt(stop)
        code, _, stderr = main(*how, out="parts")
        assert code == 130
        assert "the same command goes on from here" in stderr
    interrupt(0)
    assert runs.read_checkpoint(tmp_path / "parts" / "checkpoint.npz").progress.step == 21
    assert main(*how, out="parts")[0] == 0

    whole, parts = (runs.read_checkpoint(tmp_path / name / "checkpoint.npz") for name in ("whole", "parts"))
    assert whole.arrays.keys() == parts.arrays.keys()
    assert any(name.startswith("state.") for name in whole.arrays)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(parts.arrays[name], array, err_msg=name)
    assert (parts.progress.step, parts.progress.bits) == (30, whole.progress.bits)
    assert [point[1:] for point in parts.progress.validation] == [point[1:] for point in whole.progress.validation]
    best = [fr.load(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts")]
    for name, array in best[0].items():
        np.testing.assert_array_equal(best[1][name], array, err_msg=name)


def test_ctrl_c_of_a_process(file, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(fr.__file__).parents[1])}
    command = [sys.executable, str(EXAMPLES / "char_lm.py"), "--text", file, "--out", str(tmp_path / "run"), *SMALL]
    with subprocess.Popen(
        [*command, "--seconds", "600"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        shown = b""
        while b"bits/char" not in shown:  # it is training
            byte = process.stderr.read(1)
            assert byte, shown
            shown += byte
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"the same command goes on from here" in rest
    assert b"Traceback" not in rest
    step = runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz").progress.step
    assert step > 0

    done = subprocess.run(
        [*command, "--max-steps", str(step + 1), "--length", "5"],
        env=environment,
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
        encoding="utf-8",
    )
    assert f"; {step + 1:,} steps" in done.stdout
    assert len(written(done.stdout)) == len("The ") + 5


def test_second_ctrl_c_interrupts_at_once(main, monkeypatch):
    def pressed_twice(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(char_lm.Trainer, "step", pressed_twice)
    code, _, stderr = main(*SMALL)
    assert code == 130
    assert stderr.endswith("interrupted\n")


def test_writes_from_its_vocabulary(main, text):
    how = (*SMALL, "--max-steps", "20", "--length", "300")
    code, stdout, stderr = main(*how, "--temperature", "1.5", "--prompt", "\u2603x")
    assert code == 0
    assert stderr.count("'\u2603'") == 1
    result = written(stdout)
    assert result.startswith("\u2603x")
    assert len(result) == 302
    assert set(result[2:]) <= set(text[:18_000])
    assert len(set(result)) > 10

    coldest = [written(main(*how, "--temperature", "0", "--seed", seed)[1]) for seed in "123"]
    assert coldest[0] == coldest[1] == coldest[2]
    assert written(main(*how, "--temperature", "1e-300")[1]) == coldest[0]
    drawn = [written(main(*how, "--seed", seed)[1]) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(written(main(*how, "--prompt", "")[1])) == 300


def test_finished_run_only_writes(main, tmp_path):
    how = (*SMALL, "--length", "10")
    main(*how, "--max-steps", "10")
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    code, stdout, stderr = main("--prompt", "abc", "--length", "10")
    assert (code, stderr) == (0, "")
    assert len(written(stdout)) == 13
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before

    assert main("--max-steps", "15", "--length", "0")[0] == 0
    assert runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz").progress.step == 15
    assert main("--fresh", *SMALL, "--hidden", "25", "--max-steps", "5", "--length", "0")[0] == 0
    saved = runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz")
    assert (saved.progress.step, saved.settings.hidden) == (5, 25)


def test_works_without_tqdm_and_matplotlib(main, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, stdout, stderr = main(*SMALL, "--max-steps", "10", "--length", "5")
    assert code == 0
    assert "loss curve skipped: matplotlib is not installed" in stdout
    assert "100%" in stderr
    assert "bits/char" in stderr
    assert not (tmp_path / "run" / "curve.png").exists()


def test_draws_the_loss_curve(main, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "matplotlib.figure")
    pytest.importorskip("matplotlib.figure")
    _, stdout, _ = main(*SMALL, "--max-steps", "20", "--length", "0")
    path = tmp_path / "run" / "curve.png"
    assert f"loss curve: {path}" in stdout
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "argument --hidden: must be a whole number from 1"),
        (["--layers", "1.5"], "argument --layers: must be a whole number from 1"),
        (["--seconds", "-1"], "argument --seconds: must be a number"),
        (["--seconds", "nan"], "argument --seconds: must be a number"),
        (["--seconds", "0"], "argument --seconds: must be a number above 0"),
        (["--lr", "fast"], "argument --lr: must be a number"),
        (["--temperature", "-0.1"], "argument --temperature: must be a number from 0"),
        (["--seed", "-1"], "argument --seed: must be a whole number from 0"),
        (["--cell", "elman"], "argument --cell: invalid choice"),
        (["--seconds", "1", "--max-steps", "1"], "not allowed with"),
        (["--colour"], "unrecognized arguments"),
        (["--batch", "2000"], "batch x steps = 2000 x 64 = 128000 is more than the 18000 tokens"),
        (["--text", "no/such/file"], "cannot read"),
        (["--text", "."], "cannot read"),
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
        (b"", "is empty"),
        (b"0123456789012345678", "too short: 19 characters, at least 20 are needed"),
        (b"abc\xe9 " * 100, "is not UTF-8 text: invalid continuation byte at byte 3"),
    ],
)
def test_bad_text(main, content, message, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    code, _, stderr = main(text=path)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


def test_bad_directory(main, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, stderr = main(out="file/run")
    assert code == 2
    assert "cannot write to" in stderr


def test_run_that_does_not_fit(main, file, tmp_path):
    main(*SMALL, "--max-steps", "3", "--length", "0")
    code, _, stderr = main("--hidden", "25")
    assert code == 2
    assert "holds a run with --hidden 24" in stderr

    with open(file, "a", encoding="utf-8") as stream:
        stream.write("more")
    code, _, stderr = main()
    assert code == 2
    assert "the text is not the one" in stderr

    checkpoint = tmp_path / "run" / "checkpoint.npz"
    for content in (checkpoint.read_bytes()[:1000], b"", b"nonsense"):
        checkpoint.write_bytes(content)
        code, _, stderr = main()
        assert code == 2
        assert "cannot be used" in stderr
        assert stderr.count("\n") == 1


def test_diverging_run_says_so(main, monkeypatch):
    monkeypatch.setattr(char_lm.Trainer, "step", lambda self, *arguments: math.nan)
    code, _, _ = main(*SMALL)
    assert "the loss became nan at step 0" in code


def test_write_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    runs.write_whole(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        runs.write_whole(path, fail)
    assert path.read_bytes() == b"old"


def test_vocabulary(rng):
    vocabulary = data.Vocabulary("banana \U0001f34c\n")
    assert vocabulary.tokens == "\n abn\U0001f34c"
    assert vocabulary.size == 7
    np.testing.assert_array_equal(vocabulary.encode("ab\U0001f34cz\0\U0001f34d"), [2, 3, 5, 6, 6, 6])
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.lacks("zebra") == "erz"


def test_unknown_characters_of_the_validation_text(main, text, tmp_path):
    path = tmp_path / "unknown.txt"
    path.write_text(text + "\u2603\u2604\u2603", encoding="utf-8")
    code, stdout, _ = main(*SMALL, "--max-steps", "3", "--length", "0", text=path)
    assert code == 0
    assert "read as one unknown character: '\u2603\u2604'" in stdout


def test_word_vocabulary():
    vocabulary = data.WordVocabulary("a cat, a dog;\n  a cat\nand\n  ")
    assert vocabulary.tokens == [" a", " cat"]
    np.testing.assert_array_equal(vocabulary.encode(" a bee\n cat"), [0, 2, 2, 1])
    assert vocabulary.lacks("a bee, a cat") == ", a bee"
    assert vocabulary.lacks("".join(f" w{n}" for n in range(12))).endswith("and 2 more")
    for text in ("  two  spaces\t!?'s x", texts.read_text(None)[:5000]):
        assert "".join(data.WORD.findall(text)) == text


def test_learns_words(main, text, tmp_path):
    code, stdout, _ = main(
        "--level", "word", *SMALL, "--hidden", "48", "--lr", "0.02", "--max-steps", "250", "--length", "20"
    )
    assert code == 0
    corpus = data.Corpus(text, "word")
    counts = np.bincount(corpus.training, minlength=corpus.vocabulary.size) + 1
    frequencies_alone = -np.log2(counts / counts.sum())[corpus.validation].mean()
    assert corpus.frequency_bits() == pytest.approx(frequencies_alone)
    assert runs.read_checkpoint(tmp_path / "run" / "checkpoint.npz").progress.best < frequencies_alone - 0.3
    assert "bits/word" in stdout
    assert written(stdout).startswith("The")
    assert json.loads((tmp_path / "run" / "vocabulary.json").read_text()) == corpus.vocabulary.tokens
    code, _, stderr = main("--level", "char")
    assert code == 2
    assert "holds a run with --level word" in stderr


def test_batches_go_on_where_the_last_ended():
    text = np.arange(100)
    batches = data.Batches(text, 3, 7)
    seen = Counter()
    for step in range(20):
        tokens, targets = batches[step]
        assert tokens.shape == targets.shape == (7, 3)
        np.testing.assert_array_equal(targets, (tokens + 1) % 100)
        np.testing.assert_array_equal(batches[step + 1][0][0], targets[-1])
        seen.update(tokens.ravel().tolist())
    assert sorted(seen) == list(range(100))
    assert max(seen.values()) - min(seen.values()) <= 2


@pytest.mark.parametrize("size", [2, 17, 500, 10_000])
def test_validation_counts_each_character_once(text, size):
    corpus = data.Corpus(text)
    model = char_lm.build_model(runs.Settings(hidden=8), corpus.vocabulary)
    linear = char_lm.layers_of(model)[2]
    linear.weight = np.zeros_like(linear.weight)
    linear.bias = np.linspace(0, 3, linear.bias.size, dtype=np.float32)  # knows frequencies alone
    tokens = corpus.training[:size]
    bias = linear.bias.astype(np.float64)
    expected = np.log2(np.exp(bias).sum()) - (bias / math.log(2))[tokens[1:]].mean()
    assert char_lm.validation_bits(model, tokens) == pytest.approx(expected, abs=1e-5)


def test_validation_carries_the_state(text, monkeypatch):
    corpus = data.Corpus(text)
    model = char_lm.build_model(runs.Settings(hidden=8), corpus.vocabulary)
    embedding, recurrent, linear = char_lm.layers_of(model)
    tokens = corpus.validation[:600]
    h, _ = recurrent(embedding(tokens[:-1]))
    expected = fr.cross_entropy(linear(h), tokens[1:])[0] / math.log(2)
    monkeypatch.setattr(char_lm, "READERS", 1)
    assert char_lm.validation_bits(model, tokens) == pytest.approx(expected, abs=1e-5)


def test_learning_rate_rises_and_falls():
    training = importlib.import_module("_training")
    assert training.learning_rate(1.0, 0, 0.0) == pytest.approx(1 / training.WARM_UP)
    assert training.learning_rate(1.0, training.WARM_UP, 0.0) == 1
    assert training.learning_rate(1.0, 1000, 0.5) == pytest.approx(0.5)
    assert training.learning_rate(1.0, 1000, 1.0) == pytest.approx(0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_torch_peer_learns_alike(main, cell, tmp_path):
    pytest.importorskip("torch")
    code, stdout, _ = main(*SMALL, "--cell", cell, "--layers", "2", "--peer", "torch", "--peer-steps", "30")
    assert code == 0
    assert "the curves coincide" in stdout
    assert "times the characters/s" in stdout
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_torch_peer_that_differs_fails(main, monkeypatch):
    pytest.importorskip("torch")
    step = char_lm.Trainer.step
    monkeypatch.setattr(char_lm.Trainer, "step", lambda self, tokens, targets, lr: step(self, tokens, tokens, lr))
    code, stdout, _ = main(*SMALL, "--peer", "torch", "--peer-steps", "10")
    assert code == 1
    assert "THE CURVES DIFFER" in stdout
