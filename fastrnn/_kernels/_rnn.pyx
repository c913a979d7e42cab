"""The plain recurrent cell in panel layout: h = tanh(W x + b + R h + b'), or relu."""

cimport cython

import numpy as np

from fastrnn._kernels._recurrent cimport Weights


@cython.final
cdef class RNNWeights(Weights):
    def __init__(self, dict params not None, str nonlinearity not None, bint backward):
        self.start(params, 1, 4)
        self.cell.x_vectors = self.cell.h_vectors = 4
        self.cell.x_last = self.cell.h_last = 3
        if nonlinearity == "relu":
            self.cell.forward, self.cell.backward = self.kernels.rnn_relu, self.kernels.rnn_relu_backward
        else:
            self.cell.forward, self.cell.backward = self.kernels.rnn_tanh, self.kernels.rnn_tanh_backward
        self.packed.x = self.pack_forward(params["weight_ih"], 0, 1)
        self.packed.h = self.pack_forward(params["weight_hh"], 0, 1)
        self.packed.bias = self.pack_bias([np.broadcast_to(params.get("bias_ih", 0) + params.get("bias_hh", 0), self.units)])
        if backward:
            self.packed.x_back = self.pack_backward(params["weight_ih"], 0, 1, 0)
            self.packed.h_back = self.pack_backward(params["weight_hh"], 0, 1, 0)
