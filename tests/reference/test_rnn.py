"""The simple recurrent reference against numbers worked by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")


def test_tanh_by_hand():
    # T = 2, N = C = H = 1.  tanh(ln 2) = (4 - 1) / (4 + 1) = 3/5,  tanh(ln 3) = (9 - 1) / (9 + 1) = 4/5.
    # W = ln 2, R = 5/3 ln 3, b_ih = ln 2, b_hh = -ln 2, h_0 = 0, x = (1, 0):
    #   a_1 = ln 2                    h_1 = 3/5
    #   a_2 = 5/3 ln 3 * 3/5 = ln 3   h_2 = 4/5
    params = {
        "weight_ih": np.array([[log(2)]]),
        "weight_hh": np.array([[5 / 3 * log(3)]]),
        "bias_ih": np.array([log(2)]),
        "bias_hh": np.array([-log(2)]),
    }
    x = np.array([1.0, 0.0]).reshape(2, 1, 1)
    (y, h), pullback = reference.rnn_vjp(x, params)
    assert_close("rnn_forward", y.ravel(), [0.6, 0.8])
    assert_close("rnn_forward", h, [[0.8]])

    # Gradient of h_2:
    #   da_2 = 1 - 16/25 = 9/25
    #   dh_1 = R da_2 = 3/5 ln 3      da_1 = dh_1 (1 - 9/25) = 48/125 ln 3
    #   dx = W da    dW = da_1 * 1 + da_2 * 0    dR = da_1 * 0 + da_2 * 3/5 = 27/125    db = da_1 + da_2    dh_0 = R da_1
    da_1, da_2 = 48 / 125 * log(3), 9 / 25
    dx, dh, grads = pullback(np.array([0.0, 1.0]).reshape(2, 1, 1))
    assert_close("rnn_vjp", dx.ravel(), [log(2) * da_1, log(2) * da_2])
    assert_close("rnn_vjp", dh, [[5 / 3 * log(3) * da_1]])
    bias = [da_1 + da_2]
    expected = {"weight_ih": [[da_1]], "weight_hh": [[27 / 125]], "bias_ih": bias, "bias_hh": bias}
    assert_close("rnn_vjp", {name: grad.tolist() for name, grad in grads.items()}, expected)


def test_relu_by_hand():
    # T = 2, N = 1, C = 1, H = 2.  W = (1, -1), R = [[2, 1], [0, 3]], h_0 = (1, 1), x = (2, -1):
    #   a_1 = (2, -2) + (3, 3) = (5, 1)        h_1 = (5, 1)
    #   a_2 = (-1, 1) + (11, 3) = (10, 4)      h_2 = (10, 4)
    # and with x = (-4, -4):
    #   a_1 = (-4, 4) + (3, 3) = (-1, 7)       h_1 = (0, 7)
    #   a_2 = (-4, 4) + (7, 21) = (3, 25)      h_2 = (3, 25)
    params = {"weight_ih": np.array([[1.0], [-1.0]]), "weight_hh": np.array([[2.0, 1.0], [0.0, 3.0]])}
    h_0 = np.array([[1.0, 1.0]])
    y, _ = reference.rnn_forward(np.array([2.0, -1.0]).reshape(2, 1, 1), params, h_0, nonlinearity="relu")
    assert_close("exact", y, np.array([[[5.0, 1.0]], [[10.0, 4.0]]]))
    x = np.array([-4.0, -4.0]).reshape(2, 1, 1)
    (y, h), pullback = reference.rnn_vjp(x, params, h_0, nonlinearity="relu")
    assert_close("exact", y, np.array([[[0.0, 7.0]], [[3.0, 25.0]]]))
    assert_close("exact", h, y[1])

    # Gradient of the sum of h_2 in the second case:
    #   da_2 = (1, 1)          dh_1 = R^T da_2 = (2, 4)        da_1 = (0, 4)    dh_0 = R^T da_1 = (0, 12)
    #   dx = W . da = (-4, 0)  dW = x_1 da_1 + x_2 da_2 = (-4, -20)
    #   dR = da_1 h_0^T + da_2 h_1^T = [[0, 0], [4, 4]] + [[0, 7], [0, 7]]
    dx, dh, grads = pullback(None, np.ones((1, 2)))
    assert_close("exact", dx.ravel(), np.array([-4.0, 0.0]))
    assert_close("exact", dh, np.array([[0.0, 12.0]]))
    assert_close("exact", grads, {"weight_ih": [[-4.0], [-20.0]], "weight_hh": [[0.0, 7.0], [4.0, 11.0]]})


def test_relu_has_no_slope_at_zero():
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.zeros((1, 1))}
    _, pullback = reference.rnn_vjp(np.zeros((1, 1, 1)), params, nonlinearity="relu")
    assert pullback(np.ones((1, 1, 1)))[0].item() == 0
