"""Convolutions equal the float64 reference for every option, layout, instruction set, dtype and thread count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_problem import ConvProblem
from numeric import layouts
from shapes import CONV, CONV_TRANSPOSE, EMPTY_CONV, ConvSizes
from tolerances import assert_close, assert_same_bits

from fastrnn import ops
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

ALL = [("conv", sizes) for sizes in CONV] + [("conv_transpose", sizes) for sizes in CONV_TRANSPOSE]
IDS = [f"{kind}-{sizes}" for kind, sizes in ALL]
# Several boxes of outputs; fewer boxes than threads; depthwise, both layouts; many weights for few places.
FOR_TEAMS = (
    ConvSizes(3, 20, 70, (23, 31), (3, 3), {"padding": 1}),
    ConvSizes(1, 70, 130, (7, 7), (3, 3), {"padding": 1}),
    ConvSizes(5, 20, 24, (7, 7), (3, 3), {"padding": 1}),
    ConvSizes(2, 3, 24, (33, 31), (5, 5), {"padding": 2, "stride": 2}),
    ConvSizes(2, 33, 33, (31, 32), (3, 3), {"padding": 1, "groups": 33}),
    ConvSizes(2, 48, 48, (17, 16), (3, 3), {"padding": 1, "groups": 3, "stride": 2}),
    ConvSizes(2, 90, 210, (9, 8), (3, 3), {"padding": 1, "stride": 2}),
    ConvSizes(1, 140, 90, (9, 8), (1, 1), {}),
)
SMALL = ConvSizes(3, 5, 18, (6, 7), (3, 3), {"padding": 1})
DEPTHWISE = ConvSizes(3, 5, 5, (6, 7), (3, 3), {"padding": 1, "groups": 5})
first_or_last = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def check(problem: ConvProblem, dtype: Any) -> None:
    wanted = problem.exact()
    y = problem.forward(ops)
    assert y.dtype == dtype
    assert_close("conv_forward", y, wanted["y"])
    got = problem.results(ops)
    assert_same_bits(got["y"], y)
    assert_close("conv_vjp", got, wanted)


@first_or_last
@pytest.mark.parametrize(("kind", "sizes"), ALL, ids=IDS)
def test_equals_reference(
    kind: str, sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    check(ConvProblem.random(rng, sizes, dtype, kind=kind, last=last), dtype)


@first_or_last
@pytest.mark.parametrize("sizes", [SMALL, DEPTHWISE], ids=str)
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_activation_and_gain(
    activation: Any, sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    for params in ((), ("gain",), ("bias", "gain")):
        check(ConvProblem.random(rng, sizes, dtype, last=last, params=params, activation=activation), dtype)
    if sizes is SMALL:
        check(ConvProblem.random(rng, sizes, dtype, kind="conv_transpose", last=last, activation=activation), dtype)


@pytest.mark.parametrize("flip", [False, True], ids=["", "flip"])
def test_kernel_as_large_as_its_map(flip: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    """Then it is a dense layer; a sample has the same bits in any batch."""
    for activation, params in ((None, ("bias",)), ("tanh", ("bias", "gain"))):
        sizes = ConvSizes(5, 7, 11, (3, 4), (3, 4), {"flip": flip})
        problem = ConvProblem.random(rng, sizes, dtype, params=params, activation=activation)
        check(problem, dtype)
        for part in (slice(2, 3), slice(0, 0)):
            some = ops.conv_forward(problem.x[part], **problem.params, **problem.options)
            assert_same_bits(some, problem.forward(ops)[part])
        y, pullback = ops.conv_vjp(problem.x[:0], **problem.params, **problem.options)
        dx, grads = pullback(y)
        assert dx.shape == problem.x[:0].shape
        assert not any(grad.any() for grad in grads.values())


def test_the_worked_example_of_convolution(isa: str, dtype: type) -> None:
    x = np.array([[0, 80, 40], [20, 40, 0], [0, 0, 40]], dtype)[None, None]
    k = np.array([[0, 0.25], [0.5, 1]], dtype)[None, None]
    assert_same_bits(ops.conv_forward(x, k, flip=True)[0, 0], np.array([[45, 110], [40, 40]], dtype))


@first_or_last
@pytest.mark.parametrize("sizes", FOR_TEAMS, ids=str)
def test_threads_give_the_same_bits(
    sizes: ConvSizes, last: bool, isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    for kind in ("conv", "conv_transpose"):
        if kind == "conv_transpose" and sizes.K != sizes.C:
            sizes = sizes._replace(K=sizes.C)
        problem = ConvProblem.random(rng, sizes, dtype, kind=kind, last=last)
        got = problem.results(ops)
        ops.set_num_threads(1)
        assert_same_bits(got, problem.results(ops))
        ops.set_num_threads(threads)


@first_or_last
@pytest.mark.parametrize("sizes", [SMALL, DEPTHWISE], ids=str)
def test_a_map_has_the_same_bits_in_any_batch(
    sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    for kind in ("conv", "conv_transpose"):
        problem = ConvProblem.random(rng, sizes._replace(N=7), dtype, kind=kind, last=last)
        whole = problem.results(ops)
        for rows in (slice(0, 1), slice(6, 7), slice(2, 5)):
            part = replace(problem, x=problem.x[rows], dy=problem.dy[rows]).results(ops)
            assert_same_bits([part["y"], part["dx"]], [whole["y"][rows], whole["dx"][rows]])


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "gain", "dy"])
def test_any_memory_layout(argument: str, isa: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, np.float32, params=("bias", "gain"))
    wanted = problem.results(ops)
    value = getattr(problem, argument) if argument in {"x", "dy"} else problem.params[argument]
    for name, array in layouts(value).items():
        before = array.copy()
        if argument in {"x", "dy"}:
            other = replace(problem, **{argument: array})
        else:
            other = replace(problem, params={**problem.params, argument: array})
        assert_same_bits(other.results(ops), wanted, f" with {argument} {name}")
        assert_same_bits(array, before)


@first_or_last
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_gradients_are_added_into_given_arrays(kind: str, last: bool, isa: str, rng: np.random.Generator) -> None:
    for sizes in (SMALL, DEPTHWISE):
        problem = ConvProblem.random(rng, sizes, kind=kind, last=last)
        start = {name: rng.standard_normal(value.shape) for name, value in problem.params.items()}
        given = {name: value.copy() for name, value in start.items()}
        given["weight"] = np.repeat(given["weight"], 2, axis=-1)[..., ::2]
        grads = problem.results(ops, grads=given)["grads"]
        assert all(grads[name] is given[name] for name in grads)
        wanted = problem.exact()["grads"]
        assert_close("conv_vjp", grads, {name: start[name] + wanted[name] for name in start})


@pytest.mark.parametrize("sizes", EMPTY_CONV, ids=str)
@first_or_last
def test_an_empty_batch(sizes: ConvSizes, last: bool, isa: str, dtype: type, rng: np.random.Generator) -> None:
    for kind in ("conv", "conv_transpose"):
        problem = ConvProblem.random(rng, sizes, dtype, kind=kind, last=last)
        got = problem.results(ops)
        assert got["y"].shape == problem.dy.shape
        assert got["dx"].shape == problem.x.shape
        assert not got["grads"]["weight"].any()
        assert not got["grads"]["bias"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@first_or_last
def test_a_special_value_stays_in_its_windows(
    value: float, last: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    for sizes in (SMALL, DEPTHWISE, SMALL._replace(options={"padding": 1, "stride": 2})):
        problem = ConvProblem.random(rng, sizes, dtype, last=last)
        clean = problem.results(ops)
        problem.x[1, 2, 2, 3] = problem.dy[1, 2, 1, 1] = value
        got, wanted = problem.results(ops), problem.exact()
        assert_close("conv_vjp", got, wanted)
        assert_same_bits([got["y"][0], got["dx"][0]], [clean["y"][0], clean["dx"][0]])


def test_packed_weights_give_the_same_bits(isa: str, dtype: type, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, dtype, params=("bias", "gain"))
    wanted = problem.results(ops)
    packed = ops.pack_conv(**problem.params, **problem.options)
    inference = ops.pack_conv(**problem.params, **problem.options, backward=False)
    for array in problem.params.values():
        array[...] = np.nan  # a packed weight is a snapshot
    assert_same_bits(ConvProblem("conv", problem.x, {"weight": packed}, problem.dy, {}).results(ops), wanted)
    assert_same_bits(ops.conv_forward(problem.x, inference), wanted["y"])
    with pytest.raises(ArgumentError, match="packed with backward=True"):
        ops.conv_vjp(problem.x, inference)
    with pytest.raises(ArgumentError, match="holds its own"):
        ops.conv_forward(problem.x, packed, np.ones(18, dtype))
    with pytest.raises(ArgumentError, match="holds its options"):
        ops.conv_forward(problem.x, packed, stride=2)
    for other in ops.available_isas():
        ops.set_isa(other)
        assert_same_bits(ops.conv_forward(problem.x, inference), wanted["y"])


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_pullback_owns_what_it_saved(kind: str, isa: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, kind=kind, activation="tanh")
    wanted = problem.results(ops)
    y, pullback = getattr(ops, f"{kind}_vjp")(problem.x, **problem.params, **problem.options)
    for array in (y, problem.x, *problem.params.values()):
        array[...] = np.nan
    dx, grads = pullback(problem.dy)
    assert_same_bits({"dx": dx, "grads": grads}, {name: wanted[name] for name in ("dx", "grads")})
    with pytest.raises(RuntimeError, match="a pullback can be called only once"):
        pullback(problem.dy)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"stride": 0}, ArgumentError, "'stride' must be a positive int, got 0"),
    ({"stride": (1, 2, 3)}, ArgumentError, "'stride' must be an int or 2 of them"),
    ({"dilation": 1.5}, ArgumentError, "'dilation' must be a positive int"),
    ({"padding": -1}, ArgumentError, "'padding' must be a non-negative int"),
    ({"padding": "full"}, ArgumentError, "'padding' must be one of 'valid', 'same', 'causal'"),
    ({"padding": "same", "stride": 2}, ArgumentError, "'same' only with stride 1"),
    ({"padding": "causal"}, ArgumentError, "'causal' only with one spatial axis"),
    ({"padding": (1, (1, 2, 3))}, ArgumentError, "pairs"),
    ({"groups": 4}, ArgumentError, "'groups' must divide the 18 output maps"),
    ({"groups": 3}, ShapeError, "'x' must have shape"),
    ({"padding_mode": "mirror"}, ArgumentError, "'padding_mode' must be one of"),
    ({"padding": 6, "padding_mode": "reflect"}, ShapeError, "'padding' of mode 'reflect' must be at most 5"),
    ({"padding": 8, "padding_mode": "circular"}, ShapeError, "'padding' of mode 'circular' must be at most 6"),
    ({"layout": "NLC"}, ArgumentError, "'layout' must be one of 'NCHW', 'NHWC'"),
    ({"activation": "gelu"}, ArgumentError, "'activation' must be one of"),
    ({"flip": 1}, ArgumentError, "'flip' must be True or False"),
    ({"algorithm": "fft"}, ArgumentError, "'algorithm' must be one of"),
    ({"dilation": 4}, ShapeError, "'x' must be at least as large as the kernel, which spans 9 x 9, got 6 x 7"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=[text for _, _, text in BAD])
def test_bad_options(options: dict[str, Any], error: type[Exception], text: str, rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, np.float32)
    for function in (ops.conv_forward, ops.conv_vjp):
        with pytest.raises(error) as caught:
            function(problem.x, **problem.params, **options)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert text in str(caught.value)


def test_bad_arrays(rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, np.float32)
    x, weight, bias = problem.x, problem.params["weight"], problem.params["bias"]
    for arguments, error, text in [
        ((x[0], weight), ShapeError, r"'x' must have shape \(N, C=5, H, W\), got \(5, 6, 7\)"),
        ((x.astype(float), weight), DTypeError, "'x' must have dtype float32"),
        ((x, weight[0, 0]), ShapeError, "'weight' must have two axes of channels"),
        ((x, weight[:0]), ShapeError, "none empty"),
        ((x, weight, bias[:3]), ShapeError, r"'bias' must have shape \(K=18,\)"),
    ]:
        with pytest.raises(error, match=text):
            ops.conv_forward(*arguments)
    y, pullback = ops.conv_vjp(x, weight)
    with pytest.raises(ShapeError, match="'dy' must have shape"):
        pullback(y[:1])
    with pytest.raises(ShapeError, match="grads"):
        pullback(y, grads={"weight": np.zeros((2, 2), np.float32)})
    pullback(y)


def test_bad_options_of_the_transpose(rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, SMALL, np.float32, kind="conv_transpose")
    for options, text in [
        ({"output_padding": 1}, "'output_padding' must be less than stride or dilation"),
        ({"padding": "same"}, "'padding' must be an int, ints or pairs"),
        ({"groups": 2}, "'groups' must divide the 5 channels"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            ops.conv_transpose_forward(problem.x, **problem.params, **options)
    with pytest.raises(ShapeError, match="must leave at least one place"):
        ops.conv_transpose_forward(problem.x, **problem.params, padding=5)


def test_winograd_is_refused_where_it_does_not_apply(rng: np.random.Generator) -> None:
    problem = ConvProblem.random(rng, DEPTHWISE, np.float32)
    with pytest.raises(ArgumentError, match="'algorithm' cannot be 'winograd' here"):
        ops.conv_forward(problem.x, **problem.params, **problem.options, algorithm="winograd")
    assert_same_bits(
        ops.conv_forward(problem.x, **problem.params, **problem.options, algorithm="direct"), problem.forward(ops)
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_large_depthwise_maps_give_the_same_bits(layout: str, isa: str, rng: np.random.Generator) -> None:
    """Those of more than 8 MB pass by the caches; of odd sizes, so that maps do not begin with a cache line."""
    sizes = (3, 130, 75, 73) if layout == "NCHW" else (3, 75, 73, 130)
    x = rng.standard_normal(sizes).astype(np.float32)
    weight = rng.standard_normal((130, 1, 3, 3)).astype(np.float32)
    options: dict[str, Any] = {"padding": 1, "groups": 130, "layout": layout}
    y, pullback = ops.conv_vjp(x, weight, **options)
    kept = x.copy()
    x[:] = np.nan  # the pullback has a copy
    dx, grads = pullback(y)
    total = np.zeros_like(weight)
    for n in range(3):
        one, pull = ops.conv_vjp(kept[n : n + 1], weight, **options)
        one_dx, _ = pull(one, grads={"weight": total})
        assert_same_bits([one, one_dx], [y[n : n + 1], dx[n : n + 1]])
    assert_close("conv_vjp", grads["weight"], total.astype(float))
