"""Padded copies of parts of one map, for kernels whose vectors run along its rows.

What one output reads of the next one lies next to it: with a stride, the places fall into as many planes, one after another, as
the stride is long. Rows start with a whole vector, and the zeros behind one are those before the next.
"""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_pad
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._padding cimport pad_row
from fastrnn._kernels._windows cimport ZEROS, extent, inputs_of, place_of


cdef ptrdiff_t copy_bytes(const fr_kernels *kernels, int itemsize, const Axis *axis, const Blocks *blocks) noexcept nogil:
    """Memory that copies need, with what vectors read past them."""
    cdef ptrdiff_t step = axis[2].step, row = step * (ceil_div(extent(&axis[2], blocks.most[3]), step) + kernels.width)
    return ((extent(&axis[0], blocks.most[1]) * extent(&axis[1], blocks.most[2]) * row + (1 + FR_SLOTS) * kernels.width)
            * itemsize)


cdef void copy_map(const fr_kernels *kernels, int itemsize, const Axis *axis, const char *map, const ptrdiff_t *place_stride,
                   const Range *box, char *memory, Copy *copy) noexcept nogil:
    """What outputs of ranges `box` read of one map, with its borders, to `memory`."""
    cdef Range places[3]
    cdef ptrdiff_t a
    cdef bint inside = True
    for a in range(3):
        places[a] = inputs_of(&axis[a], box[a])
        copy.first[a] = places[a].first
        inside = inside and places[a].first >= 0 and places[a].end <= axis[a].source
    if not ((inside or axis[2].border == ZEROS) and pad_planes(kernels, itemsize, axis, map, place_stride, places, memory, copy)):
        pad_rows(itemsize, axis, map, place_stride, places, memory, copy)


cdef inline Range inside_of(Range places, ptrdiff_t step, ptrdiff_t phase, ptrdiff_t source) noexcept nogil:
    """Which of the places first + phase, first + phase + step, ... of a range lie in 0..source-1, by their number."""
    cdef Range inside
    cdef ptrdiff_t first = places.first + phase
    inside.first = 0 if first >= 0 else (step - 1 - first) // step
    inside.end = max(inside.first, ceil_div(min(places.end, source) - first, step))
    return inside


cdef bint pad_planes(const fr_kernels *kernels, int itemsize, const Axis *axis, const char *map, const ptrdiff_t *place_stride,
                     const Range *places, char *memory, Copy *copy) noexcept nogil:
    """Zeros around what is inside; false if more than a vector of them would lie before a row."""
    cdef ptrdiff_t step = axis[2].step, part = ceil_div(places[2].end - places[2].first, step), width = 0, phase, d, from_d
    cdef ptrdiff_t height = places[1].end - places[1].first
    cdef Range row, rows = inside_of(places[1], 1, 0, axis[1].source), leading = inside_of(places[2], step, 0, axis[2].source)
    cdef fr_pad pad
    if leading.first > kernels.width:
        return False
    for phase in range(step):
        row = inside_of(places[2], step, phase, axis[2].source)
        width = max(width, row.end - row.first + max(row.first, part - row.end))
    width = ceil_div(width, kernels.width) * kernels.width
    copy.place_stride[1], copy.place_stride[0] = width, width * height
    copy.part = copy.place_stride[0] * (places[0].end - places[0].first)
    copy.data = memory + (kernels.width - leading.first) * itemsize
    memset(memory, 0, kernels.width * itemsize)
    pad.width, pad.before, pad.step, pad.src_stride = width, 0, step, place_stride[1]
    for phase in range(step):
        row = inside_of(places[2], step, phase, axis[2].source)
        pad.columns = row.end - row.first
        for d in range(places[0].end - places[0].first):
            from_d = places[0].first + d
            pad.rows = rows.end - rows.first if 0 <= from_d < axis[0].source else 0
            pad.above = rows.first if pad.rows else height
            pad.below = height - pad.above - pad.rows
            pad.src = map + (from_d * place_stride[0] + (places[1].first + rows.first) * place_stride[1]
                             + places[2].first + phase + row.first * step) * itemsize
            pad.dst = copy.data + (phase * copy.part + d * copy.place_stride[0] + row.first) * itemsize
            kernels.pad_plane(&pad)
    return True


cdef void pad_rows(int itemsize, const Axis *axis, const char *map, const ptrdiff_t *place_stride, const Range *places,
                   char *memory, Copy *copy) noexcept nogil:
    """Any border, row by row."""
    cdef ptrdiff_t d, h, from_d, from_h, phase, height = places[1].end - places[1].first
    cdef char *to
    copy.data = memory
    copy.place_stride[1] = ceil_div(places[2].end - places[2].first, axis[2].step)
    copy.place_stride[0] = copy.place_stride[1] * height
    copy.part = copy.place_stride[0] * (places[0].end - places[0].first)
    for d in range(places[0].end - places[0].first):
        from_d = place_of(&axis[0], places[0].first + d)
        for h in range(height):
            from_h = place_of(&axis[1], places[1].first + h)
            to = memory + (d * copy.place_stride[0] + h * copy.place_stride[1]) * itemsize
            if from_d >= 0 and from_h >= 0:
                pad_row(axis + 2, itemsize, map + (from_d * place_stride[0] + from_h * place_stride[1]) * itemsize, places[2],
                        copy.part, to)
                continue
            for phase in range(axis[2].step):
                memset(to + phase * copy.part * itemsize, 0, copy.place_stride[1] * itemsize)
