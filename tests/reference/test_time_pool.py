"""The pools over time of the reference: hand numbers, finite differences, PyTorch, lengths, layouts, NaN."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays, random_lengths
from tolerances import assert_close, assert_same_bits

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = np.nan, np.inf
MODES = ("max", "min", "mean", "sum", "kmax")
T, N, C = 6, 5, 4


def sequences(rng, dtype=np.float64):
    """Return random sequences (T, N, C), and lengths with 1 and T among them."""
    return random_arrays(rng, {"x": (T, N, C)}, dtype)["x"], random_lengths(rng, N, T)


def past(lengths):
    """Return where steps are past their length (T, N)."""
    return np.arange(T)[:, None] >= lengths


def torch_pool(torch, x, mode, k):
    """Return what PyTorch makes of one sequence (T, C) alone."""
    if mode == "kmax":
        kept = min(k, len(x))
        values = x.gather(0, x.topk(kept, dim=0).indices.sort(dim=0).values)
        return torch.cat([values, values.new_zeros(k - kept, x.shape[1])])
    return {"max": torch.amax, "min": torch.amin, "mean": torch.mean, "sum": torch.sum}[mode](x, 0)


def test_by_hand():
    # One sequence of three steps and a fourth past its end.
    x = np.array([[[5.0]], [[-1.0]], [[2.0]], [[NAN]]])
    lengths, dy = np.array([3]), np.array([[6.0]])
    expected = {
        "max": (5.0, [6.0, 0.0, 0.0, 0.0]),
        "min": (-1.0, [0.0, 6.0, 0.0, 0.0]),
        "sum": (6.0, [6.0, 6.0, 6.0, 0.0]),
        "mean": (2.0, [2.0, 2.0, 2.0, 0.0]),
    }
    for mode, (value, dx) in expected.items():
        y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths)
        assert_same_bits(y, np.array([[value]]))
        assert_same_bits(pullback(dy), np.array(dx).reshape(4, 1, 1))
    for k, values, dx in ((2, [5, 2], [10, 0, 20, 0]), (4, [5, -1, 2, 0], [10, 20, 30, 0])):
        y, pullback = reference.time_pool_vjp(x, "kmax", lengths=lengths, k=k)
        assert_same_bits(y, np.array(values, float).reshape(k, 1, 1))
        dx_of_steps = pullback(np.array([10.0, 20.0, 30.0, 40.0])[:k].reshape(k, 1, 1))
        assert_same_bits(dx_of_steps, np.array(dx, float).reshape(4, 1, 1))


def test_earlier_of_equal_values_counts():
    x = np.array([1.0, 3.0, 3.0, 1.0, 3.0]).reshape(5, 1, 1)
    one, two = np.ones((1, 1)), np.ones((2, 1, 1))
    assert_same_bits(reference.time_pool_vjp(x, "max")[1](one).ravel(), np.array([0.0, 1.0, 0.0, 0.0, 0.0]))
    assert_same_bits(reference.time_pool_vjp(x, "min")[1](one).ravel(), np.array([1.0, 0.0, 0.0, 0.0, 0.0]))
    assert_same_bits(reference.time_pool_vjp(x, "kmax", k=2)[1](two).ravel(), np.array([0.0, 1.0, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["padless", "lengths"])
def test_gradients(rng, mode, with_lengths):
    x, lengths = sequences(rng)
    options = {"lengths": lengths if with_lengths else None, "k": 3}
    y, pullback = reference.time_pool_vjp(x, mode, **options)
    dy = rng.standard_normal(y.shape)
    assert y.shape == ((3, N, C) if mode == "kmax" else (N, C))
    assert_gradients(
        lambda: float((dy * reference.time_pool_forward(x, mode, **options)).sum()), {"x": x}, {"x": pullback(dy)}
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 3, T, T + 2])
def test_equals_torch(rng, dtype, mode, k):
    torch = pytest.importorskip("torch")
    x, lengths = sequences(rng, dtype)
    y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths, k=k)
    dy = rng.standard_normal(y.shape).astype(dtype)
    tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    pooled = [torch_pool(torch, tensor[:length, n], mode, k) for n, length in enumerate(lengths)]
    expected = torch.stack(pooled, dim=-2)
    expected.backward(torch.tensor(dy, dtype=torch.float64))
    dx = pullback(dy)
    assert y.dtype == dx.dtype == dtype
    assert_close("gemm", (y, dx), (expected.detach().numpy(), tensor.grad.numpy()))


@pytest.mark.parametrize("mode", MODES)
def test_values_past_a_length_do_not_count(rng, mode):
    x, lengths = sequences(rng)
    dy = rng.standard_normal((3, N, C) if mode == "kmax" else (N, C))
    results = []
    for filling in (0.0, NAN, INF, -INF):
        x[past(lengths)] = filling
        y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths, k=3)
        results.append((y, pullback(dy)))
        assert not results[-1][1][past(lengths)].any()
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("mode", MODES)
def test_sequence_alone_equals_sequence_in_batch(rng, mode):
    x, lengths = sequences(rng)
    y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths, k=3)
    dx = pullback(y)
    for n, length in enumerate(lengths):
        one, pullback = reference.time_pool_vjp(x[:length, n : n + 1], mode, k=3)
        assert_same_bits((one, pullback(one)), (y[..., n : n + 1, :], dx[:length, n : n + 1]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", ["NTC", "NCT"])
def test_layouts(rng, mode, layout):
    def lay(array, *, back=False):
        if array.ndim == 2:
            return array
        axes = ["TNC".index(letter) for letter in layout]
        return array.transpose(np.argsort(axes) if back else axes)

    x, lengths = sequences(rng)
    y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths, k=3)
    dy = rng.standard_normal(y.shape)
    laid_y, laid_pullback = reference.time_pool_vjp(lay(x), mode, lengths=lengths, k=3, layout=layout)
    laid_dx = laid_pullback(lay(dy))
    assert (laid_y.shape, laid_dx.shape) == (lay(y).shape, lay(x).shape)
    assert_same_bits((lay(laid_y, back=True), lay(laid_dx, back=True)), (y, pullback(dy)))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("mode", MODES)
def test_special_values_as_in_torch(rng, mode, value):
    torch = pytest.importorskip("torch")
    x, lengths = sequences(rng)
    x[rng.random(x.shape) < 0.3] = value
    y = reference.time_pool_forward(x, mode, lengths=lengths, k=2)
    pooled = [torch_pool(torch, torch.tensor(x[:length, n]), mode, 2) for n, length in enumerate(lengths)]
    assert_close("gemm", y, torch.stack(pooled, dim=-2).numpy())


def test_last_nan_has_the_gradient_of_the_maximum():
    x = np.array([7.0, NAN, 2.0, NAN, 9.0]).reshape(5, 1, 1)
    for mode, dy in (("max", np.ones((1, 1))), ("min", np.ones((1, 1))), ("kmax", np.ones((1, 1, 1)))):
        y, pullback = reference.time_pool_vjp(x, mode)
        assert np.isnan(y).all()
        assert_same_bits(pullback(dy).ravel(), np.array([0.0, 0.0, 0.0, 1.0, 0.0]))


@pytest.mark.parametrize("mode", MODES)
def test_nan_stays_in_its_sequence_and_feature(rng, mode):
    x, _ = sequences(rng)
    clean = reference.time_pool_forward(x, mode)
    x[2, 1, 3] = NAN
    y = reference.time_pool_forward(x, mode)
    assert np.argwhere(np.isnan(y))[:, -2:].tolist() == [[1, 3]]
    assert_same_bits(np.where(np.isnan(y), clean, y), clean)


@pytest.mark.parametrize("mode", MODES)
def test_pullback_owns_and_is_called_once(rng, mode):
    x, lengths = sequences(rng)
    x.flags.writeable = lengths.flags.writeable = False
    y, pullback = reference.time_pool_vjp(x, mode, lengths=lengths, k=2)
    assert_same_bits(reference.time_pool_forward(x, mode, lengths=lengths, k=2), y)
    dy = rng.standard_normal(y.shape)
    dy.flags.writeable = False
    expected = pullback(dy)
    changed_x, changed_lengths = x.copy(), lengths.copy()
    y, pullback = reference.time_pool_vjp(changed_x, mode, lengths=changed_lengths, k=2)
    for array in (changed_x, changed_lengths, y):
        array[...] = 1
    assert_same_bits(pullback(dy), expected)
    with pytest.raises(RuntimeError, match="time_pool_vjp: the pullback was already called"):
        pullback(dy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(T, 0, C), (T, N, 0)], ids=str)
def test_empty(mode, shape, dtype):
    lengths = np.full(shape[1], 2)
    y, pullback = reference.time_pool_vjp(np.zeros(shape, dtype), mode, lengths=lengths, k=2)
    assert (y.shape[-2:], y.dtype) == (shape[1:], dtype)
    dx = pullback(y)
    assert (dx.shape, dx.dtype) == (shape, dtype)
