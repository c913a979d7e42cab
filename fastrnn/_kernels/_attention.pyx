"""Attention to padded batches, sequences shared out over a team.

All arrays are views (N, queries, width) or (N, steps, width) with contiguous features.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_attention, fr_kernels, kernels_for
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, first_of, run_team, team_size

cnp.import_array()

cdef double NANOSECONDS_PER_PRODUCT = 0.1
cdef double NANOSECONDS_PER_TANH = 0.6

cdef struct Batch:
    const fr_kernels *kernels
    int itemsize
    fr_attention whole                # of the first sequence
    ptrdiff_t N, query_step, key_step, value_step, weights_step, context_step  # between sequences
    const cnp.int64_t *lengths
    ptrdiff_t scratch                 # elements of a member
    bint backward


cdef inline void *moved(const void *start, ptrdiff_t elements, int itemsize) noexcept nogil:
    return NULL if start == NULL else <char *> start + elements * itemsize


cdef void share_of_sequences(void *work, Team *team, int member) noexcept nogil:
    cdef Batch *b = <Batch *> work
    cdef fr_attention one
    cdef ptrdiff_t n
    for n in range(first_of(b.N, member, team.size), first_of(b.N, member + 1, team.size)):
        one = b.whole
        one.steps = b.lengths[n]
        one.query = moved(one.query, n * b.query_step, b.itemsize)
        one.keys = moved(one.keys, n * b.key_step, b.itemsize)
        one.values = moved(one.values, n * b.value_step, b.itemsize)
        one.weights = moved(one.weights, n * b.weights_step, b.itemsize)
        one.context = moved(one.context, n * b.context_step, b.itemsize)
        if not b.backward:
            b.kernels.attend(&one)
            continue
        one.dcontext = moved(one.dcontext, n * b.context_step, b.itemsize)
        one.dweights = moved(one.dweights, n * b.weights_step, b.itemsize)
        one.dquery = moved(one.dquery, n * b.query_step, b.itemsize)
        one.dkeys = moved(one.dkeys, n * b.key_step, b.itemsize)
        one.dvalues = moved(one.dvalues, n * b.value_step, b.itemsize)
        one.dscore = moved(one.dscore, n * one.key_width, b.itemsize)
        one.scratch = moved(one.scratch, member * b.scratch, b.itemsize)
        b.kernels.attend_backward(&one)


cdef inline ptrdiff_t step_of(cnp.ndarray array, int axis) noexcept:
    return array.strides[axis] // array.itemsize


@cython.final
cdef class Memory:
    """Keys and values (N, T, width) of which `lengths` steps (N,) int64 are valid; the arrays are kept, and must not change.

    `score` (width of the keys,) is the vector of the additive form; None: dot products.
    """

    cdef Batch batch
    cdef tuple kept
    cdef bint additive
    cdef double work

    def __init__(self, cnp.ndarray keys not None, cnp.ndarray values not None, cnp.ndarray lengths not None, cnp.ndarray score,
                 double scale):
        cdef Batch *b = &self.batch
        cdef fr_attention *whole = &b.whole
        memset(b, 0, sizeof(b[0]))
        b.itemsize, b.N = values.itemsize, lengths.shape[0]
        b.lengths = <const cnp.int64_t *> cnp.PyArray_DATA(lengths)
        b.key_step, b.value_step = step_of(keys, 0), step_of(values, 0)
        whole.total, whole.scale = values.shape[1], scale
        whole.keys, whole.key_stride, whole.key_width = cnp.PyArray_DATA(keys), step_of(keys, 1), keys.shape[2]
        whole.values, whole.value_stride, whole.value_width = cnp.PyArray_DATA(values), step_of(values, 1), values.shape[2]
        whole.score = NULL if score is None else cnp.PyArray_DATA(score)
        self.additive = score is not None
        self.kept = keys, values, lengths, score
        cdef ptrdiff_t n
        self.work = 0
        for n in range(b.N):
            self.work += b.lengths[n]

    cdef int members(self, const Batch *b):
        cdef const fr_attention *whole = &b.whole
        cdef double cost = NANOSECONDS_PER_TANH if self.additive else NANOSECONDS_PER_PRODUCT
        cost = self.work * whole.queries * (cost * whole.key_width + NANOSECONDS_PER_PRODUCT * whole.value_width)
        return team_size(2 * cost if b.backward else cost, 1, b.N)

    cdef Batch call(self, cnp.ndarray query, cnp.ndarray weights, cnp.ndarray context, bint backward):
        """What belongs to one call, which other calls may run beside."""
        cdef Batch b = self.batch
        b.backward = backward
        b.kernels = kernels_for(b.itemsize)
        b.whole.queries = query.shape[1]
        b.whole.query, b.whole.weights = cnp.PyArray_DATA(query), cnp.PyArray_DATA(weights)
        b.whole.context = cnp.PyArray_DATA(context)
        b.query_step, b.weights_step, b.context_step = step_of(query, 0), step_of(weights, 0), step_of(context, 0)
        b.whole.query_stride, b.whole.weights_stride = step_of(query, 1), step_of(weights, 1)
        b.whole.context_stride = step_of(context, 1)
        return b

    def attend(self, cnp.ndarray query not None, cnp.ndarray weights not None, cnp.ndarray context not None):
        """Fill weights (N, queries, total) and context (N, queries, width of the values)."""
        cdef Batch b = self.call(query, weights, context, False)
        cdef int size = self.members(&b)
        with nogil:
            run_team(share_of_sequences, &b, size)

    def attend_backward(self, cnp.ndarray query not None, cnp.ndarray weights not None, cnp.ndarray dcontext not None,
                        cnp.ndarray dweights, cnp.ndarray dquery not None, cnp.ndarray dkeys not None,
                        cnp.ndarray dvalues not None, cnp.ndarray dscore):
        """Fill dquery, and add to dkeys, dvalues and dscore (N, width of the keys); gradients lie as their arrays do."""
        cdef Batch b = self.call(query, weights, dcontext, True)
        b.whole.dcontext = cnp.PyArray_DATA(dcontext)
        b.whole.dweights = NULL if dweights is None else cnp.PyArray_DATA(dweights)
        b.whole.dquery, b.whole.dkeys = cnp.PyArray_DATA(dquery), cnp.PyArray_DATA(dkeys)
        b.whole.dvalues = cnp.PyArray_DATA(dvalues)
        b.whole.dscore = NULL if dscore is None else cnp.PyArray_DATA(dscore)
        b.scratch = 4 * b.whole.total + 64 // b.itemsize  # members do not write to one cache line
        cdef int size = self.members(&b)
        cdef Block block = new_block(size * b.scratch * b.itemsize)
        b.whole.scratch = block.data
        with nogil:
            run_team(share_of_sequences, &b, size)
