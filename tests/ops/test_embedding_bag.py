"""The compiled bags of embeddings equal the float64 reference, touch used rows only, and refuse bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts
from shapes import AROUND_WIDTHS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError

NAN = np.nan
KINDS = [("sum", False), ("mean", False), ("max", False), ("sum", True), ("mean", True)]
WIDTHS = (1, 2, *AROUND_WIDTHS, 31, 63, 64, 65, 130)
FORMS = ("rows", "lengths", "padding", "offsets", "padded offsets")
kinds = pytest.mark.parametrize(("mode", "weighted"), KINDS)


def call(form: str, weighted: bool, rng: np.random.Generator, dtype: Any, E: int = 7, N: int = 6) -> dict[str, Any]:
    """Return the arguments of a call."""
    tokens = rng.integers(0, 11, (N, 5))
    given: dict[str, Any] = {"tokens": tokens, "weight": rng.standard_normal((11, E)).astype(dtype)}
    if "offsets" in form:
        given["tokens"] = tokens.reshape(-1)
        given["offsets"] = np.concatenate(([0, 0], np.sort(rng.integers(0, tokens.size, N - 2))))
    if form == "lengths":
        given["lengths"] = rng.integers(1, 6, N)
    if form in ("padding", "padded offsets"):
        given["padding_idx"] = int(tokens[0, 0])
    if weighted:
        given["weights"] = rng.uniform(0.5, 2, given["tokens"].shape).astype(dtype)
    return given


def results(module: Any, given: dict[str, Any], mode: str, dy: Array, **options: Any) -> dict[str, Any]:
    y, pullback = module.embedding_bag_vjp(**given, mode=mode)
    dweights, grads = pullback(dy, **options)
    return {"y": y, **grads} | ({} if dweights is None else {"dweights": dweights})


def exact(given: dict[str, Any]) -> dict[str, Any]:
    return {k: v.astype(np.float64) if getattr(v, "dtype", None) == np.float32 else v for k, v in given.items()}


@kinds
@pytest.mark.parametrize("form", FORMS)
def test_equals_reference(
    form: str, mode: str, weighted: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    given = call(form, weighted, rng, dtype)
    dy = rng.standard_normal((6, 7)).astype(dtype)
    got = results(ops, given, mode, dy)
    assert all(array.dtype == dtype for array in got.values())
    assert_close("embedding_bag", got, results(reference, exact(given), mode, dy))
    assert_same_bits(ops.embedding_bag_forward(**given, mode=mode), got["y"])


@pytest.mark.parametrize("E", WIDTHS)
@kinds
def test_widths(E: int, mode: str, weighted: bool, isa: str, rng: np.random.Generator) -> None:
    given = call("padded offsets", weighted, rng, np.float32, E)
    dy = rng.standard_normal((6, E)).astype(np.float32)
    assert_close("embedding_bag", results(ops, given, mode, dy), results(reference, exact(given), mode, dy))


@kinds
def test_any_number_of_threads(
    mode: str, weighted: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    given = call("rows", weighted, rng, dtype, 33, 301)
    dy = rng.standard_normal((301, 33)).astype(dtype)
    got = results(ops, given, mode, dy)
    ops.set_num_threads(1)
    assert_same_bits(results(ops, given, mode, dy), got)


@kinds
def test_a_bag_has_the_same_bits_alone(
    mode: str, weighted: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    given = call("rows", weighted, rng, dtype, 19)
    y = ops.embedding_bag_forward(**given, mode=mode)
    for b in range(6):
        one = {k: v if k == "weight" else v[b : b + 1] for k, v in given.items()}
        assert_same_bits(ops.embedding_bag_forward(**one, mode=mode), y[b : b + 1])


@kinds
def test_only_used_rows_are_touched_and_what_is_saved_is_owned(
    mode: str, weighted: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    given = call("padding", weighted, rng, dtype)
    given["tokens"][given["tokens"] > 7] = 3
    dy = rng.standard_normal((6, 7)).astype(dtype)
    wanted = results(ops, given, mode, dy)
    grad = np.zeros((11, 7), dtype)
    unused = [given["padding_idx"], 8, 9, 10]
    grad[unused] = NAN
    y, pullback = ops.embedding_bag_vjp(**given, mode=mode)
    for name in ("tokens", "weight", "weights"):
        if name in given:
            given[name][...] = 0
    y[...] = 0
    dweights, grads = pullback(dy, grads={"weight": grad})
    assert grads["weight"] is grad
    assert np.isnan(grad[unused]).all()
    assert_same_bits(np.nan_to_num(grad), wanted["weight"])
    if weighted:
        assert_same_bits(dweights, wanted["dweights"])
    with pytest.raises(RuntimeError, match="embedding_bag_vjp: a pullback can be called only once"):
        pullback(dy)


def test_padding_is_not_read(isa: str, dtype: type, rng: np.random.Generator) -> None:
    for mode, weighted in KINDS:
        given = call("lengths", weighted, rng, dtype)
        dy = rng.standard_normal((6, 7)).astype(dtype)
        wanted = results(ops, given, mode, dy)
        past = np.arange(5) >= given["lengths"][:, None]
        given["tokens"][past] = 1000
        if weighted:
            given["weights"][past] = NAN
        assert_same_bits(results(ops, given, mode, dy), wanted)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_special_values_stay_in_their_bags(mode: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    given = {"tokens": np.array([[0, 1], [1, 2], [2, 3]]), "weight": rng.standard_normal((4, 19)).astype(dtype)}
    given["weight"][0, ::2], given["weight"][1, 1::4] = NAN, np.inf
    dy = rng.standard_normal((3, 19)).astype(dtype)
    got = results(ops, given, mode, dy)
    assert_close("embedding_bag", got, results(reference, given, mode, dy))
    assert np.isnan(got["y"][0, ::2]).all()
    assert np.isfinite(got["y"][2]).all()


def test_shapes(isa: str, dtype: type) -> None:
    table = np.ones((4, 3), dtype)
    for mode in ("sum", "mean", "max"):
        assert_same_bits(ops.embedding_bag_forward(np.zeros((0, 5), int), table, mode=mode), np.zeros((0, 3), dtype))
        assert_same_bits(ops.embedding_bag_forward(np.zeros((2, 0), int), table, mode=mode), np.zeros((2, 3), dtype))
        nothing = ops.embedding_bag_forward(np.zeros(0, int), table, np.zeros(2, int), mode=mode)
        assert_same_bits(nothing, np.zeros((2, 3), dtype))


@pytest.mark.parametrize("argument", ["tokens", "weight", "weights", "dy"])
def test_any_memory_layout(argument: str, rng: np.random.Generator) -> None:
    given = call("rows", True, rng, np.float64)
    dy = rng.standard_normal((6, 7))
    wanted = results(ops, given, "mean", dy)
    for name, array in layouts(dy if argument == "dy" else given[argument]).items():
        changed, dy_form = (given, array) if argument == "dy" else (given | {argument: array}, dy)
        assert_same_bits(results(ops, changed, "mean", dy_form), wanted, f" with {argument} {name}")


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"mode": "min"}, ArgumentError, "'mode' must be one of 'mean', 'sum', 'max', got 'min'"),
        ({"weight": np.ones(4)}, ShapeError, r"'weight' must have shape \(V, E\), got \(4,\)"),
        ({"tokens": [1, 2]}, ShapeError, r"'tokens' must have shape \(N, L\), or .*, got \(2,\)"),
        ({"tokens": [[1], [2, 3]]}, ShapeError, "'tokens' must be a rectangular array, got list"),
        ({"tokens": [[4]]}, TokenError, r"'tokens' must be in 0\.\.3, got 4"),
        ({"tokens": [[1.5]]}, DTypeError, "'tokens' must have an integer dtype, got float64"),
        ({"offsets": [0]}, ShapeError, r"'tokens' must have shape \(n,\), got \(2, 2\)"),
        ({"tokens": [1, 2], "offsets": [1]}, TokenError, r"'offsets' must be from 0 in increasing order, got \[1\]"),
        ({"tokens": [1, 2], "offsets": [0, 2, 1]}, TokenError, "'offsets' must be from 0 in increasing order, got"),
        ({"tokens": [1, 2], "offsets": [0, 3]}, TokenError, r"'offsets' must be in 0\.\.2, got 3"),
        ({"tokens": [1, 2], "offsets": [0], "lengths": [1]}, LengthsError, "'lengths' must be None beside 'offsets'"),
        ({"lengths": [0, 1]}, LengthsError, r"'lengths' must be in 1\.\.T=2, got 0"),
        (
            {"weights": np.ones((2, 2)), "mode": "max"},
            ArgumentError,
            "'weights' must be None for mode 'max', got ndarray",
        ),
        ({"weights": np.ones(2)}, ShapeError, r"'weights' must have shape \(2, 2\), got \(2,\)"),
        ({"weights": np.ones((2, 2), "f4")}, DTypeError, "'weights' must have dtype float64, got float32"),
        ({"padding_idx": 4}, TokenError, r"'padding_idx' must be in -4\.\.3, got 4"),
        ({"padding_idx": 1.0}, ArgumentError, r"'padding_idx' must be an int, got 1\.0"),
    ],
)
def test_bad_input(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"tokens": [[0, 1], [2, 3]], "weight": np.ones((4, 3)), **changes}
    for name in ("embedding_bag_forward", "embedding_bag_vjp"):
        with pytest.raises(error, match=f"^{name}: {text}"):
            getattr(ops, name)(**given)


def test_a_bad_gradient_changes_nothing() -> None:
    _, pullback = ops.embedding_bag_vjp([[0, 1]], np.ones((4, 3)))
    for dy in (np.ones(3), np.ones((1, 4)), np.ones((2, 3))):
        with pytest.raises(ShapeError, match="embedding_bag_vjp: 'dy' must have shape"):
            pullback(dy)
    assert pullback(np.ones((1, 3)))[1]["weight"].sum() == 3
