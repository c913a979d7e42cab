"""One fused pass of an optimiser over parameters, gradients and state. Arrays are contiguous and of one size and type."""

cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_adam, fr_sgd, kernels_for

cnp.import_array()


def adam(cnp.ndarray param not None, cnp.ndarray grad not None, cnp.ndarray m not None, cnp.ndarray v not None, *,
         double lr, double beta1, double beta2, double eps, double weight_decay, double correction1, double correction2,
         bint decoupled):
    """Adam or AdamW in place; correction1 and correction2 are 1 - beta^step."""
    cdef fr_adam step
    step.n = cnp.PyArray_SIZE(param)
    step.param, step.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
    step.m, step.v = cnp.PyArray_DATA(m), cnp.PyArray_DATA(v)
    step.lr, step.beta1, step.beta2, step.eps, step.weight_decay = lr, beta1, beta2, eps, weight_decay
    step.correction1, step.correction2, step.decoupled = correction1, correction2, decoupled
    cdef int itemsize = param.itemsize
    with nogil:
        kernels_for(itemsize).adam(&step)


def sgd(cnp.ndarray param not None, cnp.ndarray grad not None, cnp.ndarray momentum_buffer, *, double lr, double momentum,
        double dampening, double weight_decay, bint nesterov, bint first):
    """Gradient descent in place, with momentum if there is a buffer."""
    cdef fr_sgd step
    memset(&step, 0, sizeof(step))
    step.n = cnp.PyArray_SIZE(param)
    step.param, step.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
    if momentum_buffer is not None:
        step.momentum_buffer = cnp.PyArray_DATA(momentum_buffer)
    step.lr, step.momentum, step.dampening, step.weight_decay = lr, momentum, dampening, weight_decay
    step.nesterov, step.first = nesterov, first
    cdef int itemsize = param.itemsize
    with nogil:
        kernels_for(itemsize).sgd(&step)
