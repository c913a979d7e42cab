"""A transposed convolution to few maps, the gradient of the input of a first layer among them.

Its columns would be a few maps in vectors made for many. So each pixel is multiplied with the weights of all taps and maps at
once, and what comes out, a stretch for each row of the kernel, is added to where it belongs. Names are those of the gradient of
x: from da of K maps to dx of C. Workspace of a thread: BAND_BYTES for da with the channels last, and what comes of it, or what one
row of dx needs, if that is more.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastrnn._kernels._band cimport Band, Maps, fill_band
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_gemm, fr_kernels, fr_turn, kernels_for
from fastrnn._kernels._gemm cimport ceil_div, gemm_columns, pack_plain
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Range, Taps

import numpy as np

cnp.import_array()

cdef ptrdiff_t BAND_BYTES = 512 << 10


cdef struct Call:
    const fr_kernels *kernels
    int itemsize
    Maps da, dx
    Axis same[3]                    # of a kernel of one tap over the gradient
    ptrdiff_t N, K, C, taps
    ptrdiff_t kernel[2]
    ptrdiff_t stride[2]
    ptrdiff_t low[2]
    ptrdiff_t dilation              # of the rows; that of the columns is 1
    ptrdiff_t counts[2]
    ptrdiff_t sizes[2]
    ptrdiff_t rows                  # of the input, in one box
    char *packed
    char *bias                      # [C], NULL: zero
    int activation
    char *scratch
    ptrdiff_t scratch_bytes, band_bytes, product_bytes


cdef Range rows_seen(const Call *s, Range rows) noexcept nogil:
    """The rows of the gradient that have a tap in these rows of the input."""
    cdef Range seen
    cdef ptrdiff_t first = rows.first + s.low[0] - s.dilation * (s.kernel[0] - 1), last = rows.end - 1 + s.low[0]
    seen.first = ceil_div(first, s.stride[0]) if first > 0 else 0
    seen.end = min(s.counts[0], last // s.stride[0] + 1) if last >= 0 else 0
    seen.end = max(seen.first, seen.end)
    return seen


cdef void scatter(const Call *s, Range rows, Range seen, const char *products, char *sums) noexcept nogil:
    """sums [row][place][channel] += the stretches; those of neighbours, which overlap, are kept apart in time."""
    cdef ptrdiff_t columns = s.taps * s.C, o, r, row, first, turns = ceil_div(s.kernel[1], s.stride[1]), place_row = row_length(s)
    for o in range(seen.first, seen.end):
        for r in range(s.kernel[0]):
            row = o * s.stride[0] + r * s.dilation - s.low[0]
            if row < rows.first or row >= rows.end:
                continue
            for first in range(min(turns, s.counts[1])):
                s.kernels.add_stretches(
                    ceil_div(s.counts[1] - first, turns), s.kernel[1] * s.C,
                    products + (((o - seen.first) * s.counts[1] + first) * columns + r * s.kernel[1] * s.C) * s.itemsize,
                    turns * columns,
                    sums + ((row - rows.first) * place_row + first * s.stride[1] * s.C) * s.itemsize, turns * s.stride[1] * s.C)


cdef void start_rows(Call *s, ptrdiff_t rows, char *sums) noexcept nogil:
    """Rows of sums begin with the bias of each channel, which takes its turn."""
    cdef ptrdiff_t length = row_length(s) * s.itemsize, one = s.C * s.itemsize, row, place
    if s.bias == NULL:
        memset(sums, 0, rows * length)
        return
    for place in range(length // one):
        memcpy(sums + place * one, s.bias, one)
    for row in range(1, rows):
        memcpy(sums + row * length, sums, length)


cdef inline ptrdiff_t row_length(const Call *s) noexcept nogil:
    """A row of sums has all places that a window may cover, from `low` before the map on."""
    return max((s.counts[1] - 1) * s.stride[1] + s.kernel[1], s.low[1] + s.sizes[1]) * s.C


cdef void share_of_input(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t parts = ceil_div(s.sizes[0], s.rows), items = s.N * parts, item, n
    cdef char *memory = s.scratch + member * s.scratch_bytes
    cdef char *products = memory + s.band_bytes
    cdef char *sums = products + s.product_bytes
    cdef Range rows, seen
    cdef Range box[4]
    cdef Band band
    cdef fr_gemm product
    cdef fr_turn turn
    memset(&product, 0, sizeof(product))
    product.runs, product.columns = 1, s.taps * s.C
    product.run[0].row_stride, product.run[0].k_stride, product.run[0].segments, product.run[0].length = s.K, 1, 1, s.K
    product.run[0].b, product.run[0].b_stride = s.packed, FR_SLOTS * s.kernels.width
    product.run[0].panel_stride = s.K * product.run[0].b_stride
    product.c, product.c_row_stride, product.c_panel_stride = products, s.taps * s.C, FR_SLOTS * s.kernels.width
    turn.activation, turn.gain = s.activation, NULL
    for item in range(first_of(items, member, team.size), first_of(items, member + 1, team.size)):
        n = item // parts
        rows.first, rows.end = item % parts * s.rows, min(s.sizes[0], (item % parts + 1) * s.rows)
        seen = rows_seen(s, rows)
        start_rows(s, rows.end - rows.first, sums)
        if seen.end > seen.first:
            box[0].first, box[0].end, box[1].first, box[1].end = n, n + 1, 0, 1
            box[2], box[3].first, box[3].end = seen, 0, s.counts[1]
            fill_band(s.kernels, s.itemsize, s.same, &s.da, 0, s.K, box, memory, &band)
            product.run[0].a, product.rows = memory, (seen.end - seen.first) * s.counts[1]
            gemm_columns(s.kernels, s.itemsize, &product)
            scatter(s, rows, seen, products, sums)
        turn.rows, turn.columns = s.sizes[1], s.C
        turn.src_stride = s.C
        while rows.first < rows.end:
            turn.src = sums + s.low[1] * s.C * s.itemsize
            turn.dst = s.dx.data + (n * s.dx.batch_stride + rows.first * s.dx.place_stride[1]) * s.itemsize
            if s.dx.channel_stride == 1:
                turn.dst_stride = s.dx.place_stride[2]
                s.kernels.keep(&turn)
            else:
                turn.dst_stride = s.dx.channel_stride
                s.kernels.turn(&turn)
            sums += row_length(s) * s.itemsize
            rows.first += 1
        sums = products + s.product_bytes


@cython.final
cdef class StretchKernels:
    """Packed weights: an immutable snapshot, for one instruction set.

    Parameters
    ----------
    weight : (K, C, 1, R, S), C-contiguous, taps in the order in which they are met
    bias : (C,), C-contiguous, or None
    stride, dilation, low : three each, as everywhere; the dilation of the last axis is 1
    """

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly object dtype
    cdef Block packed
    cdef cnp.ndarray bias
    cdef Taps one
    cdef ptrdiff_t K, C
    cdef ptrdiff_t kernel[2]
    cdef ptrdiff_t stride[2]
    cdef ptrdiff_t low[2]
    cdef ptrdiff_t dilation

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, stride, dilation, low):
        cdef cnp.ndarray rows
        cdef int a
        self.itemsize, self.dtype = weight.itemsize, weight.dtype
        self.kernels = kernels_for(self.itemsize)
        self.K, self.C = weight.shape[0], weight.shape[1]
        self.one, self.bias = Taps(1, 0, 1, 0, 1), bias
        self.dilation = dilation[1]
        for a in range(2):
            self.kernel[a], self.stride[a], self.low[a] = weight.shape[3 + a], stride[1 + a], low[1 + a]
        rows = np.ascontiguousarray(weight.reshape(self.K, self.C, -1).transpose(0, 2, 1))
        self.packed = pack_plain(self.kernels, self.itemsize, <const char *> cnp.PyArray_DATA(rows), self.K,
                                 self.C * self.kernel[0] * self.kernel[1])

    def run(self, cnp.ndarray da not None, cnp.ndarray dx not None, windows, bint channels_last, int activation, bint scaled):
        """dx = act(bias + the sums of da), both contiguous, of five axes; the windows are those of the weights, `scaled` False."""
        cdef Call s
        cdef ptrdiff_t a, values, most
        if cnp.PyArray_SIZE(dx) == 0:
            return
        s.kernels, s.itemsize, s.N, s.K, s.C, s.dilation = self.kernels, self.itemsize, da.shape[0], self.K, self.C, self.dilation
        describe_maps(da, channels_last, &s.da)
        describe_maps(dx, channels_last, &s.dx)
        for a in range(2):
            s.kernel[a], s.stride[a], s.low[a] = self.kernel[a], self.stride[a], self.low[a]
            s.counts[a], s.sizes[a] = da.shape[a + (2 if channels_last else 3)], dx.shape[a + (2 if channels_last else 3)]
        for a in range(3):
            s.same[a] = Axis(s.counts[a - 1] if a else 1, s.counts[a - 1] if a else 1, 1, 1, 1, 1, 0, &self.one)
        s.taps, s.packed, s.activation = s.kernel[0] * s.kernel[1], self.packed.data, activation
        s.bias = NULL if self.bias is None else <char *> cnp.PyArray_DATA(self.bias)
        values = s.counts[1] * (s.K + s.taps * s.C)  # that one row of the gradient brings
        s.rows = max(<ptrdiff_t> 1, BAND_BYTES // self.itemsize // max(values, <ptrdiff_t> 1)) * s.stride[0]
        s.rows = min(s.rows, s.sizes[0])
        cdef int size = team_size(product_time(cnp.PyArray_SIZE(da), s.taps, s.C), 1, s.N * s.sizes[0])
        while s.N * ceil_div(s.sizes[0], s.rows) < size and s.rows > 1:
            s.rows = ceil_div(s.rows, 2)
        most = (s.rows - 1 + s.dilation * (s.kernel[0] - 1)) // s.stride[0] + 1
        s.band_bytes = ceil_div(most * s.counts[1] * s.K * s.itemsize, 64) * 64
        s.product_bytes = ceil_div(most * s.counts[1] * s.taps * s.C * s.itemsize, 64) * 64
        s.scratch_bytes = ceil_div(s.band_bytes + s.product_bytes + s.rows * row_length(&s) * s.itemsize, 4096) * 4096 + 64
        cdef Block scratch = new_block(size * s.scratch_bytes)
        s.scratch = scratch.data
        with nogil:
            run_team(share_of_input, &s, size)
