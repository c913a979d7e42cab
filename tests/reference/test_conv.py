"""The convolution reference: hand numbers, its definition in scalars, finite differences, PyTorch, special values."""

from __future__ import annotations

import warnings
from math import inf, nan, tanh
from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close, assert_same_bits

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


class Case(NamedTuple):
    """Shapes, channels first, with options; `low` is the padding before each spatial axis."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    low: tuple[int, ...]
    options: dict[str, Any] = {}  # noqa: RUF012  never changed
    vectors: tuple[str, ...] = ("bias",)

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("plain", (2, 3, 5, 4), (4, 3, 3, 2), (2, 4, 3, 3), (0, 0), vectors=()),
    Case("one_tap", (2, 3, 4), (2, 3, 1), (2, 2, 4), (0,)),
    Case("whole_map", (2, 2, 3, 4), (3, 2, 3, 4), (2, 3, 1, 1), (0, 0)),
    Case("stride_past_the_end", (1, 2, 9), (3, 2, 2), (1, 3, 3), (0,), {"stride": 3}),
    Case("stride_over_gaps", (2, 1, 8, 7), (2, 1, 2, 1), (2, 2, 2, 4), (0, 0), {"stride": (4, 2)}),
    Case("more_padding_than_kernel", (2, 2, 3), (2, 2, 2), (2, 2, 8), (3,), {"padding": 3}),
    Case("ints", (1, 2, 4, 5), (2, 2, 3, 2), (1, 2, 4, 10), (1, 3), {"padding": (1, 3)}),
    Case("pairs", (2, 2, 4, 5), (3, 2, 3, 3), (2, 3, 2, 3), (0, 2), {"padding": ((0, 1), (2, 1)), "stride": (2, 2)}),
    Case("dilation", (2, 2, 7, 6), (2, 2, 3, 2), (2, 2, 5, 3), (1, 0), {"padding": (1, 0), "dilation": (2, 3)}),
    Case("same_odd", (2, 2, 4, 5), (2, 2, 3, 5), (2, 2, 4, 5), (1, 2), {"padding": "same"}),
    Case("same_even", (2, 2, 6), (3, 2, 4), (2, 3, 6), (4,), {"padding": "same", "dilation": 3}),
    Case("valid", (2, 2, 6), (3, 2, 4), (2, 3, 3), (0,), {"padding": "valid"}),
    Case("causal", (2, 2, 6), (3, 2, 3), (2, 3, 6), (4,), {"padding": "causal", "dilation": 2}),
    Case("causal_stride", (2, 2, 6), (3, 2, 3), (2, 3, 3), (2,), {"padding": "causal", "stride": 2}),
    Case("reflect", (2, 2, 4, 3), (2, 2, 3, 3), (2, 2, 8, 5), (3, 2), {"padding": (3, 2), "padding_mode": "reflect"}),
    Case("reflect_same", (1, 2, 5), (2, 2, 4), (1, 2, 5), (1,), {"padding": "same", "padding_mode": "reflect"}),
    Case(
        "replicate",
        (2, 2, 3, 3),
        (2, 2, 2, 3),
        (2, 2, 3, 3),
        (2, 0),
        {"padding": ((2, 1), (0, 4)), "padding_mode": "replicate", "stride": 2},
    ),
    Case(
        "circular",
        (2, 2, 4, 3),
        (2, 2, 3, 2),
        (2, 2, 7, 8),
        (4, 3),
        {"padding": ((4, 1), 3), "padding_mode": "circular"},
    ),
    Case("groups", (2, 6, 5), (4, 3, 2), (2, 4, 6), (1,), {"padding": 1, "groups": 2}),
    Case("depthwise", (2, 3, 4, 4), (3, 1, 3, 3), (2, 3, 4, 4), (1, 1), {"padding": "same", "groups": 3}),
    Case("multiplier", (2, 2, 6), (6, 1, 3), (2, 6, 3), (1,), {"padding": 1, "groups": 2, "stride": 2}),
    Case("nlc", (2, 3, 6), (4, 3, 3), (2, 4, 3), (1,), {"padding": 1, "stride": 2, "layout": "NLC"}),
    Case("nchw", (2, 3, 4, 5), (4, 3, 3, 2), (2, 4, 2, 4), (0, 0), {"layout": "NCHW"}),
    Case("nhwc", (2, 4, 4, 5), (2, 2, 3, 2), (2, 2, 2, 4), (0, 0), {"layout": "NHWC", "groups": 2}),
    Case("ncdhw", (1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (1, 2, 2, 2, 2), (0, 0, 0), {"layout": "NCDHW"}),
    Case(
        "ndhwc",
        (2, 2, 3, 4, 3),
        (2, 1, 2, 2, 1),
        (2, 2, 5, 2, 3),
        (1, 0, 0),
        {"layout": "NDHWC", "padding": ((1, 2), 0, 0), "stride": (1, 2, 1), "groups": 2, "padding_mode": "reflect"},
    ),
    Case("flip", (2, 2, 4, 5), (3, 2, 3, 2), (2, 3, 3, 6), (0, 1), {"padding": ((0, 1), 1), "flip": True}),
    Case("relu", (2, 2, 4, 4), (3, 2, 3, 3), (2, 3, 2, 2), (0, 0), {"activation": "relu"}),
    Case("tanh_gain", (2, 2, 6), (3, 2, 3), (2, 3, 4), (0,), {"activation": "tanh"}, ("bias", "gain")),
    Case("sigmoid", (2, 2, 6), (3, 2, 3), (2, 3, 4), (0,), {"activation": "sigmoid"}),
    Case("gain", (2, 2, 4, 4), (3, 2, 3, 3), (2, 3, 2, 2), (0, 0), {"layout": "NHWC"}, ("gain",)),
    Case(
        "all_at_once",
        (2, 4, 5, 6),
        (6, 2, 2, 3),
        (2, 6, 3, 4),
        (1, 1),
        {
            "padding": ((1, 0), (1, 3)),
            "stride": (2, 2),
            "dilation": (1, 1),
            "groups": 2,
            "padding_mode": "circular",
            "layout": "NHWC",
            "activation": "tanh",
            "flip": True,
        },
        ("bias", "gain"),
    ),
)


def channels_last(case):
    return case.options.get("layout", "").endswith("C")


def to_layout(case, maps):
    return np.moveaxis(maps, 1, -1) if channels_last(case) else maps


def from_layout(case, maps):
    return np.moveaxis(maps, -1, 1) if channels_last(case) else maps


def random_case(case, rng, dtype=np.float64):
    """Return the arguments of a case, x in its layout, and a gradient for y."""
    K = case.weight[0]
    shapes = {"x": case.x, "weight": case.weight, **dict.fromkeys(case.vectors, (K,)), "dy": case.y}
    arrays = random_arrays(rng, shapes, dtype)
    arrays["x"], dy = (np.ascontiguousarray(to_layout(case, maps)) for maps in (arrays["x"], arrays.pop("dy")))
    return arrays, dy


def place(i, size, mode):
    """Return where a padded axis takes its value at i from, None for a zero."""
    if mode == "zeros":
        return i if 0 <= i < size else None
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "circular":
        return i % size
    return abs(i) if i < size else 2 * (size - 1) - i


def by_definition(case, x, weight, bias, gain):
    """Return y, channels first, one product after the other."""
    options = case.options
    S, (K, C, *kernel) = len(case.low), weight.shape
    stride, dilation = (np.broadcast_to(options.get(name, 1), S) for name in ("stride", "dilation"))
    act = {None: lambda a: a, "relu": lambda a: max(a, 0), "tanh": tanh, "sigmoid": lambda a: 1 / (1 + np.exp(-a))}
    y = np.zeros(case.y)
    for n, k, *o in np.ndindex(case.y):
        total = 0.0 if bias is None else bias[k]
        for c, *t in np.ndindex(C, *kernel):
            at = np.array(o) * stride + np.array(t) * dilation - case.low
            mode = options.get("padding_mode", "zeros")
            source = [place(i, size, mode) for i, size in zip(at, x.shape[2:], strict=True)]
            if None not in source:
                channel = k // (K // options.get("groups", 1)) * C + c
                tap = [size - 1 - i for i, size in zip(t, kernel, strict=True)] if options.get("flip") else t
                total += weight[(k, c, *tap)] * x[(n, channel, *source)]
        y[(n, k, *o)] = (1 if gain is None else gain[k]) * act[options.get("activation")](total)
    return y


def test_the_worked_example_of_the_lecture():
    # 40 at the upper left of y is the sum over the window [[0, 80], [20, 40]] with the kernel turned around:
    # 0 * 1 + 80 * .5 + 20 * .25 + 40 * 0 = 45, and so on.
    x = np.array([[0.0, 80.0, 40.0], [20.0, 40.0, 0.0], [0.0, 0.0, 40.0]])[None, None]
    weight = np.array([[0.0, 0.25], [0.5, 1.0]])[None, None]
    y = reference.conv_forward(x, weight, flip=True)
    assert_close("exact", y[0, 0], [[45.0, 110.0], [40.0, 40.0]])
    # Without turning: 0 * 0 + 80 * .25 + 20 * .5 + 40 * 1 = 70, ...
    assert_close("exact", reference.conv_forward(x, weight)[0, 0], [[70.0, 30.0], [10.0, 40.0]])


def test_by_hand():
    # Padded x = (0, 1, 2, 3, 4, 0) under (1, 10, 100) at 0 and 2: 10 + 200 and 2 + 30 + 400, plus the bias.
    x, weight = np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    y, pullback = reference.conv_vjp(x, weight, np.array([0.5]), stride=2, padding=1)
    assert_close("exact", y, [[[210.5, 432.5]]])
    # dy = (1, -2): places 0, 1, 2 of the padded x get (1, 10, 100), places 2, 3, 4 get -2 (1, 10, 100).
    dx, grads = pullback(np.array([[[1.0, -2.0]]]))
    assert_close("exact", dx, [[[10.0, 98.0, -20.0, -200.0]]])
    # (0, 1, 2) - 2 (2, 3, 4), and 1 - 2.
    assert_close("exact", grads, {"weight": [[[-4.0, -5.0, -6.0]]], "bias": [-1.0]})


@pytest.mark.parametrize(
    ("mode", "padded", "dx"),
    [
        ("zeros", [0, 0, 1, 2, 3, 0], [100, 1000, 10000]),
        ("reflect", [3, 2, 1, 2, 3, 2], [100, 101010, 10001]),
        ("replicate", [1, 1, 1, 2, 3, 3], [111, 1000, 110000]),
        ("circular", [2, 3, 1, 2, 3, 1], [100100, 1001, 10010]),
    ],
)
def test_padding_modes_by_hand(mode, padded, dx):
    # A kernel of one tap shows the padded input; its pullback shows where each border came from.
    x, one = np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 1, 1))
    y, pullback = reference.conv_vjp(x, one, padding=((2, 1),), padding_mode=mode)
    assert_close("exact", y[0, 0], padded)
    assert_close("exact", pullback(10.0 ** np.arange(6.0)[None, None])[0][0, 0], dx)


def test_gain_by_hand():
    # y = g tanh(w x + b), dgain = tanh(w x + b), dbias = g (1 - tanh^2)
    x, weight, bias, gain = (np.array(value).reshape(1, 1, 1) for value in (0.5, 3.0, -0.25, -2.0))
    y, pullback = reference.conv_vjp(x, weight, bias[0, 0], gain=gain[0, 0], activation="tanh")
    h = tanh(1.25)
    dx, grads = pullback(np.ones((1, 1, 1)))
    assert_close("tanh", y[0, 0], [-2 * h])
    assert_close("gemm", grads["gain"], [h])
    assert_close("gemm", grads["bias"], [-2 * (1 - h * h)])
    assert_close("gemm", (dx[0, 0], grads["weight"][0, 0]), ([-6 * (1 - h * h)], [-1 * (1 - h * h)]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_its_definition(rng, case):
    arrays, _ = random_case(case, rng)
    y = from_layout(case, reference.conv_forward(**arrays, **case.options))
    x = from_layout(case, arrays["x"])
    assert_close("gemm", y, by_definition(case, x, arrays["weight"], arrays.get("bias"), arrays.get("gain")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(rng, case):
    arrays, dy = random_case(case, rng)
    y, pullback = reference.conv_vjp(**arrays, **case.options)
    assert y.shape == dy.shape
    assert_same_bits(reference.conv_forward(**arrays, **case.options), y)
    dx, grads = pullback(dy)

    def objective():
        return float((dy * reference.conv_forward(**arrays, **case.options)).sum())

    assert_gradients(objective, arrays, {"x": dx, **grads})


def torch_conv(torch, case, x, weight, bias, gain):
    """Run a case through PyTorch's layer, with padding of its own unless it has no such padding."""
    options, S = case.options, len(case.low)
    padding, mode = options.get("padding", 0), options.get("padding_mode", "zeros")
    if padding == "causal" or (isinstance(padding, tuple) and not all(isinstance(entry, int) for entry in padding)):
        pairs = [(case.low[0], 0)] if padding == "causal" else [np.broadcast_to(entry, 2) for entry in padding]
        flat = [int(width) for pair in reversed(pairs) for width in pair]
        x = torch.nn.functional.pad(x, flat, mode={"zeros": "constant"}.get(mode, mode))
        padding, mode = 0, "zeros"
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[S - 1]
    given = {name: options[name] for name in ("stride", "dilation", "groups") if name in options}
    layer = kind(x.shape[1], len(weight), case.weight[2:], bias=False, padding=padding, padding_mode=mode, **given)
    kernels = weight.flip(tuple(range(2, S + 2))) if options.get("flip") else weight
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")  # a word on speed
        a = torch.func.functional_call(layer, {"weight": kernels, "bias": bias}, x)
    h = getattr(torch, options["activation"])(a) if options.get("activation") else a
    return h if gain is None else gain.reshape(-1, *[1] * S) * h


def run_torch(case, arrays, dy):
    """Return y, dx and the other gradients, computed by PyTorch in float64."""
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in arrays.items()}
    x, weight = tensors["x"], tensors["weight"]
    first = x.movedim(-1, 1) if channels_last(case) else x
    y = torch_conv(torch, case, first, weight, tensors.get("bias"), tensors.get("gain"))
    y = y.movedim(1, -1) if channels_last(case) else y
    y.backward(torch.tensor(dy, dtype=torch.float64))
    grads = {name: tensor.grad.numpy() for name, tensor in tensors.items()}
    return y.detach().numpy(), grads.pop("x"), grads


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_torch(rng, dtype, case):
    arrays, dy = random_case(case, rng, dtype)
    y, pullback = reference.conv_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    assert {y.dtype, dx.dtype, *(grad.dtype for grad in grads.values())} == {np.dtype(dtype)}
    assert_close("gemm", (y, dx, grads), run_torch(case, arrays, dy))


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_nan_and_infinity_appear_where_torch_has_them(rng, activation):
    case = Case("", (3, 2, 6, 6), (3, 2, 3, 3), (3, 3, 4, 4), (0, 0), {"activation": activation}, ("bias", "gain"))
    arrays, dy = random_case(case, rng)
    arrays["x"][0, 0, 1, 1], arrays["x"][1, 1, 5, 0], arrays["x"][1, 0, 0, 5] = nan, inf, -inf
    y, pullback = reference.conv_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    assert_close("gemm", (y, dx, grads), run_torch(case, arrays, dy))


def test_nan_stays_in_its_windows(rng):
    arrays = random_arrays(rng, {"x": (2, 2, 9), "weight": (3, 2, 3)})
    clean = reference.conv_forward(**arrays, padding=1, stride=2)
    arrays["x"][1, 0, 3] = nan
    y = reference.conv_forward(**arrays, padding=1, stride=2)
    touched = np.zeros(y.shape, bool)
    touched[1, :, 1:3] = True  # the windows 1..3 and 3..5 of x
    np.testing.assert_array_equal(np.isnan(y), touched)
    assert_same_bits(y[~touched], clean[~touched])


@pytest.mark.parametrize("layout", ["NLC", "NHWC", "NDHWC"])
def test_channels_last_are_the_same_numbers(rng, layout):
    S = len(layout) - 2
    arrays = random_arrays(rng, {"x": (2, 4, 5, 4, 3)[: S + 2], "weight": (6, 2, 3, 2, 2)[: S + 2], "bias": (6,)})
    options = {"groups": 2, "stride": 2, "padding": 1, "activation": "relu"}
    y, pullback = reference.conv_vjp(**arrays, **options)
    dy = rng.standard_normal(y.shape)
    last = {**arrays, "x": np.moveaxis(arrays["x"], 1, -1)}
    y_last, pullback_last = reference.conv_vjp(**last, **options, layout=layout)
    assert_same_bits(np.moveaxis(y_last, -1, 1), y)
    (dx, grads), (dx_last, grads_last) = pullback(dy), pullback_last(np.moveaxis(dy, 1, -1))
    assert_same_bits((np.moveaxis(dx_last, -1, 1), grads_last), (dx, grads))


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_are_convolutions_side_by_side(rng, groups):
    arrays = random_arrays(rng, {"x": (2, 4, 5, 5), "weight": (8, 4 // groups, 3, 2), "bias": (8,)})
    parts = [
        np.split(arrays["x"], groups, axis=1),
        np.split(arrays["weight"], groups),
        np.split(arrays["bias"], groups),
    ]
    side_by_side = [reference.conv_forward(*part) for part in zip(*parts, strict=True)]
    assert_close("gemm", reference.conv_forward(**arrays, groups=groups), np.concatenate(side_by_side, axis=1))


def test_causal_windows_do_not_see_what_follows(rng):
    arrays = random_arrays(rng, {"x": (1, 2, 10), "weight": (3, 2, 3)})
    whole = reference.conv_forward(**arrays, padding="causal", dilation=2)
    arrays["x"][..., 6:] = nan
    assert_close("exact", reference.conv_forward(**arrays, padding="causal", dilation=2)[..., :6], whole[..., :6])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_empty_batch(rng, dtype, mode, layout):
    x = np.empty((0, 3, 5, 4) if layout == "NCHW" else (0, 5, 4, 3), dtype)
    arrays = random_arrays(rng, {"weight": (2, 3, 3, 3), "bias": (2,), "gain": (2,)}, dtype)
    y, pullback = reference.conv_vjp(x, **arrays, padding=1, padding_mode=mode, layout=layout, activation="tanh")
    dx, grads = pullback(y)
    assert y.shape == ((0, 2, 5, 4) if layout == "NCHW" else (0, 5, 4, 2))
    assert_same_bits(dx, x)
    assert_same_bits(grads, {name: np.zeros_like(value) for name, value in arrays.items()})


@pytest.mark.parametrize("options", [{}, {"padding": 1, "layout": "NLC", "activation": "tanh", "flip": True}], ids=str)
def test_pullback_adds_owns_and_is_called_once(rng, options):
    x_shape = (2, 5, 3) if options else (2, 3, 5)
    arrays = random_arrays(rng, {"x": x_shape, "weight": (4, 3, 1), "bias": (4,), "gain": (4,)})
    y, pullback = reference.conv_vjp(**arrays, **options)
    dy = rng.standard_normal(y.shape)
    dx, grads = pullback(dy)
    y, pullback = reference.conv_vjp(**arrays, **options)
    for array in (*arrays.values(), y):
        array[...] = nan
    given = {"weight": np.ones((4, 3, 1)), "gain": np.ones(4)}
    dx_again, added = pullback(dy, grads=given)
    assert added["weight"] is given["weight"]
    assert added["gain"] is given["gain"]
    expected = {"weight": 1 + grads["weight"], "bias": grads["bias"], "gain": 1 + grads["gain"]}
    assert_close("exact", (dx_again, added), (dx, expected))
    with pytest.raises(RuntimeError, match="conv_vjp: the pullback was already called"):
        pullback(dy)


@pytest.mark.parametrize("case", CASES[::5], ids=str)
def test_inputs_are_only_read(rng, case):
    arrays, dy = random_case(case, rng)
    before = {name: array.copy() for name, array in arrays.items()}
    for array in (*arrays.values(), dy):
        array.flags.writeable = False
    y, pullback = reference.conv_vjp(**arrays, **case.options)
    dx, grads = pullback(dy)
    outputs = (y, dx, *grads.values())
    assert_same_bits(arrays, before)
    assert not any(np.shares_memory(out, array) for out in outputs for array in (*arrays.values(), dy))
    assert all(out.flags.writeable for out in outputs)


def test_unknown_activation():
    x = np.ones((1, 1, 3))
    with pytest.raises(ValueError, match="'activation' must be None, 'relu', 'tanh' or 'sigmoid', got 'gelu'"):
        reference.conv_forward(x, np.ones((1, 1, 2)), activation="gelu")
