"""Tiles of a Winograd convolution: whole rows of them, or parts of rows where maps are wide, cut into blocks.

Where the output is no multiple of a tile's four outputs, or five, its last rows and columns of tiles may be edge tiles, a place
smaller and without the last point of an axis (`kernels/winograd_transform.h`).
"""

cimport numpy as cnp

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_boxes, fr_fetch, fr_winograd
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._threads cimport first_of, product_time, team_size

cnp.import_array()

cdef enum:
    LEAST_TILES = 16  # of a block, whatever its size
    MOST_TILES = 96   # the products of more tiles do not fetch U ahead
    CACHE_LINE = 64
    HUGE_PAGE = 2 << 20  # blocks of two and more are aligned to them
    MOST_FETCHED = 4096  # bytes that a product fetches for one of its tiles: the core waits for more


cdef ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef ptrdiff_t whole_pages(ptrdiff_t nbytes) noexcept nogil:
    """Room for a block on huge pages, if it takes more than one: each tile goes to dozens of pages of the usual size."""
    return nbytes if nbytes <= HUGE_PAGE else round_up(nbytes, HUGE_PAGE)


cdef Range range_of(ptrdiff_t n, ptrdiff_t unit, ptrdiff_t part, ptrdiff_t parts) noexcept nogil:
    """One of `parts` even ranges of 0..n-1 that begin at multiples of `unit`."""
    cdef Range r
    cdef ptrdiff_t units = ceil_div(n, unit)
    r.first = min(n, units * part // parts * unit)
    r.count = min(n, units * (part + 1) // parts * unit) - r.first
    return r


cdef ptrdiff_t first_column(const Geometry *g, ptrdiff_t part) noexcept nogil:
    return part * g.tile_columns // g.parts


cdef ptrdiff_t edges_of(ptrdiff_t size, ptrdiff_t outputs) noexcept nogil:
    """Tiles of an output less, among others, that make up `size` exactly; 0 if none can."""
    cdef ptrdiff_t edges = (outputs - size % outputs) % outputs
    return edges if (outputs - 1) * edges <= size else 0


cdef void choose_edges(Geometry *g, ptrdiff_t rows, ptrdiff_t columns) noexcept nogil:
    """Take edge tiles if they save a twentieth of the products."""
    cdef const Algorithm *a = &g.algorithm
    g.edge_rows = g.edge_columns = 0
    if a.points[0] != 6 or a.outputs[0] != a.outputs[1] or a.outputs[0] < 4:
        return
    cdef ptrdiff_t r = edges_of(rows, a.outputs[0]), c = edges_of(columns, a.outputs[1])
    cdef ptrdiff_t all_points = 36 * g.tile_rows * g.tile_columns
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
    """What the transform of the input takes; the others take less."""
    cdef const Algorithm *a = &g.algorithm
    cdef ptrdiff_t columns = (ceil_div(g.tile_columns, g.parts) - 1) * a.outputs[1] + a.points[1]
    return round_up(a.points[0] * columns * g.kernels.width * g.itemsize, 64)


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


cdef void transform_piece(const Geometry *g, ptrdiff_t block, ptrdiff_t piece, fr_winograd *strip, const Maps *x) noexcept nogil:
    """Transform the input of a block as one piece of the kernel sees it."""
    cdef const Algorithm *a = &g.algorithm
    transform_block(g, block, g.kernels.winograd_input, strip, x, g.top + piece // a.across * a.taps[0],
                    g.left + piece % a.across * a.taps[1])


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


cdef fr_boxes places_of(const Geometry *g, const Maps *m, ptrdiff_t block, ptrdiff_t top, ptrdiff_t left, ptrdiff_t over,
                        ptrdiff_t channel, ptrdiff_t channels) noexcept nogil:
    """The places of some channels that the outputs of a block cover, and about `over` more rows and columns.

    None past the last block. Of several images, or parts of rows, all rows: what is fetched in vain is little.
    """
    cdef ptrdiff_t rows = m.rows, columns = m.columns, row = 0, column = 0, in_image = g.parts * g.tile_rows, first, last
    cdef fr_boxes f
    memset(&f, 0, sizeof(f))
    if block >= g.blocks:
        return f
    first, last = first_of(g.units, <int> block, <int> g.blocks), first_of(g.units, <int> block + 1, <int> g.blocks) - 1
    f.boxes = last // in_image - first // in_image + 1
    if f.boxes == 1 and g.tile_rows == 1:
        column = max(<ptrdiff_t> 0, left + first_column(g, first % g.parts) * g.algorithm.outputs[1])
        columns = min(columns, left + first_column(g, last % g.parts + 1) * g.algorithm.outputs[1] + over) - column
    elif f.boxes == 1 and g.parts == 1:
        row = max(<ptrdiff_t> 0, top + first % g.tile_rows * g.algorithm.outputs[0])
        rows = min(rows, top + (last % g.tile_rows + 1) * g.algorithm.outputs[0] + over) - row
    if rows <= 0 or columns <= 0 or channels <= 0:
        f.boxes = 0
        return f
    f.from_ = m.data + (first // in_image * m.image_stride + channel * m.channel_stride + row * m.row_stride
                        + column * m.column_stride) * g.itemsize
    f.box_stride = m.image_stride * g.itemsize
    f.bytes = ((rows - 1) * m.row_stride + columns * m.column_stride) * g.itemsize
    f.runs, f.run_stride = channels, m.channel_stride * g.itemsize
    if m.channel_stride == 1:  # a run for each place
        f.run_stride = m.column_stride * g.itemsize
        f.runs, f.bytes = f.bytes // f.run_stride, channels * g.itemsize
    if f.run_stride == f.bytes:
        f.bytes, f.runs = f.bytes * f.runs, 1
    return f


cdef void share_fetch(const Geometry *g, fr_fetch *fetch, const PointSet *sets, int count, ptrdiff_t rows,
                      ptrdiff_t times) noexcept nogil:
    """Cut what is fetched into pieces for the tiles of all products: of `rows` rows, or if 0, one for each tile of the set."""
    cdef ptrdiff_t tiles = 0, runs = 0, total = 0, most, height = g.kernels.tile_rows
    cdef fr_boxes *part
    cdef int i
    for i in range(count):
        tiles += times * sets[i].count * ceil_div(rows if rows else sets[i].end - sets[i].tile, height)
    for i in range(2):
        part = &fetch.part[i]
        runs += part.boxes * part.runs
        total += part.boxes * part.runs * part.bytes
    most = ceil_div(max(<ptrdiff_t> 1, total), max(<ptrdiff_t> 1, tiles - runs))
    most = min(<ptrdiff_t> MOST_FETCHED, round_up(most, CACHE_LINE))
    for i in range(2):  # a run has pieces of one size
        part = &fetch.part[i]
        part.most = round_up(ceil_div(part.bytes, max(<ptrdiff_t> 1, ceil_div(part.bytes, most))), CACHE_LINE)


cdef int team_for(const Geometry *g, ptrdiff_t channels, ptrdiff_t units, ptrdiff_t parts) noexcept nogil:
    cdef double tiles = <double> g.images * g.tile_rows * g.tile_columns
    return team_size(product_time(tiles * g.points * g.algorithm.pieces, channels, units), 1, parts)


cdef Maps maps_of(cnp.ndarray array, bint channels_last):
    """Describe (N, channels, *sizes) or (N, *sizes, channels) with one or two sizes; each image is C-contiguous."""
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
    m.image_stride = array.strides[0] // array.itemsize if array.shape[0] > 1 else m.channels * m.rows * m.columns
    return m
