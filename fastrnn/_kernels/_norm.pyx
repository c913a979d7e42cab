"""Normalisation of rows, and of maps whose channels come before space. Arrays are contiguous and of one type.

A *set* is what shares a mean: one channel of all samples, or one group of channels of one sample. A set has `segments` channels,
each of `pieces` stretches of `length` elements.
"""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_kernels, fr_norm, kernels_for
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_FORWARD = 0.25  # for one element, moved; backward moves twice as many

cdef struct Rows:
    const fr_kernels *kernels
    fr_norm whole
    ptrdiff_t itemsize, chunk, chunks  # rows of a chunk, but for the last one
    bint backward

cdef struct Maps:
    const fr_kernels *kernels
    fr_norm segment
    ptrdiff_t sets, segments, channels, set_stride, itemsize
    double eps
    const void *weight
    const void *bias
    void *scale      # [sets]
    double *first    # [sets]: means; backward: sums of each segment
    double *second   # [sets]: variances
    bint given, backward


def rows_forward(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias not None, double eps,
                 cnp.ndarray y not None, cnp.ndarray xhat, cnp.ndarray scale):
    """Normalise the rows of x (rows, length); xhat and scale (rows,) are for the gradient, or None."""
    cdef Rows rows
    start(&rows, x, weight)
    rows.whole.x, rows.whole.y, rows.whole.bias = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), cnp.PyArray_DATA(bias)
    rows.whole.xhat = NULL if xhat is None else cnp.PyArray_DATA(xhat)
    rows.whole.scale = NULL if scale is None else cnp.PyArray_DATA(scale)
    rows.whole.eps, rows.backward, rows.chunk, rows.chunks = eps, False, 1, x.shape[0]
    with nogil:
        run_team(share_of_rows, &rows, team_size(NANOSECONDS_FORWARD * rows.whole.pieces * rows.whole.length, 1, rows.chunks))


def rows_backward(cnp.ndarray dy not None, cnp.ndarray xhat not None, cnp.ndarray scale not None, cnp.ndarray weight not None,
                  cnp.ndarray dx not None, cnp.ndarray sums not None, ptrdiff_t chunk):
    """Fill dx, and add the gradients of weight and bias over each `chunk` of rows to sums (chunks, 2, length)."""
    cdef Rows rows
    start(&rows, dy, weight)
    rows.whole.dy, rows.whole.x, rows.whole.y = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(xhat), cnp.PyArray_DATA(dx)
    rows.whole.scale, rows.whole.dweight = cnp.PyArray_DATA(scale), cnp.PyArray_DATA(sums)
    rows.backward, rows.chunk, rows.chunks = True, chunk, sums.shape[0]
    cdef double work = 2 * NANOSECONDS_FORWARD * rows.whole.pieces * rows.whole.length
    with nogil:
        run_team(share_of_rows, &rows, team_size(work, 1, rows.chunks))


cdef void start(Rows *rows, cnp.ndarray x, cnp.ndarray weight):
    memset(rows, 0, sizeof(rows[0]))
    rows.itemsize = x.itemsize
    rows.kernels = kernels_for(x.itemsize)
    rows.whole.pieces, rows.whole.length = x.shape[0], x.shape[1]
    rows.whole.stride, rows.whole.weight = x.shape[1], cnp.PyArray_DATA(weight)
    rows.whole.past = stored_past(cnp.PyArray_NBYTES(x), x.shape[1])


cdef void share_of_rows(void *shared, Team *team, int member) noexcept nogil:
    cdef Rows *rows = <Rows *> shared
    cdef ptrdiff_t first = first_of(rows.chunks, member, team.size), end = first_of(rows.chunks, member + 1, team.size)
    if not rows.backward:
        some_rows(rows, first, end, 0)
        return
    while first < end:
        some_rows(rows, first * rows.chunk, min(rows.whole.pieces, (first + 1) * rows.chunk), first)
        first += 1


cdef void some_rows(Rows *rows, ptrdiff_t first, ptrdiff_t end, ptrdiff_t chunk) noexcept nogil:
    cdef fr_norm part = rows.whole
    cdef ptrdiff_t offset = first * part.length * rows.itemsize
    part.pieces = end - first
    part.x, part.y = <const char *> part.x + offset, <char *> part.y + offset
    if part.scale != NULL:
        part.scale = <char *> part.scale + first * rows.itemsize
    if rows.backward:
        part.dy = <const char *> part.dy + offset
        part.dweight = <char *> part.dweight + chunk * 2 * part.length * rows.itemsize
        part.dbias = <char *> part.dweight + part.length * rows.itemsize
        rows.kernels.norm_rows_pull(&part)
        return
    if part.xhat != NULL:
        part.xhat = <char *> part.xhat + offset
    rows.kernels.norm_rows(&part)


cdef void roots_of(cnp.ndarray var, double eps, void *scale, ptrdiff_t itemsize):
    """scale = 1 / sqrt(var + eps); NaN for a negative sum."""
    cdef ptrdiff_t i
    for i in range(var.shape[0]):
        put_real(scale, i, 1 / sqrt(get_real(cnp.PyArray_DATA(var), i, itemsize) + eps), itemsize)


def maps_given(cnp.ndarray x not None, cnp.ndarray center not None, cnp.ndarray var not None, double eps,
               cnp.ndarray weight not None, cnp.ndarray bias not None, cnp.ndarray y not None):
    """y = (x - center) / sqrt(var + eps) * weight + bias for maps x (N, C, length); center and var (C,)."""
    cdef Maps maps
    cdef double nothing = 0  # as a real of either type
    cdef Block scale = new_block(x.shape[1] * x.itemsize)
    lay_out(&maps, x, weight, 0)
    maps.sets, maps.given = x.shape[0] * x.shape[1], True  # single maps, as they follow in memory
    maps.segment.stride, maps.segment.step = x.shape[2], 1
    maps.segment.x, maps.segment.y, maps.bias = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), cnp.PyArray_DATA(bias)
    maps.segment.center, maps.segment.rest, maps.scale = cnp.PyArray_DATA(center), &nothing, scale.data
    roots_of(var, eps, scale.data, x.itemsize)
    with nogil:
        run_team(share_of_sets, &maps, team_size(NANOSECONDS_FORWARD * cnp.PyArray_SIZE(x), 1, maps.sets))


def maps_forward(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias not None, double eps, int groups,
                 cnp.ndarray y not None, cnp.ndarray xhat, cnp.ndarray scale not None, cnp.ndarray mean not None,
                 cnp.ndarray var not None):
    """Normalise maps x (N, C, length); `groups` 0 takes each channel over all samples.

    Fills scale, one for each set, and mean and var (float64). xhat may be None.
    """
    cdef Maps maps
    lay_out(&maps, x, weight, groups)
    maps.segment.x, maps.segment.y, maps.bias = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), cnp.PyArray_DATA(bias)
    maps.segment.xhat = NULL if xhat is None else cnp.PyArray_DATA(xhat)
    maps.scale, maps.eps = cnp.PyArray_DATA(scale), eps
    maps.first, maps.second = <double *> cnp.PyArray_DATA(mean), <double *> cnp.PyArray_DATA(var)
    cdef double work = NANOSECONDS_FORWARD * cnp.PyArray_SIZE(x)
    with nogil:
        run_team(share_of_sets, &maps, team_size(work, 1, maps.sets))


def maps_backward(cnp.ndarray dy not None, cnp.ndarray xhat not None, cnp.ndarray scale not None, cnp.ndarray weight not None,
                  int groups, cnp.ndarray dx not None, cnp.ndarray dbias not None, cnp.ndarray dweight not None):
    """Fill dx; dbias and dweight (float64) with the sums over each segment, in order of sets and segments."""
    cdef Maps maps
    lay_out(&maps, dy, weight, groups)
    maps.segment.dy, maps.segment.x, maps.segment.y = cnp.PyArray_DATA(dy), cnp.PyArray_DATA(xhat), cnp.PyArray_DATA(dx)
    maps.scale, maps.backward = cnp.PyArray_DATA(scale), True
    maps.first, maps.second = <double *> cnp.PyArray_DATA(dbias), <double *> cnp.PyArray_DATA(dweight)
    cdef double work = 2 * NANOSECONDS_FORWARD * cnp.PyArray_SIZE(dy)
    with nogil:
        run_team(share_of_sets, &maps, team_size(work, 1, maps.sets))


cdef void lay_out(Maps *maps, cnp.ndarray x, cnp.ndarray weight, int groups):
    cdef ptrdiff_t N = x.shape[0], C = x.shape[1], length = x.shape[2]
    memset(maps, 0, sizeof(maps[0]))
    maps.itemsize = x.itemsize
    maps.kernels = kernels_for(x.itemsize)
    maps.channels, maps.weight = C, cnp.PyArray_DATA(weight)
    maps.sets, maps.segments = N * groups if groups else C, C // groups if groups else 1
    maps.set_stride = maps.segments * length
    maps.segment.pieces, maps.segment.length, maps.segment.stride = 1 if groups else N, length, C * length
    maps.segment.past = stored_past(cnp.PyArray_NBYTES(x), length)


cdef void share_of_sets(void *shared, Team *team, int member) noexcept nogil:
    cdef Maps *maps = <Maps *> shared
    cdef ptrdiff_t i, first = first_of(maps.sets, member, team.size), end = first_of(maps.sets, member + 1, team.size)
    while maps.given and first < end:
        i = min(end, first - first % maps.channels + maps.channels)
        apply_to_maps(maps, first, i - first)
        first = i
    for i in range(first, end):
        if maps.backward:
            pull_set(maps, i)
        else:
            normalise_set(maps, i)


cdef fr_norm segment_of(Maps *maps, ptrdiff_t i, ptrdiff_t k) noexcept nogil:
    """Segment k of set i."""
    cdef fr_norm part = maps.segment
    cdef ptrdiff_t offset = (i * maps.set_stride + k * part.length) * maps.itemsize
    part.x, part.y = <const char *> part.x + offset, <char *> part.y + offset
    if part.dy != NULL:
        part.dy = <const char *> part.dy + offset
    if part.xhat != NULL:
        part.xhat = <char *> part.xhat + offset
    return part


cdef void apply_to_maps(Maps *maps, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """Some maps of one sample."""
    cdef fr_norm part = segment_of(maps, first, 0)
    cdef ptrdiff_t channel = first % maps.channels * maps.itemsize
    part.pieces = count
    part.center, part.scale = <char *> part.center + channel, <char *> maps.scale + channel
    part.weight, part.bias = <const char *> maps.weight + channel, <const char *> maps.bias + channel
    maps.kernels.norm_map(&part)


cdef void normalise_set(Maps *maps, ptrdiff_t i) noexcept nogil:
    cdef fr_norm part = segment_of(maps, i, 0)
    cdef double center, rest, squares
    cdef ptrdiff_t k, channel, size = maps.itemsize
    part.length *= maps.segments
    part.first, part.second = &maps.first[i], &squares
    maps.kernels.norm_moments(&part)
    maps.second[i] = squares / (<double> part.pieces * part.length)
    put_real(&center, 0, maps.first[i], size)
    put_real(maps.scale, i, 1 / sqrt(maps.second[i] + maps.eps), size)
    put_real(&rest, 0, (get_real(&center, 0, size) - maps.first[i]) * get_real(maps.scale, i, size), size)
    for k in range(maps.segments):
        part = segment_of(maps, i, k)
        channel = (i * maps.segments + k) % maps.channels * size
        part.center, part.rest, part.scale = &center, &rest, <char *> maps.scale + i * size
        part.weight, part.bias = <const char *> maps.weight + channel, <const char *> maps.bias + channel
        maps.kernels.norm_map(&part)


cdef void pull_set(Maps *maps, ptrdiff_t i) noexcept nogil:
    cdef fr_norm part
    cdef ptrdiff_t k, channel, at = i * maps.segments, size = maps.itemsize
    cdef double mean = 0, product = 0, weight, scale = get_real(maps.scale, i, size)
    cdef double factor, slope, begin, count = <double> maps.segment.pieces * maps.segments * maps.segment.length
    for k in range(maps.segments):
        part = segment_of(maps, i, k)
        part.first, part.second = &maps.first[at + k], &maps.second[at + k]
        maps.kernels.norm_map_sums(&part)
        weight = get_real(maps.weight, (at + k) % maps.channels, size)
        mean += weight * maps.first[at + k] / count
        product += weight * maps.second[at + k] / count
    put_real(&slope, 0, -scale * product, size)
    put_real(&begin, 0, -scale * mean, size)
    for k in range(maps.segments):
        part = segment_of(maps, i, k)
        channel = (at + k) % maps.channels
        put_real(&factor, 0, scale * get_real(maps.weight, channel, size), size)
        part.scale, part.weight, part.bias = &factor, &slope, &begin
        maps.kernels.norm_map_pull(&part)
