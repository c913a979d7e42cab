"""Train two convolutional nets to tell pictures apart, and look at what they have learned.

    python examples/image_classification.py                 the 1797 handwritten digits of scikit-learn, a minute or two
    python examples/image_classification.py --data FOLDER   pictures of your own: FOLDER/cat/*.jpg, FOLDER/dog/*.png, ...
    python examples/image_classification.py --peer torch    the same nets beside PyTorch: same weights, same batches

"conv" is the classic net: convolution, pooling, convolution, pooling, dense, softmax (LeCun, Bottou, Bengio & Haffner
1998). "residual" is a small relative of ResNet-50: bottlenecks, which narrow the maps by a 1 x 1 convolution, look around
by a 3 x 3 one, widen them again, and add the result to what they were given; each convolution is followed by batch
normalisation (He, Zhang, Ren & Sun 2016). Every batch is distorted anew, by shift, rotation, scale and elastic deformation.

Each fifth picture is the test set, 360 of the digits; training never sees them. Expect 98.5% or more of them right with
either net. The nearest neighbour among the training pictures, which needs no learning, is printed for comparison.

The directory --out (image_classification_run) then holds for each net

    conv.safetensors    the weights: model = fastrnn.load(...)
    conv.png            its first filters, and its feature maps of one test picture
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from _command_line import INTERRUPTED, Parser, above_zero, at_least, count, make_directory, require, run_command
from _image_classification_data import (
    Array,
    Distortion,
    batches,
    load_digits,
    load_folder,
    nearest_neighbour,
)
from _image_classification_draw import draw
from _training import train

import fastrnn as fr

WEIGHT_DECAY = 1e-2
WARM_UP = 20  # steps during which the learning rate rises


# The nets


def conv_net(shape: tuple[int, ...], classes: int, rng: np.random.Generator) -> fr.Sequential:
    """Return conv, pool, conv, pool, dense for pictures of a shape (C, H, W); the softmax is in the loss."""
    C, H, W = shape
    return fr.Sequential(
        fr.Conv2d(C, 32, 3, padding=1, rng=rng),
        fr.ReLU(),
        fr.MaxPool2d(2),
        fr.Conv2d(32, 64, 3, padding=1, rng=rng),
        fr.ReLU(),
        fr.MaxPool2d(2),
        fr.Flatten(),
        fr.Linear(64 * (H // 4) * (W // 4), 128, rng=rng),
        fr.ReLU(),
        fr.Linear(128, classes, rng=rng),
    )


def residual_net(shape: tuple[int, ...], classes: int, rng: np.random.Generator) -> fr.Sequential:
    """Return a stem, four bottlenecks, of which the third halves the sides, and the mean of each map before the end."""
    return fr.Sequential(
        *conv_norm(shape[0], 32, 3, rng),
        fr.ReLU(),
        bottleneck(32, 16, 64, 1, rng),
        bottleneck(64, 16, 64, 1, rng),
        bottleneck(64, 32, 128, 2, rng),
        bottleneck(128, 32, 128, 1, rng),
        fr.GlobalAvgPool(),
        fr.Linear(128, classes, rng=rng),
    )


def bottleneck(inputs: int, narrow: int, outputs: int, stride: int, rng: np.random.Generator) -> fr.Residual:
    """Return a residual block; where it changes the shape, a 1 x 1 convolution takes the shortcut along."""
    same = inputs == outputs and stride == 1
    return fr.Residual(
        *conv_norm(inputs, narrow, 1, rng),
        fr.ReLU(),
        *conv_norm(narrow, narrow, 3, rng, stride),
        fr.ReLU(),
        *conv_norm(narrow, outputs, 1, rng),
        shortcut=None if same else fr.Sequential(*conv_norm(inputs, outputs, 1, rng, stride)),
        activation="relu",
    )


def conv_norm(
    inputs: int, outputs: int, kernel: int, rng: np.random.Generator, stride: int = 1
) -> tuple[fr.Conv2d, fr.BatchNorm2d]:
    """Return a convolution and its batch normalisation, which makes a bias superfluous."""
    convolution = fr.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, rng=rng, weight_init="he_normal")
    return convolution, fr.BatchNorm2d(outputs)


NETS: dict[str, Callable[[tuple[int, ...], int, np.random.Generator], fr.Sequential]] = {
    "conv": conv_net,
    "residual": residual_net,
}


# Training


class Learner(Protocol):
    """What is trained: a net of ours or its twin."""

    def step(self, x: Array, y: Array, lr: float) -> float:
        """Learn from one batch; return its loss."""

    def predict(self, x: Array) -> Array:
        """Return the likeliest class of each picture."""


class Trainer:
    """A net and its optimizer."""

    def __init__(self, model: fr.Sequential) -> None:
        self.model = model
        self.optimizer = fr.AdamW(model, weight_decay=WEIGHT_DECAY)

    def step(self, x: Array, y: Array, lr: float) -> float:
        """Learn from one batch; return its loss."""
        logits, backward = self.model.forward(x, input_gradient=False)
        loss, dlogits = fr.cross_entropy(logits, y)
        backward(dlogits)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def predict(self, x: Array) -> Array:
        """Return the likeliest class of each picture."""
        return np.asarray(self.model(x).argmax(1))


def accuracy(learner: Learner, x: Array, y: Array) -> float:
    """Return the part of the pictures that a net gets right."""
    parts = [learner.predict(x[start : start + 256]) for start in range(0, len(x), 256)]
    return float((np.concatenate(parts) == y).mean())


def run(options: argparse.Namespace) -> int:
    """Train the nets and show what came out; return the exit code."""
    require("safetensors")
    pictures = load_digits() if options.data is None else load_folder(options.data, options.size)
    shape, (test, wanted) = pictures.x.shape[1:], pictures.test
    out, trained = make_directory(options.out), len(pictures.x) - len(test)
    print(f"{trained} pictures {shape} of {len(pictures.names)} classes to learn from, {len(test)} for the test")
    lines = [f"{'nearest neighbour':30} {nearest_neighbour(pictures):7.2%}"]
    steps, drawn = options.epochs * -(-trained // options.batch), []
    for name in options.nets:
        model = NETS[name](shape, len(pictures.names), np.random.default_rng(options.seed))
        learners: dict[str, Learner] = {"fastrnn": Trainer(model)}
        if options.peer:
            from _image_classification_torch import TorchClassifier

            learners["PyTorch"] = TorchClassifier(model, WEIGHT_DECAY)
        feed = batches(pictures, options.batch, None if options.plain else Distortion(), options.seed)
        seconds, stopped = train(learners, feed, steps, options.lr, warm_up=WARM_UP, title=f"{name}: ")
        for library, learner in learners.items():
            right = accuracy(learner, test, wanted)
            lines.append(f"{name + ' net, ' + library:30} {right:7.2%}   {seconds[library]:6.1f} s of training steps")
        fr.save(model, out / f"{name}.safetensors")
        drawn.append(draw(model, test[0], out / f"{name}.png"))
        if stopped:
            break
    print("\n".join(["test accuracy (98.5% is what these nets should reach on the digits)", *lines, *drawn]))
    return INTERRUPTED if stopped else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", metavar="FOLDER", help="pictures in subfolders, one for each class, instead of digits")
    add(
        "--size", metavar="N", type=at_least(8), default=32, help="their sides are made N pixels (default: %(default)s)"
    )
    add("--nets", choices=list(NETS), nargs="+", default=list(NETS), help="(default: both)")
    add("--plain", action="store_true", help="do not distort the pictures")
    add("--epochs", metavar="N", type=count, default=60, help="passes over the pictures (default: %(default)s)")
    add("--batch", metavar="N", type=count, default=64, help="pictures in a step (default: %(default)s)")
    add("--lr", metavar="R", type=above_zero, default=3e-3, help="highest learning rate (default: %(default)s)")
    parser.add_common("image_classification_run")
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
