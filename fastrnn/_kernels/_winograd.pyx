"""Winograd convolution: blocks of transformed tiles that stay in the second-level cache, and one product per point.

A block holds whole rows of tiles, or pieces of them where maps are wide. Its tiles V [point][tile][channel] meet the transformed
weights U [panel of 4 W units][point][channel][4 W]; each panel's products M [point][tile][4 W] go back to maps at once. One call of
the GEMM kernel makes the products of all points: to it the points are panels. The gradient of the input is the same with the
kernels flipped and units and channels exchanged. Sums over channels are cut into pieces, added in order: that
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
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size, wait_for_team

cnp.import_array()

cdef enum:
    CHUNK = 96                # channels of one sum, if there are more than LONGEST: bounds the rounding error
    LONGEST = 128
    BLOCK_BYTES = 600 << 10   # V and M of a block: with the U of 64 channels and units they stay in the second-level cache
    GRADIENT_BLOCK_BYTES = 900 << 10  # V and T of a block
    LEAST_TILES = 16          # of a block, whatever its size
    LEAST_FAR_TILES = 64      # the same if U is larger than LARGE_BYTES: what a block reads of U must be worth it
    LARGE_BYTES = 4 << 20
    MOST_TILES = 96           # the products of more tiles do not fetch U ahead
    AHEAD_BYTES = 3 << 20     # of U: less is transformed once for all blocks
    AHEAD_BLOCKS = 4          # and so is U for more blocks than this
    GRADIENT_BYTES = 1200 << 10  # of the transformed weight gradient that a task sums up
    WHOLE_BYTES = 12 << 20    # all transformed tiles and output gradients together: with less, weight gradients are one sum
    WHOLE_CHANNELS = 64       # of such a sum
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
    ptrdiff_t edge_rows, edge_columns  # so many of the last rows and columns of tiles are edge tiles; then there is one part
    ptrdiff_t top, left  # place of the input where the first tile begins

cdef struct Range:
    ptrdiff_t first, count


cdef struct Transform:
    # Weights [units, channels, taps] at these strides, and U, of all panels or of a part of one.
    const fr_kernels *kernels
    int itemsize
    Algorithm algorithm
    const char *weight
    ptrdiff_t units, channels, unit_stride, channel_stride
    int flipped
    char *transformed
    char *scratch


cdef void transform_part(const Transform *t, ptrdiff_t panel, ptrdiff_t piece, ptrdiff_t channel, ptrdiff_t channels, char *to,
                         ptrdiff_t point_stride, char *scratch) noexcept nogil:
    """U of some channels of one panel and one piece of the kernel."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, taps = t.algorithm.kernel[0] * t.algorithm.kernel[1]
    cdef ptrdiff_t first = piece * t.algorithm.taps[1]
    cdef fr_winograd_weights w
    w.units, w.channels = min(width, t.units - panel * width), channels
    w.unit_stride, w.channel_stride = t.unit_stride, t.channel_stride
    w.points[0], w.points[1] = t.algorithm.points[0], t.algorithm.points[1]
    w.taps[0], w.taps[1] = t.algorithm.taps[0], t.algorithm.taps[1]
    w.valid = taps if t.algorithm.pieces == 1 else min(<ptrdiff_t> t.algorithm.taps[1], taps - first)
    if t.flipped:
        first = taps - first - w.valid
    w.weight = <char *> t.weight + (panel * width * t.unit_stride + channel * t.channel_stride + first) * t.itemsize
    w.flipped, w.transformed, w.point_stride, w.scratch = t.flipped, to, point_stride, scratch
    t.kernels.winograd_weights(&w)


cdef struct Layer:
    # y = activation(x * weight + bias), or dx from dy.
    Geometry g
    Maps x, y
    const char *bias
    int activation
    const char *transformed  # U; NULL: each block transforms the weights again, as it needs them
    Transform weights
    ptrdiff_t k, k_padded, u_point
    char *workspace
    ptrdiff_t workspace_bytes, v_bytes, m_bytes, u_bytes


cdef ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef ptrdiff_t chunks_of(ptrdiff_t channels) noexcept nogil:
    return 1 if channels <= LONGEST else ceil_div(channels, <ptrdiff_t> CHUNK)


cdef ptrdiff_t first_column(const Geometry *g, ptrdiff_t part) noexcept nogil:
    return part * g.tile_columns // g.parts


cdef ptrdiff_t edges_of(ptrdiff_t size) noexcept nogil:
    """Tiles of 3 outputs, among others of 4, that make up `size` exactly; 0 if none can."""
    cdef ptrdiff_t edges = (4 - size % 4) % 4
    return edges if 3 * edges <= size else 0


cdef void choose_edges(Geometry *g, ptrdiff_t rows, ptrdiff_t columns) noexcept nogil:
    """Take edge tiles if they save a twentieth of the products."""
    cdef const Algorithm *a = &g.algorithm
    g.edge_rows = g.edge_columns = 0
    if a.points[0] != 6 or a.outputs[0] != 4 or a.outputs[1] != 4:
        return
    cdef ptrdiff_t r = edges_of(rows), c = edges_of(columns), all_points = 36 * g.tile_rows * g.tile_columns
    if 20 * (6 * g.tile_rows - r) * (6 * g.tile_columns - c) <= 19 * all_points:
        g.edge_rows, g.edge_columns = r, c


cdef void set_geometry(Geometry *g, ptrdiff_t out_rows, ptrdiff_t out_columns, ptrdiff_t tiles) noexcept nogil:
    """Lay tiles over the output and cut them into blocks of about `tiles`."""
    cdef const Algorithm *a = &g.algorithm
    cdef ptrdiff_t target = min(max(tiles, <ptrdiff_t> LEAST_TILES), <ptrdiff_t> MOST_TILES), in_block
    g.points = <ptrdiff_t> a.points[0] * a.points[1]
    g.tile_rows, g.tile_columns = ceil_div(out_rows, a.outputs[0]), ceil_div(out_columns, a.outputs[1])
    g.parts = max(<ptrdiff_t> 1, ceil_div(g.tile_columns, target))
    g.edge_rows = g.edge_columns = 0
    if g.parts == 1:
        choose_edges(g, out_rows, out_columns)
    g.units = g.images * g.parts * g.tile_rows
    in_block = max(<ptrdiff_t> 1, target // max(<ptrdiff_t> 1, ceil_div(g.tile_columns, g.parts)))
    g.blocks = max(<ptrdiff_t> 1, ceil_div(g.units, in_block))
    g.most_tiles = ceil_div(g.units, g.blocks) * ceil_div(g.tile_columns, g.parts)


cdef ptrdiff_t scratch_bytes(const Geometry *g) noexcept nogil:
    cdef ptrdiff_t columns = ceil_div(g.tile_columns, g.parts), width = g.kernels.width
    cdef ptrdiff_t maps = 16 * (columns * g.algorithm.outputs[1] + 8) + g.algorithm.outputs[0] * g.algorithm.points[1] * columns
    return round_up(width * maps * g.itemsize, 64)


ctypedef void (*strip_fn)(const fr_winograd *) noexcept nogil


cdef struct Census:
    # Tiles of a block by class: edge tiles along the row, none, along the column, both. They lie in this order, so that every
    # point has one range of tiles.
    ptrdiff_t first, end  # units
    ptrdiff_t full_rows, edge_rows
    ptrdiff_t start[5]


cdef Census census_of(const Geometry *g, ptrdiff_t block) noexcept nogil:
    cdef Census c
    cdef ptrdiff_t unit, full_columns = ceil_div(g.tile_columns, g.parts) - g.edge_columns
    c.first, c.end = first_of(g.units, <int> block, <int> g.blocks), first_of(g.units, <int> block + 1, <int> g.blocks)
    c.edge_rows = 0
    if g.edge_rows:
        for unit in range(c.first, c.end):
            c.edge_rows += unit % g.tile_rows >= g.tile_rows - g.edge_rows
    c.full_rows = c.end - c.first - c.edge_rows
    c.start[0], c.start[1] = 0, c.full_rows * g.edge_columns
    c.start[2] = c.start[1] + c.full_rows * full_columns
    if g.parts > 1:  # parts are of different widths
        c.start[2] = 0
        for unit in range(c.first, c.end):
            c.start[2] += part_of(g, unit).count
    c.start[3] = c.start[2] + c.edge_rows * full_columns
    c.start[4] = c.start[3] + c.edge_rows * g.edge_columns
    return c


cdef Range part_of(const Geometry *g, ptrdiff_t unit) noexcept nogil:
    """The columns of tiles of a unit."""
    cdef Range r
    cdef ptrdiff_t part = unit // g.tile_rows % g.parts
    r.first = first_column(g, part)
    r.count = first_column(g, part + 1) - r.first
    return r


cdef void transform_block(const Geometry *g, ptrdiff_t block, strip_fn transform, fr_winograd *strip, const Maps *maps,
                          ptrdiff_t top, ptrdiff_t left) noexcept nogil:
    """Transform the tiles of a block, from or to `maps`, one run of rows of one image and one class after the other."""
    cdef Census c = census_of(g, block)
    cdef ptrdiff_t unit = c.first, full = g.tile_rows - g.edge_rows, row, rows, tile = strip.tile_stride * g.itemsize
    cdef char *data = <char *> strip.maps
    cdef char *tiles = <char *> strip.tiles
    cdef char *at[4]
    cdef Range columns
    cdef int edge
    for edge in range(4):
        at[edge] = tiles + c.start[edge] * tile
    strip.map_rows, strip.map_columns = maps.rows, maps.columns
    strip.channel_stride, strip.row_stride, strip.column_stride = maps.channel_stride, maps.row_stride, maps.column_stride
    strip.points[0], strip.points[1] = g.algorithm.points[0], g.algorithm.points[1]
    strip.outputs[0], strip.outputs[1] = g.algorithm.outputs[0], g.algorithm.outputs[1]
    while unit < c.end:
        row, columns = unit % g.tile_rows, part_of(g, unit)
        edge = row >= full
        rows = min((g.tile_rows if edge else full) - row, c.end - unit)
        strip.maps = data + unit // (g.tile_rows * g.parts) * maps.image_stride * g.itemsize
        strip.tile_rows, strip.edge_rows = rows, edge
        strip.tile_columns, strip.edge_columns = columns.count - g.edge_columns, g.edge_columns
        strip.top = top + row * g.algorithm.outputs[0] - edge * (row - full)
        strip.left = left + columns.first * g.algorithm.outputs[1]
        strip.tiles, strip.edge_tiles = at[2 if edge else 1], at[3 if edge else 0]
        transform(strip)
        at[2 if edge else 1] += rows * strip.tile_columns * tile
        at[3 if edge else 0] += rows * strip.edge_columns * tile
        unit += rows
    strip.maps, strip.tiles = data, tiles


cdef struct PointSet:
    # Points first, first + step, ... that all have the tiles `tile` to `end`.
    ptrdiff_t first, step, count, tile, end


cdef int point_sets(const Geometry *g, const Census *c, PointSet *sets) noexcept nogil:
    """Sets of all points, at most 8. The last point of an axis is none of edge tiles."""
    cdef int i
    if g.edge_rows + g.edge_columns == 0:
        sets[0].first, sets[0].step, sets[0].count, sets[0].tile, sets[0].end = 0, 1, g.points, 0, c.start[4]
        return 1
    for i in range(5):
        sets[i].first, sets[i].step, sets[i].count, sets[i].tile, sets[i].end = 6 * i, 1, 5, 0, c.start[4]
    sets[5].first, sets[5].step, sets[5].count, sets[5].tile, sets[5].end = 5, 6, 5, c.start[1], c.start[3]
    sets[6].first, sets[6].step, sets[6].count, sets[6].tile, sets[6].end = 30, 1, 5, 0, c.start[2]
    sets[7].first, sets[7].step, sets[7].count, sets[7].tile, sets[7].end = 35, 1, 1, c.start[1], c.start[2]
    return 8


cdef void run_panel(const Layer *l, const Census *census, ptrdiff_t panel, const char *v, char *m, ptrdiff_t v_point,
                    ptrdiff_t m_point, char *u, char *scratch) noexcept nogil:
    """M = V U for one panel of units, at all points."""
    cdef const Geometry *g = &l.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, pieces = g.algorithm.pieces, chunks, chunk, c, n, piece
    cdef const char *b
    cdef PointSet sets[8]
    cdef int i, count = point_sets(g, census, sets)
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.runs = product.run[0].segments = product.run[0].k_stride = 1
    product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(l.y.channels - panel * width, <ptrdiff_t> g.kernels.width))
    product.far = l.transformed != NULL and g.points * l.k * round_up(l.y.channels, width) * g.itemsize > FAR_BYTES
    product.run[0].row_stride, product.run[0].b_stride, product.c_row_stride = pieces * l.k_padded, width, width
    product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
    chunks = chunks_of(l.x.channels)
    for piece in range(pieces):
        for chunk in range(chunks):
            c = first_of(l.x.channels, <int> chunk, <int> chunks)
            n = first_of(l.x.channels, <int> chunk + 1, <int> chunks) - c
            if l.transformed == NULL:
                transform_part(&l.weights, panel, piece, c, n, u, l.u_point, scratch)
                b = u
            else:
                b = l.transformed + (panel * g.points * l.u_point + (piece * l.x.channels + c) * width) * g.itemsize
            product.run[0].length = n
            for i in range(count):
                product.rows, product.panels = sets[i].end - sets[i].tile, sets[i].count
                product.columns = sets[i].count * product.slots * g.kernels.width
                product.run[0].a = v + (sets[i].first * v_point + (sets[i].tile * pieces + piece) * l.k_padded + c) * g.itemsize
                product.run[0].b = b + sets[i].first * l.u_point * g.itemsize
                product.c = m + (sets[i].first * m_point + sets[i].tile * width) * g.itemsize
                product.run[0].a_panel_stride, product.run[0].panel_stride = sets[i].step * v_point, sets[i].step * l.u_point
                product.c_panel_stride = sets[i].step * m_point
                g.kernels.gemm(&product)
            product.add = 1


cdef void share_of_layer(void *work, Team *team, int member) noexcept nogil:
    """Blocks are shared out; where there are fewer than members, panels, and every member transforms all tiles."""
    cdef Layer *layer = <Layer *> work
    cdef Geometry *g = &layer.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, panels = ceil_div(layer.y.channels, width), panel, piece
    cdef ptrdiff_t block = 0, last_block = g.blocks, first_panel = 0, last_panel = panels
    cdef ptrdiff_t v_point = g.most_tiles * g.algorithm.pieces * layer.k_padded + LINE, m_point = g.most_tiles * width + LINE
    cdef char *v = layer.workspace + member * layer.workspace_bytes
    cdef char *m = v + layer.v_bytes
    cdef char *u = m + layer.m_bytes
    cdef Census census
    cdef fr_winograd strip
    memset(&strip, 0, sizeof(strip))
    strip.scratch = u + layer.u_bytes
    if g.blocks >= team.size:
        block, last_block = first_of(g.blocks, member, team.size), first_of(g.blocks, member + 1, team.size)
    else:
        first_panel, last_panel = first_of(panels, member, team.size), first_of(panels, member + 1, team.size)
    if first_panel == last_panel:
        return
    while block < last_block:
        census = census_of(g, block)
        for piece in range(g.algorithm.pieces):
            strip.maps, strip.channels = layer.x.data, layer.x.channels
            strip.tiles, strip.point_stride = v + piece * layer.k_padded * g.itemsize, v_point
            strip.tile_stride, strip.panel_stride = g.algorithm.pieces * layer.k_padded, width
            transform_block(g, block, g.kernels.winograd_input, &strip, &layer.x, g.top,
                            g.left + piece * g.algorithm.taps[1])
        for panel in range(first_panel, last_panel):
            run_panel(layer, &census, panel, v, m, v_point, m_point, u, <char *> strip.scratch)
            strip.maps = layer.y.data + panel * width * layer.y.channel_stride * g.itemsize
            strip.channels = min(width, layer.y.channels - panel * width)
            strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = m, m_point, width, width
            if layer.bias != NULL:
                strip.bias = layer.bias + panel * width * g.itemsize
            strip.activation = layer.activation
            transform_block(g, block, g.kernels.winograd_output, &strip, &layer.y, 0, 0)
        block += 1


cdef int team_for(const Geometry *g, ptrdiff_t channels, ptrdiff_t units, ptrdiff_t parts) noexcept nogil:
    cdef double tiles = <double> g.images * g.tile_rows * g.tile_columns
    return team_size(tiles * g.points * g.algorithm.pieces * channels * units, 1, parts)


cdef ptrdiff_t point_distance(const Transform *t) noexcept nogil:
    return t.algorithm.pieces * t.channels * FR_SLOTS * t.kernels.width + LINE


cdef void share_of_transform(void *work, Team *team, int member) noexcept nogil:
    cdef Transform *t = <Transform *> work
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, panels = ceil_div(t.units, width), panel, piece
    cdef ptrdiff_t u_point = point_distance(t), points = t.algorithm.points[0] * t.algorithm.points[1]
    cdef char *scratch = t.scratch + member * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize
    for panel in range(first_of(panels, member, team.size), first_of(panels, member + 1, team.size)):
        for piece in range(t.algorithm.pieces):
            transform_part(t, panel, piece, 0, t.channels,
                           t.transformed + (panel * points * u_point + piece * t.channels * width) * t.itemsize, u_point, scratch)


cdef Block transformed_weights(Transform *t):
    cdef ptrdiff_t panels = ceil_div(t.units, FR_SLOTS * t.kernels.width)
    cdef ptrdiff_t reals = panels * t.algorithm.points[0] * t.algorithm.points[1] * point_distance(t)
    cdef Block result = new_block(reals * t.itemsize)
    cdef int size = team_size(<double> reals * 2, 1, panels)
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
    # grad [K, C, taps] += the gradient of the weights. Ranges of channels and panels are shared out over a team; each pair of them
    # sums over all tiles, block by block. `whole`: one block has all tiles, of all channels and units, for the whole team.
    Geometry g
    Maps x, dy
    char *grad
    int whole
    ptrdiff_t channel_ranges, panel_ranges
    ptrdiff_t v_channels, t_panels    # room in V and T
    ptrdiff_t most_channels, most_panels  # of a range
    ptrdiff_t v_point, t_point
    char *workspace  # V and T, then the sums and scratch; of each member, but V and T only once if they are whole
    ptrdiff_t tiles_bytes, v_bytes, sum_bytes, member_bytes


cdef Range range_of(ptrdiff_t n, ptrdiff_t unit, ptrdiff_t part, ptrdiff_t parts) noexcept nogil:
    """One of `parts` even ranges of 0..n-1 that begin at multiples of `unit`."""
    cdef Range r
    cdef ptrdiff_t units = ceil_div(n, unit)
    r.first = min(n, units * part // parts * unit)
    r.count = min(n, units * (part + 1) // parts * unit) - r.first
    return r


cdef void transform_both(const Gradient *d, ptrdiff_t block, ptrdiff_t piece, Range channels, Range units, char *v, char *t,
                         char *scratch) noexcept nogil:
    """V and T of a block, from some channels and units; v and t are where the first of them go."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width
    cdef fr_winograd strip
    memset(&strip, 0, sizeof(strip))
    strip.scratch = scratch
    strip.maps, strip.channels = d.x.data + channels.first * d.x.channel_stride * g.itemsize, channels.count
    strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = v, d.v_point, d.v_channels, width
    if channels.count:
        transform_block(g, block, g.kernels.winograd_input, &strip, &d.x, g.top, g.left + piece * g.algorithm.taps[1])
    strip.maps, strip.channels = d.dy.data + units.first * d.dy.channel_stride * g.itemsize, units.count
    strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = t, d.t_point, width, g.points * d.t_point
    if units.count:
        transform_block(g, block, g.kernels.winograd_spread, &strip, &d.dy, 0, 0)


cdef void sum_gradient(const Gradient *d, ptrdiff_t block, ptrdiff_t channels, ptrdiff_t units, const char *v, const char *t,
                       char *sums) noexcept nogil:
    """sums [panel][point][channel][4 W] += V^T T over the tiles of a block; the first block begins the sums."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, panel, sum_point = d.most_channels * width
    cdef Census census = census_of(g, block)
    cdef PointSet sets[8]
    cdef int i, count = point_sets(g, &census, sets)
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.runs, product.add, product.far = channels, 1, block > 0, d.whole
    product.run[0].row_stride, product.run[0].k_stride, product.run[0].segments = 1, d.v_channels, 1
    product.run[0].b_stride = product.c_row_stride = width
    for panel in range(ceil_div(units, width)):
        product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(units - panel * width, lanes))
        product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
        for i in range(count):
            product.panels, product.columns = sets[i].count, sets[i].count * product.slots * lanes
            product.run[0].length = sets[i].end - sets[i].tile
            product.run[0].a = v + (sets[i].first * d.v_point + sets[i].tile * d.v_channels) * g.itemsize
            product.run[0].b = t + ((panel * g.points + sets[i].first) * d.t_point + sets[i].tile * width) * g.itemsize
            product.c = sums + (panel * g.points + sets[i].first) * sum_point * g.itemsize
            product.run[0].a_panel_stride, product.run[0].panel_stride = sets[i].step * d.v_point, sets[i].step * d.t_point
            product.c_panel_stride = sets[i].step * sum_point
            g.kernels.gemm(&product)


cdef void finish_gradient(const Gradient *d, ptrdiff_t piece, Range channels, Range units, char *sums,
                          char *scratch) noexcept nogil:
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, taps = g.algorithm.kernel[0] * g.algorithm.kernel[1], panel
    cdef ptrdiff_t first = piece * g.algorithm.taps[1]
    cdef fr_winograd_weights w
    memset(&w, 0, sizeof(w))
    w.channels, w.unit_stride, w.channel_stride = channels.count, d.x.channels * taps, taps
    w.valid = taps if g.algorithm.pieces == 1 else min(<ptrdiff_t> g.algorithm.taps[1], taps - first)
    w.points[0], w.points[1] = g.algorithm.points[0], g.algorithm.points[1]
    w.taps[0], w.taps[1] = g.algorithm.taps[0], g.algorithm.taps[1]
    w.point_stride, w.scratch = d.most_channels * width, scratch
    for panel in range(ceil_div(units.count, width)):
        w.units = min(width, units.count - panel * width)
        w.weight = d.grad + (((units.first + panel * width) * d.x.channels + channels.first) * taps + first) * g.itemsize
        w.transformed = sums + panel * g.points * d.most_channels * width * g.itemsize
        g.kernels.winograd_weight_gradient(&w)


cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil:
    cdef Gradient *d = <Gradient *> work
    cdef Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, piece, block, task
    cdef ptrdiff_t tasks = d.channel_ranges * d.panel_ranges
    cdef char *v = d.workspace if d.whole else d.workspace + member * (d.tiles_bytes + d.member_bytes)
    cdef char *t = v + d.v_bytes
    cdef char *sums = v + d.tiles_bytes + (member * d.member_bytes if d.whole else 0)
    cdef char *scratch = sums + d.sum_bytes
    cdef Range channels, units
    for piece in range(g.algorithm.pieces):
        if d.whole:
            channels = range_of(d.x.channels, lanes, member, team.size)
            units = range_of(d.dy.channels, width, member, team.size)
            if piece:
                units.count = 0
            transform_both(d, 0, piece, channels, units, v + channels.first * g.itemsize,
                           t + units.first // width * g.points * d.t_point * g.itemsize, scratch)
            wait_for_team(team)
        for task in range(first_of(tasks, member, team.size), first_of(tasks, member + 1, team.size)):
            channels = range_of(d.x.channels, lanes, task // d.panel_ranges, d.channel_ranges)
            units = range_of(d.dy.channels, width, task % d.panel_ranges, d.panel_ranges)
            if d.whole:
                sum_gradient(d, 0, channels.count, units.count, v + channels.first * g.itemsize,
                             t + units.first // width * g.points * d.t_point * g.itemsize, sums)
            else:
                for block in range(g.blocks):
                    transform_both(d, block, piece, channels, units, v, t, scratch)
                    sum_gradient(d, block, channels.count, units.count, v, t, sums)
            finish_gradient(d, piece, channels, units, sums, scratch)
        if d.whole:
            wait_for_team(team)


cdef void plan_gradient(Gradient *d) noexcept nogil:
    """Choose ranges and blocks, and lay out the workspace."""
    cdef Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, panels = ceil_div(d.dy.channels, width)
    cdef ptrdiff_t points = g.algorithm.points[0] * g.algorithm.points[1], padded = round_up(d.x.channels, lanes), most
    most = max(lanes, GRADIENT_BYTES // (points * width * g.itemsize) // lanes * lanes)  # channels, if it is of one panel
    d.panel_ranges = ceil_div(panels, max(<ptrdiff_t> 1, most // min(padded, <ptrdiff_t> 64)))
    d.most_panels = ceil_div(panels, d.panel_ranges)
    d.channel_ranges = ceil_div(padded, max(lanes, most // d.most_panels // lanes * lanes))
    set_geometry(g, d.dy.rows, d.dy.columns,
                 GRADIENT_BLOCK_BYTES // (points * (ceil_div(padded, d.channel_ranges) + d.most_panels * width) * g.itemsize))
    d.whole = d.panel_ranges * d.channel_ranges > 2 and (
        points * g.units * g.tile_columns * (padded + panels * width) * g.itemsize <= WHOLE_BYTES)
    if d.whole:
        g.blocks, g.parts, g.units = 1, 1, g.images * g.tile_rows
        choose_edges(g, d.dy.rows, d.dy.columns)
        g.most_tiles = g.units * g.tile_columns
        d.panel_ranges, d.channel_ranges = panels, ceil_div(padded, <ptrdiff_t> WHOLE_CHANNELS)
    d.most_panels, d.most_channels = ceil_div(panels, d.panel_ranges), ceil_div(padded // lanes, d.channel_ranges) * lanes
    d.v_channels = padded if d.whole else d.most_channels
    d.t_panels = panels if d.whole else d.most_panels
    d.v_point, d.t_point = g.most_tiles * d.v_channels + LINE, g.most_tiles * width + LINE
    d.v_bytes = round_up(points * d.v_point * g.itemsize, 64)
    d.tiles_bytes = d.v_bytes + round_up(d.t_panels * points * d.t_point * g.itemsize, 64)
    d.sum_bytes = d.most_panels * points * d.most_channels * width * g.itemsize
    d.member_bytes = d.sum_bytes + max(scratch_bytes(g), FR_WINOGRAD_WEIGHT_SCRATCH * lanes * g.itemsize)


@cython.final
cdef class WinogradKernel:
    """Transformed weights (K, C, *kernel): an immutable snapshot, for one instruction set."""

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly ptrdiff_t inputs, outputs
    cdef Algorithm algorithm
    cdef cnp.ndarray weight  # if it is large, and not transformed ahead
    cdef Transform forward_weights, backward_weights
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
        cdef ptrdiff_t taps = self.algorithm.kernel[0] * self.algorithm.kernel[1], reals = self.inputs * self.outputs
        reals *= self.algorithm.points[0] * self.algorithm.points[1]
        self.set_weight(&self.forward_weights, self.outputs, self.inputs, self.inputs * taps, taps)
        self.set_weight(&self.backward_weights, self.inputs, self.outputs, taps, self.inputs * taps)
        self.backward_weights.flipped = 1
        if backward and reals * self.itemsize > AHEAD_BYTES:
            self.weight = weight.copy()
            self.forward_weights.weight = self.backward_weights.weight = <const char *> cnp.PyArray_DATA(self.weight)
            return
        self.forward_weights.weight = self.backward_weights.weight = <const char *> cnp.PyArray_DATA(weight)
        self.forward_block = transformed_weights(&self.forward_weights)
        if backward:
            self.backward_block = transformed_weights(&self.backward_weights)

    cdef void set_weight(self, Transform *t, ptrdiff_t units, ptrdiff_t channels, ptrdiff_t unit_stride, ptrdiff_t channel_stride):
        t.kernels, t.itemsize, t.algorithm, t.flipped = self.kernels, self.itemsize, self.algorithm, 0
        t.units, t.channels, t.unit_stride, t.channel_stride = units, channels, unit_stride, channel_stride

    def forward(self, cnp.ndarray x not None, cnp.ndarray y not None, ptrdiff_t top, ptrdiff_t left, cnp.ndarray bias,
                int activation, bint channels_last):
        """y = activation(x * weight + bias); `top` and `left` are zeros before the first row and column of x."""
        self.run(x, y, -top, -left, False, bias, activation, channels_last)

    def backward_input(self, cnp.ndarray dy not None, cnp.ndarray dx not None, ptrdiff_t top, ptrdiff_t left, bint channels_last):
        """dx from dy, with the padding of `forward`."""
        self.run(dy, dx, top + 1 - self.algorithm.kernel[0], left + 1 - self.algorithm.kernel[1], True, None, 0, channels_last)

    cdef Block ahead(self, bint backward, ptrdiff_t blocks):
        """U, if it is or should be transformed for all blocks at once."""
        if backward:
            if self.backward_block is None and blocks > AHEAD_BLOCKS:
                self.backward_block = transformed_weights(&self.backward_weights)
            return self.backward_block
        if self.forward_block is None and blocks > AHEAD_BLOCKS:
            self.forward_block = transformed_weights(&self.forward_weights)
        return self.forward_block

    cdef run(self, cnp.ndarray x, cnp.ndarray y, ptrdiff_t top, ptrdiff_t left, bint backward, cnp.ndarray bias, int activation,
             bint channels_last):
        cdef Layer l
        cdef ptrdiff_t width = FR_SLOTS * self.kernels.width, pieces = self.algorithm.pieces, points, tiles
        l.g.kernels, l.g.itemsize, l.g.algorithm, l.g.top, l.g.left = self.kernels, self.itemsize, self.algorithm, top, left
        l.x, l.y = maps_of(x, channels_last), maps_of(y, channels_last)
        l.bias = NULL
        if bias is not None:
            l.bias = <const char *> cnp.PyArray_DATA(bias)
        l.activation, l.weights = activation, self.backward_weights if backward else self.forward_weights
        l.k, l.k_padded = pieces * l.x.channels, round_up(l.x.channels, self.kernels.width)
        l.g.images = x.shape[0]
        points = self.algorithm.points[0] * self.algorithm.points[1]
        tiles = BLOCK_BYTES // (points * (pieces * l.k_padded + width) * self.itemsize)
        if points * l.k * l.y.channels * self.itemsize > LARGE_BYTES:
            tiles = max(tiles, <ptrdiff_t> LEAST_FAR_TILES)
        set_geometry(&l.g, l.y.rows, l.y.columns, tiles)
        if l.g.units == 0:
            return
        l.v_bytes = round_up(points * (l.g.most_tiles * pieces * l.k_padded + LINE) * self.itemsize, 64)
        l.m_bytes = round_up(points * (l.g.most_tiles * width + LINE) * self.itemsize, 64)
        cdef Block transformed = self.ahead(backward, l.g.blocks)
        l.transformed, l.u_point, l.u_bytes = NULL, ceil_div(l.x.channels, chunks_of(l.x.channels)) * width + LINE, 0
        if transformed is not None:
            l.transformed, l.u_point = transformed.data, point_distance(&l.weights)
        else:
            l.u_bytes = round_up(points * l.u_point * self.itemsize, 64)
        l.workspace_bytes = l.v_bytes + l.m_bytes + l.u_bytes
        l.workspace_bytes += max(scratch_bytes(&l.g), FR_WINOGRAD_WEIGHT_SCRATCH * self.kernels.width * self.itemsize)
        cdef int size = team_for(&l.g, l.x.channels, l.y.channels, max(l.g.blocks, ceil_div(l.y.channels, width)))
        cdef Block workspace = new_block(size * l.workspace_bytes)
        l.workspace = workspace.data
        with nogil:
            run_team(share_of_layer, &l, size)

    def add_weight_gradient(self, cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray grad not None, ptrdiff_t top,
                            ptrdiff_t left, bint channels_last):
        """grad (K, C, *kernel) += the gradient of the weights."""
        cdef Gradient d
        d.g.kernels, d.g.itemsize, d.g.algorithm, d.g.top, d.g.left = self.kernels, self.itemsize, self.algorithm, -top, -left
        d.x, d.dy, d.g.images = maps_of(x, channels_last), maps_of(dy, channels_last), x.shape[0]
        d.grad = <char *> cnp.PyArray_DATA(grad)
        plan_gradient(&d)
        if d.g.units == 0:
            return
        cdef int size = team_for(&d.g, d.x.channels, d.dy.channels, d.channel_ranges * d.panel_ranges)
        cdef Block workspace = new_block(d.tiles_bytes * (1 if d.whole else size) + d.member_bytes * size)
        d.workspace = workspace.data
        with nogil:
            run_team(share_of_gradient, &d, size)
