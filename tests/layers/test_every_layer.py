"""What every layer does alike, whatever it computes."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from layers.cases import CASES, Case
from numeric import Array, assert_gradients, assert_varies
from numpy.testing import assert_array_equal

import fastrnn as fr
from fastrnn.errors import DTypeError, ShapeError

pytestmark = pytest.mark.parametrize("case", CASES, ids=str)


def grads_of(layer: Any) -> dict[str, Array]:
    """Return copies of all gradients."""
    return {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}


def trained(case: Case, layer: Any, x: Any, dy: Any) -> tuple[Any, dict[str, Array]]:
    """Return dx and the gradients of one forward and backward pass from zero."""
    layer.zero_grad()
    _, backward = case.forward(layer, x)
    dx = backward(dy)
    return dx, grads_of(layer)


def assert_same(left: Any, right: Any) -> None:
    """Assert bitwise equality of arrays, dicts of arrays, or two times None."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_same(left[name], right[name])
    elif left is None:
        assert right is None
    else:
        assert left.dtype == right.dtype
        assert_array_equal(left, right)


def test_calling_equals_forward(case: Case, rng: np.random.Generator, dtype: Any) -> None:
    layer, x = case.layer(dtype), case.x(rng, dtype)
    y, _ = case.forward(layer, x)
    assert_varies(y)
    assert y.dtype == dtype
    predicted = case.predict(case.layer(dtype), x)
    assert (predicted.dtype, predicted.shape) == (y.dtype, y.shape)
    assert case.trains_apart or np.array_equal(predicted, y)


def test_calling_records_nothing(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer()
    case.predict(layer, case.x(rng))
    assert not any(parameter.has_grad for parameter in layer.parameters().values())


def test_gradients(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    values = layer.state_dict()
    y, backward = case.forward(layer, x)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)

    def objective() -> float:
        layer.load_state_dict(values)
        y = case.forward(layer, x)[0] if case.trains_apart else case.predict(layer, x)
        return float((dy * y).sum())

    arrays, grads = {name: values[name] for name in layer.parameters()}, grads_of(layer)
    if case.tokens:
        assert dx is None
    else:
        arrays["x"], grads["x"] = x, dx
    assert_gradients(objective, arrays, grads)


def test_gradients_have_the_dtype(case: Case, rng: np.random.Generator, dtype: Any) -> None:
    layer, x = case.layer(dtype), case.x(rng, dtype)
    y = case.predict(layer, x)
    dx, grads = trained(case, layer, x, y)
    assert all(grad.dtype == dtype for grad in grads.values())
    assert dx is None or dx.dtype == dtype


def test_gradients_add_up(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    dy = rng.standard_normal(case.predict(layer, x).shape)
    _, once = trained(case, layer, x, dy)
    case.forward(layer, x)[1](dy)
    for name, grad in grads_of(layer).items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-13, atol=1e-13)
    layer.zero_grad()
    assert not any(grad.any() for grad in grads_of(layer).values())


def test_live_pullbacks_work_in_any_order(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer()
    xs = [case.x(rng) for _ in range(3)]
    dys = [rng.standard_normal(case.predict(layer, x).shape) for x in xs]
    alone = [trained(case, layer, x, dy) for x, dy in zip(xs, dys, strict=True)]
    layer.zero_grad()
    backwards = [case.forward(layer, x)[1] for x in xs]
    for index in (1, 2, 0):
        assert_same(backwards[index](dys[index]), alone[index][0])
    for name, grad in grads_of(layer).items():
        np.testing.assert_allclose(grad, sum(grads[name] for _, grads in alone), rtol=1e-12, atol=1e-13)


def test_an_unused_pullback_just_dies(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    y, _ = case.forward(layer, x)
    _, expected = trained(case, case.layer(), x, y)
    case.forward(layer, case.x(rng))
    assert_same(trained(case, layer, x, y)[1], expected)


def test_a_pullback_owns_what_it_saved(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    dy = rng.standard_normal(case.predict(layer, x).shape)
    dx, grads = trained(case, layer, x.copy(), dy)
    layer.zero_grad()
    y, backward = case.forward(layer, x)
    x[...], y[...] = 0, 0
    for parameter in layer.parameters().values():
        with parameter.edit() as values:
            values += 1
    assert_same(backward(dy), dx)
    assert_same(grads_of(layer), grads)


def test_a_second_call_is_refused(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    y, backward = case.forward(layer, x)
    backward(y)
    before = grads_of(layer)
    with pytest.raises(RuntimeError, match="called"):
        backward(y)
    assert_same(grads_of(layer), before)


def test_an_unfit_dy_changes_nothing(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    dy = rng.standard_normal(case.predict(layer, x).shape)
    dx, grads = trained(case, layer, x, dy)
    layer.zero_grad()
    _, backward = case.forward(layer, x)
    with pytest.raises(ShapeError):
        backward(np.zeros((2, *dy.shape)))
    with pytest.raises(ShapeError):
        backward(dy[..., :-1])
    with pytest.raises(DTypeError):
        backward(dy.astype(np.float32))
    assert not any(grad.any() for grad in grads_of(layer).values())
    assert_same(backward(dy), dx)
    assert_same(grads_of(layer), grads)


def _strided(x: Array) -> Array:
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def _reversed(x: Array) -> Array:
    return np.ascontiguousarray(x[::-1])[::-1]


def _read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: Array) -> Array:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view: Array = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def _foreign(x: Array) -> Array:
    return x.astype(x.dtype.newbyteorder("S"))


@pytest.mark.parametrize("form", [_strided, _reversed, np.asfortranarray, _read_only, _unaligned, _foreign])
def test_any_form_of_input(case: Case, form: Callable[[Array], Array], rng: np.random.Generator, dtype: Any) -> None:
    layer, x = case.layer(dtype), case.x(rng, dtype)
    y = case.predict(layer, x)
    dy = rng.standard_normal(y.shape).astype(dtype)
    x_form, dy_form = form(x), form(dy)
    before = x_form.copy(), dy_form.copy()
    np.testing.assert_allclose(case.predict(layer, x_form), y, rtol=1e-6)
    expected = trained(case, layer, x, dy)
    dx, grads = trained(case, layer, x_form, dy_form)
    np.testing.assert_allclose(0 if dx is None else dx, 0 if dx is None else expected[0], rtol=1e-4, atol=1e-6)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, expected[1][name], rtol=1e-4, atol=1e-6)
    assert_array_equal(x_form, before[0])
    assert_array_equal(dy_form, before[1])


def test_lists_are_arrays(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    assert_same(case.predict(layer, x.tolist()), case.predict(layer, x))


def test_another_dtype_is_refused(case: Case, rng: np.random.Generator, dtype: Any) -> None:
    layer = case.layer(dtype)
    other = np.float32 if case.tokens or dtype is np.float64 else np.float64
    if not case.trained:
        other = np.float16
    for wrong in (case.x(rng).astype(other), case.x(rng).astype(bool), np.full(case.x_shape, "a"), None):
        with pytest.raises(DTypeError, match="must have"):
            case.predict(layer, wrong)
        with pytest.raises(DTypeError, match="must have"):
            case.forward(layer, wrong)


def test_state_dict_round_trip(case: Case, rng: np.random.Generator, dtype: Any) -> None:
    layer, x = case.layer(dtype), case.x(rng, dtype)
    other = case.layer(dtype, seed=5)
    assert np.array_equal(case.predict(layer, x), case.predict(other, x)) != case.trained
    other.load_state_dict(layer.state_dict())
    assert_same(other.state_dict(), layer.state_dict())
    assert_same(case.predict(other, x), case.predict(layer, x))


def _rounded(layer: Any) -> dict[str, Array]:
    """Return the state with what float64 values are in float32."""
    state: dict[str, Array] = layer.state_dict()
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in state.items()}


def test_state_dict_crosses_dtypes(case: Case) -> None:
    single, double = case.layer(np.float32), case.layer(np.float64, seed=5)
    double.load_state_dict(single.state_dict())
    assert_same(_rounded(double), single.state_dict())
    single.load_state_dict(case.layer(np.float64, seed=7).state_dict())
    assert_same(single.state_dict(), _rounded(case.layer(seed=7)))


def test_state_dict_is_a_copy(case: Case) -> None:
    layer = case.layer()
    for array in layer.state_dict().values():
        array[...] = 7
    assert_same(layer.state_dict(), case.layer().state_dict())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_independent(case: Case, duplicate: Callable[[Any], Any], rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    y = case.predict(layer, x)
    double = duplicate(layer)
    assert_same(double.state_dict(), layer.state_dict())
    assert_same(case.predict(double, x), y)
    for parameter in double.parameters().values():
        with parameter.edit() as values:
            values *= 2
    assert np.array_equal(case.predict(double, x), y) != case.trained
    assert_same(case.predict(layer, x), y)
    assert repr(double) == repr(layer)


def test_pickles_leave_packed_weights_out(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer()
    before = len(pickle.dumps(layer))
    case.predict(layer, case.x(rng))
    assert len(pickle.dumps(layer)) == before


def _assign(layer: Any, name: str, value: Array) -> None:
    layer.parameters()[name].assign(value)


def _edit(layer: Any, name: str, value: Array) -> None:
    with layer.parameters()[name].edit() as values:
        values[...] = value


def _load(layer: Any, name: str, value: Array) -> None:
    layer.load_state_dict({name: value}, strict=False)


def _optimize(layer: Any, name: str, value: Array) -> None:
    parameter = layer.parameters()[name]
    parameter.grad = parameter.data - value
    fr.SGD([parameter], lr=1.0).step()


def _replace(layer: Any, name: str, value: Array) -> None:
    old = layer.parameters()[name]
    *path, own_name = name.split(".")
    for part in path:
        layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
    setattr(layer, own_name, fr.Parameter(value.astype(old.dtype), sparse=old.sparse))


@pytest.mark.parametrize("door", [_assign, _edit, _load, _optimize, _replace])
def test_changed_weights_are_seen(
    case: Case, door: Callable[[Any, str, Array], None], rng: np.random.Generator
) -> None:
    layer, x = case.layer(), case.x(rng)
    y = case.predict(layer, x)
    for name in layer.parameters():
        door(layer, name, rng.standard_normal(layer.parameters()[name].shape))
        fresh = pickle.loads(pickle.dumps(layer))
        assert_same(case.predict(layer, x), case.predict(fresh, x))
        assert_same(case.forward(layer, x)[0], case.forward(fresh, x)[0])
    assert np.array_equal(case.predict(layer, x), y) != case.trained


def test_weights_are_read_only(case: Case) -> None:
    for parameter in case.layer().parameters().values():
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            parameter.data.flags.writeable = True


def test_calls_from_many_threads(case: Case, rng: np.random.Generator) -> None:
    layer = case.layer()
    xs = [case.x(rng) for _ in range(16)]
    expected = [case.predict(pickle.loads(pickle.dumps(layer)), x) for x in xs]
    barrier = threading.Barrier(16)

    def predict(x: Array) -> list[Array]:
        barrier.wait()
        return [case.predict(layer, x) for _ in range(3)]

    with ThreadPoolExecutor(16) as pool:
        for results, y in zip(pool.map(predict, xs), expected, strict=True):
            for result in results:
                assert_same(result, y)


def test_training_from_many_threads(case: Case, rng: np.random.Generator) -> None:
    layer, x = case.layer(), case.x(rng)
    dy = rng.standard_normal(case.predict(layer, x).shape)
    dx, once = trained(case, layer, x, dy)
    layer.zero_grad()
    barrier = threading.Barrier(16)

    def train(_: int) -> Any:
        barrier.wait()
        return case.forward(layer, x)[1](dy)

    with ThreadPoolExecutor(16) as pool:
        for result in pool.map(train, range(16)):
            assert_same(result, dx)
    for name, grad in grads_of(layer).items():
        np.testing.assert_allclose(grad, 16 * once[name], rtol=1e-12, atol=1e-12)


def test_repr_is_short_and_names_the_class(case: Case) -> None:
    layer = case.layer(np.float32)
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert "object at" not in repr(layer)


def test_file_round_trip(case: Case, rng: np.random.Generator, dtype: Any, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    layer, x, path = case.layer(dtype), case.x(rng, dtype), tmp_path / "model.safetensors"
    fr.save(layer, path)
    if case.name == "composite":
        with pytest.raises(fr.errors.ArgumentError, match=r"Tagger.*load_state_dict"):
            fr.load(path)
        loaded = case.layer(dtype, seed=5)
        loaded.load_state_dict(fr.io.read_state_dict(path))
    else:
        loaded = fr.load(path)
        assert repr(loaded) == repr(layer)
    assert_same(case.predict(loaded, x), case.predict(layer, x))
