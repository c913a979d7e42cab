"""Drawn pictures of one or two objects, and the captions that describe them."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["END", "SIDE", "WORDS", "Array", "Scene", "Scenes", "draw_scenes", "sentence", "tokens_of"]

Array: TypeAlias = NDArray[Any]

SIDE = 32  # pixels
RADII = {"large": 6.5, "small": 3.5}  # pixels
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2), "blue": (0.2, 0.3, 1.0), "yellow": (0.95, 0.9, 0.1)}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("above", "left of")
END = 0  # the token after the last word, and before the end of shorter captions
WORDS = ("<end>", "a", *RADII, *COLOURS, *SHAPES, "above", "left", "of")

UNSEEN = 0.2  # of all pairs of objects are kept for the test


class Scene(NamedTuple):
    """One object, (size, colour, shape), or two and how the first lies to the second."""

    first: tuple[str, str, str]
    relation: str = ""
    second: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """Say what there is, as in "a large red circle above a small blue square"."""
        one, two = " ".join(self.first), " ".join(self.second)
        return f"a {one} {self.relation} a {two}" if two else f"a {one}"


class Scenes:
    """All scenes there are: those to learn from, and those with pairs of objects that are never seen in training."""

    def __init__(self) -> None:
        objects = list(product(RADII, COLOURS, SHAPES))
        pairs = list(product(objects, objects))
        chosen = np.random.default_rng(0).permutation(len(pairs))[: round(UNSEEN * len(pairs))]
        unseen = set(chosen.tolist())
        single = [Scene(each) for each in objects]
        self.seen = single + [
            Scene(a, how, b) for n, (a, b) in enumerate(pairs) if n not in unseen for how in RELATIONS
        ]
        self.unseen = [Scene(a, how, b) for n, (a, b) in enumerate(pairs) if n in unseen for how in RELATIONS]


def tokens_of(scenes: list[Scene]) -> Array:
    """Return the captions as tokens (T, N), each ended by END at least once."""
    captions = [[WORDS.index(word) for word in scene.caption.split()] for scene in scenes]
    longest = max(map(len, captions)) + 1
    return np.array([caption + [END] * (longest - len(caption)) for caption in captions]).T


def sentence(tokens: Array) -> str:
    """Return tokens (T,) up to END as words."""
    words = [WORDS[token] for token in tokens]
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


def draw_scenes(scenes: list[Scene], rng: np.random.Generator) -> Array:
    """Return a picture (3, SIDE, SIDE) of each scene, objects at random places, on a noisy background of random grey."""
    pictures = np.empty((len(scenes), 3, SIDE, SIDE), np.float32)
    for picture, scene in zip(pictures, scenes, strict=True):
        picture[:] = rng.uniform(0, 0.3)
        middle = rng.uniform(10, SIDE - 10, 2)
        if scene.second:
            along = RELATIONS.index(scene.relation)  # axis 0 runs down, axis 1 to the right
            for where, each in ((8, scene.first), (SIDE - 8, scene.second)):
                place = middle + rng.uniform(-2, 2, 2)
                place[along] = where + rng.uniform(-1, 1)
                _draw_object(picture, each, place, rng)
        else:
            _draw_object(picture, scene.first, middle, rng)
    pictures += 0.05 * rng.standard_normal(pictures.shape, np.float32)
    return pictures


def _draw_object(picture: Array, what: tuple[str, ...], place: Array, rng: np.random.Generator) -> None:
    size, colour, shape = what
    radius = RADII[size] + rng.uniform(-0.5, 0.5)
    down, right = np.mgrid[:SIDE, :SIDE] - place[:, None, None]
    inside = {
        "circle": np.hypot(down, right) < radius,
        "square": np.maximum(abs(down), abs(right)) < 0.85 * radius,
        "triangle": (2 * abs(right) < down + radius) & (down < 0.8 * radius),
    }[shape]
    picture[:, inside] = np.array(COLOURS[colour])[:, None] * rng.uniform(0.85, 1.0)
