"""Pictures for classification: scikit-learn's digits or a folder, cut into training and test set, and distorted at will."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from _command_line import InputError, require
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Array", "Distortion", "Pictures", "batches", "distort", "load_digits", "load_folder", "nearest_neighbour"]

Array: TypeAlias = NDArray[Any]

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
TEST_EVERY = 5  # pictures 0, 5, 10, ... are the test set: of a folder those of each class, in the order of their names


class Pictures(NamedTuple):
    """Pictures (N, C, H, W) with values from 0 to 1, their classes (N,), which of them are for the test, class names."""

    x: Array
    y: Array
    is_test: Array
    names: list[str]

    @property
    def training(self) -> tuple[Array, Array]:
        """Pictures and classes to learn from."""
        return self.x[~self.is_test], self.y[~self.is_test]

    @property
    def test(self) -> tuple[Array, Array]:
        """Pictures and classes that training never sees."""
        return self.x[self.is_test], self.y[self.is_test]


def load_digits() -> Pictures:
    """Return scikit-learn's 1797 handwritten digits of 8 x 8 pixels."""
    data = require("sklearn.datasets").load_digits()
    x = (data.images[:, None] / 16).astype(np.float32)
    return Pictures(x, data.target.astype(np.int64), np.arange(len(x)) % TEST_EVERY == 0, [str(n) for n in range(10)])


def load_folder(path: str, size: int) -> Pictures:
    """Return the pictures in the subfolders of a folder, each subfolder a class, all brought to `size` x `size` pixels."""
    image = require("PIL.Image")
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{path} is not a folder")
    files = {
        folder.name: sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }
    files = {name: found for name, found in files.items() if found}
    if len(files) < 2 or min(map(len, files.values())) < 2:
        found = ", ".join(f"{name}: {len(of)}" for name, of in files.items()) or "none"
        raise InputError(f"{path} must have at least two subfolders with two pictures or more each; found {found}")
    x, y, is_test = [], [], []
    for index, of_class in enumerate(files.values()):
        for place, file in enumerate(of_class):
            try:
                with image.open(file) as picture:
                    pixels = np.asarray(picture.convert("RGB").resize((size, size)), np.float32)
            except OSError as error:
                raise InputError(f"cannot read {file} as a picture") from error
            x.append(pixels.transpose(2, 0, 1) / 255)
            y.append(index)
            is_test.append(place % TEST_EVERY == 0)
    return Pictures(np.stack(x), np.array(y), np.array(is_test), list(files))


class Distortion(NamedTuple):
    """How far a picture may be distorted, each time by a random amount up to these (`elastic`: standard deviation)."""

    shift: float = 0.09  # of the picture's width
    rotation: float = 10.0  # degrees
    scale: float = 0.1
    elastic: float = 0.03  # of the picture's width
    smoothness: float = 0.2  # of the picture's width: how far pixels move together


def distort(x: Array, how: Distortion, rng: np.random.Generator) -> Array:
    """Return each picture (N, C, H, W) shifted, turned, scaled and elastically deformed, in one resampling.

    The elastic field is white noise smoothed by a Gaussian: Simard, Steinkraus & Platt 2003, Best practices for
    convolutional neural networks applied to visual document analysis.
    """
    N, _, H, W = x.shape

    def up_to(limit: float) -> Array:
        return rng.uniform(-limit, limit, (N, 1, 1))

    angle, scale = np.deg2rad(up_to(how.rotation)), np.exp(up_to(how.scale))
    field = rng.standard_normal((2, N, H, W))
    field = ndimage.gaussian_filter(field, (0, 0, how.smoothness * H, how.smoothness * W), mode="wrap")
    field *= how.elastic * W / (field.std() + 1e-12)
    rows, columns = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    down = scale * (np.cos(angle) * rows - np.sin(angle) * columns) + up_to(how.shift) * H + field[0] + (H - 1) / 2
    right = scale * (np.sin(angle) * rows + np.cos(angle) * columns) + up_to(how.shift) * W + field[1] + (W - 1) / 2
    return _bilinear(x, down, right)


def _bilinear(x: Array, down: Array, right: Array) -> Array:
    """Return pictures (N, C, H, W) read at places (N, H, W); beyond the border they go on as at the border."""
    N, _, H, W = x.shape
    down, right = down.clip(0, H - 1), right.clip(0, W - 1)
    top, left = np.minimum(down.astype(int), H - 2), np.minimum(right.astype(int), W - 2)
    v, u = (down - top)[..., None], (right - left)[..., None]
    n, pixels = np.arange(N)[:, None, None], x.transpose(0, 2, 3, 1)
    above = (1 - u) * pixels[n, top, left] + u * pixels[n, top, left + 1]
    below = (1 - u) * pixels[n, top + 1, left] + u * pixels[n, top + 1, left + 1]
    return np.ascontiguousarray(((1 - v) * above + v * below).transpose(0, 3, 1, 2), x.dtype)


def batches(pictures: Pictures, size: int, how: Distortion | None, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield distorted batches of the training set without end, each epoch in a new order."""
    rng = np.random.default_rng(seed)
    x, y = pictures.training
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x), size):
            part = order[start : start + size]
            yield x[part] if how is None else distort(x[part], how, rng), y[part]


def nearest_neighbour(pictures: Pictures) -> float:
    """Return the test accuracy of taking the class of the nearest training picture: what needs no learning."""
    (x, y), (test, wanted) = pictures.training, pictures.test
    x, test = x.reshape(len(x), -1), test.reshape(len(test), -1)
    distance = np.square(x).sum(1) - 2 * test @ x.T
    return float((y[distance.argmin(1)] == wanted).mean())
