"""Transformed weights of a Winograd convolution: all of them, or the part that a block is about to use."""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_SLOTS, FR_WINOGRAD_WEIGHT_SCRATCH, fr_boxes, fr_winograd_weights
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._winograd_tiles cimport LINE, round_up, whole_pages

cdef double NANOSECONDS_PER_REAL = 0.25


cdef ptrdiff_t row_of_units(const fr_kernels *kernels, ptrdiff_t units) noexcept nogil:
    """Units of a row of a panel: 4 W, or whole vectors for fewer in all. Gaps would leave out sets of the caches."""
    return min(FR_SLOTS * kernels.width, round_up(units, kernels.width))


cdef ptrdiff_t first_of_part(const Transform *t, ptrdiff_t panel, ptrdiff_t channel) noexcept nogil:
    """Where the weights of a panel begin at a channel, in bytes."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width
    if t.packed:
        return (panel * t.channels + channel) * t.algorithm.kernel[0] * t.algorithm.kernel[1] * width * t.itemsize
    return (panel * width * t.unit_stride + channel * t.channel_stride) * t.itemsize


cdef fr_boxes part_of_weights(const Transform *t, ptrdiff_t panel, ptrdiff_t channel, ptrdiff_t channels) noexcept nogil:
    """The weights of some channels of one panel, where they lie."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, taps = t.algorithm.kernel[0] * t.algorithm.kernel[1]
    cdef ptrdiff_t units = min(width, t.units - panel * width)
    cdef fr_boxes part
    memset(&part, 0, sizeof(part))
    part.from_, part.boxes, part.runs = t.weight + first_of_part(t, panel, channel), 1, 1
    if t.packed:
        part.bytes = channels * taps * width * t.itemsize
    elif t.unit_stride > t.channel_stride:
        part.runs, part.run_stride, part.bytes = units, t.unit_stride * t.itemsize, channels * taps * t.itemsize
    else:
        part.runs, part.run_stride, part.bytes = channels, t.channel_stride * t.itemsize, units * taps * t.itemsize
    return part


cdef ptrdiff_t packed_bytes(const Transform *t) noexcept nogil:
    """Of one group."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, taps = t.algorithm.kernel[0] * t.algorithm.kernel[1]
    return ceil_div(t.units, width) * width * t.channels * taps * t.itemsize


cdef Block packed_weights(const Transform *t):
    """The weights as [group][panel][channel][tap][4 W], from which they are transformed fast; not flipped."""
    cdef ptrdiff_t lanes = t.kernels.width, width = FR_SLOTS * lanes, k = t.channels * t.algorithm.kernel[0] * t.algorithm.kernel[1]
    cdef ptrdiff_t vector, unit, units = ceil_div(t.units, width) * width, group
    cdef Block result = new_block(t.groups * packed_bytes(t))
    cdef const char *weight
    cdef char *to
    with nogil:
        for group in range(t.groups):
            weight, to = t.weight + group * t.group_bytes, result.data + group * packed_bytes(t)
            for vector in range(units // lanes):
                unit = vector * lanes
                t.kernels.pack_units(max(<ptrdiff_t> 0, min(lanes, t.units - unit)), k, weight + unit * t.unit_stride * t.itemsize,
                                     t.unit_stride, to + (unit // width * k * width + unit % width) * t.itemsize, width)
    return result


cdef void transform_part(const Transform *t, ptrdiff_t panel, ptrdiff_t piece, ptrdiff_t channel, ptrdiff_t channels, char *to,
                         ptrdiff_t point_stride, char *scratch) noexcept nogil:
    """U of some channels of one panel and one piece of the kernel."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, taps = t.algorithm.kernel[0] * t.algorithm.kernel[1]
    cdef ptrdiff_t in_piece = t.algorithm.taps[0] * t.algorithm.taps[1], first = piece * in_piece
    cdef fr_winograd_weights w
    w.units, w.channels = min(width, t.units - panel * width), channels
    w.unit_stride, w.channel_stride = t.unit_stride, t.channel_stride
    w.points[0], w.points[1] = t.algorithm.points[0], t.algorithm.points[1]
    w.taps[0], w.taps[1] = t.algorithm.taps[0], t.algorithm.taps[1]
    w.valid = min(in_piece, taps - first)
    if t.flipped:
        first = taps - first - w.valid
    w.weight = <char *> t.weight + first_of_part(t, panel, channel) + first * t.itemsize
    w.flipped, w.packed, w.transformed, w.point_stride, w.scratch = t.flipped, t.packed, to, point_stride, scratch
    w.row = row_of_units(t.kernels, t.units)
    t.kernels.winograd_weights(&w)


cdef ptrdiff_t point_distance(const Transform *t) noexcept nogil:
    return t.algorithm.pieces * t.channels * row_of_units(t.kernels, t.units) + LINE


cdef ptrdiff_t group_distance(const Transform *t) noexcept nogil:
    """Bytes of U of one group."""
    cdef ptrdiff_t panels = ceil_div(t.units, FR_SLOTS * t.kernels.width)
    return panels * t.algorithm.points[0] * t.algorithm.points[1] * point_distance(t) * t.itemsize


cdef void share_of_transform(void *work, Team *team, int member) noexcept nogil:
    """Parts of all panels: the same channels of each for one member."""
    cdef const Transform *all = <const Transform *> work
    cdef Transform own = all[0]
    cdef Transform *t = &own
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, panel, piece, first, channels, group
    cdef ptrdiff_t u_point = point_distance(t), points = t.algorithm.points[0] * t.algorithm.points[1]
    cdef ptrdiff_t row = row_of_units(t.kernels, t.units)
    cdef char *scratch = t.scratch + member * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize
    first = first_of(t.channels, member, team.size)
    channels = first_of(t.channels, member + 1, team.size) - first
    for group in range(t.groups):
        own.weight, own.transformed = all.weight + group * t.group_bytes, all.transformed + group * group_distance(t)
        for panel in range(ceil_div(t.units, width)):
            for piece in range(t.algorithm.pieces):
                transform_part(
                    t, panel, piece, first, channels,
                    t.transformed + (panel * points * u_point + (piece * t.channels + first) * row) * t.itemsize, u_point, scratch)


cdef Block transformed_weights(const Transform *t):
    cdef ptrdiff_t nbytes = t.groups * group_distance(t)
    cdef Block result = new_block(whole_pages(nbytes))
    cdef int size = team_size(NANOSECONDS_PER_REAL * nbytes / t.itemsize, 1, t.channels)
    cdef Block scratch = new_block(size * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize)
    cdef Transform own = t[0]  # another thread may transform the same weights
    own.transformed, own.scratch = result.data, scratch.data
    with nogil:
        run_team(share_of_transform, &own, size)
    return result
