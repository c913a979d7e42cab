"""Layers made of layers: names, sharing, state dicts, Sequential, models of the user's own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from layers.cases import LENGTHS, Tagger
from numpy.testing import assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, ShapeError, StateDictError, TokenError


def language_model(dtype: Any = np.float32) -> fr.Sequential:
    """Return the usual small model."""
    options: Any = {"dtype": dtype, "rng": np.random.default_rng(0)}
    return fr.Sequential(fr.Embedding(7, 4, **options), fr.LSTM(4, 3, **options), fr.Linear(3, 7, **options))


def tied(dtype: Any = np.float64) -> fr.Sequential:
    """Return a model whose last layer shares its weight with the embedding."""
    options: Any = {"dtype": dtype, "rng": np.random.default_rng(0)}
    model = fr.Sequential(fr.Embedding(7, 4, **options), fr.GRU(4, 4, **options), fr.Linear(4, 7, **options))
    model[2].weight = model[0].parameters()["weight"]
    return model


# Names


def test_names_in_a_sequential() -> None:
    assert list(language_model().parameters()) == [
        "0.weight",
        "1.weight_ih_l0",
        "1.weight_hh_l0",
        "1.bias_ih_l0",
        "1.bias_hh_l0",
        "2.weight",
        "2.bias",
    ]


def test_names_in_a_composite() -> None:
    names = list(Tagger(np.float32, None).parameters())
    assert names[0] == "lstm.weight_ih_l0"
    assert names[4] == "lstm.weight_ih_l0_reverse"
    assert names[-3:] == ["heads.0.weight", "heads.0.bias", "heads.1.weight"]


def test_layers_in_dicts_and_tuples_are_found() -> None:
    model = fr.Layer()
    model.parts = {"a": fr.Linear(1, 2), "b": (fr.Linear(2, 3, bias=False), fr.Linear(3, 1, bias=False))}
    assert list(model.parameters()) == ["parts.a.weight", "parts.a.bias", "parts.b.0.weight", "parts.b.1.weight"]


def test_a_parameter_of_ones_own() -> None:
    class Scale(fr.Layer):
        """Multiply by a weight."""

        def __init__(self) -> None:
            self.scale = fr.Parameter(np.ones(3))

    layer = Scale()
    assert_array_equal(layer.scale, np.ones(3))
    layer.scale = np.full(3, 2.0)  # type: ignore[assignment]
    assert layer.parameters()["scale"].version == 1
    assert_array_equal(layer.state_dict()["scale"], np.full(3, 2.0))


def test_a_layer_above_is_no_trouble() -> None:
    outer, inner = fr.Layer(), fr.Layer()
    outer.inner, inner.outer, inner.linear = inner, outer, fr.Linear(2, 2)
    assert list(outer.parameters()) == ["inner.linear.weight", "inner.linear.bias"]


def test_abstract_calls_say_what_is_missing() -> None:
    class Empty(fr.Layer):
        """No methods."""

    with pytest.raises(NotImplementedError, match="Empty: a layer must define __call__"):
        Empty()(1)
    with pytest.raises(NotImplementedError, match="Empty: a layer must define forward"):
        Empty().forward(1)
    with pytest.raises(AttributeError, match="'Empty' object has no attribute 'weight'"):
        _ = Empty().weight


# Weights as attributes


def test_attributes_are_read_only_arrays() -> None:
    layer = fr.Linear(3, 2)
    assert isinstance(layer.weight, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0] = 1
    assert {"weight", "bias", "forward"} <= set(dir(layer))


def test_assignment_copies_and_counts() -> None:
    layer = fr.Linear(3, 2)
    value = np.ones((2, 3), np.float32)
    layer.weight = value
    value[...] = 5
    assert_array_equal(layer.weight, np.ones((2, 3)))
    assert layer.parameters()["weight"].version == 1


@pytest.mark.parametrize("value", [np.ones((3, 2), "f4"), np.ones(3, "f4"), 1.0])
def test_assignment_checks_shapes(value: Any) -> None:
    layer = fr.GRU(2, 2)
    with pytest.raises((ShapeError, DTypeError), match="GRU: 'weight_ih_l0' must have"):
        layer.weight_ih_l0 = value
    assert layer.parameters()["weight_ih_l0"].version == 0


def test_assignment_checks_dtypes() -> None:
    layer = fr.Linear(3, 2)
    with pytest.raises(DTypeError, match="Linear: 'weight' must have dtype float32, got float64"):
        layer.weight = np.ones((2, 3))
    with pytest.raises(DTypeError, match="Linear: 'bias' must have dtype float32, got NoneType"):
        layer.bias = None


# Sharing


def test_shared_parameters_count_once(rng: np.random.Generator) -> None:
    model = tied()
    assert "2.weight" not in model.parameters()
    assert model.num_parameters() == 28 + fr.GRU(4, 4).num_parameters() + 7
    tokens = rng.integers(0, 7, (5, 2))
    y, backward = model.forward(tokens)
    dy = rng.standard_normal(y.shape)
    backward(dy)
    untied = fr.Sequential(fr.Embedding(7, 4, dtype="f8"), fr.GRU(4, 4, dtype="f8"), fr.Linear(4, 7, dtype="f8"))
    state = model.state_dict()
    untied.load_state_dict({**state, "2.weight": state["0.weight"]})
    y_untied, backward = untied.forward(tokens)
    backward(dy)
    assert_array_equal(y, y_untied)
    ours, theirs = model.parameters(), untied.parameters()
    np.testing.assert_allclose(ours["0.weight"].grad, theirs["0.weight"].grad + theirs["2.weight"].grad, rtol=1e-13)


def test_a_shared_parameter_loads_by_any_name() -> None:
    state = tied().state_dict()
    weight = state.pop("0.weight") + 1
    for names in (["0.weight"], ["2.weight"], ["0.weight", "2.weight"]):
        model = tied()
        model.load_state_dict({**state, **dict.fromkeys(names, weight)})
        assert_array_equal(model[2].weight, weight)
    with pytest.raises(StateDictError, match=r"'2\.weight' differs from another name of the same shared parameter"):
        tied().load_state_dict({**state, "0.weight": weight, "2.weight": weight + 1})


def test_sharing_survives_copies() -> None:
    model = pickle.loads(pickle.dumps(tied()))
    model[0].weight = np.zeros((7, 4))
    assert not model[2].weight.any()


def test_a_layer_may_come_twice(rng: np.random.Generator) -> None:
    linear = fr.Linear(3, 3, dtype=np.float64)
    model = fr.Sequential(linear, linear)
    assert list(model.parameters()) == ["0.weight", "0.bias"]
    x = rng.standard_normal((2, 3))
    y, backward = model.forward(x)
    assert_array_equal(y, linear(linear(x)))
    backward(y)
    assert model.parameters()["0.weight"].grad.any()


def test_only_a_like_parameter_can_be_shared() -> None:
    layer = fr.Linear(3, 2)
    for other in (fr.Linear(2, 3), fr.Linear(3, 2, dtype=np.float64)):
        with pytest.raises(ShapeError, match=r"Linear: 'weight' must be like Parameter\(shape=\(2, 3\), dtype=float32"):
            layer.weight = other.parameters()["weight"]  # type: ignore[assignment]


@pytest.mark.parametrize("build", [lambda: fr.Linear(3, 3), lambda: fr.GRU(3, 3), lambda: fr.Embedding(5, 3)])
def test_a_replaced_parameter_is_seen(build: Any, rng: np.random.Generator) -> None:
    """Even if its version is the same as that of the one before."""
    layer, other = build(), build()
    x = rng.integers(0, 5, (4, 2)) if isinstance(layer, fr.Embedding) else rng.standard_normal((4, 2, 3)).astype("f4")
    before = layer(x)
    for name, parameter in other.parameters().items():
        assert parameter.version == layer.parameters()[name].version
        setattr(layer, name, parameter)
    first = [result[0] if layer.returns_state else result for result in (before, layer(x), other(x))]
    assert not np.array_equal(first[0], first[1])
    assert_array_equal(first[1], first[2])


# Packed weights


def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    calls: list[dict[str, Any]] = []
    pack = fr.ops.pack_lstm

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return pack(*args, **kwargs)

    monkeypatch.setattr(fr.ops, "pack_lstm", counted)
    layer = fr.LSTM(3, 4, 2)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)
    for _ in range(3):
        layer(x)
    assert calls == [{"backward": False}] * 2
    for _ in range(3):
        layer.forward(x)
        layer(x)
    assert calls[2:] == [{"backward": True}] * 2
    layer.bias_hh_l1 = layer.bias_hh_l1 + 1
    layer(x)
    assert len(calls) == 5
    fr.set_isa(fr.get_isa())
    layer(x)
    assert len(calls) == 7


# State dicts


def test_all_problems_come_at_once() -> None:
    layer = fr.LSTM(3, 4)
    before = layer.state_dict()
    broken = {
        "weight_ih_l0": np.ones((16, 3)),
        "weight_hh_l0": np.ones((16, 5)),
        "bias_ih_l0": np.ones(16, int),
        "weight_hr_l0": np.ones(1),
        "other": np.ones(1),
    }
    with pytest.raises(StateDictError) as caught:
        layer.load_state_dict(broken)
    assert str(caught.value).splitlines() == [
        "LSTM: the state dict does not fit",
        "  'weight_hh_l0' must have shape (16, 4), got (16, 5)",
        "  'bias_ih_l0' must have dtype float32 or float64, got int64",
        "  missing: bias_hh_l0",
        "  unexpected: weight_hr_l0, other",
    ]
    for name, array in layer.state_dict().items():
        assert_array_equal(array, before[name])
    assert all(parameter.version == 0 for parameter in layer.parameters().values())


def test_not_strict_takes_what_fits() -> None:
    layer = fr.Linear(3, 2)
    layer.load_state_dict({"weight": np.ones((2, 3)), "other": 1}, strict=False)
    assert (layer.weight == 1).all()
    with pytest.raises(StateDictError, match=r"'weight' must have shape \(2, 3\), got \(3, 2\)"):
        layer.load_state_dict({"weight": np.ones((3, 2))}, strict=False)


@pytest.mark.parametrize("value", [None, "weights", object(), [[1.0], [1.0, 2.0]], np.ones((2, 3), complex)])
def test_what_is_no_array_is_refused(value: Any) -> None:
    layer = fr.Linear(3, 2)
    with pytest.raises(StateDictError, match="'weight' must"):
        layer.load_state_dict({"weight": value, "bias": np.ones(2)})
    assert not layer.bias.any()  # type: ignore[union-attr]


def test_a_state_dict_is_a_mapping() -> None:
    with pytest.raises(ArgumentError, match="Linear: 'state_dict' must be a mapping of names to arrays, got list"):
        fr.Linear(3, 2).load_state_dict([("weight", 1)])  # type: ignore[arg-type]


def test_torch_state_dict() -> None:
    torch = pytest.importorskip("torch")
    twin = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model = fr.Sequential(fr.Linear(3, 4), fr.Linear(4, 2))
    model.load_state_dict(twin.state_dict())
    for name, tensor in twin.state_dict().items():
        assert_array_equal(model.state_dict()[name], tensor.numpy())
    model.load_state_dict(twin.double().state_dict())
    with pytest.raises(StateDictError, match=r"'0\.weight' must be an array, got Tensor"):
        model.load_state_dict({name: value.bfloat16() for name, value in twin.named_parameters()})


# Sequential


def test_sequential_equals_its_layers(rng: np.random.Generator) -> None:
    model = language_model()
    tokens = rng.integers(0, 7, (5, 2))
    embedding, lstm, linear = model
    assert_array_equal(model(tokens), linear(lstm(embedding(tokens))[0]))
    assert len(model) == 3
    assert model[-1] is linear
    assert_array_equal(model[:2](tokens), lstm(embedding(tokens))[0])
    assert isinstance(model[1:], fr.Sequential)
    with pytest.raises(IndexError):
        model[3]


def test_no_gradient_for_tokens(rng: np.random.Generator) -> None:
    y, backward = language_model().forward(rng.integers(0, 7, (5, 2)))
    assert backward(y) is None


def test_lengths_go_to_every_layer_that_takes_them(rng: np.random.Generator) -> None:
    lstm, gru = fr.LSTM(4, 3, bidirectional=True), fr.GRU(6, 2)
    model = fr.Sequential(fr.Sequential(fr.Linear(4, 4), lstm), gru)
    x = rng.standard_normal((5, 3, 4)).astype(np.float32)
    y, _ = gru(lstm(model[0][0](x), lengths=LENGTHS)[0], lengths=LENGTHS)  # type: ignore[index]
    assert_array_equal(model(x, lengths=LENGTHS), y)
    assert_array_equal(model.forward(x, lengths=LENGTHS)[0], y)
    assert not y[LENGTHS[0] :, 0].any()
    with pytest.raises(ArgumentError, match="Sequential: 'lengths' must be None, as no layer takes it, got"):
        fr.Sequential(fr.Linear(4, 4))(x, lengths=LENGTHS)


def test_bad_sequentials() -> None:
    with pytest.raises(ArgumentError, match="Sequential: 'layers' must be at least one layer, got none"):
        fr.Sequential()
    with pytest.raises(ArgumentError, match=r"Sequential: 'layers\[1\]' must be a Layer, got list"):
        fr.Sequential(fr.Linear(1, 1), [fr.Linear(1, 1)])  # type: ignore[arg-type]


def test_an_error_inside_names_the_layer(rng: np.random.Generator) -> None:
    model = fr.Sequential(fr.Linear(3, 4), fr.GRU(5, 2))
    with pytest.raises(ShapeError, match=r"GRU: 'x' must have shape \(T, N, C=5\), got \(6, 2, 4\)"):
        model(np.zeros((6, 2, 3), np.float32))


def test_repr_of_models() -> None:
    assert repr(language_model()) == (
        "Sequential(\n"
        "  (0): Embedding(7, 4)\n"
        "  (1): LSTM(4, 3)\n"
        "  (2): Linear(in_features=3, out_features=7, bias=True)\n"
        ")"
    )
    assert repr(fr.Sequential(fr.Sequential(fr.Linear(1, 2, bias=False, dtype="f8")))) == (
        "Sequential(\n"
        "  (0): Sequential(\n"
        "    (0): Linear(in_features=1, out_features=2, bias=False, dtype='float64')\n"
        "  )\n"
        ")"
    )


# Linear and Embedding


def test_linear_initial_weights() -> None:
    layer = fr.Linear(40, 30, rng=0)
    limit = np.sqrt(6 / 70)
    assert 0.98 * limit < np.abs(layer.weight).max() <= limit
    assert not layer.bias.any()  # type: ignore[union-attr]
    torch_like = fr.Linear(16, 500, weight_init="torch", rng=0)
    for array in (torch_like.weight, torch_like.bias):
        assert 0.24 < np.abs(array).max() <= 0.25  # type: ignore[arg-type]
    assert fr.Linear(3, 2, bias=False).bias is None
    with pytest.raises(ArgumentError, match="Linear: 'in_features' must be a positive int, got 0"):
        fr.Linear(0, 3)
    with pytest.raises(ArgumentError, match="Linear: 'bias' must be True or False, got None"):
        fr.Linear(1, 3, None)  # type: ignore[arg-type]


def test_bad_linear_input() -> None:
    layer = fr.Linear(64, 2)
    for call in (layer, layer.forward):
        with pytest.raises(ShapeError, match=r"Linear: 'x' must have shape \(..., C=64\), got \(3, 63\)"):
            call(np.zeros((3, 63), np.float32))
        with pytest.raises(ShapeError, match=r"Linear: 'x' must have shape \(..., C=64\), got \(\)"):
            call(np.float32(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_linear_on_nothing(shape: tuple[int, ...]) -> None:
    layer = fr.Linear(3, 2)
    y, backward = layer.forward(np.zeros(shape, np.float32))
    assert y.shape == (*shape[:-1], 2)
    assert backward(y).shape == shape


def test_embedding_gradient_touches_used_rows_only() -> None:
    layer = fr.Embedding(1000, 2, dtype=np.float64)
    grad = layer.parameters()["weight"].grad
    grad[...] = np.nan
    grad[[3, 7]] = 1
    y, backward = layer.forward([3, 7, 3])
    backward(np.ones_like(y))
    assert_array_equal(grad[[3, 7]], [[3, 3], [2, 2]])
    assert np.isnan(np.delete(grad, [3, 7], axis=0)).all()


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "i4", "u4", "i8", "u8", ">i4"])
def test_any_integer_is_a_token(kind: str) -> None:
    layer = fr.Embedding(7, 2)
    assert_array_equal(layer(np.array([0, 6, 3], kind)), layer.weight[[0, 6, 3]])


def test_tokens_of_any_shape() -> None:
    layer = fr.Embedding(7, 2)
    assert layer(3).shape == (2,)
    assert layer([]).shape == (0, 2)
    assert layer([[[1]]]).shape == (1, 1, 1, 2)
    assert layer(np.zeros((2, 0), int)).shape == (2, 0, 2)


def test_bad_tokens() -> None:
    layer = fr.Embedding(7, 2)
    for call in (layer, layer.forward):
        for bad, got in (([0, 7], 7), ([-1, 3], -1), (np.array([2**63 + 5], np.uint64), 2**63 + 5)):
            with pytest.raises(TokenError, match=rf"^Embedding: 'tokens' must be in 0..6, got {got}$"):
                call(bad)
        for wrong in ([1.0, 2.5], [True, False], ["a"], None, np.array([1], complex)):
            with pytest.raises(DTypeError, match="Embedding: 'tokens' must have an integer dtype, got"):
                call(wrong)
    with pytest.raises(ArgumentError, match="Embedding: 'num_embeddings' must be a positive int, got 0"):
        fr.Embedding(0, 3)
    with pytest.raises(ArgumentError, match=r"Embedding: 'embedding_dim' must be a positive int, got 2.5"):
        fr.Embedding(1, 2.5)  # type: ignore[arg-type]


def test_configs_build_again() -> None:
    model = fr.Sequential(
        fr.Embedding(7, 4), fr.LSTM(4, 3, 2, bidirectional=True, proj_size=2, bias_hh=False), fr.Linear(4, 1, False)
    )
    again = fr.Sequential.from_config(model.config())
    assert repr(again) == repr(model)
    assert again.config() == model.config()
    assert {n: p.shape for n, p in again.parameters().items()} == {n: p.shape for n, p in model.parameters().items()}
    with pytest.raises(ArgumentError, match="Tagger: only fastrnn's own layers can be built from a file"):
        Tagger(np.float32, None).config()
