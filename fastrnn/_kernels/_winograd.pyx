"""Winograd convolution: blocks of transformed tiles that stay in the second-level cache, and one product per point.

A block holds whole rows of tiles, or pieces of them where maps are wide. Its tiles V [point][tile][channel] meet the transformed
weights U [panel of 4 W units][point][channel][4 W]; each panel's products M [point][tile][4 W] go back to maps at once. One call of
the GEMM kernel makes the products of all points: to it the points are panels. The gradient of the input is the same with the
kernels flipped and units and channels exchanged. Sums over channels are cut into pieces, added in order: that
order depends on nothing else, so that a tile's bits depend neither on its block nor on the team. Groups are layers of their own
over views of the same maps, one after the other: the weights of one stay near for all its blocks.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport (
    FR_FAR_BYTES, FR_SLOTS, FR_WINOGRAD_WEIGHT_SCRATCH, fr_boxes, fr_fetch, fr_gemm, fr_kernels, fr_winograd, kernels_for,
)
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, wait_for_team
from fastrnn._kernels._winograd_gradient cimport Gradient, add_gradients
from fastrnn._kernels._winograd_tiles cimport (
    LINE, Algorithm, Census, Geometry, Maps, PointSet, Range, census_of, maps_of, places_of, point_sets, range_of, round_up,
    scratch_bytes, set_geometry, share_fetch, team_for, transform_block, transform_piece, whole_pages,
)
from fastrnn._kernels._winograd_weights cimport (
    Transform, group_distance, packed_bytes, packed_weights, part_of_weights, point_distance, row_of_units, transform_part,
    transformed_weights,
)

cnp.import_array()

cdef enum:
    CHUNK = 96               # channels of one sum, if there are more than LONGEST: bounds the rounding error
    LONGEST = 128
    BLOCK_BYTES = 600 << 10  # V and M of a block: with the U of 64 channels and units they stay in the second-level cache
    LEAST_FAR_TILES = 64     # of a block, if U is larger than LARGE_BYTES: what it reads of U must be worth it
    LARGE_BYTES = 4 << 20
    AHEAD_BYTES = 3 << 20    # of U, in training of all groups, whose weights change: less is transformed once for all blocks
    AHEAD_BLOCKS = 4         # and so is U for more blocks than this

cdef ptrdiff_t FAR_BYTES = FR_FAR_BYTES


cdef struct Layer:
    # y = activation(x * weight + bias), or dx from dy, of the first group; the others lie so many bytes further on.
    Geometry g
    Maps x, y
    ptrdiff_t groups, x_group, y_group, bias_group, u_group
    char *bias
    int activation
    const char *transformed  # U; NULL: each block transforms the weights again, as it needs them
    Transform weights
    ptrdiff_t chunks, together  # ranges of channels; pieces of the kernel in one sum
    ptrdiff_t sums, v_piece, v_tile, v_point, u_point, weight_bytes  # `v_piece` channels of a piece are room for the largest chunk
    ptrdiff_t row, m_point  # units of a row of U and M
    char *workspace
    ptrdiff_t workspace_bytes, v_bytes, m_bytes, u_bytes


cdef void set_sums(Layer *l) noexcept nogil:
    """Choose how the sum over pieces and channels is cut. V has each sum by itself, so that products read it without gaps."""
    cdef ptrdiff_t channels = l.x.channels, lanes = l.g.kernels.width, pieces = l.g.algorithm.pieces
    l.chunks = 1 if channels <= LONGEST else ceil_div(channels, <ptrdiff_t> CHUNK)
    l.together = pieces if pieces * channels <= LONGEST else 1
    l.sums = pieces // l.together * l.chunks
    l.v_piece = ceil_div(ceil_div(channels, lanes), l.chunks) * lanes
    l.v_tile = l.together * l.v_piece


cdef Range chunk_of(const Layer *l, ptrdiff_t chunk) noexcept nogil:
    """The channels of a chunk."""
    return range_of(l.x.channels, l.g.kernels.width, chunk, l.chunks)


cdef void transform_input(const Layer *l, ptrdiff_t block, Range own, fr_winograd *strip, char *v) noexcept nogil:
    """V [sum][point][tile][piece][channel] of a block, for some channels."""
    cdef const Geometry *g = &l.g
    cdef ptrdiff_t step, piece, i, first, last
    cdef Range channels
    strip.point_stride, strip.tile_stride, strip.panel_stride = l.v_point, l.v_tile, FR_SLOTS * g.kernels.width
    for step in range(l.sums):
        channels = chunk_of(l, step % l.chunks)
        first, last = max(channels.first, own.first), min(channels.first + channels.count, own.first + own.count)
        if first >= last:
            continue
        strip.maps, strip.channels = l.x.data + first * l.x.channel_stride * g.itemsize, last - first
        for i in range(l.together):
            piece = step // l.chunks * l.together + i
            strip.tiles = v + (step * g.points * l.v_point + i * l.v_piece + first - channels.first) * g.itemsize
            transform_piece(g, block, piece, strip, &l.x)


cdef void fetch_weights(const Layer *l, ptrdiff_t panel, ptrdiff_t chunk, const fr_boxes *last, fr_fetch *fetch) noexcept nogil:
    """Fetch the weights of a chunk, or if there are no more, of the next panel's first; after the last panel, `last`."""
    cdef Range channels
    if chunk == l.chunks:
        panel, chunk = panel + 1, 0
    fetch.part[1] = last[0]
    if panel * FR_SLOTS * l.g.kernels.width < l.y.channels:
        channels = chunk_of(l, chunk)
        fetch.part[1] = part_of_weights(&l.weights, panel, channels.first, channels.count)


cdef void run_sum(const Layer *l, const PointSet *sets, int count, const char *v, const char *u, char *m, fr_gemm *product,
                  fr_fetch *fetch) noexcept nogil:
    """M (+)= V U at all points, for one sum over channels; v and u are where that begins."""
    cdef const Geometry *g = &l.g
    cdef int i
    for i in range(count):
        product.rows, product.panels = sets[i].end - sets[i].tile, sets[i].count
        product.columns = sets[i].count * product.slots * g.kernels.width
        product.run[0].a = v + (sets[i].first * l.v_point + sets[i].tile * l.v_tile) * g.itemsize
        product.run[0].b = u + sets[i].first * l.u_point * g.itemsize
        product.c = m + (sets[i].first * l.m_point + sets[i].tile * l.row) * g.itemsize
        product.run[0].a_panel_stride, product.run[0].panel_stride = sets[i].step * l.v_point, sets[i].step * l.u_point
        product.c_panel_stride = sets[i].step * l.m_point
        g.kernels.winograd_product(product, fetch)


cdef void run_panel(const Layer *l, const Census *census, ptrdiff_t panel, const char *v, char *m, char *u, char *scratch,
                    fr_fetch *fetch) noexcept nogil:
    """M = V U for one panel of units, at all points; meanwhile, maps are fetched."""
    cdef const Geometry *g = &l.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, step, piece, i
    cdef const char *b
    cdef Range channels
    cdef PointSet sets[8]
    cdef int count = point_sets(g, census, sets)
    cdef fr_boxes last = fetch.part[1]
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.runs = product.run[0].k_stride = 1
    product.slots = <int> min(<ptrdiff_t> FR_SLOTS, ceil_div(l.y.channels - panel * width, <ptrdiff_t> g.kernels.width))
    product.far = l.transformed != NULL and l.weight_bytes > FAR_BYTES
    product.run[0].row_stride, product.run[0].b_stride, product.c_row_stride = l.v_tile, l.row, l.row
    product.run[0].segments, product.run[0].segment_stride = l.together, l.v_piece
    product.run[0].vectors, product.run[0].last = product.slots, product.slots - 1
    share_fetch(g, fetch, sets, count, 0, l.sums)
    for step in range(l.sums):
        piece, channels = step // l.chunks * l.together, chunk_of(l, step % l.chunks)
        b = u
        if l.transformed == NULL:
            for i in range(l.together):
                transform_part(&l.weights, panel, piece + i, channels.first, channels.count,
                               u + i * channels.count * l.row * g.itemsize, l.u_point, scratch)
            fetch_weights(l, panel, step % l.chunks + 1, &last, fetch)
            share_fetch(g, fetch, sets, count, 0, 1)
        else:
            b = l.transformed + (panel * g.points * l.u_point + (piece * l.x.channels + channels.first) * l.row) * g.itemsize
        product.run[0].length = channels.count
        run_sum(l, sets, count, v + step * g.points * l.v_point * g.itemsize, b, m, &product, fetch)
        product.add = 1


cdef void enter_group(const Layer *all, ptrdiff_t group, Layer *own) noexcept nogil:
    """Point to what belongs to a group."""
    own.x.data, own.y.data = all.x.data + group * all.x_group, all.y.data + group * all.y_group
    own.weights.weight = all.weights.weight + group * all.weights.group_bytes
    if all.bias != NULL:
        own.bias = all.bias + group * all.bias_group
    if all.transformed != NULL:
        own.transformed = all.transformed + group * all.u_group


cdef fr_boxes input_ahead(const Layer *all, ptrdiff_t item) noexcept nogil:
    """What the block of this number reads."""
    cdef Maps x = all.x
    x.data += item // all.g.blocks * all.x_group
    return places_of(&all.g, &x, item % all.g.blocks, all.g.top, all.g.left, all.g.algorithm.points[1], 0, x.channels)


cdef void finish_panel(const Layer *l, ptrdiff_t block, ptrdiff_t panel, char *m, fr_winograd *strip) noexcept nogil:
    """From M to maps."""
    cdef const Geometry *g = &l.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width
    strip.channels = min(width, l.y.channels - panel * width)
    strip.maps = l.y.data + panel * width * l.y.channel_stride * g.itemsize
    strip.tiles, strip.point_stride, strip.tile_stride, strip.panel_stride = m, l.m_point, l.row, width
    strip.bias = NULL if l.bias == NULL else l.bias + panel * width * g.itemsize
    strip.activation = l.activation
    transform_block(g, block, g.kernels.winograd_output, strip, &l.y, 0, 0)


cdef void share_of_layer(void *work, Team *team, int member) noexcept nogil:
    """Blocks of all groups are shared out; where there are fewer than members, panels, and for the input's transforms channels."""
    cdef Layer *all = <Layer *> work
    cdef Layer own_layer = all[0]
    cdef Layer *layer = &own_layer
    cdef Geometry *g = &layer.g
    cdef ptrdiff_t width = FR_SLOTS * g.kernels.width, panels = ceil_div(layer.y.channels, width), panel, block
    cdef ptrdiff_t item = 0, last_item = all.groups * g.blocks, first_panel = 0, last_panel = panels
    cdef char *v = layer.workspace + member * layer.workspace_bytes
    cdef char *m = v + layer.v_bytes
    cdef char *u = m + layer.m_bytes
    cdef bint shared = last_item < team.size
    cdef Range own
    cdef Census census
    cdef fr_winograd strip
    cdef fr_fetch fetch
    memset(&fetch, 0, sizeof(fetch))
    memset(&strip, 0, sizeof(strip))
    strip.scratch = u + layer.u_bytes
    own.first, own.count = 0, layer.x.channels
    if shared:
        v, own = layer.workspace, range_of(layer.x.channels, g.kernels.width, member, team.size)
        first_panel, last_panel = first_of(panels, member, team.size), first_of(panels, member + 1, team.size)
    else:
        item, last_item = first_of(last_item, member, team.size), first_of(last_item, member + 1, team.size)
    while item < last_item:
        enter_group(all, item // g.blocks, layer)
        block = item % g.blocks
        census = census_of(g, block)
        transform_input(layer, block, own, &strip, v)
        if shared:
            wait_for_team(team)
        for panel in range(first_panel, last_panel):
            fetch.part[0] = places_of(g, &layer.y, block, 0, 0, 0, panel * width, min(width, layer.y.channels - panel * width))
            fetch.part[1].boxes = 0
            if panel == last_panel - 1 and item + 1 < last_item:
                fetch.part[1] = input_ahead(all, item + 1)
            run_panel(layer, &census, panel, v, m, u, <char *> strip.scratch, &fetch)
            finish_panel(layer, block, panel, m, &strip)
        if shared and item + 1 < last_item:
            wait_for_team(team)
        item += 1


cdef ptrdiff_t part_maps(Maps *maps, ptrdiff_t groups, int itemsize) noexcept nogil:
    """Keep the maps of the first group, and return the bytes to those of the next."""
    maps.channels //= groups
    return maps.channels * maps.channel_stride * itemsize


@cython.final
cdef class WinogradKernel:
    """Transformed weights (K, C/groups, *kernel): an immutable snapshot, for one instruction set."""

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly ptrdiff_t inputs, outputs, groups  # inputs and outputs of one group
    cdef Algorithm algorithm
    cdef cnp.ndarray weight  # transformed at the first use, or if it is large and there are few blocks, at every one
    cdef bint large
    cdef Transform forward_weights, backward_weights
    cdef Block forward_block, backward_block
    cdef Block packed_block  # of large weights without gradients: what `forward_block` is made of, if at all

    def __init__(self, cnp.ndarray weight not None, points, outputs, bint backward, ptrdiff_t groups=1):
        """`points` and `outputs` of a tile for each spatial axis of `weight`, which must not change any more.

        A kernel of two axes that is cut into pieces along both lies piece by piece, all of them whole.
        """
        cdef int axis, axes = weight.ndim - 2
        self.itemsize = weight.itemsize
        self.kernels = kernels_for(self.itemsize)
        self.outputs, self.inputs, self.groups = weight.shape[0] // groups, weight.shape[1], groups
        self.algorithm.points[0] = self.algorithm.outputs[0] = self.algorithm.taps[0] = self.algorithm.kernel[0] = 1
        for axis in range(axes):
            self.algorithm.points[2 - axes + axis], self.algorithm.outputs[2 - axes + axis] = points[axis], outputs[axis]
            self.algorithm.taps[2 - axes + axis] = points[axis] - outputs[axis] + 1
            self.algorithm.kernel[2 - axes + axis] = <int> weight.shape[2 + axis]
        self.algorithm.across = <int> ceil_div(self.algorithm.kernel[1], self.algorithm.taps[1])
        self.algorithm.pieces = self.algorithm.across * <int> ceil_div(self.algorithm.kernel[0], self.algorithm.taps[0])
        cdef ptrdiff_t taps = self.algorithm.kernel[0] * self.algorithm.kernel[1], reals = self.inputs * self.outputs
        reals *= self.algorithm.points[0] * self.algorithm.points[1] * (groups if backward else 1)
        self.set_weight(&self.forward_weights, self.outputs, self.inputs, self.inputs * taps, taps)
        self.set_weight(&self.backward_weights, self.inputs, self.outputs, taps, self.inputs * taps)
        self.backward_weights.flipped = 1
        self.forward_weights.weight = self.backward_weights.weight = <const char *> cnp.PyArray_DATA(weight)
        self.large = reals * self.itemsize > AHEAD_BYTES and (backward or self.algorithm.pieces == 1)
        if self.large and not backward:
            self.packed_block = packed_weights(&self.forward_weights)
            self.forward_weights.weight, self.forward_weights.packed = self.packed_block.data, 1
            self.forward_weights.group_bytes = packed_bytes(&self.forward_weights)
        else:
            self.weight = weight

    cdef void set_weight(self, Transform *t, ptrdiff_t units, ptrdiff_t channels, ptrdiff_t unit_stride, ptrdiff_t channel_stride):
        t.kernels, t.itemsize, t.algorithm, t.flipped, t.packed = self.kernels, self.itemsize, self.algorithm, 0, 0
        t.units, t.channels, t.unit_stride, t.channel_stride = units, channels, unit_stride, channel_stride
        t.groups, t.group_bytes = self.groups, units * channels * min(unit_stride, channel_stride) * self.itemsize

    def forward(self, cnp.ndarray x not None, cnp.ndarray y not None, ptrdiff_t top, ptrdiff_t left, cnp.ndarray bias,
                int activation, bint channels_last):
        """y = activation(x * weight + bias); `top` and `left` are zeros before the first row and column of x."""
        self.run(x, y, -top, -left, False, bias, activation, channels_last)

    def backward_input(self, cnp.ndarray dy not None, cnp.ndarray dx not None, ptrdiff_t top, ptrdiff_t left, cnp.ndarray bias,
                       int activation, bint channels_last):
        """dx = activation(the transpose of dy + bias), with the padding of `forward`."""
        top, left = top + 1 - self.algorithm.kernel[0], left + 1 - self.algorithm.kernel[1]
        self.run(dy, dx, top, left, True, bias, activation, channels_last)

    cdef Block ahead(self, bint backward, ptrdiff_t blocks):
        """U of one direction, unless it is large and blocks are too few to transform it for all at once.

        That of the other direction is let go: it is as large, and a step of training needs each once.
        """
        cdef Block block = self.backward_block if backward else self.forward_block
        if block is None and (not self.large or blocks > AHEAD_BLOCKS):
            self.forward_block = self.backward_block = None
            block = transformed_weights(&self.backward_weights if backward else &self.forward_weights)
            if backward:
                self.backward_block = block
            else:
                self.forward_block = block
        return block

    cdef run(self, cnp.ndarray x, cnp.ndarray y, ptrdiff_t top, ptrdiff_t left, bint backward, cnp.ndarray bias, int activation,
             bint channels_last):
        cdef Layer l
        cdef ptrdiff_t width = FR_SLOTS * self.kernels.width, points, tiles, items
        l.g.kernels, l.g.itemsize, l.g.algorithm, l.g.top, l.g.left = self.kernels, self.itemsize, self.algorithm, top, left
        l.x, l.y, l.groups = maps_of(x, channels_last), maps_of(y, channels_last), self.groups
        l.x_group, l.y_group = part_maps(&l.x, self.groups, self.itemsize), part_maps(&l.y, self.groups, self.itemsize)
        l.bias, l.bias_group = NULL, l.y.channels * self.itemsize
        if bias is not None:
            l.bias = <char *> cnp.PyArray_DATA(bias)
        l.activation, l.weights = activation, self.backward_weights if backward else self.forward_weights
        l.g.images = x.shape[0]
        set_sums(&l)
        points = self.algorithm.points[0] * self.algorithm.points[1]
        l.weight_bytes = points * self.algorithm.pieces * l.x.channels * l.y.channels * self.itemsize
        l.row = row_of_units(self.kernels, l.y.channels)
        tiles = BLOCK_BYTES // (points * (l.sums * l.v_tile + l.row) * self.itemsize)
        if l.weight_bytes > LARGE_BYTES:
            tiles = max(tiles, <ptrdiff_t> LEAST_FAR_TILES)
        set_geometry(&l.g, l.y.rows, l.y.columns, tiles)
        if l.g.units == 0:
            return
        l.v_point, l.u_point = l.g.most_tiles * l.v_tile + LINE, l.v_tile * l.row + LINE
        l.m_point = l.g.most_tiles * l.row + LINE
        l.v_bytes = round_up(l.sums * points * l.v_point * self.itemsize, 64)
        l.m_bytes = round_up(points * l.m_point * self.itemsize, 64)
        cdef Block transformed = self.ahead(backward, l.g.blocks)
        l.transformed, l.u_bytes, l.u_group = NULL, 0, group_distance(&l.weights)
        if transformed is not None:
            l.transformed, l.u_point = transformed.data, point_distance(&l.weights)
        else:
            l.u_bytes = round_up(points * l.u_point * self.itemsize, 64)
        l.workspace_bytes = l.v_bytes + l.m_bytes + l.u_bytes
        l.workspace_bytes += max(scratch_bytes(&l.g), FR_WINOGRAD_WEIGHT_SCRATCH * self.kernels.width * self.itemsize)
        items = self.groups * l.g.blocks
        cdef int size = team_for(&l.g, l.x.channels * self.groups, l.y.channels, max(items, ceil_div(l.y.channels, width)))
        if items > size and items % size:
            l.g.blocks = min(l.g.units, round_up(l.g.blocks, size))  # smaller ones, as many for each member
        cdef Block workspace = new_block(whole_pages(size * l.workspace_bytes))
        l.workspace = workspace.data
        with nogil:
            run_team(share_of_layer, &l, size)

    def add_weight_gradient(self, cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray grad not None, ptrdiff_t top,
                            ptrdiff_t left, bint channels_last, bint fresh=False):
        """grad (K, C/groups, *kernel) += the gradient of the weights, or = if it is `fresh`, whatever it holds."""
        cdef Gradient d
        d.g.kernels, d.g.itemsize, d.g.algorithm, d.g.top, d.g.left = self.kernels, self.itemsize, self.algorithm, -top, -left
        d.x, d.dy, d.g.images = maps_of(x, channels_last), maps_of(dy, channels_last), x.shape[0]
        d.grad, d.groups, d.fresh = <char *> cnp.PyArray_DATA(grad), self.groups, fresh
        d.x_group, d.dy_group = part_maps(&d.x, self.groups, self.itemsize), part_maps(&d.dy, self.groups, self.itemsize)
        d.grad_group = cnp.PyArray_NBYTES(grad) // self.groups
        add_gradients(&d)
