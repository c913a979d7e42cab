# What the time loops of all recurrent cells share: the weights in panel layout, and the description of one call.
#
# A panel is four vectors wide. For LSTM and GRU it holds the gates of W units, one vector each, so that the product leaves all
# gates of a unit side by side; for the plain RNN it holds 4 W units.

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_cell_backward_fn, fr_cell_fn, fr_kernels
from fastrnn._kernels._memory cimport Block
from fastrnn._kernels._plan cimport Plan

cdef struct Cell:
    int gates                  # 1 RNN, 3 GRU, 4 LSTM
    int unit_vectors           # vectors of units in one panel: 4 RNN, 1 else
    int x_vectors, x_last      # how the product with x fills the four slots (fr_run)
    int h_vectors, h_last      # and the one with h
    int cell_state             # LSTM: there is a c beside h
    int second_product         # GRU with reset before the product: n has a product of its own, after the reset gate
    fr_cell_fn forward
    fr_cell_fn update          # after the second product
    fr_cell_backward_fn backward
    fr_cell_backward_fn reset_backward

cdef struct Packed:
    # Operands B, all [panel][k][columns]. The backward ones are NULL in weights packed for inference only.
    const char *x              # forward: [panel][C][x_vectors W]
    const char *h              #          [panel][R][h_vectors W]
    const char *bias           #          [panel][4 W]
    const char *n              #          second product, [panel][H][W]
    const char *projection     #          [panel of 4 W outputs][H][4 W]
    const char *x_back         # backward, panels of 4 W columns: k = (panel, gate, unit)
    const char *h_back         #          k = (panel, gate, unit), GRU: all r, z first, then all n
    const char *n_back         #          k = (panel, unit)
    const char *projection_back

cdef struct Sequence:
    const fr_kernels *kernels
    int itemsize
    Cell cell
    Packed packed
    ptrdiff_t T, N, C, H, R    # R: width of y and of the recurrent operand; H unless projected
    ptrdiff_t panels, panel_units, blocks  # blocks of 4 W units
    const ptrdiff_t *row       # [T] first row of step s in x, y and what is kept
    const ptrdiff_t *active    # [T] rows of step s, never more than the step before
    ptrdiff_t rows             # of x and y
    ptrdiff_t place            # of the first sequence, if these are a part of a batch
    int keep                   # training: gates, c and inner are kept for all rows
    int project_first          # products with x for `chunk` steps ahead of the time loop
    ptrdiff_t chunk
    const char *x
    ptrdiff_t x_stride
    char *y
    ptrdiff_t y_stride
    const char *h0             # [N, R]
    char *gates                # [panel][kept, chunk or active rows][4 W]
    ptrdiff_t gates_panel_stride
    char *c                    # [kept rows or N, padded H]; without keep it starts as c0 and ends as each sequence's last
    const char *c0             # [N, padded H]
    ptrdiff_t c_stride
    char *inner                # [kept rows or N, H]: what is projected, or r*h_prev
    # backward
    const char *dy             # NULL: zeros
    ptrdiff_t dy_stride
    char *dh                   # [N, dh_stride] starts as the gradient of the last states, ends as that of h0
    ptrdiff_t dh_stride
    char *dc                   # [N, c_stride]
    char *du                   # gradient of the inner vector: [N, padded H]
    char *dprojected           # [rows, R] gradient of y with all that later steps add
    const ptrdiff_t *previous  # [rows] row of y that holds h_prev, or -1-n for row n of h0
    char *operands             # two blocks of packed rows of x, h_prev and inner
    char *sums                 # [panels][4 W] column sums of the gates' gradients, zero at first
    char *dx
    ptrdiff_t dx_stride
    char *dw_x
    char *dw_h
    char *db_x                 # NULL: no such bias
    char *db_h
    char *dw_projection

cdef class Weights:
    cdef Cell cell
    cdef Packed packed
    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly ptrdiff_t inputs, units, width  # C, H, R
    cdef readonly cnp.dtype dtype
    cdef ptrdiff_t panels
    cdef list owners           # of the packed memory

    cdef start(self, dict params, int gates, int unit_vectors)
    cdef char *own(self, Block block) except NULL
    cdef char *pack_forward(self, cnp.ndarray weight, int first_gate, int gates) except NULL
    cdef char *pack_backward(self, cnp.ndarray weight, int first_gate, int gates, int alone) except NULL
    cdef char *pack_bias(self, list slots) except NULL
    cdef void describe(self, Sequence *s) noexcept

cdef class Call:
    cdef Sequence s
    cdef Weights weights
    cdef Plan plan
    cdef list alive

    cdef run(self, Weights weights, cnp.ndarray x, cnp.ndarray y, Plan plan, cnp.ndarray h0, cnp.ndarray c0, bint keep)
    cdef allocate(self, cnp.ndarray h0, cnp.ndarray c0)
    cdef char *own(self, Block block) except NULL
    cdef Block padded(self, cnp.ndarray values, ptrdiff_t stride)
    cdef cnp.ndarray new_state(self, ptrdiff_t columns)
    cdef void copy_rows(self, char *to, const char *rows, ptrdiff_t stride, ptrdiff_t columns, cnp.ndarray which) noexcept
    cdef void copy_last(self, char *h, char *c) noexcept
