"""The image classification at reduced size: it learns, draws, agrees with PyTorch, reads folders, refuses nonsense."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

app = importlib.import_module("image_classification")
data = importlib.import_module("_image_classification_data")

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


@pytest.fixture
def folder(tmp_path, rng):
    """Return the path of a folder with pictures that are red or blue, apart from noise."""
    image = pytest.importorskip("PIL.Image")
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for n in range(20):
            pixels = rng.integers(0, 120, (11, 14, 3), np.uint8)
            pixels[..., channel] += 80
            image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{n:02}.png")
    return str(tmp_path / "pictures")


def accuracies(stdout):
    """Return the accuracies by what is printed in front of them."""
    lines = [line.rsplit("%", 1)[0].rsplit(None, 1) for line in stdout.splitlines() if "%" in line and "(" not in line]
    return {name.strip(): float(value) / 100 for name, value in lines}


@pytest.mark.parametrize(("net", "epochs", "least"), [("conv", "4", 0.8), ("residual", "4", 0.8)])
def test_learns_digits_and_draws(main, net, epochs, least, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    code, stdout, _ = main("--nets", net, "--epochs", epochs)
    assert code == 0
    found = accuracies(stdout)
    assert found["nearest neighbour"] > 0.97
    assert found[f"{net} net, fastrnn"] > least  # guessing: 0.1

    assert (tmp_path / "run" / f"{net}.png").read_bytes().startswith(b"\x89PNG")
    model, (test, wanted) = fr.load(tmp_path / "run" / f"{net}.safetensors"), data.load_digits().test
    assert (model(test).argmax(1) == wanted).mean() == pytest.approx(found[f"{net} net, fastrnn"], abs=1e-4)


def test_same_seed_same_result(main, tmp_path):
    pytest.importorskip("sklearn")
    weights = []
    for seed in "001":
        assert main("--nets", "conv", "--epochs", "1", "--batch", "256", "--seed", seed)[0] == 0
        weights.append(fr.load(tmp_path / "run" / "conv.safetensors").state_dict())
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])
        assert (value != weights[2][name]).any()


def test_learns_a_folder(main, folder):
    code, stdout, _ = main("--data", folder, "--size", "12", "--nets", "conv", "--epochs", "15", "--batch", "16")
    assert code == 0
    assert "48 pictures (3, 12, 12) of 3 classes to learn from, 12 for the test" in stdout
    assert accuracies(stdout)["conv net, fastrnn"] > 0.8  # guessing: 1/3


@pytest.mark.parametrize("net", ["conv", "residual"])
def test_learns_as_its_twin(net):
    pytest.importorskip("sklearn")
    torch = pytest.importorskip("torch")
    peer = importlib.import_module("_image_classification_torch")
    torch.set_num_threads(1)
    pictures = data.load_digits()
    model = app.NETS[net](pictures.x.shape[1:], 10, np.random.default_rng(0))
    theirs, ours = peer.TorchClassifier(model, app.WEIGHT_DECAY), app.Trainer(model)
    feed = data.batches(pictures, 32, data.Distortion(), 0)
    batches = [next(feed) for _ in range(8)]
    losses = [[learner.step(x, y, 3e-3) for x, y in batches] for learner in (ours, theirs)]
    # Adam makes whole steps of gradients that are 0 but for rounding, such as those of maps that are black everywhere.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)
    assert losses[0][-1] < 0.98 * losses[0][0]


def test_distortion(rng):
    x = rng.random((5, 2, 9, 12), np.float32)
    still = data.Distortion(0, 0, 0, 0)
    np.testing.assert_allclose(data.distort(x, still, rng), x, atol=1e-6)
    y = data.distort(x, data.Distortion(), rng)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert x.min() <= y.min() < y.max() <= x.max()
    assert (np.abs(y - x).mean((1, 2, 3)) > 0.01).all()

    ramp = np.broadcast_to(np.arange(12.0), (5, 1, 9, 12))
    moved = data.distort(ramp, data.Distortion(0.1, 0, 0, 0), rng) - ramp
    inner = moved[:, 0, :, 2:-2]
    np.testing.assert_allclose(inner, np.broadcast_to(inner[:, :1, :1], inner.shape), atol=1e-9)
    assert np.abs(inner).max() <= 1.2


def test_test_set_is_fixed():
    pytest.importorskip("sklearn")
    pictures = data.load_digits()
    np.testing.assert_array_equal(np.flatnonzero(pictures.is_test), np.arange(0, 1797, 5))
    assert len(pictures.training[0]) == 1437
    assert set(pictures.test[1]) == set(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be a whole number from 1"),
        (["--lr", "0"], "argument --lr: must be a number above 0"),
        (["--size", "7"], "argument --size: must be at least 8, got 7"),
        (["--nets", "vgg"], "argument --nets: invalid choice"),
        (["--data", "no/such/folder"], "no/such/folder is not a folder"),
        (["--peer", "keras"], "argument --peer: invalid choice"),
    ],
)
def test_bad_arguments(main, arguments, message):
    if "--data" in arguments:
        pytest.importorskip("PIL")
    code, _, stderr = main(*arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


def test_bad_folder(main, folder):
    for name in ("green", "blue"):
        for file in (Path(folder) / name).iterdir():
            file.unlink()
    code, _, stderr = main("--data", folder)
    assert code == 2
    assert "must have at least two subfolders with two pictures or more each; found red: 20" in stderr

    (Path(folder) / "blue" / "a.png").write_bytes(b"none")
    (Path(folder) / "blue" / "b.png").write_bytes(b"none")
    code, _, stderr = main("--data", folder)
    assert code == 2
    assert f"{Path('blue') / 'a.png'} as a picture" in stderr


def test_says_what_is_missing(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, stderr = main()
    assert code == 2
    assert 'scikit-learn is not installed: pip install "fastrnn[examples]"' in stderr


def test_ctrl_c(main, monkeypatch):
    pytest.importorskip("sklearn")

    def pressed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(app.Trainer, "step", pressed)
    code, _, stderr = main()
    assert code == 130
    assert stderr.endswith("interrupted\n")
