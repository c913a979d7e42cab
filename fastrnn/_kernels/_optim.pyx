"""One fused pass of an optimiser over parameters, gradients and state, shared out over a team.

Arrays are contiguous and of one size and type.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_adam, fr_kernels, fr_sgd, kernels_for
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_ELEMENT = 0.8  # with its state; bound by memory
cdef ptrdiff_t CHUNK = 1024  # elements; shares are whole chunks, so that no two members write to one cache line

cdef struct Pass:
    const fr_kernels *kernels
    int itemsize
    fr_adam adam
    fr_sgd sgd

cdef inline int members(ptrdiff_t n) noexcept nogil:
    return team_size(NANOSECONDS_PER_ELEMENT * n, 1, n // CHUNK)

cdef inline ptrdiff_t first_element(ptrdiff_t n, int member, int size) noexcept nogil:
    return n if member == size else first_of(n // CHUNK, member, size) * CHUNK

cdef void share_of_adam(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef fr_adam part = whole.adam
    cdef ptrdiff_t first = first_element(part.n, member, team.size), offset = first * whole.itemsize
    part.n = first_element(part.n, member + 1, team.size) - first
    part.param, part.grad = <char *> part.param + offset, <const char *> part.grad + offset
    part.m, part.v = <char *> part.m + offset, <char *> part.v + offset
    whole.kernels.adam(&part)

cdef void share_of_sgd(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef fr_sgd part = whole.sgd
    cdef ptrdiff_t first = first_element(part.n, member, team.size), offset = first * whole.itemsize
    part.n = first_element(part.n, member + 1, team.size) - first
    part.param, part.grad = <char *> part.param + offset, <const char *> part.grad + offset
    if part.momentum_buffer != NULL:
        part.momentum_buffer = <char *> part.momentum_buffer + offset
    whole.kernels.sgd(&part)


def adam(cnp.ndarray param not None, cnp.ndarray grad not None, cnp.ndarray m not None, cnp.ndarray v not None, *,
         double lr, double beta1, double beta2, double eps, double weight_decay, double correction1, double correction2,
         bint decoupled):
    """Adam or AdamW in place; correction1 and correction2 are 1 - beta^step."""
    cdef Pass whole
    cdef fr_adam *step = &whole.adam
    step.n = cnp.PyArray_SIZE(param)
    step.param, step.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
    step.m, step.v = cnp.PyArray_DATA(m), cnp.PyArray_DATA(v)
    step.lr, step.beta1, step.beta2, step.eps, step.weight_decay = lr, beta1, beta2, eps, weight_decay
    step.correction1, step.correction2, step.decoupled = correction1, correction2, decoupled
    whole.itemsize = param.itemsize
    whole.kernels = kernels_for(whole.itemsize)
    with nogil:
        run_team(share_of_adam, &whole, members(step.n))


def sgd(cnp.ndarray param not None, cnp.ndarray grad not None, cnp.ndarray momentum_buffer, *, double lr, double momentum,
        double dampening, double weight_decay, bint nesterov, bint first):
    """Gradient descent in place, with momentum if there is a buffer."""
    cdef Pass whole
    cdef fr_sgd *step = &whole.sgd
    memset(step, 0, sizeof(step[0]))
    step.n = cnp.PyArray_SIZE(param)
    step.param, step.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
    if momentum_buffer is not None:
        step.momentum_buffer = cnp.PyArray_DATA(momentum_buffer)
    step.lr, step.momentum, step.dampening, step.weight_decay = lr, momentum, dampening, weight_decay
    step.nesterov, step.first = nesterov, first
    whole.itemsize = param.itemsize
    whole.kernels = kernels_for(whole.itemsize)
    with nogil:
        run_team(share_of_sgd, &whole, members(step.n))
