"""Convolution of each channel by itself with the channels last: vectors run over the channels of a pixel, read in place.

Tables say where each place of the padded maps lies, or that it is outside, so that borders of all kinds are the same to the kernel.
Workspace of a call: 8 bytes for each place along an axis; of a thread's weight gradient: its sums.
"""

from libc.string cimport memset

from fastrnn._kernels._depthwise cimport end_past
from fastrnn._kernels._depthwise_rows cimport keep_rows, rows_of_band
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._threads cimport first_of
from fastrnn._kernels._windows cimport Taps, inputs_of, outputs_in_phase, place_of

cdef ptrdiff_t BOX_BYTES = 16 << 10  # of outputs that a weight gradient goes over for some channels after others


cdef Range places_along(const Axis *axis) noexcept nogil:
    """All places that are read."""
    cdef Range outputs
    outputs.first, outputs.end = 0, axis.count
    return inputs_of(axis, outputs)


cdef ptrdiff_t entries_of_places(const Axis *axis) noexcept nogil:
    cdef ptrdiff_t a, count = 0
    cdef Range places
    for a in range(3):
        places = places_along(&axis[a])
        count += places.end - places.first
    return count


cdef void fill_places(const Axis *axis, const ptrdiff_t *stride, bint padded, ptrdiff_t *memory, Places *places) noexcept nogil:
    """The tables for maps whose neighbours along each axis lie `stride` elements apart; `padded`: with zeros around rows."""
    cdef ptrdiff_t a, i, source
    cdef Range seen
    places.padded, places.low = padded, 0
    for a in range(3):
        seen = places_along(&axis[a])
        places.of[a], places.first[a], places.stride[a] = memory, seen.first, stride[a]
        if padded and a == 2:
            places.low = max(<ptrdiff_t> 0, -seen.first)
        for i in range(seen.end - seen.first):
            source = seen.first + i + places.low if padded and a == 2 else place_of(&axis[a], seen.first + i)
            memory[i] = source * stride[a] if source >= 0 else -1
        memory += seen.end - seen.first


cdef void run_box(const Axis *axis, int itemsize, const Places *places, const Range *box, fr_pixel_conv *g, char *y,
                  const ptrdiff_t *y_stride, void (*kernel)(const fr_pixel_conv *) noexcept nogil) noexcept nogil:
    """The outputs of a box, the first of which is at `y`, phase by phase."""
    cdef ptrdiff_t phase[3]
    for phase[0] in range(axis[0].spread):
        for phase[1] in range(axis[1].spread):
            for phase[2] in range(axis[2].spread):
                run_phase(axis, itemsize, places, box, phase, g, y, y_stride, kernel)


cdef void run_phase(const Axis *axis, int itemsize, const Places *places, const Range *box, const ptrdiff_t *phase,
                    fr_pixel_conv *g, char *y, const ptrdiff_t *y_stride,
                    void (*kernel)(const fr_pixel_conv *) noexcept nogil) noexcept nogil:
    cdef ptrdiff_t a, last, per_tap = 1
    cdef const Taps *taps
    cdef Range q
    for a in range(2, -1, -1):
        taps = &axis[a].taps[phase[a]]
        q = outputs_in_phase(&axis[a], box[a], phase[a])
        if q.end <= q.first:
            return
        g.axis[a].outputs, g.axis[a].taps, g.axis[a].step, g.axis[a].pace = q.end - q.first, taps.count, axis[a].step, taps.pace
        g.axis[a].place = places.of[a] + (q.first * axis[a].step + taps.offset - places.first[a])
        g.axis[a].tap, g.axis[a].tap_stride = taps.first * per_tap, taps.stride * per_tap
        g.axis[a].x_stride, g.axis[a].y_stride = places.stride[a], y_stride[a] * axis[a].spread
        y += (q.first * axis[a].spread + phase[a] - box[a].first) * y_stride[a] * itemsize
        last = axis[a].source - 1 - taps.offset - (taps.count - 1) * taps.pace
        g.axis[a].inner = max(<ptrdiff_t> 0, (ceil_div(-taps.offset, axis[a].step) if taps.offset < 0 else 0) - q.first)
        g.axis[a].inner_end = min(q.end, last // axis[a].step + 1 if last >= 0 else 0) - q.first
        per_tap *= axis[a].kernel
    if places.padded:
        g.axis[2].inner, g.axis[2].inner_end = 0, g.axis[2].outputs
    g.y = y
    kernel(g)


cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil:
    """Members share rows; neighbouring ones are run together."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t per_map = s.axis[1].count, rows = s.N * s.axis[0].count * per_map, n
    cdef ptrdiff_t row = first_of(rows, member, team.size), end = first_of(rows, member + 1, team.size)
    cdef ptrdiff_t band = rows_of_band(s) if s.past or s.kept != NULL else per_map
    cdef Range box[3]
    cdef fr_pixel_conv g
    cdef char *y
    g.channels = g.tap_channels = s.y.channels
    g.activation, g.weight, g.bias, g.gain, g.resume, g.far = s.activation, s.weight, s.bias, s.gain, False, s.far
    box[2].first, box[2].end = 0, s.axis[2].count
    while row < end:
        n, box[0].first, box[1].first = row // per_map // s.axis[0].count, row // per_map % s.axis[0].count, row % per_map
        box[0].end, box[1].end = box[0].first + 1, min(per_map, box[1].first + min(band, end - row))
        g.x = s.x.data + n * s.x.batch_stride * s.itemsize
        y = s.y.data + (n * s.y.batch_stride + box[0].first * s.y.place_stride[0]
                        + box[1].first * s.y.place_stride[1]) * s.itemsize
        run_box(s.axis, s.itemsize, &s.places, box, &g, s.scratch + member * s.scratch_bytes if s.past else y, s.y.place_stride,
                s.kernels.pixel_conv)
        if s.past:
            s.kernels.copy_past((box[1].end - box[1].first) * s.y.place_stride[1], s.scratch + member * s.scratch_bytes, y)
        if s.kept != NULL:
            keep_rows(s, n, box[1].first, box[1].end)
        row += box[1].end - box[1].first
    end_past(s)


cdef void share_of_pixel_gradients(void *work, Team *team, int member) noexcept nogil:
    """grad [map][tap] += the sums over all pixels; members share channels."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t vectors = ceil_div(s.y.channels, s.kernels.width), n, d, h, per_box
    cdef ptrdiff_t first = min(s.y.channels, first_of(vectors, member, team.size) * s.kernels.width)
    cdef ptrdiff_t end = min(s.y.channels, first_of(vectors, member + 1, team.size) * s.kernels.width)
    cdef char *sums = s.scratch + member * s.scratch_bytes
    cdef Range box[3]
    cdef fr_pixel_conv g
    g.channels = g.tap_channels = end - first
    g.far = False
    g.sums = sums
    if end <= first:
        return
    memset(sums, 0, s.taps * g.channels * s.itemsize)
    per_box = max(<ptrdiff_t> 1, BOX_BYTES // (s.axis[2].count * s.y.channels * s.itemsize))  # whatever the team is
    box[2].first, box[2].end = 0, s.axis[2].count
    for n in range(s.N):
        g.x = s.x.data + (n * s.x.batch_stride + first) * s.itemsize
        for d in range(s.axis[0].count):
            box[0].first, box[0].end = d, d + 1
            h = 0
            while h < s.axis[1].count:
                box[1].first, box[1].end = h, min(s.axis[1].count, h + per_box)
                run_box(s.axis, s.itemsize, &s.places, box, &g,
                        s.y.data + (n * s.y.batch_stride + d * s.y.place_stride[0] + h * s.y.place_stride[1] + first) * s.itemsize,
                        s.y.place_stride, s.kernels.pixel_conv_weight)
                h += per_box
    s.kernels.add_turned(s.taps, g.channels, sums, g.channels, s.grad + first * s.taps * s.itemsize, s.taps)
