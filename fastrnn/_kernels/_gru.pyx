"""The GRU cell in panel layout: r, z, n of W units side by side; a fourth vector keeps n's recurrent part apart."""

cimport cython

import numpy as np

from fastrnn._kernels._recurrent cimport Weights


@cython.final
cdef class GRUWeights(Weights):
    cdef readonly bint reset_after

    def __init__(self, dict params not None, bint reset_after, bint backward):
        self.start(params, 3, 1)
        self.reset_after = reset_after
        self.cell.x_vectors, self.cell.x_last = 3, 2
        self.packed.x = self.pack_forward(params["weight_ih"], 0, 3)
        if backward:
            self.packed.x_back = self.pack_backward(params["weight_ih"], 0, 3, 0)
        shape = 3, self.units
        bias_x = np.broadcast_to(params.get("bias_ih", 0), 3 * self.units).reshape(shape)
        bias_h = np.broadcast_to(params.get("bias_hh", 0), 3 * self.units).reshape(shape)
        r, z, n = bias_x + bias_h
        if reset_after:
            self.packed.bias = self.pack_bias([r, z, bias_x[2], bias_h[2]])
            self.pack_reset_after(params["weight_hh"], backward)
        else:
            self.packed.bias = self.pack_bias([r, z, n, np.zeros_like(n)])
            self.pack_reset_before(params["weight_hh"], backward)

    cdef pack_reset_after(self, weight, bint backward):
        self.cell.h_vectors, self.cell.h_last = 3, 3
        self.cell.forward, self.cell.backward = self.kernels.gru, self.kernels.gru_backward
        self.packed.h = self.pack_forward(weight, 0, 3)
        if backward:
            self.packed.h_back = self.pack_backward(weight, 0, 3, 1)

    cdef pack_reset_before(self, weight, bint backward):
        self.cell.h_vectors, self.cell.h_last, self.cell.second_product = 2, 1, True
        self.cell.forward, self.cell.update = self.kernels.gru_reset, self.kernels.gru_update
        self.cell.backward, self.cell.reset_backward = self.kernels.gru_update_backward, self.kernels.gru_reset_backward
        self.packed.h = self.pack_forward(weight, 0, 2)
        self.packed.n = self.pack_forward(weight, 2, 1)
        if backward:
            self.packed.h_back = self.pack_backward(weight, 0, 2, 0)
            self.packed.n_back = self.pack_backward(weight, 2, 1, 0)
