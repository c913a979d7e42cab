"""Losses of one element at a time equal the float64 reference, and refuse bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import layouts
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

NAN, INF = np.nan, np.inf
#: ULP, as stated in src_c/kernels/loss.h.
BOUND_OF_LOGARITHM = 2.6
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("mse_loss", {}),
    "l1": ("l1_loss", {}),
    "huber": ("huber_loss", {"delta": 0.7}),
    "smooth": ("smooth_l1_loss", {"beta": 0.7}),
    "smooth, not": ("smooth_l1_loss", {"beta": 0.0}),
    "binary": ("binary_cross_entropy", {"weight": 0.5}),
    "logits": ("binary_cross_entropy_with_logits", {"weight": 0.5, "pos_weight": 3.0}),
}
pytestmark = pytest.mark.usefixtures("isa")
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
@pytest.mark.parametrize(
    "shape", [(), (1,), (17,), (3, 4, 5), (0,), (2, 0), (255,), (257,), (1024,), (3, 1201)], ids=str
)
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
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_leave_out_what_lies_past_them(
    name: str, options: dict[str, Any], reduction: str, batch_first: bool, dtype: type, rng: np.random.Generator
) -> None:
    lengths, T = np.array([3, 7, 1]), 7
    shape = (3, T, 5) if batch_first else (T, 3, 5)
    prediction, target, drawn = arguments(name, options, shape, dtype, rng)
    common = {"reduction": reduction, "lengths": lengths, "batch_first": batch_first, **drawn}
    wanted = getattr(reference, name)(prediction.astype(np.float64), target.astype(np.float64), **common)
    for n, length in enumerate(lengths):
        for array in (prediction, target):
            (array[n] if batch_first else array[:, n])[length:] = NAN
    loss, gradient = getattr(ops, name)(prediction, target, **common)
    assert_close("losses", loss, wanted[0], dtype=dtype)
    assert_close("losses", gradient, wanted[1])
    assert np.count_nonzero(np.abs(gradient).sum(-1)) == lengths.sum()


@each
def test_bad_lengths(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    prediction, target, drawn = arguments(name, options, (4, 2), np.float64, rng)
    with pytest.raises(LengthsError, match=rf"^{name}: 'lengths' must be in 1..T=4, got 5"):
        getattr(ops, name)(prediction, target, lengths=[5, 1], **drawn)
    with pytest.raises(LengthsError, match=rf"^{name}: 'lengths' must be None without sequences, got .* \(4,\)"):
        getattr(ops, name)(prediction[:, 0], target[:, 0], lengths=[4], **drawn)


def test_logarithms_are_within_their_bound(dtype: type) -> None:
    least = float(np.finfo(dtype).smallest_subnormal)
    p = np.concatenate(
        [np.exp(np.linspace(np.log(max(least, 1e-43)), 0, 20001)), 1 - np.exp(np.linspace(-36, 0, 20001))]
    )
    p = np.unique(np.clip(p, 0, 1).astype(dtype))
    p = p[(p > 0) & (p < 1)]
    ones = np.ones_like(p)
    for target, exact in ((ones, -np.log(p.astype(np.longdouble))), (0 * ones, -np.log1p(-p.astype(np.longdouble)))):
        found = ops.binary_cross_entropy(p, target, reduction="none")[0]
        wanted = np.minimum(exact, 100)
        normal = wanted > np.finfo(dtype).tiny
        ulp = np.abs(found - wanted)[normal] / np.spacing(wanted[normal].astype(dtype))
        assert ulp.max() < BOUND_OF_LOGARITHM


@each
def test_same_bits_for_any_number_of_threads(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    prediction, target, drawn = arguments(name, options, (50, 1201), np.float32, rng)
    before = ops.get_num_threads()
    try:
        ops.set_num_threads(1)
        alone = getattr(ops, name)(prediction, target, **drawn)
        ops.set_num_threads(3)
        assert_same_bits(getattr(ops, name)(prediction, target, **drawn), alone)
    finally:
        ops.set_num_threads(before)


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
