"""Pooling over time of padded batches, features shared out over a team."""

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport (
    FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM, FR_TIME_KMAX, FR_TIME_PIECE, fr_time_pool, kernels_for,
)
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._norm cimport stored_past
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

MAX, MIN, SUM, KMAX = FR_POOL_MAX, FR_POOL_MIN, FR_POOL_SUM, FR_TIME_KMAX

cdef ptrdiff_t BAND_BYTES = 24 << 10  # stays in the first-level cache

cdef double NANOSECONDS_PER_ELEMENT = 0.1  # moved; 0.06 to 0.15 from the second level

cdef class Sequence:
    """The layout of one pooling over time.

    Parameters
    ----------
    sizes : (T, N, C)
    strides, y_strides : triples
        Elements between steps, sequences and features of x, and between the places of k-max, sequences and features of y.
    mode : int
    mean : bool
        Divide the sums by the lengths.
    k : int
    lengths : int64 array (N,) or None
    """

    def __init__(self, tuple sizes not None, tuple strides not None, tuple y_strides not None, int mode, bint mean,
                 ptrdiff_t k, cnp.ndarray lengths):
        self.all.whole.total, self.all.count, self.all.whole.columns = sizes
        self.all.whole.time_stride, self.all.stride, self.all.whole.column_stride = strides
        self.all.whole.y_time_stride, self.all.y_stride, self.all.whole.y_column_stride = y_strides
        self.all.whole.mode, self.all.mean, self.all.whole.k = mode, mean, k
        self.lengths = lengths
        self.all.lengths = NULL
        if lengths is not None:
            self.all.lengths = <const cnp.int64_t *> cnp.PyArray_DATA(lengths)

    cpdef object forward(self, cnp.ndarray x, cnp.ndarray y, cnp.ndarray times):
        """Fill y, and the times (int32) of the values taken if they are wanted."""
        cdef Sequences work = self.all
        work.whole.x, work.whole.y, work.backward = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), False
        work.whole.times = NULL if times is None else <int *> cnp.PyArray_DATA(times)
        run(&work, x)

    cpdef object backward(self, cnp.ndarray dy, cnp.ndarray times, cnp.ndarray dx):
        """Fill dx from dy and, unless the mode is SUM, from the times."""
        cdef Sequences work = self.all
        work.whole.dx, work.whole.y, work.backward = cnp.PyArray_DATA(dx), cnp.PyArray_DATA(dy), True
        work.whole.times = NULL if times is None else <int *> cnp.PyArray_DATA(times)
        run(&work, dx)


cdef void run(Sequences *work, cnp.ndarray x):
    work.itemsize = x.itemsize
    work.kernels = kernels_for(x.itemsize)
    cdef bint by_steps = work.backward and work.whole.time_stride > 1
    work.unit = unit_of(work)
    cdef int size = team_size(NANOSECONDS_PER_ELEMENT * x.size, 1, work.count * (work.whole.total if by_steps else groups_of(work)))
    cdef Block _band
    work.band = NULL
    if goes_past(work, cnp.PyArray_NBYTES(x)):
        _band = new_block(size * BAND_BYTES)
        work.band = _band.data
    with nogil:
        run_team(share_of_steps if by_steps else share_of_features, work, size)


cdef bint goes_past(const Sequences *work, ptrdiff_t nbytes) noexcept nogil:
    """Whether a large gradient, the times of a feature side by side, goes past the caches."""
    cdef ptrdiff_t total = work.whole.total
    return (work.backward and work.whole.time_stride == 1 and work.whole.column_stride == total
            and total * work.itemsize <= BAND_BYTES and stored_past(nbytes, BAND_BYTES // work.itemsize))


cdef ptrdiff_t unit_of(const Sequences *work) noexcept nogil:
    """So many features of a sequence stay together: a member reads whole lines, in pairs, and few features go through one loop."""
    return 2 * work.kernels.width if work.whole.time_stride > 1 else 1


cdef ptrdiff_t groups_of(const Sequences *work) noexcept nogil:
    return max(work.whole.columns // work.unit, 1)


cdef ptrdiff_t first_feature(const Sequences *work, int member, int size) noexcept nogil:
    """The first feature of a member, counted over all sequences; the last group of a sequence has what is left."""
    cdef ptrdiff_t groups = groups_of(work), group = first_of(work.count * groups, member, size)
    return group // groups * work.whole.columns + group % groups * work.unit


cdef void share_of_features(void *shared, Team *team, int member) noexcept nogil:
    """A member's features, counted over all sequences, in pieces of time over all its sequences where features lie side by side."""
    cdef Sequences *work = <Sequences *> shared
    cdef ptrdiff_t columns = work.whole.columns, begin = 0, n
    cdef ptrdiff_t first = first_feature(work, member, team.size), end = first_feature(work, member + 1, team.size)
    cdef bint pieces = not work.backward and work.whole.time_stride > work.stride and work.whole.mode != FR_TIME_KMAX
    cdef ptrdiff_t length = FR_TIME_PIECE if pieces else work.whole.total
    while begin < work.whole.total and first < end:
        for n in range(first // columns, (end + columns - 1) // columns):
            if work.band != NULL:
                gradient_past(work, n, max(first - n * columns, 0), min(end - n * columns, columns),
                              work.band + member * BAND_BYTES)
            else:
                pool_sequence(work, n, max(first - n * columns, 0), min(end - n * columns, columns), begin, begin + length)
        begin += length
    if work.band != NULL:
        work.kernels.copy_past(0, NULL, NULL)


cdef void gradient_past(const Sequences *work, ptrdiff_t n, ptrdiff_t column, ptrdiff_t last, char *band) noexcept nogil:
    """The gradients of features column..last-1 of sequence n, some at a time."""
    cdef Sequences some = work[0]
    cdef ptrdiff_t total = work.whole.total, most = BAND_BYTES // (total * work.itemsize), end, offset
    while column < last:
        end = min(last, column + most)
        offset = (n * work.stride + column * total) * work.itemsize
        some.whole.dx = band - offset
        pool_sequence(&some, n, column, end, 0, total)
        work.kernels.copy_past((end - column) * total, band, <char *> work.whole.dx + offset)
        column = end


cdef void share_of_steps(void *shared, Team *team, int member) noexcept nogil:
    """A member's steps of a gradient, counted over all sequences: cores that write to one step take lines from each other."""
    cdef Sequences *work = <Sequences *> shared
    cdef ptrdiff_t total = work.whole.total, n
    cdef ptrdiff_t first = first_of(work.count * total, member, team.size)
    cdef ptrdiff_t end = first_of(work.count * total, member + 1, team.size)
    if first < end:
        for n in range(first // total, (end + total - 1) // total):
            pool_sequence(work, n, 0, work.whole.columns, max(first - n * total, 0), min(end - n * total, total))


cdef void pool_sequence(Sequences *work, ptrdiff_t n, ptrdiff_t column, ptrdiff_t last, ptrdiff_t begin,
                        ptrdiff_t end) noexcept nogil:
    """Features column..last-1 of sequence n at times begin..end-1."""
    cdef fr_time_pool part = work.whole
    cdef ptrdiff_t x_offset = (n * work.stride + column * part.column_stride) * work.itemsize
    cdef ptrdiff_t y_offset = n * work.y_stride + column * part.y_column_stride
    part.steps = work.lengths[n] if work.lengths != NULL else part.total
    part.begin, part.end = begin, end if work.backward else min(end, part.steps)
    if part.begin >= part.end:
        return
    part.columns = last - column
    part.divisor = <double> part.steps if work.mean else 1.0
    part.y = <char *> part.y + y_offset * work.itemsize
    if part.times != NULL:
        part.times += y_offset
    if work.backward:
        part.dx = <char *> part.dx + x_offset
        work.kernels.time_pool_backward(&part)
    else:
        part.x = <const char *> part.x + x_offset
        work.kernels.time_pool(&part)
