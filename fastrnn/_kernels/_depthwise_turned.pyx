"""Convolution of each channel by itself over maps that are turned: as many as a vector has lanes have a lane each.

With the channels first, rows shorter than a vector leave no lanes empty then, and strides cost nothing: the kernel is that of
pixels with the channels last. With the channels last, large kernels gain from pixels that lie side by side, with zeros around:
in place they share few sets of the first-level cache.

Large maps are turned in bands of rows. What becomes of whole maps is written to memory in one stretch. Workspace of a thread:
X_BYTES, or what one row of outputs needs if that is more, and up to twice as much for the outputs.
"""

from libc.string cimport memcpy, memset

from fastrnn._kernels._depthwise cimport end_past, keep_part
from fastrnn._kernels._depthwise_rows cimport fits_rows, order_weight, see_rows
from fastrnn._kernels._depthwise_pixels cimport entries_of_places, fill_places, places_along, run_box
from fastrnn._kernels._dispatch cimport FR_NONE, fr_bare_conv, fr_pixel_conv, fr_turn
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._threads cimport first_of
from fastrnn._kernels._windows cimport ZEROS, Range, extent, inputs_of

cdef ptrdiff_t X_BYTES = 64 << 10    # of a band
cdef ptrdiff_t MOST_BYTES = 1 << 20  # of a band that cannot be smaller
cdef ptrdiff_t MANY_TAPS = 25        # of kernels that pay for copies of pixels
cdef ptrdiff_t FEW_PLACES = 400      # of maps without a stride that are turned


cdef bint can_be_cut(const Call *s) noexcept nogil:
    """Whether the outputs of a few rows read neighbouring rows alone."""
    return s.axis[0].source == 1 and s.axis[0].count == 1 and s.axis[1].border == ZEROS


cdef bint serves_turned(const Call *s) noexcept nogil:
    """Whether maps should be turned. Never depends on the batch: sums run in another order."""
    cdef ptrdiff_t W = s.lanes, strides = 1, a, reads = s.axis[2].source * W * s.itemsize
    if min(s.x.channels, s.y.channels) < W // 2:
        return False
    for a in range(3):
        strides *= s.axis[a].step * s.axis[a].spread
    reads *= extent(&s.axis[1], 1) if can_be_cut(s) else s.axis[0].source * s.axis[1].source
    if reads > MOST_BYTES:
        return False
    if s.channels_last:
        return s.taps >= MANY_TAPS * strides
    return strides > 1 or s.axis[0].source * s.axis[1].source * s.axis[2].source <= FEW_PLACES


cdef inline bint padded(const Call *s) noexcept nogil:
    return s.axis[2].border == ZEROS and not s.swept


cdef ptrdiff_t row_of_x(const Call *s) noexcept nogil:
    """Places of a turned row, with its border."""
    cdef Range seen = places_along(&s.axis[2])
    return max(s.axis[2].source, seen.end) - min(<ptrdiff_t> 0, seen.first) if padded(s) else s.axis[2].source


cdef ptrdiff_t rows_of_band(const Call *s) noexcept nogil:
    """Of x, that are turned at a time."""
    cdef ptrdiff_t source = s.axis[1].source
    return source if s.band == s.axis[1].count else min(source, extent(&s.axis[1], s.band))


cdef void prepare_turned(Call *s) noexcept nogil:
    """How many rows of outputs a band has, and the memory of a thread."""
    cdef ptrdiff_t W = s.lanes
    s.swept = (not s.channels_last and fits_rows(s)
               and max(s.axis[1].source, s.axis[1].count) * s.axis[2].source * W * s.itemsize <= X_BYTES)
    cdef ptrdiff_t row = row_of_x(s), bytes = s.axis[0].source * row * W * s.itemsize
    s.band = s.axis[1].count
    while can_be_cut(s) and s.band > 1 and rows_of_band(s) * bytes > X_BYTES:
        s.band = min(s.band - 1, max(<ptrdiff_t> 1, s.band * X_BYTES // (rows_of_band(s) * bytes)))
    s.map_bytes = ceil_div(rows_of_band(s) * bytes, 64) * 64
    s.apart_bytes = ceil_div(s.axis[0].count * s.band * s.axis[2].count * W * s.itemsize, 64) * 64
    s.joined_bytes = s.apart_bytes if s.band == s.axis[1].count and s.y_maps == 1 and not s.channels_last else 0
    s.turned_x[2] = s.turned_y[2] = W
    s.turned_x[1], s.turned_y[1] = row * W, s.axis[2].count * W
    s.turned_x[0], s.turned_y[0] = s.axis[1].source * s.turned_x[1], s.axis[1].count * s.turned_y[1]
    if s.channels_last:  # y needs no turn
        s.apart_bytes, s.tap_channels = 0, s.y.channels
        s.turned_y[0], s.turned_y[1], s.turned_y[2] = s.y.place_stride[0], s.y.place_stride[1], s.y.place_stride[2]


cdef ptrdiff_t places_of_band(const Call *s) noexcept nogil:
    return s.axis[0].source * rows_of_band(s) * s.axis[2].source


cdef void fill_turned(Call *s, ptrdiff_t *tables) noexcept nogil:
    cdef ptrdiff_t row, i
    fill_places(s.axis, s.turned_x, padded(s), tables, &s.places)
    s.to = tables + entries_of_places(s.axis)
    for row in range(s.axis[0].source * rows_of_band(s)):
        for i in range(s.axis[2].source):
            s.to[row * s.axis[2].source + i] = row * s.turned_x[1] + (s.places.low + i) * s.lanes


cdef struct Chunk:
    # Some channels of one sample, and a band of their maps.
    ptrdiff_t n, channel, lanes
    Range box[3]             # of outputs
    ptrdiff_t place, places  # of x
    char *x                  # turned
    char *y
    fr_pixel_conv g
    char *weight             # of swept maps, in the order of the input
    fr_bare_conv sweep


cdef void start_chunk(const Call *s, int member, Chunk *c) noexcept nogil:
    c.x = s.scratch + member * s.scratch_bytes
    c.y = c.x + s.map_bytes
    memset(c.x, 0, s.map_bytes + s.apart_bytes)  # lanes without a map are computed too
    c.weight = c.y + s.apart_bytes + s.joined_bytes
    c.sweep.columns, c.sweep.kernel, c.sweep.activation = s.axis[2].count, s.axis[2].kernel, s.activation
    c.sweep.channels = c.sweep.apart = c.sweep.tap_channels = s.lanes
    c.g.channels, c.g.activation, c.g.bias, c.g.gain, c.g.resume = s.lanes, s.activation, NULL, NULL, False
    c.g.far = False
    c.box[0].first, c.box[0].end, c.box[2].first, c.box[2].end = 0, s.axis[0].count, 0, s.axis[2].count
    c.box[1].end = 0


cdef bint next_band(const Call *s, Chunk *c) noexcept nogil:
    """The next rows of outputs; false, and none, after the last ones."""
    cdef Range rows
    if c.box[1].end == s.axis[1].count:
        c.box[1].end = 0
        return False
    c.box[1].first, c.box[1].end = c.box[1].end, min(s.axis[1].count, c.box[1].end + s.band)
    rows.first, rows.end = 0, s.axis[1].source
    if s.band < s.axis[1].count:
        rows = inputs_of(&s.axis[1], c.box[1])
        rows.first, rows.end = max(<ptrdiff_t> 0, rows.first), min(s.axis[1].source, rows.end)
        rows.first = min(rows.first, s.axis[1].source)
    c.place = rows.first * s.axis[2].source
    c.places = s.axis[0].source * max(<ptrdiff_t> 0, rows.end - rows.first) * s.axis[2].source
    c.g.x = c.x - rows.first * s.turned_x[1] * s.itemsize
    return True


cdef void copy_x(const Call *s, const Chunk *c) noexcept nogil:
    """Pixels with the channels last, of a chunk's channels."""
    cdef fr_turn turn
    cdef ptrdiff_t width = s.axis[2].source, row
    turn.rows, turn.columns, turn.activation, turn.gain = width, c.lanes, FR_NONE, NULL
    turn.src_stride, turn.dst_stride = s.x.place_stride[2], s.lanes
    for row in range(c.places // width):
        turn.src = s.x.data + (c.n * s.x.batch_stride + c.channel + (c.place + row * width) * s.x.place_stride[2]) * s.itemsize
        turn.dst = c.x + s.to[row * width] * s.itemsize
        s.kernels.keep(&turn)


cdef void turn_x(const Call *s, const Chunk *c, ptrdiff_t number) noexcept nogil:
    """The maps of x of this number among those that belong to a channel."""
    if s.channels_last:
        copy_x(s, c)
        return
    s.kernels.pack_taps(c.lanes, c.places, s.x.data + (c.n * s.x.batch_stride + (c.channel * s.x_maps + number) * s.x.channel_stride
                                                       + c.place) * s.itemsize, s.x_maps * s.x.channel_stride, c.x, s.to)


cdef fr_turn turn_of_y(const Call *s, const Chunk *c, ptrdiff_t number) noexcept nogil:
    """From turned maps to those of y of this number."""
    cdef fr_turn turn
    turn.rows = (c.box[0].end - c.box[0].first) * (c.box[1].end - c.box[1].first) * s.axis[2].count
    turn.columns, turn.activation, turn.gain = c.lanes, FR_NONE, NULL
    turn.src, turn.src_stride, turn.dst_stride = c.y, s.lanes, s.y_maps * s.y.channel_stride
    turn.dst = s.y.data + (c.n * s.y.batch_stride + (c.channel * s.y_maps + number) * s.y.channel_stride
                           + c.box[1].first * s.axis[2].count) * s.itemsize
    return turn


cdef void turn_y(const Call *s, const Chunk *c, ptrdiff_t number) noexcept nogil:
    cdef fr_turn turn = turn_of_y(s, c, number)
    cdef char *y = <char *> turn.dst
    if s.joined_bytes:  # stores to the lines of as many maps at a time wait for each other
        turn.dst = c.y + s.apart_bytes
    s.kernels.turn(&turn)
    if s.joined_bytes:
        memcpy(y, turn.dst, c.lanes * s.y.channel_stride * s.itemsize)


cdef inline char *of_lanes(char *vector, const Call *s, ptrdiff_t row, const Chunk *c) noexcept nogil:
    return NULL if vector == NULL else vector + (row * s.tap_channels + c.channel) * s.itemsize


cdef void sweep_map(const Call *s, Chunk *c, ptrdiff_t k, char *y) noexcept nogil:
    """One turned map of outputs."""
    order_weight(s, of_lanes(s.weight, s, k * s.taps, c), s.lanes * s.itemsize, s.tap_channels * s.itemsize, c.weight)
    see_rows(s, 0, s.axis[1].count, c.x, &c.sweep)
    c.sweep.weight, c.sweep.bias, c.sweep.gain, c.sweep.y = c.weight, c.g.bias, c.g.gain, y
    s.kernels.bare_conv_last(&c.sweep)


cdef void convolve_band(const Call *s, Chunk *c, ptrdiff_t j) noexcept nogil:
    """What the turned maps of number j give to those of y."""
    cdef ptrdiff_t k
    cdef char *y = c.y
    if s.channels_last:
        c.g.channels = c.lanes
        y = s.y.data + (c.n * s.y.batch_stride + c.box[1].first * s.y.place_stride[1] + c.channel) * s.itemsize
    c.g.tap_channels, c.g.resume = s.tap_channels, j > 0
    for k in range(s.y_maps):
        c.g.weight = of_lanes(s.weight, s, max(j, k) * s.taps, c)
        c.g.bias, c.g.gain = of_lanes(s.bias, s, k, c), of_lanes(s.gain, s, k, c)
        if s.swept:
            sweep_map(s, c, k, y)
        else:
            run_box(s.axis, s.itemsize, &s.places, c.box, &c.g, y, s.turned_y, s.kernels.pixel_conv)
        if j == s.x_maps - 1 and not s.channels_last:
            turn_y(s, c, k)


cdef void convolve_chunk(const Call *s, Chunk *c) noexcept nogil:
    cdef ptrdiff_t j
    while next_band(s, c):
        for j in range(s.x_maps):
            turn_x(s, c, j)
            convolve_band(s, c, j)


cdef void take_chunk(const Call *s, ptrdiff_t n, ptrdiff_t number, Chunk *c) noexcept nogil:
    cdef ptrdiff_t channels = s.x.channels // s.x_maps
    c.n, c.channel = n, number * s.lanes
    c.lanes = min(s.lanes, channels - c.channel)


cdef void share_of_turned(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t chunks = ceil_div(s.x.channels // s.x_maps, s.lanes), items = s.N * chunks, item, map
    cdef Chunk c
    start_chunk(s, member, &c)
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        take_chunk(s, item // chunks, item % chunks, &c)
        convolve_chunk(s, &c)
        if s.kept != NULL:
            for map in range(c.channel * s.x_maps, (c.channel + c.lanes) * s.x_maps):
                keep_part(s, s.x.channel_stride,
                          s.x.data + (c.n * s.x.batch_stride + map * s.x.channel_stride) * s.itemsize,
                          s.kept + (c.n * s.x.batch_stride + map * s.x.channel_stride) * s.itemsize)
    end_past(s)


cdef void add_map(const Call *s, Chunk *c, char *x, char *y, const ptrdiff_t *y_stride) noexcept nogil:
    """The sums of a chunk += those of turned maps of x and y."""
    if not s.swept:
        run_box(s.axis, s.itemsize, &s.places, c.box, &c.g, y, y_stride, s.kernels.pixel_conv_weight)
        return
    see_rows(s, 0, s.axis[1].count, x, &c.sweep)
    c.sweep.y, c.sweep.sums = y, c.g.sums
    s.kernels.bare_conv_last_weight(&c.sweep)


cdef void add_chunk(const Call *s, Chunk *c, char *sums) noexcept nogil:
    """sums [map of a channel][tap][lane] += the sums over the pixels of one sample of y times x."""
    cdef ptrdiff_t k
    cdef fr_turn turn
    c.g.tap_channels = s.lanes
    while next_band(s, c):
        turn_x(s, c, 0)
        for k in range(s.y_maps):
            turn = turn_of_y(s, c, k)
            turn.rows, turn.columns, turn.src_stride, turn.dst_stride = turn.columns, turn.rows, turn.dst_stride, turn.src_stride
            turn.src, turn.dst = turn.dst, c.y
            s.kernels.turn(&turn)
            c.g.sums = sums + k * s.taps * s.lanes * s.itemsize
            add_map(s, c, c.x, c.y, s.turned_y)


cdef void add_and_convolve(const Both *both, Chunk *weights, Chunk *maps, char *sums) noexcept nogil:
    """Both gradients of whole maps, one to a channel: dy is turned once."""
    cdef const Call *s = &both.weights
    cdef ptrdiff_t before = both.maps.places.low * s.lanes * s.itemsize
    next_band(s, weights)
    next_band(&both.maps, maps)
    turn_x(&both.maps, maps, 0)
    turn_x(s, weights, 0)
    weights.g.sums, weights.g.tap_channels = sums, s.lanes
    add_map(s, weights, weights.x, maps.x + before, both.maps.turned_x)
    convolve_band(&both.maps, maps, 0)
    weights.box[1].end = maps.box[1].end = 0


cdef void add_bias(const Call *s, const Chunk *c) noexcept nogil:
    cdef ptrdiff_t map
    for map in range(c.channel * s.y_maps, (c.channel + c.lanes) * s.y_maps):
        s.kernels.add_sum(s.y.channel_stride, s.y.data + (c.n * s.y.batch_stride + map * s.y.channel_stride) * s.itemsize,
                          s.bias_grad + map * s.itemsize)


cdef void share_of_turned_gradients(void *work, Team *team, int member) noexcept nogil:
    """Members share channels; what is read of dy for the weights is still in the cache for dx."""
    cdef Both *both = <Both *> work
    cdef Call *s = &both.weights
    cdef ptrdiff_t W = s.lanes, chunks = ceil_div(s.x.channels, W), chunk, n, k, bytes = s.taps * W * s.itemsize
    cdef bint whole = s.band == s.axis[1].count and both.maps.band == both.maps.axis[1].count and s.y_maps == 1
    cdef Chunk weights, maps
    cdef char *sums
    start_chunk(s, member, &weights)
    sums = weights.weight + s.taps * W * s.itemsize
    if both.with_maps:
        start_chunk(&both.maps, member, &maps)
    for chunk in range(first_of(chunks, member, team.size), first_of(chunks, member + 1, team.size)):
        memset(sums, 0, s.y_maps * bytes)
        for n in range(s.N):
            take_chunk(s, n, chunk, &weights)
            if both.with_maps:
                take_chunk(&both.maps, n, chunk, &maps)
            if both.with_maps and whole:
                add_and_convolve(both, &weights, &maps, sums)
            else:
                add_chunk(s, &weights, sums)
                if both.with_maps:
                    convolve_chunk(&both.maps, &maps)
            if s.bias_grad != NULL:
                add_bias(s, &weights)
        for k in range(s.y_maps):
            s.kernels.add_turned(s.taps, weights.lanes, sums + k * bytes, W,
                                 s.grad + (weights.channel * s.y_maps + k) * s.taps * s.itemsize, s.y_maps * s.taps)
