"""Softmax with cross entropy, rows shared out over a team; losses of one element at a time, elements shared out."""

cimport numpy as cnp

from libc.string cimport memset

from fastrnn._kernels._dispatch cimport (
    FR_CHUNK, FR_LOSS_ABSOLUTE, FR_LOSS_BINARY, FR_LOSS_HUBER, FR_LOSS_LOGITS, FR_LOSS_SMOOTH, FR_LOSS_SQUARE,
    fr_cross_entropy, fr_kernels, fr_loss, kernels_for
)
from fastrnn._kernels._threads cimport Team, first_element, first_of, run_team, team_size

cnp.import_array()

KINDS = {
    "square": FR_LOSS_SQUARE, "absolute": FR_LOSS_ABSOLUTE, "huber": FR_LOSS_HUBER, "smooth": FR_LOSS_SMOOTH,
    "binary": FR_LOSS_BINARY, "logits": FR_LOSS_LOGITS,
}

cdef double NANOSECONDS_PER_LOGIT = 1.2  # an exponential with its passes
cdef double NANOSECONDS_PER_ELEMENT = 0.4

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


cdef struct Elements:
    const fr_kernels *kernels
    fr_loss whole
    int itemsize
    bint outside


def elementwise(int kind, cnp.ndarray x not None, cnp.ndarray target not None, cnp.ndarray weight, cnp.ndarray positive,
                double limit, double scale, cnp.ndarray dx not None, cnp.ndarray losses):
    """Fill dx and, unless None, losses; return the sums of the losses over chunks, and whether an x of "binary" is outside 0..1.

    All arrays are contiguous, of one size and type.
    """
    cdef Elements work
    cdef fr_loss *whole = &work.whole
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    cdef cnp.npy_intp chunks = (n + FR_CHUNK - 1) // FR_CHUNK
    cdef cnp.ndarray sums = cnp.PyArray_EMPTY(1, &chunks, cnp.NPY_DOUBLE, 0)
    memset(&work, 0, sizeof(work))
    work.itemsize = x.itemsize
    work.kernels = kernels_for(work.itemsize)
    whole.kind, whole.n, whole.limit, whole.scale = kind, n, limit, scale
    whole.x, whole.target, whole.dx = cnp.PyArray_DATA(x), cnp.PyArray_DATA(target), cnp.PyArray_DATA(dx)
    whole.sums = <double *> cnp.PyArray_DATA(sums)
    if weight is not None:
        whole.weight = cnp.PyArray_DATA(weight)
    if positive is not None:
        whole.positive = cnp.PyArray_DATA(positive)
    if losses is not None:
        whole.losses = cnp.PyArray_DATA(losses)
    with nogil:
        run_team(share_of_elements, &work, team_size(NANOSECONDS_PER_ELEMENT * n, 1, n // FR_CHUNK))
    return sums, work.outside


cdef void share_of_elements(void *given, Team *team, int member) noexcept nogil:
    cdef Elements *work = <Elements *> given
    cdef fr_loss part = work.whole
    cdef ptrdiff_t first = first_element(part.n, member, team.size), offset = first * work.itemsize
    part.n = first_element(part.n, member + 1, team.size) - first
    part.x, part.target, part.dx = <const char *> part.x + offset, <const char *> part.target + offset, <char *> part.dx + offset
    if part.weight != NULL:
        part.weight = <const char *> part.weight + offset
    if part.positive != NULL:
        part.positive = <const char *> part.positive + offset
    if part.losses != NULL:
        part.losses = <char *> part.losses + offset
    part.sums += first // FR_CHUNK
    if work.kernels.loss(&part):
        work.outside = True  # every member writes the same value
