# Convolution of each channel by itself.

from libc.string cimport memcpy

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._dispatch cimport fr_kernels
from fastrnn._kernels._windows cimport Axis, Blocks

cdef struct Places:
    # Where the values at the places of padded maps lie, summed over the axes, in elements; -1 outside.
    ptrdiff_t *of[3]     # counted from `first`
    ptrdiff_t first[3]
    ptrdiff_t stride[3]  # of neighbours that are inside
    ptrdiff_t low        # along the columns, so many places of the border lie in memory before the map
    bint padded          # and all others too

cdef struct Call:
    # x (N, C, *sizes) and y (N, K, *counts), map k of y belongs to channel k // maps of x. To the input: x has `maps` to one of y.
    const fr_kernels *kernels
    int itemsize
    const Axis *axis
    Maps x, y
    ptrdiff_t N, x_maps, y_maps  # that belong to one channel; one of the two is 1
    char *weight                 # [map][tap]; channels last: [tap][channel]
    char *bias
    char *gain
    char *grad                   # [map][tap]; channels last: [member][tap][channel]
    char *bias_grad              # [map], channels first; NULL if not wanted
    char *kept                   # a copy of x, channels first; NULL if not wanted
    bint past, keep_past         # y of training and the copy are large: stored past the caches, see FR_PAST_BYTES
    bint far                     # x is large: it may come from memory
    int activation
    Blocks blocks
    Places places                # of pixels, and of turned maps
    char *scratch
    ptrdiff_t scratch_bytes, map_bytes, apart_bytes, joined_bytes, taps
    bint channels_last
    ptrdiff_t lanes              # channels that are turned together
    bint rows                    # maps are convolved where they lie
    bint turned                  # maps lie in the lanes: weight is [map of a channel][tap][channel], bias and gain [map][channel]
    bint swept                   # and small, of a shape that is convolved where it lies
    ptrdiff_t tap_channels       # of those, whole vectors
    ptrdiff_t band               # rows of outputs that are turned at a time
    ptrdiff_t turned_x[3]        # distances of places in turned maps; those of x have room for a border of zeros
    ptrdiff_t *to                # where each place of a band of x goes
    ptrdiff_t turned_y[3]

cdef struct Both:
    Call weights  # their gradients
    Call maps     # dx; its x is dy
    bint with_maps


cdef inline void keep_part(const Call *s, ptrdiff_t n, const char *x, char *kept) noexcept nogil:
    """Copy n elements of x, past the caches if all of it is too large for them."""
    if s.keep_past:
        s.kernels.copy_past(n, x, kept)
    else:
        memcpy(kept, x, n * s.itemsize)


cdef inline void end_past(const Call *s) noexcept nogil:
    """What went past the caches comes before what this thread does next."""
    if s.past or s.keep_past:
        s.kernels.copy_past(0, NULL, NULL)
