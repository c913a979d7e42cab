# Backpropagation through time for every recurrent cell.

from fastrnn._kernels._recurrent cimport Sequence

cdef void run_backward(Sequence *s) noexcept nogil
