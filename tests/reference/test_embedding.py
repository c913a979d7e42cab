"""The embedding reference: look-up, sums over repeated tokens, untouched rows."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import assert_gradients, random_arrays
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_by_hand():
    # Token 2 at two positions: its gradients (1, 2) and (10, 20) add up; tokens 1 and 3 are not used.
    weight = np.arange(8.0).reshape(4, 2)
    y, pullback = reference.embedding_vjp(np.array([2, 0, 2]), weight)
    assert_close("exact", y, np.array([[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]))
    grads = pullback(np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
    assert_close("exact", grads, {"weight": [[3.0, 4.0], [0.0, 0.0], [11.0, 22.0], [0.0, 0.0]]})


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (3, 0)], ids=str)
def test_gradients(rng, shape):
    arrays = random_arrays(rng, {"weight": (6, 3)})
    tokens = rng.integers(0, 6, shape)
    dy = rng.standard_normal((*shape, 3))
    y, pullback = reference.embedding_vjp(tokens, **arrays)
    assert y.shape == dy.shape
    assert_close("exact", reference.embedding_forward(tokens, **arrays), y)
    assert_gradients(lambda: float((dy * reference.embedding_forward(tokens, **arrays)).sum()), arrays, pullback(dy))


def test_equals_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    weight = rng.standard_normal((9, 4)).astype(dtype)
    tokens, dy = rng.integers(0, 9, (6, 5)), rng.standard_normal((6, 5, 4)).astype(dtype)
    torch_weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.embedding(torch.tensor(tokens), torch_weight).backward(torch.tensor(dy, dtype=torch.float64))
    grads = reference.embedding_vjp(tokens, weight)[1](dy)
    assert grads["weight"].dtype == dtype
    assert_close("embedding_vjp", grads["weight"], torch_weight.grad.numpy())


def test_pullback_touches_used_rows_only_owns_and_is_called_once(rng):
    weight, tokens = rng.standard_normal((5, 2)), np.array([4, 1, 4])
    _, pullback = reference.embedding_vjp(tokens, weight)
    tokens[:] = 0
    given = np.zeros((5, 2))
    given[[0, 2, 3]] = np.nan
    dy = rng.standard_normal((3, 2))
    assert pullback(dy, grads={"weight": given})["weight"] is given
    assert_close("embedding_vjp", given[[1, 4]], np.stack([dy[1], dy[0] + dy[2]]))
    with pytest.raises(RuntimeError, match="embedding_vjp: the pullback was already called"):
        pullback(dy)


def test_result_is_a_new_array():
    weight = np.zeros((3, 2))
    reference.embedding_forward(np.array(1), weight)[...] = 1
    assert not weight.any()
