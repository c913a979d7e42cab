"""Losses of one element at a time equal the float64 reference, and refuse bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import layouts
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, ShapeError

NAN, INF = np.nan, np.inf
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("mse_loss", {}),
    "l1": ("l1_loss", {}),
    "huber": ("huber_loss", {"delta": 0.7}),
    "smooth": ("smooth_l1_loss", {"beta": 0.7}),
    "smooth, not": ("smooth_l1_loss", {"beta": 0.0}),
    "binary": ("binary_cross_entropy", {"weight": 0.5}),
    "logits": ("binary_cross_entropy_with_logits", {"weight": 0.5, "pos_weight": 3.0}),
}
each = pytest.mark.parametrize(("name", "options"), LOSSES.values(), ids=LOSSES)


def arguments(name: str, options: dict[str, Any], shape: tuple[int, ...], dtype: Any, rng: Any) -> Any:
    prediction, target = (rng.standard_normal(shape) for _ in range(2))
    if name.startswith("binary"):
        target = 1 / (1 + np.exp(-target))
    if name == "binary_cross_entropy":
        prediction = 1 / (1 + np.exp(-prediction))
    weights = {k: np.full((), v, dtype) for k, v in options.items() if "weight" in k}
    return np.asarray(prediction, dtype), np.asarray(target, dtype), options | weights


@each
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 4, 5), (0,), (2, 0)], ids=str)
def test_equals_reference(
    name: str, options: dict[str, Any], reduction: str, shape: tuple[int, ...], dtype: type, rng: np.random.Generator
) -> None:
    prediction, target, drawn = arguments(name, options, shape, dtype, rng)
    loss, gradient = getattr(ops, name)(prediction, target, reduction=reduction, **drawn)
    wanted = getattr(reference, name)(
        prediction.astype(np.float64), target.astype(np.float64), reduction=reduction, **drawn
    )
    assert (gradient.dtype, gradient.shape) == (dtype, shape)
    assert type(loss) is float or (reduction == "none" and loss.dtype == dtype)
    assert_close("losses", loss, wanted[0], dtype=dtype)
    assert_close("losses", gradient, wanted[1])


@each
def test_special_values_like_torch(name: str, options: dict[str, Any], dtype: type) -> None:
    torch = pytest.importorskip("torch")
    prediction = np.array([1, NAN, INF, INF, 2, -INF, 1e30, 1e-30, 0, -0.0, 800, -800], dtype)
    target = np.array([1, 0, 0, INF, -INF, 0, 0, 1, 1, 0, 0, 1], dtype)
    if name.startswith("binary"):
        target = np.clip(target, 0, 1)
    if name == "binary_cross_entropy":  # PyTorch refuses NaN here
        prediction = np.array([0, 1, 0, 1, 1e-30, 1e-30, 0.5], dtype)
        target = np.array([0, 1, 1, 0, 0, 1, 0.5], dtype)
    drawn = {k: np.full((), v, dtype) if "weight" in k else v for k, v in options.items()}
    x = torch.tensor(prediction, requires_grad=True)
    exact = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in drawn.items()}
    theirs = getattr(torch.nn.functional, name)(x, torch.tensor(target), reduction="none", **exact)
    theirs.sum().backward()
    loss, gradient = getattr(ops, name)(prediction, target, reduction="none", **drawn)
    assert_close("losses", loss, theirs.detach().numpy())
    finite = np.isfinite(prediction) & np.isfinite(target)  # PyTorch's gradients by graph have NaN of 0 * inf
    # PyTorch's smallest denominator is 1e-12 rounded to float32.
    assert_close("losses", gradient[finite], x.grad.numpy()[finite], dtype=np.float32)


@each
def test_any_memory_layout(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    prediction, target, drawn = arguments(name, options, (4, 5), np.float64, rng)
    wanted = getattr(ops, name)(prediction, target, **drawn)
    for form, array in layouts(prediction).items():
        assert_same_bits(getattr(ops, name)(array, target, **drawn), wanted, f" with prediction {form}")
    for form, array in layouts(target).items():
        assert_same_bits(getattr(ops, name)(prediction, array, **drawn), wanted, f" with target {form}")


@each
def test_bad_input(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    prediction, target, drawn = arguments(name, options, (4, 5), np.float64, rng)
    call = getattr(ops, name)
    with pytest.raises(ShapeError, match=rf"^{name}: 'target' must have shape \(4, 5\), got \(4,\)"):
        call(prediction, target[:, 0], **drawn)
    with pytest.raises(DTypeError, match=f"^{name}: 'target' must have dtype float64, got float32"):
        call(prediction, target.astype(np.float32), **drawn)
    with pytest.raises(DTypeError, match=f"^{name}: '.*' must have dtype float32 or float64, got int64"):
        call(prediction.astype(int), target, **drawn)
    with pytest.raises(ArgumentError, match=f"^{name}: 'reduction' must be one of 'mean', 'sum', 'none', got 'all'"):
        call(prediction, target, reduction="all", **drawn)
    if "weight" in drawn:
        with pytest.raises(ShapeError, match=rf"^{name}: 'weight' must broadcast to \(4, 5\), got \(4,\)"):
            call(prediction, target, weight=np.ones(4))


def test_bad_options() -> None:
    x = np.full(3, 0.5)
    with pytest.raises(ArgumentError, match="huber_loss: 'delta' must be > 0, got 0"):
        ops.huber_loss(x, x, delta=0)
    with pytest.raises(ArgumentError, match="huber_loss: 'delta' must be a finite number >= 0, got nan"):
        ops.huber_loss(x, x, delta=NAN)
    with pytest.raises(ArgumentError, match="smooth_l1_loss: 'beta' must be a finite number >= 0, got -1"):
        ops.smooth_l1_loss(x, x, beta=-1)
    with pytest.raises(ArgumentError, match=r"binary_cross_entropy: 'prediction' must be in 0..1, got 1.5"):
        ops.binary_cross_entropy(x + 1, x)
