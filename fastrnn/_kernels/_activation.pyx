"""Elementwise functions and softmax over contiguous arrays, elements or rows shared out over a team."""

cimport numpy as cnp

from fastrnn._kernels._dispatch cimport (
    FR_ACT_ELU, FR_ACT_GELU, FR_ACT_GELU_TANH, FR_ACT_HARDSIGMOID, FR_ACT_HARDSWISH, FR_ACT_HARDTANH, FR_ACT_LEAKY_RELU,
    FR_ACT_MISH, FR_ACT_PIECES, FR_ACT_RELU, FR_ACT_SIGMOID, FR_ACT_SILU, FR_ACT_SOFTPLUS, FR_ACT_SOFTSIGN, FR_ACT_TANH,
    FR_CHUNK, fr_activation, fr_kernels, fr_map_fn, fr_masked, fr_softmax, kernels_for
)
from fastrnn._kernels._norm cimport stored_past
from fastrnn._kernels._threads cimport Team, first_element, first_of, run_team, share_fn, team_size

cnp.import_array()

CURVES = {
    "sigmoid": FR_ACT_SIGMOID, "tanh": FR_ACT_TANH, "silu": FR_ACT_SILU, "gelu": FR_ACT_GELU, "gelu_tanh": FR_ACT_GELU_TANH,
    "mish": FR_ACT_MISH, "softplus": FR_ACT_SOFTPLUS, "elu": FR_ACT_ELU, "softsign": FR_ACT_SOFTSIGN,
    "hardswish": FR_ACT_HARDSWISH,
}
PIECES = {
    "relu": FR_ACT_RELU, "leaky_relu": FR_ACT_LEAKY_RELU, "hardtanh": FR_ACT_HARDTANH, "hardsigmoid": FR_ACT_HARDSIGMOID,
}

cdef ptrdiff_t SUM_PIECE = 2048  # elements

cdef double NANOSECONDS_PER_MOVE = 0.25   # bound by memory
cdef double NANOSECONDS_PER_CURVE = 0.6   # with an exponential or two
cdef double NANOSECONDS_PER_LOGIT = 0.8

cdef struct Pass:
    # Whichever of these the pass is; n elements, or rows of `softmax`.
    const fr_kernels *kernels
    int itemsize
    ptrdiff_t n
    fr_map_fn map
    const char *x
    const char *other
    char *y
    fr_activation activation
    fr_masked masked
    fr_softmax softmax
    bint backward


cdef inline void start(Pass *whole, cnp.ndarray x):
    whole.itemsize, whole.n = x.itemsize, cnp.PyArray_SIZE(x)
    whole.kernels = kernels_for(whole.itemsize)


cdef inline int members(const Pass *whole, double nanoseconds) noexcept nogil:
    return team_size(nanoseconds * whole.n, 1, whole.n // FR_CHUNK)


cdef void share_of_map(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef ptrdiff_t first = first_element(whole.n, member, team.size), offset = first * whole.itemsize
    whole.map(first_element(whole.n, member + 1, team.size) - first, whole.x + offset, whole.y + offset)


cdef void share_of_sum(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef ptrdiff_t first = first_element(whole.n, member, team.size), offset = first * whole.itemsize
    whole.kernels.add(first_element(whole.n, member + 1, team.size) - first, whole.x + offset, whole.other + offset,
                      whole.y + offset)


cdef void share_of_product(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef ptrdiff_t first = first_element(whole.n, member, team.size), offset = first * whole.itemsize
    whole.kernels.multiply(first_element(whole.n, member + 1, team.size) - first, whole.x + offset, whole.other + offset,
                           whole.y + offset)


cdef void share_of_activation(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef fr_activation part = whole.activation
    cdef ptrdiff_t first = first_element(whole.n, member, team.size), offset = first * whole.itemsize
    part.n = first_element(whole.n, member + 1, team.size) - first
    part.x, part.y = <const char *> part.x + offset, <char *> part.y + offset
    if part.saved != NULL:
        part.saved = <char *> part.saved + (first if part.kind >= FR_ACT_PIECES else offset)
    if whole.other == NULL:
        whole.kernels.activate(&part)
    else:
        activate_sum(whole.kernels, part, whole.other + offset, whole.itemsize)


cdef void activate_sum(const fr_kernels *kernels, fr_activation part, const char *other, int itemsize) noexcept nogil:
    """y = f(x + other), by pieces that stay in the first-level cache between the two."""
    cdef ptrdiff_t left = part.n
    while left > 0:
        part.n = min(left, SUM_PIECE)
        kernels.add(part.n, part.x, other, part.y)
        part.x, other = <const char *> part.x + part.n * itemsize, other + part.n * itemsize
        activate_in_place(kernels, part)
        part.y = <char *> part.y + part.n * itemsize
        if part.saved != NULL:
            part.saved = <char *> part.saved + part.n * (1 if part.kind >= FR_ACT_PIECES else itemsize)
        left -= part.n


cdef inline void activate_in_place(const fr_kernels *kernels, fr_activation part) noexcept nogil:
    part.x = part.y
    kernels.activate(&part)


cdef void share_of_masked(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef fr_masked part = whole.masked
    cdef ptrdiff_t first = first_element(whole.n, member, team.size), offset = first * whole.itemsize
    part.n = first_element(whole.n, member + 1, team.size) - first
    part.x, part.y, part.mask = <const char *> part.x + offset, <char *> part.y + offset, part.mask + first
    whole.kernels.masked_scale(&part)


cdef void share_of_softmax(void *work, Team *team, int member) noexcept nogil:
    cdef Pass *whole = <Pass *> work
    cdef fr_softmax part = whole.softmax
    cdef ptrdiff_t first = first_of(part.rows, member, team.size), offset = first * part.columns * whole.itemsize
    part.rows = first_of(part.rows, member + 1, team.size) - first
    part.x, part.y = <const char *> part.x + offset, <char *> part.y + offset
    if part.p != NULL:
        part.p = <char *> part.p + offset
    if whole.backward:
        whole.kernels.softmax_backward(&part)
    else:
        whole.kernels.softmax(&part)


cdef void apply(fr_map_fn function, cnp.ndarray x, cnp.ndarray y):
    cdef Pass whole
    start(&whole, x)
    whole.map, whole.x, whole.y = function, <const char *> cnp.PyArray_DATA(x), <char *> cnp.PyArray_DATA(y)
    with nogil:
        run_team(share_of_map, &whole, members(&whole, NANOSECONDS_PER_CURVE))


def exp(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = exp(x)."""
    apply(kernels_for(x.itemsize).exp, x, y)


def sigmoid(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = 1 / (1 + exp(-x))."""
    apply(kernels_for(x.itemsize).sigmoid, x, y)


def tanh(cnp.ndarray x not None, cnp.ndarray y not None):
    """y = tanh(x)."""
    apply(kernels_for(x.itemsize).tanh, x, y)


def activate(int kind, cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray saved, double a, double b,
             cnp.ndarray other=None):
    """y = f(x), or f(x + other); y may be x.

    `saved`, if any, gets the slopes of one of CURVES, or the mask (uint8) of one of PIECES.
    """
    cdef Pass whole
    start(&whole, x)
    whole.other = NULL
    if other is not None:
        whole.other = <const char *> cnp.PyArray_DATA(other)
    whole.activation.kind, whole.activation.a, whole.activation.b = kind, a, b
    whole.activation.x, whole.activation.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    whole.activation.saved = NULL if saved is None else cnp.PyArray_DATA(saved)
    cdef double cost = NANOSECONDS_PER_MOVE if kind >= FR_ACT_PIECES else NANOSECONDS_PER_CURVE
    with nogil:
        run_team(share_of_activation, &whole, members(&whole, cost))


def add(cnp.ndarray a not None, cnp.ndarray b not None, cnp.ndarray y not None):
    """y = a + b, which may be either of them."""
    combine(share_of_sum, a, b, y)


def multiply(cnp.ndarray a not None, cnp.ndarray b not None, cnp.ndarray y not None):
    """y = a b, which may be either of them."""
    combine(share_of_product, a, b, y)


cdef void combine(share_fn share, cnp.ndarray a, cnp.ndarray b, cnp.ndarray y):
    cdef Pass whole
    start(&whole, a)
    whole.x, whole.other = <const char *> cnp.PyArray_DATA(a), <const char *> cnp.PyArray_DATA(b)
    whole.y = <char *> cnp.PyArray_DATA(y)
    with nogil:
        run_team(share, &whole, members(&whole, NANOSECONDS_PER_MOVE))


def masked_scale(cnp.ndarray x not None, cnp.ndarray mask not None, cnp.ndarray y not None, double inside, double outside,
                 bint clear):
    """y = inside * x where the mask (uint8) is 1, else outside * x, or 0 whatever x is if `clear`; y may be x."""
    cdef Pass whole
    start(&whole, x)
    whole.masked.inside, whole.masked.outside, whole.masked.clear = inside, outside, clear
    whole.masked.x, whole.masked.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    whole.masked.mask = <const unsigned char *> cnp.PyArray_DATA(mask)
    with nogil:
        run_team(share_of_masked, &whole, members(&whole, NANOSECONDS_PER_MOVE))


cdef void over_rows(cnp.ndarray x, cnp.ndarray y, cnp.ndarray p, bint log, bint backward):
    cdef Pass whole
    start(&whole, x)
    whole.backward = backward
    whole.softmax.rows, whole.softmax.columns, whole.softmax.log = x.shape[0], x.shape[1], log
    whole.softmax.past = stored_past(cnp.PyArray_NBYTES(x), x.shape[1])
    whole.softmax.x, whole.softmax.y = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    whole.softmax.p = NULL if p is None else cnp.PyArray_DATA(p)
    cdef double cost = NANOSECONDS_PER_MOVE if backward else NANOSECONDS_PER_LOGIT
    if whole.n == 0:
        return
    with nogil:
        run_team(share_of_softmax, &whole, team_size(cost * whole.n, 1, whole.softmax.rows))


def softmax(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray p, bint log):
    """Softmax of each row of x (rows, columns) into y, or its logarithm; the softmax into p, if any."""
    over_rows(x, y, p, log, False)


def softmax_backward(cnp.ndarray dy not None, cnp.ndarray p not None, cnp.ndarray dx not None, bint log):
    """dx from dy and the softmax p, all (rows, columns)."""
    over_rows(dy, dx, p, log, True)
