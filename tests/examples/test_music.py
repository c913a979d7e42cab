"""The music example at reduced size: it beats counting, its tunes are valid ABC and MIDI, and nonsense is refused."""

from __future__ import annotations

import importlib
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

abc = importlib.import_module("_music_abc")
music = importlib.import_module("music")

pytest.importorskip("safetensors")

SMALL = ("--hidden", "32", "--epochs", "6", "--batch", "4", "--lr", "0.02", "--dropout", "0", "--tunes", "2")


def scale(number):
    """Return a tune in 2/4 that runs up or down, now slow, now fast."""
    notes = "GABc" if number % 2 else "cBAG"
    bar = "".join(f"{note}/{note}/" for note in notes) if number % 3 else notes
    return f"X:{number}\nT:A tune\nM:2/4\nL:1/8\nK:{'GD'[number % 2]}\n" + f"|: {bar} | {bar} |\n{bar} | G4 :|\n"


@pytest.fixture
def file(tmp_path):
    """Return the path of a file with 60 tunes."""
    path = tmp_path / "scales.abc"
    path.write_text("% for practice\n\n" + "\n".join(map(scale, range(60))), encoding="utf-8")
    return path


@pytest.fixture
def main(file, tmp_path, capsys):
    """Return a function that runs the command line and returns (exit code, stdout, stderr)."""
    threads = fr.get_num_threads()

    def run(*arguments, data=file):
        given = [] if data is None else ["--data", str(data)]
        try:
            code = music.main([*given, "--out", str(tmp_path / "run"), "--threads", "1", *SMALL, *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    yield run
    fr.set_num_threads(threads)


@pytest.mark.parametrize("cell", ["gru", "gru-cho", "lstm", "lstmp"])
def test_learns_and_composes(main, cell, tmp_path):
    music21 = pytest.importorskip("music21")
    code, stdout, _ = main("--cell", cell)
    assert code == 0
    unigrams, bigrams, _, ours = map(float, re.findall(r"perplexity.*?([0-9.]+[0-9])", stdout))
    assert ours < bigrams - 0.2 < unigrams
    assert isinstance(fr.load(tmp_path / "run" / "music.safetensors"), fr.Sequential)

    texts = (tmp_path / "run" / "tunes.abc").read_text(encoding="utf-8").split("\n\n")
    assert len(texts) == 2
    assert "of their bars are full, of real tunes 100%" in stdout
    for number, text in enumerate(texts, 1):
        assert text.startswith(f"X:{number}\n")
        pitches = [note.pitch.midi for note in music21.converter.parse(text, format="abc").flatten().notes]
        assert pitches
        played = music21.converter.parse(tmp_path / "run" / f"tune_{number}.mid").flatten().notes
        assert {note.pitch.midi for note in played} == set(pitches)


def test_default_tunes():
    pytest.importorskip("music21")
    tunes = abc.read_tunes(None)
    assert len(tunes) > 1000
    assert all(tune[0].startswith("M:") and tune[2].startswith("K:") for tune in tunes)
    assert abc.parse(abc.abc_text(tunes[0], 1)) is not None


def test_tokens(tmp_path):
    tune = """X:1
T:Title
M:6/8
L:1/8
Q:3/8=120
K:E Minor  % a comment
B|"Em"E>G{a}E ^G,3/2_e''/2|[ceg]2 z-|(3abc !trill!d2:|2 [1 (ef) |]
M:9/8
w:words go here
c'//||
"""
    path = tmp_path / "one.abc"
    path.write_text("\n".join([tune] * 10), encoding="utf-8")
    tunes = abc.read_tunes(str(path))
    assert len(tunes) == 10
    expected = "M:6/8 L:1/8 K:E_Minor B | E > G E ^G,3/2 _e''/2 | [ceg]2 z - | (3 a b c d2 :|2 [1 e f |] M:9/8 c'// ||"
    assert [token.replace(" ", "_") for token in tunes[0]] == expected.split()
    again = tmp_path / "again.abc"
    again.write_text("\n".join(abc.abc_text(tune, 1) for tune in tunes), encoding="utf-8")
    assert abc.read_tunes(str(again)) == tunes


def test_parser_refuses_what_is_no_tune():
    pytest.importorskip("music21")
    good = "X:1\nM:2/4\nL:1/8\nK:G\n"
    assert abc.full_bars(abc.parse(good + "GABc|cBAG|\n")) == 1
    assert abc.full_bars(abc.parse(good + "GAB|cBAG|cBAG|cBA|\n")) == 0.5
    assert abc.parse(good) is None
    assert abc.parse("") is None


def test_batches_have_all_tunes(rng):
    tunes = [rng.integers(2, 9, length).tolist() for length in (3, 1, 4, 1, 5, 9, 2, 6)]
    seen = []
    for batch in music.batches(tunes, 3, rng):
        assert batch.tokens.shape == batch.targets.shape == (batch.lengths.max(), len(batch.lengths))
        for tokens, targets, length in zip(batch.tokens.T, batch.targets.T, batch.lengths, strict=True):
            assert tokens[0] == targets[length - 1] == music.END
            np.testing.assert_array_equal(tokens[1:length], targets[: length - 1])
            seen.append(targets[: length - 1].tolist())
    assert sorted(seen) == sorted(tunes)


def test_ngrams():
    # Seen once each: 2, 3 and END; four kinds with the unknown. p = (1 + 3 * 1/4) / (3 + 3) for every token.
    assert music.ngram_perplexity(1, [[2, 3]], [[3, 2]]) == pytest.approx(24 / 7)
    repeated = [[2, 3, 2, 4]] * 20
    by_order = [music.ngram_perplexity(order, repeated, repeated) for order in (1, 2, 3)]
    assert by_order[0] > by_order[1] > by_order[2] > 1
    assert music.ngram_perplexity(2, repeated, [[5, 5]]) > 10


def test_ctrl_c_composes_from_what_there_is(main, monkeypatch, tmp_path):
    pytest.importorskip("music21")
    step = music.Trainer.step

    def pressed(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(music.Trainer, "step", pressed)
    code, _, stderr = main("--tunes", "1")
    assert code == 130
    assert "Traceback" not in stderr
    assert (tmp_path / "run" / "music.safetensors").exists()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("cell", ["gru", "lstm", "lstmp"])
def test_torch_peer_learns_alike(main, cell):
    pytest.importorskip("torch")
    code, stdout, _ = main("--peer", "torch", "--layers", "2", "--epochs", "2", "--cell", cell)
    assert code == 0
    ours, theirs = (
        float(re.search(rf"{name}: validation perplexity ([0-9.]+)", stdout)[1]) for name in ("fastrnn", "PyTorch")
    )
    assert ours == pytest.approx(theirs, rel=0.02)


def test_without_music21(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    code, _, stderr = main(data=None)
    assert code == 2
    assert 'pip install "fastrnn[examples]"' in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dropout", "1"], "argument --dropout: must be below 1"),
        (["--temperature", "0"], "argument --temperature: must be a number above 0"),
        (["--hidden", "x"], "argument --hidden: must be a whole number"),
        (["--data", "/none.abc"], "cannot read /none.abc"),
        (["--data", __file__], "tunes that begin with M:, L: and K:"),
    ],
)
def test_bad_arguments(main, arguments, message):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_cell_that_the_peer_does_not_have(main):
    pytest.importorskip("torch")
    code, _, stderr = main("--cell", "gru-cho", "--peer", "torch")
    assert code == 2
    assert "PyTorch has no GRU" in stderr
