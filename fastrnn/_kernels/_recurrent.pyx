"""Weights of recurrent cells in panel layout, and the calls of the time loops over them.

Arrays come checked from `fastrnn.ops`: one element type, last axis contiguous, shapes that fit.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

import numpy as np

from fastrnn._kernels._dispatch cimport FR_FAR_BYTES, FR_SLOTS, kernels_for
from fastrnn._kernels._gemm cimport ceil_div, outer_rows, row_stride
from fastrnn._kernels._memory cimport Block, new_block, zeroed_block
from fastrnn._kernels._recurrent_backward cimport run_backward
from fastrnn._kernels._recurrent_forward cimport run_forward

cnp.import_array()

cdef ptrdiff_t CHUNK_BYTES = 1 << 20  # of gates computed ahead; they should still be cached when their step comes


cdef bint pays_ahead(ptrdiff_t rows, ptrdiff_t weight_bytes) noexcept nogil:
    """Whether to multiply x for many steps ahead of the time loop, not within each step of so many rows.

    Its weights are then read once for many rows, which pays the more the fewer rows a step has and the farther away the weights
    lie; but the gates are written and read once more. docs/performance.md has the measurements.
    """
    return rows <= (7 if weight_bytes <= FR_FAR_BYTES else 16)


cdef class Weights:
    """Packed weights of one cell: an immutable snapshot, for the instruction set in use when it was made."""

    cdef start(self, dict params, int gates, int unit_vectors):
        cdef cnp.ndarray weight_ih = params["weight_ih"], weight_hh = params["weight_hh"]
        self.dtype = weight_ih.descr
        self.itemsize = weight_ih.itemsize
        self.kernels = kernels_for(self.itemsize)
        self.units = weight_ih.shape[0] // gates
        self.inputs, self.width = weight_ih.shape[1], weight_hh.shape[1]
        self.cell.gates, self.cell.unit_vectors = gates, unit_vectors
        self.panels = ceil_div(self.units, unit_vectors * self.kernels.width)
        self.owners = []

    cdef char *own(self, Block block) except NULL:
        self.owners.append(block)
        return block.data

    cdef char *pack_forward(self, cnp.ndarray weight, int first_gate, int gates) except NULL:
        """[panel][k][vector of units of each gate] from rows (gate, unit) and columns k."""
        cdef ptrdiff_t width = self.kernels.width, k = weight.shape[1], p, j, unit, gate, units
        cdef ptrdiff_t vectors = gates * self.cell.unit_vectors, columns = vectors * width
        cdef char *packed = self.own(new_block(self.panels * k * columns * self.itemsize))
        cdef const char *data = <const char *> cnp.PyArray_DATA(weight)
        with nogil:
            for p in range(self.panels):
                for j in range(vectors):
                    gate = first_gate + j // self.cell.unit_vectors
                    unit = (p * self.cell.unit_vectors + j % self.cell.unit_vectors) * width
                    units = max(<ptrdiff_t> 0, min(width, self.units - unit))
                    self.kernels.pack_units(units, k, data + (gate * self.units + unit) * k * self.itemsize, k,
                                            packed + (p * k * columns + j * width) * self.itemsize, columns)
        return packed

    cdef char *pack_backward(self, cnp.ndarray weight, int first_gate, int gates, int alone) except NULL:
        """[panel of columns][k = (panel, gate, unit)][4 W]; the last `alone` gates come after all panels of the others."""
        cdef ptrdiff_t length = self.cell.unit_vectors * self.kernels.width, panel = FR_SLOTS * self.kernels.width
        cdef ptrdiff_t columns = weight.shape[1], together = gates - alone, back_k = self.panels * gates * length
        cdef ptrdiff_t p, g, k, unit, nbytes = ceil_div(columns, panel) * back_k * panel * self.itemsize
        cdef char *packed = self.own(new_block(nbytes) if self.units % length == 0 else zeroed_block(nbytes))
        cdef const char *data = <const char *> cnp.PyArray_DATA(weight)
        with nogil:
            for p in range(self.panels):
                unit = p * length
                for g in range(gates):
                    k = p * together + g if g < together else self.panels * g + p
                    self.kernels.pack_rows(min(length, self.units - unit), columns,
                                           data + ((first_gate + g) * self.units + unit) * columns * self.itemsize, columns,
                                           packed + k * length * panel * self.itemsize, panel, back_k * panel)
        return packed

    cdef char *pack_bias(self, list slots) except NULL:
        """[panel][4 W] from the (H,) bias of each slot."""
        cdef ptrdiff_t length = self.cell.unit_vectors * self.kernels.width, slot, p
        cdef char *packed = self.own(zeroed_block(self.panels * len(slots) * length * self.itemsize))
        cdef cnp.ndarray bias
        for slot in range(len(slots)):
            bias = np.ascontiguousarray(slots[slot], self.dtype)
            for p in range(self.panels):
                memcpy(packed + (p * len(slots) + slot) * length * self.itemsize,
                       <const char *> cnp.PyArray_DATA(bias) + p * length * self.itemsize,
                       min(length, self.units - p * length) * self.itemsize)
        return packed

    cdef void describe(self, Sequence *s) noexcept:
        memset(s, 0, sizeof(s[0]))
        s.kernels, s.itemsize, s.cell, s.packed = self.kernels, self.itemsize, self.cell, self.packed
        s.C, s.H, s.R = self.inputs, self.units, self.width
        s.panels, s.panel_units = self.panels, self.cell.unit_vectors * self.kernels.width
        s.blocks = ceil_div(self.units, FR_SLOTS * self.kernels.width)
        s.c_stride = s.blocks * FR_SLOTS * self.kernels.width
        s.dh_stride = ceil_div(self.width, FR_SLOTS * self.kernels.width) * FR_SLOTS * self.kernels.width


cdef inline char *data_of(cnp.ndarray array) noexcept:
    return NULL if array is None else <char *> cnp.PyArray_DATA(array)


@cython.final
cdef class Call:
    """One run of the time loop over steps whose rows lie in 2-D arrays.

    Parameters
    ----------
    weights : Weights
    x : (rows, C); y : (rows, R), written. Last axis contiguous.
    plan : Plan of those rows
    h0 : (N, R); c0 : (N, H), for cells that have it. Last axis contiguous; copied; zeros for None.
    keep : keep what `backward` needs; x and y must then not change
    """

    def __init__(self, Weights weights not None, cnp.ndarray x not None, cnp.ndarray y not None, Plan plan not None,
                 cnp.ndarray h0, cnp.ndarray c0, bint keep):
        self.run(weights, x, y, plan, h0, c0, keep)

    cdef run(self, Weights weights, cnp.ndarray x, cnp.ndarray y, Plan plan, cnp.ndarray h0, cnp.ndarray c0, bint keep):
        cdef Sequence *s = &self.s
        self.weights, self.plan = weights, plan
        self.alive = [x, y]
        weights.describe(s)
        s.row, s.active = <const ptrdiff_t *> data_of(plan.row), <const ptrdiff_t *> data_of(plan.active)
        s.T, s.N, s.rows = plan.row.shape[0], s.active[0], x.shape[0]
        s.x, s.x_stride, s.y, s.y_stride = data_of(x), row_stride(x), data_of(y), row_stride(y)
        s.keep = keep
        cdef ptrdiff_t weight_bytes = s.cell.gates * s.H * (s.C + s.R) * s.itemsize
        cdef ptrdiff_t step_bytes = s.N * s.panels * FR_SLOTS * s.kernels.width * s.itemsize
        s.project_first = pays_ahead(s.N, weight_bytes)
        s.chunk = min(s.T, max(<ptrdiff_t> 2, CHUNK_BYTES // step_bytes)) if s.project_first else s.T
        self.allocate(h0, c0)
        with nogil:
            run_forward(s)

    cdef allocate(self, cnp.ndarray h0, cnp.ndarray c0):
        cdef Sequence *s = &self.s
        cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width
        cdef ptrdiff_t gate_rows = s.rows if s.keep else min(s.rows, s.chunk * s.N) if s.project_first else s.N
        s.gates, s.gates_panel_stride = self.own(new_block(s.panels * gate_rows * panel * s.itemsize)), gate_rows * panel
        s.h0 = self.own(self.padded(h0, s.R))
        if s.cell.cell_state:
            s.c0 = s.c = self.own(self.padded(c0, s.c_stride))
            if s.keep:
                s.c = self.own(new_block(s.rows * s.c_stride * s.itemsize))
        if s.packed.projection != NULL or s.cell.second_product:
            s.inner = self.own(new_block((s.rows if s.keep else s.N) * s.H * s.itemsize))

    cdef char *own(self, Block block) except NULL:
        self.alive.append(block)
        return block.data

    cdef Block padded(self, cnp.ndarray values, ptrdiff_t stride):
        """A copy of (N, n) values in the plan's order, or zeros for None, in rows of `stride` elements, zeros behind."""
        cdef ptrdiff_t nbytes = stride * self.s.itemsize, n, place
        if values is None:
            return zeroed_block(self.s.N * nbytes)
        cdef ptrdiff_t used = values.shape[1] * self.s.itemsize, step = row_stride(values) * self.s.itemsize
        cdef const ptrdiff_t *places = <const ptrdiff_t *> data_of(self.plan.place)
        cdef Block copy = new_block(self.s.N * nbytes)
        for n in range(self.s.N):
            place = n if places == NULL else places[n]
            memcpy(copy.data + place * nbytes, data_of(values) + n * step, used)
            memset(copy.data + place * nbytes + used, 0, nbytes - used)
        return copy

    cdef cnp.ndarray new_state(self, ptrdiff_t columns):
        cdef cnp.npy_intp[2] shape = [self.s.N, columns]
        return cnp.PyArray_EMPTY(2, shape, self.weights.dtype.num, 0)

    cdef void copy_rows(self, char *to, const char *rows, ptrdiff_t stride, ptrdiff_t columns, cnp.ndarray which) noexcept:
        """Copy row which[n], for None row n, to row n of (N, columns), for all sequences in the user's order."""
        cdef const ptrdiff_t *row = <const ptrdiff_t *> data_of(which)
        cdef ptrdiff_t nbytes = columns * self.s.itemsize, n
        for n in range(self.s.N):
            memcpy(to + n * nbytes, rows + (n if row == NULL else row[n]) * stride * self.s.itemsize, nbytes)

    cdef void copy_last(self, char *h, char *c) noexcept:
        """Copy what `last` returns; c is NULL for cells that have none."""
        cdef Sequence *s = &self.s
        self.copy_rows(h, s.y, s.y_stride, s.R, self.plan.last)
        if c != NULL:
            self.copy_rows(c, s.c, s.c_stride, s.H, self.plan.last if s.keep else self.plan.place)

    def last(self):
        """h (N, R) and, for cells that have it, c (N, H) after the last step of each sequence."""
        cdef cnp.ndarray h = self.new_state(self.s.R), c = self.new_state(self.s.H) if self.s.cell.cell_state else None
        self.copy_last(data_of(h), data_of(c))
        return (h,) if c is None else (h, c)

    def backward(self, cnp.ndarray dy, cnp.ndarray dh, cnp.ndarray dc, cnp.ndarray dx not None, dict grads not None):
        """Fill dx and add to `grads`; once only, since the kept gates are overwritten.

        Parameters
        ----------
        dy : (rows, R) or None; dh : (N, R) or None; dc : (N, H) or None
        dx : (rows, C), written
        grads : name -> contiguous array to add into

        Returns
        -------
        (dh0 (N, R), dc0 (N, H)), or (dh0,) for cells without c
        """
        cdef Sequence *s = &self.s
        cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, panels
        cdef Block carried_h = self.padded(dh, s.dh_stride), carried_c, sums = zeroed_block(s.panels * panel * s.itemsize)
        cdef Block operands, du, dprojected
        cdef cnp.ndarray previous = self.plan.before(), dh0 = self.new_state(s.R), dc0 = None
        s.dh, s.sums, s.previous = carried_h.data, sums.data, <const ptrdiff_t *> data_of(previous)
        s.dy, s.dx, s.dx_stride = data_of(dy), data_of(dx), row_stride(dx)
        s.dy_stride = 0 if dy is None else row_stride(dy)
        if s.cell.cell_state:
            carried_c = self.padded(dc, s.c_stride)
            s.dc = carried_c.data
        if s.inner != NULL:
            du = new_block(s.N * s.c_stride * s.itemsize)
            dprojected = new_block(s.rows * s.R * s.itemsize)
            s.du, s.dprojected = du.data, dprojected.data
        panels = ceil_div(s.C, panel) + ceil_div(s.R, panel) + (ceil_div(s.H, panel) if s.inner != NULL else 0)
        operands = new_block(2 * panels * outer_rows(s.rows) * panel * s.itemsize)
        s.operands = operands.data
        s.dw_x, s.dw_h = data_of(grads["weight_ih"]), data_of(grads["weight_hh"])
        s.db_x, s.db_h = data_of(grads.get("bias_ih")), data_of(grads.get("bias_hh"))
        s.dw_projection = data_of(grads.get("weight_hr"))
        with nogil:
            run_backward(s)
        self.copy_rows(data_of(dh0), s.dh, s.dh_stride, s.R, self.plan.place)
        if not s.cell.cell_state:
            return (dh0,)
        dc0 = self.new_state(s.H)
        self.copy_rows(data_of(dc0), s.dc, s.c_stride, s.H, self.plan.place)
        return dh0, dc0
