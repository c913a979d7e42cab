"""Weights in panels for the kernel `conv`: [phase][panel][tap in order of the input][channel][columns of the panel].

A panel has four vectors of maps, or those that are left. Weights that are used once are packed panel by panel where they are used,
which keeps them in cache; others all at once.
"""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_NONE, FR_SLOTS, fr_turn
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._windows cimport Range, Taps, phase_of, phases_of, taps_of

cdef ptrdiff_t PIECE = 128  # of k
cdef double NANOSECONDS_PER_BYTE = 0.3


cdef ptrdiff_t entries_of(const Weights *w) noexcept nogil:
    """Of a table of places: channels that lie apart take the same one by one."""
    return taps_of(w.axis) * (1 if w.turned else w.inputs)


cdef int vectors_of(const Weights *w, ptrdiff_t panel) noexcept nogil:
    return <int> min(<ptrdiff_t> FR_SLOTS, w.columns // w.kernels.width - panel * FR_SLOTS)


cdef struct Packing:
    # Of all weights, for a team: each panel in parts of its k, or of the channels if they are turned.
    const Weights *weights
    char *packed
    ptrdiff_t *places
    int parts


cdef void share_of_packing(void *work, Team *team, int member) noexcept nogil:
    cdef const Packing *p = <const Packing *> work
    cdef const Weights *w = p.weights
    cdef ptrdiff_t panels = ceil_div(w.columns, FR_SLOTS * w.kernels.width), items = w.groups * panels * p.parts, item
    cdef ptrdiff_t whole = rows_of(w), of_group = taps_of(w.axis) * w.inputs * w.columns * w.itemsize
    cdef Places places = Places(0, p.places + member * entries_of(w))
    cdef Range rows
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        rows.first = first_of(whole, <int> (item % p.parts), p.parts)
        rows.end = first_of(whole, <int> (item % p.parts) + 1, p.parts)
        pack_rows(w, item // p.parts // panels, item // p.parts % panels, rows, False, &places,
                  p.packed + item // p.parts // panels * of_group)


cdef Block pack_all(const Weights *w):
    cdef ptrdiff_t bytes = w.groups * taps_of(w.axis) * w.inputs * w.columns * w.itemsize
    cdef int size = team_size(NANOSECONDS_PER_BYTE * bytes, 1, w.groups * rows_of(w))
    cdef Block packed = new_block(bytes), tables = new_block(size * entries_of(w) * sizeof(ptrdiff_t))
    cdef Packing packing = Packing(w, packed.data, <ptrdiff_t *> tables.data, size)
    with nogil:
        run_team(share_of_packing, &packing, size)
    return packed


cdef inline ptrdiff_t rows_of(const Weights *w) noexcept nogil:
    """What a panel is packed by: channels, or k."""
    return w.inputs * (1 if w.turned else taps_of(w.axis))


cdef void pack_panel(const Weights *w, ptrdiff_t group, ptrdiff_t panel, Places *places, char *to) noexcept nogil:
    """One panel alone."""
    cdef Range rows
    rows.first, rows.end = 0, rows_of(w)
    pack_rows(w, group, panel, rows, True, places, to)


cdef void pack_rows(const Weights *w, ptrdiff_t group, ptrdiff_t panel, Range rows, bint alone, Places *places,
                    char *to) noexcept nogil:
    """Some rows of a panel to where it belongs among those of its group, which begin at `to`; or, `alone`, to `to` itself."""
    cdef ptrdiff_t width = w.kernels.width, taps = taps_of(w.axis), k = taps * w.inputs, v, c, map, done = rows.first
    cdef ptrdiff_t row = vectors_of(w, panel) * width, columns = row if alone else w.columns
    cdef ptrdiff_t before = 0 if alone else panel * FR_SLOTS * width
    if w.turned and taps == 1:
        copy_rows(w, group, panel * FR_SLOTS * width, row, rows, to + before * w.inputs * w.itemsize)
        return
    if w.turned or row != places.row:
        fill_places(w, columns, before if w.turned else 0, row, places.place)
        places.row = row
    # All vectors of a few k, or of one channel, before the next: what is read and written lies together.
    if w.turned:
        for c in range(rows.first, rows.end):
            for v in range(row // width):
                map = panel * FR_SLOTS * width + v * width
                w.kernels.pack_taps(min(width, w.outputs - map), taps,
                                    w.data + ((group * w.inputs + c) * w.outputs + map) * taps * w.itemsize, taps,
                                    to + (c * row + v * width) * w.itemsize, places.place)
        return
    to += before * k * w.itemsize  # there is one phase
    while done < rows.end:
        for v in range(row // width):
            map = panel * FR_SLOTS * width + v * width
            w.kernels.pack_taps(min(width, w.outputs - map), min(PIECE, rows.end - done),
                                w.data + ((group * w.outputs + map) * k + done) * w.itemsize, k, to + v * width * w.itemsize,
                                places.place + done)
        done += PIECE


cdef void copy_rows(const Weights *w, ptrdiff_t group, ptrdiff_t map, ptrdiff_t row, Range rows, char *to) noexcept nogil:
    """Of one tap, turned: rows of a panel as they lie, with zeros past the last map."""
    cdef fr_turn copy
    memset(&copy, 0, sizeof(copy))
    to += rows.first * row * w.itemsize
    copy.rows, copy.src_stride, copy.dst, copy.dst_stride, copy.activation = rows.end - rows.first, w.outputs, to, row, FR_NONE
    copy.columns = min(row, w.outputs - map)
    copy.src = w.data + ((group * w.inputs + rows.first) * w.outputs + map) * w.itemsize
    if copy.columns < row:
        memset(to, 0, copy.rows * row * w.itemsize)
    w.kernels.keep(&copy)


cdef void fill_places(const Weights *w, ptrdiff_t columns, ptrdiff_t column, ptrdiff_t row, ptrdiff_t *place) noexcept nogil:
    """Where the weight of channel c and tap t goes: place[c*taps + t], or place[t] of the first channel if they are turned.

    Phases follow each other, each of `columns` columns; in each the panels, this one after `column` columns; in a panel each
    k = (tap in order of the input, channel) has `row` columns.
    """
    cdef const Taps *taps[3]
    cdef ptrdiff_t phase[3]
    cdef ptrdiff_t p, d, h, w_, c, t, k = 0, count, j, all_taps = taps_of(w.axis)
    for c in range(entries_of(w)):
        place[c] = -1
    for p in range(phases_of(w.axis)):
        phase_of(w.axis, p, taps, phase)
        count = taps[0].count * taps[1].count * taps[2].count
        j = 0
        for d in range(taps[0].count):
            for h in range(taps[1].count):
                for w_ in range(taps[2].count):
                    t = (((taps[0].first + d * taps[0].stride) * w.axis[1].kernel + taps[1].first + h * taps[1].stride)
                         * w.axis[2].kernel + taps[2].first + w_ * taps[2].stride)
                    for c in range(1 if w.turned else w.inputs):
                        place[c * all_taps + t] = k * columns + column * count * w.inputs + (j * w.inputs + c) * row
                    j += 1
        k += count * w.inputs
