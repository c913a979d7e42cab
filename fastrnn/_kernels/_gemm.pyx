"""Products over packed operands: the door to the one GEMM kernel, and dense layers.

A packed operand holds B [k, columns] as panels of four vectors, [panel][k][4*W], the last one padded with zeros.
"""

cimport cython
cimport numpy as cnp
from libc.limits cimport INT_MAX
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport (
    FR_FAR_BYTES, FR_FAR_TILES, FR_SLOTS, fr_gemm, fr_kernels, fr_run, fr_turn, has_tuned_tile, kernels_for
)
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, product_time, run_team, team_size, wait_for_team

cnp.import_array()

cdef ptrdiff_t LONGEST_SUM = 1024  # k of one piece of a long product: 256 KB of a panel of floats
cdef ptrdiff_t FAR_ROWS = 2048     # bytes from one row to the next: farther, each has a page of its own, and sets of caches collide
cdef ptrdiff_t FAR_TILES = FR_FAR_TILES
cdef ptrdiff_t FAR_BYTES = FR_FAR_BYTES


cdef void gemm_columns(const fr_kernels *kernels, int itemsize, fr_gemm *product) noexcept nogil:
    """Run a dense product of `product.columns` columns: all full panels, then a last one just as wide as it must be."""
    cdef ptrdiff_t width = kernels.width, panel = FR_SLOTS * width, full = product.columns // panel
    cdef ptrdiff_t rest = product.columns - full * panel
    cdef fr_gemm tail
    cdef int r
    if product.rows == 0:
        return
    product.slots, product.panels, product.columns = FR_SLOTS, full, full * panel
    for r in range(product.runs):
        product.run[r].vectors, product.run[r].last = FR_SLOTS, FR_SLOTS - 1
    kernels.gemm(product)
    if rest:
        tail = product[0]
        tail.slots, tail.panels, tail.columns = <int> ceil_div(rest, width), 1, rest
        tail.c = <char *> product.c + full * product.c_panel_stride * itemsize
        if product.init != NULL:
            tail.init = <const char *> product.init + full * product.init_panel_stride * itemsize
        for r in range(product.runs):
            tail.run[r].vectors, tail.run[r].last = tail.slots, tail.slots - 1
            tail.run[r].b = <const char *> product.run[r].b + full * product.run[r].panel_stride * itemsize
        kernels.gemm(&tail)
    product.columns = full * panel + rest


cdef void gemm_long(const fr_kernels *kernels, int itemsize, const fr_gemm *product) noexcept nogil:
    """A dense product whose sums run over many k, in pieces and blocks of rows that stay in the second-level cache.

    Each piece starts from the sum before it: the same operations in the same order as in one go. `product.add` must not be set.
    """
    cdef fr_gemm piece
    cdef const fr_run *run
    cdef int blocks = <int> ceil_div(product.rows, FAR_TILES * kernels.tile_rows), block, r
    cdef ptrdiff_t row, part, segment, segments
    for block in range(blocks):
        row = first_of(product.rows, block, blocks)
        piece = product[0]
        piece.rows, piece.runs, piece.far = first_of(product.rows, block + 1, blocks) - row, 1, is_far(product, itemsize)
        piece.c = <char *> product.c + row * product.c_row_stride * itemsize
        if product.init != NULL:
            piece.init = <const char *> product.init + row * product.init_row_stride * itemsize
        for r in range(product.runs):
            run = &product.run[r]
            segments = max(<ptrdiff_t> 1, LONGEST_SUM // run.length)
            for part in range(ceil_div(run.segments, segments)):
                segment = part * segments
                piece.run[0] = run[0]
                piece.run[0].segments = min(segments, run.segments - segment)
                piece.run[0].a = <const char *> run.a + (row * run.row_stride + segment * run.segment_stride) * itemsize
                piece.run[0].b = <const char *> run.b + segment * run.length * run.b_stride * itemsize
                gemm_columns(kernels, itemsize, &piece)
                piece.init, piece.init_row_stride, piece.init_panel_stride = piece.c, piece.c_row_stride, piece.c_panel_stride


cdef inline bint is_far(const fr_gemm *product, int itemsize) noexcept nogil:
    """Whether B is too large to stay in the second-level cache from one use to the next."""
    cdef ptrdiff_t elements = 0
    cdef int r
    for r in range(product.runs):
        elements += product.run[r].segments * product.run[r].length * product.columns
    return elements * itemsize > FAR_BYTES


cdef void add_outer(const fr_kernels *kernels, int itemsize, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a,
                    ptrdiff_t a_stride, const void *b, ptrdiff_t b_panel_stride, void *c, ptrdiff_t c_stride) noexcept nogil:
    """C[m, n] += A[k, m]^T B[k, n], with B packed: one block of rows of a weight gradient."""
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.columns, product.runs, product.add = m, n, 1, 1
    product.run[0].a, product.run[0].row_stride, product.run[0].k_stride = a, 1, a_stride
    product.run[0].segments, product.run[0].length = 1, k
    product.run[0].b, product.run[0].b_stride = b, FR_SLOTS * kernels.width
    product.run[0].panel_stride = b_panel_stride
    product.c, product.c_row_stride, product.c_panel_stride = c, c_stride, FR_SLOTS * kernels.width
    gemm_columns(kernels, itemsize, &product)


cdef Block pack_transposed(const fr_kernels *kernels, int itemsize, const char *weight, ptrdiff_t rows, ptrdiff_t columns):
    """Pack B = weight^T for weight [rows, columns]: k counts columns, panels count rows."""
    cdef ptrdiff_t width = kernels.width, panel = FR_SLOTS * width, panels = ceil_div(rows, panel), v, units
    cdef Block block = new_block(panels * columns * panel * itemsize)
    with nogil:
        for v in range(panels * FR_SLOTS):
            units = max(0, min(width, rows - v * width))
            kernels.pack_units(units, columns, weight + v * width * columns * itemsize, columns,
                               block.data + (v // FR_SLOTS * columns * panel + v % FR_SLOTS * width) * itemsize, panel)
    return block


cdef Block pack_plain(const fr_kernels *kernels, int itemsize, const char *weight, ptrdiff_t rows, ptrdiff_t columns):
    """Pack B = weight [rows, columns]: k counts rows, panels count columns."""
    cdef ptrdiff_t panel = FR_SLOTS * kernels.width
    cdef Block block = new_block(ceil_div(columns, panel) * rows * panel * itemsize)
    with nogil:
        kernels.pack_rows(rows, columns, weight, columns, block.data, panel, rows * panel)
    return block


cdef struct Dense:
    # y [rows, columns] = bias + x [rows, k] B, rows and panels shared out over a team.
    const fr_kernels *kernels
    int itemsize
    ptrdiff_t rows, k, columns, x_stride, y_stride
    const char *x
    const char *packed
    const char *bias
    char *y


cdef void share_of_dense(void *work, Team *team, int member) noexcept nogil:
    """Many rows are shared out by rows; few by panels, so that every member reads its part of B only."""
    cdef Dense *d = <Dense *> work
    cdef ptrdiff_t panel = FR_SLOTS * d.kernels.width, first = 0, last = ceil_div(d.columns, panel), row = 0, end = d.rows
    if d.rows >= team.size * d.kernels.tile_rows:
        row, end = first_of(d.rows, member, team.size), first_of(d.rows, member + 1, team.size)
    else:
        last, first = first_of(last, member + 1, team.size), first_of(last, member, team.size)
    cdef ptrdiff_t columns = min(d.columns, last * panel) - first * panel
    cdef ptrdiff_t part, parts = max(<ptrdiff_t> 1, ceil_div(d.k, LONGEST_SUM)), k, length, block, blocks
    cdef fr_gemm product
    if columns <= 0 or end <= row:
        return
    memset(&product, 0, sizeof(product))
    product.columns, product.runs = columns, 1
    product.run[0].row_stride, product.run[0].k_stride, product.run[0].segments = d.x_stride, 1, 1
    product.run[0].b_stride, product.run[0].panel_stride = panel, d.k * panel
    product.c_row_stride, product.c_panel_stride = d.y_stride, panel
    for part in range(parts):
        k = first_of(d.k, <int> part, <int> parts)
        length = first_of(d.k, <int> part + 1, <int> parts) - k
        product.run[0].length, product.run[0].b = length, d.packed + (first * d.k + k) * panel * d.itemsize
        blocks = 1
        if parts > 1 and length * columns * d.itemsize <= OUTER_B_BYTES:
            blocks = ceil_div((end - row) * length * d.itemsize, OUTER_B_BYTES)
        for block in range(blocks):
            multiply_block(d, row + first_of(end - row, <int> block, <int> blocks),
                           row + first_of(end - row, <int> block + 1, <int> blocks), first * panel, k, &product)


cdef void multiply_block(const Dense *d, ptrdiff_t row, ptrdiff_t end, ptrdiff_t column, ptrdiff_t k,
                         fr_gemm *product) noexcept nogil:
    """Some rows, from the bias on, or from the sums of the k before."""
    product.rows = end - row
    product.run[0].a = d.x + (row * d.x_stride + k) * d.itemsize
    product.c = d.y + (row * d.y_stride + column) * d.itemsize
    product.init, product.init_row_stride, product.init_panel_stride = NULL, 0, product.c_panel_stride
    if k:
        product.init, product.init_row_stride = product.c, product.c_row_stride
    elif d.bias != NULL:
        product.init = d.bias + column * d.itemsize
    gemm_columns(d.kernels, d.itemsize, product)


ctypedef void (*outer_fn)(int itemsize, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const char *a, ptrdiff_t a_stride, const char *b,
                          ptrdiff_t b_stride, char *c, ptrdiff_t c_stride) noexcept nogil

cdef outer_fn blas_outer = NULL


cdef load_blas():
    """Import scipy.linalg on first use: it takes as long as everything else together."""
    global blas_outer
    if blas_outer == NULL:
        from fastrnn._kernels import _blas

        blas_outer = <outer_fn> <void *> <size_t> _blas.outer_address()


cdef struct Outer:
    # grad [m, n] += dy [rows, m]^T x [rows, n], bias_grad [m] += column sums of dy; rows of grad shared out over a team.
    const fr_kernels *kernels
    int itemsize
    ptrdiff_t rows, m, n, dy_stride, x_stride
    const char *dy
    const char *x
    ptrdiff_t block  # rows of x packed at a time
    char *packed     # two such blocks: one is read while the next is filled
    char *copies     # of pieces of dy, one for each member, whose rows lie close together; NULL: dy as it is
    ptrdiff_t copy_bytes
    char *grad
    char *bias_grad


cdef void share_of_blas_outer(void *work, Team *team, int member) noexcept nogil:
    """The same through BLAS, rows of grad shared out in whole blocks."""
    cdef Outer *o = <Outer *> work
    cdef ptrdiff_t blocks = ceil_div(o.m, 64)
    cdef ptrdiff_t first = 64 * first_of(blocks, member, team.size)
    cdef ptrdiff_t last = min(o.m, 64 * first_of(blocks, member + 1, team.size))
    if last > first:
        blas_outer(o.itemsize, last - first, o.n, o.rows, o.dy + first * o.itemsize, o.dy_stride, o.x, o.x_stride,
                   o.grad + first * o.n * o.itemsize, o.n)
    if o.bias_grad != NULL and member == 0:
        add_row_sums(o)


cdef ptrdiff_t copied_stride(ptrdiff_t columns, int itemsize) noexcept nogil:
    """Whole lines, an odd number of them: rows then fall into all sets of the caches."""
    cdef ptrdiff_t line = 64 // itemsize
    return (ceil_div(columns, line) | 1) * line


cdef void share_of_outer(void *work, Team *team, int member) noexcept nogil:
    cdef Outer *o = <Outer *> work
    cdef ptrdiff_t panel = FR_SLOTS * o.kernels.width, panels = ceil_div(o.n, panel)
    cdef ptrdiff_t p0 = first_of(panels, member, team.size), p1 = first_of(panels, member + 1, team.size)
    cdef ptrdiff_t m0 = first_of(o.m, member, team.size), m1 = first_of(o.m, member + 1, team.size)
    cdef ptrdiff_t block, row, rows, part, m, step, stride
    cdef char *packed
    cdef const char *a
    cdef fr_turn copy
    memset(&copy, 0, sizeof(copy))
    for block in range(ceil_div(o.rows, o.block)):
        row = block * o.block
        rows = min(o.block, o.rows - row)
        step = max(<ptrdiff_t> 1, OUTER_A_BYTES // (rows * o.itemsize))
        packed = o.packed + block % 2 * panels * o.block * panel * o.itemsize
        if p1 > p0:
            o.kernels.pack_rows(rows, min(o.n, p1 * panel) - p0 * panel, o.x + (row * o.x_stride + p0 * panel) * o.itemsize,
                                o.x_stride, packed + p0 * o.block * panel * o.itemsize, panel, o.block * panel)
        wait_for_team(team)
        for part in range(ceil_div(m1 - m0, step)):
            m = m0 + part * step
            a, stride = o.dy + (row * o.dy_stride + m) * o.itemsize, o.dy_stride
            if o.copies != NULL:
                copy.rows, copy.columns, copy.src, copy.src_stride = rows, min(step, m1 - m), a, o.dy_stride
                copy.dst, copy.dst_stride = o.copies + member * o.copy_bytes, copied_stride(copy.columns, o.itemsize)
                o.kernels.keep(&copy)
                a, stride = <const char *> copy.dst, copy.dst_stride
            add_outer(o.kernels, o.itemsize, min(step, m1 - m), o.n, rows, a, stride, packed, o.block * panel,
                      o.grad + m * o.n * o.itemsize, o.n)
    if o.bias_grad != NULL and member == 0:
        add_row_sums(o)


cdef void add_row_sums(Outer *o) noexcept nogil:
    """bias_grad += the sum of the rows of dy: no products, each row is added to the one before."""
    cdef ptrdiff_t panel = FR_SLOTS * o.kernels.width, row
    cdef fr_gemm add
    memset(&add, 0, sizeof(add))
    add.rows, add.columns, add.add = 1, o.m, 1
    add.c, add.c_panel_stride, add.init_panel_stride = o.bias_grad, panel, panel
    for row in range(o.rows):
        add.init = o.dy + row * o.dy_stride * o.itemsize
        gemm_columns(o.kernels, o.itemsize, &add)


@cython.final
cdef class DenseWeights:
    """The packed weight (K, C) and bias (K,) of a dense layer: an immutable snapshot, for one instruction set."""

    cdef const fr_kernels *kernels
    cdef int itemsize
    cdef readonly ptrdiff_t inputs, outputs
    cdef readonly object dtype
    cdef Block forward_block, backward_block, bias_block

    def __init__(self, cnp.ndarray weight not None, cnp.ndarray bias, bint backward):
        self.itemsize = weight.itemsize
        self.dtype = weight.dtype
        self.kernels = kernels_for(self.itemsize)
        self.outputs, self.inputs = weight.shape[0], weight.shape[1]
        cdef const char *data = <const char *> cnp.PyArray_DATA(weight)
        self.forward_block = pack_transposed(self.kernels, self.itemsize, data, self.outputs, self.inputs)
        if backward:
            self.backward_block = pack_plain(self.kernels, self.itemsize, data, self.outputs, self.inputs)
        if bias is not None:
            self.bias_block = pack_plain(self.kernels, self.itemsize, <const char *> cnp.PyArray_DATA(bias), 1, self.outputs)

    def forward(self, cnp.ndarray x not None, cnp.ndarray y not None):
        """y (rows, K) = x (rows, C) weight^T + bias; rows may be strided."""
        self.product(x, self.forward_block, self.bias_block, y)

    def backward(self, cnp.ndarray dy not None, cnp.ndarray dx not None):
        """dx (rows, C) = dy (rows, K) weight."""
        self.product(dy, self.backward_block, None, dx)

    cdef product(self, cnp.ndarray x, Block packed, Block bias, cnp.ndarray y):
        cdef Dense d
        d.kernels, d.itemsize = self.kernels, self.itemsize
        d.rows, d.k, d.columns = x.shape[0], x.shape[1], y.shape[1]
        d.x_stride, d.y_stride = row_stride(x), row_stride(y)
        d.x, d.y = <const char *> cnp.PyArray_DATA(x), <char *> cnp.PyArray_DATA(y)
        d.packed, d.bias = packed.data, NULL if bias is None else bias.data
        cdef int size = team_size(product_time(d.rows, d.k, d.columns), 1,
                                  max(d.rows // d.kernels.tile_rows, d.columns // 64))
        with nogil:
            run_team(share_of_dense, &d, size)


def add_weight_gradient(cnp.ndarray dy not None, cnp.ndarray x not None, cnp.ndarray grad not None, cnp.ndarray bias_grad):
    """grad (K, C) += dy (rows, K)^T x (rows, C); bias_grad (K,) += the sum of dy over rows."""
    cdef Outer o
    o.itemsize = dy.itemsize
    o.kernels = kernels_for(o.itemsize)
    o.rows, o.m, o.n = dy.shape[0], dy.shape[1], x.shape[1]
    o.dy_stride, o.x_stride = row_stride(dy), row_stride(x)
    o.dy, o.x = <const char *> cnp.PyArray_DATA(dy), <const char *> cnp.PyArray_DATA(x)
    o.grad = <char *> cnp.PyArray_DATA(grad)
    o.bias_grad = NULL if bias_grad is None else <char *> cnp.PyArray_DATA(bias_grad)
    cdef ptrdiff_t panel = FR_SLOTS * o.kernels.width
    cdef Block packed, copies
    o.block = max(<ptrdiff_t> 1, outer_rows(o.rows))
    cdef int size = team_size(product_time(o.m, o.block, o.n), ceil_div(o.rows, o.block), o.m)
    if has_tuned_tile() or max(o.m, o.n, o.rows, o.dy_stride, o.x_stride) > INT_MAX:
        packed = new_block(2 * ceil_div(o.n, panel) * o.block * panel * o.itemsize)
        o.packed, o.copies = packed.data, NULL
        if o.dy_stride * o.itemsize > FAR_ROWS and o.n >= panel:
            o.copy_bytes = OUTER_A_BYTES + o.block * 128
            copies = new_block(size * o.copy_bytes)
            o.copies = copies.data
        with nogil:
            run_team(share_of_outer, &o, size)
    else:
        load_blas()
        with nogil:
            run_team(share_of_blas_outer, &o, size)
