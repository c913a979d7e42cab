"""Convolution of each channel by itself, bound by memory: each value is read once and stays in the first-level cache.

Channels first, a channel's padded map, or as many rows of it as fit MAP_BYTES, is copied to scratch; vectors then run along the
rows. Channels last, `_depthwise_pixels` reads pixels in place; where several maps belong to a channel, the channels are repeated
first, or the maps of each summed at the end (`_neighbours`). Workspace of a thread: MAP_BYTES (or what one output row reads,
if that is more) and borders for the copy, as much for results on their way, and 24 bytes a tap.
"""

cimport cython
cimport numpy as cnp
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._depthwise_pixels cimport entries_of_places, fill_places, share_of_pixel_gradients, share_of_pixels
from fastrnn._kernels._depthwise_rows cimport (
    bytes_of_band, fits_pairs, fits_rows, scratch_of_rows, share_of_row_gradients, share_of_rows, share_of_sweep_gradients,
    share_of_sweeps,
)
from fastrnn._kernels._depthwise_turned cimport (
    fill_turned, places_of_band, prepare_turned, serves_turned, share_of_turned, share_of_turned_gradients,
)
from fastrnn._kernels._dispatch cimport FR_NONE, FR_SLOTS, fr_map_conv, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._map_copy cimport Copy, copy_bytes, copy_map
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._neighbours cimport repeat_channels, sum_of_maps
from fastrnn._kernels._norm cimport stored_past
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._windows cimport Range, Taps, Windows, box_of, cut, outputs_in_phase, phases_of, taps_of

import numpy as np

from fastrnn._kernels._memory import empty

cnp.import_array()

cdef ptrdiff_t MAP_BYTES = 24 << 10
cdef ptrdiff_t LAST_VECTORS = 2  # of pixels with the channels last that are copied together: the cache fetches lines in pairs

ctypedef fused real:
    float
    double


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


cdef struct Pass:
    # What one member of a team works with.
    char *memory            # of the copy
    char *apart             # of results on their way to places that lie apart, or past the caches
    ptrdiff_t *offset       # of the taps
    ptrdiff_t *number
    char *gathered          # weights
    bint fresh              # whether the taps have to be looked for, else they are those of the last box
    Range box[4]
    Copy copy
    fr_map_conv g


cdef void start_pass(const Call *s, int member, Pass *p) noexcept nogil:
    p.memory = s.scratch + member * s.scratch_bytes
    p.apart = p.memory + s.map_bytes
    p.offset = <ptrdiff_t *> (p.apart + s.apart_bytes)
    p.number = p.offset + s.taps
    p.gathered = <char *> (p.number + s.taps)
    p.fresh = True
    p.g.activation, p.g.resume = s.activation, False


cdef inline char *at_map(char *vector, ptrdiff_t map, int itemsize) noexcept nogil:
    return NULL if vector == NULL else vector + map * itemsize


cdef inline ptrdiff_t offset_of(const Maps *maps, ptrdiff_t n, ptrdiff_t channel, int itemsize) noexcept nogil:
    return (n * maps.batch_stride + channel * maps.channel_stride) * itemsize


cdef void convolve_map(const Call *s, Pass *p, const char *weight, char *y) noexcept nogil:
    """One map of y from one of x, phase by phase; if outputs of a phase lie apart, through memory."""
    cdef const Taps *taps[3]
    cdef ptrdiff_t phase[3]
    cdef Range q[3]
    cdef ptrdiff_t a, rest, number, d, t, phases = phases_of(s.axis)
    cdef fr_map_conv *g = &p.g
    for number in range(phases):
        rest = number
        for a in range(2, -1, -1):
            phase[a] = rest % s.axis[a].spread
            rest //= s.axis[a].spread
            taps[a] = &s.axis[a].taps[phase[a]]
            q[a] = outputs_in_phase(&s.axis[a], p.box[a + 1], phase[a])
        g.rows, g.columns = q[1].end - q[1].first, q[2].end - q[2].first
        if p.fresh or phases > 1:
            g.taps = map_taps(s, &p.copy, taps, q, p.offset, p.number)
        for t in range(g.taps):
            if s.itemsize == 4:
                (<float *> p.gathered)[t] = (<const float *> weight)[p.number[t]]
            else:
                (<double *> p.gathered)[t] = (<const double *> weight)[p.number[t]]
        g.height = taps[1].count if taps[0].count == 1 and taps[1].pace == s.axis[1].step and taps[2].count else 0
        g.offset, g.weight, g.x_stride = p.offset, p.gathered, s.axis[1].step * p.copy.place_stride[1]
        for d in range(q[0].first, q[0].end):
            g.x = p.copy.data + ((d * s.axis[0].step + taps[0].offset - p.copy.first[0]) * p.copy.place_stride[0]
                                 + (q[1].first * s.axis[1].step + taps[1].offset - p.copy.first[1])
                                 * p.copy.place_stride[1]) * s.itemsize
            run_phase(s, p, y + ((d * s.axis[0].spread + phase[0]) * s.y.place_stride[0]
                                 + (q[1].first * s.axis[1].spread + phase[1]) * s.y.place_stride[1]
                                 + q[2].first * s.axis[2].spread + phase[2]) * s.itemsize)


cdef void run_phase(const Call *s, Pass *p, char *y) noexcept nogil:
    """The rows of a phase, from that at `y`."""
    cdef fr_map_conv *g = &p.g
    cdef ptrdiff_t h, spread = s.axis[2].spread, row = s.axis[1].spread * s.y.place_stride[1]
    cdef bint add = g.resume
    if spread == 1 and s.past and g.columns == row:
        g.y, g.y_stride = p.apart, row
        s.kernels.map_conv(g)
        s.kernels.copy_past(g.rows * row, p.apart, y)
        return
    if spread == 1:
        g.y, g.y_stride = y, row
        s.kernels.map_conv(g)
        return
    g.y, g.y_stride, g.resume = p.apart, g.columns, False
    s.kernels.map_conv(g)
    g.resume = add
    for h in range(g.rows):
        if s.itemsize == 4:
            spread_row(<const float *> p.apart + h * g.columns, g.columns, spread, add, <float *> y + h * row)
        else:
            spread_row(<const double *> p.apart + h * g.columns, g.columns, spread, add, <double *> y + h * row)


cdef void spread_row(const real *row, ptrdiff_t columns, ptrdiff_t spread, bint add, real *to) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(columns):
        to[i * spread] = to[i * spread] + row[i] if add else row[i]


cdef void convolve_channel(const Call *s, Pass *p, ptrdiff_t n, ptrdiff_t c) noexcept nogil:
    """What belongs to one channel of one sample; the maps of x are kept, if asked for, while they are in the cache."""
    cdef ptrdiff_t j, k, number
    cdef const char *map
    for number in range(s.blocks.total):
        p.fresh = p.fresh or s.blocks.total > 1
        if p.fresh:
            box_of(&s.blocks, number, p.box)
        for j in range(c * s.x_maps, (c + 1) * s.x_maps):
            map = s.x.data + offset_of(&s.x, n, j, s.itemsize)
            copy_map(s.kernels, s.itemsize, s.axis, map, s.x.place_stride, p.box + 1, p.memory, &p.copy)
            if s.kept != NULL and number == 0:
                keep_part(s, s.x.channel_stride, map, s.kept + offset_of(&s.x, n, j, s.itemsize))
            p.g.resume = j > c * s.x_maps
            for k in range(c * s.y_maps, (c + 1) * s.y_maps):
                p.g.bias, p.g.gain = at_map(s.bias, k, s.itemsize), at_map(s.gain, k, s.itemsize)
                convolve_map(s, p, s.weight + max(k, j) * s.taps * s.itemsize, s.y.data + offset_of(&s.y, n, k, s.itemsize))
                p.fresh = False


cdef void add_channel(const Call *s, Pass *p, ptrdiff_t n, ptrdiff_t c) noexcept nogil:
    """grad [map][tap] += the sums over the pixels of one sample of y times x, for one channel."""
    cdef ptrdiff_t k, d, number, a
    cdef char *map
    cdef const Taps *taps[3]
    cdef Range *box = p.box
    cdef fr_map_conv *g = &p.g
    for a in range(3):
        taps[a] = s.axis[a].taps
    for number in range(s.blocks.total):
        box_of(&s.blocks, number, box)
        copy_map(s.kernels, s.itemsize, s.axis, s.x.data + offset_of(&s.x, n, c, s.itemsize), s.x.place_stride, box + 1, p.memory,
                 &p.copy)
        if p.fresh or s.blocks.total > 1:
            g.taps = map_taps(s, &p.copy, taps, box + 1, p.offset, p.number)
            p.fresh = False
        g.offset, g.x_stride = p.offset, s.axis[1].step * p.copy.place_stride[1]
        g.rows, g.columns, g.y_stride = box[2].end - box[2].first, box[3].end - box[3].first, s.y.place_stride[1]
        for k in range(c * s.y_maps, (c + 1) * s.y_maps):
            map = s.y.data + offset_of(&s.y, n, k, s.itemsize)
            if number == 0 and s.bias_grad != NULL:  # brings the map into the cache
                s.kernels.add_sum(s.y.channel_stride, map, s.bias_grad + k * s.itemsize)
            g.sums = s.grad + k * s.taps * s.itemsize
            for d in range(box[1].end - box[1].first):
                g.x = p.copy.data + d * s.axis[0].step * p.copy.place_stride[0] * s.itemsize
                g.y = map + ((box[1].first + d) * s.y.place_stride[0] + box[2].first * s.y.place_stride[1]
                             + box[3].first) * s.itemsize
                s.kernels.map_conv_weight(g)


cdef void share_of_maps(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t channels = s.x.channels // s.x_maps, items = s.N * channels, item
    cdef Pass p
    start_pass(s, member, &p)
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        convolve_channel(s, &p, item // channels, item % channels)
    end_past(s)


cdef void share_of_map_gradients(void *work, Team *team, int member) noexcept nogil:
    """Members share channels; what is read of dy for the weights is still in the cache for dx."""
    cdef Both *both = <Both *> work
    cdef ptrdiff_t c, n, channels = both.weights.x.channels
    cdef Pass weights, maps
    start_pass(&both.weights, member, &weights)
    if both.with_maps:
        start_pass(&both.maps, member, &maps)
    for c in range(first_of(channels, member, team.size), first_of(channels, member + 1, team.size)):
        for n in range(both.weights.N):
            add_channel(&both.weights, &weights, n, c)
            if both.with_maps:
                convolve_channel(&both.maps, &maps, n, c)
    if both.with_maps:
        end_past(&both.maps)


cdef bint serves_rows(const Call *s) noexcept nogil:
    """Whether maps should be convolved where they lie. Never depends on the batch: sums run in another order."""
    if not fits_rows(s) and not fits_pairs(s):
        return False
    return s.channels_last or 2 * min(s.axis[2].source, s.axis[2].count) > s.kernels.width or not serves_turned(s)


cdef bint goes_by_rows(const Call *s) noexcept nogil:
    """With the channels last: whether rows of outputs follow each other as those of x do."""
    return s.rows or not s.turned and s.axis[0].source == 1 and s.axis[0].count == 1


cdef int prepare(Call *s, cnp.ndarray x, cnp.ndarray y, Windows windows, bint channels_last, bint training):
    """Fill in what every call has; return its team's size.

    In training, which reads much else before a large y is needed again, y goes past the caches. In inference the next layer may
    find it in the third level.
    """
    s.itemsize, s.axis, s.N = x.itemsize, windows.axis, x.shape[0]
    s.bias = s.gain = s.kept = s.bias_grad = NULL
    s.activation, s.far = FR_NONE, cnp.PyArray_NBYTES(x) > 4 << 20
    describe_maps(x, channels_last, &s.x)
    describe_maps(y, channels_last, &s.y)
    s.taps = taps_of(s.axis)
    s.x_maps, s.y_maps = max(<ptrdiff_t> 1, s.x.channels // s.y.channels), max(<ptrdiff_t> 1, s.y.channels // s.x.channels)
    cdef double work = 0.05 * cnp.PyArray_SIZE(y) * s.taps * s.x_maps  # nanoseconds
    cdef ptrdiff_t longest = MAP_BYTES // s.itemsize
    cut(s.axis, 1, 1, longest, longest, 1, &s.blocks)
    s.past = training and s.x_maps == 1 and stored_past(cnp.PyArray_NBYTES(y), s.y.channel_stride)
    s.keep_past = stored_past(cnp.PyArray_NBYTES(x), s.x.channel_stride)
    s.map_bytes = s.apart_bytes = s.joined_bytes = 0
    if not channels_last:
        s.map_bytes = ceil_div(copy_bytes(s.kernels, s.itemsize, s.axis, &s.blocks), 64) * 64
    if s.axis[2].spread > 1 or s.past:
        s.apart_bytes = ceil_div((s.blocks.most[2] * s.blocks.most[3] + FR_SLOTS * s.kernels.width) * s.itemsize, 64) * 64
    s.channels_last = channels_last
    s.lanes = s.kernels.width * (LAST_VECTORS if channels_last else 1)
    s.rows = serves_rows(s)
    s.turned = not s.rows and serves_turned(s)
    if s.turned:
        prepare_turned(s)
    cdef ptrdiff_t mean = (cnp.PyArray_NBYTES(x) + cnp.PyArray_NBYTES(y)) // 2
    if channels_last:  # all of x is read for its copy, for one gradient and for the other: if the caches hold it, it stays there
        s.past = training and goes_by_rows(s) and stored_past(mean, s.y.place_stride[1])
        s.keep_past = stored_past(mean, s.x.place_stride[1])
        if not s.rows:
            s.apart_bytes = bytes_of_band(s) if s.past else 0
    return team_size(work, 1, s.N * s.x.channels)


cdef void share_ways(Call *weights, Call *maps) noexcept nogil:
    """Both gradients of a map are computed the same way."""
    if weights.rows != maps.rows:
        weights.rows, weights.turned = False, serves_turned(weights)
        if weights.turned:
            prepare_turned(weights)
    maps.rows, maps.turned = weights.rows, weights.turned
    if maps.turned:
        prepare_turned(maps)


cdef Block scratch_for(Call *s, int size, ptrdiff_t more):
    cdef ptrdiff_t bytes = s.map_bytes + s.apart_bytes + s.joined_bytes + (s.taps * s.lanes * s.itemsize if s.turned else 0)
    s.scratch_bytes = ceil_div(bytes + s.taps * (2 * <ptrdiff_t> sizeof(ptrdiff_t) + s.itemsize) + more, 4096) * 4096 + 64
    cdef ptrdiff_t entries = entries_of_places(s.axis) + (places_of_band(s) if s.turned else 0)
    cdef Block scratch = new_block(size * s.scratch_bytes + entries * <ptrdiff_t> sizeof(ptrdiff_t))
    cdef ptrdiff_t *tables = <ptrdiff_t *> (scratch.data + size * s.scratch_bytes)
    s.scratch = scratch.data
    if s.turned:
        fill_turned(s, tables)
    else:
        fill_places(s.axis, s.x.place_stride, False, tables, &s.places)
    return scratch


cdef object turned(cnp.ndarray array, ptrdiff_t multiplier, ptrdiff_t width):
    """(channels * multiplier, ...) as (multiplier, ..., channels), with zeros to whole vectors."""
    if array is None:
        return None
    cdef ptrdiff_t channels = array.shape[0] // multiplier
    padded = np.zeros((multiplier, array.size // array.shape[0], ceil_div(channels, width) * width), array.dtype)
    padded[:, :, :channels] = array.reshape(channels, multiplier, -1).transpose(1, 2, 0)
    return padded


cdef cnp.ndarray with_channels(cnp.ndarray maps, ptrdiff_t channels):
    """Memory for as many pixels of so many channels, which lie last."""
    return empty((maps.shape[0], maps.shape[1], maps.shape[2], maps.shape[3], channels), maps.dtype)


cdef cnp.ndarray repeated_for(cnp.ndarray x, ptrdiff_t channels):
    """x with each channel, which lie last, once for each of its maps; x itself if it has no more than one."""
    if x.shape[4] == channels:
        return x
    cdef cnp.ndarray repeated = with_channels(x, channels)
    repeat_channels(x, repeated)
    return repeated


@cython.final
cdef class DepthwiseKernels:
    """Weights of a convolution with one channel in each group: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (K, 1, ...), C-contiguous, of five axes
    bias, gain : (K,) or None
    channels_last : bool
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef readonly bint channels_last
    cdef cnp.ndarray weight, bias, gain
    cdef tuple turned  # the three with the channels last; None until they are needed

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray gain, bint channels_last):
        self.itemsize, self.dtype, self.channels_last = weight.itemsize, weight.dtype, channels_last
        self.kernels = kernels_for(self.itemsize)
        rows = weight.reshape(weight.shape[0], -1)
        self.weight = (rows.T if channels_last else rows).copy()
        self.bias, self.gain = bias, gain

    cdef void take(self, Call *s, int activation, bint scaled):
        """The weights for a call that is prepared."""
        cdef cnp.ndarray weight = self.weight, bias = self.bias, gain = self.gain if scaled else None
        if s.turned and not s.channels_last:
            if self.turned is None:
                self.turned = tuple(turned(array, s.x_maps * s.y_maps, s.kernels.width)
                                    for array in (self.weight, self.bias, self.gain))
            weight, bias = self.turned[0], self.turned[1]
            gain = self.turned[2] if scaled else None
            s.tap_channels = weight.shape[weight.ndim - 1]
        s.weight = <char *> cnp.PyArray_DATA(weight)
        s.bias = NULL if bias is None else <char *> cnp.PyArray_DATA(bias)
        s.gain = NULL if gain is None else <char *> cnp.PyArray_DATA(gain)
        s.activation = activation

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled, cnp.ndarray kept=None, bint training=False):
        """y = gain * act(bias + the sums), both C-contiguous and of five axes; the gain only if `scaled`.

        If x has more channels than y, each map of y adds up those of x that belong to it. kept becomes a copy of x. In training
        it takes long before y is read again; with `kept` it is always meant.
        """
        cdef Call s
        if cnp.PyArray_SIZE(y) == 0:
            return
        if channels_last and x.shape[4] != y.shape[4]:
            self.run_several(x, y, windows, activation, scaled, training)
            if kept is not None:
                kept[...] = x
            return
        s.kernels = self.kernels
        cdef int size = prepare(&s, x, y, windows, channels_last, training or kept is not None)
        self.take(&s, activation, scaled)
        s.kept = NULL if kept is None or channels_last and not goes_by_rows(&s) else <char *> cnp.PyArray_DATA(kept)
        cdef Block _scratch = scratch_of_rows(&s, size, False) if s.rows else scratch_for(&s, size, 0)
        with nogil:
            if s.rows:
                run_team(share_of_sweeps if channels_last else share_of_rows, &s, size)
            else:
                run_team(share_of_turned if s.turned else share_of_pixels if channels_last else share_of_maps, &s, size)
        if kept is not None and s.kept == NULL:
            kept[...] = x

    cdef run_several(self, cnp.ndarray x, cnp.ndarray y, Windows windows, int activation, bint scaled, bint training):
        """The same with the channels last where several maps of y belong to a channel of x, or of x to one of y, without bias."""
        cdef cnp.ndarray sums = y
        if y.shape[4] < x.shape[4]:
            sums = with_channels(y, x.shape[4])
        self.run(repeated_for(x, sums.shape[4]), sums, windows, True, activation, scaled, None, training)
        if sums is not y:
            sum_of_maps(sums, y)


def add_depthwise_gradient(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray grad not None, Windows windows not None,
                           bint channels_last, cnp.ndarray bias_grad=None, DepthwiseKernels back=None, cnp.ndarray dx=None,
                           Windows windows_back=None):
    """grad (K, 1, *kernel) += the gradient of the weights.

    Channels first alone: bias_grad (K,) += the sum of each map of dy; and dx becomes the gradient of x, if it is given with its
    windows and the weights; it may be x. dy is read once for all of them.
    """
    cdef Both both
    cdef Call *s = &both.weights
    cdef Block _scratch, _more
    if cnp.PyArray_SIZE(dy) == 0:
        if dx is not None:
            dx.fill(0)
        return
    s.kernels = kernels_for(dy.itemsize)
    if channels_last:
        x = repeated_for(x, dy.shape[4])
    cdef int size = prepare(s, x, dy, windows, channels_last, True)
    size = min(size, <int> s.x.channels)
    s.grad = <char *> cnp.PyArray_DATA(grad)
    s.bias_grad = NULL if bias_grad is None else <char *> cnp.PyArray_DATA(bias_grad)
    both.with_maps, both.maps.band, both.maps.axis = dx is not None and cnp.PyArray_SIZE(dx) > 0, 0, windows.axis
    if both.with_maps:
        both.maps.kernels = s.kernels
        prepare(&both.maps, dy, dx, windows_back, False, True)
        share_ways(s, &both.maps)
        if both.maps.y.data == s.x.data:  # each map comes in place of one that was just read
            both.maps.past = False
        back.take(&both.maps, FR_NONE, False)
        _more = scratch_of_rows(&both.maps, size, False) if s.rows else scratch_for(&both.maps, size, 0)
    if channels_last:
        s.turned, s.map_bytes, s.apart_bytes, s.joined_bytes = False, 0, 0, 0
    _scratch = scratch_of_rows(s, size, True) if s.rows else scratch_for(
        s, size, s.taps * s.y.channels * s.itemsize if channels_last else
        s.taps * s.y_maps * s.kernels.width * s.itemsize if s.turned else 0)
    with nogil:
        if s.rows:
            run_team(share_of_sweep_gradients if channels_last else share_of_row_gradients, &both, size)
        elif channels_last:
            run_team(share_of_pixel_gradients, s, size)
        elif s.turned:
            run_team(share_of_turned_gradients, &both, size)
        else:
            run_team(share_of_map_gradients, &both, size)
