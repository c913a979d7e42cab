"""The transposed convolution reference: hand numbers, its definition, finite differences, PyTorch, special values."""

from __future__ import annotations

from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


class Case(NamedTuple):
    """Shapes, channels first, with options."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    options: dict[str, Any] = {}  # noqa: RUF012  never changed
    bias: bool = True

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("plain", (2, 3, 4), (3, 2, 3), (2, 2, 6), bias=False),
    Case("one_tap", (2, 3, 4, 3), (3, 2, 1, 1), (2, 2, 4, 3)),
    Case("stride_over_gaps", (2, 2, 3), (2, 3, 2), (2, 3, 8), {"stride": 3}),
    Case("upsampling", (1, 2, 3, 4), (2, 3, 4, 4), (1, 3, 6, 8), {"stride": 2, "padding": 1}),
    Case("ints", (2, 2, 4, 3), (2, 2, 3, 2), (2, 2, 4, 6), {"padding": (1, 0), "stride": (1, 2)}),
    Case("pairs", (2, 2, 4, 3), (2, 3, 3, 3), (2, 3, 8, 2), {"padding": ((0, 1), (2, 1)), "stride": (2, 1)}),
    Case("more_padding_than_kernel", (2, 2, 6), (2, 2, 2), (2, 2, 2), {"padding": ((3, 2),)}),
    Case(
        "output_padding",
        (2, 2, 3, 3),
        (2, 2, 3, 2),
        (2, 2, 6, 8),
        {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
    ),
    Case("more_output_padding_than_stride", (2, 2, 4), (2, 3, 2), (2, 3, 10), {"dilation": 4, "output_padding": 2}),
    Case("dilation", (2, 2, 3, 3), (2, 2, 3, 2), (2, 2, 7, 6), {"dilation": (2, 3)}),
    Case("groups", (2, 4, 4), (4, 3, 3), (2, 6, 9), {"groups": 2, "stride": 2}),
    Case("depthwise", (2, 3, 3, 3), (3, 1, 2, 2), (2, 3, 6, 6), {"groups": 3, "stride": 2}),
    Case("multiplier", (2, 2, 3), (2, 3, 3), (2, 6, 5), {"groups": 2}),
    Case("nlc", (2, 3, 4), (3, 2, 3), (2, 2, 6), {"layout": "NLC"}),
    Case("nchw", (2, 3, 3, 4), (3, 2, 2, 3), (2, 2, 4, 6), {"layout": "NCHW"}),
    Case("nhwc", (2, 4, 3, 4), (4, 1, 2, 3), (2, 2, 6, 9), {"layout": "NHWC", "groups": 2, "stride": 2}),
    Case("ncdhw", (1, 2, 2, 3, 2), (2, 2, 2, 2, 3), (1, 2, 3, 4, 4), {"layout": "NCDHW"}),
    Case(
        "ndhwc",
        (2, 2, 2, 3, 2),
        (2, 2, 2, 1, 3),
        (2, 4, 3, 6, 4),
        {"layout": "NDHWC", "groups": 2, "stride": (1, 2, 2), "padding": (0, 0, 1), "output_padding": (0, 1, 1)},
    ),
    Case("relu", (2, 2, 3, 3), (2, 3, 2, 2), (2, 3, 4, 4), {"activation": "relu"}),
    Case("tanh", (2, 2, 4), (2, 3, 3), (2, 3, 6), {"activation": "tanh", "layout": "NLC"}),
    Case("sigmoid", (2, 2, 4), (2, 3, 3), (2, 3, 4), {"activation": "sigmoid", "padding": 1}),
)


def channels_last(case):
    return case.options.get("layout", "").endswith("C")


def random_case(case, rng, dtype=np.float64):
    """Return the arguments of a case, x in its layout, and a gradient for y."""
    shapes = {"x": case.x, "weight": case.weight, "dy": case.y} | ({"bias": case.y[1:2]} if case.bias else {})
    arrays = random_arrays(rng, shapes, dtype)
    if channels_last(case):
        arrays |= {name: np.moveaxis(arrays[name], 1, -1).copy() for name in ("x", "dy")}
    dy = arrays.pop("dy")
    return arrays, dy


def by_definition(case, x, weight, bias):
    """Return y, channels first, before the activation: each product is added to the place where it belongs."""
    S = len(case.x) - 2
    stride, dilation = (np.broadcast_to(case.options.get(name, 1), S) for name in ("stride", "dilation"))
    padding = case.options.get("padding", 0)
    low = [np.broadcast_to(entry, 2)[0] for entry in (padding if isinstance(padding, tuple) else [padding] * S)]
    y = np.zeros(case.y)
    if bias is not None:
        y += bias.reshape(-1, *[1] * S)
    channels_per_group, maps_per_group = case.x[1] // case.options.get("groups", 1), weight.shape[1]
    for n, c, *o in np.ndindex(case.x):
        for m, *t in np.ndindex(weight.shape[1:]):
            k = c // channels_per_group * maps_per_group + m
            place = np.array(o) * stride + np.array(t) * dilation - low
            if (place >= 0).all() and (place < case.y[2:]).all():
                y[(n, k, *place)] += x[(n, c, *o)] * weight[(c, m, *t)]
    return y


def test_by_hand():
    # 1 (1, 10, 100) from place 0, 2 (1, 10, 100) from place 2: (1, 10, 102, 20, 200), plus the bias.
    x, weight = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    y, pullback = reference.conv_transpose_vjp(x, weight, np.array([0.5]), stride=2)
    assert_close("exact", y, [[[1.5, 10.5, 102.5, 20.5, 200.5]]])
    # dy = (1, 2, 3, 4, 5):  dx = (1 + 20 + 300, 3 + 40 + 500),  dweight = 1 (1, 2, 3) + 2 (3, 4, 5)
    dx, grads = pullback(np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]]))
    assert_close("exact", dx, [[[321.0, 543.0]]])
    assert_close("exact", grads, {"weight": [[[7.0, 10.0, 13.0]]], "bias": [15.0]})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": 1}, [10, 102, 20]),
        ({"padding": 1, "output_padding": 1}, [10, 102, 20, 200]),
        ({"output_padding": 1}, [1, 10, 102, 20, 200, 0]),
        ({"padding": ((0, 2),)}, [1, 10, 102]),
        ({"padding": ((3, 0),), "output_padding": 1}, [20, 200, 0]),
    ],
    ids=str,
)
def test_padding_by_hand(options, expected):
    x, weight = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    assert_close("exact", reference.conv_transpose_forward(x, weight, stride=2, **options)[0, 0], expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_its_definition(rng, case):
    arrays, _ = random_case(case, rng)
    options = {name: value for name, value in case.options.items() if name != "activation"}
    y = reference.conv_transpose_forward(**arrays, **options)
    x, y = (np.moveaxis(maps, -1, 1) if channels_last(case) else maps for maps in (arrays["x"], y))
    assert_close("gemm", y, by_definition(case, x, arrays["weight"], arrays.get("bias")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(rng, case):
    arrays, dy = random_case(case, rng)
    y, pullback = reference.conv_transpose_vjp(**arrays, **case.options)
    assert y.shape == dy.shape
    assert_same_bits(reference.conv_transpose_forward(**arrays, **case.options), y)
    dx, grads = pullback(dy)

    def objective():
        return float((dy * reference.conv_transpose_forward(**arrays, **case.options)).sum())

    assert_gradients(objective, arrays, {"x": dx, **grads})


def run_torch(case, arrays, dy):
    """Return y, dx and the other gradients, computed by PyTorch in float64; pairs of padding are cut off afterwards."""
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in arrays.items()}
    options, S = dict(case.options), len(case.x) - 2
    options.pop("layout", None)
    activation = options.pop("activation", None)
    padding = options.get("padding", 0)
    if isinstance(padding, tuple) and isinstance(padding[0], tuple):
        del options["padding"]
    functional = torch.nn.functional
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[S - 1]
    x = tensors["x"].movedim(-1, 1) if channels_last(case) else tensors["x"]
    y = function(x, tensors["weight"], tensors.get("bias"), **options)
    if padding != options.get("padding", 0):
        y = functional.pad(y, [-width for pair in reversed(padding) for width in pair])
    y = getattr(torch, activation)(y) if activation else y
    y = y.movedim(1, -1) if channels_last(case) else y
    y.backward(torch.tensor(dy, dtype=torch.float64))
    grads = {name: tensor.grad.numpy() for name, tensor in tensors.items()}
    return y.detach().numpy(), grads.pop("x"), grads


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_torch(rng, dtype, case):
    arrays, dy = random_case(case, rng, dtype)
    y, pullback = reference.conv_transpose_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    assert {y.dtype, dx.dtype, *(grad.dtype for grad in grads.values())} == {np.dtype(dtype)}
    assert_close("gemm", (y, dx, grads), run_torch(case, arrays, dy))


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_nan_and_infinity_appear_where_torch_has_them(rng, activation):
    case = Case("", (3, 2, 4, 4), (2, 3, 3, 3), (3, 3, 9, 9), {"stride": 2, "activation": activation})
    arrays, dy = random_case(case, rng)
    arrays["x"][0, 0, 1, 1], arrays["x"][1, 1, 3, 0], arrays["x"][1, 0, 0, 3] = nan, inf, -inf
    y, pullback = reference.conv_transpose_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    assert_close("gemm", (y, dx, grads), run_torch(case, arrays, dy))


@pytest.mark.parametrize(
    ("options", "unreached"),
    [
        ({"stride": 2, "padding": ((0, 1), (2, 1)), "groups": 2}, (1, 1)),
        ({"stride": (3, 1), "dilation": (1, 2), "padding": 2, "layout": "NHWC"}, (1, 0)),
    ],
    ids=["strided", "dilated"],
)
def test_is_the_transpose_of_a_convolution(rng, options, unreached):
    # sum(conv(x) * y) = sum(x * conv_transpose(y)), with output padding for the places of x that no window reaches.
    arrays = random_arrays(rng, {"x": (2, 4, 9, 7), "weight": (6, 4 // options.get("groups", 1), 3, 3)})
    x, weight = arrays["x"], arrays["weight"]
    x = np.moveaxis(x, 1, -1) if "layout" in options else x
    conv_x = reference.conv_forward(x, weight, **options)
    y = rng.standard_normal(conv_x.shape)
    transposed = reference.conv_transpose_forward(y, weight, output_padding=unreached, **options)
    assert transposed.shape == x.shape
    assert_close("gemm", (x * transposed).sum(), (conv_x * y).sum())


def test_nan_stays_where_its_kernel_lies(rng):
    arrays = random_arrays(rng, {"x": (2, 2, 4), "weight": (2, 3, 3)})
    clean = reference.conv_transpose_forward(**arrays, stride=2)
    arrays["x"][1, 0, 1] = nan
    y = reference.conv_transpose_forward(**arrays, stride=2)
    touched = np.zeros(y.shape, bool)
    touched[1, :, 2:5] = True
    np.testing.assert_array_equal(np.isnan(y), touched)
    assert_same_bits(y[~touched], clean[~touched])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_empty_batch(rng, dtype, layout):
    x = np.empty((0, 3, 5, 4) if layout == "NCHW" else (0, 5, 4, 3), dtype)
    arrays = random_arrays(rng, {"weight": (3, 2, 3, 3), "bias": (2,)}, dtype)
    y, pullback = reference.conv_transpose_vjp(x, **arrays, padding=1, layout=layout, activation="tanh")
    dx, grads = pullback(y)
    assert y.shape == ((0, 2, 5, 4) if layout == "NCHW" else (0, 5, 4, 2))
    assert_same_bits(dx, x)
    assert_same_bits(grads, {name: np.zeros_like(value) for name, value in arrays.items()})


@pytest.mark.parametrize("options", [{}, {"padding": 1, "layout": "NLC", "activation": "tanh"}], ids=str)
def test_pullback_adds_owns_and_is_called_once(rng, options):
    x_shape = (2, 5, 3) if options else (2, 3, 5)
    arrays = random_arrays(rng, {"x": x_shape, "weight": (3, 4, 1), "bias": (4,)})
    y, pullback = reference.conv_transpose_vjp(**arrays, **options)
    dy = rng.standard_normal(y.shape)
    dx, grads = pullback(dy)
    y, pullback = reference.conv_transpose_vjp(**arrays, **options)
    for array in (*arrays.values(), y):
        array[...] = nan
    given = {"weight": np.ones((3, 4, 1))}
    dx_again, added = pullback(dy, grads=given)
    assert added["weight"] is given["weight"]
    assert_close("exact", (dx_again, added), (dx, {"weight": 1 + grads["weight"], "bias": grads["bias"]}))
    with pytest.raises(RuntimeError, match="conv_transpose_vjp: the pullback was already called"):
        pullback(dy)


@pytest.mark.parametrize("case", CASES[::5], ids=str)
def test_inputs_are_only_read(rng, case):
    arrays, dy = random_case(case, rng)
    before = {name: array.copy() for name, array in arrays.items()}
    for array in (*arrays.values(), dy):
        array.flags.writeable = False
    y, pullback = reference.conv_transpose_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    outputs = (y, dx, *grads.values())
    assert_same_bits(arrays, before)
    assert not any(np.shares_memory(out, array) for out in outputs for array in (*arrays.values(), dy))
    assert all(out.flags.writeable for out in outputs)


def test_unknown_activation():
    x = np.ones((1, 1, 3))
    with pytest.raises(ValueError, match="'activation' must be None, 'relu', 'tanh' or 'sigmoid', got 'gelu'"):
        reference.conv_transpose_forward(x, np.ones((1, 1, 2)), activation="gelu")
