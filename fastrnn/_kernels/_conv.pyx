"""Convolution by products over bands: the forward pass, and with other windows the gradient of the input and the transposed kind.

For each box of outputs the input that it reads is copied to a band, channels last, which stays in the second-level cache. Then
each panel of maps is one product: a row of A is an output pixel, its k run over the taps of the kernel and the channels, and lie
together in the band for each row of the kernel. The tiles of C are turned to where the output lies on their way out.

Workspace of a thread: a band of at most twice BAND_BYTES (or what a single output reads, if that is more), sums of one panel for
MOST_PIXELS pixels (volumes: MOST_OF_VOLUMES), and tables of offsets, 16 bytes a pixel and 8 a tap. Nothing grows with the batch or
with the maps.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Band, borrow_band, fill_band
from fastrnn._kernels._conv_pack cimport Places, Weights, entries_of, pack_all, pack_panel, vectors_of
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_boxes, fr_conv, fr_kernels, fr_turn, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block, zeroed_block
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport (Axis, Blocks, Range, Taps, Windows, box_of, cut, inputs_of, largest_band, outputs_in_phase,
                                        phase_of, phases_of, stays_inside, taps_inside, taps_of)

cnp.import_array()

ACTIVATIONS = (None, "relu", "tanh", "sigmoid")  # in the order of FR_NONE, FR_RELU, FR_TANH, FR_SIGMOID

# Twice as much where weights are large, which every box reads; half for small ones of one tap, whose boxes read no place twice.
cdef ptrdiff_t BAND_BYTES = 512 << 10
cdef ptrdiff_t LARGE_WEIGHTS = 1 << 20
cdef ptrdiff_t MOST_PIXELS = 512
cdef ptrdiff_t MOST_OF_VOLUMES = 2048  # boxes of several planes read those between them once
# Bytes of a panel that are multiplied with all pixels of a box before the next: it stays in the second-level cache that long.
cdef ptrdiff_t PIECE_BYTES = 512 << 10
cdef ptrdiff_t FAR_BYTES = 1 << 20  # larger inputs are not in the second-level cache when they are read
cdef ptrdiff_t FETCHED = 1024       # bytes of the next box that a tile fetches at most: sixteen lines are on their way at a time
cdef ptrdiff_t LEAST_TO_FETCH = 96  # products of a sum while which the places of its output are fetched


cdef void describe_maps(cnp.ndarray array, bint channels_last, Maps *maps):
    """Fill in an array of five axes, whose strides may be any."""
    cdef int first = 1 if channels_last else 2, channel = 4 if channels_last else 1, a
    maps.data = <char *> cnp.PyArray_DATA(array)
    maps.channels = array.shape[channel]
    maps.batch_stride, maps.channel_stride = array.strides[0] // array.itemsize, array.strides[channel] // array.itemsize
    for a in range(3):
        maps.place_stride[a] = array.strides[first + a] // array.itemsize


cdef struct Correlation:
    # One call. k of a phase counts its taps, and for each the channels of a group.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t groups, inputs, outputs   # channels and maps of one group
    ptrdiff_t columns                   # of packed weights in a group: whole vectors
    char *packed                        # NULL: each panel is used once, and packed then
    const Weights *weights
    char *bias
    char *gain
    int activation
    bint borrowed                       # the input serves as the band
    bint far                            # boxes are fetched ahead
    Blocks blocks
    ptrdiff_t parts                     # of the panels of a group, if there are fewer boxes than threads
    char *scratch
    ptrdiff_t scratch_bytes, band_bytes, sums_bytes, panel_bytes, pixels


cdef struct Tables:
    # Of one box: its pixels and the kernel's segments, phase by phase.
    ptrdiff_t *a_row       # where its input starts in the band
    ptrdiff_t *c_row       # its number in the box
    ptrdiff_t *y_row       # where its first map lies in the output
    ptrdiff_t *segment
    ptrdiff_t *pixel       # [phases + 1] first pixel of each phase
    ptrdiff_t *segments    # [phases + 1]
    ptrdiff_t *length      # [phases] of each segment
    fr_boxes *ahead        # what the next box reads, NULL: nothing


cdef void fill_tables(const Correlation *s, const Range *box, const Band *band, Tables *t) noexcept nogil:
    """Where each pixel of the box starts in the band and in the sums, and where the segments of the kernel lie from there."""
    cdef const Taps *taps[3]
    cdef ptrdiff_t phase[3]
    cdef ptrdiff_t p, pixel = 0, segment = 0
    for p in range(phases_of(s.axis)):
        phase_of(s.axis, p, taps, phase)
        t.pixel[p], t.segments[p] = pixel, segment
        segment = add_segments(s, band, taps, &t.length[p], t.segment, segment)
        pixel = add_pixels(s, box, band, taps, phase, t, pixel)
    p = phases_of(s.axis)
    t.pixel[p], t.segments[p] = pixel, segment


cdef ptrdiff_t add_segments(const Correlation *s, const Band *band, const Taps **taps, ptrdiff_t *length, ptrdiff_t *segment,
                            ptrdiff_t count) noexcept nogil:
    """Taps that lie side by side in the band make one segment."""
    cdef ptrdiff_t d, h, w, across = taps[2].count
    length[0] = s.inputs
    if taps[2].pace * band.place_stride[2] == s.inputs:
        length[0], across = s.inputs * taps[2].count, min(taps[2].count, <ptrdiff_t> 1)
    for d in range(taps[0].count):
        for h in range(taps[1].count):
            for w in range(across):
                segment[count] = (d * taps[0].pace * band.place_stride[0] + h * taps[1].pace * band.place_stride[1]
                                  + w * taps[2].pace * band.place_stride[2])
                count += 1
    return count


cdef ptrdiff_t add_pixels(const Correlation *s, const Range *box, const Band *band, const Taps **taps, const ptrdiff_t *phase,
                          Tables *t, ptrdiff_t count) noexcept nogil:
    cdef Range q[3]
    cdef ptrdiff_t origin[3]
    cdef ptrdiff_t n, d, h, w, a, row, at, place
    cdef ptrdiff_t height = box[2].end - box[2].first, width = box[3].end - box[3].first
    cdef ptrdiff_t step = s.axis[2].step * band.place_stride[2], spread = s.axis[2].spread
    for a in range(3):
        q[a] = outputs_in_phase(&s.axis[a], box[a + 1], phase[a])
        origin[a] = taps[a].offset - band.first[a]
    for n in range(box[0].end - box[0].first):
        for d in range(q[0].first, q[0].end):
            for h in range(q[1].first, q[1].end):
                row = (n * band.batch_stride + (d * s.axis[0].step + origin[0]) * band.place_stride[0]
                       + (h * s.axis[1].step + origin[1]) * band.place_stride[1]
                       + (q[2].first * s.axis[2].step + origin[2]) * band.place_stride[2])
                at = (((n * (box[1].end - box[1].first) + d * s.axis[0].spread + phase[0] - box[1].first) * height
                       + h * s.axis[1].spread + phase[1] - box[2].first) * width
                      + q[2].first * s.axis[2].spread + phase[2] - box[3].first)
                place = ((box[0].first + n) * s.y.batch_stride + (d * s.axis[0].spread + phase[0]) * s.y.place_stride[0]
                         + (h * s.axis[1].spread + phase[1]) * s.y.place_stride[1]
                         + (q[2].first * spread + phase[2]) * s.y.place_stride[2])
                for w in range(q[2].end - q[2].first):
                    t.a_row[count], t.c_row[count] = row + w * step, at + w * spread
                    t.y_row[count] = place + w * spread * s.y.place_stride[2]
                    count += 1
    return count


cdef fr_boxes places_ahead(const Correlation *s, ptrdiff_t item) noexcept nogil:
    """What this box and group read, channels first, in pieces for the tiles of those before."""
    cdef fr_boxes boxes
    cdef Range box[4]
    cdef Range rows, planes
    cdef ptrdiff_t rows_of_tile = s.kernels.tile_rows, most, pieces
    memset(&boxes, 0, sizeof(boxes))
    box_of(&s.blocks, item // s.parts // s.groups, box)
    planes, rows = inputs_of(&s.axis[0], box[1]), inputs_of(&s.axis[1], box[2])
    rows.first, rows.end = max(rows.first, <ptrdiff_t> 0), min(rows.end, s.axis[1].source)
    planes.first, planes.end = max(planes.first, <ptrdiff_t> 0), min(planes.end, s.axis[0].source)
    boxes.boxes, boxes.box_stride = box[0].end - box[0].first, s.x.batch_stride * s.itemsize
    boxes.runs, boxes.run_stride = s.inputs, s.x.channel_stride * s.itemsize
    boxes.bytes = (planes.end - planes.first - 1) * s.x.place_stride[0] + (rows.end - rows.first) * s.x.place_stride[1]
    boxes.bytes *= s.itemsize
    boxes.from_ = s.x.data + (box[0].first * s.x.batch_stride + item // s.parts % s.groups * s.inputs * s.x.channel_stride
                              + planes.first * s.x.place_stride[0] + rows.first * s.x.place_stride[1]) * s.itemsize
    if boxes.bytes <= 0:
        boxes.boxes = 0
        return boxes
    if boxes.bytes == boxes.run_stride:
        boxes.runs, boxes.bytes = 1, boxes.runs * boxes.bytes
    pieces = ceil_div(s.pixels, rows_of_tile) * ceil_div(s.columns, FR_SLOTS * s.kernels.width)
    most = boxes.boxes * boxes.runs * boxes.bytes // pieces + 1
    boxes.most = min(<ptrdiff_t> FETCHED, ceil_div(most, 64) * 64)
    return boxes


cdef void multiply(const Correlation *s, const Range *box, const Tables *t, const Band *band, ptrdiff_t group, ptrdiff_t panel,
                   const char *packed, char *sums) noexcept nogil:
    """The sums of one panel of maps for all pixels of the box; planes of a volume in the border are left out.

    The panel is one of those of its group in `packed`, or all that is there.
    """
    cdef fr_conv product
    cdef const Taps *taps[3]
    cdef ptrdiff_t phase[3]
    cdef Range planes, inside, next_inside
    cdef ptrdiff_t wide = FR_SLOTS * s.kernels.width, p, k = 0, first, segments, length, rows, plane, end, count
    cdef int vectors = vectors_of(s.weights, panel)
    cdef ptrdiff_t columns = s.columns if s.packed else vectors * s.kernels.width, before = panel * wide if s.packed else 0
    cdef const char *b
    product.bias, product.ahead = NULL, t.ahead
    if s.bias != NULL:
        product.bias = s.bias + (group * s.columns + panel * wide) * s.itemsize
    product.maps, product.vectors, product.y_stride = min(wide, s.outputs - panel * wide), vectors, s.y.channel_stride
    for p in range(phases_of(s.axis)):
        phase_of(s.axis, p, taps, phase)
        first, length = t.segments[p], t.length[p]
        segments = t.segments[p + 1] - first
        b = packed + (k * columns + before * segments * length) * s.itemsize
        k += segments * length
        planes = outputs_in_phase(&s.axis[0], box[1], phase[0])
        count = (planes.end - planes.first) * (box[0].end - box[0].first)
        if t.pixel[p + 1] == t.pixel[p]:
            continue
        rows = (t.pixel[p + 1] - t.pixel[p]) // count  # of one plane
        segments = segments // taps[0].count if taps[0].count else 0
        plane = 0
        while plane < count:
            inside = taps_inside(&s.axis[0], taps[0], planes.first + plane % (planes.end - planes.first))
            end = plane + 1
            while end < count:
                next_inside = taps_inside(&s.axis[0], taps[0], planes.first + end % (planes.end - planes.first))
                if next_inside.first != inside.first or next_inside.end != inside.end:
                    break
                end += 1
            product.rows = (end - plane) * rows
            product.a_row = t.a_row + t.pixel[p] + plane * rows
            product.c_row = t.c_row + t.pixel[p] + plane * rows
            product.y_row = t.y_row + t.pixel[p] + plane * rows
            product.b = b + inside.first * segments * length * vectors * s.kernels.width * s.itemsize
            product.c = sums
            multiply_pieces(s, band, group, panel, t.segment + first + inside.first * segments,
                            (inside.end - inside.first) * segments, length, &product)
            plane = end


cdef void multiply_pieces(const Correlation *s, const Band *band, ptrdiff_t group, ptrdiff_t panel, const ptrdiff_t *segment,
                          ptrdiff_t segments, ptrdiff_t length, fr_conv *product) noexcept nogil:
    """The sums of some rows, in pieces of k whose weights stay in cache."""
    cdef ptrdiff_t columns = product.vectors * s.kernels.width, wide = FR_SLOTS * s.kernels.width, done = 0, part
    cdef ptrdiff_t most = max(<ptrdiff_t> 1, PIECE_BYTES // (columns * s.itemsize)), parts = ceil_div(length, most)
    product.resume, product.segments, product.y = 0, 0, NULL
    if segments == 0:
        s.kernels.conv(product)
    while done < segments:
        product.segments = min(max(<ptrdiff_t> 1, most // length), segments - done)
        product.segment = segment + done
        for part in range(parts):
            product.a = band.data + first_of(length, <int> part, <int> parts) * s.itemsize
            product.length = first_of(length, <int> part + 1, <int> parts) - first_of(length, <int> part, <int> parts)
            if product.segments * product.length >= LEAST_TO_FETCH:
                product.y = s.y.data + (group * s.outputs + panel * wide) * s.y.channel_stride * s.itemsize
            s.kernels.conv(product)
            product.b = <const char *> product.b + product.segments * product.length * columns * s.itemsize
            product.resume = 1
        done += product.segments


cdef void finish(const Correlation *s, const Range *box, ptrdiff_t map, ptrdiff_t maps, ptrdiff_t columns,
                 const char *sums) noexcept nogil:
    """Bring the sums of `maps` maps from number `map` on to where the output lies, stretch by stretch."""
    cdef fr_turn turn
    cdef ptrdiff_t width = box[3].end - box[3].first, height = box[2].end - box[2].first, depth = box[1].end - box[1].first
    cdef ptrdiff_t n, d, h, rows = height, run = width
    turn.columns, turn.src_stride, turn.activation = maps, columns, s.activation
    turn.gain = NULL if s.gain == NULL else s.gain + map * s.itemsize
    if width == s.axis[2].count:
        rows, run = 1, height * width
        if height == s.axis[1].count:
            depth, run = 1, run * depth
    turn.rows = run
    for n in range(box[0].first, box[0].end):
        for d in range(depth):
            for h in range(rows):
                turn.src = sums
                turn.dst = s.y.data + (n * s.y.batch_stride + map * s.y.channel_stride + (box[1].first + d) * s.y.place_stride[0]
                                       + (box[2].first + h) * s.y.place_stride[1]
                                       + box[3].first * s.y.place_stride[2]) * s.itemsize
                if s.y.channel_stride == 1:
                    turn.dst_stride = s.y.place_stride[2]
                    s.kernels.keep(&turn)
                else:
                    turn.dst_stride = s.y.channel_stride
                    s.kernels.turn(&turn)
                sums += run * columns * s.itemsize


cdef void share_of_correlation(void *work, Team *team, int member) noexcept nogil:
    """Boxes, groups, and parts of a group's panels, in this order; the band serves all parts that follow each other."""
    cdef Correlation *s = <Correlation *> work
    cdef ptrdiff_t items = s.blocks.total * s.groups * s.parts, item, filled = -1, tabled = -1, last
    cdef ptrdiff_t panel, end, panels, wide, group, phases
    cdef Range box[4]
    cdef Band band
    cdef Tables t
    cdef char *memory = s.scratch + member * s.scratch_bytes
    cdef char *sums = memory + s.band_bytes + s.panel_bytes
    cdef const char *packed
    cdef Places places
    cdef fr_boxes ahead
    phases = phases_of(s.axis)
    t.a_row = <ptrdiff_t *> (sums + s.sums_bytes)
    t.c_row = t.a_row + s.pixels
    t.y_row = t.c_row + s.pixels
    t.pixel = t.y_row + s.pixels
    t.segments = t.pixel + phases + 1
    t.length = t.segments + phases + 1
    t.segment = t.length + phases
    places.row, places.place = 0, t.segment + taps_of(s.axis)
    wide = FR_SLOTS * s.kernels.width
    panels = ceil_div(s.columns, wide)
    last = first_of(items, member + 1, team.size)
    for item in range(first_of(items, member, team.size), last):
        group, t.ahead = item // s.parts % s.groups, NULL
        if s.far and item + 1 < last and (item + 1) % s.parts == 0:
            ahead, t.ahead = places_ahead(s, item + 1), &ahead
        if item // s.parts != filled:
            filled = item // s.parts
            box_of(&s.blocks, filled // s.groups, box)
            if s.borrowed:
                borrow_band(s.itemsize, &s.x, group * s.inputs, box, &band)
            else:
                fill_band(s.kernels, s.itemsize, s.axis, &s.x, group * s.inputs, s.inputs, box, memory, &band)
            if filled // s.groups != tabled:  # all groups of a box lie alike
                tabled = filled // s.groups
                fill_tables(s, box, &band, &t)
        panel = first_of(panels, <int> (item % s.parts), <int> s.parts)
        end = first_of(panels, <int> (item % s.parts) + 1, <int> s.parts)
        while panel < end:
            if s.packed:
                packed = s.packed + group * taps_of(s.axis) * s.inputs * s.columns * s.itemsize
            else:
                packed = sums - s.panel_bytes
                pack_panel(s.weights, group, panel, &places, sums - s.panel_bytes)
            multiply(s, box, &t, &band, group, panel, packed, sums)
            finish(s, box, group * s.outputs + panel * wide, min(wide, s.outputs - panel * wide),
                   vectors_of(s.weights, panel) * s.kernels.width, sums)
            panel += 1


@cython.final
cdef class Kernels:
    """Packed weights of a correlation or a transposed one: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (groups * outputs, inputs, ...) or, if `turned`, (groups * inputs, outputs, ...), C-contiguous, of five axes
    bias, gain : of all maps, or None
    later : whether `weight` is kept, to be packed when it is known for how much: weights of a training step serve one call
    """

    cdef Weights weights
    cdef cnp.ndarray array, gain
    cdef Windows windows
    cdef readonly object dtype
    cdef Block packed, bias
    cdef bint used

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray gain, ptrdiff_t groups, bint turned,
                 Windows windows not None, bint later=False):
        cdef Weights *w = &self.weights
        self.dtype, self.array, self.gain, self.windows = weight.dtype, weight, gain, windows
        w.itemsize, w.groups, w.turned, w.axis = weight.itemsize, groups, turned, windows.axis
        w.kernels, w.data = kernels_for(w.itemsize), <const char *> cnp.PyArray_DATA(weight)
        w.outputs = weight.shape[1] if turned else weight.shape[0] // groups
        w.inputs = weight.shape[0] // groups if turned else weight.shape[1]
        w.columns = ceil_div(w.outputs, w.kernels.width) * w.kernels.width
        self.packed = None if later else pack_all(w)
        if bias is not None:
            self.pack_bias(<const char *> cnp.PyArray_DATA(bias))

    cdef void pack_bias(self, const char *bias):
        cdef const Weights *w = &self.weights
        cdef ptrdiff_t group
        cdef fr_turn turn
        self.bias = zeroed_block(w.groups * w.columns * w.itemsize)
        memset(&turn, 0, sizeof(turn))
        turn.rows, turn.columns = 1, w.outputs
        for group in range(w.groups):
            turn.src = bias + group * w.outputs * w.itemsize
            turn.dst = self.bias.data + group * w.columns * w.itemsize
            w.kernels.keep(&turn)

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled):
        """y = gain * act(bias + the sums), both of five axes; the gain only if `scaled`.

        y is C-contiguous, and so is x, or, with the channels first and nothing outside of it, every few places of what is. The
        windows are those that the weights were packed with, over maps of other sizes.
        """
        cdef Correlation s
        cdef const Weights *w = &self.weights
        cdef Axis *axis = windows.axis
        cdef ptrdiff_t N = x.shape[0], outputs = N * axis[0].count * axis[1].count * axis[2].count
        if outputs == 0:
            return
        s.kernels, s.itemsize, s.axis, s.weights = w.kernels, w.itemsize, axis, w
        describe_maps(x, channels_last, &s.x)
        describe_maps(y, channels_last, &s.y)
        s.groups, s.inputs, s.outputs, s.columns = w.groups, w.inputs, w.outputs, w.columns
        s.bias = NULL if self.bias is None else self.bias.data
        s.gain = <char *> cnp.PyArray_DATA(self.gain) if scaled and self.gain is not None else NULL
        s.activation = activation
        s.borrowed = channels_last and stays_inside(&axis[0]) and stays_inside(&axis[1]) and stays_inside(&axis[2])
        s.far = not channels_last and N * s.x.batch_stride * s.itemsize > FAR_BYTES
        cdef Block packed = self.packed  # which lives as long as the call
        s.packed = NULL if packed is None else packed.data
        cdef int size = cut_up(&s, N, outputs, packed is None and not self.used)
        if packed is None and not s.panel_bytes:
            packed = self.packed = pack_all(w)
            s.packed = packed.data
        self.used = True
        cdef Block scratch = new_block(size * s.scratch_bytes)
        s.scratch = scratch.data
        with nogil:
            run_team(share_of_correlation, &s, size)


cdef int cut_up(Correlation *s, ptrdiff_t N, ptrdiff_t outputs, bint once):
    """Cut the work into boxes for a team of the size that is returned.

    With a single box each panel is used once, and has room where it is packed if the weights serve `once`.
    """
    cdef ptrdiff_t panels = ceil_div(s.columns, FR_SLOTS * s.kernels.width), phases = phases_of(s.axis)
    cdef ptrdiff_t k = taps_of(s.axis) * s.inputs, row = FR_SLOTS * s.kernels.width * s.itemsize, tables
    cdef ptrdiff_t pixels = MOST_PIXELS if s.axis[0].kernel == 1 else MOST_OF_VOLUMES, values = BAND_BYTES // s.itemsize
    if k * s.columns * s.itemsize > LARGE_WEIGHTS:
        values *= 2
    elif taps_of(s.axis) == 1 and k * s.columns <= values:
        values //= 2
    cdef int size = team_size(product_time(outputs * s.groups, <double> k / phases, s.outputs), 1, outputs * s.groups * panels)
    s.panel_bytes = 0
    cut(s.axis, N, s.inputs, pixels, 2 * BAND_BYTES // s.itemsize, 1, &s.blocks)
    if once and s.blocks.total == 1 and s.groups * panels >= size:
        s.panel_bytes = ceil_div(min(row, s.columns * s.itemsize) * k, 64) * 64
    else:
        cut(s.axis, N, s.inputs, pixels, values, size, &s.blocks)
    s.parts = 1 if s.blocks.total * s.groups >= size else min(panels, <ptrdiff_t> size)
    s.pixels = s.blocks.most[0] * s.blocks.most[1] * s.blocks.most[2] * s.blocks.most[3]
    s.band_bytes = 64 if s.borrowed else ceil_div(largest_band(s.axis, &s.blocks) * s.inputs * s.itemsize, 64) * 64
    s.sums_bytes = s.pixels * row
    tables = 3 * s.pixels + 3 * phases + 2 + taps_of(s.axis) + (entries_of(s.weights) if s.panel_bytes else 0)
    s.scratch_bytes = s.band_bytes + s.panel_bytes + s.sums_bytes + tables * <ptrdiff_t> sizeof(ptrdiff_t)
    s.scratch_bytes = ceil_div(s.scratch_bytes, 4096) * 4096 + 64
    return size
