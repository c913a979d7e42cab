"""Pooling over windows of maps: where the windows lie, and rows shared out over a team."""

cimport cython
cimport numpy as cnp

from fastrnn._kernels._dispatch cimport (
    FR_PAST_BYTES, FR_POOL_MAX, FR_POOL_MIN, FR_POOL_PLACES, FR_POOL_SUM, FR_POOL_TURNED, FR_POOL_UNEVEN, fr_kernels, fr_pool,
    fr_pool_axis, kernels_for,
)
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._norm cimport stored_past
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

MAX, MIN, SUM = FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM
BYTE_PLACES = FR_POOL_PLACES  # windows of more places keep their taps in int32

# Maps of more places than that are joined faster along their rows.
cdef ptrdiff_t JOIN_TURNED = 256

# Windows that fill maps side by side and have so many columns are faster each by itself than picked from those of stride 1.
cdef ptrdiff_t JOIN_TILE = 12
cdef ptrdiff_t SELECT_TILE = 6
cdef ptrdiff_t SPREAD_TILE = 3

# Of dx on its way past the caches. Pieces are larger than the first level, as each clears buffers of its kernel.
cdef ptrdiff_t BAND_BYTES = 96 << 10

cdef double NANOSECONDS_PER_ELEMENT = 0.08  # moved, or met by a window: those of many rows are joined row by row
cdef ptrdiff_t MOST_MET = 9
cdef double NANOSECONDS_PER_POSITION = 0.5
cdef ptrdiff_t NO_PLACE = -(<ptrdiff_t> 1 << 62)


cdef bint fills_maps(const fr_pool_axis *a) noexcept nogil:
    """Whether one window, without padding or dilation, is all of a map."""
    cdef int i
    for i in range(3):
        if a[i].out != 1 or a[i].kernel != a[i].size or a[i].padding or (a[i].dilation > 1 and a[i].size > 1):
            return False
    return True


@cython.final
cdef class Windows:
    """Where the windows of one pooling lie, for maps of one size, layout and element type.

    Parameters
    ----------
    axes : int64 array (3, 6)
        Size, windows, kernel, stride, padding and dilation of each axis; stride 0 divides the axis evenly.
    channels : int
        How many lie last; 0 for channels first.
    first : array (windows of the last axis,)
        The first tap of each window in the last axis that is in the map.
    divisors, factors : triples of arrays (windows of that axis,)
        A sum is divided by the product of divisors; its gradient is multiplied by the product of factors.
    exact : bool
        Whether a product with the factors is the quotient, to the bit.
    """

    def __init__(self, cnp.ndarray axes not None, ptrdiff_t channels, cnp.ndarray first not None, tuple divisors not None,
                 tuple factors not None, bint exact):
        cdef const cnp.int64_t *number = <const cnp.int64_t *> cnp.PyArray_DATA(axes)
        cdef int axis
        for axis in range(3):
            self.pool.axis[axis] = fr_pool_axis(number[0], number[1], number[2], number[3], number[4], number[5])
            self.pool.scale[axis] = cnp.PyArray_DATA(divisors[axis])
            self.factors[axis] = cnp.PyArray_DATA(factors[axis])
            number += 6
        self.tables = (first, divisors, factors)
        self.itemsize, self.exact = first.itemsize, exact
        self.pool.channels = 0 if channels == 1 else channels  # one channel lies last as it lies first
        self.single = channels == 1
        self.pool.first = cnp.PyArray_DATA(first)
        self.pool.wide = self.places() > FR_POOL_PLACES
        self.pool.whole = self.pool.channels == 0 and fills_maps(self.pool.axis)

    cdef ptrdiff_t places(self):
        return self.pool.axis[0].kernel * self.pool.axis[1].kernel * self.pool.axis[2].kernel

    cpdef object forward(self, int mode, cnp.ndarray x, cnp.ndarray y, cnp.ndarray taps):
        """Fill y, and the taps (uint8, or int32 for many places) of the values taken if they are wanted."""
        cdef const fr_kernels *kernels = kernels_for(self.itemsize)
        cdef Rows rows = self.rows_of(mode, x, y, taps)
        cdef ptrdiff_t row = self.pool.axis[2].out * max(self.pool.channels, 1)
        if mode == FR_POOL_SUM and self.exact and not self.pool.whole:
            self.multiply(&rows)
        cdef ptrdiff_t limit = FR_POOL_TURNED
        if taps is None:
            limit = 0 if self.has_quads() else JOIN_TURNED
        self.choose(&rows, x, self.pool.axis[0].out * self.pool.axis[1].out, limit, JOIN_TILE if taps is None else SELECT_TILE,
                    kernels.width)
        rows.kernel = kernels.pool_last if rows.whole.channels else kernels.pool
        rows.count = y.size // row if row else 0
        run(&rows, x.size + y.size * (1 + min(self.places(), MOST_MET)))

    cpdef object backward(self, int mode, cnp.ndarray dy, cnp.ndarray taps, cnp.ndarray dx):
        """Fill dx from dy and, unless the mode is SUM, from the taps."""
        cdef const fr_kernels *kernels = kernels_for(self.itemsize)
        cdef Rows rows = self.rows_of(mode, dy, dx, taps)
        cdef ptrdiff_t row = self.pool.axis[2].size * max(self.pool.channels, 1)
        if not self.pool.whole:
            self.multiply(&rows)
        self.choose(&rows, dx, self.pool.axis[0].size * self.pool.axis[1].size, FR_POOL_TURNED,
                    SPREAD_TILE if taps is None else SELECT_TILE, kernels.width)
        if rows.whole.axis[2].stride == 0 and taps is not None and not rows.whole.channels:
            rows.together = self.pool.axis[0].size * self.pool.axis[1].size
        rows.kernel = kernels.pool_last_backward if rows.whole.channels else kernels.pool_backward
        rows.count = dx.size // row if row else 0
        rows.length = row
        go_past(&rows, dx)
        run(&rows, dx.size + dy.size * (1 + min(self.places(), MOST_MET)))

    cdef void choose(self, Rows *rows, cnp.ndarray x, ptrdiff_t rows_of_map, ptrdiff_t limit, ptrdiff_t tile, int width):
        """How maps with the channels first are pooled. The way must not depend on the batch, nor on the team.

        Whole if one window is; turned if they have at most `limit` places, and a sample has enough of them; else windows that lie
        side by side, if they have at least `tile` columns, like windows of unequal sizes.
        """
        cdef const fr_pool_axis *a = self.pool.axis
        cdef ptrdiff_t places = a[0].size * a[1].size * a[2].size, windows = a[0].out * a[1].out * a[2].out
        cdef bint uneven = a[2].stride == 0
        cdef int axis
        rows.together = 1
        if self.pool.channels:
            return
        if self.pool.whole:
            rows.together = rows_of_map
            return
        if uneven:
            limit = FR_POOL_TURNED
        if (rows.whole.taps == NULL or not self.pool.wide) and 2 * (1 if self.single else cnp.PyArray_DIM(x, 1)) >= width:
            if max(places, windows) <= limit or (limit >= JOIN_TURNED and not uneven and self.falls_into_bands(width)):
                rows.whole.turned, rows.together = True, rows_of_map
                return
        if max(a[2].size, a[2].out) > FR_POOL_UNEVEN:
            rows.whole.channels = 1 if uneven else 0  # as of one channel that lies last
        elif a[2].kernel >= tile and self.has_tiles():
            for axis in range(3):
                rows.whole.axis[axis].stride = 0

    cdef bint has_tiles(self):
        """Whether windows lie side by side and fill the maps."""
        cdef const fr_pool_axis *a = self.pool.axis
        cdef int i
        for i in range(3):
            if a[i].stride != a[i].kernel or a[i].padding or a[i].dilation > 1 or a[i].out * a[i].kernel != a[i].size:
                return False
        return True

    cdef bint has_quads(self):
        """Whether windows are the squares of two by two places that lie side by side: such rows are fast unless very short."""
        cdef const fr_pool_axis *a = self.pool.axis
        return (a[0].size == 1 and a[0].out == 1 and a[1].kernel == 2 and a[1].stride == 2 and a[2].kernel == 2 and a[2].stride == 2
                and max(a[1].padding, a[2].padding) == 0 and a[1].dilation * a[2].dilation == 1
                and 2 * a[1].out <= a[1].size and 2 * a[2].out <= a[2].size)

    cdef bint falls_into_bands(self, int width):
        """Whether large maps can be turned too, where vectors along rows would leave lanes empty or pick elements one by one."""
        cdef const fr_pool_axis *H = &self.pool.axis[1]
        cdef const fr_pool_axis *W = &self.pool.axis[2]
        cdef ptrdiff_t span = (H.kernel - 1) * H.dilation + 1
        return (self.pool.axis[0].size == 1 and self.pool.axis[0].out == 1 and (W.stride > 2 or 2 * W.out <= width)
                and (span + max(span, H.stride)) * max(W.size, W.out) <= FR_POOL_TURNED)

    cdef void multiply(self, Rows *rows):
        cdef int axis
        rows.whole.factors = 1
        for axis in range(3):
            rows.whole.scale[axis] = self.factors[axis]

    cdef Rows rows_of(self, int mode, cnp.ndarray x, cnp.ndarray y, cnp.ndarray taps):
        cdef Rows rows
        rows.whole, rows.kernels, rows.itemsize, rows.piece = self.pool, kernels_for(self.itemsize), self.itemsize, 0
        rows.whole.mode, rows.whole.turned, rows.whole.far = mode, False, cnp.PyArray_NBYTES(x) > FR_PAST_BYTES
        rows.whole.x, rows.whole.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
        rows.whole.taps = NULL if taps is None else cnp.PyArray_DATA(taps)
        return rows

    def positions(self, cnp.ndarray taps not None, cnp.ndarray indices not None):
        """Fill indices (int64) with the flat position in its map of each tap, -1 for no place."""
        cdef Positions work
        cdef ptrdiff_t row = self.pool.axis[2].out * max(self.pool.channels, 1)
        cdef ptrdiff_t rows = indices.size // row if row else 0
        work.pool = self.pool
        work.pool.taps, work.rows = cnp.PyArray_DATA(taps), rows
        work.indices = <cnp.int64_t *> cnp.PyArray_DATA(indices)
        cdef int size = team_size(NANOSECONDS_PER_POSITION * indices.size, 1, rows)
        with nogil:
            run_team(share_of_positions, &work, size)


cdef struct Positions:
    fr_pool pool
    cnp.int64_t *indices
    ptrdiff_t rows  # of windows


cdef inline ptrdiff_t start_of(const fr_pool_axis *axis, ptrdiff_t window) noexcept nogil:
    return window * axis.stride - axis.padding if axis.stride else window * axis.size // axis.out


cdef ptrdiff_t offset_of(const fr_pool_axis *a, ptrdiff_t tap) noexcept nogil:
    """How far a tap is from the start of its window, for what is past the last one far below all positions."""
    cdef ptrdiff_t row = tap // a[2].kernel
    if row >= a[0].kernel * a[1].kernel:
        return NO_PLACE
    return ((row // a[1].kernel * a[0].dilation * a[1].size + row % a[1].kernel * a[1].dilation) * a[2].size
            + tap % a[2].kernel * a[2].dilation)


cdef void share_of_positions(void *whole, Team *team, int member) noexcept nogil:
    cdef Positions *work = <Positions *> whole
    cdef const fr_pool_axis *a = &work.pool.axis[0]
    cdef ptrdiff_t offsets[FR_POOL_PLACES + 1]
    cdef ptrdiff_t row = first_of(work.rows, member, team.size), end = first_of(work.rows, member + 1, team.size)
    cdef ptrdiff_t d = row // a[1].out % a[0].out, h = row % a[1].out, i
    if not work.pool.wide:
        for i in range(a[0].kernel * a[1].kernel * a[2].kernel + 1):
            offsets[i] = offset_of(a, i)
    for row in range(row, end):
        row_of_positions(work, row, (start_of(&a[0], d) * a[1].size + start_of(&a[1], h)) * a[2].size, offsets)
        h += 1
        if h == a[1].out:
            h = 0
            d = d + 1 if d + 1 < a[0].out else 0


cdef inline void row_of_positions(Positions *work, ptrdiff_t row, ptrdiff_t start, const ptrdiff_t *offsets) noexcept nogil:
    """Positions of a row of windows, the first of which would start at `start` without padding of its columns."""
    cdef const fr_pool_axis *W = &work.pool.axis[2]
    cdef ptrdiff_t channels = max(work.pool.channels, 1), at = row * W.out * channels, w
    if channels == 1 and W.stride and not work.pool.wide:
        put_near(work.indices + at, <const cnp.uint8_t *> work.pool.taps + at, W.out, offsets, start - W.padding, W.stride)
        return
    for w in range(W.out):
        if work.pool.wide:
            put_far(work, at + w * channels, channels, start + start_of(W, w))
        else:
            put_near(work.indices + at + w * channels, <const cnp.uint8_t *> work.pool.taps + at + w * channels, channels, offsets,
                     start + start_of(W, w), 0)


# Positions of taps whose windows start `pace` apart.
cdef inline void put_near(cnp.int64_t *out, const cnp.uint8_t *taps, ptrdiff_t count, const ptrdiff_t *offsets, ptrdiff_t start,
                          ptrdiff_t pace) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(count):
        out[i] = max(start + i * pace + offsets[taps[i]], <ptrdiff_t> -1)


cdef void put_far(const Positions *work, ptrdiff_t at, ptrdiff_t count, ptrdiff_t start) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(at, at + count):
        work.indices[i] = max(start + offset_of(&work.pool.axis[0], (<const cnp.int32_t *> work.pool.taps)[i]), <ptrdiff_t> -1)


cdef void go_past(Rows *rows, cnp.ndarray dx):
    """Let a large gradient go past the caches, in pieces of whole maps where these are pooled together."""
    cdef ptrdiff_t least = rows.together * (rows.kernels.width if rows.whole.turned else 1)
    cdef ptrdiff_t bytes = least * rows.length * rows.itemsize
    if 0 < bytes <= BAND_BYTES and stored_past(cnp.PyArray_NBYTES(dx), BAND_BYTES // rows.itemsize):
        rows.piece = BAND_BYTES // bytes * least


cdef void run(Rows *rows, ptrdiff_t elements):
    cdef int size = team_size(NANOSECONDS_PER_ELEMENT * elements, 1, rows.count)
    cdef Block _band
    if rows.piece:
        _band = new_block(size * BAND_BYTES)
        rows.band = _band.data
    with nogil:
        run_team(share_of_rows, rows, size)


cdef void share_of_rows(void *work, Team *team, int member) noexcept nogil:
    cdef Rows *rows = <Rows *> work
    cdef fr_pool part = rows.whole
    cdef ptrdiff_t shared = rows.count // rows.together
    part.row = first_of(shared, member, team.size) * rows.together
    part.rows = first_of(shared, member + 1, team.size) * rows.together - part.row
    if rows.piece:
        rows_past(rows, &part, rows.band + member * BAND_BYTES)
    else:
        rows.kernel(&part)


cdef void rows_past(const Rows *rows, fr_pool *part, char *band) noexcept nogil:
    """Rows of dx, piece by piece; the kernels count them from the first of all."""
    cdef ptrdiff_t end = part.row + part.rows, bytes = rows.length * rows.itemsize
    while part.row < end:
        part.rows = min(rows.piece, end - part.row)
        part.y = band - part.row * bytes
        rows.kernel(part)
        rows.kernels.copy_past(part.rows * rows.length, band, <char *> rows.whole.y + part.row * bytes)
        part.row += part.rows
    rows.kernels.copy_past(0, NULL, NULL)
