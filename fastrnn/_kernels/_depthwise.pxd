# Convolution of each channel by itself.

from fastrnn._kernels._band cimport Maps
from fastrnn._kernels._dispatch cimport fr_kernels
from fastrnn._kernels._windows cimport Axis, Blocks

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
    int activation
    Blocks blocks
    char *scratch
    ptrdiff_t scratch_bytes, map_bytes, apart_bytes, taps
