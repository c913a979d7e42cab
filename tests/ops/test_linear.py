"""The dense layer equals the float64 reference at every tile height, tail, memory layout, instruction set and thread count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts, random_arrays
from shapes import GEMM, GemmSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError

# Shared out by rows, by columns (few rows), and by rows with a weight gradient of several blocks; all worth four threads.
FOR_TEAMS = (GemmSizes(64, 130, 127), GemmSizes(2, 600, 300), GemmSizes(300, 67, 130))


def data(rng: np.random.Generator, sizes: GemmSizes, dtype: Any = np.float32) -> dict[str, Array]:
    """Return x, weight, bias and dy of a product (M, K) x (K, N)."""
    M, N, K = sizes
    return random_arrays(rng, {"x": (M, K), "weight": (N, K), "bias": (N,), "dy": (M, N)}, dtype)


def results(module: Any, arrays: dict[str, Array], weight: Any = None) -> dict[str, Any]:
    """Return everything that `linear_vjp` of a module gives; `weight` may be a packed one, which holds its bias."""
    parameters = (arrays["weight"], arrays.get("bias")) if weight is None else (weight,)
    y, pullback = module.linear_vjp(arrays["x"], *parameters)
    dx, grads = pullback(arrays["dy"])
    return {"y": y, "dx": dx, "grads": grads}


def exact(arrays: dict[str, Array]) -> dict[str, Any]:
    return results(reference, {name: value.astype(np.float64) for name, value in arrays.items()})


@pytest.mark.parametrize("sizes", GEMM, ids=str)
def test_equals_reference(sizes: GemmSizes, isa: str, dtype: type, rng: np.random.Generator) -> None:
    with_bias = data(rng, sizes, dtype)
    without_bias = {name: value for name, value in with_bias.items() if name != "bias"}
    for arrays in (with_bias, without_bias):
        y = ops.linear_forward(arrays["x"], arrays["weight"], arrays.get("bias"))
        assert y.dtype == dtype
        wanted = exact(arrays)
        assert_close("linear_forward", y, wanted["y"])
        got = results(ops, arrays)
        assert_same_bits(got.pop("y"), y)
        assert got["dx"].dtype == got["grads"]["weight"].dtype == dtype
        assert_close("linear_vjp", got, {name: wanted[name] for name in got})


@pytest.mark.parametrize("sizes", FOR_TEAMS, ids=str)
def test_threads_give_the_same_bits(
    sizes: GemmSizes, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    arrays = data(rng, sizes, dtype)
    got = results(ops, arrays)
    ops.set_num_threads(1)
    assert_same_bits(got, results(ops, arrays))
    assert_close("linear_vjp", got, exact(arrays))


def test_a_row_has_the_same_bits_in_any_batch(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(17, 75, 37), dtype)
    whole = results(ops, arrays)
    for rows in (slice(0, 1), slice(16, 17), slice(3, 5), slice(4, 7), slice(1, 6), slice(2, 9), slice(0, 16)):
        part = results(ops, arrays | {"x": arrays["x"][rows], "dy": arrays["dy"][rows]})
        assert_same_bits([part["y"], part["dx"]], [whole["y"][rows], whole["dx"][rows]])


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "dy"])
def test_any_memory_layout(argument: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(5, 19, 7), dtype)
    wanted = results(ops, arrays)
    for name, array in layouts(arrays[argument]).items():
        before = array.copy()
        got = results(ops, arrays | {argument: array})
        assert_same_bits(got, wanted, f" with {argument} {name}")
        assert_same_bits(array, before)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("argument", ["x", "dy"])
def test_broadcast_rows(argument: str, rows: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(rows, 19, 7), dtype)
    repeated = np.broadcast_to(arrays[argument][0], arrays[argument].shape)
    assert repeated.strides[0] == 0
    got = results(ops, arrays | {argument: repeated})
    assert_close("linear_vjp", got, exact(arrays | {argument: repeated}))


def test_overlapping_rows(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(6, 19, 7), dtype)
    signal = rng.standard_normal(12).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(signal, 7)
    assert_same_bits(results(ops, arrays | {"x": windows}), results(ops, arrays | {"x": windows.copy()}))


@pytest.mark.parametrize("lead", [(), (1,), (2, 3), (2, 1, 3), (0, 4), (4, 0)], ids=str)
def test_leading_axes(lead: tuple[int, ...], isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(int(np.prod(lead)), 5, 7), dtype)
    flat = results(ops, arrays)
    shaped = results(ops, arrays | {"x": arrays["x"].reshape(*lead, 7), "dy": arrays["dy"].reshape(*lead, 5)})
    assert shaped["y"].shape == (*lead, 5)
    assert shaped["dx"].shape == (*lead, 7)
    shaped |= {"y": shaped["y"].reshape(-1, 5), "dx": shaped["dx"].reshape(-1, 7)}
    assert_same_bits(shaped, flat)


def test_leading_axes_of_strided_input(isa: str, rng: np.random.Generator) -> None:
    wide = rng.standard_normal((3, 4, 9))
    weight = rng.standard_normal((5, 7))
    for x in (wide[:, :, 1:-1], wide[::2, ::-1, 1:-1], wide.transpose(1, 0, 2)[..., :7]):
        assert_same_bits(ops.linear_forward(x, weight), ops.linear_forward(x.copy(), weight))


def test_lists_are_numbers_of_the_dtype(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(2, 3, 4), dtype)
    assert_same_bits(results(ops, arrays | {"x": arrays["x"].tolist()}), results(ops, arrays))


def test_packed_weights_give_the_same_bits(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(4, 35, 9), dtype)
    wanted = results(ops, arrays)
    packed = ops.pack_linear(arrays["weight"], arrays["bias"])
    inference = ops.pack_linear(arrays["weight"], arrays["bias"], backward=False)
    arrays["weight"][...] = np.nan  # a packed weight is a snapshot
    arrays["bias"][...] = np.nan
    assert_same_bits(results(ops, arrays, packed), wanted)
    assert_same_bits(ops.linear_forward(arrays["x"], inference), wanted["y"])


def test_packed_weights_outlive_a_change_of_the_isa(isa: str, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(4, 35, 9))
    packed = ops.pack_linear(arrays["weight"], arrays["bias"])
    for other in ops.available_isas():
        ops.set_isa(other)
        assert_close("linear_vjp", results(ops, arrays, packed), exact(arrays))


def test_packed_for_inference_only(rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(4, 5, 3))
    inference = ops.pack_linear(arrays["weight"], backward=False)
    with pytest.raises(ArgumentError, match=r"linear_vjp: 'weight' must be packed with backward=True"):
        ops.linear_vjp(arrays["x"], inference)
    with pytest.raises(ArgumentError, match=r"linear_forward: 'bias' must be None beside a packed weight"):
        ops.linear_forward(arrays["x"], inference, arrays["bias"])


GRAD_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda grad: grad,
    "column by column": np.asfortranarray,
    "rows apart": lambda grad: np.repeat(grad, 2, axis=0)[::2],
    "every other element": lambda grad: np.repeat(grad, 2, axis=-1)[..., 1::2],
    "backwards": lambda grad: grad[::-1].copy()[::-1],
}


@pytest.mark.parametrize("layout", GRAD_LAYOUTS)
def test_gradients_are_added_into_given_arrays(layout: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(5, 19, 7), dtype)
    start = random_arrays(rng, {"weight": (19, 7), "bias": (19,)}, dtype)
    given = {name: GRAD_LAYOUTS[layout](value.copy()) for name, value in start.items()}
    whole = [array if array.base is None else array.base for array in given.values()]
    between = [array.copy() for array in whole]
    _, pullback = ops.linear_vjp(arrays["x"], arrays["weight"], arrays["bias"])
    _, grads = pullback(arrays["dy"], grads=given | {"other": np.ones(2)})
    assert set(grads) == {"weight", "bias"}
    assert all(grads[name] is given[name] for name in grads)
    wanted = exact(arrays)["grads"]
    assert_close("linear_vjp", grads, {name: start[name] + wanted[name] for name in start})
    if layout in {"rows apart", "every other element"}:
        rest = np.s_[1::2] if layout == "rows apart" else np.s_[..., ::2]
        assert_same_bits([array[rest] for array in whole], [array[rest] for array in between])


def test_missing_gradients_are_new_arrays(isa: str, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(5, 19, 7))
    bias = np.ones(19, np.float32)
    _, pullback = ops.linear_vjp(arrays["x"], arrays["weight"], arrays["bias"])
    _, grads = pullback(arrays["dy"], grads={"bias": bias})
    wanted = exact(arrays)["grads"]
    assert grads["bias"] is bias
    assert_close("linear_vjp", grads, {"weight": wanted["weight"], "bias": 1 + wanted["bias"]})


def test_pullback_owns_what_it_saved(isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(5, 19, 7), dtype)
    wanted = results(ops, arrays)
    y, pullback = ops.linear_vjp(arrays["x"], arrays["weight"], arrays["bias"])
    for array in (y, arrays["x"], arrays["weight"], arrays["bias"]):
        array[...] = np.nan
    dx, grads = pullback(arrays["dy"])
    assert_same_bits({"dx": dx, "grads": grads}, {name: wanted[name] for name in ("dx", "grads")})
    with pytest.raises(RuntimeError, match="linear_vjp: a pullback can be called only once"):
        pullback(arrays["dy"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_special_value_stays_in_its_row(value: float, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(7, 21, 5), dtype)
    clean = results(ops, arrays)
    arrays["x"][3, 2] = arrays["dy"][3, 20] = value
    got, wanted = results(ops, arrays), exact(arrays)
    others = np.arange(7) != 3
    assert_same_bits([got["y"][others], got["dx"][others]], [clean["y"][others], clean["dx"][others]])
    assert_close("linear_vjp", got, wanted)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_activation_is_the_separate_one(activation: str, isa: str, dtype: type, rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(7, 37, 19), dtype)
    parameters = arrays["weight"], arrays["bias"]
    y, pullback = ops.linear_vjp(arrays["x"], *parameters, activation=activation)
    z, pull_linear = ops.linear_vjp(arrays["x"], *parameters)
    separate, pull_activation = ops.activation_vjp(z, activation)
    assert_same_bits(y, separate)
    assert_same_bits(ops.linear_forward(arrays["x"], *parameters, activation=activation), y)
    y[...] = np.nan  # the pullback does not need it
    assert_same_bits(pullback(arrays["dy"]), pull_linear(pull_activation(arrays["dy"])))


def test_activation_of_the_reference(rng: np.random.Generator) -> None:
    arrays = data(rng, GemmSizes(7, 37, 19), np.float64)
    parameters = arrays["x"], arrays["weight"], arrays["bias"]
    for activation in ("relu", "gelu"):
        wanted, wanted_pullback = reference.linear_vjp(*parameters, activation=activation)
        y, pullback = ops.linear_vjp(*parameters, activation=activation)
        assert_close("linear_forward", reference.linear_forward(*parameters, activation=activation), wanted)
        assert_close("linear_forward", y, wanted)
        assert_close("linear_vjp", pullback(arrays["dy"]), wanted_pullback(arrays["dy"]))


def test_unknown_activations() -> None:
    for name in ("linear_forward", "linear_vjp"):
        with pytest.raises(ArgumentError, match=f"^{name}: 'activation' must be one of .*'relu'.*, got 'rely'"):
            getattr(ops, name)(np.ones((2, 3)), np.ones((4, 3)), activation="rely")
