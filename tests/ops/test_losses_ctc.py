"""The compiled CTC loss equals the float64 reference, also over thousands of steps, and refuses bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Array, layouts
from tolerances import assert_close, assert_same_bits

from fastrnn import ops, reference
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError

NAN, INF = np.nan, np.inf


def assert_equals_reference(logits: Array, *arguments: Any, **options: Any) -> tuple[Any, Array]:
    loss, dlogits = ops.ctc_loss(logits, *arguments, **options)
    wanted, dwanted = reference.ctc_loss(logits.astype(np.float64), *arguments, **options)
    assert (dlogits.dtype, dlogits.shape) == (logits.dtype, logits.shape)
    assert_close("ctc_loss", loss, wanted, dtype=logits.dtype)
    assert_close("ctc_loss", dlogits, dwanted)
    return loss, dlogits


def ragged(rng: np.random.Generator, dtype: Any, N: int = 5) -> tuple[Array, Array, Array, Array]:
    """Return logits of 9 steps and 7 classes, targets with repeats, and lengths of both."""
    logits = (2 * rng.standard_normal((9, N, 7))).astype(dtype)
    targets = rng.integers(1, 4, (N, 4))
    ends = rng.integers(0, 5, N)
    return logits, targets, np.clip(2 * ends + rng.integers(0, 3, N), 1, 9), ends


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equals_reference(
    reduction: str, from_logits: bool, zero_infinity: bool, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    logits, *rest = ragged(rng, dtype)
    rest[1][0], rest[2][0] = 2, 3  # cannot be
    options = {"reduction": reduction, "from_logits": from_logits, "zero_infinity": zero_infinity}
    _, dlogits = assert_equals_reference(logits, *rest, **options)
    assert np.isfinite(dlogits).all() == zero_infinity
    for n, end in enumerate(rest[1]):
        assert not dlogits[end:, n].any()


def test_targets_one_after_another_and_single_sequences(isa: str, dtype: type, rng: np.random.Generator) -> None:
    logits, targets, inputs, ends = ragged(rng, dtype)
    loss, dlogits = ops.ctc_loss(logits, targets, inputs, ends, reduction="none", blank=0)
    flat = np.concatenate([row[:end] for row, end in zip(targets, ends, strict=True)])
    assert_same_bits(ops.ctc_loss(logits, flat, inputs, ends, reduction="none"), (loss, dlogits))
    for n in range(5):
        one, done = ops.ctc_loss(logits[:, n], targets[n], inputs[n], ends[n], reduction="none")
        assert_same_bits((one, done), (loss[n], dlogits[:, n]))
        alone, dalone = ops.ctc_loss(logits[: inputs[n], n], targets[n, : ends[n]], reduction="none")
        assert_same_bits((alone, dalone), (loss[n], dlogits[: inputs[n], n]))


def test_padding_is_not_read(isa: str, dtype: type, rng: np.random.Generator) -> None:
    logits, targets, inputs, ends = ragged(rng, dtype)
    wanted = ops.ctc_loss(logits, targets, inputs, ends)
    for n in range(5):
        logits[inputs[n] :, n], targets[n, ends[n] :] = NAN, -100
    assert_same_bits(ops.ctc_loss(logits, targets, inputs, ends), wanted)


def test_any_number_of_threads(isa: str, dtype: type, threads: int, rng: np.random.Generator) -> None:
    logits, targets = rng.standard_normal((40, 13, 30)).astype(dtype), rng.integers(1, 30, (13, 12))
    got = assert_equals_reference(logits, targets, reduction="sum")
    ops.set_num_threads(1)
    assert_same_bits(ops.ctc_loss(logits, targets, reduction="sum"), got)


def test_far_below_the_smallest_double(isa: str, rng: np.random.Generator) -> None:
    """Likelihoods of e^-20000 and of less on the way. The reference's logarithms have errors of 4e-12 there."""
    logits, targets = 40 * rng.standard_normal((600, 1, 5)), rng.integers(1, 5, (1, 90))
    loss, dlogits = ops.ctc_loss(logits, targets, reduction="sum")
    wanted, dwanted = reference.ctc_loss(logits, targets, reduction="sum")
    assert loss > 10_000
    np.testing.assert_allclose(loss, wanted, rtol=1e-14)
    np.testing.assert_allclose(dlogits, dwanted, rtol=0, atol=3e-11)


def test_peaks_like_a_trained_model(isa: str, dtype: type) -> None:
    """One alignment is certain, up to e^-800: the loss is next to nothing, and so is the gradient."""
    targets = np.array([[1, 2, 2, 3]])
    path = [0, 1, 1, 0, 2, 0, 2, 3, 0]
    logits = np.zeros((9, 1, 4), dtype)
    logits[np.arange(9), 0, path] = 800
    loss, dlogits = ops.ctc_loss(logits, targets, reduction="sum")
    assert loss == pytest.approx(0, abs=1e-12)
    assert abs(dlogits).max() < 1e-6


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("place", [0, 2, 6])
def test_special_logits_stay_in_their_sample(
    value: float, place: int, isa: str, dtype: type, rng: np.random.Generator
) -> None:
    """A probability of zero has gradient zero, where PyTorch has NaN."""
    logits, targets, inputs, ends = ragged(rng, dtype)
    clean = ops.ctc_loss(logits, targets, inputs, ends, reduction="none")
    logits[0, 2, place] = value
    loss, dlogits = assert_equals_reference(logits, targets, inputs, ends, reduction="none")
    others = [0, 1, 3, 4]
    assert_same_bits((loss[others], dlogits[:, others]), (clean[0][others], clean[1][:, others]))
    if value != -INF:
        assert np.isnan(dlogits[: inputs[2], 2]).all()


def test_shapes(isa: str, dtype: type) -> None:
    loss, dlogits = ops.ctc_loss(np.zeros((4, 0, 3), dtype), np.zeros((0, 2), int))
    assert np.isnan(loss)
    assert dlogits.shape == (4, 0, 3)
    loss, dlogits = ops.ctc_loss(np.zeros((1, 1, 1), dtype), np.zeros((1, 0), int))
    assert loss == 0
    assert_close("exact", dlogits, np.zeros((1, 1, 1), dtype))


@pytest.mark.parametrize("argument", [0, 1])
def test_any_memory_layout(argument: int, rng: np.random.Generator) -> None:
    given = list(ragged(rng, np.float64))
    wanted = ops.ctc_loss(*given)
    for name, array in layouts(given[argument]).items():
        changed = [*given[:argument], array, *given[argument + 1 :]]
        assert_same_bits(ops.ctc_loss(*changed), wanted, f" with argument {argument} {name}")


X, Y = np.zeros((5, 2, 4)), np.array([[1, 2, 3], [3, 2, 1]])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((X[0, 0], Y), {}, ShapeError, r"'logits' must have shape \(T, N, V\), got \(4,\)"),
        ((X.astype(int), Y), {}, DTypeError, "'logits' must have dtype float32 or float64, got int64"),
        ((X[:0], Y), {}, ShapeError, r"'logits' must have at least one step, got shape \(0, 2, 4\)"),
        ((X, Y[0]), {}, ShapeError, r"'targets' must have shape \(N=2, S\), or one axis .*, got \(3,\)"),
        ((X, Y[:1]), {}, ShapeError, r"'targets' must have shape \(N=2, S\), got \(1, 3\)"),
        ((X[:, 0], Y), {}, ShapeError, r"'targets' must have shape \(S,\), got \(2, 3\)"),
        ((X, Y[0], None, [1, 1]), {}, ShapeError, r"'targets' must have shape \(2,\), the sum .*, got \(3,\)"),
        ((X, Y + 1), {}, TokenError, r"'targets' must be in 0\.\.3, got 4"),
        ((X, Y - 1), {}, ArgumentError, "'targets' must be other than the blank, got 0"),
        ((X, Y / 1), {}, DTypeError, "'targets' must have an integer dtype, got float64"),
        ((X, [[1, 2], [3]]), {}, ShapeError, "'targets' must be a rectangular array, got list"),
        ((X, Y, [5, 0]), {}, LengthsError, r"'input_lengths' must be in 1\.\.5, got 0"),
        ((X, Y, [5, 6]), {}, LengthsError, r"'input_lengths' must be in 1\.\.5, got 6"),
        ((X, Y, [5]), {}, ShapeError, r"'input_lengths' must have shape \(N=2,\), got \(1,\)"),
        ((X, Y, None, [3, 4]), {}, LengthsError, r"'target_lengths' must be in 0\.\.3, got 4"),
        ((X, Y), {"blank": 4}, TokenError, r"'blank' must be in 0\.\.3, got 4"),
        ((X, Y), {"blank": -1}, ArgumentError, "'blank' must be a non-negative int, got -1"),
        ((X, Y), {"reduction": "max"}, ArgumentError, "'reduction' must be one of 'mean', 'sum', 'none', got 'max'"),
        ((X, Y), {"zero_infinity": 1}, ArgumentError, "'zero_infinity' must be True or False, got 1"),
    ],
)
def test_bad_input(arguments: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^ctc_loss: {text}"):
        ops.ctc_loss(*arguments, **options)
