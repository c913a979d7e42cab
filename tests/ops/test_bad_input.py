"""Bad input: an exception that says who complains, about what, what was expected and what came; nothing has changed then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numeric import Array, RecurrentProblem
from shapes import GRU, LSTM, LSTM_PROJECTED, RNN_TANH, RecurrentSizes, Variant
from tolerances import assert_same_bits

from fastrnn import ops
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError

CELLS = (RNN_TANH, LSTM, LSTM_PROJECTED, GRU)
SIZES = T, N, C, H = RecurrentSizes(3, 4, 5, 6)
each_cell = pytest.mark.parametrize("variant", CELLS, ids=str)
each_call = pytest.mark.parametrize("call", ["forward", "vjp"])

WRONG_TYPES = {
    "float16": lambda array: array.astype(np.float16),
    "float32": lambda array: array.astype(np.float32),
    "longdouble": lambda array: array.astype(np.longdouble),
    "int64": lambda array: array.astype(int),
    "bool": lambda array: array.astype(bool),
    "complex128": lambda array: array.astype(complex),
    "object": lambda array: array.astype(object),
    "text": lambda array: array.astype(str),
    "NoneType": lambda _: None,
    "str": lambda _: "text",
    "dict": lambda _: {},
}


class Case(NamedTuple):
    """A value for an argument, the error it must raise, and what the message says about it."""

    value: Callable[[Array], Any]
    error: type[Exception]
    got: str


def wrong_shapes(*shapes: tuple[int, ...]) -> dict[str, Case]:
    return {f"shape {shape}": Case(partial(np.zeros, shape), ShapeError, str(shape)) for shape in shapes}


def refused(operation: str, argument: str, call: Callable[[], Any], error: type[Exception], got: str = "") -> None:
    """Assert that `call` raises `error` with a whole message."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{operation}: '{argument}"), message
    assert " must " in message, message
    assert ", got " in message, message
    assert got in message.rsplit(", got ", maxsplit=1)[-1], message


def problem_of(variant: Variant) -> RecurrentProblem:
    return RecurrentProblem.random(np.random.default_rng(5), variant, SIZES)


def start(variant: Variant, call: str, **changes: Any) -> Any:
    """Run a recurrent operation on the problem of a cell, with some arguments changed."""
    problem = problem_of(variant)
    given = {
        "x": problem.x,
        "params": problem.params,
        "state": problem.pack(problem.state),
        **variant.options,
        **changes,
    }
    return getattr(ops, f"{variant.cell}_{call}")(**given)


@each_cell
@each_call
@pytest.mark.parametrize("shape", [(T, N), (T, N, C + 1), (T, N, 0), (1, T, N, C), (), (0,)], ids=str)
def test_shape_of_x(variant: Variant, call: str, shape: tuple[int, ...]) -> None:
    refused(f"{variant.cell}_{call}", "x", lambda: start(variant, call, x=np.zeros(shape)), ShapeError, str(shape))


@each_cell
@each_call
@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_type_of_x(variant: Variant, call: str, kind: str) -> None:
    x = WRONG_TYPES[kind](problem_of(variant).x)
    refused(f"{variant.cell}_{call}", "x", lambda: start(variant, call, x=x), DTypeError)


@each_cell
@each_call
def test_ragged_lists(variant: Variant, call: str) -> None:
    x = [[[1.0] * C], [[1.0] * (C - 1)]]
    refused(f"{variant.cell}_{call}", "x", lambda: start(variant, call, x=x), ShapeError, "list")


@each_cell
@each_call
@pytest.mark.parametrize("part", [0, 1])
def test_state(variant: Variant, call: str, part: int) -> None:
    problem = problem_of(variant)
    if part >= len(problem.state):
        pytest.skip("the state is one array")
    right = problem.state[part]
    bad: list[tuple[Any, type[Exception]]] = [
        (right[:, :-1], ShapeError),
        (right[:-1], ShapeError),
        (right[0], ShapeError),
        (right[np.newaxis], ShapeError),
        *((change(right), DTypeError) for kind, change in WRONG_TYPES.items() if kind != "NoneType"),
    ]
    for value, error in bad:
        state = problem.pack(tuple(value if index == part else half for index, half in enumerate(problem.state)))
        call_it = partial(start, variant, call, state=state)
        refused(f"{variant.cell}_{call}", "hc"[part] + "0", call_it, error)


@pytest.mark.parametrize("variant", [LSTM, LSTM_PROJECTED], ids=str)
@each_call
def test_an_lstm_state_is_a_pair(variant: Variant, call: str) -> None:
    h, c = problem_of(variant).state
    for state, error in ((h, ShapeError), ((h,), ShapeError), ((h, c, c), ShapeError), (5, (ShapeError, DTypeError))):
        refused(f"lstm_{call}", "state", partial(start, variant, call, state=state), error)


BAD_LENGTHS: dict[str, tuple[Any, type[Exception], str]] = {
    "zero": ([1, 2, 0, 3], LengthsError, "0"),
    "negative": ([1, -2, 3, 3], LengthsError, "-2"),
    "longer than T": ([1, 2, 4, 3], LengthsError, "4"),
    "huge": (np.array([1, 2, 2**64 - 1, 3], np.uint64), LengthsError, "18446744073709551615"),
    "too few": ([1, 2, 3], ShapeError, "(3,)"),
    "too many": ([1, 2, 3, 1, 1], ShapeError, "(5,)"),
    "one number": (3, ShapeError, "()"),
    "two axes": ([[1, 2, 3, 1]], ShapeError, "(1, 4)"),
    "none": ([], ShapeError, "(0,)"),
    "fractions": ([1.0, 2.0, 3.0, 1.0], DTypeError, "float64"),
    "bools": ([True, True, True, True], DTypeError, "bool"),
    "text": (["1", "2", "3", "1"], DTypeError, ""),
    "objects": (np.array([1, 2, 3, 1], object), DTypeError, ""),
}


@each_cell
@each_call
@pytest.mark.parametrize("kind", BAD_LENGTHS)
def test_lengths(variant: Variant, call: str, kind: str) -> None:
    lengths, error, got = BAD_LENGTHS[kind]
    refused(f"{variant.cell}_{call}", "lengths", partial(start, variant, call, lengths=lengths), error, got)


@each_cell
@each_call
def test_lengths_without_any_step(variant: Variant, call: str) -> None:
    none = partial(start, variant, call, x=np.zeros((0, N, C)), lengths=[1] * N)
    refused(f"{variant.cell}_{call}", "lengths", none, LengthsError)


@each_cell
@pytest.mark.parametrize("call", ["forward", "vjp", "stream", "pack"])
def test_params(variant: Variant, call: str) -> None:
    problem = problem_of(variant)
    good, R = problem.params, variant.outputs(H)
    G = variant.gates * H
    operation = f"pack_{variant.cell}" if call == "pack" else f"{variant.cell}_{call}"

    def with_params(params: Any) -> Any:
        if call == "pack":
            return getattr(ops, operation)(params)
        return getattr(ops, operation)([params], 1) if call == "stream" else start(variant, call, params=params)

    for name in ("weight_ih", "weight_hh"):
        rest = {key: value for key, value in good.items() if key != name}
        with pytest.raises(
            ArgumentError, match=f"^{operation}: 'params' must have weight_ih, weight_hh .* missing: {name}"
        ):
            with_params(rest)
    for name in ("weight_xh", "weight_ih_l0", *(() if variant.cell == "lstm" else ("weight_hr",))):
        with pytest.raises(ArgumentError, match=f"^{operation}: 'params' must have .* unknown: {name}"):
            with_params(good | {name: good["weight_hh"]})
    for nothing in ({}, None, [], 5, "text", good["weight_ih"]):
        with pytest.raises((ArgumentError, DTypeError), match=f"^{operation}: 'params' must "):
            with_params(nothing)
    bad = {
        "weight_ih": [(G, C, 1), (G,), (), (0, C), (G, 0), (G - 1, C) if variant.gates > 1 else (0, 0)],
        "weight_hh": [(G, R + 1), (G + 1, R), (G,), (R, G), (G, 0), (1, G, R)],
        "bias_ih": [(G + 1,), (G, 1), (1,), (), (0,)],
        "bias_hh": [(G + 1,), (G, 1), (1,), (), (0,)],
    } | ({"weight_hr": [(R, H + 1), (H, R), (R,), ()]} if variant.projected else {})
    for name, shapes in bad.items():
        for shape in shapes:
            if shape != np.shape(good[name]):
                refused(operation, name, partial(with_params, good | {name: np.ones(shape)}), ShapeError)
        for kind, change in WRONG_TYPES.items():
            if name != "weight_ih" or kind != "float32":
                refused(operation, name, partial(with_params, good | {name: change(good[name])}), DTypeError)
    if variant.projected:  # nothing left to project to
        nothing_left = {"weight_hr": np.ones((0, H)), "weight_hh": np.ones((G, 0))}
        refused(operation, "weight_hr", partial(with_params, good | nothing_left), ShapeError, "(0, 6)")
    single = {key: value.astype(np.float32) for key, value in good.items()}
    if call in {"forward", "vjp"}:
        refused(operation, "x", partial(with_params, single), DTypeError, "float64")


@each_cell
@each_call
def test_packed_for_something_else(variant: Variant, call: str) -> None:
    problem, operation = problem_of(variant), f"{variant.cell}_{call}"
    packed = {
        "rnn": ops.pack_rnn(problem_of(RNN_TANH).params),
        "rnn relu": ops.pack_rnn(problem_of(RNN_TANH).params, "relu"),
        "lstm": ops.pack_lstm(problem_of(LSTM).params),
        "gru": ops.pack_gru(problem_of(GRU).params),
        "gru before": ops.pack_gru(problem_of(GRU).params, False),
        "linear": ops.pack_linear(problem.params["weight_ih"]),
    }
    for name, params in packed.items():
        if name != variant.cell:
            with pytest.raises((ArgumentError, DTypeError), match=f"^{operation}: 'params' must "):
                start(variant, call, params=params)
    pack = getattr(ops, f"pack_{variant.cell}")
    if call == "vjp":
        with pytest.raises(ArgumentError, match=f"^{operation}: 'params' must be packed with backward=True"):
            start(variant, call, params=pack(problem.params, backward=False))
    single = pack({name: value.astype(np.float32) for name, value in problem.params.items()})
    refused(operation, "x", partial(start, variant, call, params=single), DTypeError, "float64")


@each_call
def test_options(call: str) -> None:
    for value in ("cos", None, 3, "TANH"):
        options = {"nonlinearity": value}
        refused(f"rnn_{call}", "nonlinearity", partial(start, RNN_TANH, call, **options), ArgumentError, repr(value))
    for value in ("yes", None, 1, np.zeros(2)):
        refused(f"gru_{call}", "reset_after", partial(start, GRU, call, reset_after=value), ArgumentError)


@each_cell
@each_call
def test_out(variant: Variant, call: str) -> None:
    R = variant.outputs(H)
    fixed = np.zeros((T, N, R))
    fixed.flags.writeable = False
    bad: list[tuple[Any, Any]] = [
        (np.zeros((T, N, R + 1)), ShapeError),
        (np.zeros((N, T, R)), ShapeError),
        (np.zeros((T, N)), ShapeError),
        (np.zeros(()), ShapeError),
        (np.zeros((T, N, R), np.float32), DTypeError),
        (np.zeros((T, N, R), ">f8"), DTypeError),
        (np.zeros((T, N, R), int), DTypeError),
        (np.zeros((T, N, R)).tolist(), DTypeError),
        ("text", DTypeError),
        (fixed, (ArgumentError, DTypeError)),
        (np.broadcast_to(np.zeros(R), (T, N, R)), (ArgumentError, DTypeError)),
    ]
    for out, error in bad:
        refused(f"{variant.cell}_{call}", "out", partial(start, variant, call, out=out), error)
        assert not isinstance(out, np.ndarray) or not out.any()


@each_cell
def test_a_refused_pullback_changes_nothing_and_can_be_called_again(variant: Variant) -> None:
    problem, operation = problem_of(variant), f"{variant.cell}_vjp"
    wanted = problem.results(ops)
    R = variant.outputs(H)
    _, pullback = start(variant, "vjp")
    given = {name: np.ones_like(value) for name, value in problem.params.items()}
    dstate = problem.pack(problem.dstate)

    def attempt(argument: str, error: Any, *, dy: Any = problem.dy, state: Any = dstate, **grads: Any) -> None:
        refused(operation, argument, lambda: pullback(dy, state, grads=given | grads), error)
        assert all((grad == 1).all() for grad in given.values())

    for shape in ((T, N, R + 1), (N, T, R), (T, N), ()):
        attempt("dy", ShapeError, dy=np.zeros(shape))
    for kind, change in WRONG_TYPES.items():
        if kind != "NoneType":
            attempt("dy", DTypeError, dy=change(problem.dy))
    for index, part in enumerate(problem.dstate):
        for value, error in (
            (part[:, :-1], ShapeError),
            (part[:-1], ShapeError),
            (part.astype(np.float32), DTypeError),
        ):
            parts = tuple(value if index == other else half for other, half in enumerate(problem.dstate))
            attempt("", error, state=problem.pack(parts))
    if variant.cell == "lstm":
        for state in (problem.dstate[0], (*problem.dstate, problem.dstate[0]), 5):
            attempt("", (ShapeError, DTypeError), state=state)
    fixed = given["weight_hh"].copy()
    fixed.flags.writeable = False
    attempt("grads['weight_hh']", (ArgumentError, DTypeError), weight_hh=fixed)
    for value, error in (
        (given["weight_hh"][:, :-1], ShapeError),
        (np.ones(3), ShapeError),
        (given["weight_hh"].astype(np.float32), DTypeError),
        (given["weight_hh"].astype(">f8"), DTypeError),
        (given["weight_hh"].tolist(), DTypeError),
    ):
        attempt("grads['weight_hh']", error, weight_hh=value)
    for grads in ([1.0], 5, "text"):
        with pytest.raises((ArgumentError, DTypeError), match=f"^{operation}: 'grads' must "):
            pullback(problem.dy, dstate, grads=grads)
    dx, start_of, grads = pullback(problem.dy, dstate)
    assert_same_bits([dx, problem.unpack(start_of), grads], [wanted[name] for name in ("dx", "dstate", "params")])


@pytest.mark.parametrize("operation", ["linear_forward", "linear_vjp", "pack_linear"])
def test_linear(operation: str) -> None:
    good = {"x": np.ones((2, 3)), "weight": np.ones((4, 3)), "bias": np.ones(4)}
    if operation == "pack_linear":
        del good["x"]

    def call(**changes: Any) -> Any:
        return getattr(ops, operation)(**(good | changes))

    shapes = {"x": [(2, 4), (), (0,), (3, 2)], "weight": [(4,), (4, 3, 1), ()], "bias": [(3,), (4, 1), (), (1, 4)]}
    for name, array in good.items():
        for shape in shapes[name]:
            refused(operation, name, partial(call, **{name: np.ones(shape)}), ShapeError, str(shape))
        for kind, change in WRONG_TYPES.items():
            if (name, kind) not in {("weight", "float32"), ("bias", "NoneType")}:
                refused(operation, name, partial(call, **{name: change(array)}), DTypeError)


def test_linear_pullback() -> None:
    x, weight, dy = np.ones((2, 3)), np.ones((4, 3)), np.ones((2, 4))
    _, pullback = ops.linear_vjp(x, weight)
    grad = np.ones((4, 3))
    for shape in ((2, 3), (3, 4), (4,), (1, 2, 4), ()):
        refused(
            "linear_vjp", "dy", lambda s=shape: pullback(np.ones(s), grads={"weight": grad}), ShapeError, str(shape)
        )
    for kind, change in WRONG_TYPES.items():
        refused("linear_vjp", "dy", lambda c=change: pullback(c(dy), grads={"weight": grad}), DTypeError)
        if kind != "NoneType":
            bad = change(grad)
            refused("linear_vjp", "grads['weight']", lambda b=bad: pullback(dy, grads={"weight": b}), DTypeError)
    refused("linear_vjp", "grads['weight']", lambda: pullback(dy, grads={"weight": grad.T}), ShapeError, "(3, 4)")
    assert (grad == 1).all()
    dx, grads = pullback(dy, grads={"weight": grad})
    assert_same_bits([dx, grads["weight"]], [np.full((2, 3), 4.0), np.full((4, 3), 3.0)])


BAD_TOKENS: dict[str, tuple[Any, type[Exception], str]] = {
    "too large": ([0, 5], TokenError, "5"),
    "negative": ([0, -1], TokenError, "-1"),
    "huge": (np.array([2**64 - 1], np.uint64), TokenError, "18446744073709551615"),
    "wraps around": (np.array([2**63], np.uint64), TokenError, "9223372036854775808"),
    "fractions": ([0.0, 1.0], DTypeError, "float64"),
    "bools": ([True], DTypeError, "bool"),
    "text": (["1"], DTypeError, ""),
    "None": (None, DTypeError, ""),
    "ragged": ([[0], [1, 2]], ShapeError, "list"),
}


@pytest.mark.parametrize("operation", ["embedding_forward", "embedding_vjp"])
def test_embedding(operation: str) -> None:
    weight = np.ones((5, 3))
    call = getattr(ops, operation)
    for tokens, error, got in BAD_TOKENS.values():
        refused(operation, "tokens", partial(call, tokens, weight), error, got)
    refused(operation, "tokens", partial(call, [0], np.ones((0, 3))), TokenError, "0")
    for shape in ((5,), (5, 3, 1), ()):
        refused(operation, "weight", partial(call, [0], np.ones(shape)), ShapeError, str(shape))
    for kind, change in WRONG_TYPES.items():
        if kind != "float32":
            refused(operation, "weight", partial(call, [0], change(weight)), DTypeError)


def test_embedding_pullback() -> None:
    _, pullback = ops.embedding_vjp([1, 1], np.ones((5, 3)))
    dy, grad = np.ones((2, 3)), np.ones((5, 3))
    for shape in ((2, 4), (3, 3), (6,), (1, 2, 3), ()):
        refused(
            "embedding_vjp", "dy", lambda s=shape: pullback(np.ones(s), grads={"weight": grad}), ShapeError, str(shape)
        )
    for change in WRONG_TYPES.values():
        refused("embedding_vjp", "dy", lambda c=change: pullback(c(dy), grads={"weight": grad}), DTypeError)
    refused("embedding_vjp", "grads['weight']", lambda: pullback(dy, grads={"weight": grad.T}), ShapeError, "(3, 5)")
    assert (grad == 1).all()
    pullback(dy, grads={"weight": grad})
    assert (grad[1] == 3).all()


def test_losses() -> None:
    logits, targets = np.ones((2, 3)), [0, 2]
    for tokens, error, got in BAD_TOKENS.values():
        refused("cross_entropy", "targets", partial(ops.cross_entropy, logits, tokens), error, got)
    for bad in ([0], [0, 1, 2], [[0, 1]], 1):
        refused("cross_entropy", "targets", partial(ops.cross_entropy, logits, bad), ShapeError, str(np.shape(bad)))
    refused("cross_entropy", "targets", lambda: ops.cross_entropy(logits, [0, 3], ignore_index=-1), TokenError, "3")
    refused("cross_entropy", "targets", lambda: ops.cross_entropy(logits, [0, -1], ignore_index=2), TokenError, "-1")
    refused("cross_entropy", "logits", lambda: ops.cross_entropy(np.float64(1), 0), ShapeError, "()")
    for value in (1.0, "1", [1], True):
        index: Any = value
        refused(
            "cross_entropy",
            "ignore_index",
            lambda i=index: ops.cross_entropy(logits, targets, ignore_index=i),
            (ArgumentError, DTypeError),
        )
    for kind, change in WRONG_TYPES.items():
        if kind != "float32":
            refused("cross_entropy", "logits", partial(ops.cross_entropy, change(logits), targets), DTypeError)
            refused("mse_loss", "prediction", partial(ops.mse_loss, change(logits), logits), DTypeError)
        refused("mse_loss", "target", partial(ops.mse_loss, logits, change(logits)), DTypeError)
    for shape in ((3, 2), (2,), (1, 2, 3), ()):
        refused("mse_loss", "target", partial(ops.mse_loss, logits, np.ones(shape)), ShapeError, str(shape))


@pytest.mark.parametrize("function", ["exp", "sigmoid", "tanh"])
def test_activations(function: str) -> None:
    for kind, change in WRONG_TYPES.items():
        if kind != "float32":
            refused(function, "x", partial(getattr(ops, function), change(np.ones(3))), DTypeError)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None, [2]], ids=repr)
def test_number_of_threads(value: Any) -> None:
    before = ops.get_num_threads()
    refused("set_num_threads", "n", lambda: ops.set_num_threads(value), ArgumentError, repr(value))
    assert ops.get_num_threads() == before
