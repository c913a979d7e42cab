"""Gradients of many weights from few places: products that end in the gradient as it lies.

What the windows see of some channels is laid out as a row of columns for each window, [channel][tap], the order of the weights in
memory. The gradient is then a product over the windows, added to where it belongs,

    grad [K][C taps] += dy [K][windows] columns [windows][C taps]

a few rows at a time, from their first column to the last, since a large gradient lies in memory and is read and written once.
Threads share the channels. Workspace of a thread: COLUMN_BYTES for columns, or those of one panel for MOST_WINDOWS windows or one
sample; and 24 bytes for each window and row of the kernel.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._conv cimport describe_maps
from fastrnn._kernels._dispatch cimport FR_SLOTS, fr_columns, fr_gemm, fr_kernels, fr_span, kernels_for
from fastrnn._kernels._gemm cimport ceil_div, gemm_columns
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size
from fastrnn._kernels._windows cimport Axis, Windows

cnp.import_array()

cdef ptrdiff_t COLUMN_BYTES = 384 << 10
cdef ptrdiff_t MOST_WINDOWS = 512


cdef struct Gradient:
    const fr_kernels *kernels
    int itemsize
    Maps dy, x
    ptrdiff_t N, K, C, taps
    ptrdiff_t part              # channels at a time
    ptrdiff_t samples           # at a time
    fr_columns columns          # of one sample, but for the channels and where they lie
    char *grad                  # [K][C][taps]
    bint fresh                  # grad holds nothing yet
    char *scratch
    ptrdiff_t scratch_bytes


cdef void fill_spans(const Axis *axis, fr_span *span) noexcept nogil:
    """Which places of a map the windows see, row by row of the kernel."""
    cdef ptrdiff_t o_d, o_h, o_w, r, s, d, h, w
    for o_d in range(axis[0].count):
        for o_h in range(axis[1].count):
            for o_w in range(axis[2].count):
                w = o_w * axis[2].step + axis[2].taps[0].offset
                for r in range(axis[0].kernel):
                    d = o_d * axis[0].step + axis[0].taps[0].offset + r * axis[0].taps[0].pace
                    for s in range(axis[1].kernel):
                        h = o_h * axis[1].step + axis[1].taps[0].offset + s * axis[1].taps[0].pace
                        span.at = (d * axis[1].source + h) * axis[2].source + w
                        span.first, span.end = max(<ptrdiff_t> 0, -w), min(axis[2].kernel, axis[2].source - w)
                        if not (0 <= d < axis[0].source and 0 <= h < axis[1].source) or span.end < span.first:
                            span.first = span.end = 0
                        span += 1


cdef inline ptrdiff_t row_of_columns(const Gradient *g, ptrdiff_t columns) noexcept nogil:
    """Whole lines, an odd number of them: rows then fall into all sets of the caches."""
    cdef ptrdiff_t line = max(<ptrdiff_t> 64 // g.itemsize, g.kernels.width)
    return (ceil_div(columns, line) | 1) * line


cdef void take_columns(const Gradient *g, ptrdiff_t n, ptrdiff_t samples, ptrdiff_t channel, ptrdiff_t channels,
                       char *memory) noexcept nogil:
    """The columns of some channels of some samples; what a product reads past them is zero."""
    cdef fr_columns columns = g.columns
    cdef ptrdiff_t row, width = channels * g.taps, whole = width // g.kernels.width * g.kernels.width
    columns.channels, columns.columns = channels, memory
    for row in range(samples * columns.windows if whole < width else 0):
        memset(memory + (row * columns.column_stride + whole) * g.itemsize, 0, g.kernels.width * g.itemsize)
    for n in range(n, n + samples):
        columns.map = g.x.data + (n * g.x.batch_stride + channel * g.x.channel_stride) * g.itemsize
        g.kernels.take_columns(&columns)
        columns.columns = <char *> columns.columns + columns.windows * columns.column_stride * g.itemsize


cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil:
    cdef Gradient *g = <Gradient *> work
    cdef ptrdiff_t parts = ceil_div(g.C, g.part), item, channel, channels, n, k, rows = g.kernels.tile_rows
    cdef char *memory = g.scratch + member * g.scratch_bytes
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.runs, product.c_row_stride = 1, g.C * g.taps
    product.c_panel_stride = product.run[0].panel_stride = FR_SLOTS * g.kernels.width
    product.run[0].row_stride, product.run[0].k_stride, product.run[0].segment_stride = g.dy.channel_stride, 1, g.dy.batch_stride
    product.run[0].length, product.run[0].b, product.run[0].b_stride = g.columns.windows, memory, g.columns.column_stride
    for item in range(first_of(parts, member, team.size), first_of(parts, member + 1, team.size)):
        channel, n = item * g.part, 0
        channels = min(g.part, g.C - channel)
        product.columns = channels * g.taps
        while n < g.N:
            product.run[0].segments, product.add = min(g.samples, g.N - n), n > 0 or not g.fresh
            take_columns(g, n, product.run[0].segments, channel, channels, memory)
            k = 0
            while k < g.K:
                product.rows = min(rows, g.K - k)
                product.run[0].a = g.dy.data + (n * g.dy.batch_stride + k * g.dy.channel_stride) * g.itemsize
                product.c = g.grad + (k * g.C + channel) * g.taps * g.itemsize
                gemm_columns(g.kernels, g.itemsize, &product)
                k += rows
            n += g.samples


def add_weight_by_columns(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray grad not None, Windows windows not None,
                          bint fresh=False):
    """grad += the gradient of the weights of a correlation with these windows, from dy, the gradient of its sums; = if `fresh`.

    All C-contiguous, of five axes and channels first; grad (K, C, *kernel). The border is of zeros, and taps of the last axis are
    neighbours.
    """
    cdef Gradient g
    cdef Axis *axis = windows.axis
    cdef ptrdiff_t places
    cdef int size
    if cnp.PyArray_SIZE(dy) == 0:
        if fresh:
            memset(cnp.PyArray_DATA(grad), 0, cnp.PyArray_NBYTES(grad))
        return
    g.fresh = fresh
    g.itemsize = dy.itemsize
    g.kernels = kernels_for(g.itemsize)
    describe_maps(dy, False, &g.dy)
    describe_maps(x, False, &g.x)
    g.N, g.K, g.C, g.grad = dy.shape[0], dy.shape[1], x.shape[1], <char *> cnp.PyArray_DATA(grad)
    g.columns.windows = axis[0].count * axis[1].count * axis[2].count
    g.columns.rows, g.columns.width, g.columns.map_stride = axis[0].kernel * axis[1].kernel, axis[2].kernel, g.x.channel_stride
    g.taps = g.columns.rows * g.columns.width
    g.samples = min(g.N, max(<ptrdiff_t> 1, MOST_WINDOWS // g.columns.windows))
    places = g.samples * g.columns.windows
    size = team_size(product_time(g.K, places, g.C * g.taps), ceil_div(g.N, g.samples), g.C)
    g.part = max(COLUMN_BYTES // g.itemsize // places, FR_SLOTS * g.kernels.width) // g.taps
    g.part = max(<ptrdiff_t> 1, min(g.part, ceil_div(g.C, size)))
    g.columns.column_stride = row_of_columns(&g, g.part * g.taps)
    g.scratch_bytes = ceil_div(places * g.columns.column_stride * g.itemsize, 4096) * 4096 + 64
    cdef Block scratch = new_block(size * g.scratch_bytes)
    cdef Block spans = new_block(g.columns.windows * g.columns.rows * sizeof(fr_span))
    g.scratch, g.columns.seen = scratch.data, <fr_span *> spans.data
    fill_spans(axis, <fr_span *> spans.data)
    with nogil:
        run_team(share_of_gradient, &g, size)
