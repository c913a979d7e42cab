# Kernels that slide over maps: which input each output reads, and how outputs are cut into boxes.

from fastrnn._kernels._memory cimport Block

cdef enum:
    AXES = 3  # spatial axes; missing ones have size 1

cdef enum:
    ZEROS, REFLECT, REPLICATE, CIRCULAR  # what lies outside of a map

cdef struct Taps:
    # The taps that outputs i = q*spread + phase along one axis see: tap j meets input q*step + offset + j*pace, and is number
    # first + j*stride of the kernel.
    ptrdiff_t count, offset, pace, first, stride

cdef struct Axis:
    ptrdiff_t source  # places of the input
    ptrdiff_t count   # places of the output
    ptrdiff_t kernel
    ptrdiff_t step, spread
    ptrdiff_t reach   # an output and all its taps need that many places of the input
    int border
    const Taps *taps  # [spread]

cdef struct Range:
    ptrdiff_t first, end

cdef struct Blocks:
    # Boxes of outputs: axis 0 counts maps of the batch, 1..3 places. Axis a has count[a] boxes, which share its size evenly.
    ptrdiff_t size[4]   # of the whole
    ptrdiff_t most[4]   # of one box
    ptrdiff_t count[4]
    ptrdiff_t total     # boxes

cdef class Windows:
    cdef Axis axis[3]
    cdef Block memory

cdef ptrdiff_t phases_of(const Axis *axis) noexcept nogil
cdef ptrdiff_t taps_of(const Axis *axis) noexcept nogil
cdef void phase_of(const Axis *axis, ptrdiff_t number, const Taps **taps, ptrdiff_t *phase) noexcept nogil
cdef ptrdiff_t extent(const Axis *axis, ptrdiff_t outputs) noexcept nogil
cdef Range inputs_of(const Axis *axis, Range outputs) noexcept nogil
cdef ptrdiff_t place_of(const Axis *axis, ptrdiff_t place) noexcept nogil
cdef Range outputs_in_phase(const Axis *axis, Range outputs, ptrdiff_t phase) noexcept nogil
cdef Range taps_inside(const Axis *axis, const Taps *taps, ptrdiff_t output) noexcept nogil
cdef bint stays_inside(const Axis *axis) noexcept nogil
cdef void cut(const Axis *axis, ptrdiff_t N, ptrdiff_t channels, ptrdiff_t most_pixels, ptrdiff_t most_values, int team,
              Blocks *blocks) noexcept nogil
cdef void box_of(const Blocks *blocks, ptrdiff_t number, Range *box) noexcept nogil
cdef ptrdiff_t largest_band(const Axis *axis, const Blocks *blocks) noexcept nogil
