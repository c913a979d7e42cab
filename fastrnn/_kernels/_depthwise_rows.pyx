"""Convolution of each channel by itself over maps where they lie: 3x3, 5x5 or 7x7 taps without a stride, zeros around, and rows of
outputs as long as those of the input.

No copy is made, and reading goes on while sums are computed. Workspace of a thread: the weights of a map, a vector of sums for each
tap, and BAND_BYTES, or a row, of outputs that go past the caches.
"""

from libc.string cimport memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._depthwise_turned cimport keep_map, serves_turned
from fastrnn._kernels._dispatch cimport fr_bare_conv
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._threads cimport first_of
from fastrnn._kernels._windows cimport ZEROS, Taps

cdef ptrdiff_t BAND_BYTES = 24 << 10  # of a map that are gone over strip by strip: they stay in the first-level cache


cdef bint serves_rows(const Call *s) noexcept nogil:
    """Whether maps should be convolved where they lie. Never depends on the batch: sums run in another order."""
    cdef ptrdiff_t a, kernel = s.axis[2].kernel
    cdef const Taps *taps
    if s.x_maps > 1 or s.axis[0].source != 1 or s.axis[0].count != 1 or s.axis[0].kernel != 1:
        return False
    if kernel != s.axis[1].kernel or not (kernel == 3 or kernel == 5 or kernel == 7) or s.axis[2].source != s.axis[2].count:
        return False
    for a in range(1, 3):
        taps = s.axis[a].taps
        if s.axis[a].step > 1 or s.axis[a].spread > 1 or taps.pace != 1 or s.axis[a].border != ZEROS:
            return False
        if taps.offset > 0 or taps.offset <= -kernel:
            return False
    if s.axis[2].taps.offset != -(kernel // 2):
        return False
    return 2 * s.axis[2].count > s.kernels.width or not serves_turned(s)


cdef inline ptrdiff_t rows_of_band(const Call *s) noexcept nogil:
    return max(<ptrdiff_t> 1, BAND_BYTES // (s.axis[2].count * s.itemsize))


cdef inline ptrdiff_t bytes_of_weights(const Call *s) noexcept nogil:
    return ceil_div(s.taps * s.itemsize, 64) * 64


cdef ptrdiff_t bytes_of_rows(const Call *s, bint gradient) noexcept nogil:
    """Workspace of a thread."""
    cdef ptrdiff_t band = min(rows_of_band(s), s.axis[1].count) * s.axis[2].count
    return (bytes_of_weights(s) + (s.y_maps * s.taps * s.kernels.width * s.itemsize if gradient else 0)
            + (ceil_div(band * s.itemsize, 64) * 64 if s.past else 0))


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
    r.band = r.sums + (s.y_maps * s.taps * s.kernels.width * s.itemsize if gradient else 0)
    r.g.columns, r.g.kernel, r.g.activation = s.axis[2].count, s.axis[2].kernel, s.activation


cdef void take_weight(const Call *s, ptrdiff_t k, Rows *r) noexcept nogil:
    """The weights, bias and gain of map k."""
    cdef ptrdiff_t h, w, t, i = 0
    cdef const Taps *rows = s.axis[1].taps
    cdef const Taps *columns = s.axis[2].taps
    cdef const char *weight = s.weight + k * s.taps * s.itemsize
    for h in range(rows.count):
        for w in range(columns.count):
            t = (rows.first + h * rows.stride) * columns.count + columns.first + w * columns.stride
            if s.itemsize == 4:
                (<float *> r.weight)[i] = (<const float *> weight)[t]
            else:
                (<double *> r.weight)[i] = (<const double *> weight)[t]
            i += 1
    r.g.weight = r.weight
    r.g.bias = NULL if s.bias == NULL else s.bias + k * s.itemsize
    r.g.gain = NULL if s.gain == NULL else s.gain + k * s.itemsize


cdef void convolve_rows(const Call *s, Rows *r, const char *x, char *y) noexcept nogil:
    """One map, in bands of rows of outputs."""
    cdef ptrdiff_t row = s.axis[2].count * s.itemsize, count = s.axis[1].count, step = rows_of_band(s), first = 0, end, place
    while first < count:
        end = min(count, first + step)
        place = first + s.axis[1].taps.offset  # of the first row that is read
        r.g.above = max(<ptrdiff_t> 0, -place)
        r.g.y_rows = end - first
        r.g.x = x + max(<ptrdiff_t> 0, place) * row
        r.g.rows = min(s.axis[1].source, place + r.g.y_rows + s.axis[1].kernel - 1) - max(<ptrdiff_t> 0, place)
        r.g.y = r.band if s.past else y + first * row
        s.kernels.bare_conv(&r.g)
        if s.past:
            s.kernels.copy_past(r.g.y_rows * s.axis[2].count, r.band, y + first * row)
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
            keep_map(s, x, s.kept + (x - s.x.data))


cdef void add_rows(const Call *s, Rows *r, const char *x, char *y) noexcept nogil:
    """sums [tap][lane] += what one map of x and one of y give, in bands of rows of x."""
    cdef ptrdiff_t row = s.axis[2].count * s.itemsize, source = s.axis[1].source, step = rows_of_band(s), first = 0, end
    r.g.y, r.g.y_rows = y, s.axis[1].count
    while first < source:
        end = min(source, first + step)
        r.g.x, r.g.rows, r.g.above = x + first * row, end - first, first - s.axis[1].taps.offset
        s.kernels.bare_conv_weight(&r.g)
        first = end


cdef void share_of_row_gradients(void *work, Team *team, int member) noexcept nogil:
    """Members share channels; what is read of dy for the weights is still in the cache for dx."""
    cdef Both *both = <Both *> work
    cdef Call *s = &both.weights
    cdef ptrdiff_t c, n, k, t, bytes = s.taps * s.kernels.width * s.itemsize
    cdef Rows weights, maps
    cdef char *dy
    start_rows(s, member, True, &weights)
    if both.with_maps:
        start_rows(&both.maps, member, False, &maps)
    for c in range(first_of(s.x.channels, member, team.size), first_of(s.x.channels, member + 1, team.size)):
        memset(weights.sums, 0, s.y_maps * bytes)
        if both.with_maps:
            take_weight(&both.maps, c, &maps)
        for n in range(s.N):
            for k in range(s.y_maps):
                dy = map_at(&s.y, n, c * s.y_maps + k, s.itemsize)
                if s.bias_grad != NULL:  # brings the map into the cache
                    s.kernels.add_sum(s.y.channel_stride, dy, s.bias_grad + (c * s.y_maps + k) * s.itemsize)
                weights.g.sums = weights.sums + k * bytes
                add_rows(s, &weights, map_at(&s.x, n, c, s.itemsize), dy)
            if both.with_maps:
                convolve_rows(&both.maps, &maps, map_at(&both.maps.x, n, c, s.itemsize), map_at(&both.maps.y, n, c, s.itemsize))
        for t in range(s.y_maps * s.taps):
            s.kernels.add_sum(s.kernels.width, weights.sums + t * s.kernels.width * s.itemsize,
                              s.grad + (c * s.y_maps * s.taps + t) * s.itemsize)
