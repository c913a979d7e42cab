# Several maps to a channel, with the channels last.

cimport numpy as cnp

cdef void repeat_channels(cnp.ndarray x, cnp.ndarray repeated)
cdef void sum_of_maps(cnp.ndarray maps, cnp.ndarray y)
