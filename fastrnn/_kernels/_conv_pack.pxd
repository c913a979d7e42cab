# Weights of a correlation, or of a transposed one, in panels for the kernel `conv`.

from fastrnn._kernels._dispatch cimport fr_kernels
from fastrnn._kernels._memory cimport Block
from fastrnn._kernels._windows cimport Axis

cdef struct Weights:
    # As they lie: [group][outputs][inputs][tap], or [group][inputs][outputs][tap] if `turned`.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    ptrdiff_t groups, inputs, outputs   # channels and maps of one group
    ptrdiff_t columns                   # of packed weights in a group: whole vectors
    bint turned
    const char *data

cdef struct Places:
    # Where the weights of a panel go.
    ptrdiff_t row      # what `place` was filled for; 0: nothing yet
    ptrdiff_t *place   # [entries_of]

cdef ptrdiff_t entries_of(const Weights *w) noexcept nogil
cdef int vectors_of(const Weights *w, ptrdiff_t panel) noexcept nogil
cdef void pack_panel(const Weights *w, ptrdiff_t group, ptrdiff_t panel, Places *places, char *to) noexcept nogil
cdef Block pack_all(const Weights *w)
