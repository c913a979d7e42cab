"""Transformed weights of a Winograd convolution: all of them, or the part that a block is about to use."""

from fastrnn._kernels._dispatch cimport FR_SLOTS, FR_WINOGRAD_WEIGHT_SCRATCH, fr_winograd_weights
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size
from fastrnn._kernels._winograd_tiles cimport LINE

cdef double NANOSECONDS_PER_REAL = 0.25


cdef void transform_part(const Transform *t, ptrdiff_t panel, ptrdiff_t piece, ptrdiff_t channel, ptrdiff_t channels, char *to,
                         ptrdiff_t point_stride, char *scratch) noexcept nogil:
    """U of some channels of one panel and one piece of the kernel."""
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, taps = t.algorithm.kernel[0] * t.algorithm.kernel[1]
    cdef ptrdiff_t first = piece * t.algorithm.taps[1]
    cdef fr_winograd_weights w
    w.units, w.channels = min(width, t.units - panel * width), channels
    w.unit_stride, w.channel_stride = t.unit_stride, t.channel_stride
    w.points[0], w.points[1] = t.algorithm.points[0], t.algorithm.points[1]
    w.taps[0], w.taps[1] = t.algorithm.taps[0], t.algorithm.taps[1]
    w.valid = taps if t.algorithm.pieces == 1 else min(<ptrdiff_t> t.algorithm.taps[1], taps - first)
    if t.flipped:
        first = taps - first - w.valid
    w.weight = <char *> t.weight + (panel * width * t.unit_stride + channel * t.channel_stride + first) * t.itemsize
    w.flipped, w.transformed, w.point_stride, w.scratch = t.flipped, to, point_stride, scratch
    t.kernels.winograd_weights(&w)


cdef ptrdiff_t point_distance(const Transform *t) noexcept nogil:
    return t.algorithm.pieces * t.channels * FR_SLOTS * t.kernels.width + LINE


cdef void share_of_transform(void *work, Team *team, int member) noexcept nogil:
    cdef Transform *t = <Transform *> work
    cdef ptrdiff_t width = FR_SLOTS * t.kernels.width, panels = ceil_div(t.units, width), panel, piece
    cdef ptrdiff_t u_point = point_distance(t), points = t.algorithm.points[0] * t.algorithm.points[1]
    cdef char *scratch = t.scratch + member * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize
    for panel in range(first_of(panels, member, team.size), first_of(panels, member + 1, team.size)):
        for piece in range(t.algorithm.pieces):
            transform_part(t, panel, piece, 0, t.channels,
                           t.transformed + (panel * points * u_point + piece * t.channels * width) * t.itemsize, u_point, scratch)


cdef Block transformed_weights(Transform *t):
    cdef ptrdiff_t panels = ceil_div(t.units, FR_SLOTS * t.kernels.width)
    cdef ptrdiff_t reals = panels * t.algorithm.points[0] * t.algorithm.points[1] * point_distance(t)
    cdef Block result = new_block(reals * t.itemsize)
    cdef int size = team_size(NANOSECONDS_PER_REAL * reals, 1, panels)
    cdef Block scratch = new_block(size * FR_WINOGRAD_WEIGHT_SCRATCH * t.kernels.width * t.itemsize)
    t.transformed, t.scratch = result.data, scratch.data
    with nogil:
        run_team(share_of_transform, t, size)
    return result
