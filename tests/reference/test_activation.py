"""Elementwise references: known values, saturation and special values without warnings."""

from __future__ import annotations

from math import inf, log, nan

import numpy as np
import pytest
from numeric import assert_varies
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_sigmoid_known_values(dtype):
    x = np.array([0, log(3), -log(3), 1000, -1000, inf, -inf, nan], dtype)
    y = reference.sigmoid(x)
    assert y.dtype == dtype
    assert_close("sigmoid", y, [1 / 2, 3 / 4, 1 / 4, 1, 0, 1, 0, nan])


def test_sigmoid_keeps_relative_accuracy_far_below_zero():
    # sigmoid(x) = e^x / (1 + e^x), and e^-50 is far below the roundoff of 1.
    assert_close("sigmoid", reference.sigmoid(np.array([-50.0])), [1.928749847963918e-22])


def test_sigmoid_is_symmetric(rng, dtype):
    x = (10 * rng.standard_normal(1000)).astype(dtype)
    assert_varies(x)
    tiny = np.finfo(dtype).eps
    np.testing.assert_allclose(reference.sigmoid(x) + reference.sigmoid(-x), np.ones(1000), rtol=0, atol=2 * tiny)


def test_tanh_known_values(dtype):
    x = np.array([0, log(2), -log(3), 1e-20, 1000, -inf, nan], dtype)
    y = reference.tanh(x)
    assert y.dtype == dtype
    assert_close("tanh", y, [0, 3 / 5, -4 / 5, 1e-20, 1, -1, nan])
    assert np.signbit(reference.tanh(np.array([-0.0], dtype))).all()


def test_exp_known_values(dtype):
    x = np.array([0, 1, 1000, -1000, inf, -inf, nan], dtype)
    y = reference.exp(x)
    assert y.dtype == dtype
    assert_close("exp", y, [1, 2.718281828459045, inf, 0, inf, 0, nan])


def test_equal_torch(rng, dtype):
    torch = pytest.importorskip("torch")
    x = (5 * rng.standard_normal((7, 11))).astype(dtype)
    for name in ("exp", "sigmoid", "tanh"):
        expected = getattr(torch, name)(torch.tensor(x, dtype=torch.float64)).numpy()
        assert_close(name, getattr(reference, name)(x), expected)
