"""Gradients of a convolution's parameters, and what comes before them.

The gradient of the weights is a product over the pixels of each box: a row of A holds the gradient of one output map, as it
lies; a row of B the channels of the taps that lie side by side in the band. Where these are few, all taps and channels of a pixel
are gathered into one row of B first, for the pixels of a box; and where a box has several planes, each tap's panel of channels is,
so that a sum runs over all of them. Threads share channels, or maps, never pixels.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Band, Maps, fill_band
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_dots, fr_gemm, fr_kernels, kernels_for
from fastrnn._kernels._gemm cimport ceil_div, gemm_columns
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Blocks, Range, Windows, box_of, cut, largest_band, taps_inside, taps_of

cnp.import_array()

cdef ptrdiff_t BAND_BYTES = 512 << 10
cdef ptrdiff_t MOST_PIXELS = 512
cdef ptrdiff_t SUM_BYTES = 600 << 10  # of a part
# One tap: up to so many channels would leave most lanes of a product empty; sums of fewer places are soon added up over the lanes.
cdef ptrdiff_t DOT_CHANNELS = 8
cdef ptrdiff_t DOT_PLACES = 64
cdef ptrdiff_t MOST_OF_VOLUMES = 1024  # larger boxes read fewer planes twice


cdef struct Gradient:
    # grad (groups * outputs, inputs, taps) += the sums over pixels of dy times x, or = if it is `fresh`.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps dy, x
    ptrdiff_t N, groups, inputs, outputs, taps
    ptrdiff_t places                 # of one map of dy
    ptrdiff_t input_parts, output_parts
    Blocks blocks
    char *grad
    char *scratch
    ptrdiff_t scratch_bytes, band_bytes, sum_bytes, rows_bytes, pixels
    bint gathered, by_panels, fresh
    bint written  # of one plane and tap, by panels: by the first product, since there is one for every channel


cdef struct Part:
    # What one item adds up: some maps and channels of one group.
    ptrdiff_t group
    Range outputs, inputs
    char *sums  # [map][tap][channel]; of one tap, the gradient itself
    ptrdiff_t sums_stride
    bint written  # by these products, not added to


cdef void add_box(const Gradient *g, const Range *box, const Band *band, const Part *part) noexcept nogil:
    """Add the sums over the pixels of a box, plane by plane, since only there the distances are even."""
    cdef ptrdiff_t n, d, tap_d, tap_h, tap_w, across = g.axis[2].kernel, width = 1
    cdef ptrdiff_t channels = part.inputs.end - part.inputs.first, row_length = box[3].end - box[3].first
    cdef ptrdiff_t offset, dilation = g.axis[2].taps[0].pace
    cdef Range depth
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    if dilation == 1:
        across, width = 1, g.axis[2].kernel
    product.rows, product.runs, product.add, product.columns = part.outputs.end - part.outputs.first, 1, 1, width * channels
    product.c_row_stride = part.sums_stride
    product.c_panel_stride = product.run[0].panel_stride = FR_SLOTS * g.kernels.width
    product.run[0].row_stride, product.run[0].k_stride = g.dy.channel_stride, g.dy.place_stride[2]
    product.run[0].segments, product.run[0].length = box[2].end - box[2].first, row_length
    product.run[0].segment_stride = g.dy.place_stride[1]
    product.run[0].b_stride = g.axis[2].step * channels
    product.run[0].b_skip = g.axis[1].step * band.place_stride[1] - row_length * product.run[0].b_stride
    for n in range(box[0].end - box[0].first):
        for d in range(box[1].end - box[1].first):
            product.run[0].a = dy_at(g, box, part, n, d)
            depth = taps_inside(&g.axis[0], g.axis[0].taps, box[1].first + d)
            for tap_d in range(depth.first, depth.end):
                for tap_h in range(g.axis[1].kernel):
                    for tap_w in range(across):
                        offset = (n * band.batch_stride
                                  + (d * g.axis[0].step + tap_d * g.axis[0].taps[0].pace) * band.place_stride[0]
                                  + tap_h * g.axis[1].taps[0].pace * band.place_stride[1] + tap_w * dilation * channels)
                        product.run[0].b = band.data + offset * g.itemsize
                        product.c = part.sums + ((tap_d * g.axis[1].kernel + tap_h) * g.axis[2].kernel
                                                 + tap_w) * channels * g.itemsize
                        gemm_columns(g.kernels, g.itemsize, &product)


cdef void add_gathered(const Gradient *g, const Range *box, const Band *band, const Part *part, char *rows) noexcept nogil:
    """The same, plane by plane, from rows of B that hold every tap and channel of a pixel."""
    cdef ptrdiff_t n, d, h, w, tap_d, tap_h, tap_w, pixel, segments = 0, length, across = g.axis[2].kernel, per_depth
    cdef ptrdiff_t channels = part.inputs.end - part.inputs.first, columns = channels * g.taps, stride
    cdef ptrdiff_t height = box[2].end - box[2].first, width = box[3].end - box[3].first
    cdef ptrdiff_t *row = <ptrdiff_t *> (rows + g.rows_bytes)
    cdef ptrdiff_t *segment = row + g.pixels
    cdef Range depth
    cdef fr_gemm product
    length, stride = channels, row_of_gathered(g, columns)
    if g.axis[2].taps[0].pace == 1:
        length, across = channels * across, 1
    for tap_d in range(g.axis[0].kernel):
        for tap_h in range(g.axis[1].kernel):
            for tap_w in range(across):
                segment[segments] = (tap_d * g.axis[0].taps[0].pace * band.place_stride[0]
                                     + tap_h * g.axis[1].taps[0].pace * band.place_stride[1]
                                     + tap_w * g.axis[2].taps[0].pace * channels)
                segments += 1
    pixel, per_depth = 0, segments // g.axis[0].kernel
    for h in range(height):
        for w in range(width):
            row[pixel] = h * g.axis[1].step * band.place_stride[1] + w * g.axis[2].step * channels
            pixel += 1
    memset(&product, 0, sizeof(product))
    product.rows, product.runs, product.add, product.c_row_stride = part.outputs.end - part.outputs.first, 1, 1, part.sums_stride
    product.c_panel_stride = product.run[0].panel_stride = FR_SLOTS * g.kernels.width
    product.run[0].row_stride, product.run[0].k_stride = g.dy.channel_stride, g.dy.place_stride[2]
    product.run[0].segments, product.run[0].length = height, width
    product.run[0].segment_stride, product.run[0].b, product.run[0].b_stride = g.dy.place_stride[1], rows, stride
    for n in range(box[0].end - box[0].first):
        for d in range(box[1].end - box[1].first):
            depth = taps_inside(&g.axis[0], g.axis[0].taps, box[1].first + d)
            if depth.end == depth.first:
                continue
            g.kernels.gather(pixel, (depth.end - depth.first) * per_depth, length,
                             band.data + (n * band.batch_stride + d * g.axis[0].step * band.place_stride[0]) * g.itemsize,
                             row, segment + depth.first * per_depth, rows, stride)
            product.run[0].a = dy_at(g, box, part, n, d)
            product.columns = (depth.end - depth.first) * per_depth * length
            product.c = part.sums + depth.first * per_depth * length * g.itemsize
            gemm_columns(g.kernels, g.itemsize, &product)


cdef inline ptrdiff_t row_of_gathered(const Gradient *g, ptrdiff_t columns) noexcept nogil:
    return ceil_div(columns, g.kernels.width) * g.kernels.width


cdef inline char *dy_at(const Gradient *g, const Range *box, const Part *part, ptrdiff_t n, ptrdiff_t d) noexcept nogil:
    return g.dy.data + ((box[0].first + n) * g.dy.batch_stride
                        + (part.group * g.outputs + part.outputs.first) * g.dy.channel_stride
                        + (box[1].first + d) * g.dy.place_stride[0] + box[2].first * g.dy.place_stride[1]
                        + box[3].first * g.dy.place_stride[2]) * g.itemsize


cdef Range planes_inside(const Gradient *g, const Range *box, ptrdiff_t tap) noexcept nogil:
    """The planes of a box whose tap of the depth meets no zeros of the border, from the first to the last."""
    cdef Range planes, taps
    cdef ptrdiff_t d
    planes.first = planes.end = 0
    for d in range(box[1].end - box[1].first):
        taps = taps_inside(&g.axis[0], g.axis[0].taps, box[1].first + d)
        if taps.first <= tap < taps.end:
            planes.first, planes.end = planes.first if planes.end else d, d + 1
    return planes


cdef void add_panels(const Gradient *g, const Range *box, const Band *band, const Part *part, char *rows) noexcept nogil:
    """The same for a box of several planes: panel by panel of the taps that lie side by side, which is gathered first."""
    cdef ptrdiff_t n, d, h, w, pixel = 0, tap, tap_d, tap_h, tap_w, column, zero = 0, tail, maps, pixels
    cdef ptrdiff_t panel = FR_SLOTS * g.kernels.width
    cdef ptrdiff_t tap_row, together = g.axis[2].kernel if g.axis[2].taps[0].pace == 1 else 1
    cdef ptrdiff_t channels = part.inputs.end - part.inputs.first
    cdef ptrdiff_t depth = box[1].end - box[1].first, height = box[2].end - box[2].first, width = box[3].end - box[3].first
    cdef ptrdiff_t *row = <ptrdiff_t *> (rows + g.rows_bytes)
    cdef Range planes
    cdef fr_gemm product
    for n in range(box[0].end - box[0].first):
        for d in range(depth):
            for h in range(height):
                for w in range(width):
                    row[pixel] = (n * band.batch_stride + d * g.axis[0].step * band.place_stride[0]
                                  + h * g.axis[1].step * band.place_stride[1] + w * g.axis[2].step * channels)
                    pixel += 1
    memset(&product, 0, sizeof(product))
    product.rows, product.runs, product.add = part.outputs.end - part.outputs.first, 1, not part.written
    product.c_row_stride, product.c_panel_stride = part.sums_stride, panel
    product.run[0].row_stride, product.run[0].k_stride = g.dy.channel_stride, g.dy.place_stride[2]
    product.run[0].b, product.run[0].b_stride, product.run[0].segments = rows, panel, box[0].end - box[0].first
    product.run[0].segment_stride = g.dy.batch_stride
    for tap_row in range(g.taps // together):
        tap = tap_row * together
        tap_w, tap_h = tap % g.axis[2].kernel, tap // g.axis[2].kernel % g.axis[1].kernel
        tap_d = tap // g.axis[2].kernel // g.axis[1].kernel
        planes, column = planes_inside(g, box, tap_d), 0
        product.run[0].a, product.run[0].length = dy_at(g, box, part, 0, planes.first), (planes.end - planes.first) * height * width
        maps, pixels = box[0].end - box[0].first, product.run[0].length
        if planes.end - planes.first == depth:  # the planes of all maps lie together
            maps, pixels = 1, pixel
        while column < channels * together and planes.end > planes.first:
            tail = min(panel, channels * together - column)
            for n in range(maps):
                g.kernels.gather(pixels, 1, tail,
                                 band.data + (tap_d * g.axis[0].taps[0].pace * band.place_stride[0]
                                              + tap_h * g.axis[1].taps[0].pace * band.place_stride[1]
                                              + tap_w * g.axis[2].taps[0].pace * channels + column) * g.itemsize,
                                 row + (n * depth + planes.first) * height * width, &zero,
                                 rows + n * product.run[0].length * panel * g.itemsize, panel)
            product.columns, product.c = tail, part.sums + (tap * channels + column) * g.itemsize
            gemm_columns(g.kernels, g.itemsize, &product)
            column += panel


cdef void share_of_dots(void *work, Team *team, int member) noexcept nogil:
    """Of one tap and few channels: the sums run along the maps as they lie, sample by sample."""
    cdef Gradient *g = <Gradient *> work
    cdef ptrdiff_t maps = g.groups * g.outputs, first = first_of(maps, member, team.size)
    cdef ptrdiff_t end = first_of(maps, member + 1, team.size), map, n, group
    cdef fr_dots dots
    dots.columns, dots.k, dots.c_stride = g.inputs, g.places, g.inputs
    dots.a_stride, dots.b_stride = g.dy.channel_stride, g.x.channel_stride
    if g.fresh:
        memset(g.grad + first * g.inputs * g.itemsize, 0, (end - first) * g.inputs * g.itemsize)
    for n in range(g.N):
        map = first
        while map < end:
            group = map // g.outputs
            dots.rows = min(end, (group + 1) * g.outputs) - map
            dots.a = g.dy.data + (n * g.dy.batch_stride + map * g.dy.channel_stride) * g.itemsize
            dots.b = g.x.data + (n * g.x.batch_stride + group * g.inputs * g.x.channel_stride) * g.itemsize
            dots.c = g.grad + map * g.inputs * g.itemsize
            g.kernels.add_dots(&dots)
            map += dots.rows


cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil:
    cdef Gradient *g = <Gradient *> work
    cdef ptrdiff_t items = g.groups * g.input_parts * g.output_parts, item, number, map, channels
    cdef char *memory = g.scratch + member * g.scratch_bytes
    cdef Part part
    cdef Range box[4]
    cdef Band band
    cdef char *rows
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        part.group = item // (g.input_parts * g.output_parts)
        part.inputs = part_of(g.inputs, item // g.output_parts % g.input_parts, g.input_parts, g.kernels.width)
        part.outputs = part_of(g.outputs, item % g.output_parts, g.output_parts, 1)
        channels = part.inputs.end - part.inputs.first
        if channels <= 0 or part.outputs.end <= part.outputs.first:
            continue
        if g.taps == 1:
            part.sums, part.sums_stride = grad_of(g, &part, part.outputs.first), g.inputs
        else:
            part.sums, part.sums_stride = memory + g.band_bytes, g.taps * channels
        if g.taps > 1 or (g.fresh and not g.written):
            for map in range(part.outputs.end - part.outputs.first):
                memset(part.sums + map * part.sums_stride * g.itemsize, 0, g.taps * channels * g.itemsize)
        for number in range(g.blocks.total):
            part.written = g.written and number == 0
            box_of(&g.blocks, number, box)
            fill_band(g.kernels, g.itemsize, g.axis, &g.x, part.group * g.inputs + part.inputs.first, channels, box, memory, &band)
            rows = memory + g.band_bytes + g.sum_bytes
            if g.gathered:
                add_gathered(g, box, &band, &part, rows)
            elif g.by_panels:
                add_panels(g, box, &band, &part, rows)
            else:
                add_box(g, box, &band, &part)
        for map in range(part.outputs.end - part.outputs.first if g.taps > 1 else 0):
            if g.fresh:
                memset(grad_of(g, &part, part.outputs.first + map), 0, g.taps * channels * g.itemsize)
            g.kernels.add_turned(g.taps, channels, part.sums + map * part.sums_stride * g.itemsize, channels,
                                 grad_of(g, &part, part.outputs.first + map), g.taps)


cdef inline char *grad_of(const Gradient *g, const Part *part, ptrdiff_t map) noexcept nogil:
    """The gradient of the weights of one map of the part's group, from the part's first channel on."""
    return g.grad + ((part.group * g.outputs + map) * g.inputs + part.inputs.first) * g.taps * g.itemsize


cdef inline Range part_of(ptrdiff_t whole, ptrdiff_t part, ptrdiff_t parts, ptrdiff_t unit) noexcept nogil:
    """An even part in whole units."""
    cdef ptrdiff_t units = ceil_div(whole, unit)
    cdef Range range_
    range_.first = min(whole, units * part // parts * unit)
    range_.end = min(whole, units * (part + 1) // parts * unit)
    return range_


cdef bint lies_alike(const Axis *axis) noexcept nogil:
    """Whether each output sees the place of its own number."""
    cdef ptrdiff_t a
    for a in range(3):
        if axis[a].step != 1 or axis[a].taps[0].offset != 0 or axis[a].source != axis[a].count:
            return False
    return True


def add_weight_gradient(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray grad not None, Windows windows not None,
                        ptrdiff_t groups, bint channels_last, bint fresh=False):
    """grad += the gradient of the weights of a correlation with these windows, from dy, the gradient of its sums; = if `fresh`.

    All C-contiguous and of five axes; grad (groups * outputs, inputs, *kernel).
    """
    cdef Gradient g
    cdef Axis *axis = windows.axis
    cdef double work
    cdef int size
    g.itemsize = dy.itemsize
    g.kernels = kernels_for(g.itemsize)
    g.axis, g.groups, g.taps = axis, groups, taps_of(axis)
    g.outputs, g.inputs = grad.shape[0] // groups, grad.shape[1]
    describe_maps(dy, channels_last, &g.dy)
    describe_maps(x, channels_last, &g.x)
    g.grad, g.fresh = <char *> cnp.PyArray_DATA(grad), fresh
    if cnp.PyArray_SIZE(dy) == 0:
        if fresh:
            memset(g.grad, 0, cnp.PyArray_NBYTES(grad))
        return
    g.N, g.places = x.shape[0], axis[0].count * axis[1].count * axis[2].count
    work = product_time(cnp.PyArray_SIZE(dy), g.inputs, g.taps)
    if g.taps == 1 and not channels_last and g.inputs <= DOT_CHANNELS and g.places >= DOT_PLACES and lies_alike(axis):
        size = team_size(work, 1, groups * g.outputs)
        with nogil:
            run_team(share_of_dots, &g, size)
        return
    size = team_size(work, 1, groups * max(g.outputs, g.inputs // g.kernels.width))
    g.input_parts = g.output_parts = 1
    if groups < size:
        if g.inputs >= 2 * size * g.kernels.width:
            g.input_parts = size
        else:
            g.output_parts = size
    if g.taps > 1:  # whatever the team, each channel's sums are the same
        g.input_parts = max(g.input_parts, min(ceil_div(g.inputs, g.kernels.width),
                                               ceil_div(g.outputs * g.inputs * g.taps * g.itemsize, SUM_BYTES)))
        g.input_parts = ceil_div(g.input_parts, size // g.output_parts) * (size // g.output_parts)
    g.sum_bytes = 0 if g.taps == 1 else ceil_div(g.outputs, g.output_parts) * g.taps * g.itemsize
    g.sum_bytes = ceil_div(g.sum_bytes * ceil_div(ceil_div(g.inputs, g.kernels.width), g.input_parts) * g.kernels.width, 64) * 64
    cut(axis, x.shape[0], g.inputs, MOST_PIXELS if axis[0].kernel == 1 else MOST_OF_VOLUMES, BAND_BYTES // g.itemsize, 1, &g.blocks)
    # The last row of B may be read up to a panel past its end.
    g.band_bytes = ceil_div((largest_band(axis, &g.blocks) * g.inputs + FR_SLOTS * g.kernels.width) * g.itemsize, 64) * 64
    cdef ptrdiff_t run = g.inputs * (axis[2].kernel if axis[2].taps[0].pace == 1 else 1), width = g.kernels.width
    cdef ptrdiff_t runs = g.inputs * g.taps // run
    g.pixels = g.blocks.most[2] * g.blocks.most[3]
    g.gathered = (run < FR_SLOTS * width and g.input_parts == 1
                  and 5 * ceil_div(g.inputs * g.taps, width) <= 4 * runs * ceil_div(run, width))
    # Boxes of several whole planes: rows of the output gradient lie together in each map of the batch.
    g.by_panels = (not g.gathered and g.blocks.count[1] == 1 and g.blocks.count[2] == 1
                   and g.blocks.count[3] == 1)
    g.written = fresh and g.taps == 1 and g.by_panels and lies_alike(axis) and axis[0].count == 1
    if g.by_panels:
        g.pixels *= g.blocks.most[0] * g.blocks.most[1]
    g.rows_bytes = (g.pixels * row_of_gathered(&g, g.inputs * g.taps) + FR_SLOTS * width) * g.itemsize if g.gathered else 0
    if g.by_panels:
        g.rows_bytes = (g.pixels + 1) * FR_SLOTS * width * g.itemsize
    g.rows_bytes = ceil_div(g.rows_bytes, 64) * 64
    g.scratch_bytes = g.band_bytes + g.sum_bytes + g.rows_bytes
    g.scratch_bytes = ceil_div(g.scratch_bytes + (g.pixels + g.taps) * <ptrdiff_t> sizeof(ptrdiff_t), 4096) * 4096 + 64
    cdef Block scratch = new_block(size * g.scratch_bytes)
    g.scratch = scratch.data
    with nogil:
        run_team(share_of_gradient, &g, size)


cdef struct Sums:
    const fr_kernels *kernels
    int itemsize
    Maps dy
    ptrdiff_t N, places
    char *grad


cdef void share_of_sums(void *work, Team *team, int member) noexcept nogil:
    """Each map of the batch is summed alone, then added: short sums are more exact."""
    cdef Sums *s = <Sums *> work
    cdef ptrdiff_t map, n, first = first_of(s.dy.channels, member, team.size), end = first_of(s.dy.channels, member + 1, team.size)
    cdef fr_gemm add
    if s.dy.channel_stride != 1 or s.dy.channels == 1:
        for map in range(first, end):
            for n in range(s.N):
                s.kernels.add_sum(s.places, s.dy.data + (n * s.dy.batch_stride + map * s.places) * s.itemsize,
                                  s.grad + map * s.itemsize)
        return
    memset(&add, 0, sizeof(add))
    add.rows, add.columns, add.add = 1, end - first, 1
    add.c_panel_stride = add.init_panel_stride = FR_SLOTS * s.kernels.width
    add.c = s.grad + first * s.itemsize
    for n in range(s.N * s.places if end > first else 0):
        add.init = s.dy.data + (n * s.dy.channels + first) * s.itemsize
        gemm_columns(s.kernels, s.itemsize, &add)


def add_map_sums(cnp.ndarray dy not None, cnp.ndarray grad not None, bint channels_last):
    """grad (K,) += the sum of each map of dy, C-contiguous and of five axes."""
    cdef Sums s
    s.itemsize = dy.itemsize
    s.kernels = kernels_for(s.itemsize)
    describe_maps(dy, channels_last, &s.dy)
    s.N, s.grad = dy.shape[0], <char *> cnp.PyArray_DATA(grad)
    if cnp.PyArray_SIZE(dy) == 0:
        return
    s.places = cnp.PyArray_SIZE(dy) // (s.N * s.dy.channels)
    cdef int size = team_size(0.1 * cnp.PyArray_SIZE(dy), 1, s.dy.channels)
    with nogil:
        run_team(share_of_sums, &s, size)


cdef struct Elementwise:
    const fr_kernels *kernels
    int itemsize, activation
    ptrdiff_t n
    const char *h
    const char *dh
    char *da


cdef void share_of_elements(void *work, Team *team, int member) noexcept nogil:
    cdef Elementwise *e = <Elementwise *> work
    cdef ptrdiff_t first = first_of(e.n, member, team.size) * e.itemsize, end = first_of(e.n, member + 1, team.size) * e.itemsize
    e.kernels.activation_gradient((end - first) // e.itemsize, e.h + first, e.dh + first, e.da + first, e.activation)


def activation_gradient(cnp.ndarray h not None, cnp.ndarray dh not None, cnp.ndarray da not None, int activation):
    """da = dh * act'(a), where h = act(a); contiguous and alike. da may be dh or h."""
    cdef Elementwise e
    e.itemsize, e.activation, e.n = h.itemsize, activation, cnp.PyArray_SIZE(h)
    e.kernels = kernels_for(e.itemsize)
    e.h, e.dh = <const char *> cnp.PyArray_DATA(h), <const char *> cnp.PyArray_DATA(dh)
    e.da = <char *> cnp.PyArray_DATA(da)
    cdef int size = team_size(0.5 * e.n, 1, e.n)
    with nogil:
        run_team(share_of_elements, &e, size)
