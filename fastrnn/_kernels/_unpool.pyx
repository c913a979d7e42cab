"""The undoing of maximum pooling: values go to given places of their maps, maps shared out over a team."""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_ELEMENT = 1  # moved

ctypedef fused item:
    cnp.uint32_t
    cnp.uint64_t

# Maps [samples][positions][channels]; channels first has one channel and a sample for each map.
cdef struct Maps:
    ptrdiff_t samples, places, positions, channels  # places: of the values; positions: of the maps
    const cnp.int64_t *indices
    cnp.int64_t *kept
    const void *source
    void *target
    int itemsize
    bint outside  # set where an index is not in its map


def scatter(cnp.ndarray values not None, cnp.ndarray indices not None, cnp.ndarray maps not None, ptrdiff_t channels,
            cnp.ndarray kept=None):
    """maps (samples, positions, channels) = values (samples, places, channels) at their indices, zeros elsewhere.

    Where an index occurs several times, the last of its values stays. With `kept`, they are copied there before they are looked at.
    Returns whether all were in the maps; values of the others went nowhere.
    """
    cdef Maps work = work_of(values, indices, maps, channels)
    work.kept = NULL if kept is None else <cnp.int64_t *> cnp.PyArray_DATA(kept)
    cdef int size = team_size(NANOSECONDS_PER_ELEMENT * (values.size + maps.size), 1, work.samples)
    with nogil:
        run_team(scatter_share, &work, size)
    return not work.outside


def gather(cnp.ndarray maps not None, cnp.ndarray indices not None, cnp.ndarray values not None, ptrdiff_t channels):
    """values = maps at the indices, all of which are in the maps; shapes as for `scatter`."""
    cdef Maps work = work_of(values, indices, maps, channels)
    work.source, work.target = cnp.PyArray_DATA(maps), cnp.PyArray_DATA(values)
    cdef int size = team_size(NANOSECONDS_PER_ELEMENT * values.size, 1, work.samples)
    with nogil:
        run_team(gather_share, &work, size)


cdef Maps work_of(cnp.ndarray values, cnp.ndarray indices, cnp.ndarray maps, ptrdiff_t channels):
    cdef Maps work
    work.samples, work.channels = maps.shape[0], channels
    work.places = values.size // max(work.samples * channels, 1)
    work.positions = maps.size // max(work.samples * channels, 1)
    work.indices, work.kept = <const cnp.int64_t *> cnp.PyArray_DATA(indices), NULL
    work.source, work.target, work.itemsize = cnp.PyArray_DATA(values), cnp.PyArray_DATA(maps), maps.itemsize
    work.outside = False
    return work


cdef void scatter_share(void *work, Team *team, int member) noexcept nogil:
    cdef Maps *maps = <Maps *> work
    cdef ptrdiff_t sample
    cdef bint inside = True
    for sample in range(first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size)):
        if maps.itemsize == 4:
            inside &= scatter_sample[cnp.uint32_t](maps, sample, <const cnp.uint32_t *> maps.source, <cnp.uint32_t *> maps.target)
        else:
            inside &= scatter_sample[cnp.uint64_t](maps, sample, <const cnp.uint64_t *> maps.source, <cnp.uint64_t *> maps.target)
    if not inside:
        maps.outside = True


cdef void gather_share(void *work, Team *team, int member) noexcept nogil:
    cdef Maps *maps = <Maps *> work
    cdef ptrdiff_t sample
    for sample in range(first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size)):
        if maps.itemsize == 4:
            gather_sample[cnp.uint32_t](maps, sample, <const cnp.uint32_t *> maps.source, <cnp.uint32_t *> maps.target)
        else:
            gather_sample[cnp.uint64_t](maps, sample, <const cnp.uint64_t *> maps.source, <cnp.uint64_t *> maps.target)


cdef bint scatter_sample(const Maps *m, ptrdiff_t sample, const item *values, item *maps) noexcept nogil:
    """Maps are cleared one by one, so that the values find them in a cache."""
    cdef ptrdiff_t C = m.channels, begin = sample * m.places * C, place
    cdef const cnp.int64_t *indices = m.indices + begin
    cdef size_t positions = <size_t> m.positions, last = 0
    if m.kept != NULL:
        memcpy(m.kept + begin, indices, m.places * C * sizeof(cnp.int64_t))
        indices = m.kept + begin
    values += begin
    maps += sample * m.positions * C
    memset(maps, 0, m.positions * C * sizeof(item))
    if C == 1:
        last = scatter_run(m.places, 0, values, indices, maps, 1, positions)
    else:
        for place in range(m.places):
            last = max(last, scatter_run(C, 1, values + place * C, indices + place * C, maps, C, positions))
    return last < positions or m.places * C == 0


cdef inline size_t scatter_run(ptrdiff_t count, ptrdiff_t pace, const item *values, const cnp.int64_t *indices, item *maps,
                               ptrdiff_t channels, size_t positions) noexcept nogil:
    """Scatter values of channels `pace` apart; return the largest index, where a negative one is large."""
    cdef size_t index, last = 0
    cdef ptrdiff_t i
    for i in range(count):
        index = <size_t> indices[i]
        if index < positions:
            maps[index * channels + i * pace] = values[i]
        last = max(last, index)
    return last


cdef void gather_sample(const Maps *m, ptrdiff_t sample, const item *maps, item *values) noexcept nogil:
    cdef ptrdiff_t C = m.channels, begin = sample * m.places * C, place
    maps += sample * m.positions * C
    if C == 1:
        gather_run(m.places, 0, maps, m.indices + begin, values + begin, 1)
    else:
        for place in range(m.places):
            gather_run(C, 1, maps, m.indices + begin + place * C, values + begin + place * C, C)


cdef inline void gather_run(ptrdiff_t count, ptrdiff_t pace, const item *maps, const cnp.int64_t *indices, item *values,
                            ptrdiff_t channels) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(count):
        values[i] = maps[indices[i] * channels + i * pace]
