"""A part of a batch as a time loop of its own: sequences do not need each other, so members that share them out need not meet.

A part is the description of the whole with its pointers moved to its first sequence; what lies where stays as it was.
"""

from fastrnn._kernels._dispatch cimport FR_SLOTS
from fastrnn._kernels._recurrent cimport Sequence
from fastrnn._kernels._threads cimport team_size

# Sequences that a part has at least: fewer rows do not share well what is read of the weights.
cdef ptrdiff_t LEAST_SEQUENCES = 4

# The most bytes of weights that every member reads in a step. By turns with members that share out panels, two threads: small
# cells gain (64 inputs and units +10%; a gradient of 64 units, which has one panel, +40%), from here on they lose up to 25%.
cdef ptrdiff_t FORWARD_BYTES = 1 << 18
cdef ptrdiff_t BACKWARD_BYTES = 1 << 19


cdef int forward_parts(Sequence *s, double step_time) noexcept nogil:
    """Into how many parts to cut a batch whose steps take so many nanoseconds each; 1: none."""
    cdef ptrdiff_t weights = s.cell.gates * s.H * (s.C + s.R)
    if s.project_first or weights * s.itemsize > FORWARD_BYTES:
        return 1
    return team_size(step_time * s.T, 1, s.N // LEAST_SEQUENCES)


cdef int backward_parts(Sequence *s, double step_time) noexcept nogil:
    """The same of the time loop of the gradients."""
    if s.cell.gates * s.H * s.R * s.itemsize > BACKWARD_BYTES:
        return 1
    return team_size(step_time * s.T, 1, s.N // LEAST_SEQUENCES)


cdef ptrdiff_t first_place(Sequence *s, int member, int size) noexcept nogil:
    """The first place of a member's part, all parts having about as many rows; sequences come longest first."""
    cdef ptrdiff_t place, t, rows, low = 0, high = s.N
    if s.active[s.T - 1] == s.N:
        return s.N * member // size
    while low < high:  # the first place before which the places have enough rows
        place, rows = (low + high) // 2, 0
        for t in range(s.T):
            rows += min(place, s.active[t])
        if rows * size < s.rows * member:
            low = place + 1
        else:
            high = place
    return low


cdef Sequence part_of(Sequence *s, int member, int size) noexcept nogil:
    cdef Sequence part = s[0]
    cdef ptrdiff_t place = first_place(s, member, size)
    part.place, part.N = place, first_place(s, member + 1, size) - place
    while part.T > 0 and s.active[part.T - 1] <= place:
        part.T -= 1
    part.x = s.x + place * s.x_stride * s.itemsize
    part.y = s.y + place * s.y_stride * s.itemsize
    part.h0 = s.h0 + place * s.R * s.itemsize
    part.gates = s.gates + place * FR_SLOTS * s.kernels.width * s.itemsize
    if s.c != NULL:
        part.c = s.c + place * s.c_stride * s.itemsize
    if s.c0 != NULL:
        part.c0 = s.c0 + place * s.c_stride * s.itemsize
    if s.inner != NULL:
        part.inner = s.inner + place * s.H * s.itemsize
    if s.dh != NULL:
        move_gradients(&part, place)
    return part


cdef void move_gradients(Sequence *s, ptrdiff_t place) noexcept nogil:
    s.dh = s.dh + place * s.dh_stride * s.itemsize
    if s.dy != NULL:
        s.dy = s.dy + place * s.dy_stride * s.itemsize
    if s.dc != NULL:
        s.dc = s.dc + place * s.c_stride * s.itemsize
    if s.inner != NULL:
        s.du = s.du + place * s.c_stride * s.itemsize
        s.dprojected = s.dprojected + place * s.R * s.itemsize
