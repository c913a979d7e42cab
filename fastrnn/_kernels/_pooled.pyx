"""Poolings of arrays whose shapes came before, without what small calls would feel: one compiled call finds the windows, makes the
result and fills it.
"""

cimport cython
cimport numpy as cnp

from fastrnn._kernels._form cimport Form, as_tuple, fits, form_of
from fastrnn._kernels._memory cimport new_array
from fastrnn._kernels._pool cimport Windows
from fastrnn._kernels._time_pool cimport Sequence

cnp.import_array()

cdef enum:
    KEPT = 8  # shapes of one layer


@cython.final
cdef class Placed:
    """One pooling of arrays of one shape and element type. Never changes.

    Parameters
    ----------
    way : Windows or Sequence
    mode : int, of the windows
    shape, out : tuples of int
        Of x and y. They may have other axes than `way` was made for, if the elements lie alike.
    dtype : float32 or float64
    taken : dtype of the places of what was taken, or None for sums
    always : whether inference needs these places too
    """

    cdef Windows windows
    cdef Sequence sequence
    cdef int mode
    cdef Form x, y
    cdef cnp.dtype dtype, taken
    cdef bint always

    def __init__(self, way, int mode, tuple shape not None, tuple out not None, cnp.dtype dtype not None, cnp.dtype taken,
                 bint always=False):
        if isinstance(way, Windows):
            self.windows = way
        else:
            self.sequence = way
        self.mode, self.dtype, self.taken, self.always = mode, dtype, taken, always
        self.x, self.y = form_of(shape, dtype), form_of(out, dtype)

    cpdef object predict(self, cnp.ndarray x):
        """Return y; x has the shape and dtype of this pooling and lies as kernels take it."""
        cdef cnp.ndarray y = new_array(self.dtype, self.y.ndim, self.y.dims)
        self.run(x, y, self.new_taps() if self.always else None)
        return y

    cpdef tuple train(self, cnp.ndarray x, Pooling pooling):
        """Return y and the pullback, for which `pooling` complains."""
        cdef cnp.ndarray y = new_array(self.dtype, self.y.ndim, self.y.dims)
        cdef PoolPullback pullback = PoolPullback.__new__(PoolPullback)
        pullback.placed, pullback.pooling = self, pooling
        pullback.taps = None if self.taken is None else self.new_taps()
        self.run(x, y, pullback.taps)
        return y, pullback

    cdef cnp.ndarray new_taps(self):
        return new_array(self.taken, self.y.ndim, self.y.dims)

    cdef object run(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray taps):
        if self.windows is not None:
            self.windows.forward(self.mode, x, y, taps)
        else:
            self.sequence.forward(x, y, taps)

    cdef cnp.ndarray pull_back(self, cnp.ndarray dy, cnp.ndarray taps):
        cdef cnp.ndarray dx = new_array(self.dtype, self.x.ndim, self.x.dims)
        if self.windows is not None:
            self.windows.backward(self.mode, dy, taps, dx)
        else:
            self.sequence.backward(dy, taps, dx)
        return dx


@cython.final
cdef class PoolPullback:
    """The function from dy to dx of one call, to be called once."""

    cdef Placed placed
    cdef Pooling pooling
    cdef cnp.ndarray taps

    def __call__(self, dy):
        cdef Placed placed = self.placed
        if placed is None:
            raise RuntimeError(f"{self.pooling.name}: this pullback was called before; each may be called once")
        if not fits(dy, &placed.y, placed.dtype):
            dy = self.pooling.as_gradient(self.pooling.name, dy, (as_tuple(&placed.y), placed.dtype))
            if self.placed is None:  # meanwhile, by another thread
                return self(dy)
        self.placed = None
        return placed.pull_back(dy, self.taps)


@cython.final
cdef class Pooling:
    """The poolings of one layer on arrays of recent shapes.

    Parameters
    ----------
    name : who complains in messages
    as_gradient : function
        ``as_gradient(name, dy, (shape, dtype))`` returns dy as kernels take it, or raises.
    """

    cdef str name
    cdef object as_gradient
    cdef list kept  # the latest first

    def __init__(self, str name not None, as_gradient):
        self.name, self.as_gradient, self.kept = name, as_gradient, []

    def __reduce__(self):
        return Pooling, (self.name, self.as_gradient)

    cdef Placed find(self, x):
        cdef Placed placed
        cdef Py_ssize_t i
        for i in range(len(self.kept)):
            placed = self.kept[i]
            if fits(x, &placed.x, placed.dtype):
                if i:
                    self.kept.insert(0, self.kept.pop(i))
                return placed
        return None

    def keep(self, Placed placed not None):
        """Remember a pooling; of too many, the one that was used longest ago is forgotten."""
        self.kept.insert(0, placed)
        del self.kept[KEPT:]

    def predict(self, x):
        """Return y, or None for an x that is no array of a shape that is kept."""
        cdef Placed placed = self.find(x)
        return None if placed is None else placed.predict(x)

    def train(self, x):
        """Return y and the pullback, or None."""
        cdef Placed placed = self.find(x)
        return None if placed is None else placed.train(x, self)
