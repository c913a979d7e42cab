"""The compiled normalisations equal the float64 reference, for any mean, and keep samples apart where the mathematics does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts, random_arrays
from shapes import NORMS, ROW_NORMS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

#: Of sets of one value dx is 0, and what is left of it a rounding divided by the root of this.
EPS = 1e-3

Problem = tuple[str, dict[str, Array], dict[str, Any]]

last_or_first = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
kinds = pytest.mark.parametrize("kind", ["batch", "group"])


def problem(
    kind: str, shape: tuple[int, ...], groups: int, last: bool, rng: np.random.Generator, dtype: Any, mean: float = 0
) -> Problem:
    """Return an operation, its arrays and its options for maps of this shape."""
    options: dict[str, Any] = {"eps": EPS} if kind == "batch" else {"eps": EPS, "num_groups": groups}
    C = shape[1]
    if last and len(shape) > 2:
        shape = (shape[0], *shape[2:], C)
        options["layout"] = ("NLC", "NHWC", "NDHWC")[len(shape) - 3]
    arrays = random_arrays(rng, {"x": shape, "weight": (C,), "bias": (C,)}, dtype)
    arrays["x"] += dtype(mean)
    return f"{kind}_norm_vjp", arrays, options


def rows(shape: tuple[int, ...], sizes: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> Problem:
    """Return the same for rows."""
    arrays = random_arrays(rng, {"x": shape, "weight": sizes, "bias": sizes}, dtype)
    return "layer_norm_vjp", arrays, {"eps": EPS, "normalized_shape": sizes}


def run(module: Any, given: Problem, dy: Array) -> dict[str, Any]:
    name, arrays, options = given
    result, pullback = getattr(module, name)(**arrays, **options)
    dx, grads = pullback(dy)
    return {"y": result, "dx": dx, **grads}


def in_float64(given: Problem) -> Problem:
    name, arrays, options = given
    return name, {key: array.astype(float) for key, array in arrays.items()}, options


def assert_equals_reference(given: Problem, rng: np.random.Generator) -> None:
    x = given[1]["x"]
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    got, wanted = run(ops, given, dy), run(reference, in_float64(given), dy.astype(float))
    assert got["dx"].dtype == x.dtype
    assert_close("norm_forward", got.pop("y"), wanted.pop("y"))
    assert_close("norm_vjp", got, wanted)


@last_or_first
@kinds
@pytest.mark.parametrize(("shape", "groups"), NORMS, ids=str)
def test_maps(
    shape: tuple[int, ...], groups: int, kind: str, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    if kind == "batch" and np.prod(shape) == shape[1]:
        pytest.skip("one value for each channel")
    assert_equals_reference(problem(kind, shape, groups, last, rng, dtype), rng)


@pytest.mark.parametrize(("shape", "sizes"), ROW_NORMS, ids=str)
def test_rows(shape: tuple[int, ...], sizes: tuple[int, ...], isa: str, dtype: type, rng: np.random.Generator) -> None:
    assert_equals_reference(rows(shape, sizes, rng, dtype), rng)


@last_or_first
@pytest.mark.parametrize(("shape", "groups"), NORMS, ids=str)
def test_given_statistics(
    shape: tuple[int, ...], groups: int, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    _, arrays, options = problem("batch", shape, groups, last, rng, dtype)
    arrays |= random_arrays(rng, {"mean": (shape[1],), "var": (shape[1],)}, dtype)
    arrays["var"] **= 2
    got = ops.batch_norm_forward(**arrays, **options)
    wanted = reference.batch_norm_forward(**{key: value.astype(float) for key, value in arrays.items()}, **options)
    assert_close("norm_forward", got, wanted)


@last_or_first
@kinds
@pytest.mark.parametrize("mean", [1e4, -1e6])
def test_a_large_mean_costs_nothing(mean: float, kind: str, last: bool, isa: str, rng: np.random.Generator) -> None:
    """With standard deviation 1 the variance would have no right digit as a difference of mean squares in float32."""
    given = problem(kind, (3, 6, 40, 50), 2, last, rng, np.float32, mean)
    assert_equals_reference(given, rng)
    name, arrays, options = given
    if kind == "batch":
        (_, _, var), _ = getattr(ops, name)(**arrays, **options)
        axes = (0, 1, 2) if last else (0, 2, 3)
        np.testing.assert_allclose(var, arrays["x"].astype(float).var(axes), rtol=2e-6)


@pytest.mark.parametrize("mean", [1e4, -1e6])
def test_a_large_mean_of_rows(mean: float, isa: str, rng: np.random.Generator) -> None:
    given = rows((5, 6000), (6000,), rng, np.float32)
    given[1]["x"] += np.float32(mean)
    assert_equals_reference(given, rng)


def test_blocks_of_very_different_means(isa: str, rng: np.random.Generator) -> None:
    """The first block tells nothing of the later ones."""
    for steps in ([0, 1e4], [1e4, 0], [-1e5, 1e5], [0, 0, 0, 1e6]):
        x = (np.repeat(steps, 5000) + rng.standard_normal(5000 * len(steps))).astype(np.float32)
        y = ops.layer_norm_forward(x, len(x))
        assert_close("norm_forward", y, reference.layer_norm_forward(x.astype(float), len(x)))


@last_or_first
@kinds
def test_threads_give_the_same_bits(
    kind: str, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    given = problem(kind, (4, 18, 31, 33), 3, last, rng, dtype)
    dy = rng.standard_normal(given[1]["x"].shape).astype(dtype)
    got = run(ops, given, dy)
    ops.set_num_threads(1)
    assert_same_bits(got, run(ops, given, dy))


def test_threads_give_the_same_bits_in_rows(isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    given = rows((301, 101), (101,), rng, dtype)
    dy = rng.standard_normal((301, 101)).astype(dtype)
    got = run(ops, given, dy)
    ops.set_num_threads(1)
    assert_same_bits(got, run(ops, given, dy))


@last_or_first
def test_a_sample_does_not_see_its_batch(last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    name, arrays, options = problem("group", (7, 6, 9, 7), 2, last, rng, dtype)
    x, dy = arrays["x"], rng.standard_normal(arrays["x"].shape).astype(dtype)
    x[2, 1, 1, 1] = np.nan
    cases = [(name, arrays, options)]
    cases.append(("layer_norm_vjp", {"x": x}, {"normalized_shape": x.shape[-1:]}))
    for case in cases:
        whole = run(ops, case, dy)
        for n in range(len(x)):
            one = (case[0], case[1] | {"x": x[n : n + 1]}, case[2])
            alone = run(ops, one, dy[n : n + 1])
            assert np.isnan(alone["y"]).any() == (n == 2)
            for key in ("y", "dx"):  # NaN may differ in their signs
                assert_same_bits(np.nan_to_num(alone[key]), np.nan_to_num(whole[key][n : n + 1]))
                assert_close("exact", alone[key], whole[key][n : n + 1])
    statistics = {"mean": np.ones(6, dtype), "var": np.ones(6, dtype)}
    layout = options.get("layout")
    whole_y = ops.batch_norm_forward(x, **statistics, layout=layout)
    assert np.isnan(whole_y).sum() == 1
    assert_same_bits(ops.batch_norm_forward(x[4:5], **statistics, layout=layout), whole_y[4:5])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_as_in_torch(value: float, isa: str, dtype: type, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((3, 4, 10)).astype(dtype)
    x[1, 2, 3] = value
    tensor = torch.tensor(x)
    functional = torch.nn.functional
    for got, wanted in (
        (ops.layer_norm_forward(x, 10), functional.layer_norm(tensor, (10,))),
        (ops.group_norm_forward(x, 2), functional.group_norm(tensor, 2)),
        (ops.batch_norm_vjp(x)[0][0], functional.batch_norm(tensor, None, None, training=True)),
    ):
        assert_close("norm_vjp", got, wanted.numpy())


def test_constant_rows(isa: str, dtype: type) -> None:
    for level in (0, 1e4, -3e-5):
        x = np.full((3, 37), level, dtype)
        assert not ops.layer_norm_forward(x, 37).any()
        assert np.isnan(ops.layer_norm_forward(x, 37, eps=0)).all()


@pytest.mark.parametrize("argument", ["x", "weight", "dy"])
def test_any_memory_layout(argument: str, isa: str, rng: np.random.Generator) -> None:
    calls: list[Problem] = [problem("batch", (4, 6, 5, 3), 2, last, rng, np.float64) for last in (False, True)]
    calls += [problem("group", (4, 6, 5, 3), 2, True, rng, np.float64), rows((4, 5, 6), (5, 6), rng, np.float64)]
    for name, arrays, options in calls:
        given = arrays | {"dy": rng.standard_normal(arrays["x"].shape)}
        wanted = run(ops, (name, arrays, options), given["dy"])
        for layout, array in layouts(given[argument]).items():
            before = array.copy()
            changed = given | {argument: array}
            dy = changed.pop("dy")
            assert_same_bits(run(ops, (name, changed, options), dy), wanted, f" with {argument} {layout}")
            assert_same_bits(array, before)


def test_gradients_are_added(rng: np.random.Generator) -> None:
    for name, arrays, options in (
        problem("batch", (4, 6, 5), 2, True, rng, np.float64),
        rows((9, 6), (6,), rng, np.float64),
    ):
        dy = rng.standard_normal(arrays["x"].shape)
        wanted = run(ops, (name, arrays, options), dy)
        grads = {"weight": np.ones((2, 6))[:, ::2].T[:, 0].repeat(2)[::1].copy(), "bias": np.zeros(12)[::2]}
        _, pullback = getattr(ops, name)(**arrays, **options)
        _, sums = pullback(dy, grads=grads)
        assert all(sums[key] is grads[key] for key in grads)
        assert_close("norm_vjp", sums, {"weight": wanted["weight"] + 1, "bias": wanted["bias"]})


def test_empty_batch(dtype: type) -> None:
    for layout, shape in ((None, (0, 3, 4)), ("NLC", (0, 4, 3))):
        x = np.zeros(shape, dtype)
        y, pullback = ops.group_norm_vjp(x, 3, np.ones(3, dtype), layout=layout)
        dx, grads = pullback(y)
        assert y.shape == dx.shape == shape
        assert not grads["weight"].any()
        assert ops.batch_norm_forward(x, np.zeros(3, dtype), np.ones(3, dtype), layout=layout).shape == shape
    y, pullback = ops.layer_norm_vjp(np.zeros((0, 4), dtype), 4, np.ones(4, dtype))
    assert pullback(y)[0].shape == (0, 4)


Calls = dict[str, Callable[..., Any]]


@pytest.mark.parametrize("call", ["forward", "vjp"])
def test_bad_input(call: str) -> None:
    x = np.zeros((2, 6, 3), np.float32)
    statistics: dict[str, Any] = {} if call == "vjp" else {"mean": x[0, :, 0], "var": x[0, :, 0]}
    calls: Calls = {
        f"batch_norm_{call}": lambda x, **options: getattr(ops, f"batch_norm_{call}")(x, **statistics | options),
        f"group_norm_{call}": lambda x, **options: getattr(ops, f"group_norm_{call}")(x, 2, **options),
    }
    for name, function in calls.items():
        with pytest.raises(ShapeError, match=rf"{name}: 'x' must have shape \(N, C\) or .*, got \(6,\)"):
            function(x[0, :, 0])
        with pytest.raises(DTypeError, match=f"{name}: 'x' must have dtype float32 or float64, got float16"):
            function(x.astype(np.float16))
        with pytest.raises(ShapeError, match=rf"{name}: 'weight' must have shape \(6,\), got \(5,\)"):
            function(x, weight=np.ones(5, np.float32))
        with pytest.raises(DTypeError, match=f"{name}: 'bias' must have dtype float32, got float64"):
            function(x, bias=np.ones(6))
        with pytest.raises(ArgumentError, match=f"{name}: 'eps' must be a finite number >= 0, got -1"):
            function(x, eps=-1)
        with pytest.raises(ArgumentError, match=f"{name}: 'layout' must be one of 'NCL', 'NLC', got 'NHWC'"):
            function(x, layout="NHWC")
    for groups, message in ((4, "must divide C=6, got 4"), (0, "must be a positive int, got 0")):
        with pytest.raises(ArgumentError, match=f"group_norm_{call}: 'num_groups' {message}"):
            getattr(ops, f"group_norm_{call}")(x, groups)
    layer_norm = getattr(ops, f"layer_norm_{call}")
    with pytest.raises(ShapeError, match=rf"layer_norm_{call}: 'x' must have shape \(..., 6, 4\), got \(2, 6, 3\)"):
        layer_norm(x, (6, 4))
    with pytest.raises(ShapeError, match=rf"layer_norm_{call}: 'x' must have shape \(..., 3\), got \(\)"):
        layer_norm(np.float32(3), 3)
    with pytest.raises(ArgumentError, match=f"layer_norm_{call}: 'normalized_shape' must be a positive int, got"):
        layer_norm(x, 0)


def test_one_value_for_each_channel_has_no_variance() -> None:
    for shape in ((1, 3), (1, 3, 1), (0, 3, 4)):
        with pytest.raises(ShapeError, match="batch_norm_vjp: 'x' must have at least two values for each channel, got"):
            ops.batch_norm_vjp(np.zeros(shape))


def test_an_unfit_dy_changes_nothing(rng: np.random.Generator) -> None:
    for name, arrays, options in (
        problem("batch", (4, 6, 5), 2, False, rng, np.float64),
        rows((9, 6), (6,), rng, np.float64),
    ):
        dy = rng.standard_normal(arrays["x"].shape)
        wanted = run(ops, (name, arrays, options), dy)
        result, pullback = getattr(ops, name)(**arrays, **options)
        grads = {"weight": np.zeros(6), "bias": np.zeros(5)}
        with pytest.raises(ShapeError, match=f"{name}: 'dy' must have shape"):
            pullback(dy[..., :-1])
        with pytest.raises(ShapeError, match=rf"{name}: 'grads\['bias'\]' must have shape"):
            pullback(dy, grads=grads)
        assert not grads["weight"].any()
        dx, sums = pullback(dy)
        assert_same_bits({"y": result, "dx": dx, **sums}, wanted)
        with pytest.raises(RuntimeError, match=f"{name}: a pullback can be called only once"):
            pullback(dy)
