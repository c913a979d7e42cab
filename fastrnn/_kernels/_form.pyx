"""The shape of a contiguous array, checked once."""

cimport numpy as cnp

import math
import sys

cnp.import_array()


cdef Form form_of(tuple shape, dtype) except *:
    cdef Form form
    cdef int axis
    if len(shape) > MOST_AXES:
        raise ValueError(f"'shape' must have at most {MOST_AXES} axes, got {shape}")
    if math.prod(shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"empty: 'shape' must be non-negative and fit in memory, got {shape}")
    form.ndim = len(shape)
    for axis in range(form.ndim):
        form.dims[axis] = shape[axis]
    return form


cdef tuple as_tuple(const Form *form):
    return tuple([form.dims[axis] for axis in range(form.ndim)])
