"""Elementwise references: known values, saturation and special values without warnings."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
import pytest
from numeric import assert_gradients, assert_varies
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_sigmoid_known_values(dtype):
    x = np.array([0, log(3), -log(3), 1000, -1000, inf, -inf, nan], dtype)
    y = reference.sigmoid(x)
    assert y.dtype == dtype
    assert_close("sigmoid", y, [1 / 2, 3 / 4, 1 / 4, 1, 0, 1, 0, nan])


def test_sigmoid_keeps_relative_accuracy_far_below_zero():
    # sigmoid(x) = e^x / (1 + e^x), and e^-50 is far below the roundoff of 1.
    assert_close("sigmoid", reference.sigmoid(np.array([-50.0])), [1.928749847963918e-22])


def test_sigmoid_is_symmetric(rng, dtype):
    x = (10 * rng.standard_normal(1000)).astype(dtype)
    assert_varies(x)
    tiny = np.finfo(dtype).eps
    np.testing.assert_allclose(reference.sigmoid(x) + reference.sigmoid(-x), np.ones(1000), rtol=0, atol=2 * tiny)


def test_tanh_known_values(dtype):
    x = np.array([0, log(2), -log(3), 1e-20, 1000, -inf, nan], dtype)
    y = reference.tanh(x)
    assert y.dtype == dtype
    assert_close("tanh", y, [0, 3 / 5, -4 / 5, 1e-20, 1, -1, nan])
    assert np.signbit(reference.tanh(np.array([-0.0], dtype))).all()


def test_exp_known_values(dtype):
    x = np.array([0, 1, 1000, -1000, inf, -inf, nan], dtype)
    y = reference.exp(x)
    assert y.dtype == dtype
    assert_close("exp", y, [1, 2.718281828459045, inf, 0, inf, 0, nan])


def test_equal_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    x = (5 * rng.standard_normal((7, 11))).astype(dtype)
    for name in ("exp", "sigmoid", "tanh"):
        expected = getattr(torch, name)(torch.tensor(x, dtype=torch.float64)).numpy()
        assert_close(name, getattr(reference, name)(x), expected)


KINDS: dict[str, dict[str, object]] = {
    "elu": {"alpha": 0.7},
    "gelu": {},
    "hardsigmoid": {},
    "hardswish": {},
    "hardtanh": {"min_val": -0.5, "max_val": 0.75},
    "leaky_relu": {"negative_slope": 0.3},
    "mish": {},
    "relu": {},
    "relu6": {},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "softplus": {"beta": 2.0, "threshold": 3.0},
    "softsign": {},
    "tanh": {},
}


def test_activations_known_values():
    x = np.array([-4.0, -1.0, 0.0, log(3), 7.0])
    e = 2.718281828459045
    known = {
        "relu": [0, 0, 0, log(3), 7],
        "leaky_relu": [-0.04, -0.01, 0, log(3), 7],
        "elu": [e**-4 - 1, 1 / e - 1, 0, log(3), 7],
        "hardtanh": [-1, -1, 0, 1, 1],
        "relu6": [0, 0, 0, log(3), 6],
        "hardsigmoid": [0, 1 / 3, 1 / 2, (log(3) + 3) / 6, 1],
        "hardswish": [0, -1 / 3, 0, log(3) * (log(3) + 3) / 6, 7],
        "softsign": [-4 / 5, -1 / 2, 0, log(3) / (1 + log(3)), 7 / 8],
        "silu": [-4 / (1 + e**4), -1 / (1 + e), 0, log(3) * 3 / 4, 7 / (1 + e**-7)],
        "softplus": [log(1 + e**-4), log(1 + 1 / e), log(2), log(4), log(1 + e**7)],
        "mish": [
            -4 * np.tanh(log(1 + e**-4)),
            -np.tanh(log(1 + 1 / e)),
            0,
            log(3) * 15 / 17,
            7 * np.tanh(log(1 + e**7)),
        ],
        "gelu": [-4 * 3.167124183311992e-05, -0.15865525393145705, 0, None, None],
    }
    for kind, values in known.items():
        y = reference.activation_forward(x, kind)
        chosen = [index for index, value in enumerate(values) if value is not None]
        assert_close("activation", y[chosen], np.array([values[index] for index in chosen]))


@pytest.mark.parametrize("kind", KINDS)
def test_activation_gradients(rng, kind):
    x, dy = 3 * rng.standard_normal((2, 50))
    assert_varies(x, dy)
    y, pullback = reference.activation_vjp(x, kind, **KINDS[kind])
    assert_close("exact", y, reference.activation_forward(x, kind, **KINDS[kind]))
    grads = {"x": pullback(dy)}
    assert_gradients(lambda: float((dy * reference.activation_forward(x, kind, **KINDS[kind])).sum()), {"x": x}, grads)
    with pytest.raises(RuntimeError, match="once"):
        pullback(dy)


def test_gradient_of_the_other_gelu(rng):
    x, dy = 3 * rng.standard_normal((2, 50))
    _, pullback = reference.activation_vjp(x, "gelu", approximate="tanh")
    grads = {"x": pullback(dy)}
    assert_gradients(
        lambda: float((dy * reference.activation_forward(x, "gelu", approximate="tanh")).sum()), {"x": x}, grads
    )


@pytest.mark.parametrize("kind", KINDS)
def test_activations_equal_torch(rng, dtype, kind):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, kind, None) or getattr(torch, kind)
    x, dy = (3 * rng.standard_normal((2, 7, 11))).astype(dtype)
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    wanted = function(theirs, **KINDS[kind])
    wanted.backward(torch.tensor(dy, dtype=torch.float64))
    y, pullback = reference.activation_vjp(x, kind, **KINDS[kind])
    dx = pullback(dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("activation", y, wanted.detach().numpy())
    # torch's hardsigmoid in float64 multiplies by a sixth in float32
    assert_close("activation_vjp", dx, theirs.grad.numpy(), dtype=np.float32 if kind == "hardsigmoid" else dtype)


@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_gradients_and_torch(rng, operation, axis):
    torch = pytest.importorskip("torch")
    x, dy = rng.standard_normal((2, 4, 3, 5))
    assert_varies(x, dy)
    forward = getattr(reference, f"{operation}_forward")
    y, pullback = getattr(reference, f"{operation}_vjp")(x, axis)
    assert_close("exact", y, forward(x, axis))
    assert_close("softmax", y, getattr(torch, operation)(torch.tensor(x), axis).numpy())
    assert_gradients(lambda: float((dy * forward(x, axis)).sum()), {"x": x}, {"x": pullback(dy)})


def test_softmax_by_hand(dtype):
    x = np.array([[0, log(3)], [1000, 1000], [-inf, 5], [nan, 0]], dtype)
    assert_close(
        "softmax", reference.softmax_forward(x), np.array([[1 / 4, 3 / 4], [1 / 2, 1 / 2], [0, 1], [nan, nan]])
    )
    logs = np.array([[-log(4), log(3 / 4)], [-log(2), -log(2)], [-inf, 0], [nan, nan]])
    assert_close("softmax", reference.log_softmax_forward(x), logs)
