"""Step-by-step use of a stack of recurrent layers: one compiled call per step, which allocates nothing."""

cimport cython
cimport numpy as cnp

import numpy as np

from fastrnn._kernels._dispatch cimport FR_SLOTS
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._recurrent cimport Sequence, Weights
from fastrnn._kernels._recurrent_forward cimport run_forward

cnp.import_array()

cdef ptrdiff_t FIRST_ROW = 0


@cython.final
cdef class Layer:
    """One layer of a stream: its state, and the description of a call of one step."""

    cdef Sequence s
    cdef Weights weights
    cdef list alive
    cdef ptrdiff_t batch
    cdef cnp.ndarray h, c   # h (2, N, R): a step reads one and writes the other

    def __init__(self, Weights weights not None, ptrdiff_t batch):
        cdef Sequence *s = &self.s
        cdef ptrdiff_t panel
        cdef Block gates, inner
        self.weights, self.batch = weights, batch
        weights.describe(s)
        panel = FR_SLOTS * s.kernels.width
        self.h = np.zeros((2, batch, s.R), weights.dtype)
        gates = new_block(s.panels * batch * panel * s.itemsize)
        inner = new_block(batch * s.H * s.itemsize)
        self.alive = [gates, inner]
        s.T, s.N, s.rows, s.chunk = 1, batch, batch, 1
        s.row, s.active = &FIRST_ROW, &self.batch
        s.x_stride, s.y_stride = s.C, s.R
        s.gates, s.gates_panel_stride = gates.data, batch * panel
        if s.packed.projection != NULL or s.cell.second_product:
            s.inner = inner.data
        if s.cell.cell_state:
            self.c = np.zeros((batch, s.c_stride), weights.dtype)
            s.c = <char *> cnp.PyArray_DATA(self.c)


@cython.final
cdef class Stream:
    """A stack of layers of one direction.

    Parameters
    ----------
    layers : list of Weights, each as wide as the next reads
    batch : N >= 1
    convert : called with an x that cannot be read as it is; returns a contiguous (N, C) array of the right type, or raises
    """

    cdef list layers
    cdef Layer first
    cdef ptrdiff_t batch, inputs
    cdef cnp.dtype dtype
    cdef object convert
    cdef int phase           # which half of h the last step wrote
    cdef tuple views         # the two halves of the last layer's h, as the user sees them

    def __init__(self, list layers not None, ptrdiff_t batch, convert not None):
        cdef Layer last
        self.convert, self.batch = convert, batch
        self.layers = [Layer(weights, batch) for weights in layers]
        self.first, last = self.layers[0], self.layers[len(layers) - 1]
        self.inputs, self.dtype = self.first.s.C, last.weights.dtype
        views = []
        for half in last.h:
            half = half.view()
            half.flags.writeable = False
            views.append(half)
        self.views = tuple(views)

    def step(self, x not None):
        """Return h (N, R) of the last layer after reading x (N, C): a read-only view, valid until the next step."""
        cdef cnp.ndarray array = self.checked(x)
        cdef const char *source = <const char *> cnp.PyArray_DATA(array)
        cdef int phase = 1 - self.phase
        cdef Layer layer
        cdef ptrdiff_t half
        for layer in self.layers:
            half = self.batch * layer.s.R * layer.s.itemsize
            layer.s.x = source
            layer.s.h0 = <char *> cnp.PyArray_DATA(layer.h) + self.phase * half
            layer.s.y = <char *> cnp.PyArray_DATA(layer.h) + phase * half
            with nogil:
                run_forward(&layer.s)
            source = layer.s.y
        self.phase = phase
        return self.views[phase]

    cdef cnp.ndarray checked(self, x):
        cdef cnp.ndarray array
        if isinstance(x, np.ndarray):
            array = x
            if (array.ndim == 2 and array.shape[0] == self.batch and array.shape[1] == self.inputs and array.descr is self.dtype
                    and cnp.PyArray_ISCARRAY_RO(array)):
                return array
        return self.convert(x)

    def reset(self, h, c):
        """Start again from h (layers, N, R) and c (layers, N, H), checked by the caller; zeros for None."""
        cdef Layer layer
        for i, layer in enumerate(self.layers):
            layer.h[self.phase] = 0 if h is None else h[i]
            if layer.c is not None:
                layer.c[:] = 0
                if c is not None:
                    layer.c[:, :layer.s.H] = c[i]

    def state(self):
        """Copies of h (layers, N, R) and c (layers, N, H) or None."""
        cdef Layer layer
        h = np.stack([layer.h[self.phase] for layer in self.layers])
        if self.first.c is None:
            return h, None
        return h, np.stack([layer.c[:, :layer.s.H] for layer in self.layers])
