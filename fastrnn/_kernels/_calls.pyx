"""Inference of layers on arrays whose shapes came before, without what small calls would feel: one compiled call makes the result
and runs the kernel.
"""

cimport cython
cimport numpy as cnp

from fastrnn._kernels._form cimport MOST_AXES as MOST_OF_FORMS, Form, fits, form_of, seen_as
from fastrnn._kernels._memory cimport new_array

cnp.import_array()

cdef enum:
    KEPT = 8  # shapes of one layer

MOST_AXES = MOST_OF_FORMS  # of arrays that calls can be prepared for


@cython.final
cdef class Prepared:
    """One way to call a kernel: the shapes that it was planned for, and what it is called with.

    Parameters
    ----------
    shape, out : tuples of int
        Of x and y, as the user has them.
    shape_seen, out_seen : tuples of int
        The same elements as the kernel takes them.
    dtype : float32 or float64
    activation : str or None
        What the layer's has to be.
    run : function
        ``run(x, y, *rest)`` fills y.
    rest : tuple
    then : function, optional
        ``then(y, y)`` changes y in place after that.
    """

    cdef Form x, y, x_seen, y_seen
    cdef cnp.dtype dtype
    cdef object activation, run, then
    cdef tuple rest

    def __init__(self, tuple shape not None, tuple out not None, tuple shape_seen not None, tuple out_seen not None,
                 cnp.dtype dtype not None, activation, run, tuple rest not None, then=None):
        self.x, self.y = form_of(shape, dtype), form_of(out, dtype)
        self.x_seen, self.y_seen = form_of(shape_seen, dtype), form_of(out_seen, dtype)
        self.dtype, self.activation, self.run, self.rest, self.then = dtype, activation, run, rest, then

    cdef cnp.ndarray predict(self, cnp.ndarray x):
        cdef cnp.ndarray y = new_array(self.dtype, self.y.ndim, self.y.dims), seen = seen_as(y, &self.y_seen)
        self.run(seen_as(x, &self.x_seen), seen, *self.rest)
        if self.then is not None:
            self.then(seen, seen)
        return y


@cython.final
cdef class Calls:
    """What is prepared of one packed layer, for recent shapes; the latest first."""

    cdef list kept

    def __cinit__(self):
        self.kept = []

    def keep(self, Prepared prepared not None):
        """Remember a way; of too many, the one that was used longest ago is forgotten."""
        self.kept.insert(0, prepared)
        del self.kept[KEPT:]

    def predict(self, x, activation):
        """Return y, or None for an x that is no array of a shape that is kept for this activation."""
        cdef Prepared prepared
        cdef Py_ssize_t i
        for i in range(len(self.kept)):
            prepared = self.kept[i]
            if fits(x, &prepared.x, prepared.dtype) and prepared.activation == activation:
                if i:
                    self.kept.insert(0, self.kept.pop(i))
                return prepared.predict(x)
        return None
