"""The undoing of maximum pooling: values go to given places of their maps, maps shared out over a team."""

cimport numpy as cnp
from libc.string cimport memset

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
    const void *source
    void *target
    int itemsize


def scatter(cnp.ndarray values not None, cnp.ndarray indices not None, cnp.ndarray maps not None, ptrdiff_t channels):
    """maps (samples, positions, channels) = values (samples, places, channels) at their indices, zeros elsewhere.

    Where an index occurs several times, the last of its values stays.
    """
    cdef Maps work = work_of(values, indices, maps, channels)
    cdef int size = team_size(NANOSECONDS_PER_ELEMENT * (values.size + maps.size), 1, work.samples)
    with nogil:
        run_team(scatter_share, &work, size)


def gather(cnp.ndarray maps not None, cnp.ndarray indices not None, cnp.ndarray values not None, ptrdiff_t channels):
    """values = maps at the indices; shapes as for `scatter`."""
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
    work.indices = <const cnp.int64_t *> cnp.PyArray_DATA(indices)
    work.source, work.target, work.itemsize = cnp.PyArray_DATA(values), cnp.PyArray_DATA(maps), maps.itemsize
    return work


cdef void scatter_share(void *work, Team *team, int member) noexcept nogil:
    cdef Maps *maps = <Maps *> work
    if maps.itemsize == 4:
        scatter_maps[cnp.uint32_t](maps, <const cnp.uint32_t *> maps.source, <cnp.uint32_t *> maps.target,
                                   first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size))
    else:
        scatter_maps[cnp.uint64_t](maps, <const cnp.uint64_t *> maps.source, <cnp.uint64_t *> maps.target,
                                   first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size))


cdef void gather_share(void *work, Team *team, int member) noexcept nogil:
    cdef Maps *maps = <Maps *> work
    if maps.itemsize == 4:
        gather_maps[cnp.uint32_t](maps, <const cnp.uint32_t *> maps.source, <cnp.uint32_t *> maps.target,
                                  first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size))
    else:
        gather_maps[cnp.uint64_t](maps, <const cnp.uint64_t *> maps.source, <cnp.uint64_t *> maps.target,
                                  first_of(maps.samples, member, team.size), first_of(maps.samples, member + 1, team.size))


cdef void scatter_maps(const Maps *m, const item *values, item *maps, ptrdiff_t first, ptrdiff_t end) noexcept nogil:
    cdef ptrdiff_t sample, place, c, at
    memset(maps + first * m.positions * m.channels, 0, (end - first) * m.positions * m.channels * sizeof(item))
    for sample in range(first, end):
        for place in range(m.places):
            for c in range(m.channels):
                at = (sample * m.places + place) * m.channels + c
                maps[(sample * m.positions + m.indices[at]) * m.channels + c] = values[at]


cdef void gather_maps(const Maps *m, const item *maps, item *values, ptrdiff_t first, ptrdiff_t end) noexcept nogil:
    cdef ptrdiff_t sample, place, c, at
    for sample in range(first, end):
        for place in range(m.places):
            for c in range(m.channels):
                at = (sample * m.places + place) * m.channels + c
                values[at] = maps[(sample * m.positions + m.indices[at]) * m.channels + c]
