"""The forward time loop of every recurrent cell.

Panels are shared out over the team, always the same to the same member as far as all keep pace; the team meets once a step, when h
is complete (twice where a second product needs the whole vector: a projection, or a reset gate before the product).
"""

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport FR_FAR_BYTES, FR_SLOTS, fr_cell, fr_gemm
from fastrnn._kernels._gemm cimport ceil_div, gemm_columns
from fastrnn._kernels._recurrent cimport Sequence
from fastrnn._kernels._recurrent_part cimport forward_parts, part_of, rows_of
from fastrnn._kernels._threads cimport (
    Rounds, Team, first_of, fr_fetch_rows, product_time, run_team, start_round, take, team_size, wait_for_team
)


# Multiply-adds of a panel from which on panels are taken one by one: some microsecond.
cdef double LEAST_ALONE = 100_000

# Rows of a panel's gates that one thread computes before their cells: half of a first-level cache of 48 KB.
cdef ptrdiff_t ALONE_ROWS = 96

cdef struct Share:
    Team *team
    int member
    Rounds rounds
    ptrdiff_t grain        # panels taken at a time, 0: all of a member's
    int far                # my part of the weights does not stay in the second-level cache
    ptrdiff_t first, last  # the panels being worked on
    ptrdiff_t base         # row of x that the first row of the gates buffer belongs to


cdef void run_forward(Sequence *s) noexcept nogil:
    cdef double time = step_time(s)
    cdef int by_panels = team_size(time, s.T, s.panels), parts = forward_parts(s, time)
    if parts > 1 and parts >= by_panels:
        run_team(part_share, s, parts)
    else:
        run_team(forward_share, s, by_panels)


cdef double step_time(Sequence *s) noexcept nogil:
    """About how many nanoseconds a step takes on one core, with its share of what is multiplied ahead."""
    cdef double within = product_time(s.N, step_inputs(s), s.cell.gates * s.H)
    if not s.project_first:
        return within
    return within + product_time(s.chunk * s.N, s.C, s.cell.gates * s.H) / s.chunk


cdef inline ptrdiff_t step_inputs(Sequence *s) noexcept nogil:
    """Length of the sums within a step."""
    return s.R if s.project_first else s.C + s.R


cdef void part_share(void *work, Team *team, int member) noexcept nogil:
    """All steps of some sequences, alone."""
    cdef Sequence part = part_of(<Sequence *> work, member, team.size)
    cdef Team alone
    alone.size, alone.queues = 1, NULL
    if part.N > 0:
        forward_share(&part, &alone, 0)


cdef void forward_share(void *work, Team *team, int member) noexcept nogil:
    cdef Sequence *s = <Sequence *> work
    cdef Share share
    cdef ptrdiff_t t, chunk, start, end
    share.team, share.member = share.rounds.team, share.rounds.member = team, member
    share.rounds.parity = 0
    share.grain = s.N > 1 and <double> s.N * step_inputs(s) * FR_SLOTS * s.kernels.width > LEAST_ALONE
    share.far = s.cell.gates * s.H * step_inputs(s) * s.itemsize > FR_FAR_BYTES * team.size
    for chunk in range(ceil_div(s.T, s.chunk)):
        start = chunk * s.chunk
        end = min(s.T, start + s.chunk)
        share.base = 0 if s.keep else min(s.row[start], s.row[end - 1])
        if s.project_first:
            project_input(s, &share, start, end)
        for t in range(start, end):
            recurrent_step(s, &share, t)


cdef inline char *gates_at(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """The gates of step t in the first of these panels."""
    cdef ptrdiff_t row = s.row[t] - share.base if s.keep or s.project_first else 0
    return s.gates + (share.first * s.gates_panel_stride + row * FR_SLOTS * s.kernels.width) * s.itemsize


cdef void start_gates(Sequence *s, Share *share, fr_gemm *product) noexcept nogil:
    """A product of these panels that starts from the bias."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width
    memset(product, 0, sizeof(product[0]))
    product.panels = share.last - share.first
    product.columns = product.panels * panel
    product.slots, product.far = FR_SLOTS, share.far
    product.init = s.packed.bias + share.first * panel * s.itemsize
    product.init_panel_stride = panel
    product.c_row_stride, product.c_panel_stride = panel, s.gates_panel_stride


cdef void add_x_run(Sequence *s, Share *share, fr_gemm *product, ptrdiff_t row) noexcept nogil:
    cdef ptrdiff_t columns = s.cell.x_vectors * s.kernels.width
    cdef int r = product.runs
    product.run[r].a, product.run[r].row_stride, product.run[r].k_stride = s.x + row * s.x_stride * s.itemsize, s.x_stride, 1
    product.run[r].segments, product.run[r].length = 1, s.C
    product.run[r].b = s.packed.x + share.first * s.C * columns * s.itemsize
    product.run[r].b_stride, product.run[r].panel_stride = columns, s.C * columns
    product.run[r].vectors, product.run[r].last = s.cell.x_vectors, s.cell.x_last
    product.runs = r + 1


cdef void add_h_run(Sequence *s, Share *share, fr_gemm *product, ptrdiff_t t) noexcept nogil:
    cdef ptrdiff_t columns = s.cell.h_vectors * s.kernels.width
    cdef int r = product.runs
    product.run[r].a, product.run[r].row_stride, product.run[r].k_stride = h_before(s, t), h_before_stride(s, t), 1
    product.run[r].segments, product.run[r].length = 1, s.R
    product.run[r].b = s.packed.h + share.first * s.R * columns * s.itemsize
    product.run[r].b_stride, product.run[r].panel_stride = columns, s.R * columns
    product.run[r].vectors, product.run[r].last = s.cell.h_vectors, s.cell.h_last
    product.runs = r + 1


cdef inline void multiply(Sequence *s, Share *share, fr_gemm *product) noexcept nogil:
    """Run a product of these panels; the last one of a plain cell, whose slots are units and not gates, as wide as they are.

    That is in whole vectors: where no unit is, the cell then computes with what packed zeros give, not with what lay there before,
    perhaps denormal and slow.
    """
    cdef ptrdiff_t units
    if s.cell.gates > 1:
        s.kernels.gemm(product)
    else:
        units = min(s.H, share.last * s.panel_units) - share.first * s.panel_units
        product.columns = ceil_div(units, s.kernels.width) * s.kernels.width
        gemm_columns(s.kernels, s.itemsize, product)


cdef void project_input(Sequence *s, Share *share, ptrdiff_t start, ptrdiff_t end) noexcept nogil:
    """gates = bias + x W for all rows of steps start..end-1, which lie side by side."""
    cdef ptrdiff_t t, rows = 0, row = min(s.row[start], s.row[end - 1])
    cdef fr_gemm product
    for t in range(start, end):
        rows += rows_of(s, t)
    start_round(&share.rounds, s.panels, share.grain, False)
    while take(&share.rounds, &share.first, &share.last):
        start_gates(s, share, &product)
        add_x_run(s, share, &product, row)
        product.rows = rows
        product.c = s.gates + (share.first * s.gates_panel_stride + (row - share.base) * FR_SLOTS * s.kernels.width) * s.itemsize
        multiply(s, share, &product)
    if share.grain > 0:
        wait_for_team(share.team)


cdef void recurrent_step(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    cdef ptrdiff_t grain = share.grain
    if share.team.size == 1 and grain:  # nobody to share with
        grain = max(<ptrdiff_t> 1, ALONE_ROWS // rows_of(s, t))
    if share.team.size > 1:
        fr_fetch_rows(h_before(s, t), rows_of(s, t), s.R * s.itemsize, h_before_stride(s, t) * s.itemsize)
    start_round(&share.rounds, s.panels, grain, t & 1)
    while take(&share.rounds, &share.first, &share.last):
        step_panels(s, share, t)
    wait_for_team(share.team)
    if s.cell.second_product:
        start_round(&share.rounds, s.panels, share.grain, t & 1)
        while take(&share.rounds, &share.first, &share.last):
            update_panels(s, share, t)
        wait_for_team(share.team)
    if s.packed.projection != NULL:
        project_output(s, share, t)
        wait_for_team(share.team)


cdef void step_panels(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """The products and the cells of these panels; of a GRU with reset before the product, r*h_prev instead of h."""
    cdef fr_gemm product
    start_gates(s, share, &product)
    product.rows = rows_of(s, t)
    product.c = gates_at(s, share, t)
    product.backwards = t & 1
    if s.project_first:
        product.init, product.init_row_stride = product.c, product.c_row_stride
        product.init_panel_stride = product.c_panel_stride
    else:
        add_x_run(s, share, &product, s.row[t])
    add_h_run(s, share, &product, t)
    multiply(s, share, &product)
    run_cell(s, share, t)


cdef void fill_cell(Sequence *s, Share *share, ptrdiff_t t, fr_cell *cell) noexcept nogil:
    cdef ptrdiff_t unit = share.first * s.panel_units
    memset(cell, 0, sizeof(cell[0]))
    cell.rows, cell.panels, cell.units = rows_of(s, t), share.last - share.first, min(s.H, share.last * s.panel_units) - unit
    cell.gates, cell.gates_panel_stride, cell.keep = gates_at(s, share, t), s.gates_panel_stride, s.keep
    cell.h_prev, cell.h_prev_stride = h_before(s, t) + unit * s.itemsize, h_before_stride(s, t)
    if s.c != NULL:
        cell.c_prev, cell.c = c_at(s, t - 1) + unit * s.itemsize, c_at(s, t) + unit * s.itemsize
        cell.c_prev_stride = cell.c_stride = s.c_stride


cdef inline char *inner_at(Sequence *s, ptrdiff_t t) noexcept nogil:
    return s.inner + (s.row[t] * s.H * s.itemsize if s.keep else 0)


cdef void run_cell(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    cdef fr_cell cell
    cdef ptrdiff_t unit = share.first * s.panel_units
    fill_cell(s, share, t, &cell)
    if s.inner != NULL:
        cell.h, cell.h_stride = inner_at(s, t) + unit * s.itemsize, s.H
    else:
        cell.h, cell.h_stride = s.y + (s.row[t] * s.y_stride + unit) * s.itemsize, s.y_stride
    s.cell.forward(&cell)


cdef void update_panels(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """GRU, reset before the product: n and h, when r*h_prev of all units is there."""
    cdef fr_cell cell
    cdef fr_gemm product
    cdef ptrdiff_t width = s.kernels.width, unit = share.first * s.panel_units
    fill_cell(s, share, t, &cell)
    memset(&product, 0, sizeof(product))
    product.rows, product.panels, product.slots, product.columns = rows_of(s, t), cell.panels, 1, cell.panels * width
    product.c = <char *> cell.gates + 2 * width * s.itemsize
    product.c_row_stride, product.c_panel_stride = FR_SLOTS * width, s.gates_panel_stride
    product.init, product.init_row_stride, product.init_panel_stride = product.c, product.c_row_stride, product.c_panel_stride
    product.runs = 1
    product.run[0].a, product.run[0].row_stride, product.run[0].k_stride = inner_at(s, t), s.H, 1
    product.run[0].segments, product.run[0].length = 1, s.H
    product.run[0].b = s.packed.n + share.first * s.H * width * s.itemsize
    product.run[0].b_stride, product.run[0].panel_stride, product.run[0].vectors = width, s.H * width, 1
    s.kernels.gemm(&product)
    cell.h, cell.h_stride = s.y + (s.row[t] * s.y_stride + unit) * s.itemsize, s.y_stride
    s.cell.update(&cell)


cdef void project_output(Sequence *s, Share *share, ptrdiff_t t) noexcept nogil:
    """y = inner W^T, output columns shared out by panels."""
    cdef ptrdiff_t panel = FR_SLOTS * s.kernels.width, panels = ceil_div(s.R, panel)
    cdef ptrdiff_t first = first_of(panels, share.member, share.team.size)
    cdef ptrdiff_t last = first_of(panels, share.member + 1, share.team.size)
    cdef fr_gemm product
    if last == first:
        return
    memset(&product, 0, sizeof(product))
    product.rows, product.columns, product.runs = rows_of(s, t), min(s.R, last * panel) - first * panel, 1
    product.c = s.y + (s.row[t] * s.y_stride + first * panel) * s.itemsize
    product.c_row_stride, product.c_panel_stride = s.y_stride, panel
    product.run[0].a, product.run[0].row_stride, product.run[0].k_stride = inner_at(s, t), s.H, 1
    product.run[0].segments, product.run[0].length = 1, s.H
    product.run[0].b = s.packed.projection + first * s.H * panel * s.itemsize
    product.run[0].b_stride, product.run[0].panel_stride = panel, s.H * panel
    gemm_columns(s.kernels, s.itemsize, &product)
