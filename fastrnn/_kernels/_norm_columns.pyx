"""Normalisation of maps whose channels come last. Arrays are contiguous and of one type.

Rows of all channels are shared out in chunks that depend on the sizes alone; the moments of a channel, or of a group of them, come
from those of its chunks in their order. A *set* is what has moments of its own: one sample, or for `groups` 0 the whole batch.
"""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_kernels, fr_norm, kernels_for
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._norm cimport get_real, put_real
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_FORWARD = 0.25  # for one element, moved; backward moves twice as many
cdef ptrdiff_t LEAST_ROWS = 128, MOST_CHUNKS = 64  # of a set

cdef struct Columns:
    const fr_kernels *kernels
    fr_norm whole                # the factors of set 0
    ptrdiff_t sets, chunks, rows, columns, itemsize  # rows of a set; chunks of it
    double *parts                # [sets, chunks, 2, columns]
    double *joined               # [2, columns]
    void *buffers                # [sets, chunks, 3, columns]
    bint backward, sums


cdef class _Work:
    """The layout of one call, and its buffers."""

    cdef Columns columns
    cdef Block parts, buffers, factors
    cdef int groups

    def __init__(self, cnp.ndarray x not None, int groups):
        cdef Columns *work = &self.columns
        cdef ptrdiff_t N = x.shape[0], rows = x.shape[1], C = x.shape[2]
        memset(work, 0, sizeof(work[0]))
        self.groups = groups if groups else C
        work.sets, work.rows = N if groups else 1, rows if groups else N * rows
        work.columns, work.itemsize, work.kernels = C, x.itemsize, kernels_for(x.itemsize)
        work.chunks = max(1, min(MOST_CHUNKS, work.rows // LEAST_ROWS))
        work.whole.length = work.whole.stride = C
        cdef ptrdiff_t step = work.sets * C * work.itemsize
        self.parts = new_block((work.sets * work.chunks + 1) * 2 * C * sizeof(double))
        self.buffers, self.factors = new_block(3 * work.chunks * step), new_block(3 * step)
        work.joined, work.buffers = <double *> self.parts.data, self.buffers.data
        work.parts = work.joined + 2 * C
        work.whole.center, work.whole.rest = self.factors.data, self.factors.data + step
        work.whole.scale = self.factors.data + 2 * step


def columns_given(cnp.ndarray x not None, cnp.ndarray center not None, cnp.ndarray var not None, double eps,
                  cnp.ndarray weight not None, cnp.ndarray bias not None, cnp.ndarray y not None):
    """y = (x - center) / sqrt(var + eps) * weight + bias for maps x (N, length, C); center and var (C,)."""
    cdef _Work work = _Work(x, 0)
    cdef Columns *columns = &work.columns
    cdef ptrdiff_t i
    columns.whole.x, columns.whole.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    columns.whole.weight, columns.whole.bias = cnp.PyArray_DATA(weight), cnp.PyArray_DATA(bias)
    columns.whole.center = cnp.PyArray_DATA(center)
    for i in range(columns.columns):
        put_real(columns.whole.scale, i, 1 / sqrt(get_real(cnp.PyArray_DATA(var), i, columns.itemsize) + eps), columns.itemsize)
    memset(<void *> columns.whole.rest, 0, columns.columns * columns.itemsize)
    with nogil:
        run_team(share_of_chunks, columns, team_size(NANOSECONDS_FORWARD * cnp.PyArray_SIZE(x), 1, columns.chunks))


def columns_forward(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias not None, double eps, int groups,
                    cnp.ndarray y not None, cnp.ndarray xhat, cnp.ndarray scale not None, cnp.ndarray mean not None,
                    cnp.ndarray var not None):
    """Normalise maps x (N, length, C); `groups` 0 takes each channel over all samples.

    Fills scale, mean and var (float64), one for each channel or (sample, group). xhat may be None.
    """
    cdef _Work work = _Work(x, groups)
    cdef Columns *columns = &work.columns
    cdef int size = team_size(NANOSECONDS_FORWARD * cnp.PyArray_SIZE(x), 2, columns.sets * columns.chunks)
    cdef double *means = <double *> cnp.PyArray_DATA(mean)
    cdef double *variances = <double *> cnp.PyArray_DATA(var)
    cdef void *scales = cnp.PyArray_DATA(scale)
    cdef ptrdiff_t i
    columns.whole.x, columns.whole.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    columns.whole.weight, columns.whole.bias = cnp.PyArray_DATA(weight), cnp.PyArray_DATA(bias)
    columns.whole.xhat = NULL if xhat is None else cnp.PyArray_DATA(xhat)
    with nogil:
        columns.sums = True
        run_team(share_of_chunks, columns, size)
        for i in range(columns.sets):
            join_moments(columns, i, work.groups, means, variances)
        for i in range(columns.sets * work.groups):
            put_real(scales, i, 1 / sqrt(variances[i] + eps), columns.itemsize)
            spread(columns, i, columns.columns // work.groups, means[i], get_real(scales, i, columns.itemsize))
        columns.sums = False
        run_team(share_of_chunks, columns, size)


def columns_backward(cnp.ndarray dy not None, cnp.ndarray xhat not None, cnp.ndarray scale not None, cnp.ndarray weight not None,
                     int groups, cnp.ndarray dx not None, cnp.ndarray dbias not None, cnp.ndarray dweight not None):
    """Fill dx; dbias and dweight (float64) with the sums over each set and channel."""
    cdef _Work work = _Work(dy, groups)
    cdef Columns *columns = &work.columns
    cdef int size = team_size(2 * NANOSECONDS_FORWARD * cnp.PyArray_SIZE(dy), 2, columns.sets * columns.chunks)
    cdef double *first = <double *> cnp.PyArray_DATA(dbias)
    cdef double *second = <double *> cnp.PyArray_DATA(dweight)
    cdef void *scales = cnp.PyArray_DATA(scale)
    cdef const void *weights = cnp.PyArray_DATA(weight)
    cdef ptrdiff_t i
    columns.backward, columns.sums = True, True
    columns.whole.dy, columns.whole.x, columns.whole.y = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(xhat), cnp.PyArray_DATA(dx)
    with nogil:
        run_team(share_of_chunks, columns, size)
        for i in range(columns.sets):
            join_sums(columns, i, first, second)
        for i in range(columns.sets * work.groups):
            spread_slopes(columns, i, columns.columns // work.groups, weights, get_real(scales, i, columns.itemsize), first, second)
        columns.whole.weight, columns.whole.bias = columns.whole.center, columns.whole.rest
        columns.sums = False
        run_team(share_of_chunks, columns, size)


cdef void share_of_chunks(void *shared, Team *team, int member) noexcept nogil:
    cdef Columns *work = <Columns *> shared
    cdef ptrdiff_t parts = work.sets * work.chunks, i
    for i in range(first_of(parts, member, team.size), first_of(parts, member + 1, team.size)):
        run_chunk(work, i // work.chunks, i % work.chunks)


cdef inline ptrdiff_t first_row(Columns *work, ptrdiff_t chunk) noexcept nogil:
    return work.rows * chunk // work.chunks


cdef inline double rows_of(Columns *work, ptrdiff_t chunk) noexcept nogil:
    return <double> (first_row(work, chunk + 1) - first_row(work, chunk))


cdef void run_chunk(Columns *work, ptrdiff_t i, ptrdiff_t chunk) noexcept nogil:
    cdef fr_norm part = work.whole
    cdef ptrdiff_t first = first_row(work, chunk), C = work.columns
    cdef ptrdiff_t offset = (i * work.rows + first) * C * work.itemsize, factors = i * C * work.itemsize
    part.pieces = first_row(work, chunk + 1) - first
    part.x, part.y = <const char *> part.x + offset, <char *> part.y + offset
    if work.backward:
        part.dy = <const char *> part.dy + offset
    if part.xhat != NULL:
        part.xhat = <char *> part.xhat + offset
    if work.sums:
        part.first = work.parts + (i * work.chunks + chunk) * 2 * C
        part.second = part.first + C
        part.center = <char *> work.buffers + (i * work.chunks + chunk) * 3 * C * work.itemsize
        if work.backward:
            work.kernels.norm_columns_sums(&part)
        else:
            work.kernels.norm_columns_moments(&part)
        return
    part.scale = <char *> part.scale + factors
    if work.backward:
        part.weight, part.bias = <const char *> part.weight + factors, <const char *> part.bias + factors
        work.kernels.norm_columns_pull(&part)
    else:
        part.center, part.rest = <char *> part.center + factors, <const char *> part.rest + factors
        work.kernels.norm_columns(&part)


cdef void join_moments(Columns *work, ptrdiff_t i, int groups, double *means, double *variances) noexcept nogil:
    """Mean and variance of each group of set i, from those of its columns, from those of its chunks."""
    cdef ptrdiff_t C = work.columns, m = C // groups, c, k, g
    cdef double rows = <double> work.rows, count, t, mean, squares
    cdef double *part
    cdef double *joined = work.joined
    for c in range(2 * C):
        joined[c] = 0
    for k in range(work.chunks):
        part, count = work.parts + (i * work.chunks + k) * 2 * C, rows_of(work, k) / rows
        for c in range(C):
            joined[c] += count * part[c]
    for k in range(work.chunks):
        part, count = work.parts + (i * work.chunks + k) * 2 * C, rows_of(work, k)
        for c in range(C):
            t = part[c] - joined[c]
            joined[C + c] += part[C + c] + count * t * t
    for g in range(groups):
        mean = squares = 0
        for c in range(g * m, (g + 1) * m):
            mean += joined[c] / m
        for c in range(g * m, (g + 1) * m):
            t = joined[c] - mean
            squares += joined[C + c] + rows * t * t
        means[i * groups + g], variances[i * groups + g] = mean, squares / (rows * m)


cdef void spread(Columns *work, ptrdiff_t group, ptrdiff_t m, double mean, double scale) noexcept nogil:
    """The factors of the m columns of a group, counted over all sets."""
    cdef ptrdiff_t c
    for c in range(group * m, (group + 1) * m):
        put_real(work.whole.center, c, mean, work.itemsize)
        put_real(<void *> work.whole.rest, c, (get_real(work.whole.center, c, work.itemsize) - mean) * scale, work.itemsize)
        put_real(work.whole.scale, c, scale, work.itemsize)


cdef void join_sums(Columns *work, ptrdiff_t i, double *first, double *second) noexcept nogil:
    cdef ptrdiff_t C = work.columns, c, _chunk
    cdef double *part = work.parts + i * work.chunks * 2 * C
    for c in range(C):
        first[i * C + c] = second[i * C + c] = 0
    for _chunk in range(work.chunks):
        for c in range(C):
            first[i * C + c] += part[c]
            second[i * C + c] += part[C + c]
        part += 2 * C


cdef void spread_slopes(Columns *work, ptrdiff_t group, ptrdiff_t m, const void *weights, double scale, double *first,
                        double *second) noexcept nogil:
    """The factors of dx for the m columns of a group: of dy, of xhat (in `center`), and what is added (in `rest`)."""
    cdef ptrdiff_t c, size = work.itemsize
    cdef double mean = 0, product = 0, weight, count = <double> work.rows * m
    for c in range(group * m, (group + 1) * m):
        weight = get_real(weights, c % work.columns, size)
        mean += weight * first[c] / count
        product += weight * second[c] / count
    for c in range(group * m, (group + 1) * m):
        put_real(work.whole.scale, c, scale * get_real(weights, c % work.columns, size), size)
        put_real(work.whole.center, c, -scale * product, size)
        put_real(<void *> work.whole.rest, c, -scale * mean, size)
