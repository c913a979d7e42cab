"""The part of the input that a box of outputs reads, with the channels last and its borders filled.

A band lies in the second-level cache, and is made by transpositions in registers where the channels come first. Places of the input
may lie apart, as those that one tap with a stride reads: then only they come into the band.
"""

from libc.string cimport memcpy, memset

from fastrnn._kernels._dispatch cimport FR_NONE, fr_places, fr_turn
from fastrnn._kernels._windows cimport Taps, inputs_of, place_of


cdef struct Source:
    # Rows of the input on their way into a band.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    ptrdiff_t channels
    ptrdiff_t channel_stride, pixel_stride


cdef void fill_band(const fr_kernels *kernels, int itemsize, const Axis *axis, const Maps *x, ptrdiff_t channel,
                    ptrdiff_t channels, const Range *box, char *memory, Band *band) noexcept nogil:
    """Copy channels channel..channel+channels-1 of what the box reads into `memory`."""
    cdef Range places[3]
    cdef Source source
    cdef ptrdiff_t a, n, d, h, from_d, from_h, stride = channels, rows
    cdef bint apart
    cdef const char *plane
    cdef char *to
    for a in range(2, -1, -1):
        places[a] = inputs_of(&axis[a], box[a + 1])
        band.first[a], band.place_stride[a] = places[a].first, stride
        stride *= places[a].end - places[a].first
    band.data, band.batch_stride = memory, stride
    source.kernels, source.itemsize, source.axis, source.channels = kernels, itemsize, axis, channels
    source.channel_stride, source.pixel_stride = x.channel_stride, x.place_stride[2]
    rows, apart = whole_rows(axis, places, kernels.width), lie_apart(axis, x, places)
    for n in range(box[0].end - box[0].first):
        for d in range(places[0].end - places[0].first):
            if not is_read(&axis[0], d):
                continue
            from_d = place_of(&axis[0], places[0].first + d)
            plane = x.data + ((box[0].first + n) * x.batch_stride + channel * x.channel_stride
                              + from_d * x.place_stride[0]) * itemsize
            if apart:
                turn_apart(&source, plane, x, places, memory + (n * band.batch_stride + d * band.place_stride[0]) * itemsize)
                continue
            h = 0
            while h < places[1].end - places[1].first:
                to = memory + (n * band.batch_stride + d * band.place_stride[0] + h * band.place_stride[1]) * itemsize
                from_h = place_of(&axis[1], places[1].first + h)
                if from_d < 0 or from_h < 0:
                    memset(to, 0, band.place_stride[1] * itemsize)
                elif rows > 1:
                    copy_pixels(&source, plane + from_h * x.place_stride[1] * itemsize, rows * axis[2].source, to)
                    h += rows - 1
                elif is_read(&axis[1], h):
                    copy_row(&source, plane + from_h * x.place_stride[1] * itemsize, places[2], to)
                h += 1


cdef bint is_read(const Axis *axis, ptrdiff_t place) noexcept nogil:
    """Whether a tap meets this place, counted from the first that the box reads on: a stride may skip some."""
    cdef const Taps *taps = axis.taps
    cdef ptrdiff_t tap
    if axis.spread > 1 or axis.step == 1:
        return True
    for tap in range(taps.count):
        if place >= tap * taps.pace and (place - tap * taps.pace) % axis.step == 0:
            return True
    return False


cdef ptrdiff_t whole_rows(const Axis *axis, const Range *places, ptrdiff_t lanes) noexcept nogil:
    """How many rows lie in the band as in the input, one after the other; 1 if they have borders, or are long and some not read."""
    if axis[2].source >= lanes and axis[1].spread == 1 and axis[1].taps.count < axis[1].step:
        return 1
    if places[2].first != 0 or places[2].end != axis[2].source or places[1].first < 0 or places[1].end > axis[1].source:
        return 1
    return places[1].end - places[1].first


cdef bint lie_apart(const Axis *axis, const Maps *x, const Range *places) noexcept nogil:
    """Whether places of a plane, channels first, have others between them, and there is no border."""
    cdef ptrdiff_t a
    for a in range(3):
        if places[a].first < 0 or places[a].end > axis[a].source:
            return False
    return x.channel_stride != 1 and (x.place_stride[2] != 1 or x.place_stride[1] != axis[2].source)


cdef void turn_apart(const Source *s, const char *plane, const Maps *x, const Range *places, char *to) noexcept nogil:
    """Bring the places of a plane together, channels last."""
    cdef fr_places taken
    taken.channels, taken.rows, taken.columns = s.channels, places[1].end - places[1].first, places[2].end - places[2].first
    taken.step, taken.src_stride, taken.channel_stride = x.place_stride[2], x.place_stride[1], s.channel_stride
    taken.src = plane + (places[1].first * x.place_stride[1] + places[2].first * x.place_stride[2]) * s.itemsize
    taken.dst, taken.dst_stride = to, s.channels
    s.kernels.turn_places(&taken)


cdef void copy_row(const Source *s, const char *row, Range places, char *to) noexcept nogil:
    """One row of the band: what comes before the map, its inside, and what comes after."""
    cdef const Axis *axis = &s.axis[2]
    cdef ptrdiff_t first = min(max(places.first, <ptrdiff_t> 0), places.end), end = max(min(places.end, axis.source), first)
    cdef ptrdiff_t size = s.channels * s.itemsize
    copy_border(s, row, places.first, first, to)
    if end > first:
        copy_pixels(s, row + first * s.pixel_stride * s.itemsize, end - first, to + (first - places.first) * size)
    copy_border(s, row, end, places.end, to + (end - places.first) * size)


cdef void copy_border(const Source *s, const char *row, ptrdiff_t first, ptrdiff_t end, char *to) noexcept nogil:
    cdef ptrdiff_t place, source, size = s.channels * s.itemsize
    for place in range(first, end):
        source = place_of(&s.axis[2], place)
        if source < 0:
            memset(to, 0, size)
        else:
            copy_pixels(s, row + source * s.pixel_stride * s.itemsize, 1, to)
        to += size


cdef void copy_pixels(const Source *s, const char *row, ptrdiff_t pixels, char *to) noexcept nogil:
    """Neighbouring pixels, all channels."""
    cdef fr_turn turn
    if s.channel_stride == 1 and s.pixel_stride == s.channels or s.channels == 1 and s.pixel_stride == 1:
        memcpy(to, row, pixels * s.channels * s.itemsize)
        return
    turn.src, turn.dst, turn.activation, turn.gain = row, to, FR_NONE, NULL
    turn.dst_stride = s.channels
    if s.channel_stride == 1:
        turn.rows, turn.columns, turn.src_stride = pixels, s.channels, s.pixel_stride
        s.kernels.keep(&turn)
    else:
        turn.rows, turn.columns, turn.src_stride = s.channels, pixels, s.channel_stride
        s.kernels.turn(&turn)


cdef void borrow_band(int itemsize, const Maps *x, ptrdiff_t channel, const Range *box, Band *band) noexcept nogil:
    """The input itself, where its channels come last and the box reads nothing outside."""
    cdef ptrdiff_t a
    band.data = x.data + (box[0].first * x.batch_stride + channel) * itemsize
    band.batch_stride = x.batch_stride
    for a in range(3):
        band.first[a], band.place_stride[a] = 0, x.place_stride[a]
