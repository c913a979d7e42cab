"""The problems of the kit suite: random inputs, and the right results from the reference in float64."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.case import Arrays
from bench.shapes import KitRow
from fastrnn import reference

__all__ = ["EPS", "LEARNING_RATE", "LOSSES", "MOVED", "KitProblem", "make_kit_problem"]

EPS = 1e-5
LEARNING_RATE = 1e-3

#: The losses of elements by their names here, which are also those in PyTorch.
LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "binary cross entropy": "binary_cross_entropy",
        "binary cross entropy with logits": "binary_cross_entropy_with_logits",
        "MSE": "mse_loss",
        "L1": "l1_loss",
        "Huber": "huber_loss",
        "smooth L1": "smooth_l1_loss",
    }
)


@dataclass(frozen=True)
class KitProblem:
    """What every library gets: arrays by name, float32, tokens and targets as int64."""

    row: KitRow
    arrays: Arrays

    @cached_property
    def truth(self) -> Mapping[str, Arrays]:
        """Return the right results of each mode in float64."""
        exact = {key: array.astype(float) if array.dtype.kind == "f" else array for key, array in self.arrays.items()}
        return TRUTHS[self.row.kind](exact)


def make_kit_problem(row: KitRow) -> KitProblem:
    """Draw normal inputs; the same for the same row."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    return KitProblem(row, {name: draw(rng) for name, draw in _inputs(row).items()})


Draw = Callable[[np.random.Generator], Any]


def _inputs(row: KitRow) -> dict[str, Draw]:
    def normal(*shape: int) -> Draw:
        return lambda rng: rng.standard_normal(shape, np.float32)

    def integers(limit: int) -> Draw:
        return lambda rng: rng.integers(0, limit, row.sizes[0])

    def chances(*shape: int) -> Draw:
        return lambda rng: rng.uniform(0.01, 0.99, shape).astype(np.float32)

    if row.kind == "embedding":
        N, V, E = row.sizes
        return {"tokens": integers(V), "weight": normal(V, E), "dy": normal(N, E)}
    if row.kind == "cross entropy":
        return {"logits": normal(*row.sizes), "targets": integers(row.sizes[1])}
    if row.kind in LOSSES:
        x = chances if row.kind == "binary cross entropy" else normal
        target = chances if row.kind.startswith("binary") else normal
        return {"x": x(*row.sizes), "target": target(*row.sizes)}
    if row.kind == "Adam step":
        return {"param": normal(*row.sizes), "grad": normal(*row.sizes)}
    inputs = {"x": normal(*row.sizes), "dy": normal(*row.sizes)}
    if row.kind != "softmax":
        inputs |= {"weight": normal(row.sizes[1]), "bias": normal(row.sizes[1])}
    if row.kind == "BatchNorm":
        inputs |= {
            "mean": normal(row.sizes[1]),
            "var": lambda rng: rng.uniform(0.5, 2, row.sizes[1]).astype(np.float32),
        }
    return inputs


def _layer_norm(given: Arrays) -> dict[str, Arrays]:
    operands = given["x"], given["x"].shape[1], given["weight"], given["bias"]
    y, pullback = reference.layer_norm_vjp(*operands, eps=EPS)
    dx, grads = pullback(given["dy"])
    return {"infer": {"y": y}, "train": {"y": y, "dx": dx, **grads}}


def _batch_norm(given: Arrays) -> dict[str, Arrays]:
    affine = given["weight"], given["bias"]
    predicted = reference.batch_norm_forward(given["x"], given["mean"], given["var"], *affine, eps=EPS)
    (y, _, _), pullback = reference.batch_norm_vjp(given["x"], *affine, eps=EPS)
    dx, grads = pullback(given["dy"])
    return {"infer": {"y": predicted}, "train": {"y": y, "dx": dx, **grads}}


def _softmax(given: Arrays) -> dict[str, Arrays]:
    exponentials = np.exp(given["x"] - given["x"].max(-1, keepdims=True))
    y = exponentials / exponentials.sum(-1, keepdims=True)
    dx = y * (given["dy"] - (given["dy"] * y).sum(-1, keepdims=True))
    return {"infer": {"y": y}, "train": {"y": y, "dx": dx}}


def _cross_entropy(given: Arrays) -> dict[str, Arrays]:
    loss, dlogits = reference.cross_entropy(given["logits"], given["targets"])
    return {"train": {"y": np.array(loss), "dlogits": dlogits}}


def _loss_of_elements(name: str) -> Callable[[Arrays], dict[str, Arrays]]:
    def truth(given: Arrays) -> dict[str, Arrays]:
        loss, dx = getattr(reference, name)(given["x"], given["target"])
        return {"train": {"y": np.array(loss), "dx": dx}}

    return truth


def _adam_step(given: Arrays) -> dict[str, Arrays]:
    param = given["param"].copy()
    m, v = np.zeros_like(param), np.zeros_like(param)
    reference.adam_step(param, given["grad"], m, v, step=1, lr=LEARNING_RATE, beta1=0.9, beta2=0.999, eps=1e-8)
    return {"train": {"y": param}}


def _embedding(given: Arrays) -> dict[str, Arrays]:
    y, pullback = reference.embedding_vjp(given["tokens"], given["weight"])
    return {"infer": {"y": y}, "train": {"y": y, **pullback(given["dy"])}}


TRUTHS: Mapping[str, Callable[[Arrays], dict[str, Arrays]]] = MappingProxyType(
    {
        "LayerNorm": _layer_norm,
        "BatchNorm": _batch_norm,
        "softmax": _softmax,
        "cross entropy": _cross_entropy,
        "Adam step": _adam_step,
        "embedding": _embedding,
        **{kind: _loss_of_elements(name) for kind, name in LOSSES.items()},
    }
)

#: How often an input of each kind has to be read or written, at the least: x and y forward; dy, what was saved and dx backward.
MOVED: Mapping[tuple[str, str], int] = MappingProxyType(
    {
        **{(kind, "infer"): 2 for kind in TRUTHS},
        **{(kind, "train"): 5 for kind in TRUTHS},
        ("cross entropy", "train"): 2,
        **{(kind, "train"): 3 for kind in LOSSES},  # x and the target, the gradient
        ("Adam step", "train"): 7,  # parameter, its two moments, in and out; the gradient
    }
)
