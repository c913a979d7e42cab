"""All cells of a recurrent layer in one call: inference from zero states, without what small calls would feel."""

cimport numpy as cnp
from libc.string cimport memset

import numpy as np

from fastrnn._kernels._memory cimport new_array
from fastrnn._kernels._plan cimport Plan, new_ragged
from fastrnn._kernels._recurrent cimport Call, Weights

from fastrnn._kernels._plan import uniform

cnp.import_array()


def run_layers(tuple weights not None, int directions, x, lengths, bint batch_first):
    """Run layers of `directions` cells each, from zero states.

    Parameters
    ----------
    weights : Weights of each cell, layer by layer
    x : anything; served is a contiguous array (T, N, C), or (N, T, C), of the right type, that is not empty
    lengths : anything; served are None and an array (N,) of signed integers, each in 1..T

    Returns
    -------
    y (T, N, D*R), or (N, T, D*R), and the last h (cells, N, R) and, for cells that have it, c (cells, N, H).
    None unless x and lengths are of the kind served: the caller then finds out what they are.
    """
    cdef Weights cell = weights[0]
    cdef cnp.ndarray steps, length = None
    if type(x) is not np.ndarray:
        return None
    steps = x
    if (steps.ndim != 3 or steps.shape[2] != cell.inputs or steps.descr is not cell.dtype or steps.size == 0
            or not cnp.PyArray_ISCARRAY_RO(steps)):
        return None
    if batch_first:
        steps = steps.swapaxes(0, 1)
    if lengths is not None:
        if type(lengths) is not np.ndarray or lengths.dtype.kind != "i":
            return None
        length = lengths.astype(np.intp)  # a copy: another thread may change it
        if not usable(length, steps.shape[1], steps.shape[0]):
            return None
    elif not cnp.PyArray_ISCARRAY_RO(steps):  # the rows of a step do not lie side by side
        length = np.full(steps.shape[1], steps.shape[0], np.intp)
    return run_cells(weights, directions, steps, length, batch_first)


cdef inline const cnp.npy_intp *length_of(cnp.ndarray lengths) noexcept:
    return <const cnp.npy_intp *> cnp.PyArray_DATA(lengths)


cdef bint usable(cnp.ndarray lengths, ptrdiff_t N, ptrdiff_t T) noexcept:
    cdef const cnp.npy_intp *length = length_of(lengths)
    cdef ptrdiff_t n
    if lengths.ndim != 1 or lengths.shape[0] != N or not cnp.PyArray_ISCARRAY_RO(lengths):
        return False
    for n in range(N):
        if length[n] < 1 or length[n] > T:
            return False
    return True


cdef run_cells(tuple weights, int directions, cnp.ndarray steps, cnp.ndarray lengths, bint batch_first):
    cdef ptrdiff_t T = steps.shape[0], N = steps.shape[1]
    cdef Weights cell = weights[0]
    cdef list plans = [new_plan(lengths, T, N, d == 1) for d in range(directions)]
    cdef cnp.ndarray h = new_states(weights, N, cell.width), c = None, y = None
    cdef int k, d
    if cell.cell.cell_state:
        c = new_states(weights, N, cell.units)
    for k in range(len(weights)):
        d = k % directions
        cell = weights[k]
        if d == 0:
            y = new_output(T, N, directions * cell.width, cell.dtype, batch_first and k + directions == len(weights))
        run_cell(cell, plans[d], steps, y, d * cell.width, h, c, k)
        if d == directions - 1:
            steps = y
    if lengths is not None and N == 1:
        clear_behind(y, length_of(lengths)[0])
    return y.swapaxes(0, 1) if batch_first else y, (h,) if c is None else (h, c)


cdef Plan new_plan(cnp.ndarray lengths, ptrdiff_t T, ptrdiff_t N, bint reverse):
    if lengths is None:
        return uniform(T, N, reverse)
    if N == 1:  # its steps lie side by side
        return uniform(length_of(lengths)[0], 1, reverse)
    return new_ragged(lengths, reverse)


cdef void clear_behind(cnp.ndarray y, ptrdiff_t length) noexcept:
    """Zeros in y (T, 1, n), which is contiguous, from step `length` on."""
    cdef ptrdiff_t nbytes = y.shape[2] * y.itemsize
    memset(<char *> cnp.PyArray_DATA(y) + length * nbytes, 0, (y.shape[0] - length) * nbytes)


cdef cnp.ndarray new_output(ptrdiff_t T, ptrdiff_t N, ptrdiff_t width, cnp.dtype dtype, bint batch_first):
    if batch_first:
        return new_array(dtype, 3, [N, T, width]).swapaxes(0, 1)
    return new_array(dtype, 3, [T, N, width])


cdef run_cell(Weights cell, Plan plan, cnp.ndarray steps, cnp.ndarray y, ptrdiff_t column, cnp.ndarray h, cnp.ndarray c,
              ptrdiff_t k):
    """One cell from steps (T, N, C) to the columns of y (T, N, D*R) from `column` on; its last states become h[k] and c[k]."""
    cdef cnp.ndarray rows, outputs
    cdef bint part = y.shape[2] > cell.width
    cdef Call call = Call.__new__(Call)
    if plan.order is None:
        rows, outputs = as_rows(steps), as_rows(y)
        if part:
            outputs = outputs[:, column:column + cell.width]
    else:
        rows, outputs = plan.gathered(steps), new_array(cell.dtype, 2, [plan.rows, cell.width])
    call.run(cell, rows, outputs, plan, None, None, False)
    if plan.order is not None:
        plan.scatter(outputs, y[:, :, column:column + cell.width] if part else y)
    call.copy_last(place_of(h, k), NULL if c is None else place_of(c, k))


cdef cnp.ndarray new_states(tuple weights, ptrdiff_t N, ptrdiff_t width):
    cdef cnp.npy_intp[3] shape = [len(weights), N, width]
    return cnp.PyArray_EMPTY(3, shape, (<Weights> weights[0]).dtype.num, 0)


cdef cnp.ndarray as_rows(cnp.ndarray steps):
    """The (T N, n) view of contiguous (T, N, n)."""
    cdef cnp.npy_intp[2] sizes = [steps.shape[0] * steps.shape[1], steps.shape[2]]
    cdef cnp.PyArray_Dims shape
    shape.ptr, shape.len = sizes, 2
    return cnp.PyArray_Newshape(steps, &shape, cnp.NPY_CORDER)


cdef inline char *place_of(cnp.ndarray states, ptrdiff_t k) noexcept:
    return <char *> cnp.PyArray_DATA(states) + k * states.strides[0]
