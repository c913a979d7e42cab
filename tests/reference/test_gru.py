"""The GRU reference, both forms, against numbers worked by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from tolerances import assert_close

from fastrnn import reference

pytestmark = pytest.mark.filterwarnings("error")

# C = H = 1, gates r, z, n, one step with x = 1, h = 1/2.  sigmoid(ln 3) = 3/4, tanh(ln 2) = 3/5, tanh(ln 3) = 4/5.
#   W = (ln 3, -ln 3, -3 ln 3/2), R = (0, 0, 8/3 ln 2), b_hh = (0, 0, 4 ln 3/2):    r = 3/4    z = 1/4
# Reset after:   u = R_n h + b_hn = 4/3 ln 2 + 4 ln 3/2
#   n = tanh(-3 ln 3/2 + 3/4 u) = tanh(ln 2) = 3/5                  h' = 3/4 * 3/5 + 1/4 * 1/2 = 23/40
# Reset before:  u = R_n (r h) + b_hn = ln 2 + 4 ln 3/2
#   n = tanh(-3 ln 3/2 + u) = tanh(ln 2 + ln 3/2) = tanh(ln 3) = 4/5    h' = 3/4 * 4/5 + 1/4 * 1/2 = 29/40
X = np.ones((1, 1, 1))
H_0 = np.full((1, 1), 0.5)
R_N = 8 / 3 * log(2)
PARAMS = {
    "weight_ih": np.array([[log(3)], [-log(3)], [-3 * log(1.5)]]),
    "weight_hh": np.array([[0.0], [0.0], [R_N]]),
    "bias_ih": np.zeros(3),
    "bias_hh": np.array([0, 0, 4 * log(1.5)]),
}


def assert_pulls_back(pullback, da, du, dh, dR):
    """da are the gradients of the input pre-activations r, z, n; du that of the recurrent part of the candidate."""
    dx, dstate, grads = pullback(np.ones((1, 1, 1)))
    da, recurrent = np.array(da), np.array([*da[:2], du])
    assert_close("gru_vjp", grads["bias_ih"], da)
    assert_close("gru_vjp", grads["bias_hh"], recurrent)
    assert_close("gru_vjp", grads["weight_ih"], da.reshape(3, 1))
    assert_close("gru_vjp", grads["weight_hh"], np.reshape(dR, (3, 1)))
    assert_close("gru_vjp", dx, [[PARAMS["weight_ih"].T @ da]])
    assert_close("gru_vjp", dstate, [[dh]])


def test_reset_after_by_hand():
    # Gradient of h':  da_n = 3/4 (1 - 9/25) = 12/25      da_z = (1/2 - 3/5) z (1 - z) = -3/160
    #   du = da_n r = 9/25         da_r = da_n u r (1 - r) = 9/100 u
    #   dh = z + R_n du = 1/4 + 24/25 ln 2                dR = h (da_r, da_z, du)
    (y, h), pullback = reference.gru_vjp(X, PARAMS, H_0)
    assert_close("gru_forward", y, [[[23 / 40]]])
    assert_close("exact", h, y[0])
    u = 4 / 3 * log(2) + 4 * log(1.5)
    da_r, da_z, da_n = 9 / 100 * u, -3 / 160, 12 / 25
    dh = 1 / 4 + 24 / 25 * log(2)
    assert_pulls_back(pullback, (da_r, da_z, da_n), 9 / 25, dh, (da_r / 2, da_z / 2, 9 / 50))


def test_reset_before_by_hand():
    # Gradient of h':  da_n = du = 3/4 (1 - 16/25) = 27/100      da_z = (1/2 - 4/5) z (1 - z) = -9/160
    #   d(r h) = R_n du = 18/25 ln 2      da_r = h d(r h) r (1 - r) = 27/400 ln 2
    #   dh = z + r d(r h) = 1/4 + 27/50 ln 2      dR = (h da_r, h da_z, r h du) with r h = 3/8
    (y, h), pullback = reference.gru_vjp(X, PARAMS, H_0, reset_after=False)
    assert_close("gru_forward", y, [[[29 / 40]]])
    assert_close("exact", h, y[0])
    da_r, da_z, da_n = 27 / 400 * log(2), -9 / 160, 27 / 100
    dh = 1 / 4 + 27 / 50 * log(2)
    assert_pulls_back(pullback, (da_r, da_z, da_n), da_n, dh, (da_r / 2, da_z / 2, 81 / 800))


def test_two_steps_of_reset_before_by_hand():
    # Second step with x = 0 from h = 29/40: r = z = 1/2, n = tanh(R_n h / 2 + b_hn), h' = (n + h) / 2.
    # R_n h / 2 = 29/30 ln 2, so e^{2 a} = 2^{29/15} (3/2)^8.
    e = 2 ** (29 / 15) * 1.5**8
    y, _ = reference.gru_forward(np.array([1.0, 0.0]).reshape(2, 1, 1), PARAMS, H_0, reset_after=False)
    assert_close("gru_forward", y.ravel(), [29 / 40, ((e - 1) / (e + 1) + 29 / 40) / 2])
