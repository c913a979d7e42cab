# What a block of outputs reads, with the channels first and padded: rows follow each other without a gap.

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._dispatch cimport fr_kernels, fr_stretch
from fastrnn._kernels._windows cimport Axis, Range, Taps

cdef struct Side:
    # One axis of a band. Places a step apart lie side by side in a part of their own; a tap reads one part.
    ptrdiff_t low     # the first place that output 0 reads
    ptrdiff_t step, pace
    ptrdiff_t period  # tap j reads part j % period
    ptrdiff_t parts
    ptrdiff_t extra   # places of a part, less outputs
    ptrdiff_t reach   # places that one output reads, from the first to the last

cdef struct PlaneBand:
    # [tap of the depth][channel][part of the rows][part of the columns][row][place]
    Side side[2]
    ptrdiff_t width          # places of a row
    ptrdiff_t part, channel  # elements
    ptrdiff_t depth          # elements of all channels
    ptrdiff_t depths, channels

cdef struct LongRow:
    # `rows` rows, `width` places apart, of which the first `columns` go to place + row*distance.
    ptrdiff_t rows, width, columns, place, distance

cdef Side side_of(const Axis *axis) noexcept nogil
cdef ptrdiff_t cut_vectors(ptrdiff_t lanes, const LongRow *row, ptrdiff_t first, ptrdiff_t end, ptrdiff_t *from_,
                           ptrdiff_t *stretches, fr_stretch *stretch) noexcept nogil
cdef void describe_band(const Axis *axis, int itemsize, ptrdiff_t channels, ptrdiff_t rows, ptrdiff_t columns,
                        PlaneBand *band) noexcept nogil
cdef ptrdiff_t size_of_band(const PlaneBand *band) noexcept nogil
cdef ptrdiff_t tap_offset(const PlaneBand *band, ptrdiff_t d, ptrdiff_t h, ptrdiff_t w, const Taps **taps) noexcept nogil
cdef void fill_planes(const fr_kernels *kernels, int itemsize, const Axis *axis, const Maps *x, const PlaneBand *band, ptrdiff_t n,
                      ptrdiff_t depth, Range rows, Range columns, char *memory) noexcept nogil
