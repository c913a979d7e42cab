"""The only contact with OpenMP: how many threads a call gets, how they start, and how they wait for each other."""

from cython.parallel cimport parallel

cdef extern from "team.h" nogil:
    const int FR_HAVE_OPENMP
    int omp_get_max_threads()
    int omp_get_num_threads()
    int omp_get_thread_num()
    int fr_limit_at(int wish, int limit)
    void fr_barrier_init(fr_barrier *barrier)
    void fr_barrier_wait(fr_barrier *barrier, int size)
    void fr_queue_init(fr_queue *queue)
    long fr_queue_take(fr_queue *queue, int parity)
    void fr_queue_clear(fr_queue *queue, int parity)
    void fr_crew_init(fr_crew *crew)
    void fr_crew_enter(fr_crew *crew, int member, int size)
    void fr_crew_leave(fr_crew *crew, int member, int size)
    void fr_watch_forks()
    void fr_note_team()
    int fr_must_be_serial()

# A further thread must find at least this much work, in nanoseconds of one core, between two meetings and in the whole call, or it
# costs more than it brings: a meeting takes 130 ns and hands h over, starting a team some microseconds. Measured with two threads,
# call after call. One sequence: steps of 9 thousand multiply-adds in all lose 2 to 6%, of 16 thousand gain 0 to 16%, of 37 thousand
# 14 to 39%. Batches: steps of 33 to 98 thousand lose 6 to 26%, of 393 thousand gain 9 to 26%.
cdef double LEAST_BETWEEN_MEETINGS = 650
cdef double LEAST_IN_CALL = 6000

# Multiply-adds in a nanosecond: one row reads every weight for one of them, more rows share what is read.
cdef double RATE_ONE_ROW = 25
cdef double RATE_ROWS = 90

cdef int chosen = 0  # set_num_threads; 0: not called
cdef int wish = 0    # counts its calls: a lower OpenMP limit since then (threadpoolctl) is a newer wish


cdef int thread_limit() noexcept nogil:
    if fr_must_be_serial() or not FR_HAVE_OPENMP:
        return 1
    cdef int limit = omp_get_max_threads()
    if chosen == 0 or (limit != fr_limit_at(wish, limit) and limit < chosen):
        return limit
    return chosen


cdef double product_time(double rows, double inputs, double outputs) noexcept nogil:
    """About how many nanoseconds a product of (rows, inputs) and (inputs, outputs) takes on one core."""
    return rows * inputs * outputs / (RATE_ONE_ROW if rows == 1 else RATE_ROWS)


cdef int team_size(double nanoseconds, ptrdiff_t meetings, ptrdiff_t parts) noexcept nogil:
    """Threads for a call of so much work of one core before each meeting of the team, in at most `parts` shares."""
    cdef int limit = thread_limit()
    cdef double worth = min(nanoseconds / LEAST_BETWEEN_MEETINGS, nanoseconds * meetings / LEAST_IN_CALL)
    if limit > parts:
        limit = <int> parts
    if limit > worth:
        limit = <int> worth
    return limit if limit > 1 else 1


cdef void run_team(share_fn share, void *work, int size) noexcept nogil:
    """Call share(work, team, member) for each member. The team may turn out smaller than asked; OpenMP is not entered for one."""
    cdef Team team
    cdef fr_queue[64] queues
    cdef int member
    team.size, team.queues = 1, NULL
    if size <= 1:
        share(work, &team, 0)
        return
    fr_note_team()
    fr_barrier_init(&team.barrier)
    fr_crew_init(&team.crew)
    if size <= FR_QUEUES:
        team.queues = queues
        for member in range(size):
            fr_queue_init(&queues[member])
    with parallel(num_threads=size):
        team_member(share, work, &team)


cdef void team_member(share_fn share, void *work, Team *team) noexcept nogil:
    cdef int member = omp_get_thread_num()
    team.size = omp_get_num_threads()  # every member writes the same value
    fr_crew_enter(&team.crew, member, team.size)
    share(work, team, member)
    fr_crew_leave(&team.crew, member, team.size)


cdef void wait_for_team(Team *team) noexcept nogil:
    if team.size > 1:
        fr_barrier_wait(&team.barrier, team.size)


cdef void start_round(Rounds *rounds, ptrdiff_t parts, ptrdiff_t grain, bint backwards) noexcept nogil:
    cdef Team *team = rounds.team
    rounds.parts, rounds.grain, rounds.backwards = parts, grain, backwards
    if team.size > 1 and team.queues == NULL:
        rounds.grain = 0
    rounds.owner, rounds.visited, rounds.taken = rounds.member, 0, 0
    if rounds.grain > 0 and team.size > 1:  # nobody is left in the round before, whose count is cleared for the one after
        rounds.parity = 1 - rounds.parity
        fr_queue_clear(&team.queues[rounds.member], 1 - rounds.parity)


cdef bint take(Rounds *rounds, ptrdiff_t *first, ptrdiff_t *last) noexcept nogil:
    """The next parts first..last-1 of this round for this member; False when none are left."""
    cdef int size = rounds.team.size
    cdef ptrdiff_t start, end, offset
    while rounds.visited < size:
        start, end = first_of(rounds.parts, rounds.owner, size), first_of(rounds.parts, rounds.owner + 1, size)
        if rounds.grain == 0:
            rounds.visited = size
            first[0], last[0] = start, end
            return end > start
        if size == 1:
            offset = rounds.taken * rounds.grain
            rounds.taken += 1
        else:
            offset = fr_queue_take(&rounds.team.queues[rounds.owner], rounds.parity) * rounds.grain
        if offset < end - start:
            if rounds.backwards:
                first[0], last[0] = max(start, end - offset - rounds.grain), end - offset
            else:
                first[0], last[0] = start + offset, min(end, start + offset + rounds.grain)
            return True
        rounds.owner = (rounds.owner + 1) % size
        rounds.visited += 1
    return False


def set_num_threads(int n):
    """Let each call use at most `n` threads, n >= 1. Results do not depend on it.

    A later change of the OpenMP limit to a smaller value (threadpoolctl) is respected too.
    """
    global chosen, wish
    if n < 1:
        raise ValueError(f"set_num_threads: 'n' must be >= 1, got {n}")
    chosen, wish = n, wish + 1
    thread_limit()  # notes this thread's OpenMP limit


def get_num_threads():
    """The most threads one call may use now: 1 without OpenMP, or in a forked child of a process that used several."""
    return thread_limit()


def has_openmp():
    """Whether this build can use more than one thread."""
    return bool(FR_HAVE_OPENMP)


fr_watch_forks()
