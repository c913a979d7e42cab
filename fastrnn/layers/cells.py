"""The cells of a recurrent layer: one layer in one direction each, with its parameters and their packed copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn import init
from fastrnn._checks import FloatArray, as_fitting, finite_float
from fastrnn.init import Initializer
from fastrnn.layers.packing import PackCache
from fastrnn.layers.parameter import Parameter

__all__ = ["Cell", "Initial", "cells", "initial_values"]


class Cell:
    """The names of one cell's parameters, and the cache of its packed weights.

    Parameters
    ----------
    suffix : str
        What a name in the layer has after its name here: "_l0", "_l1_reverse".
    names : tuple of str
        The parameters as `ops` call them: "weight_ih", "weight_hh", ...
    """

    __slots__ = ("_pairs", "cache", "names", "suffix")

    def __init__(self, suffix: str, names: tuple[str, ...]) -> None:
        self.suffix = suffix
        self.names = names
        self._pairs = tuple((name, name + suffix) for name in names)
        self.cache = PackCache()

    def parameters(self, own: Mapping[str, Parameter]) -> dict[str, Parameter]:
        """Return the parameters by their names in `ops`, out of all those of the layer."""
        return {name: own[own_name] for name, own_name in self._pairs}


def cells(num_layers: int, directions: int, *, biases: int, projected: bool) -> Iterator[Cell]:
    """Yield the cells of a layer, with 0, 1 (bias_ih) or 2 (bias_ih, bias_hh) biases."""
    names = ("weight_ih", "weight_hh", *("bias_ih", "bias_hh")[:biases], *(("weight_hr",) if projected else ()))
    for layer in range(num_layers):
        for direction in ("", "_reverse")[:directions]:
            yield Cell(f"_l{layer}{direction}", names)


class Initial(NamedTuple):
    """Where the initial values of a recurrent layer come from."""

    weight: Callable[..., FloatArray]
    recurrent: Callable[..., FloatArray]
    bias: Callable[..., FloatArray]
    forget_bias: float

    @classmethod
    def find(
        cls,
        layer: str,
        hidden_size: int,
        *,
        weight_init: Initializer,
        recurrent_init: Initializer | None,
        bias_init: Initializer | None,
        forget_bias: float | None = 0.0,
        usual_recurrent: str = "orthogonal",
    ) -> Initial:
        """Look up a layer's options; those that are None follow `weight_init` if that is "torch"."""
        as_torch = isinstance(weight_init, str) and weight_init == "torch"

        def lookup(arg: str, value: Initializer | None, usual: str) -> Callable[..., FloatArray]:
            value = value if value is not None else "torch" if as_torch else usual
            return init.initializer(layer, arg, value, 1 / math.sqrt(hidden_size))

        if forget_bias is None:
            forget_bias = 0.0 if as_torch else 1.0
        return cls(
            lookup("weight_init", weight_init, "glorot"),
            lookup("recurrent_init", recurrent_init, usual_recurrent),
            lookup("bias_init", bias_init, "zeros"),
            finite_float(layer, "forget_bias", forget_bias),
        )


def initial_values(
    layer: str,
    names: tuple[str, ...],
    sizes: tuple[int, int, int, int],
    source: Initial,
    dtype: np.dtype[Any],
    rng: np.random.Generator,
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the initial parameters `names` of one cell, every gate drawn on its own.

    `sizes` is (G, C, H, P), where P is H without projection. The forget bias goes to bias_ih alone, into the second
    gate: only an LSTM has one.
    """
    G, C, H, P = sizes
    blocks = {
        "weight_ih": (G, source.weight, (H, C)),
        "weight_hh": (G, source.recurrent, (H, P)),
        "bias_ih": (G, source.bias, (H,)),
        "bias_hh": (G, source.bias, (H,)),
        "weight_hr": (1, source.weight, (P, H)),
    }
    for name in names:
        gates, make, shape = blocks[name]
        drawn = [make(shape, dtype=dtype, rng=rng) for _ in range(gates)]
        value = np.concatenate([as_fitting(layer, f"initial {name}", block, shape, dtype) for block in drawn])
        if name == "bias_ih":
            value[H : 2 * H] += source.forget_bias
        yield name, value
