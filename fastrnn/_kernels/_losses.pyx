"""Softmax with cross entropy, rows shared out over a team."""

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport fr_cross_entropy, fr_kernels, kernels_for
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_LOGIT = 1.2  # an exponential with its passes

cdef struct Rows:
    const fr_kernels *kernels
    fr_cross_entropy whole
    int itemsize


def cross_entropy(cnp.ndarray logits not None, cnp.ndarray targets not None, double scale, cnp.ndarray dlogits not None,
                  cnp.ndarray losses not None, cnp.ndarray weight=None, double smoothing=0, double total=0):
    """Fill dlogits (rows, classes) and losses (rows,) float64; a negative target (intp) ignores its row.

    weight (classes,) or None for ones; `total` is its sum.
    """
    cdef Rows rows
    rows.itemsize = logits.itemsize
    rows.kernels = kernels_for(rows.itemsize)
    rows.whole.rows, rows.whole.classes = logits.shape[0], logits.shape[1]
    rows.whole.logits, rows.whole.targets = cnp.PyArray_DATA(logits), <const ptrdiff_t *> cnp.PyArray_DATA(targets)
    rows.whole.scale = scale
    rows.whole.dlogits, rows.whole.losses = cnp.PyArray_DATA(dlogits), <double *> cnp.PyArray_DATA(losses)
    rows.whole.weight = NULL if weight is None else cnp.PyArray_DATA(weight)
    rows.whole.smoothing, rows.whole.total = smoothing, total
    cdef int size = team_size(NANOSECONDS_PER_LOGIT * rows.whole.rows * rows.whole.classes, 1, rows.whole.rows)
    with nogil:
        run_team(share_of_rows, &rows, size)


cdef void share_of_rows(void *work, Team *team, int member) noexcept nogil:
    cdef Rows *rows = <Rows *> work
    cdef fr_cross_entropy part = rows.whole
    cdef ptrdiff_t first = first_of(rows.whole.rows, member, team.size)
    cdef ptrdiff_t offset = first * rows.whole.classes * rows.itemsize
    part.rows = first_of(rows.whole.rows, member + 1, team.size) - first
    part.logits = <const char *> rows.whole.logits + offset
    part.dlogits = <char *> rows.whole.dlogits + offset
    part.targets = rows.whole.targets + first
    part.losses = rows.whole.losses + first
    rows.kernels.cross_entropy(&part)
