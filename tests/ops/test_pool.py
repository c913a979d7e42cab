"""The sliding pools equal the float64 reference at every size, option, layout, instruction set and thread count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts, random_arrays
from shapes import DILATED_POOLS, POOLS, PoolProblem
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError, TokenError

NAN, INF = np.nan, np.inf
LAST = {3: "NLC", 4: "NHWC", 5: "NDHWC"}
SELECTING = ("max", "min")
LP_POOLS = tuple(problem for problem in POOLS if "padding" not in problem.options)
FOR_TEAMS = (
    PoolProblem((5, 8, 30, 70), 3, {"stride": 2, "padding": 1}),
    PoolProblem((3, 4, 40, 70), 2, {}),
    PoolProblem((40, 33, 15, 14), 2, {}),
    PoolProblem((2, 16, 2000), 3, {"stride": 1, "padding": 1}),
    PoolProblem((70, 33, 13, 13), 3, {"stride": 2}),
    PoolProblem((3, 35, 60, 60), 3, {}),
)
each_layout = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def lying(maps: Array, last: bool) -> Array:
    """Return maps (N, C, *sizes) as they lie with the channels first or last."""
    return np.ascontiguousarray(np.moveaxis(maps, 1, -1)) if last else maps


def options_of(problem: PoolProblem, last: bool) -> dict[str, Any]:
    return {**problem.options, "layout": LAST[len(problem.shape)] if last else None}


def tied_maps(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, last: bool) -> Array:
    """Return maps with equal values, infinities and NaN."""
    x = random_arrays(rng, {"x": shape})["x"].round(1)
    x[rng.random(shape) < 0.05] = -INF
    x[rng.random(shape) < 0.02] = INF
    x[rng.random(shape) < 0.02] = NAN
    return lying(x.astype(dtype), last)


def run(module: Any, operation: str, x: Array, *args: Any, dy: Array | None = None, **options: Any) -> list[Array]:
    """Return y, indices if there are any, and dx."""
    y, pullback = getattr(module, f"{operation}_vjp")(x, *args, **options)
    parts = list(y) if isinstance(y, tuple) else [y]
    return [*parts, pullback(parts[0] * 0.5 if dy is None else dy)]


@each_layout
@pytest.mark.parametrize("problem", [*POOLS, *DILATED_POOLS], ids=str)
@pytest.mark.parametrize("kind", SELECTING)
def test_selection(
    kind: str, problem: PoolProblem, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    x, options = tied_maps(rng, problem.shape, dtype, last), options_of(problem, last)
    (y, indices), _ = getattr(reference, f"{kind}_pool_vjp")(x, problem.kernel_size, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    (got, got_indices), pullback = getattr(ops, f"{kind}_pool_vjp")(x, problem.kernel_size, **options)
    assert got.dtype == dtype
    assert got_indices.dtype == np.int64
    assert_close("exact", got, y)
    assert_close("exact", got_indices, indices)
    _, exact = getattr(reference, f"{kind}_pool_vjp")(x.astype(float), problem.kernel_size, **options)
    assert_close("pool_vjp", pullback(dy), exact(dy.astype(float)))
    forward = getattr(ops, f"{kind}_pool_forward")(x, problem.kernel_size, **options)
    values = getattr(ops, f"{kind}_pool_values")(x, problem.kernel_size, **options)
    trained, pull = getattr(ops, f"{kind}_pool_values_vjp")(x, problem.kernel_size, **options)
    assert_close("exact", (*forward, values, trained), (y, indices, y, y))
    assert_close("pool_vjp", pull(dy), exact_again(kind, x, problem, options, dy))


def exact_again(kind: str, x: Array, problem: PoolProblem, options: dict[str, Any], dy: Array) -> Array:
    _, pullback = getattr(reference, f"{kind}_pool_vjp")(x.astype(float), problem.kernel_size, **options)
    dx: Array = pullback(dy.astype(float))
    return dx


@each_layout
@pytest.mark.parametrize("counting", [{}, {"count_include_pad": False}, {"divisor_override": 3}], ids=str)
@pytest.mark.parametrize("problem", POOLS, ids=str)
def test_average(
    problem: PoolProblem, counting: dict[str, Any], last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    x, options = lying(random_arrays(rng, {"x": problem.shape}, dtype)["x"], last), options_of(problem, last)
    wanted = run(reference, "avg_pool", x.astype(float), problem.kernel_size, **options, **counting)
    dy = (wanted[0] * 0.5).astype(dtype)
    wanted = run(
        reference, "avg_pool", x.astype(float), problem.kernel_size, dy=dy.astype(float), **options, **counting
    )
    got = run(ops, "avg_pool", x, problem.kernel_size, dy=dy, **options, **counting)
    assert all(array.dtype == dtype for array in got)
    assert_close("pool_forward", got[0], wanted[0])
    assert_close("pool_vjp", got[1], wanted[1])
    assert_same_bits(ops.avg_pool_forward(x, problem.kernel_size, **options, **counting), got[0])


@each_layout
@pytest.mark.parametrize("p", [1, 2, 4.0, 2.5, INF, -INF], ids=str)
@pytest.mark.parametrize("problem", LP_POOLS, ids=str)
def test_norm(problem: PoolProblem, p: float, last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    x, options = random_arrays(rng, {"x": problem.shape}, dtype)["x"], options_of(problem, last)
    x = lying(np.abs(x) + dtype(0.1) if p == 2.5 else x, last)
    wanted = run(reference, "lp_pool", x.astype(float), p, problem.kernel_size, **options)
    dy = (wanted[0] * 0.5).astype(dtype)
    wanted = run(reference, "lp_pool", x.astype(float), p, problem.kernel_size, dy=dy.astype(float), **options)
    got = run(ops, "lp_pool", x, p, problem.kernel_size, dy=dy, **options)
    assert all(array.dtype == dtype for array in got)
    assert_close("lp_pool", got, wanted)
    assert_same_bits(ops.lp_pool_forward(x, p, problem.kernel_size, **options), got[0])


@pytest.mark.parametrize("x", [[0.0, 0.0], [-1.0, 1.0], [-2.0, 1.0], [NAN, 1.0], [INF, 1.0]], ids=str)
@pytest.mark.parametrize("p", [1, 2, 3, INF])
def test_norm_of_special_values(x: list[float], p: float, dtype: type) -> None:
    maps = np.array([[x]], dtype)
    got, wanted = (run(module, "lp_pool", maps, p, 2, dy=np.ones((1, 1, 1), dtype)) for module in (ops, reference))
    assert_close("lp_pool", got, wanted)


@each_layout
@pytest.mark.parametrize("shape", [(2, 3, 9), (1, 17, 6, 10), (2, 2, 4, 4, 6)], ids=str)
def test_unpooling(shape: tuple[int, ...], last: bool, dtype: type, threads: int, rng: np.random.Generator) -> None:
    x, layout = lying(random_arrays(rng, {"x": shape}, dtype)["x"], last), LAST[len(shape)] if last else None
    y, indices = ops.max_pool_forward(x, 3, stride=2, padding=1, layout=layout)  # windows overlap: indices repeat
    sizes = shape[2:]
    got, wanted = (run(module, "max_unpool", y, indices, sizes, dy=x, layout=layout) for module in (ops, reference))
    assert_same_bits(got, wanted)
    assert_same_bits(ops.max_unpool_forward(y, indices.astype(np.int32), sizes, layout=layout), got[0])


@each_layout
@pytest.mark.parametrize("problem", FOR_TEAMS, ids=str)
def test_threads_give_the_same_bits(
    problem: PoolProblem, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    x, options = tied_maps(rng, problem.shape, dtype, last), options_of(problem, last)

    def results() -> list[Array]:
        return [
            *run(ops, "max_pool", x, problem.kernel_size, **options),
            *run(ops, "avg_pool", x, problem.kernel_size, **options),
        ]

    got = results()
    ops.set_num_threads(1)
    assert_same_bits(got, results())


@each_layout
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (3, 2, 0), (2, 2, 0), ((5, 2), 2, 0), (3, 1, 0), (3, 3, 0)], ids=str
)
@pytest.mark.parametrize("channels", [3, 17])
@pytest.mark.parametrize("operation", ["max_pool", "avg_pool"])
def test_a_sample_has_the_same_bits_in_any_batch(
    operation: str,
    channels: int,
    kernel: Any,
    stride: int,
    padding: int,
    last: bool,
    isa: str,
    dtype: type,
    rng: np.random.Generator,
) -> None:
    x = lying(random_arrays(rng, {"x": (5, channels, 9, 21)}, dtype)["x"], last)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "layout": "NHWC" if last else "NCHW"}
    whole = run(ops, operation, x, kernel, **options)
    for rows in (slice(0, 1), slice(4, 5), slice(1, 4)):
        assert_same_bits(run(ops, operation, x[rows], kernel, **options), [part[rows] for part in whole])


def test_options_of_another_type_are_not_taken_for_remembered_ones() -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    assert ops.max_pool_values(x, 1).shape == x.shape
    for kernel in (True, 1.0, (1.0, 1.0), (True, True)):
        with pytest.raises(ArgumentError, match="max_pool_values: 'kernel_size' must be"):
            ops.max_pool_values(x, kernel)


@each_layout
def test_a_special_value_stays_in_its_windows(last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    maps = random_arrays(rng, {"x": (2, 18, 8, 40)}, dtype)["x"]
    options: dict[str, Any] = {"layout": "NHWC" if last else None}
    clean = ops.max_pool_values(lying(maps, last), 2, **options)
    maps[1, 2, 5, 33] = NAN
    got = ops.max_pool_values(lying(maps, last), 2, **options)
    changed = np.argwhere(np.isnan(got))
    assert changed.tolist() == [[1, 2, 16, 2] if last else [1, 2, 2, 16]]
    assert_same_bits(np.where(np.isnan(got), clean, got), clean)


@pytest.mark.parametrize("operation", ["max_pool", "avg_pool"])
def test_any_memory_layout(operation: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    x = random_arrays(rng, {"x": (2, 3, 6, 19)}, dtype)["x"]
    wanted = run(ops, operation, x, 2)
    dy = rng.standard_normal(wanted[0].shape).astype(dtype)
    wanted = run(ops, operation, x, 2, dy=dy)
    for name, array in layouts(x).items():
        assert_same_bits(run(ops, operation, array, 2, dy=dy), wanted, f" with x {name}")
    for name, array in layouts(dy).items():
        assert_same_bits(run(ops, operation, x, 2, dy=array), wanted, f" with dy {name}")


@each_layout
@pytest.mark.parametrize("N", [0, 2])
def test_empty(N: int, last: bool) -> None:
    C = 3 if N == 0 else 0
    x = lying(np.zeros((N, C, 6, 6), np.float32), last)
    layout = "NHWC" if last else None
    shape = lying(np.zeros((N, C, 3, 3)), last).shape
    for operation in ("max_pool", "min_pool", "avg_pool"):
        y, *_, dx = run(ops, operation, x, 2, layout=layout)
        assert y.shape == shape
        assert dx.shape == x.shape
    indices = np.zeros(shape, int)
    assert ops.max_unpool_forward(np.zeros(shape), indices, (6, 6), layout=layout).shape == x.shape


def test_unpooling_keeps_the_indices_that_it_used() -> None:
    indices = np.arange(4).reshape(1, 1, 2, 2) * 5
    y, pullback = ops.max_unpool_vjp(np.ones((1, 1, 2, 2)), indices, (4, 4))
    indices[...] = 1 << 40
    assert np.array_equal(pullback(np.arange(16.0).reshape(y.shape)).ravel(), [0, 5, 10, 15])


@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_unpooling_of_indices_beyond_any_map(dtype: type) -> None:
    indices = np.full((2, 3, 1), np.iinfo(dtype).max)
    with pytest.raises(TokenError, match=rf"'indices' must be in 0..3, got {np.iinfo(dtype).max}"):
        ops.max_unpool_vjp(np.ones((2, 3, 1)), indices, (4,))


def test_pullback_owns_what_it_saved_and_runs_once(isa: str, rng: np.random.Generator) -> None:
    x = random_arrays(rng, {"x": (2, 3, 6, 19)})["x"]
    dy = rng.standard_normal((2, 3, 3, 9))
    for operation in ("max_pool", "avg_pool"):
        wanted = run(ops, operation, x.copy(), 2, dy=dy)[-1]
        mine = x.copy()
        y, pullback = getattr(ops, f"{operation}_vjp")(mine, 2)
        for array in (mine, *(y if isinstance(y, tuple) else (y,))):
            array[...] = 7
        with pytest.raises(ShapeError, match=rf"{operation}_vjp: 'dy' must have shape"):
            pullback(dy[..., 1:])
        with pytest.raises(DTypeError, match=rf"{operation}_vjp: 'dy' must have dtype"):
            pullback(dy.astype(np.float32))
        assert_same_bits(pullback(dy), wanted)
        with pytest.raises(RuntimeError, match=f"{operation}_vjp: a pullback can be called only once"):
            pullback(dy)


X = np.zeros((2, 3, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("x", "kernel", "options", "error", "message"),
    [
        (X.astype(int), 2, {}, DTypeError, "'x' must have dtype float32 or float64, got int64"),
        (X[0, 0], 2, {}, ShapeError, r"'x' must have shape \(N, C, L\) or"),
        (X[0], (2, 2), {}, ShapeError, r"'x' must have shape \(N, C, H, W\), got \(3, 6, 6\)"),
        (X, 2, {"layout": "NCL"}, ShapeError, r"'x' must have shape \(N, C, L\)"),
        (X, (2, 2), {"layout": "NCL"}, ArgumentError, "'layout' must be one of 'NCHW', 'NHWC', got 'NCL'"),
        (X, 2, {"layout": "CHWN"}, ArgumentError, "'layout' must be one of"),
        (X, 0, {}, ArgumentError, "'kernel_size' must be a positive int, got 0"),
        (X, 2.0, {}, ArgumentError, "'kernel_size' must be a positive int, got 2.0"),
        (X, (2, 2, 2, 2), {}, ArgumentError, "'kernel_size' must be an int or 2 of them"),
        (X, 2, {"stride": 0}, ArgumentError, "'stride' must be a positive int, got 0"),
        (X, 2, {"stride": (1, 1, 1)}, ArgumentError, "'stride' must be an int or 2 of them"),
        (X, 2, {"padding": -1}, ArgumentError, "'padding' must be a non-negative int, got -1"),
        (
            X,
            3,
            {"padding": 2},
            ArgumentError,
            r"'padding' must be at most half of 'kernel_size' \(3, 3\), got \(2, 2\)",
        ),
        (X, 7, {}, ShapeError, r"'x' must have padded sizes of at least the kernel's \(7, 7\), got \(6, 6\)"),
        (X, 2, {"ceil_mode": 1}, ArgumentError, "'ceil_mode' must be True or False, got 1"),
        (X[:, :, :0], 2, {}, ShapeError, "'x' must have spatial sizes of at least 1"),
    ],
)
@pytest.mark.parametrize("operation", ["max_pool", "min_pool", "avg_pool"])
def test_bad_input(
    operation: str, x: Array, kernel: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    for call in ("forward", "vjp"):
        with pytest.raises(error, match=f"{operation}_{call}: {message}"):
            getattr(ops, f"{operation}_{call}")(x, kernel, **options)


def test_bad_options_of_one_operation() -> None:
    with pytest.raises(ArgumentError, match="max_pool_forward: 'dilation' must be a positive int"):
        ops.max_pool_forward(X, 2, dilation=0)
    with pytest.raises(ShapeError, match=r"kernel's \(9, 9\), got \(8, 8\)"):
        ops.max_pool_forward(X, 3, dilation=4, padding=1)
    with pytest.raises(ArgumentError, match="'kernel_size' must have at most 16777216 places"):
        ops.max_pool_forward(X, 5000)
    with pytest.raises(ArgumentError, match="avg_pool_vjp: 'divisor_override' must be a positive int, got 0"):
        ops.avg_pool_vjp(X, 2, divisor_override=0)
    with pytest.raises(ArgumentError, match="avg_pool_forward: 'count_include_pad' must be True or False"):
        ops.avg_pool_forward(X, 2, count_include_pad=2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="lp_pool_forward: 'norm_type' must not be 0"):
        ops.lp_pool_forward(X, 0, 2)
    with pytest.raises(ArgumentError, match="lp_pool_forward: 'norm_type' must be a finite number, got 'two'"):
        ops.lp_pool_forward(X, "two", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("indices", "sizes", "error", "message"),
    [
        (np.full(X.shape, 144), (12, 12), TokenError, r"'indices' must be in 0..143, got 144"),
        (np.full(X.shape, -1), (12, 12), TokenError, r"'indices' must be in 0..143, got -1"),
        (np.zeros(X.shape), (12, 12), DTypeError, "'indices' must have an integer dtype"),
        (np.zeros((2, 3, 6), int), (12, 12), ShapeError, r"'indices' must have shape \(2, 3, 6, 6\), got \(2, 3, 6\)"),
        (np.zeros(X.shape, int), (12, 0), ArgumentError, "'output_size' must be a positive int, got 0"),
        (np.zeros(X.shape, int), (), ArgumentError, "'output_size' must be 1 to 3 sizes"),
        (np.zeros(X.shape, int), (12,), ShapeError, r"'x' must have shape \(N, C, L\)"),
    ],
)
def test_bad_unpooling(indices: Array, sizes: Any, error: type[Exception], message: str) -> None:
    for call in ("forward", "vjp"):
        with pytest.raises(error, match=f"max_unpool_{call}: {message}"):
            getattr(ops, f"max_unpool_{call}")(X, indices, sizes)
