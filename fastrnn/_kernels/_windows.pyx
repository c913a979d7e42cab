"""Kernels that slide over maps: which input each output reads, and how outputs are cut into boxes.

Two kinds, along each axis by itself. A correlation: output i reads input ``i*stride + t*dilation - low`` for tap t. Its transpose:
output i reads input o wherever ``i = o*stride + t*dilation - low``. The outputs of the second fall into `stride` phases, each of
which is a correlation of step 1 with some of the taps; the first has one phase. So both are the same to what follows.
"""

from fastrnn._kernels._memory cimport new_block

BORDERS = ("zeros", "reflect", "replicate", "circular")


cdef class Windows:
    """The windows over maps of three axes.

    Parameters
    ----------
    sizes, counts : places of the input and of the output, three each, as all that follow
    kernel, stride, dilation : as usual
    low : what of the border comes before; may be negative
    border : one of BORDERS
    flip : reverse the taps
    transposed : the second kind
    """

    def __init__(self, sizes, counts, kernel, stride, dilation, low, str border, bint flip, bint transposed):
        self.memory = new_block(sum(stride) * sizeof(Taps))
        cdef Taps *taps = <Taps *> self.memory.data
        cdef Axis *axis
        cdef Taps one
        cdef ptrdiff_t phase, nearest, farthest
        for a in range(AXES):
            axis = &self.axis[a]
            axis.source, axis.count, axis.kernel = sizes[a], counts[a], kernel[a]
            axis.border = BORDERS.index(border)
            axis.step, axis.spread = (1, stride[a]) if transposed else (stride[a], 1)
            axis.taps = taps
            nearest, farthest = 0, 0
            for phase in range(axis.spread):
                if transposed:
                    one = transposed_taps(kernel[a], stride[a], dilation[a], phase + low[a])
                else:
                    one = Taps(kernel[a], -low[a], dilation[a], 0, 1)
                if flip:
                    one.first, one.stride = axis.kernel - 1 - one.first, -one.stride
                if one.count:
                    nearest = min(nearest, one.offset)
                    farthest = max(farthest, one.offset + (one.count - 1) * one.pace)
                taps[phase] = one
            axis.reach = farthest - nearest + 1
            taps += axis.spread


cdef Taps transposed_taps(ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t place):
    """The taps t with ``place = o*stride + t*dilation`` for some o, in ascending order of o."""
    cdef Taps taps = Taps(0, 0, 1, 0, 1)
    found = [t for t in range(kernel) if (<object> place - t * dilation) % stride == 0]
    if found:
        last = found[len(found) - 1]
        taps.count, taps.first = len(found), last
        taps.offset = (<object> place - last * dilation) // stride  # rounds down
        if len(found) > 1:
            taps.stride = found[0] - found[1]
            taps.pace = -taps.stride * dilation // stride
    return taps


cdef ptrdiff_t phases_of(const Axis *axis) noexcept nogil:
    return axis[0].spread * axis[1].spread * axis[2].spread


cdef ptrdiff_t taps_of(const Axis *axis) noexcept nogil:
    return axis[0].kernel * axis[1].kernel * axis[2].kernel


cdef void phase_of(const Axis *axis, ptrdiff_t number, const Taps **taps, ptrdiff_t *phase) noexcept nogil:
    """The phase of each axis, and the taps that its outputs see; phases are numbered over all axes."""
    cdef ptrdiff_t a
    for a in range(2, -1, -1):
        phase[a] = number % axis[a].spread
        number //= axis[a].spread
        taps[a] = &axis[a].taps[phase[a]]


cdef ptrdiff_t extent(const Axis *axis, ptrdiff_t outputs) noexcept nogil:
    """No `outputs` neighbours read more places of the input than this."""
    # Outputs of several phases may start in the middle of them, one step apart.
    return ((outputs - 1) // axis.spread + (axis.spread > 1)) * axis.step + axis.reach


cdef Range outputs_in_phase(const Axis *axis, Range outputs, ptrdiff_t phase) noexcept nogil:
    """The q of the outputs q*spread + phase in a range."""
    cdef Range q
    q.first = (outputs.first - phase + axis.spread - 1) // axis.spread if outputs.first > phase else 0
    q.end = (outputs.end - 1 - phase) // axis.spread + 1 if outputs.end > phase else 0
    return q


cdef Range inputs_of(const Axis *axis, Range outputs) noexcept nogil:
    """The places that these outputs read, from the first to the last; at least one."""
    cdef Range all, q
    cdef const Taps *taps
    cdef ptrdiff_t phase
    cdef bint none = True
    all.first, all.end = 0, 1
    for phase in range(axis.spread):
        taps = &axis.taps[phase]
        q = outputs_in_phase(axis, outputs, phase)
        if q.end <= q.first or taps.count == 0:
            continue
        q.first = q.first * axis.step + taps.offset
        q.end = (q.end - 1) * axis.step + taps.offset + (taps.count - 1) * taps.pace + 1
        all.first = q.first if none else min(all.first, q.first)
        all.end = q.end if none else max(all.end, q.end)
        none = False
    return all


cdef ptrdiff_t place_of(const Axis *axis, ptrdiff_t place) noexcept nogil:
    """Where the value at a place of the padded input comes from, or -1 for a zero."""
    cdef ptrdiff_t last = axis.source - 1
    if 0 <= place <= last:
        return place
    if axis.border == REFLECT:
        return -place if place < 0 else 2 * last - place
    if axis.border == REPLICATE:
        return 0 if place < 0 else last
    if axis.border == CIRCULAR:
        return place + axis.source if place < 0 else place - axis.source
    return -1


cdef Range taps_inside(const Axis *axis, const Taps *taps, ptrdiff_t output) noexcept nogil:
    """The taps of an output of one phase without those at either end that meet zeros of the border."""
    cdef Range inside
    cdef ptrdiff_t place = output * axis.step + taps.offset
    inside.first, inside.end = 0, taps.count
    if axis.border != ZEROS:
        return inside
    while inside.end > 0 and not 0 <= place + (inside.end - 1) * taps.pace < axis.source:
        inside.end -= 1
    while inside.first < inside.end and not 0 <= place + inside.first * taps.pace < axis.source:
        inside.first += 1
    return inside


cdef bint stays_inside(const Axis *axis) noexcept nogil:
    """Whether no output reads outside of the input."""
    cdef Range outputs, inputs
    outputs.first, outputs.end = 0, axis.count
    inputs = inputs_of(axis, outputs)
    return inputs.first >= 0 and inputs.end <= axis.source


cdef void cut(const Axis *axis, ptrdiff_t N, ptrdiff_t channels, ptrdiff_t most_pixels, ptrdiff_t most_values, int team,
              Blocks *blocks) noexcept nogil:
    """Boxes of at most so many outputs, which read at most so many values of `channels` channels; one output at least.

    A box is longer than one along an axis only if it is whole along all that follow. For a team, a few more boxes, so that each
    member has as many.
    """
    cdef ptrdiff_t pixels = 1, values = channels, most, a
    cdef int last = 3
    cdef ptrdiff_t size[4]
    size[0], size[1], size[2], size[3] = N, axis[0].count, axis[1].count, axis[2].count
    for a in range(4):
        blocks.size[a], blocks.most[a] = size[a], 1
    for a in range(1, 4):
        values *= extent(&axis[a - 1], 1)
    for a in range(3, -1, -1):
        last = <int> a
        values //= extent(&axis[a - 1], 1) if a else 1
        most = min(size[a], most_pixels // pixels)
        while most > 1 and (extent(&axis[a - 1], most) if a else most) * values > most_values:
            most = max(<ptrdiff_t> 1, min(most - 1, most * most_values // ((extent(&axis[a - 1], most) if a else most) * values)))
        most = max(<ptrdiff_t> 1, most)
        blocks.most[a] = most
        values *= extent(&axis[a - 1], most) if a else most
        pixels *= most
        if most < size[a]:
            break
    blocks.total = 1
    for a in range(4):
        blocks.count[a] = (size[a] + blocks.most[a] - 1) // blocks.most[a]
        blocks.total *= blocks.count[a]
    most = 8 * team
    for a in range(last, 4):
        while blocks.total < most and blocks.total % team and blocks.count[a] < size[a]:
            blocks.total = blocks.total // blocks.count[a] * (blocks.count[a] + 1)
            blocks.count[a] += 1
        if size[a] > 1:
            most = 4 * team  # boxes of parts of what was whole read more: only where many members would wait
    for a in range(4):
        blocks.most[a] = (size[a] + blocks.count[a] - 1) // blocks.count[a] if blocks.count[a] else 0


cdef void box_of(const Blocks *blocks, ptrdiff_t number, Range *box) noexcept nogil:
    cdef ptrdiff_t a, i
    for a in range(3, -1, -1):
        i = number % blocks.count[a]
        number //= blocks.count[a]
        box[a].first = blocks.size[a] * i // blocks.count[a]
        box[a].end = blocks.size[a] * (i + 1) // blocks.count[a]


cdef ptrdiff_t largest_band(const Axis *axis, const Blocks *blocks) noexcept nogil:
    """Places of the input that the largest box may read."""
    cdef ptrdiff_t a, places = blocks.most[0]
    for a in range(AXES):
        places *= extent(&axis[a], blocks.most[a + 1])
    return places
