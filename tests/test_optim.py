"""Optimizers and clipping as users call them, against PyTorch."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
from numeric import Array
from numpy.testing import assert_allclose, assert_array_equal
from tolerances import assert_close

import fastrnn as fr
from fastrnn.errors import ArgumentError, StateDictError

SGD_OPTIONS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.1, "nesterov": True},
]
ADAM_OPTIONS: list[dict[str, Any]] = [
    {},
    {"betas": (0.5, 0.9)},
    {"eps": 1e-3},
    {"weight_decay": 0.1},
    {"betas": (0.0, 0.0)},
    {"amsgrad": True, "weight_decay": 0.1},
]
KIND_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": SGD_OPTIONS,
    "Adam": ADAM_OPTIONS,
    "AdamW": [{}, {"weight_decay": 0.3, "amsgrad": True}],
    "RMSprop": [
        {},
        {"alpha": 0.5, "eps": 1e-3, "weight_decay": 0.1},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "weight_decay": 0.1},
    ],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1}, {"initial_accumulator_value": 0.5, "eps": 1e-3}],
    "Adadelta": [{}, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}],
}
KINDS = [(kind, options) for kind, each in KIND_OPTIONS.items() for options in each]


def model(dtype: Any = np.float64) -> fr.Sequential:
    return fr.Sequential(fr.Linear(5, 4, dtype=dtype, rng=0), fr.Linear(4, 3, dtype=dtype, rng=1))


def set_grads(layer: fr.Layer, rng: np.random.Generator, scale: float = 1.0) -> dict[str, Array]:
    """Give all parameters random gradients; return them."""
    for parameter in layer.parameters().values():
        parameter.grad = (scale * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return {name: parameter.grad.copy() for name, parameter in layer.parameters().items()}


def torch_twin(torch: Any, layer: fr.Layer) -> dict[str, Any]:
    """Return PyTorch parameters of the same values and gradients."""
    twins = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in layer.state_dict().items()}
    for name, parameter in layer.parameters().items():
        twins[name].grad = torch.tensor(parameter.grad)
    return twins


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_steps_like_torch(kind: str, options: dict[str, Any], rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = model(dtype)
    set_grads(layer, rng)
    twins = torch_twin(torch, layer)
    ours = getattr(fr, kind)(layer, lr=0.05, **options)
    theirs = getattr(torch.optim, kind)(twins.values(), lr=0.05, **options)
    for step in range(5):
        if step == 3:
            ours.lr = theirs.param_groups[0]["lr"] = 0.01
        for name, grad in set_grads(layer, rng).items():
            twins[name].grad = torch.tensor(grad)
        ours.step()
        theirs.step()
        desired = {name: twin.detach().numpy().astype(np.float64) for name, twin in twins.items()}
        assert_close(f"{kind.lower()}_step", layer.state_dict(), desired)


@pytest.mark.parametrize("kind", KIND_OPTIONS)
def test_versions_and_what_is_skipped(kind: str) -> None:
    layer = model()
    optimizer = getattr(fr, kind)(layer, lr=0.1)
    weight = layer.parameters()["0.weight"]
    weight.grad += 1
    before = layer.state_dict()
    optimizer.step()
    assert {name: p.version for name, p in layer.parameters().items() if p.version} == {"0.weight": 1}
    assert not np.array_equal(layer.state_dict()["0.weight"], before["0.weight"])
    for name in ("0.bias", "1.weight", "1.bias"):
        assert_array_equal(layer.state_dict()[name], before[name])
    optimizer.zero_grad()
    assert not weight.grad.any()


@pytest.mark.parametrize("form", [lambda m: m, lambda m: m.parameters(), lambda m: m.parameters().values()])
def test_ways_to_name_parameters(form: Any, rng: np.random.Generator) -> None:
    layer, other = model(), model()
    optimizer = fr.SGD(form(layer), 0.1)
    assert len(optimizer.params) == 4
    grads = set_grads(layer, rng)
    fr.clip_grad_norm(form(layer), 1e9)
    optimizer.step()
    for name, array in layer.state_dict().items():
        assert_allclose(array, other.state_dict()[name] - 0.1 * grads[name], rtol=1e-14, atol=1e-15)


def test_shared_parameters_move_once() -> None:
    layer = fr.Linear(2, 2, dtype=np.float64)
    parameter = layer.parameters()["weight"]
    before = parameter.data.copy()
    parameter.grad += 1
    fr.SGD([parameter, parameter, *layer.parameters().values()], 0.5).step()
    assert_allclose(parameter.data, before - 0.5)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_going_on_from_a_state_dict(kind: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    """Through np.savez, as a checkpoint would."""
    layer = model()
    optimizer = getattr(fr, kind)(layer, lr=0.05, **options)
    for _ in range(2):
        set_grads(layer, rng)
        optimizer.step()
    file = io.BytesIO()
    np.savez(file, **optimizer.state_dict())
    file.seek(0)
    other = copy.deepcopy(layer)
    resumed = getattr(fr, kind)(other, lr=1.0)
    resumed.load_state_dict(np.load(file))
    assert repr(resumed) == repr(optimizer)
    for _ in range(2):
        for name, grad in set_grads(layer, rng).items():
            other.parameters()[name].grad = grad
        optimizer.step()
        resumed.step()
    for name, array in other.state_dict().items():
        assert_array_equal(array, layer.state_dict()[name])


def test_a_state_dict_is_a_copy(rng: np.random.Generator) -> None:
    layer = model()
    optimizer = fr.Adam(layer)
    set_grads(layer, rng)
    optimizer.step()
    state = optimizer.state_dict()
    assert sorted(state)[:6] == ["amsgrad", "beta1", "beta2", "eps", "lr", "m.0.bias"]
    assert state["step.0.weight"] == 1
    kept = state["m.0.weight"].copy()
    state["m.0.weight"][...] = 0
    assert_array_equal(optimizer.state_dict()["m.0.weight"], kept)


def test_bad_state_dicts_change_nothing(rng: np.random.Generator) -> None:
    layer = model()
    optimizer = fr.Adam(layer, lr=0.5)
    set_grads(layer, rng)
    optimizer.step()
    state = optimizer.state_dict()
    del state["beta1"], state["v.0.bias"]
    state |= {"lr": np.nan, "m.0.weight": np.zeros(3), "m.1.weight": 1.0, "extra": 1, "step.9": 3}
    with pytest.raises(StateDictError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "Adam: the state dict does not fit",
        "  'lr' must be a finite number, got nan",
        "  missing: beta1",
        "  'm.0.weight' must be (4, 5) float64, got (3,) float64",
        "  missing: v.0.bias",
        "  'm.1.weight' must be (3, 4) float64, got float",
        "  unexpected: extra, step.9",
    ]
    assert optimizer.lr == 0.5
    assert optimizer.state_dict()["m.0.weight"].any()
    with pytest.raises(ArgumentError, match="Adam: 'state_dict' must be a mapping, got list"):
        optimizer.load_state_dict([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "SGD: 'lr' must be a finite number >= 0, got -1.0"),
        ({"lr": np.nan}, "SGD: 'lr' must be a finite number >= 0, got nan"),
        ({"lr": "fast"}, "SGD: 'lr' must be a finite number >= 0, got 'fast'"),
        ({"lr": 1, "momentum": -0.5}, "SGD: 'momentum' must be a finite number >= 0, got -0.5"),
        ({"lr": 1, "weight_decay": np.inf}, "SGD: 'weight_decay' must be a finite number >= 0, got inf"),
        ({"lr": 1, "nesterov": 1}, "SGD: 'nesterov' must be True or False, got 1"),
        ({"lr": 1, "nesterov": True}, "SGD: 'nesterov' must be False without momentum or with dampening, got True"),
    ],
)
def test_bad_sgd_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        fr.SGD(model(), **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"betas": 0.9}, "Adam: 'betas' must be a pair of numbers, got 0.9"),
        ({"betas": (0.9, 1.0)}, "Adam: 'betas[1]' must be a finite number in [0, 1], got 1.0"),
        ({"betas": (-0.1, 0.9)}, "Adam: 'betas[0]' must be a finite number in [0, 1], got -0.1"),
        ({"eps": -1}, "Adam: 'eps' must be a finite number >= 0, got -1"),
    ],
)
def test_bad_adam_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        fr.Adam(model(), **options)
    assert str(caught.value) == text


def test_lr_is_checked_when_set() -> None:
    optimizer = fr.Adam(model())
    with pytest.raises(ArgumentError, match="Adam: 'lr' must be a finite number >= 0, got -1"):
        optimizer.lr = -1
    assert optimizer.lr == 1e-3


@pytest.mark.parametrize("params", [None, 3, [np.ones(3)], fr.Parameter(np.ones(3))])
def test_bad_params(params: Any) -> None:
    for call in (
        lambda: fr.SGD(params, 1),
        lambda: fr.clip_grad_norm(params, 1),
        lambda: fr.clip_grad_value(params, 1),
    ):
        with pytest.raises(ArgumentError, match="'params' must"):
            call()


@pytest.mark.parametrize("params", [[], {}, fr.Dropout(0.5), [{"params": []}]])
def test_nothing_to_train_is_refused(params: Any) -> None:
    with pytest.raises(ArgumentError, match="Adam: 'params' must have at least one parameter, got none"):
        fr.Adam(params)


# Clipping


@pytest.mark.parametrize("max_norm", [0.0, 0.1, 1.0, 1e6])
def test_norm_like_torch(max_norm: float, rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = model(dtype)
    set_grads(layer, rng)
    twins = torch_twin(torch, layer)
    theirs = torch.nn.utils.clip_grad_norm_(twins.values(), max_norm)
    norm = fr.clip_grad_norm(layer, max_norm)
    assert type(norm) is float
    rtol = 1e-6 if dtype is np.float32 else 1e-14
    assert_allclose(norm, theirs.item(), rtol=rtol)
    for name, parameter in layer.parameters().items():
        assert_allclose(parameter.grad, twins[name].grad.numpy(), rtol=2 * rtol, atol=1e-30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norms_that_are_not_finite_like_torch(bad: float, rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = model(dtype)
    set_grads(layer, rng)
    layer.parameters()["1.weight"].grad[0, 0] = bad
    twins = torch_twin(torch, layer)
    theirs = torch.nn.utils.clip_grad_norm_(twins.values(), 1.0)
    assert_array_equal(fr.clip_grad_norm(layer, 1.0), theirs.item())
    for name, parameter in layer.parameters().items():
        assert_array_equal(parameter.grad, twins[name].grad.numpy())


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 5000])
def test_norm_of_any_size(size: int, rng: np.random.Generator, dtype: Any) -> None:
    parameter = fr.Parameter(np.zeros(size, dtype))
    parameter.grad = rng.standard_normal(size).astype(dtype)
    exact = np.sqrt(np.square(parameter.grad.astype(np.float64)).sum())
    assert_allclose(fr.clip_grad_norm([parameter], 1e9), exact, rtol=1e-6 if dtype is np.float32 else 1e-14)


def test_norm_beyond_the_squares_of_float32() -> None:
    parameter = fr.Parameter(np.zeros(2000, np.float32))
    parameter.grad += np.float32(1e25)
    assert_allclose(fr.clip_grad_norm([parameter], 1.0), 1e25 * np.sqrt(2000), rtol=1e-6)
    assert_allclose(np.linalg.norm(parameter.grad), 1.0, rtol=1e-5)


def test_clipping_keeps_the_arrays_and_the_weights(rng: np.random.Generator) -> None:
    layer = model()
    set_grads(layer, rng)
    arrays = [parameter.grad for parameter in layer.parameters().values()]
    fr.clip_grad_norm(layer, 0.1)
    fr.clip_grad_value(layer, 0.01)
    for parameter, array in zip(layer.parameters().values(), arrays, strict=True):
        assert parameter.grad is array
        assert parameter.version == 0


def test_clipping_where_there_are_no_gradients() -> None:
    layer = model()
    assert fr.clip_grad_norm(layer, 1.0) == 0.0
    fr.clip_grad_value(layer, 1.0)
    assert not any(parameter.has_grad for parameter in layer.parameters().values())


def test_values_like_torch(rng: np.random.Generator, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = model(dtype)
    set_grads(layer, rng)
    layer.parameters()["1.weight"].grad[0, :3] = [np.nan, np.inf, -np.inf]
    twins = torch_twin(torch, layer)
    torch.nn.utils.clip_grad_value_(twins.values(), 0.3)
    fr.clip_grad_value(layer, 0.3)
    for name, parameter in layer.parameters().items():
        assert_array_equal(parameter.grad, twins[name].grad.numpy())


@pytest.mark.parametrize("limit", [-1, np.nan, np.inf, "1", None])
def test_bad_limits(limit: Any) -> None:
    with pytest.raises(ArgumentError, match="clip_grad_norm: 'max_norm' must be a finite number >= 0, got"):
        fr.clip_grad_norm(model(), limit)
    with pytest.raises(ArgumentError, match="clip_grad_value: 'clip_value' must be a finite number >= 0, got"):
        fr.clip_grad_value(model(), limit)


# Groups


def test_groups_like_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    layer = model()
    set_grads(layer, rng)
    twins = torch_twin(torch, layer)
    ours = fr.AdamW([{"params": layer[0], "lr": 0.1, "betas": (0.5, 0.9)}, {"params": layer[1]}], weight_decay=0.2)
    first = [twin for name, twin in twins.items() if name.startswith("0")]
    rest = [twin for name, twin in twins.items() if name.startswith("1")]
    theirs = torch.optim.AdamW([{"params": first, "lr": 0.1, "betas": (0.5, 0.9)}, {"params": rest}], weight_decay=0.2)
    for _ in range(3):
        for name, grad in set_grads(layer, rng).items():
            twins[name].grad = torch.tensor(grad)
        ours.step()
        theirs.step()
    desired = {name: twin.detach().numpy() for name, twin in twins.items()}
    assert_close("adamw_step", layer.state_dict(), desired)
    assert list(ours.params) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [group.options["lr"] for group in ours.groups] == [0.1, 1e-3]
    ours.lr = 0.5
    assert [group.options["lr"] for group in ours.groups] == [0.5, 0.5]


def test_groups_go_on_from_a_state_dict(rng: np.random.Generator) -> None:
    layer = model()
    optimizer = fr.SGD([{"params": layer[0], "momentum": 0.9}, {"params": layer[1], "lr": 0.3}], 0.1)
    set_grads(layer, rng)
    optimizer.step()
    state = optimizer.state_dict()
    assert (state["lr"], state["lr.1"], state["momentum"], state["momentum.1"]) == (0.1, 0.3, 0.9, 0.0)
    assert "buf.0.weight" in state
    assert "buf.1.weight" not in state
    other = copy.deepcopy(layer)
    resumed = fr.SGD([{"params": other[0]}, {"params": other[1]}])
    resumed.load_state_dict(state)
    assert repr(resumed) == repr(optimizer)
    for name, grad in set_grads(layer, rng).items():
        other.parameters()[name].grad = grad
    optimizer.step()
    resumed.step()
    for name, array in other.state_dict().items():
        assert_array_equal(array, layer.state_dict()[name])


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        (
            lambda m: [{"params": m, "rate": 1}],
            r"Adam: 'params\[0\]' must have keys out of params, lr, betas, .*'rate'",
        ),
        (lambda m: [{"lr": 1}], r"Adam: 'params\[0\]' must have keys out of params, lr, .*, got \['lr'\]"),
        (lambda m: [{"params": m}, {"params": m[1]}], r"Adam: 'params\[1\]' must hold new parameters, got one"),
        (lambda m: [{"params": m, "lr": -1}], "Adam: 'lr' must be a finite number >= 0, got -1"),
        (lambda m: [{"params": 3}], "Adam: 'params' must be a layer, or several parameters, got int"),
        (lambda m: [{"params": m[0]}, m[1].parameters()["bias"]], "Adam: 'params' must hold Parameters, got dict"),
    ],
)
def test_bad_groups(groups: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        fr.Adam(groups(model()))
