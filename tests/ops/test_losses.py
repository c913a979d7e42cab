"""The compiled losses equal the float64 reference, also where logits are huge, infinite or NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts
from shapes import AROUND_WIDTHS
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError

CLASSES = (1, 2, *AROUND_WIDTHS, 31, 32, 33, 101, 1000)
NAN, INF = np.nan, np.inf


def assert_equals_reference(logits: Array, targets: Array, **options: Any) -> tuple[float, Array]:
    loss, dlogits = ops.cross_entropy(logits, targets, **options)
    wanted, dwanted = reference.cross_entropy(logits.astype(np.float64), targets, **options)
    assert type(loss) is float
    assert dlogits.dtype == logits.dtype
    assert_close("cross_entropy", loss, wanted, dtype=logits.dtype)
    assert_close("cross_entropy", dlogits, dwanted)
    return loss, dlogits


@pytest.mark.parametrize("classes", CLASSES)
def test_cross_entropy_equals_reference(classes: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    logits = (3 * rng.standard_normal((5, classes))).astype(dtype)
    targets = rng.integers(0, classes, 5)
    assert_equals_reference(logits, targets)
    targets[[0, 3]] = -100
    _, dlogits = assert_equals_reference(logits, targets, ignore_index=-100)
    assert not dlogits[[0, 3]].any()


def test_cross_entropy_of_many_classes(isa: str, dtype: type, rng: np.random.Generator) -> None:
    assert_equals_reference(rng.standard_normal((3, 20011)).astype(dtype), np.array([0, 20010, 777]))


def test_cross_entropy_in_any_number_of_threads(isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((301, 101)).astype(dtype), rng.integers(-1, 101, 301)
    loss, dlogits = assert_equals_reference(logits, targets, ignore_index=-1)
    ops.set_num_threads(1)
    assert_same_bits(ops.cross_entropy(logits, targets, ignore_index=-1), (loss, dlogits))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)], ids=str)
def test_cross_entropy_shapes(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((*shape, 4)), rng.integers(0, 4, shape)
    loss, dlogits = assert_equals_reference(logits, targets)
    assert dlogits.shape == logits.shape
    assert np.isnan(loss) == (targets.size == 0)


@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 2, 99, 2**40])
def test_ignored_positions_are_not_read(ignore_index: int, isa: str, dtype: type, rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((6, 9)).astype(dtype), np.array([3, 4, 5, 6, 7, 8])
    targets[[1, 4]] = ignore_index
    logits[[1, 4]] = NAN
    loss, dlogits = ops.cross_entropy(logits, targets, ignore_index=ignore_index)
    kept = [0, 2, 3, 5]
    wanted, dwanted = ops.cross_entropy(logits[kept], targets[kept])
    assert_same_bits((loss, dlogits[kept]), (wanted, dwanted))
    assert not dlogits[[1, 4]].any()


def test_nothing_left_to_count(isa: str, dtype: type) -> None:
    loss, dlogits = ops.cross_entropy(np.ones((3, 5), dtype), np.full(3, 2), ignore_index=2)
    assert np.isnan(loss)
    assert not dlogits.any()


@pytest.mark.parametrize("classes", [5, 16, 21])
@pytest.mark.parametrize(
    "special",
    [
        pytest.param({0: 1e30, 1: -1e30}, id="huge"),
        pytest.param({0: 3e38, 1: -3e38}, id="as large as floats can be"),
        pytest.param({0: 1e-45, 1: -1e-40}, id="denormal"),
        pytest.param({0: -INF}, id="masked"),
        pytest.param({0: -INF, 1: -INF, 2: -INF, 3: -INF}, id="nearly all masked"),
        pytest.param({0: -INF, 2: -INF}, id="target masked"),
        pytest.param(dict.fromkeys(range(21), -INF), id="all masked"),
        pytest.param({0: INF}, id="infinite"),
        pytest.param({2: INF}, id="target infinite"),
        pytest.param({0: INF, 1: -INF}, id="both infinities"),
        pytest.param({0: NAN}, id="NaN first"),
        pytest.param({-1: NAN}, id="NaN last"),
        pytest.param({0: NAN, 1: INF}, id="NaN and infinite"),
        pytest.param({0: NAN, -1: -INF}, id="NaN and masked"),
    ],
)
def test_special_logits(
    special: dict[int, float], classes: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """As the reference and PyTorch have it; the other rows never notice."""
    logits, targets = rng.standard_normal((3, classes)).astype(dtype), np.array([1, 2, 0])
    clean = ops.cross_entropy(logits, targets)[1]
    for place, value in special.items():
        if place < classes:
            logits[1, place] = value
    _, dlogits = assert_equals_reference(logits, targets)
    assert_same_bits(dlogits[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize(
    "special", [{0: INF}, {2: -INF}, {0: NAN}, {0: -INF}, dict.fromkeys(range(5), -INF), {0: 1e30, 2: -1e30}], ids=str
)
def test_special_logits_as_in_torch(special: dict[int, float], isa: str, dtype: type, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = rng.standard_normal((2, 5)).astype(dtype), np.array([1, 2])
    for place, value in special.items():
        logits[1, place] = value
    theirs = torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets))
    wanted.backward()
    loss, dlogits = ops.cross_entropy(logits, targets)
    assert_close("cross_entropy", loss, wanted.item(), dtype=dtype)
    assert_close("cross_entropy", dlogits, theirs.grad.numpy())


def test_equal_logits_give_equal_chances(isa: str, dtype: type) -> None:
    for level in (0, 1000, -1000, 1e30):
        loss, dlogits = ops.cross_entropy(np.full((1, 7), level, dtype), np.array([3]))
        assert_close("cross_entropy", loss, np.log(7), dtype=dtype)
        assert_close("cross_entropy", dlogits[0], np.array([1 / 7, 1 / 7, 1 / 7, -6 / 7, 1 / 7, 1 / 7, 1 / 7], dtype))


@pytest.mark.parametrize("argument", ["logits", "targets"])
def test_any_memory_layout(argument: str, isa: str, rng: np.random.Generator) -> None:
    given: dict[str, Array] = {"logits": rng.standard_normal((2, 4, 19)), "targets": rng.integers(0, 19, (2, 4))}
    wanted = ops.cross_entropy(**given)
    for name, array in layouts(given[argument]).items():
        before = array.copy()
        assert_same_bits(ops.cross_entropy(**(given | {argument: array})), wanted, f" with {argument} {name}")
        assert_same_bits(array, before)


OPTIONS: dict[str, dict[str, Any]] = {
    "weight": {"weight": True},
    "smoothing": {"label_smoothing": 0.1},
    "both": {"weight": True, "label_smoothing": 0.3},
    "all alike": {"label_smoothing": 1.0},
    "ignored": {"weight": True, "label_smoothing": 0.1, "ignore_index": 2},
}


def drawn(options: dict[str, Any], classes: int, dtype: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Return options with random weights where there are any."""
    weight = {"weight": rng.uniform(0.5, 2, classes).astype(dtype)} if "weight" in options else {}
    return options | weight


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("classes", [3, 16, 37, 130])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_equal_reference(
    options: dict[str, Any], classes: int, reduction: str, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    logits, targets = rng.standard_normal((2, 5, classes)).astype(dtype), rng.integers(0, classes, (2, 5))
    targets[0, 1] = 2
    given = drawn(options, classes, dtype, rng) | {"reduction": reduction}
    loss, dlogits = ops.cross_entropy(logits, targets, **given)
    exact = {name: value.astype(np.float64) if name == "weight" else value for name, value in given.items()}
    wanted, dwanted = reference.cross_entropy(logits.astype(np.float64), targets, **exact)
    assert type(loss) is float if reduction != "none" else loss.dtype == dtype
    assert_close("cross_entropy", loss, wanted, dtype=dtype)
    assert_close("cross_entropy", dlogits, dwanted)
    given.pop("label_smoothing", None), exact.pop("label_smoothing", None)
    loss, gradient = ops.nll_loss(logits, targets, **given)
    wanted, dwanted = reference.nll_loss(logits.astype(np.float64), targets, **exact)
    assert_close("losses", loss, wanted, dtype=dtype)
    assert_close("losses", gradient, dwanted)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_in_any_number_of_threads(
    options: dict[str, Any], isa: str, dtype: type, threads: int, rng: np.random.Generator
) -> None:
    logits, targets = rng.standard_normal((301, 101)).astype(dtype), rng.integers(0, 101, 301)
    given = drawn(options, 101, dtype, rng)
    got = ops.cross_entropy(logits, targets, **given)
    ops.set_num_threads(1)
    assert_same_bits(ops.cross_entropy(logits, targets, **given), got)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, *OPTIONS.values()], ids=["plain", *OPTIONS])
def test_past_the_end_nothing_is_read(
    options: dict[str, Any], batch_first: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    lengths = np.array([2, 5, 1])
    logits, targets = rng.standard_normal((5, 3, 9)).astype(dtype), rng.integers(0, 9, (5, 3))
    inside = np.arange(5)[:, None] < lengths
    given = drawn(options, 9, dtype, rng)
    flat = {kind: getattr(ops, kind)(logits[inside], targets[inside], **_for(kind, given)) for kind in KINDS}
    logits[~inside], targets[~inside] = NAN, -100
    if batch_first:
        logits, targets = logits.swapaxes(0, 1), targets.T
        inside = inside.T
    for kind in KINDS:
        more = {"lengths": lengths, "batch_first": batch_first} | _for(kind, given)
        loss, gradient = getattr(ops, kind)(logits, targets, **more)
        wanted = getattr(reference, kind)(logits, targets, **more)
        assert_close("cross_entropy", (loss, gradient), wanted, dtype=dtype)
        assert_close("cross_entropy", loss, flat[kind][0], dtype=dtype)
        assert not gradient[~inside].any()
        each, _ = getattr(ops, kind)(logits, targets, **more, reduction="none")
        assert not each[~inside].any()


KINDS = ("cross_entropy", "nll_loss")


def _for(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "label_smoothing" or kind == "cross_entropy"}


def test_smoothing_with_special_logits_like_torch(isa: str, dtype: type) -> None:
    torch = pytest.importorskip("torch")
    logits = np.array([[1, 2, 3], [-INF, 0, 1], [0, NAN, 1], [INF, 0, 0], [3e38, -3e38, 0]], dtype)
    targets = np.array([0, 1, 2, 0, 0])
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(x, torch.tensor(targets), label_smoothing=0.1, reduction="none")
    theirs[[0, 1, 2, 3]].sum().backward()
    loss, dlogits = ops.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    assert_close("cross_entropy", loss[:4], theirs.detach().numpy()[:4])
    assert_close("cross_entropy", dlogits[:4], x.grad.numpy()[:4])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"weight": np.ones(4)}, ShapeError, r"'weight' must have shape \(V=3,\), got \(4,\)"),
        ({"weight": np.ones(3, "f4")}, DTypeError, "'weight' must have dtype float64, got float32"),
        ({"label_smoothing": 1.5}, ArgumentError, r"'label_smoothing' must be a finite number in \[0, 1\], got 1.5"),
        ({"reduction": None}, ArgumentError, "'reduction' must be one of 'mean', 'sum', 'none', got None"),
        ({"batch_first": 1}, ArgumentError, "'batch_first' must be True or False, got 1"),
        ({"lengths": [2, 2, 6]}, LengthsError, r"'lengths' must be in 1\.\.T=5, got 6"),
        ({"lengths": [1] * 5}, ShapeError, r"'lengths' must have shape \(N=3,\), got \(5,\)"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    for kind in KINDS:
        if kind == "cross_entropy" or "label_smoothing" not in options:
            with pytest.raises(error, match=f"^{kind}: {text}"):
                getattr(ops, kind)(np.zeros((5, 3, 3)), np.zeros((5, 3), int), **options)
    with pytest.raises(LengthsError, match=r"'lengths' must be None without a batch of sequences, got targets \(5,\)"):
        ops.cross_entropy(np.zeros((5, 3)), np.zeros(5, int), lengths=[5])
    with pytest.raises(ShapeError, match=r"'targets' must have shape \(5, 3\), got \(3, 5\)"):
        ops.cross_entropy(np.zeros((5, 3, 3)), np.zeros((3, 5), int), lengths=[5, 5, 5])


@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 4, 5), (0,), (2, 0)], ids=str)
def test_mse_loss_equals_reference(shape: tuple[int, ...], dtype: type, rng: np.random.Generator) -> None:
    prediction, target = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    loss, gradient = ops.mse_loss(prediction, target)
    wanted, dwanted = reference.mse_loss(prediction.astype(np.float64), target.astype(np.float64))
    assert type(loss) is float
    assert gradient.dtype == dtype
    assert_close("mse_loss", loss, wanted, dtype=dtype)
    assert_close("mse_loss", gradient, dwanted)


def test_mse_loss_of_special_values(dtype: type) -> None:
    prediction, target = np.array([1, NAN, INF, INF, 2], dtype), np.array([1, 0, 0, INF, -INF], dtype)
    loss, gradient = ops.mse_loss(prediction, target)
    assert np.isnan(loss)
    assert_close("exact", gradient, np.array([0, NAN, INF, NAN, INF], dtype))


def test_mse_loss_of_any_memory_layout(rng: np.random.Generator) -> None:
    prediction, target = rng.standard_normal((2, 4, 5))
    wanted = ops.mse_loss(prediction, target)
    for name, array in layouts(prediction).items():
        assert_same_bits(ops.mse_loss(array, target), wanted, f" with prediction {name}")
    for name, array in layouts(target).items():
        assert_same_bits(ops.mse_loss(prediction, array), wanted, f" with target {name}")
