# The weight gradient of a Winograd convolution.

from fastrnn._kernels._winograd_tiles cimport Geometry, Maps

cdef struct Gradient:
    # grad [K, C, taps] += the gradient of the weights, or = if it holds nothing yet and is `fresh`.
    # Ranges of channels and panels are shared out over a team; each pair of them sums over all tiles, block by block, or if that
    # has few, over each of some `parts` of the blocks. `whole`: one block has all tiles, of all channels and units, for the team.
    # Groups lie so many bytes apart; x, dy and grad are those of the first.
    Geometry g
    Maps x, dy
    char *grad
    ptrdiff_t groups, x_group, dy_group, grad_group
    bint fresh
    int whole
    ptrdiff_t channel_ranges, panel_ranges, parts
    ptrdiff_t v_channels, t_panels  # V is [range of so many channels][point][tile][channel]; T has so many panels
    ptrdiff_t most_channels, most_panels  # of a range
    ptrdiff_t v_point, t_point
    ptrdiff_t row  # units of a row of T and of the sums
    char *workspace
    char *sums     # of each member, or of each range and part, if they are not finished at once
    char *scratch  # of each member, as V and T, of which there is only one if they are whole
    ptrdiff_t tiles_bytes, v_bytes, sum_bytes, scratch_bytes, workspace_bytes

cdef void add_gradients(Gradient *d)
