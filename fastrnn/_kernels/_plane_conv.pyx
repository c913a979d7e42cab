"""Convolution with the channels first and the pixels in the lanes: no transposition of what goes in or comes out.

For a few rows of outputs, what they read of all channels is copied to a band [row][channel][place], padded, with places a stride
apart side by side; where nothing is outside and nothing skipped, the maps themselves serve. Then tiles of a few maps by four
vectors of pixels are summed in the order (tap, channel) of `_conv`, so that both give the same bits. It serves windows whose
outputs do not lie apart along a row: every forward pass, and gradients of the input of stride 1.

Workspace of a thread: a band of at most BAND_BYTES, or what one output row reads if that is more, and tables of 8 bytes a product
of one output and 16 a vector.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

import numpy as np

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport fr_kernels, fr_plane_conv, kernels_for
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._padding cimport pad_row
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Range, Taps, Windows, place_of, stays_inside, taps_of

cnp.import_array()

cdef ptrdiff_t BAND_BYTES = 512 << 10
cdef ptrdiff_t MOST_VECTORS = 256  # of one item of work


cdef struct Planes:
    # One call. An item of work is a few rows of outputs of one image and depth, and perhaps a part of the tiles of maps.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t groups, inputs, units, tiles, k
    char *weight
    char *bias
    char *gain
    int activation
    bint borrowed               # the maps are the band; rows are joined to one
    ptrdiff_t rows, columns     # of outputs
    ptrdiff_t blocks, row_blocks, parts
    ptrdiff_t part, places, row_step, depth_step  # of a band: elements
    char *scratch
    ptrdiff_t scratch_bytes, band_bytes


cdef void fill_offsets(const Planes *s, ptrdiff_t *offset) noexcept nogil:
    """Where tap and channel k of a window lies from the place of its first."""
    cdef const Taps *d = s.axis[0].taps
    cdef const Taps *h = s.axis[1].taps
    cdef const Taps *w = s.axis[2].taps
    cdef ptrdiff_t i, j, t, c, place, count = 0
    for i in range(d.count):
        for j in range(h.count):
            for t in range(w.count):
                place = t * w.pace
                for c in range(s.inputs):
                    if s.borrowed:
                        offset[count] = c * s.x.channel_stride
                    else:
                        offset[count] = (i * s.depth_step + j * h.pace * s.row_step + c * s.places
                                         + place % s.axis[2].step * s.part + place // s.axis[2].step)
                    count += 1


cdef void fill_rows(const Planes *s, ptrdiff_t n, ptrdiff_t depth, Range rows, char *band) noexcept nogil:
    """The band of some rows of outputs: all channels of each row of the input, for each tap of the depth."""
    cdef const Axis *axis = s.axis
    cdef const Taps *h_taps = axis[1].taps
    cdef const Taps *w_taps = axis[2].taps
    cdef ptrdiff_t d, h, c, from_d, from_h, count, size = s.places * s.itemsize, channels = s.groups * s.inputs
    cdef Range places
    cdef const char *row
    cdef char *to
    places.first = w_taps.offset
    places.end = places.first + (s.columns - 1) * axis[2].step + (w_taps.count - 1) * w_taps.pace + 1
    count = (rows.end - rows.first - 1) * axis[1].step + (h_taps.count - 1) * h_taps.pace + 1
    for d in range(axis[0].taps.count):
        from_d = place_of(&axis[0], depth * axis[0].step + axis[0].taps.offset + d * axis[0].taps.pace)
        for h in range(count):
            if h_taps.count == 1 and h % axis[1].step:
                continue
            from_h = place_of(&axis[1], rows.first * axis[1].step + h_taps.offset + h)
            to = band + (d * s.depth_step + h * s.row_step) * s.itemsize
            if from_d < 0 or from_h < 0:
                memset(to, 0, channels * size)
                continue
            row = s.x.data + (n * s.x.batch_stride + from_d * s.x.place_stride[0] + from_h * s.x.place_stride[1]) * s.itemsize
            for c in range(channels):
                pad_row(&axis[2], s.itemsize, row + c * s.x.channel_stride * s.itemsize, places, s.part, to + c * size)


cdef void fill_vectors(const Planes *s, ptrdiff_t row, ptrdiff_t first, ptrdiff_t end, ptrdiff_t *from_,
                       ptrdiff_t *to) noexcept nogil:
    """Where vectors first..end-1 of the rows from number `row` on start in the band and in the maps of y; the last of a row may
    overlap the one before."""
    cdef ptrdiff_t width = s.kernels.width, across = ceil_div(s.columns, width), last = max(<ptrdiff_t> 0, s.columns - width), v, at
    for v in range(first, end):
        at = min(v % across * width, last)
        from_[v - first] = at if s.borrowed else v // across * s.axis[1].step * s.row_step + at
        to[v - first] = (row + v // across) * s.columns + at


cdef void multiply_rows(const Planes *s, ptrdiff_t n, ptrdiff_t depth, Range rows, const char *band, fr_plane_conv *g,
                        ptrdiff_t *from_, ptrdiff_t *to) noexcept nogil:
    """All groups of the tiles in `g`, a table of vectors at a time."""
    cdef ptrdiff_t vectors = (rows.end - rows.first) * ceil_div(s.columns, s.kernels.width), first = 0, group, unit
    while first < vectors:
        g.vectors = min(MOST_VECTORS, vectors - first)
        fill_vectors(s, rows.first, first, first + g.vectors, from_, to)
        for group in range(s.groups):
            if s.borrowed:
                g.x = s.x.data + (n * s.x.batch_stride + group * s.inputs * s.x.channel_stride) * s.itemsize
            else:
                g.x = band + group * s.inputs * s.places * s.itemsize
            unit = group * s.units
            g.weight = s.weight + unit * s.k * s.itemsize
            g.bias = NULL if s.bias == NULL else s.bias + unit * s.itemsize
            g.gain = NULL if s.gain == NULL else s.gain + unit * s.itemsize
            g.y = s.y.data + (n * s.y.batch_stride + unit * s.y.channel_stride + depth * s.y.place_stride[0]) * s.itemsize
            s.kernels.plane_conv(g)
        first += g.vectors


cdef void share_of_planes(void *work, Team *team, int member) noexcept nogil:
    """Items (image, depth, rows, part of the tiles), in this order; a band serves the parts that follow each other."""
    cdef Planes *s = <Planes *> work
    cdef ptrdiff_t *offset = <ptrdiff_t *> (s.scratch + member * s.scratch_bytes)
    cdef ptrdiff_t *from_ = offset + s.k
    cdef ptrdiff_t *to = from_ + MOST_VECTORS
    cdef char *band = <char *> (to + MOST_VECTORS)
    cdef ptrdiff_t items = s.blocks * s.parts, depths = 1 if s.borrowed else s.axis[0].count, item, block, n, depth, filled = -1
    cdef int part
    cdef Range rows
    cdef fr_plane_conv g
    fill_offsets(s, offset)
    if s.columns < s.kernels.width:  # lanes past a row are computed too; what memory holds might be slow to compute with
        memset(band, 0, s.band_bytes)
    g.units, g.taps, g.lanes = s.units, s.k, min(s.columns, <ptrdiff_t> s.kernels.width)
    g.offset, g.from_, g.to, g.activation, g.y_stride = offset, from_, to, s.activation, s.y.channel_stride
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        block, part = item // s.parts, <int> (item % s.parts)
        n, depth = block // s.row_blocks // depths, block // s.row_blocks % depths
        rows.first = first_of(s.rows, <int> (block % s.row_blocks), <int> s.row_blocks)
        rows.end = first_of(s.rows, <int> (block % s.row_blocks) + 1, <int> s.row_blocks)
        if block != filled and not s.borrowed:
            fill_rows(s, n, depth, rows, band)
        filled = block
        g.first_tile, g.end_tile = first_of(s.tiles, part, <int> s.parts), first_of(s.tiles, part + 1, <int> s.parts)
        multiply_rows(s, n, depth, rows, band, &g, from_, to)


def lanes(ptrdiff_t itemsize):
    """How many pixels of a row are summed together."""
    return kernels_for(<int> itemsize).width


@cython.final
cdef class PlaneKernels:
    """Weights of a convolution, for `run` over maps with the channels first: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (groups * outputs, inputs, ...) or, if `turned`, (groups * inputs, outputs, ...), of five axes
    bias, gain : of all maps, or None
    windows : whose outputs of a row are neighbours; over maps of any size
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef ptrdiff_t groups, inputs, units
    cdef cnp.ndarray weight, bias, gain

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray gain, ptrdiff_t groups, bint turned,
                 Windows windows not None):
        self.itemsize, self.dtype, self.groups, self.bias, self.gain = weight.itemsize, weight.dtype, groups, bias, gain
        self.kernels = kernels_for(self.itemsize)
        taps = [np.arange(windows.axis[a].taps.count) * windows.axis[a].taps.stride + windows.axis[a].taps.first for a in range(3)]
        rows = weight.reshape(groups, weight.shape[0] // groups, *(<object> weight).shape[1:])
        rows = np.moveaxis(rows, 1, 2) if turned else rows  # (groups, units, inputs, *kernel)
        self.units, self.inputs = rows.shape[1], rows.shape[2]
        ordered = rows[:, :, :, taps[0][:, None, None], taps[1][:, None], taps[2]]
        ordered = np.moveaxis(ordered, 2, -1).reshape(groups, self.units, -1)  # (groups, units, k)
        tiles = ceil_div(self.units, self.kernels.tile_rows)
        height, taller = divmod(self.units, tiles)
        split = taller * (height + 1)
        self.weight = np.empty((groups, self.units * ordered.shape[2]), self.dtype)
        for first, end, rows_of in ((0, split, height + 1), (split, self.units, height)):
            part = ordered[:, first:end].reshape(groups, -1, rows_of, ordered.shape[2]).swapaxes(2, 3)
            self.weight[:, first * ordered.shape[2]:end * ordered.shape[2]] = part.reshape(groups, -1)

    def run(self, cnp.ndarray x not None, cnp.ndarray y not None, Windows windows not None, bint channels_last, int activation,
            bint scaled):
        """y = gain * act(bias + the sums), both C-contiguous and of five axes, channels first; the gain only if `scaled`."""
        cdef Planes s
        cdef Axis *axis = windows.axis
        cdef ptrdiff_t width = self.kernels.width, N = x.shape[0], most, reach, row_bytes
        if cnp.PyArray_SIZE(y) == 0:
            return
        assert not channels_last
        s.kernels, s.itemsize, s.axis = self.kernels, self.itemsize, axis
        describe_maps(x, False, &s.x)
        describe_maps(y, False, &s.y)
        s.groups, s.inputs, s.units = self.groups, self.inputs, self.units
        s.tiles, s.k = ceil_div(self.units, self.kernels.tile_rows), self.inputs * taps_of(axis)
        s.weight = <char *> cnp.PyArray_DATA(self.weight)
        s.bias = NULL if self.bias is None else <char *> cnp.PyArray_DATA(self.bias)
        s.gain = <char *> cnp.PyArray_DATA(self.gain) if scaled and self.gain is not None else NULL
        s.activation = activation
        s.rows, s.columns = axis[1].count, axis[2].count
        s.borrowed = serves_as_band(axis) and s.y.channel_stride >= width
        if s.borrowed:
            s.rows, s.columns = 1, s.y.channel_stride
        cdef ptrdiff_t outer = N * (1 if s.borrowed else axis[0].count)
        s.part = max(s.columns, width) + (axis[2].taps.count - 1) * axis[2].taps.pace // axis[2].step
        s.places = s.part * axis[2].step
        s.row_step = s.places * s.groups * s.inputs
        reach = (axis[1].taps.count - 1) * axis[1].taps.pace + 1
        row_bytes = axis[0].taps.count * s.row_step * s.itemsize
        most = max(<ptrdiff_t> 1, (BAND_BYTES // row_bytes - reach) // axis[1].step + 1)
        most = min(most, max(<ptrdiff_t> 1, MOST_VECTORS // ceil_div(s.columns, width)), s.rows)
        s.row_blocks = ceil_div(s.rows, most)
        s.depth_step = ((ceil_div(s.rows, s.row_blocks) - 1) * axis[1].step + reach) * s.row_step
        s.blocks = outer * s.row_blocks
        s.band_bytes = 0 if s.borrowed else ceil_div(axis[0].taps.count * s.depth_step * s.itemsize, 64) * 64
        cdef double work = product_time(<double> outer * s.rows * s.columns * s.groups, s.k, s.units)
        cdef int size = team_size(work, 1, s.blocks * s.tiles)
        s.parts = 1 if s.blocks >= size else min(s.tiles, <ptrdiff_t> size)
        s.scratch_bytes = ceil_div((s.k + 2 * MOST_VECTORS) * sizeof(ptrdiff_t) + s.band_bytes + 64, 4096) * 4096 + 64
        cdef Block scratch = new_block(size * s.scratch_bytes)
        s.scratch = scratch.data
        with nogil:
            run_team(share_of_planes, &s, size)


cdef bint serves_as_band(const Axis *axis) noexcept nogil:
    """Whether each output is a sum over the channels of the one place that lies where it does."""
    cdef int a
    for a in range(3):
        if axis[a].taps.count != 1 or axis[a].step != 1 or axis[a].count != axis[a].source or not stays_inside(&axis[a]):
            return False
    return True
