"""The dense reference: hand numbers, finite differences, PyTorch, leading axes, empty sizes."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_by_hand():
    # (1, 2) [[3, 4], [5, 6], [7, 8]]^T + (1, 0, -1) = (11, 17, 23) + (1, 0, -1) = (12, 17, 22)
    # dy = (1, 0, -2):  dx = (3, 4) - 2 (7, 8) = (-11, -12),  dweight = dy x^T,  dbias = dy
    x, weight = np.array([1.0, 2.0]), np.array([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    y, pullback = reference.linear_vjp(x, weight, np.array([1.0, 0.0, -1.0]))
    assert_close("exact", y, np.array([12.0, 17.0, 22.0]))
    dx, grads = pullback(np.array([1.0, 0.0, -2.0]))
    assert_close("exact", dx, np.array([-11.0, -12.0]))
    assert_close("exact", grads["weight"], np.array([[1.0, 2.0], [0.0, 0.0], [-2.0, -4.0]]))
    assert_close("exact", grads["bias"], np.array([1.0, 0.0, -2.0]))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,), (3, 0)], ids=str)
@pytest.mark.parametrize("with_bias", [False, True], ids=["no_bias", "bias"])
def test_gradients(rng, lead, with_bias):
    shapes = {"x": (*lead, 3), "weight": (4, 3)} | ({"bias": (4,)} if with_bias else {})
    arrays = random_arrays(rng, shapes)
    dy = rng.standard_normal((*lead, 4))
    y, pullback = reference.linear_vjp(**arrays)
    assert y.shape == dy.shape
    assert_close("exact", reference.linear_forward(**arrays), y)
    dx, grads = pullback(dy)
    assert_gradients(lambda: float((dy * reference.linear_forward(**arrays)).sum()), arrays, {"x": dx, **grads})


def test_equals_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    arrays = random_arrays(rng, {"x": (2, 5, 7), "weight": (3, 7), "bias": (3,), "dy": (2, 5, 3)}, dtype)
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in arrays.items()}
    dy, torch_dy = arrays.pop("dy"), tensors.pop("dy")
    inputs = [tensor.requires_grad_() for tensor in tensors.values()]
    expected = torch.nn.functional.linear(*inputs)
    expected.backward(torch_dy)
    y, pullback = reference.linear_vjp(**arrays)
    dx, grads = pullback(dy)
    assert y.dtype == dx.dtype == grads["weight"].dtype == grads["bias"].dtype == dtype
    assert_close("linear_forward", y, expected.detach().numpy())
    assert_close("linear_vjp", [dx, grads["weight"], grads["bias"]], [tensor.grad.numpy() for tensor in inputs])


def test_pullback_adds_owns_and_is_called_once(rng):
    arrays = random_arrays(rng, {"x": (5, 3), "weight": (4, 3)})
    dy = rng.standard_normal((5, 4))
    dx, grads = reference.linear_vjp(**arrays)[1](dy)
    _, pullback = reference.linear_vjp(**arrays)
    for array in arrays.values():
        array[...] = np.nan
    given = np.ones((4, 3))
    dx_again, added = pullback(dy, grads={"weight": given})
    assert added["weight"] is given
    assert_close("exact", (dx_again, given), (dx, 1 + grads["weight"]))
    with pytest.raises(RuntimeError, match="linear_vjp: the pullback was already called"):
        pullback(dy)


def test_nan_stays_in_its_row(rng):
    arrays = random_arrays(rng, {"x": (4, 3), "weight": (5, 3)})
    clean = reference.linear_forward(**arrays)
    arrays["x"][1, 0] = np.nan
    y = reference.linear_forward(**arrays)
    assert np.isnan(y[1]).all()
    assert_close("linear_forward", y[[0, 2, 3]], clean[[0, 2, 3]])
