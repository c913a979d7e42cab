"""Convolution of each channel by itself over maps where they lie: 3x3, 5x5 or 7x7 taps without a stride, zeros around, and rows of
outputs as long as those of the input; with the channels first also a stride of two, where rows are half as long, and its transpose.

No copy is made, and reading goes on while sums are computed. Workspace of a thread: the weights of a map, or of all if the channels
lie last; sums for each tap; and BAND_BYTES, or a row, of outputs that go past the caches.
"""

from libc.string cimport memcpy, memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._depthwise cimport end_past, keep_part
from fastrnn._kernels._dispatch cimport fr_bare_conv
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport first_of
from fastrnn._kernels._windows cimport ZEROS, Axis, Taps

cdef ptrdiff_t BAND_BYTES = 24 << 10  # of a map that are gone over strip by strip: they stay in the first-level cache
cdef ptrdiff_t LAST_BYTES = 128 << 10  # of a band with the channels last, where the second level has it still
cdef ptrdiff_t SUMS_BYTES = 64 << 10  # of the channels whose maps are read one after another


cdef bint fits_rows(const Call *s) noexcept nogil:
    """Whether the taps are of the kind that is meant here, without a stride."""
    return fits(s, 1, 1)


cdef bint fits_pairs(const Call *s) noexcept nogil:
    """The same with a stride of two, or the transpose of it."""
    return not s.channels_last and (fits(s, 2, 1) or fits(s, 1, 2))


cdef bint fits(const Call *s, ptrdiff_t step, ptrdiff_t spread) noexcept nogil:
    cdef ptrdiff_t a, kernel = s.axis[2].kernel, longer = max(s.axis[2].source, s.axis[2].count)
    cdef const Taps *taps
    if s.x_maps > 1 or s.axis[0].source != 1 or s.axis[0].count != 1 or s.axis[0].kernel != 1:
        return False
    if kernel != s.axis[1].kernel or not (kernel == 3 or kernel == 5 or kernel == 7):
        return False
    if min(s.axis[2].source, s.axis[2].count) != ceil_div(longer, step * spread):
        return False
    for a in range(1, 3):
        taps = s.axis[a].taps
        if s.axis[a].step != step or s.axis[a].spread != spread or taps.pace != 1 or s.axis[a].border != ZEROS:
            return False
        if spread > 1 and taps.count == kernel:  # a dilation that is a multiple of the stride
            return False
        if not 0 <= zeros_before(&s.axis[a]) < kernel:
            return False
    return zeros_before(&s.axis[2]) == kernel // 2


cdef bint in_reverse(const Axis *axis) noexcept nogil:
    """Whether the taps of a kernel meet places in descending order, or, if it is transposed, in ascending order."""
    if axis.spread == 1:
        return axis.taps[0].stride < 0
    return axis.taps[0].stride > 0 if axis.taps[0].count > 1 else axis.taps[1].stride > 0


cdef ptrdiff_t zeros_before(const Axis *axis) noexcept nogil:
    """The padding in front of the map that is convolved, or of the one that a transposed convolution computes."""
    cdef ptrdiff_t first = axis.taps[0].first
    if axis.spread == 1:
        return -axis.taps[0].offset
    return axis.spread * axis.taps[0].offset + (axis.kernel - 1 - first if in_reverse(axis) else first)


cdef ptrdiff_t rows_of_band(const Call *s) noexcept nogil:
    if s.channels_last:  # pairs of rows share what they load
        return max(<ptrdiff_t> 1, LAST_BYTES // (2 * s.y.place_stride[1] * s.itemsize)) * 2
    return max(<ptrdiff_t> 1, BAND_BYTES // (max(s.axis[2].source, s.axis[2].count) * s.itemsize))


cdef ptrdiff_t bytes_of_band(const Call *s) noexcept nogil:
    """Of outputs on their way past the caches."""
    return min(rows_of_band(s), s.axis[1].count) * s.y.place_stride[1] * s.itemsize


cdef inline ptrdiff_t bytes_of_weights(const Call *s) noexcept nogil:
    return ceil_div(s.taps * (s.y.channels if s.channels_last else 1) * s.itemsize, 64) * 64


cdef inline ptrdiff_t bytes_of_sums(const Call *s) noexcept nogil:
    """Of a channel."""
    return s.y_maps * s.taps * (1 if s.channels_last else s.kernels.width) * s.itemsize


cdef inline ptrdiff_t channels_at_once(const Call *s) noexcept nogil:
    return s.x.channels if s.channels_last else min(s.x.channels, max(<ptrdiff_t> 1, SUMS_BYTES // bytes_of_sums(s)))


cdef Block scratch_of_rows(Call *s, int size, bint gradient):
    """Workspace of a team."""
    cdef ptrdiff_t bytes = bytes_of_weights(s) + (channels_at_once(s) * bytes_of_sums(s) if gradient else 0)
    bytes += bytes_of_band(s) if s.past else 0
    s.scratch_bytes = ceil_div(bytes, 4096) * 4096 + 64
    cdef Block scratch = new_block(size * s.scratch_bytes)
    s.scratch = scratch.data
    return scratch


cdef inline char *map_at(const Maps *maps, ptrdiff_t n, ptrdiff_t channel, int itemsize) noexcept nogil:
    return maps.data + (n * maps.batch_stride + channel * maps.channel_stride) * itemsize


cdef struct Rows:
    # What one member of a team works with.
    char *weight  # of a map, in the order of the input
    char *sums    # [tap][lane]
    char *band    # of outputs on their way past the caches
    fr_bare_conv g


cdef void start_rows(const Call *s, int member, bint gradient, Rows *r) noexcept nogil:
    r.weight = s.scratch + member * s.scratch_bytes
    r.sums = r.weight + bytes_of_weights(s)
    r.band = r.sums + (channels_at_once(s) * bytes_of_sums(s) if gradient else 0)
    r.g.columns, r.g.y_columns, r.g.step = s.axis[2].source, s.axis[2].count, s.axis[2].step
    r.g.kernel, r.g.activation = s.axis[2].kernel, s.activation
    r.g.x_next, r.g.y_next = s.x.channel_stride, s.y.channel_stride
    r.g.channels = r.g.apart = r.g.tap_channels = s.y.channels


cdef void order_weight(const Call *s, const char *weight, ptrdiff_t bytes, ptrdiff_t apart, char *to) noexcept nogil:
    """Taps of some bytes each, which lie `apart` bytes from each other, in the order of the input."""
    cdef ptrdiff_t kernel = s.axis[2].kernel, h, w, number
    cdef bint down = not in_reverse(&s.axis[1]), along = not in_reverse(&s.axis[2])
    for h in range(kernel):
        for w in range(kernel):
            number = (h if down else kernel - 1 - h) * kernel + (w if along else kernel - 1 - w)
            if bytes == 4:
                (<float *> to)[0] = (<const float *> weight)[number]
            else:
                memcpy(to, weight + number * apart, bytes)
            to += bytes


cdef void take_weight(const Call *s, ptrdiff_t k, Rows *r) noexcept nogil:
    """The weights, bias and gain of map k; of all maps if the channels lie last."""
    cdef const char *weight = s.weight + k * s.taps * s.itemsize
    cdef ptrdiff_t bytes = s.itemsize * (s.y.channels if s.channels_last else 1)
    r.g.weight = weight
    if s.channels_last or in_reverse(&s.axis[1]) or in_reverse(&s.axis[2]):  # NumPy's memory need not start a line
        order_weight(s, weight, bytes, bytes, r.weight)
        r.g.weight = r.weight
    r.g.bias = NULL if s.bias == NULL else s.bias + k * s.itemsize
    r.g.gain = NULL if s.gain == NULL else s.gain + k * s.itemsize


cdef void see_rows(const Call *s, ptrdiff_t first, ptrdiff_t end, const char *x, fr_bare_conv *g) noexcept nogil:
    """What rows first..end-1 of outputs see of the map at x."""
    cdef const Axis *rows = &s.axis[1]
    cdef ptrdiff_t place = first * rows.step - zeros_before(rows), seen = max(<ptrdiff_t> 0, place)  # may start above the map
    g.above, g.y_rows = seen - place, end - first
    g.rows = min(rows.source, place + (g.y_rows - 1) * rows.step + rows.kernel) - seen
    if rows.spread > 1:
        place = first + zeros_before(rows)
        seen = max(<ptrdiff_t> 0, ceil_div(place - rows.kernel + 1, rows.spread))
        g.above, g.rows = place - seen * rows.spread, min(rows.source, (place + g.y_rows - 1) // rows.spread + 1) - seen
    g.x = x + seen * s.x.place_stride[1] * s.itemsize


cdef void convolve_rows(const Call *s, Rows *r, const char *x, char *y) noexcept nogil:
    """One map, in bands of rows of outputs."""
    cdef ptrdiff_t row = s.axis[2].count, count = s.axis[1].count, first = 0, end
    while first < count:
        end = min(count, first + rows_of_band(s))
        see_rows(s, first, end, x, &r.g)
        r.g.y = r.band if s.past else y + first * row * s.itemsize
        (s.kernels.bare_conv if s.axis[2].spread == 1 else s.kernels.bare_spread)(&r.g)
        if s.past:
            s.kernels.copy_past((end - first) * row, r.band, y + first * row * s.itemsize)
        first = end


cdef void share_of_rows(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t K = s.y.channels, items = s.N * K, item, n, k
    cdef char *x
    cdef Rows r
    start_rows(s, member, False, &r)
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        n, k = item // K, item % K
        x = map_at(&s.x, n, k // s.y_maps, s.itemsize)
        take_weight(s, k, &r)
        convolve_rows(s, &r, x, map_at(&s.y, n, k, s.itemsize))
        if s.kept != NULL and k % s.y_maps == 0:
            keep_part(s, s.x.channel_stride, x, s.kept + (x - s.x.data))
    end_past(s)


cdef void keep_rows(const Call *s, ptrdiff_t n, ptrdiff_t first, ptrdiff_t end) noexcept nogil:
    """Copy as large a part of the rows of x as first..end-1 are of those of y, while the cache may have them."""
    cdef ptrdiff_t row = s.x.place_stride[1], source = s.axis[1].source, count = s.axis[1].count
    cdef ptrdiff_t at = n * s.x.batch_stride + first * source // count * row
    cdef ptrdiff_t size = (end * source // count - first * source // count) * row
    keep_part(s, size, s.x.data + at * s.itemsize, s.kept + at * s.itemsize)


cdef void share_of_sweeps(void *work, Team *team, int member) noexcept nogil:
    """The channels lie last; members share rows, and run those of a sample together."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t per_map = s.axis[1].count, rows = s.N * per_map, n, first, last
    cdef ptrdiff_t row = first_of(rows, member, team.size), end = first_of(rows, member + 1, team.size)
    cdef Rows r
    cdef char *y
    start_rows(s, member, False, &r)
    take_weight(s, 0, &r)
    while row < end:
        n, first = row // per_map, row % per_map
        last = min(per_map, first + end - row)
        if s.past or s.kept != NULL:
            last = min(last, first + rows_of_band(s))
        see_rows(s, first, last, s.x.data + n * s.x.batch_stride * s.itemsize, &r.g)
        y = s.y.data + (n * s.y.batch_stride + first * s.y.place_stride[1]) * s.itemsize
        r.g.y = r.band if s.past else y
        s.kernels.bare_conv_last(&r.g)
        if s.past:
            s.kernels.copy_past((last - first) * s.y.place_stride[1], r.band, y)
        if s.kept != NULL:
            keep_rows(s, n, first, last)
        row += last - first
    end_past(s)


cdef void share_of_sweep_gradients(void *work, Team *team, int member) noexcept nogil:
    """The channels lie last; members share them, vector by vector."""
    cdef Both *both = <Both *> work
    cdef Call *s = &both.weights
    cdef ptrdiff_t C = s.y.channels, W = s.kernels.width, vectors = ceil_div(C, W), n
    cdef ptrdiff_t first = min(C, first_of(vectors, member, team.size) * W)
    cdef ptrdiff_t end = min(C, first_of(vectors, member + 1, team.size) * W)
    cdef Rows r
    if end <= first:
        return
    start_rows(s, member, True, &r)
    memset(r.sums, 0, s.taps * (end - first) * s.itemsize)
    r.g.channels = r.g.tap_channels = end - first
    r.g.sums = r.sums
    for n in range(s.N):
        see_rows(s, 0, s.axis[1].count, s.x.data + (n * s.x.batch_stride + first) * s.itemsize, &r.g)
        r.g.y = s.y.data + (n * s.y.batch_stride + first) * s.itemsize
        s.kernels.bare_conv_last_weight(&r.g)
    s.kernels.add_turned(s.taps, end - first, r.sums, end - first, s.grad + first * s.taps * s.itemsize, s.taps)


cdef void add_rows(const Call *s, Rows *r, const char *x, char *y) noexcept nogil:
    """sums [tap][lane] += what one map of x and one of y give, in bands of rows of x."""
    cdef ptrdiff_t row = s.axis[2].source * s.itemsize, source = s.axis[1].source, step = rows_of_band(s), first = 0, end
    r.g.y, r.g.y_rows = y, s.axis[1].count
    while first < source:
        end = min(source, first + step)
        r.g.x, r.g.rows, r.g.above = x + first * row, end - first, first + zeros_before(&s.axis[1])
        s.kernels.bare_conv_weight(&r.g)
        first = end


cdef void add_channel(const Both *both, Rows *weights, Rows *maps, ptrdiff_t n, ptrdiff_t c, char *sums) noexcept nogil:
    """What one channel of one sample gives to the gradients; dy is still in the cache for the second and third."""
    cdef const Call *s = &both.weights
    cdef ptrdiff_t k
    cdef char *dy
    for k in range(c * s.y_maps, (c + 1) * s.y_maps):
        dy = map_at(&s.y, n, k, s.itemsize)
        if s.bias_grad != NULL:
            s.kernels.add_sum(s.y.channel_stride, dy, s.bias_grad + k * s.itemsize)
        weights.g.sums = sums + (k - c * s.y_maps) * s.taps * s.kernels.width * s.itemsize
        add_rows(s, weights, map_at(&s.x, n, c, s.itemsize), dy)
    if both.with_maps:
        take_weight(&both.maps, c, maps)
        convolve_rows(&both.maps, maps, map_at(&both.maps.x, n, c, s.itemsize), map_at(&both.maps.y, n, c, s.itemsize))


cdef void share_of_row_gradients(void *work, Team *team, int member) noexcept nogil:
    """Members share channels, and go over those of a sample one after another, as memory likes it."""
    cdef Both *both = <Both *> work
    cdef Call *s = &both.weights
    cdef ptrdiff_t first = first_of(s.x.channels, member, team.size), last = first_of(s.x.channels, member + 1, team.size)
    cdef ptrdiff_t c, n, i, end, bytes = bytes_of_sums(s), W = s.kernels.width
    cdef Rows weights, maps
    start_rows(s, member, True, &weights)
    if both.with_maps:
        start_rows(&both.maps, member, False, &maps)
    while first < last:
        end = min(last, first + channels_at_once(s))
        memset(weights.sums, 0, (end - first) * bytes)
        for n in range(s.N):
            for c in range(first, end):
                add_channel(both, &weights, &maps, n, c, weights.sums + (c - first) * bytes)
        for i in range((end - first) * s.y_maps * s.taps):
            s.kernels.add_sum(W, weights.sums + i * W * s.itemsize, s.grad + (first * s.y_maps * s.taps + i) * s.itemsize)
        first = end
    if both.with_maps:
        end_past(&both.maps)
