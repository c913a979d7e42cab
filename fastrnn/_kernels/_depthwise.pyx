"""Convolution of each channel by itself, bound by memory: each value is read once and stays in the first-level cache.

Channels first, a channel's padded map, or as many rows of it as fit MAP_BYTES, is copied to scratch, where the places that lie a
stride apart are made neighbours; vectors then run along the rows. Channels last, vectors run over the channels of a pixel, which
are read where they lie. Workspace of a thread: MAP_BYTES (or what one output row reads, if that is more) for the copy and as much
for the results of phases, and 24 bytes a tap.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_NONE, FR_SLOTS, fr_kernels, fr_map_conv, fr_pixel_conv, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._padding cimport pad_row
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._windows cimport (ZEROS, Axis, Blocks, Range, Taps, Windows, box_of, cut, extent, inputs_of,
                                        outputs_in_phase, phases_of, place_of, taps_of)

cnp.import_array()

cdef ptrdiff_t MAP_BYTES = 24 << 10


cdef struct Call:
    # x (N, C, *sizes) and y (N, K, *counts), map k of y belongs to channel k // maps of x. To the input: x has `maps` to one of y.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t N, x_maps, y_maps  # that belong to one channel; one of the two is 1
    char *weight                 # [map][tap]; channels last: [tap][channel]
    char *bias
    char *gain
    char *grad                   # [map][tap]; channels last: [member][tap][channel]
    char *bias_grad              # [map], channels first; NULL if not wanted
    int activation
    Blocks blocks
    char *scratch
    ptrdiff_t scratch_bytes, map_bytes, row, taps


cdef struct Copy:
    # A padded part of one map: a place lies at [d][h][w % step][w // step].
    char *data
    ptrdiff_t first[3]
    ptrdiff_t place_stride[2]
    ptrdiff_t part  # length of a row's part


ctypedef fused real:
    float
    double


cdef void copy_map(const Call *s, const char *map, const Range *box, char *memory, Copy *copy) noexcept nogil:
    """What a box of outputs reads of one map, with its borders."""
    cdef Range places[3]
    cdef ptrdiff_t a, d, h, from_d, from_h
    cdef char *to
    for a in range(3):
        places[a] = inputs_of(&s.axis[a], box[a + 1])
        copy.first[a] = places[a].first
    cdef ptrdiff_t left = max(<ptrdiff_t> 0, -places[2].first), right = max(<ptrdiff_t> 0, places[2].end - s.axis[2].source)
    cdef ptrdiff_t width = s.kernels.width, lead = 0
    copy.part = ceil_div(places[2].end - places[2].first, s.axis[2].step)
    copy.place_stride[1] = copy.part * s.axis[2].step
    if s.axis[2].step == 1:  # the inside of each row starts with a vector
        lead = (width - left % width) % width
        copy.place_stride[1] = ceil_div(lead + copy.part, width) * width
    memory += lead * s.itemsize
    copy.data = memory
    copy.place_stride[0] = copy.place_stride[1] * (places[1].end - places[1].first)
    cdef ptrdiff_t inside = copy.part - left - right, rows
    cdef bint plain = (s.axis[2].step == 1 and inside > 0 and max(left, right) <= width
                       and (s.axis[2].border == ZEROS or left + right == 0))
    for d in range(places[0].end - places[0].first):
        from_d = place_of(&s.axis[0], places[0].first + d)
        h = 0
        while h < places[1].end - places[1].first:
            from_h = place_of(&s.axis[1], places[1].first + h)
            to = memory + (d * copy.place_stride[0] + h * copy.place_stride[1]) * s.itemsize
            rows = 1
            if from_d < 0 or from_h < 0:
                memset(to, 0, copy.place_stride[1] * s.itemsize)
            elif plain:
                if places[1].first + h == from_h:
                    rows = min(places[1].end, s.axis[1].source) - from_h
                s.kernels.pad_rows(rows, inside, map + (from_d * s.x.place_stride[0] + from_h * s.x.place_stride[1]
                                                        + places[2].first + left) * s.itemsize,
                                   s.x.place_stride[1], to, copy.place_stride[1], left, right)
            else:
                pad_row(s.axis + 2, s.itemsize, map + (from_d * s.x.place_stride[0] + from_h * s.x.place_stride[1]) * s.itemsize,
                        places[2], copy.part, to)
            h += rows


cdef ptrdiff_t map_taps(const Call *s, const Copy *copy, const Taps **taps, const Range *q, ptrdiff_t *offset,
                        ptrdiff_t *number) noexcept nogil:
    """Offsets of a phase's taps from the input of its first output in the box, and their numbers."""
    cdef ptrdiff_t d, h, w, t, place, count = 0
    for d in range(taps[0].count):
        for h in range(taps[1].count):
            for w in range(taps[2].count):
                place = q[2].first * s.axis[2].step + taps[2].offset + w * taps[2].pace - copy.first[2]
                offset[count] = ((d * taps[0].pace * copy.place_stride[0]) + (h * taps[1].pace) * copy.place_stride[1]
                                 + place % s.axis[2].step * copy.part + place // s.axis[2].step)
                t = (((taps[0].first + d * taps[0].stride) * s.axis[1].kernel + taps[1].first + h * taps[1].stride)
                     * s.axis[2].kernel + taps[2].first + w * taps[2].stride)
                number[count] = t
                count += 1
    return count


cdef void convolve_map(const Call *s, const Copy *copy, const Range *box, const char *weight, fr_map_conv *g, char *y, char *memory,
                       ptrdiff_t *offset, ptrdiff_t *number, char *gathered, bint fresh) noexcept nogil:
    """One map of y from one of x, phase by phase; if outputs of a phase lie apart, through `memory`.

    The taps are looked for if `fresh`, else they are those of the last call.
    """
    cdef const Taps *taps[3]
    cdef ptrdiff_t phase[3]
    cdef Range q[3]
    cdef ptrdiff_t a, p, rest, d, h, t, spread = s.axis[2].spread, phases = phases_of(s.axis)
    cdef char *row
    cdef bint add = g.resume
    for p in range(phases):
        rest = p
        for a in range(2, -1, -1):
            phase[a] = rest % s.axis[a].spread
            rest //= s.axis[a].spread
            taps[a] = &s.axis[a].taps[phase[a]]
            q[a] = outputs_in_phase(&s.axis[a], box[a + 1], phase[a])
        g.rows, g.columns = q[1].end - q[1].first, q[2].end - q[2].first
        if fresh or phases > 1:
            g.taps = map_taps(s, copy, taps, q, offset, number)
        for t in range(g.taps):
            if s.itemsize == 4:
                (<float *> gathered)[t] = (<const float *> weight)[number[t]]
            else:
                (<double *> gathered)[t] = (<const double *> weight)[number[t]]
        g.height = taps[1].count if taps[0].count == 1 and taps[1].pace == s.axis[1].step and taps[2].count else 0
        g.offset, g.weight, g.x_stride = offset, gathered, s.axis[1].step * copy.place_stride[1]
        for d in range(q[0].first, q[0].end):
            g.x = copy.data + ((d * s.axis[0].step + taps[0].offset - copy.first[0]) * copy.place_stride[0]
                               + (q[1].first * s.axis[1].step + taps[1].offset - copy.first[1]) * copy.place_stride[1]) * s.itemsize
            row = y + ((d * s.axis[0].spread + phase[0]) * s.y.place_stride[0]
                       + (q[1].first * s.axis[1].spread + phase[1]) * s.y.place_stride[1]
                       + q[2].first * spread + phase[2]) * s.itemsize
            if spread == 1:
                g.y, g.y_stride = row, s.axis[1].spread * s.y.place_stride[1]
                s.kernels.map_conv(g)
                continue
            g.y, g.y_stride, g.resume = memory, g.columns, 0
            s.kernels.map_conv(g)
            for h in range(g.rows):
                if s.itemsize == 4:
                    spread_row(<const float *> memory + h * g.columns, g.columns, spread, add,
                               <float *> row + h * s.axis[1].spread * s.y.place_stride[1])
                else:
                    spread_row(<const double *> memory + h * g.columns, g.columns, spread, add,
                               <double *> row + h * s.axis[1].spread * s.y.place_stride[1])


cdef void spread_row(const real *row, ptrdiff_t columns, ptrdiff_t spread, bint add, real *to) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(columns):
        to[i * spread] = to[i * spread] + row[i] if add else row[i]


cdef inline const char *at_map(char *vector, ptrdiff_t map, int itemsize) noexcept nogil:
    return NULL if vector == NULL else vector + map * itemsize


cdef void share_of_maps(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t channels = s.x.channels // s.x_maps, items = s.N * channels, item, n, c, k, j, number
    cdef char *memory = s.scratch + member * s.scratch_bytes
    cdef ptrdiff_t *offset = <ptrdiff_t *> (memory + 2 * s.map_bytes)
    cdef Range box[4]
    cdef Copy copy
    cdef fr_map_conv g
    cdef bint fresh = True
    g.activation = s.activation
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        n, c = item // channels, item % channels
        for number in range(s.blocks.total):
            fresh = fresh or s.blocks.total > 1
            if fresh:
                box_of(&s.blocks, number, box)
            for j in range(s.x_maps):
                copy_map(s, s.x.data + (n * s.x.batch_stride + (c * s.x_maps + j) * s.x.channel_stride) * s.itemsize, box,
                         memory, &copy)
                g.resume = j > 0
                for k in range(c * s.y_maps, (c + 1) * s.y_maps):
                    g.bias, g.gain = at_map(s.bias, k, s.itemsize), at_map(s.gain, k, s.itemsize)
                    convolve_map(s, &copy, box, s.weight + max(k, c * s.x_maps + j) * s.taps * s.itemsize, &g,
                                 s.y.data + (n * s.y.batch_stride + k * s.y.channel_stride) * s.itemsize, memory + s.map_bytes,
                                 offset, offset + s.taps, <char *> (offset + 2 * s.taps), fresh)
                    fresh = False


cdef void share_of_map_gradients(void *work, Team *team, int member) noexcept nogil:
    """grad [map][tap] += the sums over all pixels of the batch of y times x."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t c, k, n, d, number, a, channels = s.x.channels
    cdef char *memory = s.scratch + member * s.scratch_bytes
    cdef char *map
    cdef ptrdiff_t *offset = <ptrdiff_t *> (memory + 2 * s.map_bytes)
    cdef const Taps *taps[3]
    cdef Range box[4]
    cdef Copy copy
    cdef fr_map_conv g
    for a in range(3):
        taps[a] = s.axis[a].taps
    for c in range(first_of(channels, member, team.size), first_of(channels, member + 1, team.size)):
        for n in range(s.N):
            for number in range(s.blocks.total):
                box_of(&s.blocks, number, box)
                copy_map(s, s.x.data + (n * s.x.batch_stride + c * s.x.channel_stride) * s.itemsize, box, memory, &copy)
                g.taps = map_taps(s, &copy, taps, box + 1, offset, offset + s.taps)
                g.offset, g.x_stride = offset, s.axis[1].step * copy.place_stride[1]
                g.rows, g.columns, g.y_stride = box[2].end - box[2].first, box[3].end - box[3].first, s.y.place_stride[1]
                for k in range(c * s.y_maps, (c + 1) * s.y_maps):
                    map = s.y.data + (n * s.y.batch_stride + k * s.y.channel_stride) * s.itemsize
                    if number == 0 and s.bias_grad != NULL:  # brings the map into the cache
                        s.kernels.add_sum(s.y.channel_stride, map, s.bias_grad + k * s.itemsize)
                    g.sums = s.grad + k * s.taps * s.itemsize
                    for d in range(box[1].end - box[1].first):
                        g.x = copy.data + d * s.axis[0].step * copy.place_stride[0] * s.itemsize
                        g.y = map + ((box[1].first + d) * s.y.place_stride[0] + box[2].first * s.y.place_stride[1]
                                     + box[3].first) * s.itemsize
                        s.kernels.map_conv_weight(&g)


cdef struct Row:
    # One output row, channels last.
    ptrdiff_t n, d, h    # in the output
    ptrdiff_t phase_d, phase_h
    const Taps *d_taps
    const Taps *h_taps


cdef ptrdiff_t pixel_taps(const Call *s, const Row *r, const Taps *w_taps, ptrdiff_t q, ptrdiff_t base, ptrdiff_t *offset,
                          ptrdiff_t *which) noexcept nogil:
    """The taps that output q of the row's phase sees, by their offset from place `base` of row 0; zeros outside are left out."""
    cdef ptrdiff_t d, h, w, from_d, from_h, from_w, count = 0
    for d in range(r.d_taps.count):
        from_d = place_of(&s.axis[0], r.d // s.axis[0].spread * s.axis[0].step + r.d_taps.offset + d * r.d_taps.pace)
        for h in range(r.h_taps.count):
            from_h = place_of(&s.axis[1], r.h // s.axis[1].spread * s.axis[1].step + r.h_taps.offset + h * r.h_taps.pace)
            if from_d < 0 or from_h < 0:
                continue
            for w in range(w_taps.count):
                from_w = place_of(&s.axis[2], q * s.axis[2].step + w_taps.offset + w * w_taps.pace)
                if from_w < 0:
                    continue
                offset[count] = (from_d * s.x.place_stride[0] + from_h * s.x.place_stride[1]
                                 + (from_w - base) * s.x.place_stride[2])
                which[count] = (((r.d_taps.first + d * r.d_taps.stride) * s.axis[1].kernel + r.h_taps.first
                                 + h * r.h_taps.stride) * s.axis[2].kernel + w_taps.first + w * w_taps.stride)
                count += 1
    return count


cdef void run_row(const Call *s, const Row *r, fr_pixel_conv *g, const char *x, char *y, ptrdiff_t *offset,
                  void (*kernel)(const fr_pixel_conv *) noexcept nogil) noexcept nogil:
    """The pixels of one row, those that see the same taps together."""
    cdef const Axis *axis = &s.axis[2]
    cdef const Taps *taps
    cdef ptrdiff_t phase, q, end, inner, stop
    cdef Range all
    all.first, all.end = 0, axis.count
    for phase in range(axis.spread):
        taps = &axis.taps[phase]
        q = outputs_in_phase(axis, all, phase).first
        end = outputs_in_phase(axis, all, phase).end
        inner = max(q, ceil_div(-taps.offset, axis.step) if taps.offset < 0 else 0)
        stop = axis.source - 1 - taps.offset - (taps.count - 1) * taps.pace
        stop = min(end, stop // axis.step + 1) if stop >= 0 else 0
        while q < end:
            g.pixels = stop - q if inner <= q < stop else 1
            g.taps = pixel_taps(s, r, taps, q, q * axis.step, offset, offset + s.taps)
            g.offset, g.which = offset, offset + s.taps
            g.x = x + q * axis.step * s.x.place_stride[2] * s.itemsize
            g.x_stride, g.y_stride = axis.step * s.x.place_stride[2], axis.spread * s.y.place_stride[2]
            g.y = y + (q * axis.spread + phase) * s.y.place_stride[2] * s.itemsize
            kernel(g)
            q += g.pixels


cdef inline void start_row(const Call *s, ptrdiff_t number, Row *r) noexcept nogil:
    r.h = number % s.axis[1].count
    r.d = number // s.axis[1].count % s.axis[0].count
    r.n = number // s.axis[1].count // s.axis[0].count
    r.d_taps, r.h_taps = &s.axis[0].taps[r.d % s.axis[0].spread], &s.axis[1].taps[r.h % s.axis[1].spread]


cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t rows = s.N * s.axis[0].count * s.axis[1].count, number
    cdef ptrdiff_t *offset = <ptrdiff_t *> (s.scratch + member * s.scratch_bytes)
    cdef Row r
    cdef fr_pixel_conv g
    g.channels, g.activation, g.weight, g.bias, g.gain = s.y.channels, s.activation, s.weight, s.bias, s.gain
    for number in range(first_of(rows, member, team.size), first_of(rows, member + 1, team.size)):
        start_row(s, number, &r)
        run_row(s, &r, &g, s.x.data + r.n * s.x.batch_stride * s.itemsize,
                s.y.data + (r.n * s.y.batch_stride + r.d * s.y.place_stride[0] + r.h * s.y.place_stride[1]) * s.itemsize, offset,
                s.kernels.pixel_conv)


cdef void share_of_pixel_gradients(void *work, Team *team, int member) noexcept nogil:
    """grad [map][tap] += the sums over all pixels; members share channels."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t rows = s.N * s.axis[0].count * s.axis[1].count, number, vectors = ceil_div(s.y.channels, s.kernels.width)
    cdef ptrdiff_t first = min(s.y.channels, first_of(vectors, member, team.size) * s.kernels.width)
    cdef ptrdiff_t end = min(s.y.channels, first_of(vectors, member + 1, team.size) * s.kernels.width)
    cdef ptrdiff_t *offset = <ptrdiff_t *> (s.scratch + member * s.scratch_bytes)
    cdef char *sums = <char *> (offset + 2 * s.taps)
    cdef Row r
    cdef fr_pixel_conv g
    g.channels, g.sums = end - first, sums
    if end <= first:
        return
    memset(sums, 0, s.taps * g.channels * s.itemsize)
    for number in range(rows):
        start_row(s, number, &r)
        run_row(s, &r, &g, s.x.data + (r.n * s.x.batch_stride + first) * s.itemsize,
                s.y.data + (r.n * s.y.batch_stride + r.d * s.y.place_stride[0] + r.h * s.y.place_stride[1] + first) * s.itemsize,
                offset, s.kernels.pixel_conv_weight)
    s.kernels.add_turned(s.taps, g.channels, sums, g.channels, s.grad + first * s.taps * s.itemsize, s.taps)


cdef int prepare(Call *s, cnp.ndarray x, cnp.ndarray y, Windows windows, bint channels_last):
    """Fill in what every call has; return its team's size."""
    cdef ptrdiff_t longest
    s.itemsize, s.axis, s.N = x.itemsize, windows.axis, x.shape[0]
    describe_maps(x, channels_last, &s.x)
    describe_maps(y, channels_last, &s.y)
    s.taps = taps_of(s.axis)
    s.x_maps, s.y_maps = max(<ptrdiff_t> 1, s.x.channels // s.y.channels), max(<ptrdiff_t> 1, s.y.channels // s.x.channels)
    cdef double work = 0.05 * cnp.PyArray_SIZE(y) * s.taps * s.x_maps  # nanoseconds
    # A row of the copy has its parts' lengths, or its start and its end, rounded up; the last may be read a panel past its end.
    longest = MAP_BYTES // s.itemsize
    cut(s.axis, 1, 1, longest, longest, 1, &s.blocks)
    cdef ptrdiff_t places = FR_SLOTS * s.kernels.width, outputs = 1, a
    cdef ptrdiff_t copied = 1
    for a in range(3):
        copied *= extent(&s.axis[a], s.blocks.most[a + 1]) + (max(s.axis[a].step, 2 * s.kernels.width) if a == 2 else 0)
        outputs *= s.blocks.most[a + 1]
    s.map_bytes = ceil_div((max(copied, outputs) + places) * s.itemsize, 64) * 64
    if channels_last:
        s.map_bytes = 0
    return team_size(work, 1, s.N * s.x.channels)


cdef Block scratch_for(Call *s, int size, ptrdiff_t more):
    s.scratch_bytes = ceil_div(2 * s.map_bytes + s.taps * (2 * <ptrdiff_t> sizeof(ptrdiff_t) + s.itemsize) + more, 4096) * 4096 + 64
    cdef Block scratch = new_block(size * s.scratch_bytes)
    s.scratch = scratch.data
    return scratch


@cython.final
cdef class DepthwiseKernels:
    """Weights of a convolution with one channel in each group: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (K, 1, ...), C-contiguous, of five axes
    bias, gain : (K,) or None
    channels_last : bool; needs as many maps as channels
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef readonly bint channels_last
    cdef cnp.ndarray weight, bias, gain

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray gain, bint channels_last):
        self.itemsize, self.dtype, self.channels_last = weight.itemsize, weight.dtype, channels_last
        self.kernels = kernels_for(self.itemsize)
        rows = weight.reshape(weight.shape[0], -1)
        self.weight = (rows.T if channels_last else rows).copy()
        self.bias, self.gain = bias, gain

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled):
        """y = gain * act(bias + the sums), both C-contiguous and of five axes; the gain only if `scaled`.

        If x has more channels than y, each map of y adds up those of x that belong to it.
        """
        cdef Call s
        if cnp.PyArray_SIZE(y) == 0:
            return
        s.kernels = self.kernels
        s.weight = <char *> cnp.PyArray_DATA(self.weight)
        s.bias = NULL if self.bias is None else <char *> cnp.PyArray_DATA(self.bias)
        s.gain = <char *> cnp.PyArray_DATA(self.gain) if scaled and self.gain is not None else NULL
        s.activation = activation
        cdef int size = prepare(&s, x, y, windows, channels_last)
        cdef Block _scratch = scratch_for(&s, size, 0)
        with nogil:
            run_team(share_of_pixels if channels_last else share_of_maps, &s, size)


def add_depthwise_gradient(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray grad not None, Windows windows not None,
                           bint channels_last, cnp.ndarray bias_grad):
    """grad (K, 1, *kernel) += the gradient of the weights; channels last only with as many maps as channels.

    bias_grad (K,), channels first alone, += the sum of each map of dy, which is read once for both.
    """
    cdef Call s
    if cnp.PyArray_SIZE(dy) == 0:
        return
    s.kernels = kernels_for(dy.itemsize)
    s.grad, s.activation = <char *> cnp.PyArray_DATA(grad), FR_NONE
    s.bias_grad = NULL if bias_grad is None else <char *> cnp.PyArray_DATA(bias_grad)
    cdef int size = prepare(&s, x, dy, windows, channels_last)
    size = min(size, <int> s.x.channels)
    cdef Block _scratch = scratch_for(&s, size, s.taps * s.y.channels * s.itemsize if channels_last else 0)
    with nogil:
        run_team(share_of_pixel_gradients if channels_last else share_of_map_gradients, &s, size)
