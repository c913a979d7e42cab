"""Normalisation references: hand numbers, finite differences, PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, assert_gradients, random_arrays
from tolerances import assert_close

from fastrnn import reference

LAYOUTS = (None, "NCHW", "NHWC")


def test_by_hand() -> None:
    # Channel values 1, 3, 5, 7: mean 4, variance 5. With eps 4, xhat = (x - 4) / 3.
    x = np.array([[1.0], [3.0], [5.0], [7.0]])
    (y, mean, var), pullback = reference.batch_norm_vjp(x, np.array([6.0]), np.array([1.0]), eps=4)
    assert_close("exact", [mean, var], [np.array([4.0]), np.array([5.0])])
    assert_close("norm_forward", y, np.array([[-5.0], [-1.0], [3.0], [7.0]]))
    # dy = 1, 0, 0, 0: mean(g) = 3/2, mean(g xhat) = -3/2:   dx = (g - 3/2 + 3/2 xhat) / 3
    dx, grads = pullback(np.array([[1.0], [0.0], [0.0], [0.0]]))
    assert_close("norm_vjp", dx, np.array([[6 - 3.0], [-2.0], [-1.0], [0.0]]) / 3)
    assert_close("norm_vjp", grads, {"weight": np.array([-1.0]), "bias": np.array([1.0])})


def test_layer_norm_by_hand() -> None:
    x = np.array([[0.0, 2.0], [10.0, 30.0]])
    y = reference.layer_norm_forward(x, 2, np.array([1.0, 2.0]), np.array([0.0, 1.0]), eps=0)
    assert_close("exact", y, np.array([[-1.0, 3.0], [-1.0, 3.0]]))


def test_group_norm_takes_neighbours_together() -> None:
    x = np.array([[[0.0], [2.0], [5.0], [5.0]]])
    y = reference.group_norm_forward(x, 2, eps=1)
    assert_close("norm_forward", y, np.array([[[-1.0], [1.0], [0.0], [0.0]]]) / np.sqrt(2))


def problems() -> dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]]:
    """Name -> operation, shape of x, options."""
    shape = (2, 4, 3, 2)
    found: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
        "layer": (reference.layer_norm_vjp, shape, {"normalized_shape": (3, 2)})
    }
    for layout in LAYOUTS:
        lying = (2, 3, 2, 4) if layout == "NHWC" else shape
        found[f"batch {layout}"] = (reference.batch_norm_vjp, lying, {"layout": layout})
        found[f"group {layout}"] = (reference.group_norm_vjp, lying, {"num_groups": 2, "layout": layout})
    return found


@pytest.mark.parametrize("affine", [(), ("weight",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("name", problems())
def test_gradients(name: str, affine: tuple[str, ...], rng: np.random.Generator) -> None:
    operation, shape, options = problems()[name]
    sizes = options.get("normalized_shape", (4,))
    arrays = random_arrays(rng, {"x": shape, **dict.fromkeys(affine, sizes)})

    def run() -> tuple[Array, Any]:
        result, pullback = operation(**arrays, **options, eps=0.1)
        return result[0] if isinstance(result, tuple) else result, pullback

    y, pullback = run()
    dy = rng.standard_normal(y.shape)
    dx, grads = pullback(dy)
    assert_gradients(lambda: float((dy * run()[0]).sum()), arrays, {"x": dx, **grads})
    with pytest.raises(RuntimeError, match="once"):
        pullback(dy)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 7), (2, 4, 3, 5)], ids=str)
def test_equals_torch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    given = random_arrays(rng, {"x": shape, "weight": (4,), "bias": (4,), "dy": shape})
    dy = given.pop("dy")
    rows = random_arrays(rng, {"weight": shape[1:], "bias": shape[1:]})
    for operation, theirs, params, options in (
        (
            reference.batch_norm_vjp,
            lambda x, w, b: functional.batch_norm(x, None, None, w, b, True, eps=0.3),
            given,
            {},
        ),
        (reference.group_norm_vjp, lambda x, w, b: functional.group_norm(x, 2, w, b, 0.3), given, {"num_groups": 2}),
        (
            reference.layer_norm_vjp,
            lambda x, w, b: functional.layer_norm(x, shape[1:], w, b, 0.3),
            {"x": given["x"], **rows},
            {"normalized_shape": shape[1:]},
        ),
    ):
        tensors = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
        wanted = theirs(tensors["x"], tensors["weight"], tensors["bias"])
        wanted.backward(torch.tensor(dy))
        result, pullback = operation(**params, **options, eps=0.3)
        dx, grads = pullback(dy)
        assert_close("norm_forward", result[0] if isinstance(result, tuple) else result, wanted.detach().numpy())
        assert_close("norm_vjp", {"x": dx, **grads}, {name: tensor.grad.numpy() for name, tensor in tensors.items()})
