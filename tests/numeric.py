"""Random data, finite differences, and recurrent problems to run on `fastrnn.reference` or `fastrnn.ops`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from shapes import RecurrentSizes, Variant
from tolerances import assert_close

Array = NDArray[Any]

# Cube root of the float64 roundoff: truncation and rounding errors of central differences are then alike.
STEP = 6e-6


def assert_varies(*arrays: Array) -> None:
    """Assert that random data is not degenerate: no array repeats one value, no two arrays are equal."""
    for index, array in enumerate(arrays):
        if array.size > 1:
            assert len(np.unique(array)) > 1, f"array {index} of shape {array.shape} repeats one value"
        for other in arrays[:index]:
            same = array.shape == other.shape and array.size > 1 and np.array_equal(array, other)
            assert not same, f"array {index} of shape {array.shape} equals an earlier one"


def random_arrays(
    rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike = np.float64, scale: float = 1.0
) -> dict[str, Array]:
    """Return name -> normal random array, checked to vary."""
    arrays = {name: (scale * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    assert_varies(*arrays.values())
    return arrays


def layouts(array: Array) -> dict[str, Array]:
    """Return arrays equal to `array` as they may lie in memory, by name: all that NumPy can view, NaN (or -1) around them."""
    dtype, width = array.dtype, array.shape[-1]
    around: Any = np.nan if dtype.kind == "f" else -1
    fixed = array.copy()
    fixed.flags.writeable = False
    wide = np.full((*array.shape[:-1], 2 * width + 2), around, dtype)
    wide[..., 1 : width + 1] = array
    spread = np.full(wide.shape, around, dtype)
    spread[..., 1:-1:2] = array
    shifted = np.empty(array.nbytes + 1, np.uint8)[1:].view(dtype).reshape(array.shape)
    shifted[...] = array
    records = np.zeros(array.shape[:-1], [("values", dtype, (width,)), ("byte", np.int8)])
    records["values"] = array
    return {
        "read-only": fixed,
        "column by column": np.asfortranarray(array),
        "rows apart": wide[..., 1 : width + 1],
        "every other element": spread[..., 1:-1:2],
        "elements backwards": array[..., ::-1].copy()[..., ::-1],
        "rows backwards": array[::-1].copy()[::-1],
        "unaligned": shifted,
        "in records of odd size": records["values"],
        "other byte order": array.astype(dtype.newbyteorder()),
    }


def finite_difference(function: Callable[[], float], array: Array) -> Array:
    """Return the gradient of `function` with respect to the float64 `array` it reads, by central differences.

        df/da = (f(a + STEP) - f(a - STEP)) / (2 STEP)

    The array is changed in place, one element at a time, and restored.
    """
    assert array.dtype == np.float64
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + STEP
        above = function()
        array[index] = value - STEP
        below = function()
        array[index] = value
        gradient[index] = (above - below) / (2 * STEP)
    return gradient


def assert_gradients(function: Callable[[], float], arrays: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
    """Assert that `grads` are the gradients of `function` with respect to `arrays`, by finite differences."""
    assert set(grads) == set(arrays)
    numeric = {name: finite_difference(function, array) for name, array in arrays.items()}
    assert_close("finite_difference", dict(grads), numeric)


@dataclass(frozen=True)
class RecurrentProblem:
    """One call of a recurrent operation with everything it takes, and gradients to pull back.

    `state`, `dstate` and what `forward` and `vjp` return for states are tuples: (h,), or (h, c) for LSTM.
    """

    variant: Variant
    x: Array
    params: dict[str, Array]
    state: tuple[Array, ...]
    dy: Array
    dstate: tuple[Array, ...]
    options: dict[str, Any]

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        variant: Variant,
        sizes: RecurrentSizes,
        *,
        dtype: DTypeLike = np.float64,
        biases: Iterable[str] = ("bias_ih", "bias_hh"),
        lengths: bool = False,
        reverse: bool = False,
    ) -> RecurrentProblem:
        """Return a problem with random data; `lengths` are random too, in no order, and 1 and T among them."""
        T, N, C, H = sizes
        param_shapes = variant.param_shapes(C, H, biases)
        state_shapes = variant.state_shapes(N, H)
        params = random_arrays(rng, param_shapes, dtype, scale=1 / np.sqrt(max(C, H)))
        y_shape = (T, N, variant.outputs(H))
        data = random_arrays(rng, {"x": (T, N, C), "dy": y_shape}, dtype)
        states = [random_arrays(rng, dict(zip("hc", state_shapes, strict=False)), dtype) for _ in range(2)]
        options: dict[str, Any] = {**variant.options, "reverse": reverse}
        if lengths:
            options["lengths"] = random_lengths(rng, N, T)
        state, dstate = (tuple(arrays.values()) for arrays in states)
        return cls(variant, data["x"], params, state, data["dy"], dstate, options)

    def with_lengths(self, lengths: Any) -> RecurrentProblem:
        """Return the same problem with other lengths."""
        return replace(self, options={**self.options, "lengths": lengths})

    def astype(self, dtype: DTypeLike) -> RecurrentProblem:
        """Return the same problem in another dtype."""
        return replace(
            self,
            x=self.x.astype(dtype),
            params={name: value.astype(dtype) for name, value in self.params.items()},
            state=tuple(value.astype(dtype) for value in self.state),
            dy=self.dy.astype(dtype),
            dstate=tuple(value.astype(dtype) for value in self.dstate),
        )

    def sequence(self, n: int) -> RecurrentProblem:
        """Return the problem of one sequence alone, cut to its own length."""
        options = dict(self.options)
        lengths = options.pop("lengths", None)
        T = len(self.x) if lengths is None else lengths[n]
        one = slice(n, n + 1)
        return replace(
            self,
            x=self.x[:T, one],
            state=tuple(value[one] for value in self.state),
            dy=self.dy[:T, one],
            dstate=tuple(value[one] for value in self.dstate),
            options=options,
        )

    def part(self, rows: slice) -> RecurrentProblem:
        """Return the problem of some of the sequences."""
        options = dict(self.options)
        if "lengths" in options:
            options["lengths"] = np.asarray(options["lengths"])[rows]
        return replace(
            self,
            x=self.x[:, rows],
            state=tuple(value[rows] for value in self.state),
            dy=self.dy[:, rows],
            dstate=tuple(value[rows] for value in self.dstate),
            options=options,
        )

    def forward(self, module: ModuleType, **options: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return y and the final state from ``module.<cell>_forward``."""
        function = getattr(module, f"{self.variant.cell}_forward")
        y, state = function(self.x, self.params, self.pack(self.state), **{**self.options, **options})
        return y, self.unpack(state)

    def vjp(
        self, module: ModuleType, *, grads: dict[str, Array] | None = None, **options: Any
    ) -> tuple[Array, tuple[Array, ...], dict[str, Any]]:
        """Return y, the final state, and {"x", "state", "params"} gradients from ``module.<cell>_vjp``."""
        function = getattr(module, f"{self.variant.cell}_vjp")
        (y, state), pullback = function(self.x, self.params, self.pack(self.state), **{**self.options, **options})
        dx, dstate, dparams = pullback(self.dy, self.pack(self.dstate), grads=grads)
        return y, self.unpack(state), {"x": dx, "state": self.unpack(dstate), "params": dparams}

    def results(self, module: ModuleType, *, params: Any = None, **options: Any) -> dict[str, Any]:
        """Return all that `vjp` gives under one name each; `params` may be packed ones."""
        given = self if params is None else replace(self, params=params)
        y, state, grads = given.vjp(module, **options)
        return {"y": y, "state": state, "dx": grads["x"], "dstate": grads["state"], "params": grads["params"]}

    def objective(self, module: ModuleType) -> float:
        """Return the scalar whose gradients `vjp` gives: sum(dy * y) + sum(dstate * state)."""
        y, state = self.forward(module)
        return float((self.dy * y).sum() + sum((d * s).sum() for d, s in zip(self.dstate, state, strict=True)))

    def pack(self, state: tuple[Array, ...]) -> Any:
        """Return a state as the operations take it: h, or the pair (h, c)."""
        return state if self.variant.cell == "lstm" else state[0]

    def unpack(self, state: Any) -> tuple[Array, ...]:
        """Return a state as a tuple."""
        return tuple(state) if self.variant.cell == "lstm" else (state,)


def random_lengths(rng: np.random.Generator, N: int, T: int) -> Array:
    """Return N lengths in 1..T in random order, with T and 1 among the first of them."""
    lengths = rng.integers(1, T + 1, N)
    lengths[:2] = (T, 1)[: min(N, 2)]
    return rng.permutation(lengths)
