"""The captioner at reduced size: it learns, is written and drawn, agrees with PyTorch, and refuses nonsense."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

app = importlib.import_module("captioning")
data = importlib.import_module("_captioning_data")

pytest.importorskip("safetensors")

RED, BLUE = ("large", "red", "circle"), ("small", "blue", "square")


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


def batch_of(scenes, count, rng):
    """Return (pictures, captions, targets) of some scenes."""
    chosen = [scenes[index] for index in rng.integers(0, len(scenes), count)]
    captions = data.tokens_of(chosen)
    return data.draw_scenes(chosen, rng), captions, app.targets_of(captions)


def test_learns_a_few_scenes(rng):
    scenes = [data.Scene(RED), data.Scene(BLUE), data.Scene(RED, "above", BLUE), data.Scene(BLUE, "left of", RED)]
    trainer = app.Trainer(app.Captioner(np.random.default_rng(0)))
    losses = [trainer.step(*batch_of(scenes, 16, rng), 3e-3) for _ in range(50)]
    assert losses[-1] < 0.2 * losses[0]
    assert app.exact(trainer, scenes) > 0.6  # guessing: 1/4


def test_learns_as_its_twin(rng):
    pytest.importorskip("torch")
    peer = importlib.import_module("_captioning_torch")
    model, scenes = app.Captioner(np.random.default_rng(0)), data.Scenes().seen
    theirs, ours = peer.TorchCaptioner(model, app.CLIP), app.Trainer(model)
    batches = [batch_of(scenes, 16, rng) for _ in range(8)]
    losses = [[learner.step(*batch, 1e-3) for batch in batches] for learner in (ours, theirs)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][-1] < 0.95 * losses[0][0]
    pictures = batches[0][0]
    assert (ours.describe(pictures, 12) == theirs.describe(pictures, 12)).mean() > 0.95


def test_gradients(rng):
    pictures, captions, _ = batch_of(data.Scenes().seen, 3, rng)
    model = app.Captioner(np.random.default_rng(0))
    logits, backward = model.forward(pictures, captions[:-1])
    backward(np.ones_like(logits))
    head = model.parameters()["head.bias"]
    np.testing.assert_allclose(head.grad, logits.shape[0] * logits.shape[1])
    assert all(np.abs(parameter.grad).max() > 0 for parameter in model.parameters().values())


def test_run_writes_weights_and_pictures(main, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(app, "TESTED", 20)
    code, stdout, _ = main("--steps", "2", "--batch", "8")
    assert code == 0
    assert "fastrnn" in stdout
    assert (tmp_path / "run" / "captions.png").read_bytes().startswith(b"\x89PNG")
    model = app.Captioner(np.random.default_rng(1))
    model.load_state_dict(fr.io.read_state_dict(tmp_path / "run" / "captioner.safetensors"))


def test_scenes():
    scenes = data.Scenes()
    seen, unseen = ({scene.caption for scene in each} for each in (scenes.seen, scenes.unseen))
    assert len(seen) == len(scenes.seen)
    assert len(seen | unseen) == 24 + 2 * 24 * 24
    assert not seen & unseen
    pairs = [{(scene.first, scene.second) for scene in each} for each in (scenes.seen, scenes.unseen)]
    assert not pairs[0] & pairs[1]
    assert {scene.first for scene in scenes.unseen} == {scene.second for scene in scenes.unseen}
    assert data.Scene(RED, "above", BLUE).caption == "a large red circle above a small blue square"


def test_tokens_and_targets():
    scenes = [data.Scene(RED), data.Scene(RED, "left of", BLUE)]
    tokens = data.tokens_of(scenes)
    assert tokens.shape == (11, 2)
    assert [data.sentence(each) for each in tokens.T] == [scene.caption for scene in scenes]
    targets = app.targets_of(tokens)
    np.testing.assert_array_equal(targets[:5, 0], tokens[:5, 0])
    assert targets[4, 0] == data.END
    assert (targets[5:, 0] == -1).all()
    np.testing.assert_array_equal(targets[:, 1], tokens[:, 1])


def test_pictures_show_what_they_should():
    scenes = [data.Scene(RED, "above", BLUE), data.Scene(RED, "left of", BLUE), data.Scene(BLUE)]
    pictures = data.draw_scenes(scenes * 20, np.random.default_rng(0))
    assert np.unique(pictures[::3].reshape(20, -1), axis=0).shape[0] == 20
    for index, picture in enumerate(pictures):
        red, blue = picture[0] - picture[2] > 0.4, picture[2] - picture[0] > 0.4
        if index % 3 == 2:
            assert not red.any()
            assert 20 < blue.sum() < 70
            continue
        axis = index % 3
        assert np.argwhere(red)[:, axis].mean() + 5 < np.argwhere(blue)[:, axis].mean()
        assert red.sum() > 1.5 * blue.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "argument --steps: must be a whole number from 1"),
        (["--lr", "-1"], "argument --lr: must be a number"),
        (["--peer", "keras"], "argument --peer: invalid choice"),
        (["--colour"], "unrecognized arguments"),
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

    monkeypatch.setattr(app.Trainer, "step", pressed)
    code, _, stderr = main()
    assert code == 130
    assert stderr.endswith("interrupted\n")


@pytest.mark.parametrize(("module", "message"), [("safetensors", "fastrnn[examples]"), ("torch", "pip install torch")])
def test_says_what_is_missing(main, monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, stderr = main(*(["--peer", "torch"] if module == "torch" else []))
    assert code == 2
    assert f"{module} is not installed" in stderr
    assert message in stderr
