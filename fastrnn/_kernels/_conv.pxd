# Convolution by products over bands: the forward pass, and with other windows the gradient of the input and the transposed kind.

cimport numpy as cnp

from fastrnn._kernels._band cimport Maps

cdef void describe_maps(cnp.ndarray array, bint channels_last, Maps *maps)
