"""The checks of user input: what passes unchanged, what is converted, what is refused and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastrnn import _checks as checks
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError


def message(error: type[Exception], function: Any, *arguments: Any, **options: Any) -> str:
    """Return the message of the error that the call raises."""
    with pytest.raises(error) as caught:
        function("Layer", *arguments, **options)
    return str(caught.value)


# as_array


def test_fitting_arrays_pass_uncopied(dtype: Any) -> None:
    array = np.ones((3, 4, 5), dtype)
    assert checks.as_array("Layer", "x", array, dtype) is array
    for view in (array[::2], array[::-1], array.swapaxes(0, 1), array[:, :, 1:3], np.broadcast_to(array[0], (2, 4, 5))):
        assert np.shares_memory(checks.as_array("Layer", "x", view, dtype), array)
    assert checks.as_array("Layer", "x", array[0, 0, 0], dtype).shape == ()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[..., ::2],
        lambda a: a[..., ::-1],
        lambda a: a.T,
        lambda a: np.broadcast_to(a[..., :1], a.shape),
        np.asfortranarray,
    ],
)
def test_the_last_axis_becomes_contiguous(view: Any, dtype: Any) -> None:
    array = view(np.arange(24, dtype=dtype).reshape(2, 3, 4))
    result = checks.as_array("Layer", "x", array, dtype)
    assert_array_equal(result, array)
    assert result.strides[-1] == result.itemsize


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (3, 1), ()])
def test_small_arrays(shape: tuple[int, ...], dtype: Any) -> None:
    assert checks.as_array("Layer", "x", np.ones(shape, dtype), dtype).shape == shape


def test_foreign_byte_order_and_alignment(dtype: Any) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    foreign = array.astype(array.dtype.newbyteorder("S"))
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(dtype).reshape(2, 3)
    unaligned[...] = array
    for value in (foreign, unaligned):
        result = checks.as_array("Layer", "x", value, dtype)
        assert_array_equal(result, array)
        assert result.dtype == dtype
        assert result.flags.aligned


def test_lists_are_converted(dtype: Any) -> None:
    for value in ([[1.5, 2.0]], ((1.5, 2.0),), [(1, 2)], [np.array([1.5, 2.0])]):
        result = checks.as_array("Layer", "x", value, dtype)
        assert result.dtype == dtype
        assert result.shape == (1, 2)


def test_subclasses_of_arrays() -> None:
    class Own(np.ndarray[Any, Any]):
        """An array of another class."""

    array = np.ones((2, 3))
    result = checks.as_array("Layer", "x", array.view(Own), np.float64)
    assert type(result) is np.ndarray
    assert np.shares_memory(result, array)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones(2, np.float32), "float32"),
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, int), "int64"),
        (np.ones(2, bool), "bool"),
        (np.ones(2, complex), "complex128"),
        ([True, False], "bool"),
        ([1j], "complex128"),
        (None, "NoneType"),
        ("text", "<U4"),
        ({}, "dict"),
        ([None], "list"),
    ],
)
def test_no_silent_casts(value: Any, got: str) -> None:
    assert message(DTypeError, checks.as_array, "x", value, np.float64) == (
        f"Layer: 'x' must have dtype float64, got {got}"
    )


def test_ragged_lists() -> None:
    text = message(ShapeError, checks.as_array, "x", [[1.0], [1.0, 2.0]], np.float64)
    assert text.startswith("Layer: 'x' must be a rectangular array, got list")


def test_what_numpy_cannot_view() -> None:
    class Stubborn:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise TypeError("on another device")

    text = message(DTypeError, checks.as_array, "x", Stubborn(), np.float64)
    assert text == "Layer: 'x' must be an array, got Stubborn (on another device)"


def test_as_fitting() -> None:
    array = np.ones((2, 3))
    assert checks.as_fitting("Layer", "x", array, (2, 3), np.float64) is array
    text = message(ShapeError, checks.as_fitting, "x", array, (3, 2), np.float64)
    assert text == "Layer: 'x' must have shape (3, 2), got (2, 3)"


# check_shape


@pytest.mark.parametrize(
    ("shape", "spec", "sizes"),
    [
        ((10, 32, 64), "(T, N, C)", {"C": 64}),
        ((10, 32, 64), "(T, N, C)", {}),
        ((10, 32, 64), "(T, N, C)", {"T": 10, "N": 32, "C": 64}),
        ((0, 0, 64), "(T, N, C)", {"C": 64}),
        ((3,), "(N)", {"N": 3}),
        ((3,), "(N,)", {"N": 3}),
        ((), "()", {}),
        ((5,), "(..., C)", {"C": 5}),
        ((1, 2, 3, 5), "(..., C)", {"C": 5}),
    ],
)
def test_fitting_shapes(shape: tuple[int, ...], spec: str, sizes: dict[str, int]) -> None:
    checks.check_shape("Layer", "x", np.empty(shape), spec, **sizes)


@pytest.mark.parametrize(
    ("shape", "spec", "sizes", "expected"),
    [
        ((10, 32, 63), "(T, N, C)", {"C": 64}, "(T, N, C=64)"),
        ((10, 64), "(T, N, C)", {"C": 64}, "(T, N, C=64)"),
        ((1, 2, 3, 64), "(T, N, C)", {"C": 64}, "(T, N, C=64)"),
        ((4,), "(N)", {"N": 3}, "(N=3,)"),
        ((), "(N,)", {}, "(N,)"),
        ((1,), "()", {}, "()"),
        ((4,), "(..., C)", {"C": 5}, "(..., C=5)"),
        ((), "(..., C)", {"C": 5}, "(..., C=5)"),
        ((5, 4), "(..., N, C)", {"C": 5}, "(..., N, C=5)"),
        ((2, 3), "(D*num_layers, H)", {"D*num_layers": 4, "H": 3}, "(D*num_layers=4, H=3)"),
    ],
)
def test_unfit_shapes(shape: tuple[int, ...], spec: str, sizes: dict[str, int], expected: str) -> None:
    text = message(ShapeError, checks.check_shape, "x", np.empty(shape), spec, **sizes)
    assert text == f"Layer: 'x' must have shape {expected}, got {shape}"


# Lengths and tokens


@pytest.mark.parametrize("kind", ["i1", "u2", "i8", "u8", ">i4"])
def test_lengths(kind: str) -> None:
    result = checks.as_lengths("Layer", np.array([3, 1, 5], kind), 3, 5)
    assert_array_equal(result, [3, 1, 5])
    assert result.dtype == np.int64
    assert result.dtype.isnative


def test_lengths_of_nothing() -> None:
    assert checks.as_lengths("Layer", [], 0, 5).dtype == np.int64
    assert checks.as_lengths("Layer", np.zeros(0, int), 0, 0).shape == (0,)


@pytest.mark.parametrize(
    ("error", "value", "text"),
    [
        (LengthsError, [1, 0, 2], "must be in 1..T=5, got 0"),
        (LengthsError, [1, 6, 2], "must be in 1..T=5, got 6"),
        (LengthsError, [-3, 1, 2], "must be in 1..T=5, got -3"),
        (LengthsError, np.array([1, 2, 2**64 - 1], np.uint64), f"must be in 1..T=5, got {2**64 - 1}"),
        (ShapeError, [1, 2], "must have shape (N=3,), got (2,)"),
        (ShapeError, [[1, 2, 3]], "must have shape (N=3,), got (1, 3)"),
        (ShapeError, 3, "must have shape (N=3,), got ()"),
        (DTypeError, [1.0, 2.0, 3.0], "must have an integer dtype, got float64"),
        (DTypeError, [True] * 3, "must have an integer dtype, got bool"),
        (DTypeError, "abc", "must have an integer dtype, got <U3"),
        (DTypeError, [None] * 3, "must have an integer dtype, got list"),
        (DTypeError, np.zeros(0), "must have an integer dtype, got float64"),
    ],
)
def test_bad_lengths(error: type[Exception], value: Any, text: str) -> None:
    assert message(error, checks.as_lengths, value, 3, 5) == f"Layer: 'lengths' {text}"


def test_tokens() -> None:
    tokens = np.array([[0, 6], [3, 1]])
    assert checks.as_tokens("Layer", "tokens", tokens, 7) is tokens
    result = checks.as_tokens("Layer", "tokens", tokens[:, ::-1].astype(">u2"), 7)
    assert_array_equal(result, tokens[:, ::-1])
    assert result.dtype == np.int64
    assert result.flags.c_contiguous
    assert checks.as_tokens("Layer", "tokens", tokens.T, 7).flags.c_contiguous
    assert checks.as_tokens("Layer", "tokens", [[]], 7).shape == (1, 0)


def test_tokens_beside_the_range() -> None:
    assert_array_equal(checks.as_tokens("Layer", "targets", [0, -100, 6], 7, besides=-100), [0, -100, 6])
    assert message(TokenError, checks.as_tokens, "targets", [0, -1], 7, besides=-100) == (
        "Layer: 'targets' must be in 0..6 or -100, got -1"
    )


@pytest.mark.parametrize("value", [[7], [-1], [2, 1000], [np.iinfo(np.int64).min]])
def test_tokens_out_of_range(value: list[int]) -> None:
    expected = f"Layer: 'tokens' must be in 0..6, got {value[-1]}"
    assert message(TokenError, checks.as_tokens, "tokens", value, 7) == expected


# Plain values


def test_ints() -> None:
    assert checks.positive_int("Layer", "size", 3) == 3
    assert type(checks.positive_int("Layer", "size", np.int32(3))) is int
    assert checks.plain_int("Layer", "size", 0, 0) == 0
    assert checks.plain_int("Layer", "size", -7) == -7
    for bad in (0, -1, True, 2.0, "2", None, np.array(2), np.True_):
        text = message(ArgumentError, checks.positive_int, "size", bad)
        assert text == f"Layer: 'size' must be a positive int, got {bad!r}"
    assert "a non-negative int" in message(ArgumentError, checks.plain_int, "size", -1, 0)
    assert "an int, got 1.5" in message(ArgumentError, checks.plain_int, "size", 1.5)


def test_floats() -> None:
    assert checks.finite_float("Layer", "p", 1) == 1.0
    assert type(checks.finite_float("Layer", "p", np.float32(0.5))) is float
    numbers: list[Any] = [np.nan, np.inf, True, "1", None, [1], 10**400]
    for bad in numbers:
        assert "'p' must be a finite number, got" in message(ArgumentError, checks.finite_float, "p", bad)
    assert message(ArgumentError, checks.finite_float, "p", 2, 0, 1) == (
        "Layer: 'p' must be a finite number in [0, 1], got 2"
    )
    assert message(ArgumentError, checks.finite_float, "p", -1, 0) == (
        "Layer: 'p' must be a finite number >= 0, got -1"
    )


def test_flags_and_choices() -> None:
    assert checks.flag("Layer", "bias", np.True_) is True
    assert message(ArgumentError, checks.flag, "bias", 1) == "Layer: 'bias' must be True or False, got 1"
    assert checks.choice("Layer", "kind", "a", ("a", "b")) == "a"
    assert message(ArgumentError, checks.choice, "kind", "c", ("a", "b")) == (
        "Layer: 'kind' must be one of 'a', 'b', got 'c'"
    )
    assert "got ['a']" in message(ArgumentError, checks.choice, "kind", ["a"], ("a", "b"))


def test_dtypes() -> None:
    for value in ("float32", "f4", np.float32, np.dtype("f4")):
        assert checks.as_dtype("Layer", value) is np.dtype(np.float32)
    assert checks.as_dtype("Layer", float) is np.dtype(np.float64)
    others: list[Any] = [np.float16, int, ">f4", "nonsense", None, 32, {}, np.zeros(2)]
    for bad in others:
        text = message(DTypeError, checks.as_dtype, bad)
        assert text.startswith("Layer: 'dtype' must be float32 or float64, got")


def test_generators() -> None:
    generator = np.random.default_rng(0)
    assert checks.as_generator("Layer", generator) is generator
    assert checks.as_generator("Layer", 5).random() == np.random.default_rng(5).random()
    assert checks.as_generator("Layer", None).random() != checks.as_generator("Layer", None).random()
    for bad in ("5", 1.5, True, -1, np.random.RandomState(0), np.array(5)):
        assert "'rng' must be None, a non-negative int or" in message(ArgumentError, checks.as_generator, bad)
