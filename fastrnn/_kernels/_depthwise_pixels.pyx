"""Convolution of each channel by itself with the channels last: vectors run over the channels of a pixel, read in place."""

from libc.string cimport memset

from fastrnn._kernels._depthwise cimport Call
from fastrnn._kernels._dispatch cimport fr_pixel_conv
from fastrnn._kernels._gemm cimport ceil_div
from fastrnn._kernels._threads cimport first_of
from fastrnn._kernels._windows cimport Axis, Range, Taps, outputs_in_phase, place_of


cdef struct Row:
    # One output row, channels last.
    ptrdiff_t n, d, h    # in the output
    ptrdiff_t phase_d, phase_h
    const Taps *d_taps
    const Taps *h_taps


cdef ptrdiff_t pixel_taps(const Call *s, const Row *r, const Taps *w_taps, ptrdiff_t q, ptrdiff_t base, ptrdiff_t *offset,
                          ptrdiff_t *which) noexcept nogil:
    """The taps that output q of the row's phase sees, by their offset from place `base` of row 0; zeros outside are left out."""
    cdef ptrdiff_t d, h, w, from_d, from_h, from_w, count = 0
    for d in range(r.d_taps.count):
        from_d = place_of(&s.axis[0], r.d // s.axis[0].spread * s.axis[0].step + r.d_taps.offset + d * r.d_taps.pace)
        for h in range(r.h_taps.count):
            from_h = place_of(&s.axis[1], r.h // s.axis[1].spread * s.axis[1].step + r.h_taps.offset + h * r.h_taps.pace)
            if from_d < 0 or from_h < 0:
                continue
            for w in range(w_taps.count):
                from_w = place_of(&s.axis[2], q * s.axis[2].step + w_taps.offset + w * w_taps.pace)
                if from_w < 0:
                    continue
                offset[count] = (from_d * s.x.place_stride[0] + from_h * s.x.place_stride[1]
                                 + (from_w - base) * s.x.place_stride[2])
                which[count] = (((r.d_taps.first + d * r.d_taps.stride) * s.axis[1].kernel + r.h_taps.first
                                 + h * r.h_taps.stride) * s.axis[2].kernel + w_taps.first + w * w_taps.stride)
                count += 1
    return count


cdef void run_row(const Call *s, const Row *r, fr_pixel_conv *g, const char *x, char *y, ptrdiff_t *offset,
                  void (*kernel)(const fr_pixel_conv *) noexcept nogil) noexcept nogil:
    """The pixels of one row, those that see the same taps together."""
    cdef const Axis *axis = &s.axis[2]
    cdef const Taps *taps
    cdef ptrdiff_t phase, q, end, inner, stop
    cdef Range all
    all.first, all.end = 0, axis.count
    for phase in range(axis.spread):
        taps = &axis.taps[phase]
        q = outputs_in_phase(axis, all, phase).first
        end = outputs_in_phase(axis, all, phase).end
        inner = max(q, ceil_div(-taps.offset, axis.step) if taps.offset < 0 else 0)
        stop = axis.source - 1 - taps.offset - (taps.count - 1) * taps.pace
        stop = min(end, stop // axis.step + 1) if stop >= 0 else 0
        while q < end:
            g.pixels = stop - q if inner <= q < stop else 1
            g.taps = pixel_taps(s, r, taps, q, q * axis.step, offset, offset + s.taps)
            g.offset, g.which = offset, offset + s.taps
            g.x = x + q * axis.step * s.x.place_stride[2] * s.itemsize
            g.x_stride, g.y_stride = axis.step * s.x.place_stride[2], axis.spread * s.y.place_stride[2]
            g.y = y + (q * axis.spread + phase) * s.y.place_stride[2] * s.itemsize
            kernel(g)
            q += g.pixels


cdef inline void start_row(const Call *s, ptrdiff_t number, Row *r) noexcept nogil:
    r.h = number % s.axis[1].count
    r.d = number // s.axis[1].count % s.axis[0].count
    r.n = number // s.axis[1].count // s.axis[0].count
    r.d_taps, r.h_taps = &s.axis[0].taps[r.d % s.axis[0].spread], &s.axis[1].taps[r.h % s.axis[1].spread]


cdef void share_of_pixels(void *work, Team *team, int member) noexcept nogil:
    cdef Call *s = <Call *> work
    cdef ptrdiff_t rows = s.N * s.axis[0].count * s.axis[1].count, number
    cdef ptrdiff_t *offset = <ptrdiff_t *> (s.scratch + member * s.scratch_bytes)
    cdef Row r
    cdef fr_pixel_conv g
    g.channels, g.activation, g.weight, g.bias, g.gain = s.y.channels, s.activation, s.weight, s.bias, s.gain
    for number in range(first_of(rows, member, team.size), first_of(rows, member + 1, team.size)):
        start_row(s, number, &r)
        run_row(s, &r, &g, s.x.data + r.n * s.x.batch_stride * s.itemsize,
                s.y.data + (r.n * s.y.batch_stride + r.d * s.y.place_stride[0] + r.h * s.y.place_stride[1]) * s.itemsize, offset,
                s.kernels.pixel_conv)


cdef void share_of_pixel_gradients(void *work, Team *team, int member) noexcept nogil:
    """grad [map][tap] += the sums over all pixels; members share channels."""
    cdef Call *s = <Call *> work
    cdef ptrdiff_t rows = s.N * s.axis[0].count * s.axis[1].count, number, vectors = ceil_div(s.y.channels, s.kernels.width)
    cdef ptrdiff_t first = min(s.y.channels, first_of(vectors, member, team.size) * s.kernels.width)
    cdef ptrdiff_t end = min(s.y.channels, first_of(vectors, member + 1, team.size) * s.kernels.width)
    cdef ptrdiff_t *offset = <ptrdiff_t *> (s.scratch + member * s.scratch_bytes)
    cdef char *sums = <char *> (offset + 2 * s.taps)
    cdef Row r
    cdef fr_pixel_conv g
    g.channels, g.sums = end - first, sums
    if end <= first:
        return
    memset(sums, 0, s.taps * g.channels * s.itemsize)
    for number in range(rows):
        start_row(s, number, &r)
        run_row(s, &r, &g, s.x.data + (r.n * s.x.batch_stride + first) * s.itemsize,
                s.y.data + (r.n * s.y.batch_stride + r.d * s.y.place_stride[0] + r.h * s.y.place_stride[1] + first) * s.itemsize,
                offset, s.kernels.pixel_conv_weight)
    s.kernels.add_turned(s.taps, g.channels, sums, g.channels, s.grad + first * s.taps * s.itemsize, s.taps)
