"""The LSTM reference against numbers worked by hand."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
import pytest
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

# C = H = 1, gates i, f, g, o.  sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, tanh(ln 2) = 3/5, tanh(ln 3) = 4/5.
# Step 1, x = 1, h = 0:  a = W              i = 3/4    f = 1/2    g = 3/5    o = 1/4
#   with c_0 = 2 (ln 2 - 9/20):  c_1 = 1/2 c_0 + 9/20 = ln 2                h_1 = 1/4 tanh(ln 2) = 3/20
# Step 2, x = 0, h = 3/20:  a = 3/20 R      i = 1/4    f = 3/4    g = 4/5    o = 1/2
#   c_2 = 3/4 ln 2 + 1/5 = 0.7198603854199590
#   h_2 = 1/2 tanh(c_2) = 1/2 (e^{2 c_2} - 1) / (e^{2 c_2} + 1), e^{2 c_2} = 2 sqrt(2) e^{2/5}
W = np.array([log(3), 0, log(2), -log(3)]).reshape(4, 1)
R = 20 / 3 * np.array([-log(3), log(3), log(3), 0]).reshape(4, 1)
C_0 = 2 * (log(2) - 9 / 20)
E = 2 * sqrt(2) * exp(2 / 5)
H_2 = (E - 1) / (E + 1) / 2


def test_forward_by_hand():
    x = np.array([1.0, 0.0]).reshape(2, 1, 1)
    y, (h, c) = reference.lstm_forward(x, {"weight_ih": W, "weight_hh": R}, (np.zeros((1, 1)), np.array([[C_0]])))
    assert_close("lstm_forward", y[0], [[3 / 20]])
    assert_close("lstm_forward", c, [[0.7198603854199590]])
    assert_close("lstm_forward", h, [[H_2]])
    assert_close("exact", y[1], h)


def test_gradient_by_hand():
    # Gradient of h_1 after one step; tanh(c_1) = 3/5:
    #   dc_1 = o (1 - 9/25) = 4/25          dc_0 = f dc_1 = 2/25
    #   da_i = dc_1 g i (1 - i) = 4/25 * 3/5 * 3/16 = 9/500      da_f = dc_1 c_0 f (1 - f) = c_0 / 25
    #   da_g = dc_1 i (1 - g^2) = 4/25 * 3/4 * 16/25 = 48/625    da_o = 3/5 o (1 - o) = 9/80
    da = np.array([9 / 500, C_0 / 25, 48 / 625, 9 / 80])
    params = {"weight_ih": W, "weight_hh": R, "bias_ih": np.zeros(4), "bias_hh": np.zeros(4)}
    _, pullback = reference.lstm_vjp(np.ones((1, 1, 1)), params, (np.zeros((1, 1)), np.array([[C_0]])))
    dx, (dh, dc), grads = pullback(np.ones((1, 1, 1)))
    assert_close("lstm_vjp", grads["bias_ih"], da)
    assert_close("lstm_vjp", grads["bias_hh"], da)
    assert_close("lstm_vjp", grads["weight_ih"], da.reshape(4, 1))
    assert_close("exact", grads["weight_hh"], np.zeros((4, 1)))
    assert_close("lstm_vjp", dc, [[2 / 25]])
    assert_close("lstm_vjp", dx, [[[9 / 500 * log(3) + 48 / 625 * log(2) - 9 / 80 * log(3)]]])
    assert_close("lstm_vjp", dh, [[20 / 3 * log(3) * (-9 / 500 + C_0 / 25 + 48 / 625)]])


def test_projection_by_hand():
    # H = 1, P = 2, one step as above with m = o tanh(c_1) = 3/20 and W_hr = (2, -4)^T:  h = (3/10, -3/5).
    # Gradient of the sum of h:  dm = 2 - 4 = -2,  dW_hr = (m, m)^T,  dc_1 = -2 * 4/25,  dc_0 = -4/25.
    params = {"weight_ih": W, "weight_hh": np.zeros((4, 2)), "weight_hr": np.array([[2.0], [-4.0]])}
    (y, (h, c)), pullback = reference.lstm_vjp(np.ones((1, 1, 1)), params, (np.zeros((1, 2)), np.array([[C_0]])))
    assert_close("lstm_forward", y, [[[3 / 10, -3 / 5]]])
    assert_close("exact", h, y[0])
    assert_close("lstm_forward", c, [[log(2)]])
    _, (_, dc), grads = pullback(np.ones((1, 1, 2)))
    assert_close("lstm_vjp", grads["weight_hr"], [[3 / 20], [3 / 20]])
    assert_close("lstm_vjp", dc, [[-4 / 25]])


def test_saturated_gates_keep_the_cell():
    # i = 0 and f = 1 in float64 as in float32: sigmoid(-1000) is 0, sigmoid(1000) is 1, without an overflow warning.
    params = {"weight_ih": np.array([[-1000.0], [1000.0], [1.0], [1000.0]], np.float32)}
    params["weight_hh"] = np.zeros((4, 1), np.float32)
    state = (np.zeros((1, 1), np.float32), np.full((1, 1), 0.5, np.float32))
    y, (_, c) = reference.lstm_forward(np.ones((9, 1, 1), np.float32), params, state)
    assert c.item() == 0.5
    assert_close("tanh", y[:, 0, 0], np.full(9, 0.46211715726000975))
