"""Maps taken apart into their phases, places a stride apart, and put together again.

A convolution with a stride is one without over all phases at once, which are as many channels more, by kernels as much smaller.
Phase (p, q) of channel c holds places ``(i*down + p - low, j*along + q - low)``, zeros where these lie outside, and is channel
``(p*along + q)*C + c`` of the result.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastrnn._kernels._dispatch cimport fr_kernels, fr_pad, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._windows cimport Range

cnp.import_array()


cdef struct Phases:
    # One call: maps of `size` places and their phases of `count` places, both C-contiguous.
    const fr_kernels *kernels
    int itemsize
    char *maps
    char *phases
    ptrdiff_t N, C
    ptrdiff_t size[2]
    ptrdiff_t count[2]
    ptrdiff_t step[2]
    ptrdiff_t low[2]
    char *scratch
    ptrdiff_t scratch_bytes


cdef inline Range inside(const Phases *s, int axis, ptrdiff_t phase) noexcept nogil:
    """The places of a phase that lie in the map."""
    cdef Range places
    cdef ptrdiff_t first = s.low[axis] - phase, end = s.size[axis] + first, step = s.step[axis]
    places.first = min(s.count[axis], (first + step - 1) // step if first > 0 else 0)
    places.end = max(places.first, min(s.count[axis], (end + step - 1) // step if end > 0 else 0))
    return places


cdef inline char *phase_at(const Phases *s, ptrdiff_t n, ptrdiff_t phase, ptrdiff_t c) noexcept nogil:
    """The plane of a phase, channels first."""
    return s.phases + ((n * s.step[0] * s.step[1] + phase) * s.C + c) * s.count[0] * s.count[1] * s.itemsize


cdef void share_of_planes(void *work, Team *team, int member) noexcept nogil:
    """Phases of maps with the channels first."""
    cdef const Phases *s = <const Phases *> work
    cdef ptrdiff_t item, n, phase, c, p, q, steps = s.step[0] * s.step[1], items = s.N * steps * s.C
    cdef Range h, w
    cdef fr_pad pad
    pad.width, pad.step, pad.src_stride = s.count[1], s.step[1], s.step[0] * s.size[1]
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        n, phase, c = item // s.C // steps, item // s.C % steps, item % s.C
        p, q = phase // s.step[1], phase % s.step[1]
        h, w = inside(s, 0, p), inside(s, 1, q)
        pad.above, pad.rows, pad.below = h.first, h.end - h.first, s.count[0] - h.end
        pad.before, pad.columns = w.first, w.end - w.first
        pad.src = s.maps + ((n * s.C + c) * s.size[0] * s.size[1] + (h.first * s.step[0] + p - s.low[0]) * s.size[1]
                            + w.first * s.step[1] + q - s.low[1]) * s.itemsize
        pad.dst = phase_at(s, n, phase, c)
        s.kernels.pad_plane(&pad)


cdef void share_of_woven(void *work, Team *team, int member) noexcept nogil:
    """Maps from their phases, channels first: a row is woven whole, then what lies inside is copied."""
    cdef const Phases *s = <const Phases *> work
    cdef ptrdiff_t item, n, c, h, row, maps = s.N * s.C, width = s.count[1] * s.step[1]
    cdef ptrdiff_t there = max(<ptrdiff_t> 0, min(s.size[1], width - s.low[1])), size = s.size[1] * s.itemsize
    cdef char *woven = s.scratch + member * s.scratch_bytes
    cdef char *to
    for item in range(first_of(maps, member, team.size), first_of(maps, member + 1, team.size)):
        n, c = item // s.C, item % s.C
        for h in range(s.size[0]):
            row, to = (h + s.low[0]) // s.step[0], s.maps + (item * s.size[0] + h) * size
            if row >= s.count[0]:
                memset(to, 0, size)
                continue
            s.kernels.weave(1, width, s.step[1],
                            phase_at(s, n, (h + s.low[0]) % s.step[0] * s.step[1], c) + row * s.count[1] * s.itemsize, 0,
                            s.C * s.count[0] * s.count[1], woven, 0)
            memcpy(to, woven + s.low[1] * s.itemsize, there * s.itemsize)
            memset(to + there * s.itemsize, 0, size - there * s.itemsize)


cdef void move_pixels(const Phases *s, int member, int members, bint together) noexcept nogil:
    """The same with the channels last, to phases or back: a window of phases of a row lies together in both."""
    cdef ptrdiff_t item, n, i, p, j, first, end, h, rows = s.N * s.count[0], pixel = s.C * s.itemsize
    cdef ptrdiff_t window = s.step[1] * pixel, place = s.step[0] * window
    cdef char *map
    cdef char *phases
    for item in range(first_of(rows, member, members), first_of(rows, member + 1, members)):
        n, i = item // s.count[0], item % s.count[0]
        for p in range(s.step[0]):
            h = i * s.step[0] + p - s.low[0]
            map = s.maps + (n * s.size[0] + h) * s.size[1] * pixel
            for j in range(s.count[1]):
                phases = s.phases + (item * s.count[1] + j) * place + p * window
                first = min(s.step[1], max(<ptrdiff_t> 0, s.low[1] - j * s.step[1]))
                end = max(first, min(s.step[1], s.size[1] + s.low[1] - j * s.step[1]))
                if h < 0 or h >= s.size[0]:
                    first = end = 0
                if together:
                    memcpy(map + (j * s.step[1] + first - s.low[1]) * pixel, phases + first * pixel, (end - first) * pixel)
                    continue
                memset(phases, 0, first * pixel)
                memcpy(phases + first * pixel, map + (j * s.step[1] + first - s.low[1]) * pixel, (end - first) * pixel)
                memset(phases + end * pixel, 0, window - end * pixel)


cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil:
    move_pixels(<const Phases *> work, member, team.size, False)


cdef void share_of_joined(void *work, Team *team, int member) noexcept nogil:
    move_pixels(<const Phases *> work, member, team.size, True)


cdef int describe(Phases *s, cnp.ndarray maps, cnp.ndarray phases, step, low, bint channels_last):
    """Fill in a call and return the size of its team."""
    cdef int a, axes = maps.ndim - 2, first = 1 if channels_last else 2
    s.itemsize = maps.itemsize
    s.kernels = kernels_for(s.itemsize)
    s.maps, s.phases = <char *> cnp.PyArray_DATA(maps), <char *> cnp.PyArray_DATA(phases)
    s.N, s.C = maps.shape[0], maps.shape[maps.ndim - 1 if channels_last else 1]
    for a in range(2):
        s.size[a] = s.count[a] = s.step[a] = 1
        s.low[a] = 0
    for a in range(axes):
        s.size[2 - axes + a], s.count[2 - axes + a] = maps.shape[first + a], phases.shape[first + a]
        s.step[2 - axes + a], s.low[2 - axes + a] = step[a], low[a]
    return team_size(0.3 * cnp.PyArray_SIZE(phases), 1, s.N * (s.count[0] if channels_last else s.C))


def split_phases(cnp.ndarray maps not None, cnp.ndarray phases not None, step, low, bint channels_last):
    """Write the phases of maps (N, C, *sizes), of one or two axes; both C-contiguous.

    phases : (N, steps * C, *counts), or with the channels last
    step, low : how far apart the places of a phase lie, and how much comes before the map; one each for an axis
    """
    cdef Phases s
    cdef int size = describe(&s, maps, phases, step, low, channels_last)
    if cnp.PyArray_SIZE(phases) == 0:
        return
    with nogil:
        run_team(share_of_pixels if channels_last else share_of_planes, &s, size)


def join_phases(cnp.ndarray phases not None, cnp.ndarray maps not None, step, low, bint channels_last):
    """Write the maps that have these phases; places that are in none become zeros."""
    cdef Phases s
    cdef int size = describe(&s, maps, phases, step, low, channels_last)
    cdef Block scratch
    if cnp.PyArray_SIZE(maps) == 0:
        return
    s.scratch_bytes = ceil_div(s.count[1] * s.step[1] * s.itemsize, 4096) * 4096 + 64
    scratch = new_block(size * s.scratch_bytes)
    s.scratch = scratch.data
    if channels_last:
        memset(s.maps, 0, cnp.PyArray_NBYTES(maps))
    with nogil:
        run_team(share_of_joined if channels_last else share_of_woven, &s, size)
