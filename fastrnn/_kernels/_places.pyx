"""The places of maps that a kernel of one tap and a stride reads: taken out before all else, and gradients put back among zeros.

What follows is then a convolution of one tap without a stride over maps as much smaller.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport fr_kernels, fr_pad, fr_turn, kernels_for
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()


cdef struct Call:
    const fr_kernels *kernels
    int itemsize
    Maps whole, taken
    ptrdiff_t N
    ptrdiff_t size[3]   # of the whole
    ptrdiff_t count[3]  # of what is taken
    ptrdiff_t step[3]
    ptrdiff_t planes    # of one image and depth: channels, or 1 with the channels last


cdef inline char *plane_at(const Call *s, const Maps *maps, ptrdiff_t item, ptrdiff_t depth) noexcept nogil:
    """The first place of a plane, at a depth of one image."""
    cdef ptrdiff_t n = item // s.planes, plane = item % s.planes
    return maps.data + (n * maps.batch_stride + plane * maps.channel_stride + depth * maps.place_stride[0]) * s.itemsize


cdef void share_of_taken(void *work, Team *team, int member) noexcept nogil:
    cdef const Call *s = <const Call *> work
    cdef ptrdiff_t items = s.N * s.planes * s.count[0], item, d, h
    cdef fr_pad pad
    cdef fr_turn row
    memset(&pad, 0, sizeof(pad))
    memset(&row, 0, sizeof(row))
    pad.rows, pad.width, pad.columns = s.count[1], s.count[2], s.count[2]
    pad.step, pad.src_stride = s.step[2], s.step[1] * s.whole.place_stride[1]
    row.rows, row.columns = s.count[2], s.whole.channels
    row.src_stride, row.dst_stride = s.step[2] * s.whole.place_stride[2], s.whole.channels
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        d = item % s.count[0]
        pad.src = plane_at(s, &s.whole, item // s.count[0], d * s.step[0])
        pad.dst = plane_at(s, &s.taken, item // s.count[0], d)
        if s.whole.channel_stride != 1:
            s.kernels.pad_plane(&pad)
            continue
        for h in range(s.count[1]):
            row.src = <const char *> pad.src + h * pad.src_stride * s.itemsize
            row.dst = <char *> pad.dst + h * s.taken.place_stride[1] * s.itemsize
            s.kernels.keep(&row)


cdef void share_of_put(void *work, Team *team, int member) noexcept nogil:
    cdef const Call *s = <const Call *> work
    cdef ptrdiff_t items = s.N * s.planes * s.size[0], item, d, h, plane = s.size[1] * s.whole.place_stride[1] * s.itemsize
    cdef char *whole
    cdef const char *taken
    cdef fr_turn row
    memset(&row, 0, sizeof(row))
    row.rows, row.columns = s.count[2], s.whole.channels
    row.src_stride, row.dst_stride = s.whole.channels, s.step[2] * s.whole.channels
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        d = item % s.size[0]
        whole = plane_at(s, &s.whole, item // s.size[0], d)
        taken = plane_at(s, &s.taken, item // s.size[0], d // s.step[0])
        if d % s.step[0] == 0 and s.whole.channel_stride != 1:
            s.kernels.spread(s.size[1], s.size[2], s.step[1], s.step[2], taken, s.count[2], whole)
            continue
        memset(whole, 0, plane)
        if d % s.step[0]:
            continue
        for h in range(s.count[1]):
            row.src = taken + h * s.taken.place_stride[1] * s.itemsize
            row.dst = whole + h * s.step[1] * s.whole.place_stride[1] * s.itemsize
            s.kernels.keep(&row)


cdef int describe(Call *s, cnp.ndarray whole, cnp.ndarray taken, step, bint channels_last):
    """Fill in a call and return the size of its team."""
    cdef int a, first = 1 if channels_last else 2
    s.itemsize, s.N = whole.itemsize, whole.shape[0]
    s.kernels = kernels_for(s.itemsize)
    describe_maps(whole, channels_last, &s.whole)
    describe_maps(taken, channels_last, &s.taken)
    for a in range(3):
        s.size[a], s.count[a], s.step[a] = whole.shape[first + a], taken.shape[first + a], step[a]
    s.planes = 1 if channels_last else s.whole.channels
    return team_size(0.3 * cnp.PyArray_SIZE(taken), 1, s.N * s.planes * s.count[0])


def take_places(cnp.ndarray x not None, cnp.ndarray taken not None, step, bint channels_last):
    """Write the places of x a step apart, from the first on; both C-contiguous, of five axes."""
    cdef Call s
    cdef int size = describe(&s, x, taken, step, channels_last)
    if cnp.PyArray_SIZE(taken):
        with nogil:
            run_team(share_of_taken, &s, size)


def put_places(cnp.ndarray taken not None, cnp.ndarray x not None, step, bint channels_last):
    """Write x, which is zero but for the places that `take_places` would take."""
    cdef Call s
    cdef int size = describe(&s, x, taken, step, channels_last)
    if cnp.PyArray_SIZE(x):
        with nogil:
            run_team(share_of_put, &s, size)
