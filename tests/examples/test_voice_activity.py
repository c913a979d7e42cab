"""Voice activity detection at reduced size: it learns, streaming is the same as the whole, WAV files are read and written."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import re
import signal
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

voice = importlib.import_module("voice_activity")
data = importlib.import_module("_voice_activity_data")
signals = importlib.import_module("_voice_activity_signal")

pytestmark = pytest.mark.filterwarnings("error")

SMALL = ("--hidden", "16", "--recordings", "16", "--length", "5", "--threads", "1")


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Leave the number of threads as it was, and test on less sound."""
    before = fr.get_num_threads()
    monkeypatch.setattr(voice, "TESTED", 6)
    yield
    fr.set_num_threads(before)


@pytest.fixture
def main(tmp_path, capsys):
    """Return a function that runs the command line and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = voice.main([*SMALL, "--out", str(tmp_path / "run"), *arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def sound():
    """Return a recording and who speaks in it."""
    return signals.recording(3.0, np.random.default_rng(1))


@pytest.fixture
def scale():
    return data.Scale(np.full(signals.BANDS, -3, np.float32), np.full(signals.BANDS, 2, np.float32))


def write(path, sound, rate=8000, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(sound)


def percents(stdout):
    line = re.search(r"accuracy: ([\d.]+)% of the frames; the best threshold on the energy: ([\d.]+)%", stdout)
    return [float(figure) for figure in line.groups()]


def test_it_beats_the_threshold(main, tmp_path):
    code, stdout, _ = main("--epochs", "40", "--lr", "0.02")
    assert code == 0
    right, by_energy = percents(stdout)
    assert right > by_energy + 5
    assert "real-time factor" in stdout
    with (tmp_path / "run" / "speech.csv").open() as file:
        header, *spans = csv.reader(file)
    assert header == ["from", "to"]
    assert all(0 <= float(start) < float(end) <= 5 for start, end in spans)
    with wave.open(str(tmp_path / "run" / "sound.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 40_000)
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "run" / "speech.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_goes_on_with_what_was_learned(main, monkeypatch):
    step = voice.Trainer.step

    def pressed(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(voice.Trainer, "step", pressed)
    code, stdout, stderr = main("--epochs", "1000")
    assert code == 0
    assert "interrupted" in stderr
    assert "real-time factor" in stdout


def test_streaming_gives_what_the_whole_sequence_gives(sound, scale):
    model = voice.build_model(24, np.random.default_rng(0))
    live, factor = voice.stream(voice.Detector(model, data.Ears(scale)), sound[0])
    whole = voice.sigmoid(model(scale(signals.features(sound[0]))[None])[0, :, 0])
    np.testing.assert_allclose(live, whole, atol=1e-5)
    assert live.std() > 0.01
    assert factor > 0


def test_features_frame_by_frame_are_those_of_the_whole(sound):
    stream = signals.FeatureStream()
    frames = sound[0].reshape(-1, signals.HOP)
    np.testing.assert_allclose([stream.step(x) for x in frames], signals.features(sound[0]), rtol=1e-4, atol=1e-4)


def test_the_network_streams_to_the_bit(sound, scale):
    conv, gru, _ = voice.build_model(24, np.random.default_rng(0))
    x = scale(signals.features(sound[0]))
    whole, _ = gru(conv(x[None]))
    conv_stream, gru_stream = conv.stream(), gru.stream()
    live = [gru_stream.step(conv_stream.step(x_t)).copy() for x_t in x]
    np.testing.assert_array_equal(live, whole[0])


def test_recordings_differ_and_are_labelled():
    frames = data.make_frames(6, np.random.default_rng(0), 4.0)
    assert frames.x.shape == (6, 400, signals.BANDS)
    assert frames.speaks.shape == (6, 400)
    assert 0.2 < frames.speaks.mean() < 0.8
    assert len(np.unique(frames.x[:, 100, 3])) == 6
    again = data.make_frames(6, np.random.default_rng(0), 4.0)
    np.testing.assert_array_equal(frames.x, again.x)


def test_spans():
    assert data.spans(np.array([1, 1, 0, 0, 1])) == [(0, 0.02), (0.04, 0.05)]
    assert data.spans(np.zeros(4)) == []


def test_a_recording_of_yours(main, tmp_path):
    path, rng = tmp_path / "mine.wav", np.random.default_rng(0)
    write(path, rng.integers(-3000, 3000, 2 * 44_100).astype("<i2").tobytes(), rate=44_100, channels=2)
    code, stdout, _ = main("--data", str(path), "--epochs", "1")
    assert code == 0
    assert "1.0 s streamed" in stdout


def test_silence(main, tmp_path):
    path = tmp_path / "silence.wav"
    write(path, bytes(16_000))
    code, stdout, _ = main("--data", str(path), "--epochs", "1")
    assert code == 0
    assert "1.0 s streamed" in stdout


def test_torch_peer(main):
    pytest.importorskip("torch")
    code, stdout, _ = main("--epochs", "2", "--peer", "torch")
    assert code == 0
    ours, _ = percents(stdout)
    theirs = float(re.search(r"the same model in PyTorch: ([\d.]+)%", stdout)[1])
    assert ours == pytest.approx(theirs, abs=0.2)
    assert "PyTorch: real-time factor" in stdout


def test_torch_detector_hears_the_same(sound, scale):
    pytest.importorskip("torch")
    model = voice.build_model(24, np.random.default_rng(0))
    peer = importlib.import_module("_voice_activity_torch")
    theirs = peer.TorchDetector(peer.TorchTrainer(model.state_dict(), 1.0), data.Ears(scale))
    ours = voice.Detector(model, data.Ears(scale))
    results = [voice.stream(detector, sound[0])[0] for detector in (ours, theirs)]
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "no such file"), "cannot read no such file"),
        (("--epochs", "0"), "must be a whole number from 1"),
        (("--length", "-1"), "must be a number from 0 on"),
        (("--peer", "other"), "invalid choice"),
    ],
)
def test_bad_options(main, arguments, message):
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("width", "content", "message"),
    [(1, bytes(8000), "must have 16 bits a sample, it has 8"), (2, bytes(100), "shorter than a frame")],
)
def test_bad_recordings(main, tmp_path, width, content, message):
    path = tmp_path / "bad.wav"
    write(path, content, width=width)
    code, _, stderr = main("--data", str(path))
    assert code == 2
    assert message in stderr


def test_not_a_wav_file(main, tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("no sound in here")
    code, _, stderr = main("--data", str(path))
    assert code == 2
    assert f"cannot read {path}" in stderr
