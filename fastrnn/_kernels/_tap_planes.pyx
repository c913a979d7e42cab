"""A transposed convolution to few maps: all products first, then the sums.

Its tiles would be as few maps high. So each pixel is multiplied with the weights of all maps and taps at once, by the kernel for
one tap (`_plane_conv`): a plane for each map and tap. Then an output is the sum of its taps' planes, each shifted by where its tap
reads; the phases of a row, outputs that see the same taps, are summed one by one and woven to the row. Planes have zeros around
them, so that their rows can be summed as one long row; those of a volume have a layer for each depth.

Workspace of a thread: planes of a block of outputs, BAND_BYTES, or what a few vectors of outputs need if that is more; COPY_BYTES
of pixels copied and SUMS_BYTES of sums; 8 bytes a channel and tap.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_frame, fr_kernels, fr_plane_conv, fr_stretch, fr_tap_sums, fr_turn, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._plane_band cimport LongRow, Side, cut_vectors, side_of
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Range, Taps, Windows, taps_of

cnp.import_array()

cdef ptrdiff_t BAND_BYTES = 768 << 10
cdef ptrdiff_t COPY_BYTES = 128 << 10  # of pixels copied side by side
cdef ptrdiff_t NEAR_BYTES = 24 << 10   # of pixels of a tile that stay in the first-level cache
cdef ptrdiff_t FEW_ROWS = 18            # of products, for which copying does not pay
cdef ptrdiff_t ALIASED = 256           # maps so many bytes apart fall into a quarter of the cache's sets, or fewer
cdef ptrdiff_t SUMS_BYTES = 16 << 10   # of phases before they are woven: they stay in the first-level cache
cdef ptrdiff_t MOST_VECTORS = 256      # of one table


cdef struct Call:
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t N, inputs, units, taps
    char *weight
    char *bias                      # [units], NULL: zero
    int activation
    Side side[3]
    ptrdiff_t depths, rows, columns  # of outputs, counted in steps of the phases
    ptrdiff_t depth_blocks, row_blocks, column_blocks
    bint copied                     # pixels are copied first
    ptrdiff_t piece                 # vectors multiplied at a time
    char *scratch
    ptrdiff_t scratch_bytes, planes_bytes, sums_bytes, tables_bytes


cdef struct Item:
    # A block of outputs; the places that it reads, some of them outside of the map, and where those inside lie among them.
    ptrdiff_t n
    Range depths, rows, columns
    Range d, h, w
    ptrdiff_t width, layer, plane   # of the planes


cdef struct Memory:
    ptrdiff_t *offset               # of each channel
    ptrdiff_t *shift                # of each tap, phase by phase
    ptrdiff_t *from_
    ptrdiff_t *stretches
    fr_stretch *stretch
    char *planes
    char *sums
    char *copied


cdef inline Range inside(const Axis *axis, const Side *side, Range outputs) noexcept nogil:
    """Where, among the places that these outputs read, those of the map lie."""
    cdef Range places
    cdef ptrdiff_t first = outputs.first + side.low, count = outputs.end - outputs.first + side.extra
    places.first = min(count, max(<ptrdiff_t> 0, -first))
    places.end = max(places.first, min(count, axis.source - first))
    return places


cdef Item item_of(const Call *s, ptrdiff_t number) noexcept nogil:
    cdef Item item
    cdef int row = <int> (number // s.column_blocks % s.row_blocks), column = <int> (number % s.column_blocks)
    cdef int depth = <int> (number // s.column_blocks // s.row_blocks % s.depth_blocks)
    item.n = number // s.column_blocks // s.row_blocks // s.depth_blocks
    item.depths.first = first_of(s.depths, depth, <int> s.depth_blocks)
    item.depths.end = first_of(s.depths, depth + 1, <int> s.depth_blocks)
    item.rows.first, item.rows.end = first_of(s.rows, row, <int> s.row_blocks), first_of(s.rows, row + 1, <int> s.row_blocks)
    item.columns.first = first_of(s.columns, column, <int> s.column_blocks)
    item.columns.end = first_of(s.columns, column + 1, <int> s.column_blocks)
    item.d, item.h = inside(&s.axis[0], &s.side[0], item.depths), inside(&s.axis[1], &s.side[1], item.rows)
    item.w = inside(&s.axis[2], &s.side[2], item.columns)
    item.width = item.columns.end - item.columns.first + s.side[2].extra
    item.layer = (item.rows.end - item.rows.first + s.side[1].extra) * item.width
    item.plane = (item.depths.end - item.depths.first + s.side[0].extra) * item.layer
    return item


cdef bint is_alike(const Item *a, const Item *b) noexcept nogil:
    """Whether the planes of two blocks have their zeros at the same places."""
    return (a.plane == b.plane and a.layer == b.layer and a.width == b.width and a.d.first == b.d.first and a.d.end == b.d.end
            and a.h.first == b.h.first and a.h.end == b.h.end and a.w.first == b.w.first and a.w.end == b.w.end)


cdef void clear_planes(const Call *s, const Item *item, char *planes) noexcept nogil:
    cdef fr_frame f
    cdef ptrdiff_t d
    f.planes, f.plane_stride = s.units * s.taps, item.plane
    f.rows, f.width = item.layer // item.width, item.width
    f.row, f.column, f.columns = item.h.first, item.w.first, item.w.end - item.w.first
    for d in range(item.plane // item.layer):
        f.inside, f.data = item.h.end - item.h.first if item.d.first <= d < item.d.end else 0, planes + d * item.layer * s.itemsize
        s.kernels.clear_around(&f)


cdef void multiply(const Call *s, const Item *item, Memory *t) noexcept nogil:
    """The planes of a block: all maps and taps by its pixels."""
    cdef LongRow row
    cdef fr_plane_conv g
    cdef ptrdiff_t W = s.kernels.width, vectors, first, c, d, at = 0
    cdef int piece, pieces
    cdef const char *layer
    cdef const char *x = s.x.data + (item.n * s.x.batch_stride + (item.depths.first + s.side[0].low) * s.x.place_stride[0]
                                     + (item.rows.first + s.side[1].low + item.h.first) * s.x.place_stride[1]
                                     + item.columns.first + s.side[2].low + item.w.first) * s.itemsize
    row.rows, row.width, row.columns = item.h.end - item.h.first, s.axis[2].source, item.w.end - item.w.first
    row.place, row.distance = item.h.first * item.width + item.w.first, item.width
    if row.rows == 0 or row.columns == 0:
        return
    memset(&g, 0, sizeof(g))
    g.units, g.end_tile = s.units * s.taps, ceil_div(s.units * s.taps, s.kernels.tile_rows)
    g.taps, g.offset, g.from_, g.stretches, g.stretch, g.weight = s.inputs, t.offset, t.from_, t.stretches, t.stretch, s.weight
    g.y_stride = item.plane
    vectors = ceil_div((row.rows - 1) * row.width + row.columns, W)
    pieces = <int> ceil_div(vectors, s.piece)
    for piece in range(pieces):
        first = first_of(vectors, piece, pieces)
        g.vectors = cut_vectors(W, &row, first, first_of(vectors, piece + 1, pieces), t.from_, t.stretches, t.stretch)
        if s.copied:
            at = t.from_[0]
            for c in range(g.vectors):
                t.from_[c] -= at
        for d in range(item.d.first, item.d.end):
            layer = x + d * s.x.place_stride[0] * s.itemsize
            if s.copied:
                c = min(t.from_[g.vectors - 1] + W, (row.rows - 1) * row.width + row.columns - at)
                copy_pixels(s, layer + at * s.itemsize, c, t)
            g.x, g.y = t.copied if s.copied else layer, t.planes + d * item.layer * s.itemsize
            s.kernels.plane_conv(&g)


cdef void copy_pixels(const Call *s, const char *x, ptrdiff_t pixels, const Memory *t) noexcept nogil:
    cdef fr_turn rows
    memset(&rows, 0, sizeof(rows))
    rows.rows, rows.columns, rows.src, rows.src_stride = s.inputs, pixels, x, s.x.channel_stride
    rows.dst, rows.dst_stride = t.copied, t.offset[1] if s.inputs > 1 else 0
    s.kernels.keep(&rows)


cdef ptrdiff_t fill_shifts(const Call *s, const Item *item, ptrdiff_t depth, ptrdiff_t h, ptrdiff_t w,
                           ptrdiff_t *shift) noexcept nogil:
    """Where the planes of a phase's taps lie, each from the number of the output on; return how many there are."""
    cdef const Taps *deep = &s.axis[0].taps[depth]
    cdef const Taps *down = &s.axis[1].taps[h]
    cdef const Taps *along = &s.axis[2].taps[w]
    cdef ptrdiff_t d, i, j, tap, count = 0
    for d in range(deep.count):
        for i in range(down.count):
            for j in range(along.count):
                tap = (deep.first + d * deep.stride) * s.axis[1].kernel + down.first + i * down.stride
                tap = tap * s.axis[2].kernel + along.first + j * along.stride
                shift[count] = (tap * item.plane + (deep.offset + d * deep.pace - s.side[0].low) * item.layer
                                + (down.offset + i * down.pace - s.side[1].low) * item.width
                                + along.offset + j * along.pace - s.side[2].low)
                count += 1
    return count


cdef inline ptrdiff_t most_rows(const Call *s, ptrdiff_t width) noexcept nogil:
    """Rows of so many places that are summed before they are woven."""
    return max(<ptrdiff_t> 1, SUMS_BYTES // (s.itemsize * s.axis[2].spread * width))


cdef void add_up(const Call *s, const Item *item, Memory *t) noexcept nogil:
    """The outputs of a block, map by map, depth by depth and some rows at a time."""
    cdef ptrdiff_t most = most_rows(s, item.width), u, depth
    cdef Range rows
    for u in range(s.units):
        for depth in range(item.depths.first * s.axis[0].spread, min(item.depths.end * s.axis[0].spread, s.axis[0].count)):
            rows.first = item.rows.first
            while rows.first < item.rows.end:
                rows.end = min(item.rows.end, rows.first + most)
                add_rows(s, item, u, depth, rows, t)
                rows.first = rows.end


cdef void add_rows(const Call *s, const Item *item, ptrdiff_t u, ptrdiff_t depth, Range rows, Memory *t) noexcept nogil:
    cdef fr_tap_sums g
    cdef ptrdiff_t down = s.axis[1].spread, along = s.axis[2].spread, h, w, count = rows.end - rows.first, done
    cdef ptrdiff_t columns = item.columns.end - item.columns.first, part = count * item.width, phase = depth % s.axis[0].spread
    cdef char *y = s.y.data + (item.n * s.y.batch_stride + u * s.y.channel_stride + depth * s.y.place_stride[0]
                               + rows.first * down * s.y.place_stride[1] + item.columns.first * along) * s.itemsize
    g.bias = NULL if s.bias == NULL else s.bias + u * s.itemsize
    g.activation, g.offset = s.activation, t.shift
    g.rows, g.columns, g.x_stride, g.y_stride = 1, part - item.width + columns, 0, 0
    g.x = t.planes + (u * s.taps * item.plane + (depth // s.axis[0].spread - item.depths.first) * item.layer
                      + (rows.first - item.rows.first) * item.width) * s.itemsize
    if down == 1 and along == 1 and columns >= 2 * s.kernels.width:  # rows by themselves waste few lanes
        g.rows, g.columns, g.x_stride, g.y_stride = count, columns, item.width, s.y.place_stride[1]
        g.taps, g.y = fill_shifts(s, item, phase, 0, 0, t.shift), y
        s.kernels.tap_sums(&g)
        return
    for h in range(down):
        done = min(rows.end, ceil_div(s.axis[1].count - h, down)) - rows.first
        for w in range(along):
            g.taps, g.y = fill_shifts(s, item, phase, h, w, t.shift), t.sums + w * part * s.itemsize
            s.kernels.tap_sums(&g)
        s.kernels.weave(done, min(s.axis[2].count, item.columns.end * along) - item.columns.first * along, along, t.sums,
                        item.width, part, y + h * s.y.place_stride[1] * s.itemsize, down * s.y.place_stride[1])


cdef void share_of_taps(void *work, Team *team, int member) noexcept nogil:
    """Blocks of outputs. Planes are cleared where their zeros lie elsewhere than in the last block."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t items = s.N * s.depth_blocks * s.row_blocks * s.column_blocks, number, c, W = s.kernels.width
    cdef ptrdiff_t line = 64 // s.itemsize, row = s.piece * W
    cdef Item item, last
    cdef Memory t
    cdef char *memory = s.scratch + member * s.scratch_bytes
    t.planes, t.sums = memory, memory + s.planes_bytes
    t.offset = <ptrdiff_t *> (t.sums + s.sums_bytes)
    t.shift = t.offset + s.inputs
    t.from_ = t.shift + s.taps
    t.stretches = t.from_ + s.piece
    t.stretch = <fr_stretch *> (t.stretches + s.piece + 1)
    t.copied = t.sums + s.sums_bytes + s.tables_bytes
    row = ceil_div(row, line) * line
    for c in range(s.inputs):
        t.offset[c] = c * (row if s.copied else s.x.channel_stride)
    if s.copied and s.axis[1].source * s.axis[2].source < W:  # lanes past the pixels are multiplied too
        memset(t.copied, 0, s.inputs * row * s.itemsize)
    memset(&last, 0, sizeof(last))
    for number in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        item = item_of(s, number)
        if not is_alike(&item, &last):
            clear_planes(s, &item, t.planes)
            last = item
        multiply(s, &item, &t)
        add_up(s, &item, &t)


cdef void cut_blocks(Call *s, int size) noexcept nogil:
    """Blocks of rows or depths, or of columns where even one row is too long, whose planes stay in the second-level cache."""
    cdef ptrdiff_t depths, rows, columns, values, most = BAND_BYTES // s.itemsize, products = s.units * s.taps, blocks
    cdef bint large
    s.depth_blocks = s.row_blocks = s.column_blocks = 1
    while True:
        depths, rows = ceil_div(s.depths, s.depth_blocks), ceil_div(s.rows, s.row_blocks)
        columns, blocks = ceil_div(s.columns, s.column_blocks), s.N * s.depth_blocks * s.row_blocks
        values = (depths + s.side[0].extra) * (rows + s.side[1].extra) * (columns + s.side[2].extra) * products
        large = values > most or blocks < size
        if depths > rows and large:  # the longer side loses less at its ends
            s.depth_blocks += 1
        elif rows > 1 and large:
            s.row_blocks += 1
        elif rows == 1 and columns > 8 * s.kernels.width and (values > most or blocks * s.column_blocks < size):
            s.column_blocks += 1
        else:
            break
    s.planes_bytes = ceil_div(values * s.itemsize, 64) * 64
    rows = min(rows, most_rows(s, columns + s.side[2].extra))
    s.sums_bytes = ceil_div(s.axis[2].spread * rows * (columns + s.side[2].extra) * s.itemsize, 64) * 64


cdef bint pays_to_copy(const Call *s) noexcept nogil:
    """Whether pixels are copied side by side before they are multiplied: where they lie so far apart, or must be whole vectors."""
    cdef ptrdiff_t W = s.kernels.width, pixels = s.axis[1].source * s.axis[2].source, pixel = s.inputs * s.itemsize
    if pixels < W:
        return True
    if s.units * s.taps <= FEW_ROWS or pixels * pixel <= COPY_BYTES:
        return False
    return pixel * FR_SLOTS * W > NEAR_BYTES or pixels * s.itemsize % ALIASED == 0


cdef void place_memory(Call *s) noexcept nogil:
    """How many vectors are multiplied at a time, and what a member of the team needs in all."""
    cdef ptrdiff_t W = s.kernels.width, bytes
    s.piece = MOST_VECTORS
    s.copied = pays_to_copy(s)
    if s.copied:
        s.piece = min(s.piece, max(<ptrdiff_t> 4, COPY_BYTES // (s.inputs * W * s.itemsize) // 4 * 4))
    s.tables_bytes = (s.inputs + s.taps + 2 * s.piece + 1) * sizeof(ptrdiff_t)
    s.tables_bytes = ceil_div(s.tables_bytes + s.piece * (W // s.axis[2].source + 2) * sizeof(fr_stretch), 64) * 64
    bytes = s.planes_bytes + s.sums_bytes + s.tables_bytes
    if s.copied:
        bytes += s.inputs * (s.piece * W + 64) * s.itemsize
    s.scratch_bytes = ceil_div(bytes, 4096) * 4096 + 64


cdef void pack(int itemsize, const char *weight, ptrdiff_t inputs, ptrdiff_t rows, ptrdiff_t tile_rows,
               char *packed) noexcept nogil:
    """[tile][channel][row of the tile] from [channel][row]; rows are spread over tiles as `plane_conv` has them."""
    cdef ptrdiff_t tiles = ceil_div(rows, tile_rows), tile, first = 0, height, c
    for tile in range(tiles):
        height = rows // tiles + (tile < rows % tiles)
        for c in range(inputs):
            memcpy(packed, weight + (c * rows + first) * itemsize, height * itemsize)
            packed += height * itemsize
        first += height


@cython.final
cdef class TapKernels:
    """Packed weights: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (C, K, *kernel), C-contiguous, of five axes, of C maps of x and K of y
    bias : (K,), C-contiguous, or None
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef Block packed
    cdef object bias
    cdef ptrdiff_t inputs, units

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias):
        self.itemsize, self.dtype, self.bias = weight.itemsize, weight.dtype, bias
        self.kernels = kernels_for(self.itemsize)
        self.inputs, self.units = weight.shape[0], weight.shape[1]
        self.packed = new_block(cnp.PyArray_NBYTES(weight))
        pack(self.itemsize, <const char *> cnp.PyArray_DATA(weight), self.inputs,
             cnp.PyArray_SIZE(weight) // self.inputs, self.kernels.tile_rows, self.packed.data)

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled):
        """y = act(bias + the sums), both contiguous, of five axes, channels first; `scaled` False."""
        cdef Call s
        cdef int a
        if cnp.PyArray_SIZE(y) == 0:
            return
        assert not channels_last
        s.kernels, s.itemsize, s.axis, s.activation = self.kernels, self.itemsize, windows.axis, activation
        s.N, s.inputs, s.units = x.shape[0], self.inputs, self.units
        describe_maps(x, False, &s.x)
        describe_maps(y, False, &s.y)
        s.taps = taps_of(s.axis)
        s.weight = self.packed.data
        s.bias = NULL if self.bias is None else <char *> cnp.PyArray_DATA(self.bias)
        for a in range(3):
            s.side[a] = side_of(&s.axis[a])
        s.depths = ceil_div(s.axis[0].count, s.axis[0].spread)
        s.rows, s.columns = ceil_div(s.axis[1].count, s.axis[1].spread), ceil_div(s.axis[2].count, s.axis[2].spread)
        cdef double work = product_time(s.N * s.x.channel_stride, s.inputs, s.units * s.taps)
        cdef int size = team_size(work, 1, s.N * s.depths * s.rows * s.columns)
        cut_blocks(&s, size)
        place_memory(&s)
        cdef Block scratch = new_block(size * s.scratch_bytes)
        s.scratch = scratch.data
        with nogil:
            run_team(share_of_taps, &s, size)
