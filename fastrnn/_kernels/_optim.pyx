"""One fused pass of an optimiser over parameters, gradients and what it keeps, shared out over a team; and clipping.

Arrays are contiguous and of one size and type.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_CHUNK, fr_kernels, fr_optim, fr_optim_fn, kernels_for
from fastrnn._kernels._threads cimport Team, first_element, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_ELEMENT = 0.8  # with its state; bound by memory
cdef double NANOSECONDS_TO_CLIP = 0.15
cdef double NANOSECONDS_PER_ROW = 100      # rows far apart come from memory

cdef struct Pass:
    fr_optim_fn function
    fr_optim whole
    int itemsize
    const int64_t *rows  # NULL: all of the arrays
    ptrdiff_t count

cdef fr_optim part_of(const Pass *work, ptrdiff_t first, ptrdiff_t n) noexcept nogil:
    cdef fr_optim part = work.whole
    cdef ptrdiff_t offset = first * work.itemsize
    cdef int slot
    part.n = n
    part.param, part.grad = <char *> part.param + offset, <const char *> part.grad + offset
    for slot in range(3):
        if part.slot[slot] != NULL:
            part.slot[slot] = <char *> part.slot[slot] + offset
    return part

cdef void share_of_update(void *given, Team *team, int member) noexcept nogil:
    cdef const Pass *work = <const Pass *> given
    cdef ptrdiff_t first, width = work.whole.n
    cdef fr_optim part
    if work.rows == NULL:
        first = first_element(width, member, team.size)
        part = part_of(work, first, first_element(width, member + 1, team.size) - first)
        work.function(&part)
        return
    cdef ptrdiff_t i
    for i in range(first_of(work.count, member, team.size), first_of(work.count, member + 1, team.size)):
        part = part_of(work, work.rows[i] * width, width)
        work.function(&part)

cdef fr_optim_fn function_named(str kind, const fr_kernels *kernels) except NULL:
    if kind == "sgd":
        return kernels.sgd
    if kind == "adam":
        return kernels.adam
    if kind == "rmsprop":
        return kernels.rmsprop
    if kind == "adagrad":
        return kernels.adagrad
    if kind == "adadelta":
        return kernels.adadelta
    raise ValueError(f"update: no optimiser {kind!r}")


def update(str kind, cnp.ndarray param not None, cnp.ndarray grad not None, tuple slots not None, cnp.ndarray rows=None, *,
           double lr, double beta1=0, double beta2=0, double eps=0, double weight_decay=0, double dampening=0,
           double correction1=1, double correction2=1, bint decoupled=False, bint nesterov=False, bint first=False):
    """Update `param` in place, of a table only the `rows` (int64, each once) if they are given.

    A slot is an array or None; for `kind` and which numbers and slots it takes, see `fr_optim`.
    """
    cdef Pass work
    cdef fr_optim *step = &work.whole
    cdef int size, index
    cdef cnp.ndarray array
    memset(&work, 0, sizeof(work))
    work.itemsize = param.itemsize
    work.function = function_named(kind, kernels_for(work.itemsize))
    step.param, step.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
    for index in range(len(slots)):
        if slots[index] is not None:
            array = slots[index]
            step.slot[index] = cnp.PyArray_DATA(array)
    step.lr, step.beta1, step.beta2, step.eps, step.weight_decay, step.dampening = lr, beta1, beta2, eps, weight_decay, dampening
    step.correction1, step.correction2 = correction1, correction2
    step.decoupled, step.nesterov, step.first = decoupled, nesterov, first
    step.n = cnp.PyArray_SIZE(param)
    if rows is None:
        size = team_size(NANOSECONDS_PER_ELEMENT * step.n, 1, step.n // FR_CHUNK)
    else:
        step.n = step.n // max(param.shape[0], 1)
        work.rows, work.count = <const int64_t *> cnp.PyArray_DATA(rows), rows.shape[0]
        size = team_size((NANOSECONDS_PER_ROW + NANOSECONDS_PER_ELEMENT * step.n) * work.count, 1, work.count)
    with nogil:
        run_team(share_of_update, &work, size)


cdef struct Clip:
    const fr_kernels *kernels
    int itemsize, mode
    ptrdiff_t n
    char *x
    double number
    double *sums

cdef enum:
    SUM, SCALE, LIMIT

cdef void share_of_clip(void *given, Team *team, int member) noexcept nogil:
    cdef const Clip *work = <const Clip *> given
    cdef ptrdiff_t first = first_element(work.n, member, team.size), n = first_element(work.n, member + 1, team.size) - first
    cdef char *x = work.x + first * work.itemsize
    if work.mode == SUM:
        work.kernels.sum_squares(n, x, work.sums + first // FR_CHUNK)
    elif work.mode == SCALE:
        work.kernels.scale(n, work.number, x)
    else:
        work.kernels.limit(n, work.number, x)

cdef void clip(int mode, cnp.ndarray x, double number, double *sums):
    cdef Clip work
    work.mode, work.itemsize, work.number, work.sums = mode, x.itemsize, number, sums
    work.kernels, work.n, work.x = kernels_for(work.itemsize), cnp.PyArray_SIZE(x), <char *> cnp.PyArray_DATA(x)
    cdef int size = team_size(NANOSECONDS_TO_CLIP * work.n, 1, work.n // FR_CHUNK)
    with nogil:
        run_team(share_of_clip, &work, size)


def chunk_size():
    """Elements whose squares `sum_squares` adds up in their own type."""
    return FR_CHUNK


def sum_squares(cnp.ndarray x not None, cnp.ndarray sums not None):
    """Fill sums (float64), one for each `chunk_size()` elements."""
    clip(SUM, x, 0, <double *> cnp.PyArray_DATA(sums))


def scale(cnp.ndarray x not None, double factor):
    """x *= factor."""
    clip(SCALE, x, factor, NULL)


def limit(cnp.ndarray x not None, double limit):
    """Limit x to -limit..limit in place; NaN stays."""
    clip(LIMIT, x, limit, NULL)
