"""Convolution with the channels first and the pixels in the lanes: no transposition of what goes in or comes out.

For a few rows of outputs, what they read of all channels of a group is copied to a band, padded, in which the rows are one long row
(`_plane_band`); where nothing is outside and nothing skipped, the maps themselves serve. Then tiles of a few maps by four vectors
of pixels are summed in the order (tap, channel) of `_conv`, so that both give the same bits. Where outputs a stride apart see other
taps, as in gradients of strided convolutions, each phase has a plane of its own; the phases are woven to rows at the end.

Workspace of a thread: a band and planes of phases, together at most BAND_BYTES, or what one vector of outputs needs if that is
more; tables of 8 bytes a product of one output and 32 a vector.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_boxes, fr_kernels, fr_plane_conv, fr_stretch, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._plane_band cimport LongRow, PlaneBand, cut_vectors, describe_band, fill_planes, size_of_band, tap_offset
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Range, Taps, Windows, phases_of, stays_inside, taps_of

cnp.import_array()

ctypedef fused real:
    float
    double

cdef ptrdiff_t BAND_BYTES = 512 << 10
cdef ptrdiff_t MOST_VECTORS = 256  # of one table
cdef ptrdiff_t FAR_BYTES = 1 << 20  # larger maps are not in the second-level cache when they are read
cdef ptrdiff_t FEW_TILES = 3       # of maps, for which it does not matter whether what they read stays in the first-level cache
cdef ptrdiff_t STREAMS = 32        # maps read at a time from memory, each in order: the core fetches so many ahead by itself
cdef ptrdiff_t LONG_ROW = 4        # places for each map of y, from which a team shares places instead of maps
cdef ptrdiff_t SET_BYTES = 4096    # places so far apart share a set of it
cdef ptrdiff_t LINES_OF_SET = 16   # more than there are: the second level is near enough for some


cdef struct Planes:
    # One call. An item of work is a block of outputs, a few rows of one image, group and depth, and perhaps a part of the tiles of
    # maps.
    # Outputs are counted in steps of the phases.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t groups, inputs, units, tiles
    char *weight
    char *bias
    char *gain
    int activation
    bint borrowed               # the maps are the band; rows are joined to one
    bint far                    # maps are fetched ahead
    ptrdiff_t streams           # maps that are read at a time, 0: all
    PlaneBand band
    ptrdiff_t rows, columns     # of outputs
    ptrdiff_t depths, row_blocks, column_blocks, blocks, parts
    ptrdiff_t phases            # of rows and columns
    ptrdiff_t plane             # elements of a phase in a block
    char *scratch
    ptrdiff_t scratch_bytes, taps_bytes, table_bytes, band_bytes


cdef struct Item:
    # A block of outputs.
    ptrdiff_t n, group, depth
    Range rows, columns


cdef struct Tables:
    ptrdiff_t *offset
    ptrdiff_t *from_
    ptrdiff_t *stretches
    fr_stretch *stretch
    char *band
    char *planes


cdef ptrdiff_t fill_offsets(const Planes *s, const Taps **taps, ptrdiff_t *offset) noexcept nogil:
    """Where each tap and channel of a phase lies from the number of the output; return how many there are."""
    cdef ptrdiff_t d, h, w, c, at, count = 0, stride = s.x.channel_stride if s.borrowed else s.band.channel
    for d in range(taps[0].count):
        for h in range(taps[1].count):
            for w in range(taps[2].count):
                at = 0 if s.borrowed else tap_offset(&s.band, d, h, w, taps)
                for c in range(s.inputs):
                    offset[count] = at + c * stride
                    count += 1
    return count


cdef LongRow long_row(const Planes *s, const Item *item) noexcept nogil:
    """The outputs of a block, in the order in which its vectors run over them."""
    cdef LongRow row
    row.rows, row.columns = item.rows.end - item.rows.first, item.columns.end - item.columns.first
    row.width = s.columns if s.borrowed else s.band.width
    row.place = 0 if s.phases > 1 else item.rows.first * s.columns + item.columns.first
    row.distance = row.columns if s.phases > 1 else s.columns
    return row


cdef void multiply_phase(const Planes *s, const Item *item, ptrdiff_t phase, const Taps **taps, fr_plane_conv *g,
                         Tables *t) noexcept nogil:
    """One phase of a block, for the tiles in `g`, a table of vectors at a time."""
    cdef ptrdiff_t unit = item.group * s.units, first = 0
    cdef LongRow row = long_row(s, item)
    cdef ptrdiff_t vectors = ceil_div((row.rows - 1) * row.width + row.columns, s.kernels.width)
    g.bias = NULL if s.bias == NULL else s.bias + unit * s.itemsize
    g.gain = NULL if s.gain == NULL else s.gain + unit * s.itemsize
    if s.borrowed:
        g.x = s.x.data + (item.n * s.x.batch_stride + item.group * s.inputs * s.x.channel_stride + item.columns.first) * s.itemsize
    else:
        g.x = t.band
    if s.phases > 1:
        g.y, g.y_stride = t.planes + phase * s.plane * s.itemsize, s.phases * s.plane
    else:
        g.y = s.y.data + (item.n * s.y.batch_stride + unit * s.y.channel_stride + item.depth * s.y.place_stride[0]) * s.itemsize
        g.y_stride = s.y.channel_stride
    while first < vectors:
        g.vectors = cut_vectors(s.kernels.width, &row, first, min(vectors, first + MOST_VECTORS), t.from_, t.stretches, t.stretch)
        multiply_pieces(s, g)
        first += g.vectors


cdef void multiply_pieces(const Planes *s, fr_plane_conv *g) noexcept nogil:
    """Some vectors, by all channels, or so many at a time as can be read from memory in streams."""
    cdef ptrdiff_t taps = g.taps, part
    cdef int parts = <int> ceil_div(taps, s.streams) if s.streams else 1
    cdef const ptrdiff_t *offset = g.offset
    for part in range(parts):
        g.before = first_of(taps, <int> part, parts)
        g.taps = first_of(taps, <int> part + 1, parts) - g.before
        g.after, g.offset = taps - g.before - g.taps, offset + g.before
        s.kernels.plane_conv(g)
    g.taps, g.offset = taps, offset


cdef void weave_phases(const Planes *s, const Item *item, Range units, const Tables *t) noexcept nogil:
    """Bring the planes of all phases to rows of the output."""
    cdef ptrdiff_t down = s.axis[1].spread, along = s.axis[2].spread, unit, phase, first = item.rows.first, rows
    cdef ptrdiff_t columns = min(s.axis[2].count, item.columns.end * along) - item.columns.first * along
    cdef ptrdiff_t distance = item.columns.end - item.columns.first
    cdef char *y = s.y.data + (item.n * s.y.batch_stride + item.group * s.units * s.y.channel_stride
                               + item.depth * s.y.place_stride[0] + item.columns.first * along) * s.itemsize
    for unit in range(units.first, units.end):
        for phase in range(down):
            rows = min(item.rows.end, ceil_div(s.axis[1].count - phase, down)) - first
            s.kernels.weave(rows, columns, along, t.planes + (unit * s.phases + phase * along) * s.plane * s.itemsize, distance,
                            s.plane, y + (unit * s.y.channel_stride + (first * down + phase) * s.y.place_stride[1]) * s.itemsize,
                            down * s.y.place_stride[1])


cdef Range units_of(const Planes *s, ptrdiff_t first_tile, ptrdiff_t end_tile) noexcept nogil:
    cdef ptrdiff_t height = s.units // s.tiles, taller = s.units % s.tiles
    cdef Range units
    units.first = first_tile * height + min(first_tile, taller)
    units.end = end_tile * height + min(end_tile, taller)
    return units


cdef void multiply_block(const Planes *s, const Item *item, fr_plane_conv *g, Tables *t) noexcept nogil:
    """All phases of a block, for the tiles in `g`."""
    cdef const Taps *taps[3]
    cdef ptrdiff_t h, w, done = 0, depth_phase = item.depth % s.axis[0].spread, phase
    cdef ptrdiff_t per_depth = s.axis[1].kernel * s.axis[2].kernel
    for phase in range(depth_phase):
        done += s.axis[0].taps[phase].count * per_depth
    taps[0] = &s.axis[0].taps[depth_phase]
    for h in range(s.axis[1].spread):
        for w in range(s.axis[2].spread):
            taps[1], taps[2] = &s.axis[1].taps[h], &s.axis[2].taps[w]
            g.taps, g.offset = fill_offsets(s, taps, t.offset), t.offset
            g.weight = s.weight + (done * s.groups * s.units * s.inputs + item.group * s.units * g.taps) * s.itemsize
            done += taps[0].count * taps[1].count * taps[2].count
            multiply_phase(s, item, h * s.axis[2].spread + w, taps, g, t)
    if s.phases > 1:
        weave_phases(s, item, units_of(s, g.first_tile, g.end_tile), t)


cdef Item item_of(const Planes *s, ptrdiff_t block) noexcept nogil:
    cdef Item item
    cdef int row_block, column_block
    column_block = <int> (block % s.column_blocks)
    block //= s.column_blocks
    row_block = <int> (block % s.row_blocks)
    block //= s.row_blocks
    item.n, item.group, item.depth = block // s.depths // s.groups, block // s.depths % s.groups, block % s.depths
    item.rows.first = first_of(s.rows, row_block, <int> s.row_blocks)
    item.rows.end = first_of(s.rows, row_block + 1, <int> s.row_blocks)
    item.columns.first = first_of(s.columns, column_block, <int> s.column_blocks)
    item.columns.end = first_of(s.columns, column_block + 1, <int> s.column_blocks)
    return item


cdef fr_boxes places_ahead(const Planes *s, ptrdiff_t block) noexcept nogil:
    """What this block of outputs reads, of the first tap of the depth, in pieces for all tiles of the block before."""
    cdef Item item = item_of(s, block)
    cdef fr_boxes boxes
    cdef ptrdiff_t channels = s.inputs, row = s.x.place_stride[1] * s.itemsize, step = s.axis[1].step
    cdef ptrdiff_t rows = item.rows.end - item.rows.first, pixels = s.columns if s.borrowed else rows * s.band.width, tiles
    memset(&boxes, 0, sizeof(boxes))
    boxes.boxes, boxes.runs, boxes.run_stride = 1, channels, s.x.channel_stride * s.itemsize
    boxes.bytes = boxes.run_stride if s.borrowed else min(s.axis[1].source, rows * step) * row
    boxes.from_ = s.x.data + (item.n * s.x.batch_stride + item.group * channels * s.x.channel_stride
                              + item.depth // s.axis[0].spread * s.axis[0].step * s.x.place_stride[0]) * s.itemsize
    if not s.borrowed:
        boxes.from_ += item.rows.first * step * row
        boxes.bytes = min(boxes.bytes, boxes.run_stride)  # places of x may lie apart
    if boxes.bytes == boxes.run_stride:
        boxes.runs, boxes.bytes = 1, channels * boxes.bytes
    tiles = s.tiles * s.phases * ceil_div(pixels, FR_SLOTS * s.kernels.width)
    boxes.most = ceil_div(boxes.runs * boxes.bytes // tiles + 1, 64) * 64
    boxes.most = min(boxes.most, 64 * ceil_div(s.inputs * taps_of(s.axis), phases_of(s.axis)))  # a line with every k
    return boxes


cdef void share_of_planes(void *work, Team *team, int member) noexcept nogil:
    """Items (image, group, depth, rows, columns, part of the tiles), in this order; a band serves parts that follow each other."""
    cdef Planes *s = <Planes *> work
    cdef ptrdiff_t items = s.blocks * s.parts, number, filled = -1
    cdef int part
    cdef char *memory = s.scratch + member * s.scratch_bytes
    cdef Tables t
    cdef Item item
    cdef Maps x = s.x  # of a group
    cdef fr_plane_conv g
    cdef fr_boxes ahead
    t.offset = <ptrdiff_t *> memory
    t.from_ = <ptrdiff_t *> (memory + s.taps_bytes)
    t.stretches = t.from_ + MOST_VECTORS
    t.stretch = <fr_stretch *> (t.stretches + MOST_VECTORS + 1)
    t.band = memory + s.taps_bytes + s.table_bytes
    t.planes = t.band + s.band_bytes
    if s.band.width < s.kernels.width:  # lanes past a row are computed too; what memory holds might be slow to compute with
        memset(t.band, 0, s.band_bytes)
    g.units, g.from_, g.stretches, g.stretch, g.activation = s.units, t.from_, t.stretches, t.stretch, s.activation
    for number in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        part = <int> (number % s.parts)
        item = item_of(s, number // s.parts)
        if number // s.parts != filled and not s.borrowed:
            x.data = s.x.data + item.group * s.inputs * s.x.channel_stride * s.itemsize
            fill_planes(s.kernels, s.itemsize, s.axis, &x, &s.band, item.n, item.depth, item.rows, item.columns, t.band)
        filled = number // s.parts
        g.first_tile, g.end_tile = first_of(s.tiles, part, <int> s.parts), first_of(s.tiles, part + 1, <int> s.parts)
        g.ahead = NULL
        if number + 1 < first_of(items, member + 1, team.size) and (number + 1) % s.parts == 0 and s.far:
            ahead, g.ahead = places_ahead(s, (number + 1) // s.parts), &ahead
        multiply_block(s, &item, &g, &t)


cdef void cut_rows(Planes *s, ptrdiff_t outer, int size) noexcept nogil:
    """Blocks of rows, or of columns where even one row is too long, whose band stays in the second-level cache."""
    cdef ptrdiff_t values, most = BAND_BYTES // s.itemsize, rows = s.rows, columns = s.columns
    s.column_blocks = s.row_blocks = 1
    if s.borrowed and outer < 8 * size and outer % size and columns >= max(size * FR_SLOTS * s.kernels.width, LONG_ROW * s.units):
        s.column_blocks = size
    while not s.borrowed:
        columns, rows = ceil_div(s.columns, s.column_blocks), ceil_div(s.rows, s.row_blocks)
        describe_band(s.axis, s.itemsize, s.inputs, rows, columns, &s.band)
        s.plane = rows * columns if s.phases > 1 else 0
        values = size_of_band(&s.band) + s.phases * s.plane * s.units
        if rows > 1 and (values > most or (outer * s.row_blocks < 8 * size and outer * s.row_blocks % size)):
            s.row_blocks += 1 if values < 2 * most else s.row_blocks
        elif rows == 1 and columns > 8 * s.kernels.width and (values > most or outer * s.row_blocks * s.column_blocks < size):
            s.column_blocks += 1 if values < 2 * most else s.column_blocks
        else:
            break
        s.row_blocks = min(s.row_blocks, s.rows)
    s.blocks = outer * s.row_blocks * s.column_blocks


def lanes(ptrdiff_t itemsize):
    """How many pixels are summed together."""
    return kernels_for(<int> itemsize).width


cdef void pack_planes(const real *weight, real *packed, const Axis *axis, ptrdiff_t groups, ptrdiff_t units, ptrdiff_t inputs,
                      bint turned, ptrdiff_t tile_rows) noexcept nogil:
    """Phase by phase [group][tile][tap, channel][map of the tile]."""
    cdef const Taps *d
    cdef const Taps *h
    cdef const Taps *w
    cdef ptrdiff_t p, i, j, m, c, group, tile, tiles = ceil_div(units, tile_rows), first, mr, unit, t, taps = taps_of(axis), at
    cdef ptrdiff_t channel_stride = units * taps if turned else taps
    for p in range(phases_of(axis)):
        d = &axis[0].taps[p // (axis[1].spread * axis[2].spread)]
        h, w = &axis[1].taps[p // axis[2].spread % axis[1].spread], &axis[2].taps[p % axis[2].spread]
        for group in range(groups):
            first = 0
            for tile in range(tiles):
                mr = units // tiles + (tile < units % tiles)
                for unit in range(first, first + mr):
                    at = unit - first
                    for i in range(d.count):
                        for j in range(h.count):
                            for m in range(w.count):
                                t = (((d.first + i * d.stride) * axis[1].kernel + h.first + j * h.stride) * axis[2].kernel
                                     + w.first + m * w.stride)
                                t += (group * inputs * units + unit if turned else (group * units + unit) * inputs) * taps
                                for c in range(inputs):
                                    packed[at + c * mr] = weight[t + c * channel_stride]
                                at += inputs * mr
                packed += mr * d.count * h.count * w.count * inputs
                first += mr


@cython.final
cdef class PlaneKernels:
    """Weights of a correlation or a transposed one, for `run` over maps with the channels first: an immutable snapshot, for one
    instruction set.

    Parameters
    ----------
    weight : (groups * outputs, inputs, ...) or, if `turned`, (groups * inputs, outputs, ...), C-contiguous, of five axes
    bias, gain : of all maps, or None
    windows : over maps of any size
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef ptrdiff_t groups, inputs, units
    cdef Block weight
    cdef cnp.ndarray bias, gain

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray gain, ptrdiff_t groups, bint turned,
                 Windows windows not None):
        self.itemsize, self.dtype, self.groups, self.bias, self.gain = weight.itemsize, weight.dtype, groups, bias, gain
        self.kernels = kernels_for(self.itemsize)
        self.units = weight.shape[1] if turned else weight.shape[0] // groups
        self.inputs = weight.shape[0] // groups if turned else weight.shape[1]
        self.weight = new_block(cnp.PyArray_NBYTES(weight))
        cdef const void *data = cnp.PyArray_DATA(weight)
        cdef ptrdiff_t tile_rows = self.kernels.tile_rows
        with nogil:
            if self.itemsize == 4:
                pack_planes(<const float *> data, <float *> self.weight.data, windows.axis, groups, self.units, self.inputs,
                            turned, tile_rows)
            else:
                pack_planes(<const double *> data, <double *> self.weight.data, windows.axis, groups, self.units, self.inputs,
                            turned, tile_rows)

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled):
        """y = gain * act(bias + the sums), both of five axes, channels first; the gain only if `scaled`.

        y is C-contiguous, and so is x, or, if nothing is outside of it, every few places of what is.
        """
        cdef Planes s
        cdef Axis *axis = windows.axis
        cdef ptrdiff_t N = x.shape[0], outputs, taps = taps_of(axis)
        if cnp.PyArray_SIZE(y) == 0:
            return
        assert not channels_last
        s.kernels, s.itemsize, s.axis = self.kernels, self.itemsize, axis
        describe_maps(x, False, &s.x)
        describe_maps(y, False, &s.y)
        s.groups, s.inputs, s.units, s.tiles = self.groups, self.inputs, self.units, ceil_div(self.units, self.kernels.tile_rows)
        s.weight, s.activation = self.weight.data, activation
        s.bias = NULL if self.bias is None else <char *> cnp.PyArray_DATA(self.bias)
        s.gain = <char *> cnp.PyArray_DATA(self.gain) if scaled and self.gain is not None else NULL
        s.phases = axis[1].spread * axis[2].spread
        s.depths, s.rows = axis[0].count, ceil_div(axis[1].count, axis[1].spread)
        s.columns = ceil_div(axis[2].count, axis[2].spread)
        s.borrowed = (serves_as_band(axis) and cnp.PyArray_IS_C_CONTIGUOUS(x) and s.y.channel_stride >= s.kernels.width
                      and (s.tiles <= FEW_TILES or stays_near(s.inputs, s.x.channel_stride * s.itemsize)))
        if s.borrowed:
            s.depths, s.rows, s.columns = 1, 1, s.y.channel_stride
        outputs = N * axis[0].count * axis[1].count * axis[2].count
        cdef double work = product_time(<double> outputs * s.groups, <double> s.inputs * taps / phases_of(axis), s.units)
        cdef int size = team_size(work, 1, outputs)
        s.far, s.streams = N * s.x.batch_stride * s.itemsize > FAR_BYTES, 0
        if s.borrowed and s.tiles <= FEW_TILES and s.inputs * s.x.channel_stride * s.itemsize > FAR_BYTES:
            s.far, s.streams = False, STREAMS  # what the next block reads would not find room
        s.band.width = s.columns
        s.plane = 0
        cut_rows(&s, N * s.groups * s.depths, size)
        s.parts = 1 if s.blocks >= size else min(s.tiles, <ptrdiff_t> size)
        s.band_bytes = 0
        if not s.borrowed:  # whole vectors are written past the last row, and read past a short one
            s.band_bytes = ceil_div((size_of_band(&s.band) + s.kernels.width) * s.itemsize, 64) * 64
        s.taps_bytes = ceil_div(s.inputs * taps * <ptrdiff_t> sizeof(ptrdiff_t), 64) * 64
        s.table_bytes = (2 * MOST_VECTORS + 1) * sizeof(ptrdiff_t)
        s.table_bytes += MOST_VECTORS * (s.kernels.width // s.band.width + 2) * sizeof(fr_stretch)
        s.table_bytes = ceil_div(s.table_bytes, 64) * 64
        s.scratch_bytes = s.taps_bytes + s.table_bytes + s.band_bytes + s.phases * s.plane * s.units * s.itemsize
        s.scratch_bytes = ceil_div(s.scratch_bytes, 4096) * 4096 + 64
        cdef Block scratch = new_block(size * s.scratch_bytes)
        s.scratch = scratch.data
        with nogil:
            run_team(share_of_planes, &s, size)


cdef bint stays_near(ptrdiff_t channels, ptrdiff_t distance) noexcept nogil:
    """Whether the lines of four vectors in each of some maps so many bytes apart find room in the sets of the cache."""
    cdef ptrdiff_t common = SET_BYTES, rest = distance % SET_BYTES
    while rest:
        common, rest = rest, common % rest
    return channels <= LINES_OF_SET * min(SET_BYTES // common, SET_BYTES // 256)


cdef bint serves_as_band(const Axis *axis) noexcept nogil:
    """Whether each output is a sum over the channels of the one place that lies where it does."""
    cdef int a
    for a in range(3):
        if axis[a].spread != 1 or axis[a].taps.count != 1 or axis[a].step != 1 or axis[a].count != axis[a].source:
            return False
        if not stays_inside(&axis[a]):
            return False
    return True
