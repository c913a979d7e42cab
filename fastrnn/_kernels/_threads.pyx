"""The only contact with OpenMP: how many threads a call gets, how they start, and how they wait for each other."""

from cython.parallel cimport parallel

cdef extern from "team.h" nogil:
    const int FR_HAVE_OPENMP
    int omp_get_max_threads()
    int omp_get_num_threads()
    int omp_get_thread_num()
    void fr_barrier_init(fr_barrier *barrier)
    void fr_barrier_wait(fr_barrier *barrier, int size)
    void fr_watch_forks()
    void fr_note_team()
    int fr_must_be_serial()

# A further thread must find at least this many multiply-adds between two meetings, and in the whole call, or it costs more than
# it brings. A meeting takes 0.13 microseconds and hands h over, starting a team some microseconds; a core does 25 to 95
# multiply-adds in a nanosecond. Measured with two threads, one sequence, call after call: steps of 9 thousand in all lose 2 to
# 6%, of 16 thousand gain 3 to 16%, of 37 thousand 21 to 39%. After calls with one thread the gain is 0 to 8%: the team sleeps.
cdef double LEAST_BETWEEN_MEETINGS = 16_000
cdef double LEAST_IN_CALL = 150_000

cdef int chosen = 0      # set_num_threads; 0: not called
cdef int seen_limit = 0  # the OpenMP limit at that time: a change since then (threadpoolctl) is a newer wish


cdef int thread_limit() noexcept nogil:
    if fr_must_be_serial() or not FR_HAVE_OPENMP:
        return 1
    cdef int limit = omp_get_max_threads()
    if chosen == 0 or (limit != seen_limit and limit < chosen):
        return limit
    return chosen


cdef int team_size(double multiply_adds, ptrdiff_t meetings, ptrdiff_t parts) noexcept nogil:
    """Threads for a call of so many multiply-adds before each meeting of the team, in at most `parts` shares."""
    cdef int limit = thread_limit()
    cdef double worth = min(multiply_adds / LEAST_BETWEEN_MEETINGS, multiply_adds * meetings / LEAST_IN_CALL)
    if limit > parts:
        limit = <int> parts
    if limit > worth:
        limit = <int> worth
    return limit if limit > 1 else 1


cdef void run_team(share_fn share, void *work, int size) noexcept nogil:
    """Call share(work, team, member) for each member. The team may turn out smaller than asked; OpenMP is not entered for one."""
    cdef Team team
    team.size = 1
    if size <= 1:
        share(work, &team, 0)
        return
    fr_note_team()
    fr_barrier_init(&team.barrier)
    with parallel(num_threads=size):
        team_member(share, work, &team)


cdef void team_member(share_fn share, void *work, Team *team) noexcept nogil:
    team.size = omp_get_num_threads()  # every member writes the same value
    share(work, team, omp_get_thread_num())


cdef void wait_for_team(Team *team) noexcept nogil:
    if team.size > 1:
        fr_barrier_wait(&team.barrier, team.size)


def set_num_threads(int n):
    """Let each call use at most `n` threads, n >= 1. Results do not depend on it.

    A later change of the OpenMP limit to a smaller value (threadpoolctl) is respected too.
    """
    global chosen, seen_limit
    if n < 1:
        raise ValueError(f"set_num_threads: 'n' must be >= 1, got {n}")
    chosen, seen_limit = n, omp_get_max_threads()


def get_num_threads():
    """The most threads one call may use now: 1 without OpenMP, or in a forked child of a process that used several."""
    return thread_limit()


def has_openmp():
    """Whether this build can use more than one thread."""
    return bool(FR_HAVE_OPENMP)


fr_watch_forks()
