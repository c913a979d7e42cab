"""Forward-backward sums over alignments (connectionist temporal classification), samples shared out over a team.

Likelihoods of long sequences are far below the smallest double. They are kept as a double and a number of blocks,
value * 2^(512 block): sums and products then cost no logarithm, and lose nothing over any length.
"""

cimport numpy as cnp
from libc.math cimport INFINITY, NAN, floor, log
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn._kernels._dispatch cimport fr_kernels, fr_map_fn, kernels_for
from fastrnn._kernels._memory cimport Block, new_block
from fastrnn._kernels._threads cimport Team, run_team, team_size

cnp.import_array()

cdef extern from *:
    """
    // value * 2^(512 block), 2^-256 <= value < 2^256; zero, NaN and infinity have any block, zero the lowest by choice.
    typedef struct { double value; int block; } fr_wide;
    enum { FR_WIDE_ZERO = -(1 << 28) };
    #define FR_WIDE_UP 0x1p512
    #define FR_WIDE_DOWN 0x1p-512
    #define FR_WIDE_LOG 354.89135644669199  // log(2^512)

    static inline fr_wide fr_wide_of(double value, int block) {
        if (value >= 0x1p256) return (fr_wide){value * FR_WIDE_DOWN, block + 1};
        if (value < 0x1p-256) {
            if (value == 0) return (fr_wide){0, FR_WIDE_ZERO};
            return (fr_wide){value * FR_WIDE_UP, block - 1};
        }
        return (fr_wide){value, block};
    }
    // The value with its block made `block`, which is no lower. What is two blocks lower is nothing beside it; NaN stays.
    static inline double fr_wide_at(fr_wide a, int block) {
        const int below = block - a.block;
        return below == 0 ? a.value : a.value * (below == 1 ? FR_WIDE_DOWN : 0);
    }
    static inline fr_wide fr_wide_sum(fr_wide a, fr_wide b) {
        const int block = a.block > b.block ? a.block : b.block;
        return fr_wide_of(fr_wide_at(a, block) + fr_wide_at(b, block), block);
    }
    // (a + b + c) * p; the product is between 2^-512 and 3 * 2^512, one block from what it should be at most.
    static inline fr_wide fr_wide_step(fr_wide a, fr_wide b, fr_wide c, fr_wide p) {
        int block = a.block > b.block ? a.block : b.block;
        block = block > c.block ? block : c.block;
        const double sum = (fr_wide_at(a, block) + fr_wide_at(b, block)) + fr_wide_at(c, block);
        return fr_wide_of(sum * p.value, block + p.block);
    }
    """
    ctypedef struct fr_wide:
        double value
        int block
    const int FR_WIDE_ZERO
    const double FR_WIDE_UP, FR_WIDE_DOWN, FR_WIDE_LOG
    fr_wide fr_wide_of(double value, int block) noexcept nogil
    fr_wide fr_wide_sum(fr_wide a, fr_wide b) noexcept nogil
    fr_wide fr_wide_step(fr_wide a, fr_wide b, fr_wide c, fr_wide p) noexcept nogil

cdef double NANOSECONDS_PER_STATE = 15
cdef double NANOSECONDS_PER_LOGIT = 1.2

cdef struct Work:
    const fr_kernels *kernels
    fr_map_fn exp                 # of doubles
    int itemsize
    ptrdiff_t samples, classes, blank
    const int64_t *input_lengths
    const int64_t *target_starts  # (samples + 1,), of `targets`
    const int64_t *targets
    const char *logits
    char *gradient
    double *losses
    const double *scales          # of the gradients
    bint zero_infinity, from_logits
    ptrdiff_t steps, states       # the most of any sample
    char *scratch                 # one stretch for each member
    size_t stretch

# One sample, and what a member needs for it.
cdef struct Sample:
    const Work *work
    ptrdiff_t n, steps, labels, states
    const int64_t *targets
    fr_wide *alpha    # [steps, states + 2]: two that are always zero, then the states
    fr_wide *beta     # [2, states + 2]: the states, then two that are always zero
    fr_wide *chance   # [states] of the class of each state
    double *log_sums  # [steps]
    double *expected  # [classes], zero between uses
    double *rests     # [labels + 1]
    int *blocks       # [labels + 1]
    char *skips       # [states + 2] whether a state may be reached from two before

cdef inline size_t scratch_bytes(ptrdiff_t steps, ptrdiff_t states, ptrdiff_t classes) noexcept nogil:
    cdef size_t wides = (steps + 3) * (states + 2)
    cdef size_t doubles = steps + classes + states, small = states * sizeof(int) + states + 2
    return (wides * sizeof(fr_wide) + doubles * sizeof(double) + small + 63) // 64 * 64

cdef inline double number_at(const char *data, ptrdiff_t index, int itemsize) noexcept nogil:
    return (<const float *> data)[index] if itemsize == 4 else (<const double *> data)[index]

cdef inline void put_at(char *data, ptrdiff_t index, int itemsize, double value) noexcept nogil:
    if itemsize == 4:
        (<float *> data)[index] = <float> value
    else:
        (<double *> data)[index] = value

cdef inline ptrdiff_t row_of(const Sample *s, ptrdiff_t t) noexcept nogil:
    return (t * s.work.samples + s.n) * s.work.classes

cdef inline ptrdiff_t class_of(const Sample *s, ptrdiff_t state) noexcept nogil:
    return s.targets[state // 2] if state % 2 else s.work.blank

cdef void chances_at(const Sample *s, ptrdiff_t t) noexcept nogil:
    """The likelihoods of the classes of all states at one time, exp(x - log_sum), taken apart into block and rest."""
    cdef const Work *work = s.work
    cdef ptrdiff_t row = row_of(s, t), i, v
    cdef double log_p, block
    for i in range(s.labels + 1):  # the blank, then the labels
        v = s.targets[i - 1] if i else work.blank
        log_p = number_at(work.logits, row + v, work.itemsize) - s.log_sums[t]
        block = floor(log_p / FR_WIDE_LOG + 0.5) if -1e11 < log_p < 1e11 else 0  # of infinities and NaN exp says all
        s.blocks[i], s.rests[i] = <int> block, log_p - block * FR_WIDE_LOG
    work.exp(s.labels + 1, s.rests, s.rests)
    cdef fr_wide blank = fr_wide_of(s.rests[0], s.blocks[0])
    for i in range(s.labels):
        s.chance[2 * i], s.chance[2 * i + 1] = blank, fr_wide_of(s.rests[i + 1], s.blocks[i + 1])
    s.chance[2 * s.labels] = blank

cdef void normalise(const Sample *s) noexcept nogil:
    """Probabilities of all classes into the gradient, zeros past the end; log_sums of the logits."""
    cdef const Work *work = s.work
    cdef ptrdiff_t t, offset
    for t in range(work.steps):
        offset = row_of(s, t) * work.itemsize
        if t >= s.steps:
            memset(work.gradient + offset, 0, work.classes * work.itemsize)
        elif work.from_logits:
            s.log_sums[t] = work.kernels.softmax_row(work.classes, work.logits + offset, work.gradient + offset)
        else:
            s.log_sums[t] = 0
            work.kernels.exp(work.classes, work.logits + offset, work.gradient + offset)

cdef fr_wide run_alpha(const Sample *s) noexcept nogil:
    """Likelihoods of all beginnings of alignments; returns that of all alignments."""
    cdef ptrdiff_t t, state, width = s.states + 2
    cdef fr_wide zero = fr_wide_of(0, 0)
    cdef fr_wide *now = s.alpha
    cdef fr_wide *before = NULL
    for t in range(s.steps):
        chances_at(s, t)
        now[0] = now[1] = zero
        for state in range(s.states):
            if t == 0:
                now[state + 2] = s.chance[state] if state < 2 else zero
            else:
                now[state + 2] = fr_wide_step(
                    before[state + 2], before[state + 1], before[state] if s.skips[state] else zero, s.chance[state])
        before, now = now, now + width
    return fr_wide_sum(before[s.states + 1], before[s.states])

cdef void add_expected(const Sample *s, ptrdiff_t t, const fr_wide *beta, fr_wide total, double scale) noexcept nogil:
    """Take off the gradient how often each class is expected at one time, and scale it."""
    cdef const Work *work = s.work
    cdef const fr_wide *alpha = s.alpha + t * (s.states + 2) + 2
    cdef ptrdiff_t state, v, row = row_of(s, t)
    cdef int block
    cdef double share, one = 1 / total.value
    for state in range(s.states):
        share, block = alpha[state].value * beta[state].value * one, alpha[state].block + beta[state].block - total.block
        if block != 0:  # shares are at most 1; what is two blocks lower is nothing
            share *= FR_WIDE_UP if block > 0 else FR_WIDE_DOWN if block == -1 else 0
        s.expected[class_of(s, state)] += share
    for state in range(s.states):
        v = class_of(s, state)
        if s.expected[v] != 0:
            put_at(work.gradient, row + v, work.itemsize, number_at(work.gradient, row + v, work.itemsize) - s.expected[v])
            s.expected[v] = 0
    if scale != 1:
        work.kernels.scale(work.classes, scale, work.gradient + row * work.itemsize)

cdef void run_beta(const Sample *s, fr_wide total, double scale) noexcept nogil:
    """Likelihoods of all ends of alignments, and the gradient."""
    cdef ptrdiff_t t, state, width = s.states + 2
    cdef fr_wide zero = fr_wide_of(0, 0), one = fr_wide_of(1, 0)
    cdef fr_wide *now = s.beta
    cdef fr_wide *later = s.beta + width
    for state in range(2 * width):
        s.beta[state] = zero
    for state in range(max(s.states - 2, 0), s.states):
        now[state] = one
    add_expected(s, s.steps - 1, now, total, scale)
    for t in range(s.steps - 2, -1, -1):
        now, later = later, now
        chances_at(s, t + 1)
        for state in range(s.states):
            later[state] = fr_wide_step(later[state], zero, zero, s.chance[state])
        for state in range(s.states):
            now[state] = fr_wide_step(later[state], later[state + 1],
                                      later[state + 2] if s.skips[state + 2] else zero, one)
        add_expected(s, t, now, total, scale)

cdef void fill_gradient(const Sample *s, double value) noexcept nogil:
    cdef ptrdiff_t t, v
    for t in range(s.steps):
        for v in range(s.work.classes):
            put_at(s.work.gradient, row_of(s, t) + v, s.work.itemsize, value)

cdef void run_sample(const Sample *s) noexcept nogil:
    cdef double *loss = s.work.losses + s.n
    normalise(s)
    cdef fr_wide total = run_alpha(s)
    loss[0] = -(log(total.value) + total.block * FR_WIDE_LOG) if total.value != 0 else INFINITY
    if total.value > 0:
        run_beta(s, total, s.work.scales[s.n])
    elif s.work.zero_infinity and total.value == 0:
        loss[0] = 0
        fill_gradient(s, 0)
    else:
        fill_gradient(s, NAN)

cdef void share_of_samples(void *given, Team *team, int member) noexcept nogil:
    cdef const Work *work = <const Work *> given
    cdef char *scratch = work.scratch + member * work.stretch
    cdef Sample s
    cdef ptrdiff_t n, v, round_
    s.work = work
    s.alpha = <fr_wide *> scratch
    s.beta = s.alpha + work.steps * (work.states + 2)
    s.chance = s.beta + 2 * (work.states + 2)
    s.log_sums = <double *> (s.chance + work.states + 2)
    s.expected = s.log_sums + work.steps
    s.rests = s.expected + work.classes
    s.blocks = <int *> (s.rests + work.states)
    s.skips = <char *> (s.blocks + work.states)
    for v in range(work.classes):
        s.expected[v] = 0
    for round_ in range((work.samples - member + team.size - 1) // team.size):
        n = member + round_ * team.size
        s.n, s.steps, s.targets = n, work.input_lengths[n], work.targets + work.target_starts[n]
        s.labels = work.target_starts[n + 1] - work.target_starts[n]
        s.states = 2 * s.labels + 1
        for v in range(s.states + 2):
            s.skips[v] = v % 2 and 3 <= v < s.states and s.targets[v // 2] != s.targets[v // 2 - 1]
        run_sample(&s)


def ctc(cnp.ndarray logits not None, cnp.ndarray targets not None, cnp.ndarray target_starts not None,
        cnp.ndarray input_lengths not None, Py_ssize_t blank, bint zero_infinity, bint from_logits,
        cnp.ndarray scales not None, cnp.ndarray gradient not None, cnp.ndarray losses not None):
    """Fill losses (N,) float64 and gradient (T, N, V), each sample's scaled by one of `scales` (N,) float64.

    targets : int64, all labels one after another; those of sample n are target_starts[n]..target_starts[n + 1] - 1.
    input_lengths (N,) int64, each in 1..T.
    """
    cdef Work work
    cdef ptrdiff_t n, labels, total = 0
    work.itemsize = logits.itemsize
    work.kernels, work.exp = kernels_for(work.itemsize), kernels_for(sizeof(double)).exp
    work.steps, work.samples, work.classes, work.blank = logits.shape[0], logits.shape[1], logits.shape[2], blank
    work.input_lengths = <const int64_t *> cnp.PyArray_DATA(input_lengths)
    work.target_starts = <const int64_t *> cnp.PyArray_DATA(target_starts)
    work.targets = <const int64_t *> cnp.PyArray_DATA(targets)
    work.logits, work.gradient = <const char *> cnp.PyArray_DATA(logits), <char *> cnp.PyArray_DATA(gradient)
    work.losses, work.scales = <double *> cnp.PyArray_DATA(losses), <const double *> cnp.PyArray_DATA(scales)
    work.zero_infinity, work.from_logits = zero_infinity, from_logits
    work.states = 1
    for n in range(work.samples):
        labels = work.target_starts[n + 1] - work.target_starts[n]
        work.states = max(work.states, 2 * labels + 1)
        total += work.input_lengths[n] * (2 * labels + 1)
    cdef double nanoseconds = (
        NANOSECONDS_PER_STATE * total + NANOSECONDS_PER_LOGIT * work.steps * work.samples * work.classes)
    cdef int size = team_size(nanoseconds, 1, work.samples)
    work.stretch = scratch_bytes(work.steps, work.states, work.classes)
    cdef Block scratch = new_block(size * work.stretch)
    work.scratch = scratch.data
    with nogil:
        run_team(share_of_samples, &work, size)
