"""The part of the input that a block of outputs reads, with the channels first, borders filled and rows without a gap.

An output then lies at one distance from each value that it reads, whatever its row: all rows of a block are one long row, of which
the places between two rows of outputs are computed for nothing. Places a stride apart become neighbours.
"""

from libc.string cimport memcpy, memset

from fastrnn._kernels._dispatch cimport fr_pad, fr_stretch
from fastrnn._kernels._padding cimport pad_row
from fastrnn._kernels._windows cimport ZEROS, place_of


cdef enum:
    PARTS_AT_ONCE = 16  # of a band


cdef Side side_of(const Axis *axis) noexcept nogil:
    cdef Side side
    cdef ptrdiff_t phase, first, last = 0, common, rest
    cdef const Taps *taps
    cdef bint none = True
    side.low = 0
    for phase in range(axis.spread):
        taps = &axis.taps[phase]
        if taps.count:
            first = taps.offset + (taps.count - 1) * taps.pace
            side.low, last = taps.offset if none else min(side.low, taps.offset), first if none else max(last, first)
            none = False
    side.step, side.pace, side.reach = axis.step, axis.taps[0].pace, last - side.low + 1
    common, rest = side.step, side.pace  # greatest common divisor
    while rest:
        common, rest = rest, common % rest
    side.period = side.step // common
    side.parts = min(side.period, max(<ptrdiff_t> 1, axis.taps[0].count))
    side.extra = (side.reach - 1) // side.step
    return side


cdef void describe_band(const Axis *axis, int itemsize, ptrdiff_t channels, ptrdiff_t rows, ptrdiff_t columns,
                        PlaneBand *band) noexcept nogil:
    """The band of blocks of at most so many rows and columns of outputs, of all phases."""
    cdef ptrdiff_t phase, line = 64 // itemsize
    band.side[0], band.side[1] = side_of(&axis[1]), side_of(&axis[2])
    band.channels, band.depths = channels, 0
    for phase in range(axis[0].spread):
        band.depths = max(band.depths, axis[0].taps[phase].count)
    band.width = columns + band.side[1].extra
    band.part = (rows + band.side[0].extra) * band.width
    band.channel = band.part * band.side[0].parts * band.side[1].parts
    # An odd number of lines: channels then fall into all sets of the caches.
    band.channel = ((band.channel + line - 1) // line | 1) * line
    band.depth = band.channel * channels


cdef ptrdiff_t size_of_band(const PlaneBand *band) noexcept nogil:
    return band.depths * band.depth


cdef ptrdiff_t tap_offset(const PlaneBand *band, ptrdiff_t d, ptrdiff_t h, ptrdiff_t w, const Taps **taps) noexcept nogil:
    """How far what a tap reads, of channel 0, lies from the number of the output in the long row."""
    cdef const Side *rows = &band.side[0]
    cdef const Side *columns = &band.side[1]
    cdef ptrdiff_t row = taps[1].offset + h * taps[1].pace - rows.low, column = taps[2].offset + w * taps[2].pace - columns.low
    cdef ptrdiff_t part = h % rows.period * columns.parts + w % columns.period
    return d * band.depth + part * band.part + row // rows.step * band.width + column // columns.step


cdef ptrdiff_t cut_vectors(ptrdiff_t lanes, const LongRow *row, ptrdiff_t first, ptrdiff_t end, ptrdiff_t *from_,
                           ptrdiff_t *stretches, fr_stretch *stretch) noexcept nogil:
    """Where vectors first..end-1 of a long row start, and which of their lanes go where.

    The last one may overlap with the one before, whose lanes then go nowhere.
    """
    cdef ptrdiff_t v, at, r, low, count = 0, last = max(<ptrdiff_t> 0, (row.rows - 1) * row.width + row.columns - lanes)
    for v in range(first, end):
        at = min(v * lanes, last)
        from_[v - first], stretches[v - first] = at, count
        for r in range(at // row.width, min(row.rows, (at + lanes - 1) // row.width + 1)):
            low = r * row.width - at
            if low + row.columns > v * lanes - at:
                stretch[count] = fr_stretch(row.place + r * row.distance - low, max(v * lanes - at, low),
                                            min(lanes, low + row.columns))
                count += 1
    stretches[end - first] = count
    return end - first


cdef inline ptrdiff_t first_inside(ptrdiff_t places, ptrdiff_t step) noexcept nogil:
    """How many steps lead over so many places, none if there are none."""
    return (places + step - 1) // step if places > 0 else 0


cdef inline Range inside(const Side *side, ptrdiff_t number, ptrdiff_t first, ptrdiff_t size, ptrdiff_t count) noexcept nogil:
    """The places of part `number`, counted from output `first` on, that lie in a map of this size, of the first `count`."""
    cdef ptrdiff_t low = first * side.step + side.low + number * side.pace % side.step
    cdef Range places
    places.first = min(count, first_inside(-low, side.step))
    places.end = max(places.first, min(count, first_inside(size - low, side.step)))
    return places


cdef void fill_planes(const fr_kernels *kernels, int itemsize, const Axis *axis, const Maps *x, const PlaneBand *band, ptrdiff_t n,
                      ptrdiff_t depth, Range rows, Range columns, char *memory) noexcept nogil:
    """Fill in what a block of outputs at one depth reads: for each tap of the depth all channels, in order of the memory."""
    cdef const Taps *taps = &axis[0].taps[depth % axis[0].spread]
    cdef ptrdiff_t d, _, from_d
    cdef const char *plane
    cdef char *to
    for d in range(taps.count):
        from_d = place_of(&axis[0], depth // axis[0].spread * axis[0].step + taps.offset + d * taps.pace)
        to = memory + d * band.depth * itemsize
        if from_d < 0:
            memset(to, 0, band.depth * itemsize)
            continue
        plane = x.data + (n * x.batch_stride + from_d * x.place_stride[0]) * itemsize
        if axis[1].border == ZEROS and axis[2].border == ZEROS:
            fill_zero_padded(kernels, itemsize, axis, x, band, plane, rows, columns, to)
            continue
        for _ in range(band.channels):
            fill_bordered(itemsize, axis, x, band, plane, rows, columns, to)
            plane += x.channel_stride * itemsize
            to += band.channel * itemsize


cdef void fill_zero_padded(const fr_kernels *kernels, int itemsize, const Axis *axis, const Maps *x, const PlaneBand *band,
                           const char *plane, Range rows, Range columns, char *to) noexcept nogil:
    """Fill in all channels, from `plane` on; where their parts lie is found once for some of these at a time."""
    cdef ptrdiff_t parts = band.side[0].parts * band.side[1].parts, first = 0, count, part, _
    cdef fr_pad pads[PARTS_AT_ONCE]
    while first < parts:
        count = min(<ptrdiff_t> PARTS_AT_ONCE, parts - first)
        for part in range(count):
            pads[part] = pad_of_part(itemsize, axis, x, band, first + part, rows, columns, plane)
            pads[part].dst = to + (first + part) * band.part * itemsize
        for _ in range(band.channels):
            for part in range(count):
                kernels.pad_plane(&pads[part])
                pads[part].src = <const char *> pads[part].src + x.channel_stride * itemsize
                pads[part].dst = <char *> pads[part].dst + band.channel * itemsize
        first += count


cdef fr_pad pad_of_part(int itemsize, const Axis *axis, const Maps *x, const PlaneBand *band, ptrdiff_t part, Range rows,
                        Range columns, const char *plane) noexcept nogil:
    """What becomes part `part` of the band, of one channel."""
    cdef const Side *down = &band.side[0]
    cdef const Side *along = &band.side[1]
    cdef ptrdiff_t a = part // along.parts, b = part % along.parts, place, count = rows.end - rows.first + down.extra
    cdef Range h = inside(down, a, rows.first, axis[1].source, count)
    cdef Range w = inside(along, b, columns.first, axis[2].source, band.width)
    cdef fr_pad pad
    pad.width, pad.src_stride = band.width, down.step * x.place_stride[1]
    pad.step = along.step * x.place_stride[2]
    pad.above, pad.rows, pad.below = h.first, h.end - h.first, count - h.end
    pad.before, pad.columns = w.first, w.end - w.first
    place = (((rows.first + h.first) * down.step + down.low + a * down.pace % down.step) * x.place_stride[1]
             + ((columns.first + w.first) * along.step + along.low + b * along.pace % along.step) * x.place_stride[2])
    pad.src = plane + place * itemsize
    return pad


cdef void fill_bordered(int itemsize, const Axis *axis, const Maps *x, const PlaneBand *band, const char *plane, Range rows,
                        Range columns, char *to) noexcept nogil:
    """The same row by row, where the border is made of values of the map."""
    cdef const Side *down = &band.side[0]
    cdef const Side *along = &band.side[1]
    cdef ptrdiff_t a, b, i, h, from_h, last = (rows.end - 1) * down.step + down.low + down.reach
    cdef ptrdiff_t size = band.part * itemsize
    cdef Range places
    cdef char *row
    memset(to, 0, band.channel * itemsize)
    for a in range(down.parts):
        for i in range(rows.end - rows.first + down.extra):
            h = (rows.first + i) * down.step + down.low + a * down.pace % down.step
            from_h = place_of(&axis[1], h) if h < last else -1
            if from_h < 0:
                continue
            row = to + (a * along.parts * band.part + i * band.width) * itemsize
            for b in range(along.parts):
                places.first = columns.first * along.step + along.low + b * along.pace % along.step
                places.end = (columns.end - 1) * along.step + along.low + along.reach
                copy_every(&axis[2], itemsize, plane + from_h * x.place_stride[1] * itemsize, places, row)
                row += size


cdef void copy_every(const Axis *axis, int itemsize, const char *row, Range places, char *to) noexcept nogil:
    """Each step-th place of a row, some of them outside; `to` holds zeros."""
    cdef ptrdiff_t place, source, i
    if axis.step == 1:
        pad_row(axis, itemsize, row, places, 0, to)
        return
    for i in range(first_inside(places.end - places.first, axis.step)):
        place = places.first + i * axis.step
        source = place_of(axis, place)
        if source >= 0:
            memcpy(to + i * itemsize, row + source * itemsize, itemsize)
