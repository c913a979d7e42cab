# The weight gradient of a Winograd convolution.

from fastrnn._kernels._threads cimport Team
from fastrnn._kernels._winograd_tiles cimport Geometry, Maps

cdef struct Gradient:
    # grad [K, C, taps] += the gradient of the weights. Ranges of channels and panels are shared out over a team; each pair of them
    # sums over all tiles, block by block. `whole`: one block has all tiles, of all channels and units, for the whole team.
    Geometry g
    Maps x, dy
    char *grad
    int whole
    ptrdiff_t channel_ranges, panel_ranges
    ptrdiff_t v_channels, t_panels    # from tile to tile in V, and room in T
    ptrdiff_t v_panel  # from panel to panel of channels in V
    ptrdiff_t most_channels, most_panels  # of a range
    ptrdiff_t v_point, t_point
    char *workspace  # V and T, then the sums and scratch; of each member, but V and T only once if they are whole
    ptrdiff_t tiles_bytes, v_bytes, sum_bytes, member_bytes

cdef int plan_gradient(Gradient *d) noexcept nogil
cdef void share_of_gradient(void *work, Team *team, int member) noexcept nogil
