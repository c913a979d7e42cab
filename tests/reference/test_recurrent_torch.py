"""Recurrent references against PyTorch in float64: results, and gradients by autograd; packed sequences for lengths."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import RecurrentProblem
from shapes import BIASES, GRU_RESET_BEFORE, VARIANTS, RecurrentSizes
from tolerances import assert_close

from fastrnn import reference

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("error")

SIZES = RecurrentSizes(5, 4, 3, 6)
IN_TORCH = [variant for variant in VARIANTS if variant is not GRU_RESET_BEFORE]  # PyTorch has only reset_after=True


def torch_layer(problem, bidirectional):
    """Return PyTorch's layer with the problem's weights in its last direction, and those parameters by our names."""
    variant, H = problem.variant, SIZES.H
    options = {"nonlinearity": variant.options["nonlinearity"]} if variant.cell == "rnn" else {}
    if variant.projected:
        options["proj_size"] = variant.outputs(H)
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[variant.cell]
    layer = kind(SIZES.C, H, bidirectional=bidirectional, dtype=torch.float64, **options)
    suffix = "_l0_reverse" if bidirectional else "_l0"
    params = {name.removesuffix(suffix): p for name, p in layer.named_parameters() if name.endswith(suffix)}
    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(torch.from_numpy(problem.params.get(name, np.zeros(parameter.shape))))
    return layer, params


def run_torch(problem):
    """Return y, final state and gradients; the reverse direction is the second one of a bidirectional layer."""
    reverse, lengths = problem.options["reverse"], problem.options.get("lengths")
    layer, params = torch_layer(problem, reverse)
    x = torch.tensor(problem.x, requires_grad=True)
    state = [torch.tensor(value, requires_grad=True) for value in problem.state]
    inputs = [torch.stack([torch.zeros_like(s), s] if reverse else [s]) for s in state]
    sequence = x
    if lengths is not None:
        sequence = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    y, final = layer(sequence, problem.pack(tuple(inputs)))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=SIZES.T)
    y = y[..., -problem.dy.shape[2] :]
    final = [value[-1] for value in problem.unpack(final)]
    torch.autograd.backward([y, *final], [torch.tensor(d) for d in (problem.dy, *problem.dstate)])
    grads = {
        "x": x.grad.numpy(),
        "state": tuple(s.grad.numpy() for s in state),
        "params": {name: params[name].grad.numpy() for name in problem.params},
    }
    return y.detach().numpy(), tuple(value.detach().numpy() for value in final), grads


@pytest.mark.parametrize("variant", IN_TORCH, ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["padless", "lengths"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_equals_torch(rng, variant, lengths, reverse):
    problem = RecurrentProblem.random(rng, variant, SIZES, lengths=lengths, reverse=reverse)
    y, state, grads = problem.vjp(reference)
    expected_y, expected_state, expected_grads = run_torch(problem)
    assert_close(f"{variant.cell}_forward", (y, state), (expected_y, expected_state))
    assert_close(f"{variant.cell}_vjp", grads, expected_grads)


@pytest.mark.parametrize("variant", IN_TORCH, ids=str)
@pytest.mark.parametrize("biases", BIASES[1:], ids=lambda names: "+".join(names) or "no_bias")
def test_missing_biases_equal_zero_biases_in_torch(rng, variant, biases):
    problem = RecurrentProblem.random(rng, variant, SIZES, biases=biases)
    assert_close(f"{variant.cell}_vjp", problem.vjp(reference), run_torch(problem))


@pytest.mark.parametrize("variant", IN_TORCH, ids=str)
def test_nan_appears_where_torch_has_it(rng, variant):
    problem = RecurrentProblem.random(rng, variant, SIZES)
    problem.x[2, 1, 0] = np.nan
    y, state, grads = problem.vjp(reference)
    expected_y, expected_state, expected_grads = run_torch(problem)
    assert_close(f"{variant.cell}_forward", (y, state), (expected_y, expected_state))
    assert_close(f"{variant.cell}_vjp", grads, expected_grads)
