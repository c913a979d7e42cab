"""Backpropagation through time for every recurrent cell.

The time loop overwrites the kept gates with the gradients of their pre-activations. That buffer then is an operand of every other
gradient as it lies: of dh in the loop, and of the weight gradients and dx in large products after it.
"""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_FAR_TILES, FR_SLOTS, fr_cell_backward, fr_gemm
from fastrnn._kernels._gemm cimport OUTER_A_BYTES, OUTER_B_BYTES, add_outer, ceil_div, gemm_columns, gemm_long, outer_rows
from fastrnn._kernels._recurrent cimport Sequence
from fastrnn._kernels._recurrent_forward cimport c_at, h_before, h_before_stride
from fastrnn._kernels._recurrent_part cimport backward_parts, part_of, rows_of
from fastrnn._kernels._threads cimport Rounds, Team, first_of, product_time, run_team, start_round, take, team_size, wait_for_team


# Multiply-adds of a part of the work from which on parts are taken one by one: some microsecond.
cdef double LEAST_ALONE = 100_000

cdef struct Share:
    Team *team
    int member
    Rounds rounds
    ptrdiff_t grain                    # blocks taken at a time in a step, 0: all of a member's
    ptrdiff_t first, last              # the panels being worked on
    ptrdiff_t first_block, last_block  # the same as blocks of 4 W units
    ptrdiff_t unit, units              # and as units


cdef void run_backward(Sequence *s) noexcept nogil:
    cdef double step_time = product_time(s.N, s.cell.gates * s.H, s.R)
    cdef int by_blocks = team_size(step_time, s.T, s.blocks), parts = backward_parts(s, step_time)
    if parts > 1 and parts >= by_blocks:
        run_team(part_share, s, parts)
    else:
        run_team(backward_share, s, by_blocks)


cdef void start_share(Share *share, Team *team, int member) noexcept nogil:
    share.team, share.member = share.rounds.team, share.rounds.member = team, member
    share.rounds.parity = 0


cdef void part_share(void *work, Team *team, int member) noexcept nogil:
    """All steps of some sequences, alone; then, with the others, what takes the rows of all."""
    cdef Sequence *s = <Sequence *> work
    cdef Sequence part = part_of(s, member, team.size)
    cdef Team alone
    cdef Share share
    alone.size, alone.queues = 1, NULL
    start_share(&share, &alone, 0)
    if part.N > 0:
        step_gradients(&part, &share)
    start_share(&share, team, member)
    weight_gradients(s, &share)
    input_gradient(s, &share)


cdef void backward_share(void *work, Team *team, int member) noexcept nogil:
    cdef Sequence *s = <Sequence *> work
    cdef Share share
    start_share(&share, team, member)
    step_gradients(s, &share)
    weight_gradients(s, &share)
    input_gradient(s, &share)


cdef void step_gradients(Sequence *s, Share *share) noexcept nogil:
    """The gradients of all gates, step by step, and those of the initial states."""
    cdef ptrdiff_t t
    # With a second product, or a projection, a step has meetings of its own, between which each member keeps its range.
    share.grain = s.inner == NULL and <double> s.N * s.cell.gates * s.H * FR_SLOTS * s.kernels.width > LEAST_ALONE
    for t in range(s.T - 1, -1, -1):
        start_round(&share.rounds, s.blocks, share.grain, t & 1)
        while take_blocks(s, share):
            backward_step(s, share, t)
        wait_for_team(share.team)
    start_round(&share.rounds, s.blocks, share.grain, False)
    while take_blocks(s, share):
        carry_gradient(s, share, 0)


cdef bint take_blocks(Sequence *s, Share *share) noexcept nogil:
    cdef ptrdiff_t per_block = FR_SLOTS // s.cell.unit_vectors
    cdef bint more = take(&share.rounds, &share.first_block, &share.last_block)
    share.first, share.last = min(s.panels, share.first_block * per_block), min(s.panels, share.last_block * per_block)
    share.unit = share.first * s.panel_units
    share.units = min(s.H, share.last * s.panel_units) - share.unit
    return more


cdef void backward_step(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """Gradients of step t's pre-activations in these blocks, from dy and from those of step t+1."""
    cdef fr_cell_backward cell
    if t + 1 < s.T:
        carry_gradient(s, share, t + 1)
    if s.packed.projection_back != NULL:
        project_gradient(s, share, t)
    fill_cell(s, share, t, &cell)
    if cell.panels > 0:
        s.cell.backward(&cell)
    if s.cell.second_product:
        wait_for_team(share.team)
        reset_gradient(s, share, &cell)


cdef inline char *gates_at(Sequence *s, ptrdiff_t panel, ptrdiff_t row) noexcept nogil:
    return s.gates + (panel * s.gates_panel_stride + row * FR_SLOTS * s.kernels.width) * s.itemsize


cdef void fill_cell(Sequence *s, Share *share, ptrdiff_t t, fr_cell_backward *cell) noexcept nogil:
    cdef int size = s.itemsize
    cdef ptrdiff_t row = s.row[t]
    memset(cell, 0, sizeof(cell[0]))
    cell.rows, cell.panels, cell.units = rows_of(s, t), share.last - share.first, share.units
    cell.gates, cell.gates_panel_stride = gates_at(s, share.first, row), s.gates_panel_stride
    cell.h_prev, cell.h_prev_stride = h_before(s, t) + share.unit * size, h_before_stride(s, t)
    cell.h, cell.h_stride = s.y + (row * s.y_stride + share.unit) * size, s.y_stride
    if s.c != NULL:
        cell.c_prev, cell.c = c_at(s, t - 1) + share.unit * size, c_at(s, t) + share.unit * size
        cell.c_prev_stride = cell.c_stride = s.c_stride
        cell.dc, cell.dc_stride = s.dc + share.unit * size, s.c_stride
    if s.packed.projection_back != NULL:
        cell.dh, cell.dh_stride = s.du + share.unit * size, s.c_stride
        return
    cell.dh, cell.dh_stride = s.dh + share.unit * size, s.dh_stride
    if s.dy != NULL:
        cell.dy, cell.dy_stride = s.dy + (row * s.dy_stride + share.unit) * size, s.dy_stride


cdef void gate_runs(Sequence *s, fr_gemm *product, ptrdiff_t row, const char *packed, ptrdiff_t back_k) noexcept nogil:
    """A = the gates' gradients at `row`: those that meet h. For a GRU r, z of all panels, then n's."""
    cdef ptrdiff_t width = s.kernels.width, panel = FR_SLOTS * width
    cdef ptrdiff_t length = panel if s.cell.gates != 3 else 2 * width
    cdef int r
    product.runs = 2 if s.cell.gates == 3 and not s.cell.second_product else 1
    for r in range(product.runs):
        product.run[r].row_stride, product.run[r].k_stride = panel, 1
        product.run[r].segments, product.run[r].segment_stride = s.panels, s.gates_panel_stride
        product.run[r].b_stride, product.run[r].panel_stride = panel, back_k * panel
        product.run[r].vectors, product.run[r].last = FR_SLOTS, FR_SLOTS - 1
    product.run[0].a, product.run[0].length, product.run[0].b = gates_at(s, 0, row), length, packed
    if product.runs == 2:
        product.run[1].a, product.run[1].length = gates_at(s, 0, row) + 3 * width * s.itemsize, width
        product.run[1].b = packed + s.panels * length * panel * s.itemsize


cdef void carry_gradient(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """dh of step t-1, as far as it comes through step t, for step t's rows; other rows keep what they have."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, first = share.first_block, last = share.last_block
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    if s.packed.projection_back != NULL:
        first = first_of(ceil_div(s.R, panel), share.member, share.team.size)
        last = first_of(ceil_div(s.R, panel), share.member + 1, share.team.size)
    product.rows, product.panels, product.slots = rows_of(s, t), last - first, FR_SLOTS
    product.columns, product.backwards = product.panels * panel, t & 1
    product.c = s.dh + first * panel * s.itemsize
    product.c_row_stride, product.c_panel_stride = s.dh_stride, panel
    if s.cell.gates == 3:  # what the cell left there did not pass through a product
        product.init, product.init_row_stride, product.init_panel_stride = product.c, s.dh_stride, panel
    cdef ptrdiff_t gates = 2 if s.cell.second_product else s.cell.gates
    cdef ptrdiff_t back_k = s.panels * gates * s.cell.unit_vectors * s.kernels.width
    gate_runs(s, &product, s.row[t], s.packed.h_back + first * back_k * panel * s.itemsize, back_k)
    gemm_long(s.kernels, s.itemsize, &product)


cdef void project_gradient(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """dprojected = dh + dy, then du = dprojected W, the gradient of the vector before the projection."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, panels = ceil_div(s.R, panel), row = s.row[t]
    cdef ptrdiff_t first = first_of(panels, share.member, share.team.size)
    cdef ptrdiff_t last = first_of(panels, share.member + 1, share.team.size)
    cdef fr_gemm product
    memset(&product, 0, sizeof(product))
    product.rows, product.columns = rows_of(s, t), min(s.R, last * panel) - first * panel
    product.c, product.c_row_stride = s.dprojected + (row * s.R + first * panel) * s.itemsize, s.R
    product.init, product.init_row_stride = s.dh + first * panel * s.itemsize, s.dh_stride
    product.c_panel_stride = product.init_panel_stride = panel
    if last > first:
        gemm_columns(s.kernels, s.itemsize, &product)
        if s.dy != NULL:
            product.add = 1
            product.init, product.init_row_stride = s.dy + (row * s.dy_stride + first * panel) * s.itemsize, s.dy_stride
            gemm_columns(s.kernels, s.itemsize, &product)
    wait_for_team(share.team)
    memset(&product, 0, sizeof(product))
    product.rows, product.columns, product.runs = rows_of(s, t), (share.last_block - share.first_block) * panel, 1
    product.c, product.c_row_stride = s.du + share.first_block * panel * s.itemsize, s.c_stride
    product.c_panel_stride = panel
    product.run[0].a, product.run[0].row_stride, product.run[0].k_stride = s.dprojected + row * s.R * s.itemsize, s.R, 1
    product.run[0].segments, product.run[0].length = 1, s.R
    product.run[0].b = s.packed.projection_back + share.first_block * s.R * panel * s.itemsize
    product.run[0].b_stride, product.run[0].panel_stride = panel, s.R * panel
    if product.columns > 0:
        gemm_columns(s.kernels, s.itemsize, &product)


cdef void reset_gradient(Sequence *s, Share *share, fr_cell_backward *cell) noexcept nogil:
    """GRU, reset before the product: the gradient of r*h_prev through n's product, then r's and h_prev's part of it."""
    cdef ptrdiff_t width = s.kernels.width, panel = FR_SLOTS * width, back_k = s.panels * width
    cdef ptrdiff_t row = (<char *> cell.gates - gates_at(s, share.first, 0)) // (panel * s.itemsize)
    cdef fr_gemm product
    if cell.panels == 0:
        return
    memset(&product, 0, sizeof(product))
    product.rows, product.columns, product.runs = cell.rows, (share.last_block - share.first_block) * panel, 1
    product.c, product.c_row_stride, product.c_panel_stride = s.du + share.unit * s.itemsize, s.dh_stride, panel
    product.run[0].a = gates_at(s, 0, row) + 2 * width * s.itemsize
    product.run[0].row_stride, product.run[0].k_stride = panel, 1
    product.run[0].segments, product.run[0].segment_stride, product.run[0].length = s.panels, s.gates_panel_stride, width
    product.run[0].b = s.packed.n_back + share.first_block * back_k * panel * s.itemsize
    product.run[0].b_stride, product.run[0].panel_stride = panel, back_k * panel
    gemm_columns(s.kernels, s.itemsize, &product)
    cell.drh, cell.drh_stride = s.du + share.unit * s.itemsize, s.dh_stride
    s.cell.reset_backward(cell)


cdef struct Operand:
    # Rows to be packed: x, h_prev or the inner vector.
    ptrdiff_t columns, panels, stride
    const char *rows
    char *packed  # two blocks of packed rows
    ptrdiff_t block_rows, block


cdef Operand operand(Sequence *s, ptrdiff_t columns, const char *rows, ptrdiff_t stride, char **memory) noexcept nogil:
    cdef Operand o
    o.columns, o.panels = columns, ceil_div(columns, FR_SLOTS * s.kernels.width)
    o.rows, o.stride, o.packed = rows, stride, memory[0]
    o.block_rows = outer_rows(s.rows)
    o.block = o.panels * o.block_rows * FR_SLOTS * s.kernels.width * s.itemsize
    memory[0] += 2 * o.block
    return o


cdef void pack_operand(Sequence *s, Share *share, Operand *o, ptrdiff_t start, ptrdiff_t rows, ptrdiff_t parity,
                       bint shifted) noexcept nogil:
    """Pack this member's panels of `rows` rows; shifted: row by row those that hold the step before."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, r, source
    cdef ptrdiff_t first = first_of(o.panels, share.member, share.team.size)
    cdef ptrdiff_t last = first_of(o.panels, share.member + 1, share.team.size)
    cdef ptrdiff_t columns = min(o.columns, last * panel) - first * panel
    cdef char *target = o.packed + parity * o.block + first * o.block_rows * panel * s.itemsize
    cdef const char *origin
    if last == first:
        return
    if not shifted:
        s.kernels.pack_rows(rows, columns, o.rows + (start * o.stride + first * panel) * s.itemsize, o.stride, target, panel,
                            o.block_rows * panel)
        return
    for r in range(rows):
        source = s.previous[start + r]
        origin = o.rows + source * o.stride * s.itemsize if source >= 0 else s.h0 + (-1 - source) * s.R * s.itemsize
        s.kernels.pack_rows(1, columns, origin + first * panel * s.itemsize, o.stride, target + r * panel * s.itemsize, panel,
                            o.block_rows * panel)


cdef void weight_gradients(Sequence *s, Share *share) noexcept nogil:
    """All weight and bias gradients, a block of rows at a time; while one block is read, the next is packed."""
    cdef char *memory = s.operands
    cdef Operand x = operand(s, s.C, s.x, s.x_stride, &memory)
    cdef Operand h = operand(s, s.R, s.y, s.y_stride, &memory)
    cdef Operand inner
    cdef ptrdiff_t block, start, rows, parity
    if s.inner != NULL:
        inner = operand(s, s.H, s.inner, s.H, &memory)
    for block in range(ceil_div(s.rows, x.block_rows)):
        start, parity = block * x.block_rows, block % 2
        rows = min(x.block_rows, s.rows - start)
        pack_operand(s, share, &x, start, rows, parity, False)
        pack_operand(s, share, &h, start, rows, parity, True)
        if s.inner != NULL:
            pack_operand(s, share, &inner, start, rows, parity, False)
        wait_for_team(share.team)
        start_round(&share.rounds, s.panels, outer_grain(s, share, rows), False)
        while take(&share.rounds, &share.first, &share.last):
            add_gate_gradients(s, share, start, rows, &x, s.dw_x, parity, 0, s.cell.gates, False)
            add_gate_gradients(s, share, start, rows, &h, s.dw_h, parity, 0, 2 if s.cell.second_product else s.cell.gates, True)
            if s.cell.second_product:
                add_gate_gradients(s, share, start, rows, &inner, s.dw_h, parity, 2, 3, True)
            s.kernels.column_sums(rows, share.last - share.first, gates_at(s, share.first, start), s.gates_panel_stride,
                                  s.sums + share.first * FR_SLOTS * s.kernels.width * s.itemsize)
        if s.packed.projection_back != NULL:
            add_projection_gradient(s, share, start, rows, &inner, parity)
    wait_for_team(share.team)
    add_bias_gradients(s, share)


cdef ptrdiff_t outer_grain(Sequence *s, Share *share, ptrdiff_t rows) noexcept nogil:
    """Panels of gates taken at a time: what stays in the second-level cache, and several pieces for each member."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width
    cdef ptrdiff_t grain = min(OUTER_A_BYTES // (rows * panel * s.itemsize), ceil_div(s.panels, 4 * share.team.size))
    return max(<ptrdiff_t> 1, grain) if <double> rows * panel * (s.C + s.R) > LEAST_ALONE else 0


cdef inline ptrdiff_t slot_of(Sequence *s, ptrdiff_t gate, bint recurrent) noexcept nogil:
    """Where a gate's gradient lies in its panel. A GRU's n meets x and, reset after the product, h in different places."""
    return 3 if recurrent and gate == 2 and s.cell.gates == 3 and not s.cell.second_product else gate


cdef void add_gate_gradients(Sequence *s, Share *share, ptrdiff_t start, ptrdiff_t rows, Operand *o, char *gradient,
                             ptrdiff_t parity, ptrdiff_t first_gate, ptrdiff_t last_gate, bint recurrent) noexcept nogil:
    """These panels of gates against some columns of x at a time, so that both stay in the second-level cache."""
    cdef ptrdiff_t width = s.kernels.width, panel = FR_SLOTS * width, column, columns, p, gate, unit, j
    cdef ptrdiff_t most = max(<ptrdiff_t> 1, OUTER_B_BYTES // (rows * panel * s.itemsize)) * panel
    for j in range(ceil_div(o.columns, most)):
        column = j * most
        columns = min(most, o.columns - column)
        for p in range(share.first, share.last):
            unit = p * s.panel_units
            for gate in range(first_gate, last_gate):
                add_outer(s.kernels, s.itemsize, min(s.panel_units, s.H - unit), columns, rows,
                          gates_at(s, p, start) + slot_of(s, gate, recurrent) * width * s.itemsize, panel,
                          o.packed + parity * o.block + column * o.block_rows * s.itemsize, o.block_rows * panel,
                          gradient + ((gate * s.H + unit) * o.columns + column) * s.itemsize, o.columns)


cdef void add_projection_gradient(Sequence *s, Share *share, ptrdiff_t start, ptrdiff_t rows, Operand *inner,
                                  ptrdiff_t parity) noexcept nogil:
    cdef ptrdiff_t first = first_of(s.R, share.member, share.team.size), last = first_of(s.R, share.member + 1, share.team.size)
    if last > first:
        add_outer(s.kernels, s.itemsize, last - first, s.H, rows, s.dprojected + (start * s.R + first) * s.itemsize, s.R,
                  inner.packed + parity * inner.block, inner.block_rows * FR_SLOTS * s.kernels.width,
                  s.dw_projection + first * s.H * s.itemsize, s.H)


cdef void add_bias_gradients(Sequence *s, Share *share) noexcept nogil:
    cdef ptrdiff_t width = s.kernels.width, panel = FR_SLOTS * width, p, gate, unit
    cdef fr_gemm add  # no products: C += init
    memset(&add, 0, sizeof(add))
    add.rows, add.add, add.init_panel_stride, add.c_panel_stride = 1, 1, panel, panel
    for p in range(first_of(s.panels, share.member, share.team.size), first_of(s.panels, share.member + 1, share.team.size)):
        unit = p * s.panel_units
        for gate in range(s.cell.gates):
            add.columns = min(s.panel_units, s.H - unit)
            add.init = s.sums + (p * panel + slot_of(s, gate, False) * width) * s.itemsize
            if s.db_x != NULL:
                add.c = s.db_x + (gate * s.H + unit) * s.itemsize
                gemm_columns(s.kernels, s.itemsize, &add)
            add.init = s.sums + (p * panel + slot_of(s, gate, True) * width) * s.itemsize
            if s.db_h != NULL:
                add.c = s.db_h + (gate * s.H + unit) * s.itemsize
                gemm_columns(s.kernels, s.itemsize, &add)


cdef void input_gradient(Sequence *s, Share *share) noexcept nogil:
    """dx = the gates' gradients times W, rows shared out."""
    cdef ptrdiff_t length = s.cell.gates * s.cell.unit_vectors * s.kernels.width
    cdef ptrdiff_t first, last, grain = FR_FAR_TILES * s.kernels.tile_rows
    cdef fr_gemm product
    start_round(&share.rounds, s.rows, grain if <double> grain * s.C * s.panels * length > LEAST_ALONE else 0, False)
    while take(&share.rounds, &first, &last):
        fill_input_gradient(s, &product, first, last)
        gemm_long(s.kernels, s.itemsize, &product)


cdef void fill_input_gradient(Sequence *s, fr_gemm *product, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, length = s.cell.gates * s.cell.unit_vectors * s.kernels.width
    memset(product, 0, sizeof(product[0]))
    product.rows = last - first
    product.columns, product.runs = s.C, 1
    product.c, product.c_row_stride, product.c_panel_stride = s.dx + first * s.dx_stride * s.itemsize, s.dx_stride, panel
    product.run[0].a, product.run[0].row_stride, product.run[0].k_stride = gates_at(s, 0, first), panel, 1
    product.run[0].segments, product.run[0].segment_stride, product.run[0].length = s.panels, s.gates_panel_stride, length
    product.run[0].b = s.packed.x_back
    product.run[0].b_stride, product.run[0].panel_stride = panel, s.panels * length * panel
