"""Winograd convolution: blocks of transformed tiles that stay in the second-level cache, and one product per point.

A block holds whole rows of tiles, or pieces of them where maps are wide. Its tiles V [point][tile][channel] meet the transformed
weights U [panel of 4 W units][point][channel][4 W]; each panel's products M [point][tile][4 W] go back to maps at once. One call of
the GEMM kernel makes the products of all points: to it the points are panels. The gradient of the input is the same with the
kernels flipped and units and channels exchanged. Sums over channels are cut into pieces of at most `CHUNK`, added in order: that
order depends on nothing else, so that a tile's bits depend neither on its block nor on the team.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport (
    FR_FAR_BYTES, FR_SLOTS, FR_WINOGRAD_WEIGHT_SCRATCH, fr_gemm, fr_kernels, fr_winograd, fr_winograd_weights, kernels_for,
)
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef enum:
    CHUNK = 128               # channels of one sum: bounds the rounding error, and keeps a panel of U in the first-level cache
    BLOCK_BYTES = 1200 << 10  # V and M of a block
    LEAST_TILES = 32          # of a block, even if it is larger then: what it reads of U must be worth it
    MOST_TILES = 96
    GRADIENT_BYTES = 1200 << 10  # of the transformed weight gradient that a task sums up
    LINE = 16                 # elements by which points lie further apart, so that they do not share cache sets

cdef ptrdiff_t FAR_BYTES = FR_FAR_BYTES


cdef struct Algorithm:
    # Points, outputs and taps of both axes; kernels with more taps along the columns are cut into `pieces`.
    int points[2]
    int outputs[2]
    int taps[2]
    int kernel[2]
    int pieces

cdef struct Maps:
    # Maps of N images as they lie.
    char *data
    ptrdiff_t channels, rows, columns, image_stride, channel_stride, row_stride, column_stride

cdef struct Geometry:
    # Rows of tiles, cut into parts along the columns, in the order (image, part, row): consecutive ones share rows of maps.
    const fr_kernels *kernels
    int itemsize
    Algorithm algorithm
    ptrdiff_t points, images, tile_rows, tile_columns, parts, units, blocks, most_tiles
    ptrdiff_t top, left  # place of the input where the first tile begins

cdef struct Layer:
    # y = activation(x * weight + bias), or dx from dy.
    Geometry g
    Maps x, y
    const char *bias
    int activation
    const char *transformed  # U
    ptrdiff_t k, k_padded
    char *workspace
    ptrdiff_t workspace_bytes, v_bytes, m_bytes


cdef ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef ptrdiff_t first_column(const Geometry *g, ptrdiff_t part) noexcept nogil:
    return part * g.tile_columns // g.parts


cdef void set_geometry(Geometry *g, ptrdiff_t out_rows, ptrdiff_t out_columns, ptrdiff_t tile_bytes) noexcept nogil:
    """Lay tiles over the output and cut them into blocks; a tile takes `tile_bytes` at all points together."""
    cdef const Algorithm *a = &g.algorithm
    cdef ptrdiff_t target = min(max(BLOCK_BYTES // tile_bytes, <ptrdiff_t> LEAST_TILES), <ptrdiff_t> MOST_TILES), in_block
    g.points = <ptrdiff_t> a.points[0] * a.points[1]
    g.tile_rows, g.tile_columns = ceil_div(out_rows, a.outputs[0]), ceil_div(out_columns, a.outputs[1])
    g.parts = ceil_div(g.tile_columns, target)
    g.units = g.images * g.parts * g.tile_rows
    in_block = max(<ptrdiff_t> 1, target // ceil_div(g.tile_columns, g.parts))
    g.blocks = ceil_div(g.units, in_block)
    g.most_tiles = ceil_div(g.units, g.blocks) * ceil_div(g.tile_columns, g.parts)


cdef ptrdiff_t scratch_bytes(const Geometry *g) noexcept nogil:
    cdef ptrdiff_t columns = ceil_div(g.tile_columns, g.parts), width = g.kernels.width
    cdef ptrdiff_t maps = 16 * (columns * g.algorithm.outputs[1] + 8) + g.algorithm.outputs[0] * g.algorithm.points[1] * columns
    return round_up(width * maps * g.itemsize, 64)


ctypedef void (*strip_fn)(const fr_winograd *) noexcept nogil


cdef ptrdiff_t transform_block(const Geometry *g, ptrdiff_t block, strip_fn transform, fr_winograd *strip, const Maps *maps,
                               ptrdiff_t top, ptrdiff_t left) noexcept nogil:
    """Transform the tiles of a block, from or to `maps`, one run of rows of one image after the other. Returns how many."""
    cdef ptrdiff_t unit = first_of(g.units, <int> block, <int> g.blocks), end = first_of(g.units, <int> block + 1, <int> g.blocks)
    cdef ptrdiff_t tiles = 0, row, part, image, column
    cdef char *to = <char *> strip.tiles
    strip.map_rows, strip.map_columns = maps.rows, maps.columns
    strip.channel_stride, strip.row_stride, strip.column_stride = maps.channel_stride, maps.row_stride, maps.column_stride
    strip.points[0], strip.points[1] = g.algorithm.points[0], g.algorithm.points[1]
    strip.outputs[0], strip.outputs[1] = g.algorithm.outputs[0], g.algorithm.outputs[1]
    cdef char *data = <char *> strip.maps
    while unit < end:
        row = unit % g.tile_rows
        part = unit // g.tile_rows % g.parts
        image = unit // (g.tile_rows * g.parts)
        column = first_column(g, part)
        strip.maps = data + image * maps.image_stride * g.itemsize
        strip.tile_rows = min(g.tile_rows - row, end - unit)
        strip.tile_columns = first_column(g, part + 1) - column
        strip.top, strip.left = top + row * g.algorithm.outputs[0], left + column * g.algorithm.outputs[1]
        strip.tiles = to + tiles * strip.tile_stride * g.itemsize
        transform(strip)
        tiles += strip.tile_rows * strip.tile_columns
        unit += strip.tile_rows
    strip.maps, strip.tiles = data, to
    return tiles


cdef void run_panel(const Layer *l, ptrdiff_t tiles, ptrdiff_t panel, const char *v, char *m, ptrdiff_t v_point,
                    ptrdiff_t m_point) noexcept nogil:
    """M = V U for one panel of units, at all points."""
    cdef const Geometry *g = &l.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, pieces = g.algorithm.pieces, chunks, chunk, c, piece
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.panels, product.runs = tiles, g.points, 1
    product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(l.y.channels - panel * width, <ptrdiff_t> g.kernels.width))
    product.columns = g.points * product.slots * g.kernels.width
    product.far = g.points * l.k * round_up(l.y.channels, width) * g.itemsize > FAR_BYTES
    product.run[0].row_stride, product.run[0].k_stride = pieces * l.k_padded, 1
    product.run[0].a_panel_stride = v_point
    product.run[0].b_stride, product.run[0].panel_stride = width, l.k * width
    product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
    product.run[0].segments = 1
    product.c, product.c_row_stride, product.c_panel_stride = m, width, m_point
    chunks = ceil_div(l.x.channels, <ptrdiff_t> CHUNK)
    for piece in range(pieces):
        for chunk in range(chunks):
            c = first_of(l.x.channels, <int> chunk, <int> chunks)
            product.run[0].length = first_of(l.x.channels, <int> chunk + 1, <int> chunks) - c
            product.run[0].a = v + (piece * l.k_padded + c) * g.itemsize
            product.run[0].b = l.transformed + (panel * g.points * l.k + piece * l.x.channels + c) * width * g.itemsize
            g.kernels.gemm(&product)
            product.add = 1


cdef void share_of_layer(void *work, Team *team, int member) noexcept nogil:
    """Blocks are shared out; where there are fewer than members, panels, and every member transforms all tiles."""
    cdef Layer *l = <Layer *> work
    cdef Geometry *g = &l.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, panels = ceil_div(l.y.channels, width), panel, piece, tiles
    cdef ptrdiff_t block = 0, last_block = g.blocks, first_panel = 0, last_panel = panels
    cdef ptrdiff_t v_point = g.most_tiles * g.algorithm.pieces * l.k_padded + LINE, m_point = g.most_tiles * width + LINE
    cdef char *v = l.workspace + member * l.workspace_bytes
    cdef char *m = v + l.v_bytes
    cdef fr_winograd strip
    memset(&strip, 0, sizeof(strip))
    strip.scratch = m + l.m_bytes
    if g.blocks >= team.size:
        block, last_block = first_of(g.blocks, member, team.size), first_of(g.blocks, member + 1, team.size)
    else:
        first_panel, last_panel = first_of(panels, member, team.size), first_of(panels, member + 1, team.size)
    if first_panel == last_panel:
        return
    while block < last_block:
        tiles = 0
        for piece in range(g.algorithm.pieces):
            strip.maps, strip.channels = l.x.data, l.x.channels
            strip.tiles, strip.point_stride = v + piece * l.k_padded * g.itemsize, v_point
            strip.tile_stride, strip.panel_stride = g.algorithm.pieces * l.k_padded, width
            tiles = transform_block(g, block, g.kernels.winograd_input, &strip, &l.x, g.top,
                                    g.left + piece * g.algorithm.taps[1])
        for panel in range(first_panel, last_panel):
            run_panel(l, tiles, panel, v, m, v_point, m_point)
            strip.maps = l.y.data + panel * width * l.y.channel_stride * g.itemsize
            strip.channels = min(width, l.y.channels - panel * width)
            strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = m, m_point, width, width
            strip.bias = NULL if l.bias == NULL else l.bias + panel * width * g.itemsize
            strip.activation = l.activation
            transform_block(g, block, g.kernels.winograd_output, &strip, &l.y, 0, 0)
        block += 1


cdef int team_for(const Geometry *g, ptrdiff_t channels, ptrdiff_t units, ptrdiff_t parts) noexcept nogil:
    cdef double tiles = <double> g.images * g.tile_rows * g.tile_columns
    return team_size(tiles * g.points * g.algorithm.pieces * channels * units, 1, parts)


cdef struct Transform:
    # U of all panels, shared out over a team.
    const fr_kernels *kernels
    int itemsize
    Algorithm algorithm
    const char *weight  # [units, channels, taps] at these strides
    ptrdiff_t units, channels, unit_stride, channel_stride
    int flipped
    char *transformed
    char *scratch


cdef void transform_panel(const Transform *t, ptrdiff_t panel, ptrdiff_t channel, ptrdiff_t channels, char *to,
                          ptrdiff_t point_stride, char *scratch) noexcept nogil:
    """U of some channels of a panel; each piece of the kernel follows the one before at `channels` rows."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, all_taps = t.algorithm.kernel[0] * t.algorithm.kernel[1], first, piece
    cdef fr_winograd_weights w
    w.units, w.channels = min(width, t.units - panel * width), channels
    w.unit_stride, w.channel_stride = t.unit_stride, t.channel_stride
    w.points[0], w.points[1] = t.algorithm.points[0], t.algorithm.points[1]
    w.taps[0], w.taps[1] = t.algorithm.taps[0], t.algorithm.taps[1]
    w.flipped, w.point_stride, w.scratch = t.flipped, point_stride, scratch
    for piece in range(t.algorithm.pieces):
        first = piece * t.algorithm.taps[1]
        w.valid = all_taps if t.algorithm.pieces == 1 else min(<ptrdiff_t> t.algorithm.taps[1], all_taps - first)
        if t.flipped:
            first = all_taps - first - w.valid
        w.weight = <void *> (t.weight + (panel * width * t.unit_stride + channel * t.channel_stride + first) * t.itemsize)
        w.transformed = to + piece * channels * width * t.itemsize
        t.kernels.winograd_weights(&w)


cdef void share_of_transform(void *work, Team *team, int member) noexcept nogil:
    cdef Transform *t = <Transform *> work
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, panels = ceil_div(t.units, width), panel
    cdef ptrdiff_t k = t.algorithm.pieces * t.channels, points = t.algorithm.points[0] * t.algorithm.points[1]
    cdef char *scratch = t.scratch + member * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize
    for panel in range(first_of(panels, member, team.size), first_of(panels, member + 1, team.size)):
        transform_panel(t, panel, 0, t.channels, t.transformed + panel * points * k * width * t.itemsize, k * width, scratch)


cdef Block transformed_weights(Transform *t):
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, panels = ceil_div(t.units, width)
    cdef ptrdiff_t points = t.algorithm.points[0] * t.algorithm.points[1], reals = points * t.algorithm.pieces * t.channels * width
    cdef Block result = new_block(panels * reals * t.itemsize)
    cdef int size = team_size(<double> panels * reals * 2, 1, panels)
    cdef Block scratch = new_block(size * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize)
    t.transformed, t.scratch = result.data, scratch.data
    with nogil:
        run_team(share_of_transform, t, size)
    return result


cdef Maps maps_of(cnp.ndarray array, bint channels_last):
    """Describe a C-contiguous (N, channels, *sizes) or (N, *sizes, channels) with one or two sizes."""
    cdef Maps m
    cdef bint one = array.ndim == 3
    m.data = <char *> cnp.PyArray_DATA(array)
    if channels_last:
        m.channels, m.columns = array.shape[array.ndim - 1], array.shape[array.ndim - 2]
        m.rows = 1 if one else array.shape[1]
        m.channel_stride, m.column_stride, m.row_stride = 1, m.channels, m.columns * m.channels
    else:
        m.channels, m.columns = array.shape[1], array.shape[array.ndim - 1]
        m.rows = 1 if one else array.shape[2]
        m.channel_stride, m.column_stride, m.row_stride = m.rows * m.columns, 1, m.columns
    m.image_stride = m.channels * m.rows * m.columns
    return m


cdef struct Gradient:
    # grad [K, C, taps] += the gradient of the weights; pairs of ranges of channels and units are shared out over a team.
    Geometry g
    Maps x, dy
    char *grad
    ptrdiff_t channel_ranges, unit_ranges, most_channels, most_panels
    char *workspace
    ptrdiff_t workspace_bytes, v_bytes, d_bytes, sum_bytes


cdef void sum_gradient(const Gradient *d, ptrdiff_t tiles, ptrdiff_t channels, ptrdiff_t units, const char *v, const char *t,
                       char *sums, int add) noexcept nogil:
    """sums [panel][point][channel][4 W] (+)= V^T T over the tiles of a block."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, panel
    cdef ptrdiff_t t_point = g.most_tiles * width + LINE
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.panels, product.runs, product.add = channels, g.points, 1, add
    product.run[0].row_stride, product.run[0].k_stride = 1, d.most_channels
    product.run[0].a, product.run[0].a_panel_stride = v, g.most_tiles * d.most_channels + LINE
    product.run[0].segments, product.run[0].length = 1, tiles
    product.run[0].b_stride, product.run[0].panel_stride = width, t_point
    product.c_row_stride, product.c_panel_stride = width, d.most_channels * width
    for panel in range(ceil_div(units, width)):
        product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(units - panel * width, lanes))
        product.columns = g.points * product.slots * lanes
        product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
        product.run[0].b = t + panel * g.points * t_point * g.itemsize
        product.c = sums + panel * g.points * d.most_channels * width * g.itemsize
        g.kernels.gemm(&product)


cdef void finish_gradient(const Gradient *d, ptrdiff_t channel, ptrdiff_t channels, ptrdiff_t unit, ptrdiff_t units, ptrdiff_t piece,
                          char *sums, char *scratch) noexcept nogil:
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, taps = g.algorithm.kernel[0] * g.algorithm.kernel[1], panel
    cdef ptrdiff_t first = piece * g.algorithm.taps[1]
    cdef fr_winograd_weights w
    memset(&w, 0, sizeof(w))
    w.channels, w.unit_stride, w.channel_stride = channels, d.x.channels * taps, taps
    w.valid = taps if g.algorithm.pieces == 1 else min(<ptrdiff_t> g.algorithm.taps[1], taps - first)
    w.points[0], w.points[1] = g.algorithm.points[0], g.algorithm.points[1]
    w.taps[0], w.taps[1] = g.algorithm.taps[0], g.algorithm.taps[1]
    w.point_stride, w.scratch = d.most_channels * width, scratch
    for panel in range(ceil_div(units, width)):
        w.units = min(width, units - panel * width)
        w.weight = d.grad + (((unit + panel * width) * d.x.channels + channel) * taps + first) * g.itemsize
        w.transformed = sums + panel * g.points * d.most_channels * width * g.itemsize
        g.kernels.winograd_weight_gradient(&w)


cdef void run_gradient(Gradient *d, ptrdiff_t piece, ptrdiff_t channel, ptrdiff_t channels, ptrdiff_t unit, ptrdiff_t units,
                       char *workspace) noexcept nogil:
    """The gradient of some channels and units: all tiles, block by block."""
    cdef Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, block, tiles
    cdef ptrdiff_t t_point = g.most_tiles * width + LINE
    cdef char *t = workspace + d.v_bytes
    cdef char *sums = t + d.d_bytes
    cdef fr_winograd strip
    memset(&strip, 0, sizeof(strip))
    strip.scratch = sums + d.sum_bytes
    for block in range(g.blocks):
        strip.maps, strip.channels = d.x.data + channel * d.x.channel_stride * g.itemsize, channels
        strip.tiles, strip.point_stride = workspace, g.most_tiles * d.most_channels + LINE
        strip.tile_stride, strip.panel_stride = d.most_channels, width
        transform_block(g, block, g.kernels.winograd_input, &strip, &d.x, g.top, g.left + piece * g.algorithm.taps[1])
        strip.maps, strip.channels = d.dy.data + unit * d.dy.channel_stride * g.itemsize, units
        strip.tiles, strip.point_stride = t, t_point
        strip.tile_stride, strip.panel_stride = width, g.points * t_point
        tiles = transform_block(g, block, g.kernels.winograd_spread, &strip, &d.dy, 0, 0)
        sum_gradient(d, tiles, channels, units, workspace, t, sums, block > 0)
    finish_gradient(d, channel, channels, unit, units, piece, sums, <char *> strip.scratch)


cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil:
    cdef Gradient *d = <Gradient *> work
    cdef ptrdiff_t width = FR_SLOTS * d.g.kernels.width, lanes = d.g.kernels.width, pieces = d.g.algorithm.pieces
    cdef ptrdiff_t vectors = ceil_div(d.x.channels, lanes), panels = ceil_div(d.dy.channels, width)
    cdef ptrdiff_t tasks = pieces * d.channel_ranges * d.unit_ranges, task, c, u, channel, unit
    for task in range(first_of(tasks, member, team.size), first_of(tasks, member + 1, team.size)):
        u = task % d.unit_ranges
        c = task // d.unit_ranges % d.channel_ranges
        channel = vectors * c // d.channel_ranges * lanes
        unit = panels * u // d.unit_ranges * width
        run_gradient(d, task // (d.unit_ranges * d.channel_ranges), channel,
                     min(d.x.channels, vectors * (c + 1) // d.channel_ranges * lanes) - channel, unit,
                     min(d.dy.channels, panels * (u + 1) // d.unit_ranges * width) - unit,
                     d.workspace + member * d.workspace_bytes)


@cython.final
cdef class WinogradKernel:
    """Transformed weights (K, C, *kernel): an immutable snapshot, for one instruction set."""

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly ptrdiff_t inputs, outputs
    cdef Algorithm algorithm
    cdef Block forward_block, backward_block

    def __init__(self, cnp.ndarray weight not None, points, outputs, bint backward):
        """`points` and `outputs` of a tile for each spatial axis of `weight`."""
        cdef int axis, axes = weight.ndim - 2
        self.itemsize = weight.itemsize
        self.kernels = kernels_for(self.itemsize)
        self.outputs, self.inputs = weight.shape[0], weight.shape[1]
        self.algorithm.points[0] = self.algorithm.outputs[0] = self.algorithm.taps[0] = self.algorithm.kernel[0] = 1
        for axis in range(axes):
            self.algorithm.points[2 - axes + axis], self.algorithm.outputs[2 - axes + axis] = points[axis], outputs[axis]
            self.algorithm.taps[2 - axes + axis] = points[axis] - outputs[axis] + 1
            self.algorithm.kernel[2 - axes + axis] = <int> weight.shape[2 + axis]
        self.algorithm.pieces = <int> ceil_div(self.algorithm.kernel[1], self.algorithm.taps[1])
        cdef Transform t
        cdef ptrdiff_t taps = self.algorithm.kernel[0] * self.algorithm.kernel[1]
        t.kernels, t.itemsize, t.algorithm = self.kernels, self.itemsize, self.algorithm
        t.weight, t.flipped = <const char *> cnp.PyArray_DATA(weight), 0
        t.units, t.channels, t.unit_stride, t.channel_stride = self.outputs, self.inputs, self.inputs * taps, taps
        self.forward_block = transformed_weights(&t)
        if backward:
            t.units, t.channels, t.unit_stride, t.channel_stride = self.inputs, self.outputs, taps, self.inputs * taps
            t.flipped = 1
            self.backward_block = transformed_weights(&t)

    def forward(self, cnp.ndarray x not None, cnp.ndarray y not None, ptrdiff_t top, ptrdiff_t left, cnp.ndarray bias,
                int activation, bint channels_last):
        """y = activation(x * weight + bias); `top` and `left` are zeros before the first row and column of x."""
        self.run(x, y, -top, -left, self.forward_block, bias, activation, channels_last)

    def backward_input(self, cnp.ndarray dy not None, cnp.ndarray dx not None, ptrdiff_t top, ptrdiff_t left, bint channels_last):
        """dx from dy, with the padding of `forward`."""
        self.run(dy, dx, top + 1 - self.algorithm.kernel[0], left + 1 - self.algorithm.kernel[1], self.backward_block, None, 0,
                 channels_last)

    cdef run(self, cnp.ndarray x, cnp.ndarray y, ptrdiff_t top, ptrdiff_t left, Block transformed, cnp.ndarray bias, int activation,
             bint channels_last):
        cdef Layer l
        cdef ptrdiff_t width = FR_SLOTS * self.kernels.width, pieces = self.algorithm.pieces, points
        l.g.kernels, l.g.itemsize, l.g.algorithm, l.g.top, l.g.left = self.kernels, self.itemsize, self.algorithm, top, left
        l.x, l.y = maps_of(x, channels_last), maps_of(y, channels_last)
        l.bias = NULL if bias is None else <const char *> cnp.PyArray_DATA(bias)
        l.activation, l.transformed = activation, transformed.data
        l.k, l.k_padded = pieces * l.x.channels, round_up(l.x.channels, self.kernels.width)
        l.g.images = x.shape[0]
        points = self.algorithm.points[0] * self.algorithm.points[1]
        set_geometry(&l.g, l.y.rows, l.y.columns, points * (pieces * l.k_padded + width) * self.itemsize)
        if l.g.units == 0:
            return
        l.v_bytes = round_up(points * (l.g.most_tiles * pieces * l.k_padded + LINE) * self.itemsize, 64)
        l.m_bytes = round_up(points * (l.g.most_tiles * width + LINE) * self.itemsize, 64)
        l.workspace_bytes = l.v_bytes + l.m_bytes + scratch_bytes(&l.g)
        cdef int size = team_for(&l.g, l.x.channels, l.y.channels, max(l.g.blocks, ceil_div(l.y.channels, width)))
        cdef Block workspace = new_block(size * l.workspace_bytes)
        l.workspace = workspace.data
        with nogil:
            run_team(share_of_layer, &l, size)

    def add_weight_gradient(self, cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray grad not None, ptrdiff_t top,
                            ptrdiff_t left, bint channels_last):
        """grad (K, C, *kernel) += the gradient of the weights."""
        cdef Gradient d
        cdef ptrdiff_t width = FR_SLOTS * self.kernels.width, lanes = self.kernels.width, points, panels, most
        points = self.algorithm.points[0] * self.algorithm.points[1]
        d.g.kernels, d.g.itemsize, d.g.algorithm, d.g.top, d.g.left = self.kernels, self.itemsize, self.algorithm, -top, -left
        d.x, d.dy, d.g.images = maps_of(x, channels_last), maps_of(dy, channels_last), x.shape[0]
        d.grad = <char *> cnp.PyArray_DATA(grad)
        panels = ceil_div(d.dy.channels, width)
        most = max(lanes, GRADIENT_BYTES // (points * width * self.itemsize) // lanes * lanes)  # channels of one panel
        d.most_panels = max(<ptrdiff_t> 1, min(panels, most // min(round_up(d.x.channels, lanes), <ptrdiff_t> 64)))
        d.unit_ranges = ceil_div(panels, d.most_panels)
        d.most_panels = ceil_div(panels, d.unit_ranges)
        d.channel_ranges = ceil_div(d.x.channels, max(lanes, most // d.most_panels // lanes * lanes))
        d.most_channels = ceil_div(ceil_div(d.x.channels, lanes), d.channel_ranges) * lanes
        set_geometry(&d.g, d.dy.rows, d.dy.columns, points * (d.most_channels + d.most_panels * width) * self.itemsize)
        if d.g.units == 0:
            return
        d.v_bytes = round_up(points * (d.g.most_tiles * d.most_channels + LINE) * self.itemsize, 64)
        d.d_bytes = round_up(d.most_panels * points * (d.g.most_tiles * width + LINE) * self.itemsize, 64)
        d.sum_bytes = d.most_panels * points * d.most_channels * width * self.itemsize
        d.workspace_bytes = d.v_bytes + d.d_bytes + d.sum_bytes + scratch_bytes(&d.g)
        d.workspace_bytes += FR_WINOGRAD_WEIGHT_SCRATCH * lanes * self.itemsize
        cdef int size = team_for(&d.g, d.x.channels, d.dy.channels, d.channel_ranges * d.unit_ranges * self.algorithm.pieces)
        cdef Block workspace = new_block(size * d.workspace_bytes)
        d.workspace = workspace.data
        with nogil:
            run_team(share_of_gradient, &d, size)
