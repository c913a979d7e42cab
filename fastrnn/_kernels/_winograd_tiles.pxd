# Which tiles a Winograd convolution has, in which blocks, and their transforms.

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_boxes, fr_fetch, fr_kernels, fr_winograd

cdef enum:
    LINE = 16  # elements by which points lie further apart, so that they do not share cache sets

cdef struct Algorithm:
    # Points, outputs and taps of both axes; kernels with more taps are cut into `pieces`, `across` of them along the columns.
    int points[2]
    int outputs[2]
    int taps[2]
    int kernel[2]
    int pieces, across

cdef struct Maps:
    # Maps of N images as they lie.
    char *data
    ptrdiff_t channels, rows, columns, image_stride, channel_stride, row_stride, column_stride

cdef struct Geometry:
    # Rows of tiles, cut into parts along the columns, in the order (image, part, row): consecutive ones share rows of maps.
    const fr_kernels *kernels
    int itemsize
    Algorithm algorithm
    ptrdiff_t points, images, tile_rows, tile_columns, parts, units, blocks, most_tiles
    ptrdiff_t edge_rows, edge_columns  # so many of the last rows and columns of tiles are edge tiles; then there is one part
    ptrdiff_t top, left  # place of the input where the first tile begins

cdef struct Range:
    ptrdiff_t first, count

ctypedef void (*strip_fn)(const fr_winograd *) noexcept nogil

cdef struct Census:
    # Tiles of a block by class: edge tiles along the row, none, along the column, both. They lie in this order, so that every
    # point has one range of tiles.
    ptrdiff_t first, end  # units
    ptrdiff_t full_rows, edge_rows
    ptrdiff_t start[5]

cdef struct PointSet:
    # Points first, first + step, ... that all have the tiles `tile` to `end`.
    ptrdiff_t first, step, count, tile, end

cdef ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit) noexcept nogil
cdef ptrdiff_t whole_pages(ptrdiff_t nbytes) noexcept nogil
cdef Range range_of(ptrdiff_t n, ptrdiff_t unit, ptrdiff_t part, ptrdiff_t parts) noexcept nogil
cdef void choose_edges(Geometry *g, ptrdiff_t rows, ptrdiff_t columns) noexcept nogil
cdef void set_geometry(Geometry *g, ptrdiff_t out_rows, ptrdiff_t out_columns, ptrdiff_t tiles) noexcept nogil
cdef ptrdiff_t scratch_bytes(const Geometry *g) noexcept nogil
cdef Census census_of(const Geometry *g, ptrdiff_t block) noexcept nogil
cdef void transform_block(const Geometry *g, ptrdiff_t block, strip_fn transform, fr_winograd *strip, const Maps *maps,
                          ptrdiff_t top, ptrdiff_t left) noexcept nogil
cdef void transform_piece(const Geometry *g, ptrdiff_t block, ptrdiff_t piece, fr_winograd *strip, const Maps *x) noexcept nogil
cdef int point_sets(const Geometry *g, const Census *c, PointSet *sets) noexcept nogil
cdef fr_boxes places_of(const Geometry *g, const Maps *m, ptrdiff_t block, ptrdiff_t top, ptrdiff_t left, ptrdiff_t over,
                        ptrdiff_t channel, ptrdiff_t channels) noexcept nogil
cdef void share_fetch(const Geometry *g, fr_fetch *fetch, const PointSet *sets, int count, ptrdiff_t rows,
                      ptrdiff_t times) noexcept nogil
cdef int team_for(const Geometry *g, ptrdiff_t channels, ptrdiff_t units, ptrdiff_t parts) noexcept nogil
cdef Maps maps_of(cnp.ndarray array, bint channels_last)
