"""The weight gradient of a Winograd convolution.

Tiles of the input V and of the output's gradient T [panel][point][tile][4 W] meet point by point; the sums V^T T stay in cache for
a range of channels and units until all tiles are in, and then become gradients of weights. If there are few channels and units, the
tiles are in parts, each with a sum of its own, so that a team has something to share out; they are added in order. Groups that
can be shared out evenly are the work of one member each.
"""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport (
    FR_SLOTS, FR_WINOGRAD_WEIGHT_SCRATCH, fr_boxes, fr_fetch, fr_gemm, fr_winograd, fr_winograd_weights,
)
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, wait_for_team
from fastrnn._kernels._winograd_tiles cimport (
    LINE, Census, Geometry, PointSet, Range, census_of, choose_edges, places_of, point_sets, range_of, round_up,
    scratch_bytes, set_geometry, share_fetch, team_for, transform_block, transform_piece, whole_pages,
)
from fastrnn._kernels._winograd_weights cimport row_of_units

cdef enum:
    BLOCK_BYTES = 900 << 10  # V and T of a block
    SUM_BYTES = 1200 << 10   # of the transformed weight gradient that a task sums up
    WHOLE_BYTES = 12 << 20   # V and T of all tiles: with less, they are kept whole and each range is one sum
    PARTS = 4                # of the tiles, if there is one range whose sums are small
    LEAST_BLOCKS = 3         # of a part: their numbers must not differ much
    MANY_GROUPS = 4          # for each member: some of them may do one more than others


cdef void transform_both(const Gradient *d, ptrdiff_t block, ptrdiff_t piece, Range channels, Range units, char *v, char *t,
                         char *scratch) noexcept nogil:
    """V and T of a block, from some channels and units; v and t are where the first of them go."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, c = 0
    cdef fr_winograd strip
    memset(&strip, 0, sizeof(strip))
    strip.scratch = scratch
    strip.point_stride, strip.tile_stride, strip.panel_stride = d.v_point, d.v_channels, width
    while c < channels.count:
        strip.maps, strip.tiles = d.x.data + (channels.first + c) * d.x.channel_stride * g.itemsize, v
        strip.channels = min(d.v_channels, channels.count - c)
        transform_piece(g, block, piece, &strip, &d.x)
        v += g.points * d.v_point * g.itemsize
        c += d.v_channels
    strip.maps, strip.channels = d.dy.data + units.first * d.dy.channel_stride * g.itemsize, units.count
    strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = t, d.t_point, d.row, g.points * d.t_point
    if units.count:
        transform_block(g, block, g.kernels.winograd_spread, &strip, &d.dy, 0, 0)


cdef void sum_gradient(const Gradient *d, ptrdiff_t block, int add, ptrdiff_t channels, ptrdiff_t units, const char *v,
                       const char *t, char *sums, fr_fetch *fetch) noexcept nogil:
    """sums [panel][point][channel][4 W] = V^T T over the tiles of a block, or += if `add`."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, panel, sum_point = d.most_channels * d.row
    cdef Census census = census_of(g, block)
    cdef PointSet sets[8]
    cdef int i, count = point_sets(g, &census, sets)
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.runs, product.add, product.far = channels, 1, add, d.whole
    product.run[0].row_stride, product.run[0].k_stride, product.run[0].segments = 1, d.v_channels, 1
    product.run[0].b_stride = product.c_row_stride = d.row
    share_fetch(g, fetch, sets, count, channels, ceil_div(units, width))
    for panel in range(ceil_div(units, width)):
        product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(units - panel * width, lanes))
        product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
        for i in range(count):
            product.panels, product.columns = sets[i].count, sets[i].count * product.slots * lanes
            product.run[0].length = sets[i].end - sets[i].tile
            product.run[0].a = v + (sets[i].first * d.v_point + sets[i].tile * d.v_channels) * g.itemsize
            product.run[0].b = t + ((panel * g.points + sets[i].first) * d.t_point + sets[i].tile * d.row) * g.itemsize
            product.c = sums + (panel * g.points + sets[i].first) * sum_point * g.itemsize
            product.run[0].a_panel_stride, product.run[0].panel_stride = sets[i].step * d.v_point, sets[i].step * d.t_point
            product.c_panel_stride = sets[i].step * sum_point
            g.kernels.winograd_product(&product, fetch)


cdef fr_boxes part_of_gradient(const Gradient *d, Range channels, Range units) noexcept nogil:
    cdef ptrdiff_t taps = d.g.algorithm.kernel[0] * d.g.algorithm.kernel[1]
    cdef fr_boxes part
    memset(&part, 0, sizeof(part))
    part.from_ = d.grad + (units.first * d.x.channels + channels.first) * taps * d.g.itemsize
    part.boxes, part.runs, part.run_stride = 1, units.count, d.x.channels * taps * d.g.itemsize
    part.bytes = channels.count * taps * d.g.itemsize
    return part


cdef void fetch_after(const Gradient *d, ptrdiff_t block, ptrdiff_t last, Range channels, Range units,
                      fr_fetch *fetch) noexcept nogil:
    """Fetch the maps of the next block; after the last, the gradient that the sums are added to."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t over = g.algorithm.points[1]
    fetch.part[0] = places_of(g, &d.x, block + 1, g.top, g.left, over, channels.first, channels.count)
    fetch.part[1] = places_of(g, &d.dy, block + 1, 0, 0, 0, units.first, units.count)
    if block == last:
        fetch.part[0] = part_of_gradient(d, channels, units)


cdef void finish_gradient(const Gradient *d, ptrdiff_t piece, ptrdiff_t part, Range channels, Range units, char *sums,
                          char *scratch) noexcept nogil:
    """Add the sums of one part to the gradient."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, taps = g.algorithm.kernel[0] * g.algorithm.kernel[1], panel
    cdef ptrdiff_t in_piece = g.algorithm.taps[0] * g.algorithm.taps[1], first = piece * in_piece
    cdef fr_winograd_weights w
    memset(&w, 0, sizeof(w))
    w.channels, w.unit_stride, w.channel_stride = channels.count, d.x.channels * taps, taps
    w.valid = min(in_piece, taps - first)
    w.points[0], w.points[1] = g.algorithm.points[0], g.algorithm.points[1]
    w.taps[0], w.taps[1] = g.algorithm.taps[0], g.algorithm.taps[1]
    w.point_stride, w.row, w.scratch, w.add = d.most_channels * d.row, d.row, scratch, part > 0 or not d.fresh
    for panel in range(ceil_div(units.count, width)):
        w.units = min(width, units.count - panel * width)
        w.weight = d.grad + (((units.first + panel * width) * d.x.channels + channels.first) * taps + first) * g.itemsize
        w.transformed = sums + panel * g.points * d.most_channels * d.row * g.itemsize
        g.kernels.winograd_weight_gradient(&w)


cdef void sum_part(const Gradient *d, ptrdiff_t piece, ptrdiff_t part, Range channels, Range units, char *v, char *t, char *sums,
                   char *scratch) noexcept nogil:
    """The sums of one range over the blocks of one part."""
    cdef const Geometry *g = &d.g
    cdef ptrdiff_t first = g.blocks * part // d.parts, last = g.blocks * (part + 1) // d.parts - 1, block
    cdef fr_fetch fetch
    memset(&fetch, 0, sizeof(fetch))
    for block in range(first, last + 1):
        transform_both(d, block, piece, channels, units, v, t, scratch)
        fetch_after(d, block, last, channels, units, &fetch)
        sum_gradient(d, block, block > first, channels.count, units.count, v, t, sums, &fetch)


cdef void sum_whole(const Gradient *d, Range channels, Range units, const char *v, const char *t, char *sums) noexcept nogil:
    """The sums of one range over all tiles, which are transformed."""
    cdef ptrdiff_t lanes = d.g.kernels.width
    cdef fr_fetch fetch
    memset(&fetch, 0, sizeof(fetch))
    fetch.part[0] = part_of_gradient(d, channels, units)
    sum_gradient(d, 0, 0, channels.count, units.count, v + channels.first // lanes * d.g.points * d.v_point * d.g.itemsize,
                 t + units.first // (FR_SLOTS * lanes) * d.g.points * d.t_point * d.g.itemsize, sums, &fetch)


cdef void finish_parts(const Gradient *d, ptrdiff_t piece, Team *team, int member, char *scratch) noexcept nogil:
    """A member's share of the channels of each range: the sums of all parts become gradients, in order."""
    cdef ptrdiff_t lanes = d.g.kernels.width, width = FR_SLOTS * lanes, task, first, ranges = d.channel_ranges * d.panel_ranges
    cdef Range channels, units, own
    for task in range(ranges * d.parts):
        channels = range_of(d.x.channels, lanes, task // d.parts % d.channel_ranges, d.channel_ranges)
        units = range_of(d.dy.channels, width, task // d.parts // d.channel_ranges, d.panel_ranges)
        own = range_of(channels.count, 1, member, team.size)
        first = own.first
        own.first += channels.first
        finish_gradient(d, piece, task % d.parts, own, units, d.sums + task * d.sum_bytes + first * d.row * d.g.itemsize, scratch)


cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil:
    cdef Gradient *d = <Gradient *> work
    cdef Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, piece, task
    cdef ptrdiff_t tasks = d.channel_ranges * d.panel_ranges * d.parts
    cdef char *v = d.workspace if d.whole else d.workspace + member * d.tiles_bytes
    cdef char *t = v + d.v_bytes
    cdef char *sums = d.sums + member * d.sum_bytes
    cdef char *scratch = d.scratch + member * d.scratch_bytes
    cdef bint together = d.parts > 1 and team.size > 1
    cdef Range channels, units
    for piece in range(g.algorithm.pieces):
        if d.whole:
            channels, units = range_of(d.x.channels, lanes, member, team.size), range_of(d.dy.channels, width, member, team.size)
            if piece:
                units.count = 0
            transform_both(d, 0, piece, channels, units, v + channels.first // lanes * g.points * d.v_point * g.itemsize,
                           t + units.first // width * g.points * d.t_point * g.itemsize, scratch)
            wait_for_team(team)
        for task in range(first_of(tasks, member, team.size), first_of(tasks, member + 1, team.size)):
            channels = range_of(d.x.channels, lanes, task // d.parts % d.channel_ranges, d.channel_ranges)
            units = range_of(d.dy.channels, width, task // d.parts // d.channel_ranges, d.panel_ranges)
            if together:
                sums = d.sums + task * d.sum_bytes
            if d.whole:
                sum_whole(d, channels, units, v, t, sums)
            else:
                sum_part(d, piece, task % d.parts, channels, units, v, t, sums, scratch)
            if not together:
                finish_gradient(d, piece, task % d.parts, channels, units, sums, scratch)
        if together:
            wait_for_team(team)
            finish_parts(d, piece, team, member, scratch)
        if d.whole or together:
            wait_for_team(team)


cdef int plan_gradient(Gradient *d, bint alone) noexcept nogil:
    """Choose ranges, blocks and parts, measure the workspace, and return the size of the team of one group; 1 if `alone`.

    Blocks and parts decide the order of sums, so they are chosen before the team is known; ranges may then be split for it.
    """
    cdef Geometry *g = &d.g
    cdef ptrdiff_t lanes = g.kernels.width, width = FR_SLOTS * lanes, panels = ceil_div(d.dy.channels, width)
    cdef ptrdiff_t points = g.algorithm.points[0] * g.algorithm.points[1], padded = round_up(d.x.channels, lanes), most
    d.row = row_of_units(g.kernels, d.dy.channels)
    most = max(lanes, SUM_BYTES // (points * d.row * g.itemsize) // lanes * lanes)  # channels, if it is of one panel
    d.panel_ranges = ceil_div(panels, max(<ptrdiff_t> 1, most // min(padded, <ptrdiff_t> 64)))
    d.most_panels = ceil_div(panels, d.panel_ranges)
    d.channel_ranges = ceil_div(padded, max(lanes, most // d.most_panels // lanes * lanes))
    set_geometry(g, d.dy.rows, d.dy.columns,
                 BLOCK_BYTES // (points * (ceil_div(padded, d.channel_ranges) + d.most_panels * d.row) * g.itemsize))
    d.whole = d.panel_ranges * d.channel_ranges > 2 and (
        points * g.units * g.tile_columns * (padded + panels * d.row) * g.itemsize <= WHOLE_BYTES)
    if d.whole:
        g.blocks, g.parts, g.units = 1, 1, g.images * g.tile_rows
        choose_edges(g, d.dy.rows, d.dy.columns)
        g.most_tiles = g.units * g.tile_columns
        d.panel_ranges, d.channel_ranges = panels, padded // lanes
    d.parts = 1
    if PARTS * points * padded * panels * d.row * g.itemsize <= SUM_BYTES and g.blocks >= PARTS * LEAST_BLOCKS:
        d.parts = PARTS
    cdef int size = 1 if alone else team_for(g, d.x.channels, d.dy.channels, padded // lanes * panels * d.parts)
    cdef ptrdiff_t tasks = d.channel_ranges * d.panel_ranges * d.parts
    if not d.whole and tasks < 4 * size and tasks % size:
        d.channel_ranges = min(padded // lanes, round_up(d.channel_ranges, size))
    d.most_panels, d.most_channels = ceil_div(panels, d.panel_ranges), ceil_div(padded // lanes, d.channel_ranges) * lanes
    d.v_channels = lanes if d.whole else d.most_channels
    d.t_panels = panels if d.whole else d.most_panels
    d.v_point, d.t_point = g.most_tiles * d.v_channels + LINE, g.most_tiles * d.row + LINE
    d.v_bytes = round_up((padded // lanes if d.whole else 1) * points * d.v_point * g.itemsize, 64)
    d.tiles_bytes = d.v_bytes + round_up(d.t_panels * points * d.t_point * g.itemsize, 64)
    d.sum_bytes = d.most_panels * points * d.most_channels * d.row * g.itemsize
    d.scratch_bytes = max(scratch_bytes(g), FR_WINOGRAD_WEIGHT_SCRATCH * lanes * g.itemsize)
    tasks = d.channel_ranges * d.panel_ranges * d.parts
    size = min(size, <int> tasks)
    d.workspace_bytes = d.tiles_bytes * (1 if d.whole else size) + d.sum_bytes * (tasks if d.parts > 1 and size > 1 else size)
    d.workspace_bytes += d.scratch_bytes * size
    return size


cdef void place_gradient(Gradient *d, char *workspace, int size) noexcept nogil:
    """Lay out the workspace, of which each part is a multiple of 64 bytes."""
    d.workspace, d.scratch = workspace, workspace + d.workspace_bytes - d.scratch_bytes * size
    d.sums = workspace + d.tiles_bytes * (1 if d.whole else size)


cdef void enter_group(const Gradient *all, ptrdiff_t group, Gradient *own) noexcept nogil:
    own.x.data, own.dy.data = all.x.data + group * all.x_group, all.dy.data + group * all.dy_group
    own.grad = all.grad + group * all.grad_group


cdef void share_of_groups(void *work, Team *team, int member) noexcept nogil:
    """Whole groups for each member."""
    cdef const Gradient *all = <const Gradient *> work
    cdef Gradient own = all[0]
    cdef ptrdiff_t group
    cdef Team alone
    alone.size, alone.queues = 1, NULL
    place_gradient(&own, all.workspace + member * all.workspace_bytes, 1)
    for group in range(first_of(all.groups, member, team.size), first_of(all.groups, member + 1, team.size)):
        enter_group(all, group, &own)
        share_of_gradient(&own, &alone, 0)


cdef void add_gradients(Gradient *d):
    """Add to the gradients of all groups, or write them."""
    cdef Gradient own
    cdef ptrdiff_t group
    cdef int size, members
    d.g.tile_rows = ceil_div(d.dy.rows, d.g.algorithm.outputs[0])
    d.g.tile_columns = ceil_div(d.dy.columns, d.g.algorithm.outputs[1])
    d.g.points = d.g.algorithm.points[0] * d.g.algorithm.points[1]
    members = team_for(&d.g, d.x.channels * d.groups, d.dy.channels, d.groups)
    cdef bint alone = d.groups > 1 and (d.groups % members == 0 or d.groups >= MANY_GROUPS * members)
    size = plan_gradient(d, alone)
    if d.g.units == 0:
        if d.fresh:
            memset(d.grad, 0, d.groups * d.grad_group)
        return
    cdef Block workspace = new_block(whole_pages((members if alone else 1) * d.workspace_bytes))
    own = d[0]
    with nogil:
        if alone:
            d.workspace = workspace.data
            run_team(share_of_groups, d, members)
        else:
            place_gradient(&own, workspace.data, size)
            for group in range(d.groups):
                enter_group(d, group, &own)
                run_team(share_of_gradient, &own, size)
