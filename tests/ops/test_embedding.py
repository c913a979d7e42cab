"""The embedding table: rows are copied exactly, gradients are summed in order, and only used rows are touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts, random_arrays
from shapes import AROUND_WIDTHS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference

WIDTHS = (1, 2, *AROUND_WIDTHS, 31, 33, 63, 64, 65, 130)
TOKEN_SHAPES = ((), (1,), (7,), (2, 3), (3, 1, 2), (0,), (2, 0))


def results(module: Any, tokens: Any, weight: Array, dy: Array, **options: Any) -> dict[str, Any]:
    y, pullback = module.embedding_vjp(tokens, weight)
    return {"y": y, **pullback(dy, **options)}


@pytest.mark.parametrize("E", WIDTHS)
def test_equals_reference_exactly(E: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    """The sums run over the positions in order in both, so that not even the rounding differs."""
    arrays = random_arrays(rng, {"weight": (5, E), "dy": (40, E)}, dtype)
    tokens = rng.integers(0, 5, 40)
    assert_same_bits(ops.embedding_forward(tokens, arrays["weight"]), arrays["weight"][tokens])
    assert_same_bits(results(ops, tokens, **arrays), results(reference, tokens, **arrays))


@pytest.mark.parametrize("shape", TOKEN_SHAPES, ids=str)
def test_shapes(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    weight, dy = rng.standard_normal((4, 3)), rng.standard_normal((*shape, 3))
    tokens = rng.integers(0, 4, shape)
    got = results(ops, tokens, weight, dy)
    assert got["y"].shape == (*shape, 3)
    assert_same_bits(ops.embedding_forward(tokens, weight), got["y"])
    assert_same_bits(got, results(reference, tokens, weight, dy))


def test_one_row_and_no_columns(isa: str, dtype: type) -> None:
    weight = np.full((1, 3), 2, dtype)
    assert_same_bits(ops.embedding_forward(np.zeros(4, int), weight), np.full((4, 3), 2, dtype))
    nothing = np.zeros((3, 0), dtype)
    got = results(ops, np.array([2, 0]), nothing, np.zeros((2, 0), dtype))
    assert_same_bits(got, {"y": np.zeros((2, 0), dtype), "weight": nothing})


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "int64", "uint64", ">i4", ">i8"])
def test_token_types(kind: str, rng: np.random.Generator) -> None:
    weight, dy = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    tokens = np.array([4, 0, 4, 1])
    assert_same_bits(results(ops, tokens.astype(kind), weight, dy), results(ops, tokens, weight, dy))


def test_token_lists_and_layouts(rng: np.random.Generator) -> None:
    weight, dy = rng.standard_normal((5, 3)), rng.standard_normal((2, 4, 3))
    tokens = rng.integers(0, 5, (2, 4))
    wanted = results(ops, tokens, weight, dy)
    assert_same_bits(results(ops, tokens.tolist(), weight, dy), wanted)
    for name, array in layouts(tokens).items():
        assert_same_bits(results(ops, array, weight, dy), wanted, f" with tokens {name}")


@pytest.mark.parametrize("argument", ["weight", "dy"])
def test_any_memory_layout(argument: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = random_arrays(rng, {"weight": (5, 19), "dy": (6, 19)}, dtype)
    tokens = rng.integers(0, 5, 6)
    wanted = results(ops, tokens, **arrays)
    for name, array in layouts(arrays[argument]).items():
        assert_same_bits(results(ops, tokens, **(arrays | {argument: array})), wanted, f" with {argument} {name}")


@pytest.mark.parametrize("layout", ["contiguous", "column by column", "rows apart", "backwards"])
def test_only_used_rows_of_given_gradients_are_touched(
    layout: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    arrays = random_arrays(rng, {"weight": (6, 19), "dy": (4, 19)}, dtype)
    tokens = np.array([4, 1, 4, 4])
    start = rng.standard_normal((6, 19)).astype(dtype)
    start[[0, 2, 3, 5]] = np.nan
    whole = np.repeat(start, 2, axis=0)
    given = {
        "contiguous": start.copy(),
        "column by column": np.asfortranarray(start),
        "rows apart": whole[::2],
        "backwards": start[::-1].copy()[::-1],
    }[layout]
    got = results(ops, tokens, **arrays, grads={"weight": given})
    assert got["weight"] is given
    wanted = start.copy()
    np.add.at(wanted, tokens, arrays["dy"])
    assert_same_bits(given.copy(), wanted)
    assert_same_bits(whole[1::2], start)


def test_pullback_owns_what_it_saved(isa: str, rng: np.random.Generator) -> None:
    weight, dy, tokens = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), np.array([4, 0, 4, 1])
    wanted = results(ops, tokens, weight, dy)
    y, pullback = ops.embedding_vjp(tokens, weight)
    tokens[...], weight[...], y[...] = 2, np.nan, np.nan
    assert_same_bits(pullback(dy)["weight"], wanted["weight"])
    with pytest.raises(RuntimeError, match="embedding_vjp: a pullback can be called only once"):
        pullback(dy)


def test_special_values_stay_in_their_rows(isa: str, dtype: type, rng: np.random.Generator) -> None:
    weight, dy = rng.standard_normal((5, 7)).astype(dtype), rng.standard_normal((4, 7)).astype(dtype)
    weight[4], dy[1] = np.nan, np.inf
    tokens = np.array([4, 0, 3, 1])
    got = results(ops, tokens, weight, dy)
    assert_close("exact", got, results(reference, tokens, weight, dy))
    assert np.isfinite(got["y"][1:]).all()
    assert np.isfinite(got["weight"][1:]).all()
