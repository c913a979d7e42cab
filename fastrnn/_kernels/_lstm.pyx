"""The LSTM cell in panel layout: gates i, f, g, o of W units side by side, one vector each."""

cimport cython
cimport numpy as cnp

import numpy as np

from fastrnn._kernels._gemm cimport pack_plain, pack_transposed
from fastrnn._kernels._recurrent cimport Weights

cnp.import_array()


@cython.final
cdef class LSTMWeights(Weights):
    def __init__(self, dict params not None, bint backward):
        self.start(params, 4, 1)
        self.cell.x_vectors = self.cell.h_vectors = 4
        self.cell.x_last = self.cell.h_last = 3
        self.cell.cell_state = True
        self.cell.forward, self.cell.backward = self.kernels.lstm, self.kernels.lstm_backward
        self.packed.x = self.pack_forward(params["weight_ih"], 0, 4)
        self.packed.h = self.pack_forward(params["weight_hh"], 0, 4)
        bias = np.broadcast_to(params.get("bias_ih", 0) + params.get("bias_hh", 0), 4 * self.units)
        self.packed.bias = self.pack_bias(list(bias.reshape(4, self.units)))
        if backward:
            self.packed.x_back = self.pack_backward(params["weight_ih"], 0, 4, 0)
            self.packed.h_back = self.pack_backward(params["weight_hh"], 0, 4, 0)
        if "weight_hr" in params:
            self.pack_projection(params["weight_hr"], backward)

    cdef pack_projection(self, cnp.ndarray weight, bint backward):
        cdef const char *data = <const char *> cnp.PyArray_DATA(weight)
        self.packed.projection = self.own(pack_transposed(self.kernels, self.itemsize, data, self.width, self.units))
        if backward:
            self.packed.projection_back = self.own(pack_plain(self.kernels, self.itemsize, data, self.width, self.units))
