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

cdef extern from *:
    void fetch "__builtin_prefetch"(const void *address) nogil

ctypedef fused real:
    float
    double

cdef enum:
    LINE = 64
    AHEAD = 8192     # bytes of maps fetched ahead: alone, the memory lets one core read or write at half the speed
    FAR_BYTES = 6 << 20  # smaller maps are in the caches
    FEW_PLACES = 16  # of a plane, which are moved one by one


cdef struct Call:
    const fr_kernels *kernels
    int itemsize
    Maps whole, taken
    ptrdiff_t N
    ptrdiff_t size[3]   # of the whole
    ptrdiff_t count[3]  # of what is taken
    ptrdiff_t step[3]
    ptrdiff_t planes    # of one image and depth: channels, or 1 with the channels last
    bint far            # planes are asked for ahead


cdef inline char *plane_at(const Call *s, const Maps *maps, ptrdiff_t item, ptrdiff_t depth) noexcept nogil:
    """The first place of a plane, at a depth of one image."""
    cdef ptrdiff_t n = item // s.planes, plane = item % s.planes
    return maps.data + (n * maps.batch_stride + plane * maps.channel_stride + depth * maps.place_stride[0]) * s.itemsize


cdef inline bint goes_one_by_one(const Call *s) noexcept nogil:
    """Whether planes have so few places that a call of a kernel for each would take longer."""
    return s.whole.channel_stride != 1 and s.size[0] == 1 and s.count[1] * s.count[2] <= FEW_PLACES


cdef inline void fetch_rows(const Call *s, const char *plane, ptrdiff_t step) noexcept nogil:
    """Ask for every step-th row of a plane that comes later."""
    cdef ptrdiff_t row = s.size[2] * s.itemsize, plane_bytes = s.size[1] * row, at = 0, i
    cdef const char *ahead = plane + (AHEAD // plane_bytes + 1) * plane_bytes  # beyond the end too, which reads nothing
    while at < plane_bytes:
        i = 0
        while i < row:
            fetch(ahead + at + i)
            i += LINE
        at += step * row


cdef void take_few(const Call *s, const real *whole, real *taken, ptrdiff_t planes) noexcept nogil:
    """Of planes that follow each other, place by place."""
    cdef ptrdiff_t _, h, w, row = s.step[1] * s.size[2], plane = s.size[1] * s.size[2]
    for _ in range(planes):
        for h in range(s.count[1]):
            for w in range(s.count[2]):
                taken[w] = whole[h * row + w * s.step[2]]
            taken += s.count[2]
        whole += plane


cdef void put_few(const Call *s, const real *taken, real *whole, ptrdiff_t planes) noexcept nogil:
    cdef ptrdiff_t _, h, w, row = s.step[1] * s.size[2], plane = s.size[1] * s.size[2]
    memset(whole, 0, planes * plane * sizeof(real))
    for _ in range(planes):
        for h in range(s.count[1]):
            for w in range(s.count[2]):
                whole[h * row + w * s.step[2]] = taken[w]
            taken += s.count[2]
        whole += plane


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
    if goes_one_by_one(s):
        item = first_of(items, member, team.size)
        pad.src, pad.dst = plane_at(s, &s.whole, item, 0), plane_at(s, &s.taken, item, 0)
        item = first_of(items, member + 1, team.size) - item
        if s.itemsize == 4:
            take_few(s, <const float *> pad.src, <float *> pad.dst, item)
        else:
            take_few(s, <const double *> pad.src, <double *> pad.dst, item)
        return
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        d = item % s.count[0]
        pad.src = plane_at(s, &s.whole, item // s.count[0], d * s.step[0])
        pad.dst = plane_at(s, &s.taken, item // s.count[0], d)
        if s.whole.channel_stride != 1:
            if s.far:
                fetch_rows(s, <const char *> pad.src, s.step[1])
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
    if goes_one_by_one(s):
        item = first_of(items, member, team.size)
        whole, taken = plane_at(s, &s.whole, item, 0), plane_at(s, &s.taken, item, 0)
        item = first_of(items, member + 1, team.size) - item
        if s.itemsize == 4:
            put_few(s, <const float *> taken, <float *> whole, item)
        else:
            put_few(s, <const double *> taken, <double *> whole, item)
        return
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        d = item % s.size[0]
        whole = plane_at(s, &s.whole, item // s.size[0], d)
        taken = plane_at(s, &s.taken, item // s.size[0], d // s.step[0])
        if s.far:
            fetch_rows(s, whole, 1)
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
    s.far = cnp.PyArray_NBYTES(whole) > FAR_BYTES and not channels_last
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
