"""How close results must be: one table, operation x dtype, each line with its reason.

A result passes when ``abs(actual - desired) <= atol * max(1, max(abs(desired))) + rtol * abs(desired)``, elementwise:
`atol` covers sums, whose error follows their largest terms, and `rtol` what is computed from one element alone.
NaN equals NaN, infinities equal infinities of their sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike


class Tolerance(NamedTuple):
    """Allowed relative and absolute error."""

    rtol: float
    atol: float


# Unit roundoff u: 6.0e-8 for float32, 1.1e-16 for float64. The suite's sums have at most a few hundred terms of order 1
# with random signs, so that their error stays below about 20 u of the largest.
TOLERANCES: dict[tuple[str, str], Tolerance] = {
    # Taken from the inputs without arithmetic.
    ("exact", "float32"): Tolerance(0, 0),
    ("exact", "float64"): Tolerance(0, 0),
    ("exact", "int64"): Tolerance(0, 0),
    # At most 4 ULP (one ULP is up to 2 u of the value); float64 goes through the C or NumPy library, within 4 ULP too.
    ("exp", "float32"): Tolerance(5e-7, 0),
    ("exp", "float64"): Tolerance(1e-15, 0),
    ("sigmoid", "float32"): Tolerance(5e-7, 0),
    ("sigmoid", "float64"): Tolerance(1e-15, 0),
    ("tanh", "float32"): Tolerance(5e-7, 0),
    ("tanh", "float64"): Tolerance(1e-15, 0),
    # A handful of roundings of terms of at most a few times the result; what is near a zero of the function follows `atol`.
    ("activation", "float32"): Tolerance(1e-6, 5e-7),
    ("activation", "float64"): Tolerance(2e-15, 1e-15),
    # Slopes are such sums as 1 - tanh**2, with an error of some u of 1; dy multiplies it.
    ("activation_vjp", "float32"): Tolerance(3e-6, 3e-6),
    ("activation_vjp", "float64"): Tolerance(6e-15, 6e-15),
    # Subtracting the row maximum leaves errors of u * abs(x) in the exponents; then a sum over at most 20000 terms.
    ("softmax", "float32"): Tolerance(1e-5, 1e-6),
    ("softmax", "float64"): Tolerance(2e-14, 2e-15),
    # Sums over features in the exponent of a softmax, then over at most some dozens of steps and queries.
    ("attention", "float32"): Tolerance(5e-6, 5e-6),
    ("attention", "float64"): Tolerance(1e-14, 1e-14),
    # One sum of at most 300 products.
    ("gemm", "float32"): Tolerance(1e-6, 2e-6),
    ("gemm", "float64"): Tolerance(2e-15, 4e-15),
    ("linear_forward", "float32"): Tolerance(1e-6, 2e-6),
    ("linear_forward", "float64"): Tolerance(2e-15, 4e-15),
    ("linear_vjp", "float32"): Tolerance(1e-6, 2e-6),
    ("linear_vjp", "float64"): Tolerance(2e-15, 4e-15),
    # Sums of at most 900 products, and over at most 10500 pixels for the parameters; a gain and an activation follow.
    ("conv_forward", "float32"): Tolerance(2e-6, 4e-6),
    ("conv_forward", "float64"): Tolerance(4e-15, 8e-15),
    ("conv_vjp", "float32"): Tolerance(5e-6, 1e-5),
    ("conv_vjp", "float64"): Tolerance(1e-14, 2e-14),
    # Sums of transformed values up to ten times the inputs: the relative rms error is below 1.2e-6 (2.2e-15), the largest of
    # thousands of errors five times that.
    ("winograd", "float32"): Tolerance(0, 6e-6),
    ("winograd", "float64"): Tolerance(0, 1.2e-14),
    # A sum over the positions of one token.
    ("embedding_vjp", "float32"): Tolerance(1e-6, 1e-6),
    ("embedding_vjp", "float64"): Tolerance(2e-15, 2e-15),
    # A sum over at most 40 rows, a factor, and gradients that are sums of products of rows.
    ("embedding_bag", "float32"): Tolerance(2e-6, 2e-6),
    ("embedding_bag", "float64"): Tolerance(4e-15, 4e-15),
    # One sum of at most 2200 terms of random signs, and of as many shares of gradients.
    ("pool_forward", "float32"): Tolerance(1e-6, 2e-6),
    ("pool_forward", "float64"): Tolerance(2e-15, 4e-15),
    ("pool_vjp", "float32"): Tolerance(1e-6, 2e-6),
    ("pool_vjp", "float64"): Tolerance(2e-15, 4e-15),
    # A root of a sum of powers, each within some ULP, and slopes from both.
    ("lp_pool", "float32"): Tolerance(5e-6, 5e-6),
    ("lp_pool", "float64"): Tolerance(1e-14, 1e-14),
    # Two sums of at most 40000 terms, added in blocks, and a handful of roundings for each element. Gradients of the parameters are
    # sums of as many terms; of dx, three terms that may nearly cancel.
    ("norm_forward", "float32"): Tolerance(2e-6, 2e-6),
    ("norm_forward", "float64"): Tolerance(5e-15, 5e-15),
    ("norm_vjp", "float32"): Tolerance(1e-5, 1e-5),
    ("norm_vjp", "float64"): Tolerance(5e-14, 5e-14),
    # The error of the pre-activations' sums, carried over at most 10 steps. A ReLU layer does not damp it.
    ("rnn_forward", "float32"): Tolerance(2e-6, 5e-6),
    ("rnn_forward", "float64"): Tolerance(4e-15, 1e-14),
    ("lstm_forward", "float32"): Tolerance(2e-6, 3e-6),
    ("lstm_forward", "float64"): Tolerance(4e-15, 6e-15),
    ("gru_forward", "float32"): Tolerance(2e-6, 3e-6),
    ("gru_forward", "float64"): Tolerance(4e-15, 6e-15),
    # As forward, then the same number of steps back, and sums over T * N for the weights.
    ("rnn_vjp", "float32"): Tolerance(1e-5, 1e-5),
    ("rnn_vjp", "float64"): Tolerance(2e-14, 2e-14),
    ("lstm_vjp", "float32"): Tolerance(1e-5, 1e-5),
    ("lstm_vjp", "float64"): Tolerance(2e-14, 2e-14),
    ("gru_vjp", "float32"): Tolerance(1e-5, 1e-5),
    ("gru_vjp", "float64"): Tolerance(2e-14, 2e-14),
    # Subtracting the row maximum leaves errors of u * abs(logit) in the exponents; a mean over the positions follows.
    ("cross_entropy", "float32"): Tolerance(2e-6, 1e-6),
    ("cross_entropy", "float64"): Tolerance(4e-15, 2e-15),
    ("mse_loss", "float32"): Tolerance(2e-6, 1e-6),
    ("mse_loss", "float64"): Tolerance(4e-15, 2e-15),
    # Some ULP of an element, or a sum of at most a few hundred such.
    ("losses", "float32"): Tolerance(2e-6, 1e-6),
    ("losses", "float64"): Tolerance(4e-15, 2e-15),
    # Sums over all alignments of at most some hundred steps, each a handful of roundings; float32 logits are taken as they are.
    ("ctc_loss", "float32"): Tolerance(2e-6, 2e-6),
    ("ctc_loss", "float64"): Tolerance(1e-12, 1e-13),
    # A handful of roundings per step, over at most 10 steps.
    ("sgd_step", "float32"): Tolerance(2e-6, 1e-6),
    ("sgd_step", "float64"): Tolerance(4e-15, 2e-15),
    ("adam_step", "float32"): Tolerance(5e-6, 2e-6),
    ("adam_step", "float64"): Tolerance(1e-14, 4e-15),
    # As Adam; a quotient of two roots, or a root of a difference, follows.
    ("adamw_step", "float32"): Tolerance(5e-6, 2e-6),
    ("adamw_step", "float64"): Tolerance(1e-14, 4e-15),
    ("rmsprop_step", "float32"): Tolerance(5e-6, 5e-6),
    ("rmsprop_step", "float64"): Tolerance(1e-14, 1e-14),
    ("adagrad_step", "float32"): Tolerance(5e-6, 2e-6),
    ("adagrad_step", "float64"): Tolerance(1e-14, 4e-15),
    ("adadelta_step", "float32"): Tolerance(5e-6, 2e-6),
    ("adadelta_step", "float64"): Tolerance(1e-14, 4e-15),
    # Central differences with step 6e-6: truncation about step**2 = 4e-11 and rounding about u / step = 2e-11, each times
    # derivatives and sums of order 10.
    ("finite_difference", "float64"): Tolerance(1e-8, 2e-9),
}


def tolerance(operation: str, dtype: DTypeLike) -> Tolerance:
    """Return the tolerance of an operation in a dtype."""
    return TOLERANCES[operation, np.dtype(dtype).name]


def assert_close(operation: str, actual: Any, desired: Any, *, dtype: DTypeLike | None = None, where: str = "") -> None:
    """Assert that `actual` equals `desired` (often computed in float64) within the tolerance of an operation.

    Both may be arrays, numbers, or tuples, lists and mappings of these. `dtype` is the one of `actual` unless given;
    give it for a Python float that was computed in float32.
    """
    if isinstance(desired, Mapping):
        assert set(actual) == set(desired), f"{operation}{where}: keys {sorted(actual)}, expected {sorted(desired)}"
        for name in desired:
            assert_close(operation, actual[name], desired[name], dtype=dtype, where=f"{where}[{name!r}]")
    elif isinstance(desired, tuple | list):
        assert len(actual) == len(desired), f"{operation}{where}: {len(actual)} items, expected {len(desired)}"
        for index, (one_actual, one_desired) in enumerate(zip(actual, desired, strict=True)):
            assert_close(operation, one_actual, one_desired, dtype=dtype, where=f"{where}[{index}]")
    else:
        _assert_array_close(operation, np.asarray(actual), np.asarray(desired), dtype, where)


def assert_same_bits(actual: Any, desired: Any, where: str = "") -> None:
    """Assert that arrays, or tuples, lists and mappings of arrays, have the same shapes, types and bits.

    Stricter than `assert_close` with "exact": the sign of a zero counts.
    """
    if isinstance(desired, Mapping):
        assert set(actual) == set(desired), f"bits{where}: keys {sorted(actual)}, expected {sorted(desired)}"
        for name in desired:
            assert_same_bits(actual[name], desired[name], f"{where}[{name!r}]")
    elif isinstance(desired, tuple | list):
        assert len(actual) == len(desired), f"bits{where}: {len(actual)} items, expected {len(desired)}"
        for index, (one_actual, one_desired) in enumerate(zip(actual, desired, strict=True)):
            assert_same_bits(one_actual, one_desired, f"{where}[{index}]")
    else:
        got, wanted = np.asarray(actual), np.asarray(desired)
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), f"bits{where}: {got.dtype} {got.shape}"
        if got.tobytes() != wanted.tobytes():
            np.testing.assert_array_equal(got, wanted, err_msg=f"bits{where}")
            raise AssertionError(f"bits{where}: equal values, but other signs of zero or other NaN")


def _assert_array_close(
    operation: str, actual: np.ndarray[Any, Any], desired: np.ndarray[Any, Any], dtype: DTypeLike | None, where: str
) -> None:
    message = f"{operation}{where}"
    assert actual.shape == desired.shape, f"{message}: shape {actual.shape}, expected {desired.shape}"
    rtol, atol = tolerance(operation, actual.dtype if dtype is None else dtype)
    scale = np.abs(desired[np.isfinite(desired)]).max(initial=1.0)
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol * scale, equal_nan=True, err_msg=message)
